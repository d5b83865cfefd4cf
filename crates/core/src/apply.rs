//! Carries a plan out on one ProxySQL: the merge-safe LOAD (DESIGN §8), as a state machine without I/O.
//!
//! ```text
//! Lock -> Finish(earlier) -> DiskFirst -> Keep -> Lend -> Check -> Load -> Check -> Sessions -> PutBack -> DiskLast -> Unlock
//! ```
//!
//! LOAD makes runtime equal to memory, and memory holds other people's staged edits. So memory is lent: `kept`
//! is what memory shall be in the end, `target` is what is to go live. Both are tables in ProxySQL's own `main`,
//! so that any agent can finish what another began, and both die with memory when ProxySQL restarts.
//!
//! Every write compares before it swaps: a record that somebody edited meanwhile is left as it is, seen by the
//! check, folded into `kept`, and only then replaced. So no edit is lost or goes live, whenever it comes.

mod finish;
mod sessions;
mod statement;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

pub use finish::copy_name;
pub use statement::{LockSeen, Place, Reply, Session, Statement};

use crate::node::Node;
use crate::plan::{Directive, Plan};
use crate::row::{Layer, Row, Status};
use crate::table::{COVERED, Content, SERVERS, Table};
use sessions::Ending;

/// How often the check may find memory or runtime changed before a fence goes on anyway (DESIGN §8.5).
const CHECKS_MAX: u32 = 3;

/// How often a lock that vanishes while we look is tried again.
const LOCK_TRIES_MAX: u32 = 3;

/// How an apply ended.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// Carried out and seen in runtime.
    Applied(Done),
    /// Another applier holds the lock (I12).
    Busy {
        /// Who.
        owner: String,
    },
    /// Another applier took the lock over from us: it finishes our work.
    LostLock,
    /// Somebody kept changing memory or runtime, so a return was put off; nothing was changed.
    PutOff,
    /// ProxySQL refused a statement; memory was put back as far as it let us.
    Failed {
        /// What was tried.
        statement: String,
        /// What came back.
        error: String,
    },
}

/// What an apply that came through has to say.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Done {
    /// An earlier apply was finished first.
    pub finished_earlier: bool,
    /// Sessions that were ended.
    pub sessions_ended: u64,
    /// Nodes that still have connections in use.
    pub sessions_left: BTreeSet<Node>,
    /// Planned rows that runtime doesn't show as planned.
    pub not_as_planned: Vec<String>,
    /// The disk layer refused: a restart of ProxySQL would forget the fence.
    pub disk_error: Option<String>,
    /// Edits of somebody else that came in between and were kept staged.
    pub edits_kept: u64,
}

/// What the driver is to do next.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Step {
    /// Send this, and call [`Apply::next`] with the reply.
    Ask(Statement),
    /// It is over.
    Done(Outcome),
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Phase {
    Start,
    Locking { tries: u32 },
    LockTaken { tries: u32 },
    Locked,
    Finishing,
    Finished,
    DiskRead,
    MemoryOnly,
    Keeping,
    Lent,
    Checking { checks: u32, loaded: bool },
    Retargeted { checks: u32, loaded: bool },
    Loading { checks: u32 },
    Sessions(Ending),
    PuttingBack,
    DiskLastRead,
    Unlocking,
    Over(Outcome),
}

/// One apply. Clone, compare and hash it: the model does.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Apply {
    plan: Plan,
    owner: String,
    phase: Phase,
    queue: VecDeque<Statement>,
    asked: Option<Statement>,
    got: Vec<(Statement, Reply)>,
    tables: Vec<Table>,
    kept: BTreeMap<Table, Content>,
    target: BTreeMap<Table, Content>,
    /// Memory may differ from what it was: it has to be put back.
    lent: bool,
    failure: Option<(String, String)>,
    done: Done,
}

impl Apply {
    /// An apply of this plan by this owner: a name that no other process has, now or later.
    pub fn new(plan: Plan, owner: String) -> Self {
        Self {
            plan,
            owner,
            phase: Phase::Start,
            queue: VecDeque::from([Statement::Names]),
            asked: None,
            got: Vec::new(),
            tables: Vec::new(),
            kept: BTreeMap::new(),
            target: BTreeMap::new(),
            lent: false,
            failure: None,
            done: Done::default(),
        }
    }

    /// Takes the reply to the statement that was handed out last (`None` the first time), gives the next step.
    pub fn next(&mut self, reply: Option<Reply>) -> Step {
        if let (Some(statement), Some(reply)) = (self.asked.take(), reply) {
            self.take(statement, reply);
        }
        loop {
            if let Some(statement) = self.queue.pop_front() {
                self.asked = Some(statement.clone());
                return Step::Ask(statement);
            }
            if let Phase::Over(outcome) = &self.phase {
                return Step::Done(outcome.clone());
            }
            let got = std::mem::take(&mut self.got);
            let phase = self.phase.clone();
            self.phase = self.advance(phase, got);
        }
    }

    fn take(&mut self, statement: Statement, reply: Reply) {
        match reply {
            Reply::Refused(error) if statement.place() == Some(Place::Disk) => self.done.disk_error = Some(error),
            Reply::Refused(error) if matches!(statement, Statement::Kill(_)) => {
                // The session ended by itself.
                self.got.push((statement, Reply::Refused(error)));
            }
            Reply::Refused(error) => self.fail(&statement, error),
            // The lock is somebody else's by now, and so are the copies: hands off, they finish what we began.
            Reply::Changed(0) if matches!(statement, Statement::RenewLock { .. }) => {
                self.queue.clear();
                self.phase = Phase::Over(Outcome::LostLock);
            }
            Reply::Exists if matches!(statement, Statement::Copy { .. }) => {
                self.queue.clear();
                self.phase = Phase::Over(Outcome::LostLock);
            }
            reply => self.got.push((statement, reply)),
        }
    }

    /// Gives up: puts memory back if it is lent, and leaves.
    fn fail(&mut self, statement: &Statement, error: String) {
        self.queue.clear();
        self.got.clear();
        let again = self.failure.is_some();
        let failure = self.failure.get_or_insert_with(|| (format!("{statement:?}"), error)).clone();
        let locked = !matches!(self.phase, Phase::Start | Phase::Locking { .. } | Phase::LockTaken { .. });
        if again || !locked {
            self.phase = Phase::Over(Outcome::Failed { statement: failure.0, error: failure.1 });
        } else {
            self.phase = self.put_back();
        }
    }

    fn ask(&mut self, statements: impl IntoIterator<Item = Statement>) {
        self.queue.extend(statements);
    }

    /// One match on (phase, replies): asks the next statements, gives the next phase.
    fn advance(&mut self, phase: Phase, got: Vec<(Statement, Reply)>) -> Phase {
        match phase {
            Phase::Start => {
                self.learn_tables(&got);
                self.ask([Statement::TakeLock { owner: self.owner.clone() }]);
                Phase::Locking { tries: 1 }
            }
            Phase::Locking { tries } => match got.first() {
                Some((Statement::TakeLock { .. }, Reply::Exists)) => {
                    self.ask([Statement::ReadLock]);
                    Phase::LockTaken { tries }
                }
                // A takeover that changed nothing: somebody was faster.
                Some((Statement::TakeOverLock { from, .. }, Reply::Changed(0))) => {
                    Phase::Over(Outcome::Busy { owner: from.clone() })
                }
                _ => {
                    self.ask([Statement::Names]);
                    Phase::Locked
                }
            },
            Phase::LockTaken { tries } => match got.into_iter().next() {
                Some((_, Reply::Lock(Some(seen)))) if seen.expired || seen.owner == self.owner => {
                    self.ask([Statement::TakeOverLock { owner: self.owner.clone(), from: seen.owner }]);
                    Phase::Locking { tries }
                }
                Some((_, Reply::Lock(None))) if tries < LOCK_TRIES_MAX => {
                    self.ask([Statement::TakeLock { owner: self.owner.clone() }]);
                    Phase::Locking { tries: tries + 1 }
                }
                Some((_, Reply::Lock(Some(seen)))) => Phase::Over(Outcome::Busy { owner: seen.owner }),
                _ => Phase::Over(Outcome::Busy { owner: "somebody".to_owned() }),
            },
            Phase::Locked => self.finish_earlier(&got),
            Phase::Finishing => self.put_back_earlier(got),
            Phase::Finished => self.begin_plan(),
            Phase::DiskRead => self.disk_first(got),
            Phase::MemoryOnly => self.memory_only(got),
            Phase::Keeping => self.lend(got),
            Phase::Lent => self.check(0, false),
            Phase::Checking { checks, loaded } => self.checked(got, checks, loaded),
            Phase::Retargeted { checks, loaded } => self.check(checks, loaded),
            Phase::Loading { checks } => self.check(checks, true),
            Phase::Sessions(ending) => self.end_sessions(ending, got),
            Phase::PuttingBack => self.disk_last_read(),
            Phase::DiskLastRead => self.disk_last(got),
            Phase::Unlocking => Phase::Over(match self.failure.take() {
                Some((statement, error)) if statement.is_empty() && error.is_empty() => Outcome::PutOff,
                Some((statement, error)) => Outcome::Failed { statement, error },
                None => Outcome::Applied(std::mem::take(&mut self.done)),
            }),
            Phase::Over(outcome) => Phase::Over(outcome),
        }
    }

    fn learn_tables(&mut self, got: &[(Statement, Reply)]) {
        if let Some((_, Reply::Names(names))) = got.first() {
            self.tables = COVERED.into_iter().filter(|table| names.contains(table.name)).collect();
        }
    }

    /// After the lock, and after what an earlier apply left: the plan itself.
    fn begin_plan(&mut self) -> Phase {
        if self.plan.changes.is_empty() {
            return self.begin_sessions();
        }
        self.ask([Statement::Read { place: Place::Disk, table: SERVERS }]);
        Phase::DiskRead
    }

    /// A fence goes to disk first, so that a restart of ProxySQL at any moment keeps it (I10).
    fn disk_first(&mut self, got: Vec<(Statement, Reply)>) -> Phase {
        self.change_rows(Place::Disk, got, &self.only(|directive| matches!(directive, Directive::Fence { .. })));
        if self.plan.changes.iter().any(|change| change.layer == Layer::Runtime) {
            let tables = self.tables.clone();
            self.ask(tables.iter().map(|table| Statement::Copy {
                from: Place::Memory,
                to: Place::Kept,
                table: *table,
            }));
            self.ask(tables.iter().map(|table| Statement::Copy {
                from: Place::Runtime,
                to: Place::Target,
                table: *table,
            }));
            for place in [Place::Kept, Place::Target] {
                self.ask(tables.iter().map(|table| Statement::Read { place, table: *table }));
            }
            Phase::Keeping
        } else {
            self.ask([Statement::Read { place: Place::Memory, table: SERVERS }]);
            Phase::MemoryOnly
        }
    }

    /// Runtime is as it should be: memory alone is brought in line, without a LOAD.
    fn memory_only(&mut self, got: Vec<(Statement, Reply)>) -> Phase {
        self.change_rows(Place::Memory, got, &self.plan.clone());
        self.begin_sessions()
    }

    /// Memory is kept and runtime copied; now the plan goes into both copies, and memory becomes the target.
    fn lend(&mut self, got: Vec<(Statement, Reply)>) -> Phase {
        let mut lent = BTreeMap::new();
        for (statement, reply) in got {
            if let (Statement::Read { place, table }, Reply::Content(content)) = (statement, reply) {
                match place {
                    Place::Kept => drop(lent.insert(table, content)),
                    _ => drop(self.target.insert(table, content)),
                }
            }
        }
        self.kept = lent.clone();
        let plan = self.plan.clone();
        let odd = self.tables.iter().find(|table| {
            lent.get(*table).map(|content| &content.columns) != self.target.get(*table).map(|content| &content.columns)
        });
        if let Some(odd) = odd {
            self.fail(
                &Statement::Read { place: Place::Target, table: *odd },
                "runtime and memory have different columns".to_owned(),
            );
            return self.phase.clone();
        }
        let planned = |content: &Content, live: bool| -> Result<Content, String> {
            let rows = content.rows().map_err(|error| error.to_string())?;
            let rows = if live { live_rows(rows) } else { rows };
            Ok(content.with_rows(&plan.carry_out(&rows)))
        };
        let both = match (lent.get(&SERVERS), self.target.get(&SERVERS)) {
            (Some(kept), Some(target)) => planned(kept, false).and_then(|kept| Ok((kept, planned(target, true)?))),
            _ => Err("the copies of mysql_servers were not there".to_owned()),
        };
        let (kept, target) = match both {
            Ok(both) => both,
            Err(error) => {
                self.fail(&Statement::Read { place: Place::Kept, table: SERVERS }, error);
                return self.phase.clone();
            }
        };
        self.swap_content(Place::Kept, SERVERS, &lent[&SERVERS], &kept);
        let before = self.target[&SERVERS].clone();
        self.swap_content(Place::Target, SERVERS, &before, &target);
        self.kept.insert(SERVERS, kept);
        self.target.insert(SERVERS, target);
        self.lent = true;
        for table in self.tables.clone() {
            let target = self.target[&table].clone();
            self.swap_content(Place::Memory, table, &lent[&table], &target);
        }
        Phase::Lent
    }

    fn check(&mut self, checks: u32, loaded: bool) -> Phase {
        let tables = self.tables.clone();
        self.ask(tables.iter().map(|table| Statement::Read { place: Place::Memory, table: *table }));
        self.ask(tables.iter().map(|table| Statement::Read { place: Place::Runtime, table: *table }));
        Phase::Checking { checks, loaded }
    }

    /// Memory must be the target to the byte, and the target what runtime is now with the plan carried out.
    fn checked(&mut self, got: Vec<(Statement, Reply)>, checks: u32, loaded: bool) -> Phase {
        let mut seen: BTreeMap<(Place, Table), Content> = BTreeMap::new();
        for (statement, reply) in got {
            if let (Statement::Read { place, table }, Reply::Content(content)) = (statement, reply) {
                seen.insert((place, table), content);
            }
        }
        let mut clean = true;
        for table in self.tables.clone() {
            let memory = &seen[&(Place::Memory, table)];
            clean &= self.fold_edits(table, memory);
            if !loaded {
                clean &= self.retarget(table, &seen[&(Place::Runtime, table)]);
            }
        }
        if !clean && checks < CHECKS_MAX {
            return Phase::Retargeted { checks: checks + 1, loaded: false };
        }
        if loaded {
            self.verify(&seen[&(Place::Runtime, SERVERS)]);
            self.queue.clear(); // what is still to fold is in `kept`; putting back leaves later edits alone
            return self.begin_sessions();
        }
        if !clean
            && self.plan.unfences()
            && !self.plan.directives.values().any(|d| matches!(d, Directive::Fence { .. }))
        {
            // A return can wait; empty strings stand for "put off".
            self.failure = Some((String::new(), String::new()));
            return self.put_back();
        }
        self.ask([Statement::RenewLock { owner: self.owner.clone() }, Statement::Load]);
        Phase::Loading { checks: checks + 1 }
    }

    /// What memory has beside the target is somebody's edit since we looked: it moves into `kept`, staged as it was.
    fn fold_edits(&mut self, table: Table, memory: &Content) -> bool {
        let target = self.target[&table].clone();
        let edits = target.changes_to(memory);
        for (ours, theirs) in &edits {
            let record = theirs.as_ref().or(ours.as_ref());
            let Some(key) = record.map(|record| record.iter().take(table.key_columns).cloned().collect::<Vec<_>>())
            else {
                continue;
            };
            let kept = self.kept[&table].records.get(&key).cloned();
            let wanted =
                theirs.clone().map(|record| if table == SERVERS { self.planned_record(record) } else { record });
            self.ask([
                Statement::Swap { place: Place::Kept, table, from: kept, to: wanted.clone() },
                Statement::Swap { place: Place::Memory, table, from: theirs.clone(), to: ours.clone() },
            ]);
            if let Some(content) = self.kept.get_mut(&table) {
                match wanted {
                    Some(record) => drop(content.records.insert(key, record)),
                    None => drop(content.records.remove(&key)),
                }
            }
            self.done.edits_kept += 1;
        }
        edits.is_empty()
    }

    /// The monitor, or another LOAD, moved runtime: the target follows.
    fn retarget(&mut self, table: Table, runtime: &Content) -> bool {
        let wanted = if table == SERVERS {
            match runtime.rows() {
                Ok(rows) => runtime.with_rows(&self.plan.carry_out(&live_rows(rows))),
                Err(_) => return false,
            }
        } else {
            runtime.clone()
        };
        let target = self.target[&table].clone();
        if wanted.records == target.records {
            return true;
        }
        self.swap_content(Place::Target, table, &target, &wanted);
        self.swap_content(Place::Memory, table, &target, &wanted);
        self.target.insert(table, wanted);
        false
    }

    fn planned_record(&self, record: Vec<Option<String>>) -> Vec<Option<String>> {
        let content = Content { columns: self.kept[&SERVERS].columns.clone(), ..Content::default() };
        let one = Content::new(SERVERS, content.columns.clone(), [record.clone()]);
        let planned = one.rows().map(|rows| content.with_rows(&self.plan.carry_out(&rows)));
        planned.ok().and_then(|content| content.records.into_values().next()).unwrap_or(record)
    }

    /// Planned rows must show in runtime as planned; a ghost doesn't count.
    fn verify(&mut self, runtime: &Content) {
        let (Ok(rows), Ok(target)) = (runtime.rows(), self.target[&SERVERS].rows()) else { return };
        let shown: BTreeMap<_, _> = rows.iter().map(|row| (&row.key, row)).collect();
        let concerns = |row: &&Row| row.node().is_some_and(|node| self.plan.directives.contains_key(&node));
        for row in target.iter().filter(|row| self.plan.managed.contains(row.key.hostgroup)).filter(concerns) {
            let as_planned = shown.get(&row.key).is_some_and(|shown| {
                shown.status == row.status || (row.status == Status::Online && shown.status == Status::Shunned)
            });
            // A returned primary's or replica's row may already have been moved on by the monitor.
            if !as_planned && !row.status.in_service() {
                self.done.not_as_planned.push(format!("{} should be {}", row.key, row.status));
            }
        }
    }

    /// Memory becomes what was kept; a record that somebody changed meanwhile stays theirs.
    fn put_back(&mut self) -> Phase {
        self.ask([Statement::RenewLock { owner: self.owner.clone() }]);
        if self.lent {
            for table in self.tables.clone() {
                if let (Some(target), Some(kept)) = (self.target.get(&table).cloned(), self.kept.get(&table).cloned()) {
                    self.swap_content(Place::Memory, table, &target, &kept);
                }
            }
            self.lent = false;
        }
        let tables = self.tables.clone();
        for place in [Place::Target, Place::Kept] {
            self.ask(tables.iter().map(|table| Statement::Drop { place, table: *table }));
        }
        Phase::PuttingBack
    }

    fn disk_last_read(&mut self) -> Phase {
        if self.failure.is_none() && self.plan.unfences() && !self.plan.changes.is_empty() {
            self.ask([Statement::Read { place: Place::Disk, table: SERVERS }]);
        }
        Phase::DiskLastRead
    }

    /// A return goes to disk last: a restart before that finds the node still fenced.
    fn disk_last(&mut self, got: Vec<(Statement, Reply)>) -> Phase {
        self.change_rows(Place::Disk, got, &self.only(|directive| matches!(directive, Directive::Unfence(_))));
        self.ask([Statement::DropLock { owner: self.owner.clone() }]);
        Phase::Unlocking
    }

    fn only(&self, wanted: impl Fn(&Directive) -> bool) -> Plan {
        let directives = self.plan.directives.iter().filter(|(_, d)| wanted(d)).map(|(n, d)| (n.clone(), d.clone()));
        Plan { directives: directives.collect(), ..self.plan.clone() }
    }

    /// Carries a plan out on the rows that were just read from one place.
    fn change_rows(&mut self, place: Place, got: Vec<(Statement, Reply)>, plan: &Plan) {
        for (_, reply) in got {
            if let Reply::Content(content) = reply
                && let Ok(rows) = content.rows()
            {
                let planned = content.with_rows(&plan.carry_out(&rows));
                self.swap_content(place, SERVERS, &content, &planned);
            }
        }
    }

    fn swap_content(&mut self, place: Place, table: Table, from: &Content, to: &Content) {
        let statements = statement::swaps(place, table, from, to);
        self.ask(statements);
    }
}

/// What a LOAD of runtime's own rows must contain: SHUNNED is written ONLINE (it can stick for good otherwise), and
/// ghost OFFLINE_HARD rows are left out (FACTS §2).
fn live_rows(rows: Vec<Row>) -> Vec<Row> {
    rows.into_iter()
        .filter(|row| row.status != Status::OfflineHard)
        .map(|row| if row.status == Status::Shunned { Row { status: Status::Online, ..row } } else { row })
        .collect()
}
