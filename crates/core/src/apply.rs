//! Carries a plan out on one ProxySQL: the merge-safe LOAD (design §8), as a state machine without I/O.
//!
//! | phase | waits for | next |
//! | --- | --- | --- |
//! | `Start` | the tables in `main` | `Locking` |
//! | `Locking`, `LockTaken` | the lock, or whose it is | `Locked`; `Busy` |
//! | `Locked`, `Finishing` | what an earlier apply left | `PuttingBack(Earlier)` |
//! | `PuttingBack`, `Missed` | memory as it was kept; records that somebody changed are read again | `Watched` |
//! | `Watched`, `Dropped` | whether somebody SAVEd; the copies dropped | `ReturnsRead` (earlier), `Counting` (ours) |
//! | `ReturnsRead`, `ReturnsFinished` | the returns that an earlier apply noted | `RowsRead` on disk |
//! | `RowsRead`, `RowsWritten` | one layer's rows: fences on disk first, returns on disk last | `Keeping`; `Unlocking` |
//! | `Keeping` | the copies of runtime and memory | `Lent` |
//! | `Lent`, `Looking`, `Settled` | memory is the target to the byte, and nothing moved | `Loading`; put off |
//! | `Loading` | the LOAD | `Looking(After)`, then `PuttingBack(Ours)` |
//! | `Counting` | how many LOADs there were; one for somebody else goes through `Keeping` again | `Sessions` |
//! | `Sessions`, `PossibleHolders` | no connection in use | `RowsRead` on disk |
//! | `Unlocking` | the lock dropped | `Over` |
//!
//! A refused statement puts back what is lent and ends in `Over`, from every phase.
//!
//! LOAD makes runtime equal to memory, and memory holds other people's staged edits. So memory is lent: `kept`
//! is what memory shall be in the end, `target` is what is to go live. Both are tables in ProxySQL's own `main`,
//! so that any agent can finish what another began, and both die with memory when ProxySQL restarts. It is lent as
//! briefly as can be: sessions are ended after it was put back.
//!
//! A SAVE to disk by somebody else while memory is lent would save what is lent. The disk table is watched for that
//! (`MarkDisk`), and memory is saved anew once it is put back.
//!
//! Every write compares before it swaps: a record that somebody edited meanwhile is left as it is, seen by the
//! check, folded into `kept` column by column, and only then replaced. An edit that comes between the last look and
//! the LOAD goes live for a moment: the look after the LOAD sees it, and a second LOAD takes it out again. What
//! can't be seen is an edit that sets a value to what memory shows or is about to show while it is lent.
//!
//! No other applier takes over while this one writes: the lock is renewed before each batch of writes and honoured
//! for 30 s from then, and the driver hands out no statement later than 20 s after the first (`APPLY_DEADLINE`). So
//! `DropLock`, which can't name an owner in SQL, drops ours or none.

mod merge;
mod put_back;
mod recheck;
mod return_journal;
mod sessions;
mod statement;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

pub use put_back::{WATCHED_NAME, copy_name};
pub use return_journal::RETURNS_NAME;
pub use sessions::{ENDED_NAME, EXTENDED_NAME};
pub use statement::{Backend, LockSeen, Place, Reply, Session, Statement, Variables};

use crate::lease::LeaseAction;
use crate::node::Node;
use crate::plan::{Directive, Plan};
use crate::role::Role;
use crate::table::{COVERED, Content, Layer, Record, Row, SERVERS, Status, Table};
use put_back::{PutBack, Whose};
use recheck::Look;
use sessions::Ending;

/// How often a lock that vanishes while we look is tried again, and how often somebody else's copies are finished.
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
    /// Those of them that may have held a fenced node, and may not: the last resort.
    pub possible_ended: u64,
    /// `mysql-show_processlist_extended` is on until the next LOAD MYSQL VARIABLES: somebody staged another variable in
    /// the moment of the look.
    pub extended_left: bool,
    /// Nodes that still have connections in use.
    pub sessions_left: BTreeSet<Node>,
    /// Rows that runtime doesn't show as they were loaded, the planned ones first.
    pub not_as_planned: Vec<String>,
    /// The disk layer refused: a restart of ProxySQL would forget the fence.
    pub disk_error: Option<String>,
    /// Edits of somebody else that came in between and were kept staged.
    pub edits_kept: u64,
    /// Somebody LOADed while memory was lent: what they had staged was loaded for them, or (`false`) was not.
    pub load_made_up: Option<bool>,
    /// Somebody SAVEd to disk while memory was lent: what they had staged was saved for them, or (`false`) was not.
    pub save_made_up: Option<bool>,
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
    ReturnsRead,
    ReturnsFinished,
    RowsRead(Writing),
    RowsWritten(Writing),
    Keeping,
    Lent,
    Counting,
    Looking { checks: u32, look: Look },
    Settled { checks: u32, look: Look },
    Loading { checks: u32 },
    Sessions(Ending),
    PossibleHolders(Ending),
    PuttingBack(PutBack),
    Missed(PutBack),
    Watched(Whose),
    Dropped(Whose),
    Unlocking,
    Over(Outcome),
}

/// The plan on its way into the server table of one layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Writing {
    place: Place,
    /// Only what the plan takes out of service.
    fences: bool,
    tries: u32,
}

/// How often rows are written that somebody edits at that moment, or that no comparison finds.
const WRITE_TRIES_MAX: u32 = 3;

/// Why an apply gives up before its end.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum BrokenOff {
    Failed { statement: String, error: String },
    PutOff,
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
    /// Statements that did not find what they were to change.
    missed: Vec<Statement>,
    tables: Vec<Table>,
    kept: BTreeMap<Table, Content>,
    target: BTreeMap<Table, Content>,
    /// The copies that are there are ours, and not an earlier apply's.
    copied: bool,
    /// The disk table is marked, so that a SAVE shows; and an earlier apply noted that it marked it.
    watched: bool,
    watched_earlier: bool,
    /// Memory may differ from what it was: it has to be put back.
    lent: bool,
    /// Our LOAD was carried out.
    live: bool,
    /// The note of an earlier apply's returns is there.
    noted_earlier: bool,
    /// Fenced nodes whose hidden sessions were looked for, as noted; and whether there is such a note.
    ended: BTreeSet<Node>,
    noted_ended: bool,
    /// Returns that are noted: live, or about to be, and not on disk yet.
    returns: BTreeMap<Node, Role>,
    /// The version of runtime before our LOAD; a LOAD, and nothing else, adds one.
    version: Option<u64>,
    /// What it must be in the end if nobody but us LOADs while memory is lent.
    expected: Option<u64>,
    /// Somebody did: what they had staged is loaded for them.
    for_them: bool,
    /// Records that our LOAD took live though somebody was still editing them: the target's go live instead.
    undo: BTreeSet<(Table, Record)>,
    /// How often copies were in the way that are not ours.
    in_the_way: u32,
    broken_off: Option<BrokenOff>,
    done: Done,
}

impl Apply {
    /// An apply of this plan by this owner: a name that no other process has, now or later.
    pub fn new(plan: Plan, owner: String) -> Self {
        // A lease needs no lock: whoever holds it must not keep the other agent from isolating, or from not.
        let share = plan.lease_action.map(|share| match share {
            LeaseAction::Keep { good_ms } => Statement::LeaveLease { owner: owner.clone(), good_s: good_ms / 1_000 },
            LeaseAction::Want => Statement::WantLease,
            LeaseAction::End => Statement::DropLease,
        });
        let (phase, names) = if plan.changes_rows() {
            (Phase::Start, Some(Statement::Names))
        } else {
            (Phase::Over(Outcome::Applied(Done::default())), None)
        };
        let queue = share.into_iter().chain(names).collect();
        Self {
            plan,
            owner,
            phase,
            queue,
            asked: None,
            got: Vec::new(),
            missed: Vec::new(),
            tables: Vec::new(),
            kept: BTreeMap::new(),
            target: BTreeMap::new(),
            copied: false,
            watched: false,
            watched_earlier: false,
            lent: false,
            live: false,
            noted_earlier: false,
            ended: BTreeSet::new(),
            noted_ended: false,
            returns: BTreeMap::new(),
            version: None,
            expected: None,
            for_them: false,
            undo: BTreeSet::new(),
            in_the_way: 0,
            broken_off: None,
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
            Reply::Refused(error) if statement.place() == Some(Place::Disk) => {
                if statement == Statement::Save {
                    self.done.save_made_up = Some(false);
                }
                self.done.disk_error = Some(error);
            }
            // What it would have told is done without.
            Reply::Refused(error) if statement.is_about_sessions() => self.got.push((statement, Reply::Refused(error))),
            Reply::Refused(_) if statement.is_about_saves() => {}
            // Without it we can't tell whose LOAD it was; that is all.
            Reply::Refused(_) if matches!(statement, Statement::Read { table, .. } if table == recheck::CHECKSUMS) => {}
            Reply::Refused(error) => self.fail(&statement, error),
            // The lock is somebody else's by now, and so are the copies: hands off, they finish what we began.
            Reply::Changed(0) if matches!(statement, Statement::RenewLock { .. }) => {
                self.queue.clear();
                self.phase = Phase::Over(Outcome::LostLock);
            }
            Reply::Exists if matches!(statement, Statement::LeaveLease { .. }) => {
                if let Statement::LeaveLease { owner, good_s } = statement {
                    self.queue.push_front(Statement::RenewLease { owner, good_s });
                }
            }
            // Copies of somebody who lost the lock to us, made since we looked: finished like any earlier apply's.
            Reply::Exists if matches!(statement, Statement::Copy { .. }) => {
                self.queue.clear();
                self.got.clear();
                (self.copied, self.watched) = (false, false);
                self.in_the_way += 1;
                self.phase =
                    if self.in_the_way > LOCK_TRIES_MAX { Phase::Over(Outcome::LostLock) } else { Phase::Locked };
                if self.phase == Phase::Locked {
                    self.ask([Statement::RenewLock { owner: self.owner.clone() }, Statement::Names]);
                }
            }
            Reply::Changed(changed) => {
                self.watched |= statement == Statement::MarkDisk;
                if statement.names() > changed {
                    self.missed.push(statement.clone());
                }
                self.got.push((statement, Reply::Changed(changed)));
            }
            reply => self.got.push((statement, reply)),
        }
    }

    /// Gives up: puts memory back if it is lent, and leaves. What can't be put back stays in the copies, for the next.
    fn fail(&mut self, statement: &Statement, error: String) {
        self.queue.clear();
        self.got.clear();
        let failed = BrokenOff::Failed { statement: statement.to_string(), error };
        let again = matches!(self.broken_off, Some(BrokenOff::Failed { .. }));
        if !again {
            self.broken_off = Some(failed);
        }
        let locked = !matches!(self.phase, Phase::Start | Phase::Locking { .. } | Phase::LockTaken { .. });
        self.phase = if again || !locked { self.over() } else { self.put_back() };
    }

    fn over(&mut self) -> Phase {
        Phase::Over(match self.broken_off.take() {
            Some(BrokenOff::Failed { statement, error }) => Outcome::Failed { statement, error },
            Some(BrokenOff::PutOff) => Outcome::PutOff,
            None => Outcome::Applied(std::mem::take(&mut self.done)),
        })
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
                Some((Statement::TakeLock { .. } | Statement::TakeOverLock { .. }, Reply::Changed(_))) => {
                    self.ask([Statement::Names]);
                    Phase::Locked
                }
                // Neither taken nor taken over: nothing shows that it is ours.
                Some(_) | None => Phase::Over(Outcome::Busy { owner: "somebody".to_owned() }),
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
            Phase::RowsRead(writing) => self.write_rows(writing, got),
            Phase::RowsWritten(writing) => self.rows_written(writing),
            Phase::Keeping => self.lend(got),
            Phase::Lent => self.look(0, Look::Before),
            Phase::Looking { checks, look } => self.looked(got, checks, look),
            Phase::Settled { checks, look } => self.look(checks, look),
            Phase::Loading { checks } => {
                self.live = true;
                self.expected = self.expected.map(|version| version + 1);
                self.look(checks, Look::After)
            }
            Phase::Sessions(ending) => self.end_sessions(ending, got),
            Phase::PossibleHolders(ending) => self.end_possible_holders(ending, got),
            Phase::PuttingBack(back) => self.putting_back(back),
            Phase::Missed(back) => self.put_back_missed(back, got),
            Phase::Watched(whose) => self.end_watch(whose, &got),
            Phase::Dropped(Whose::Earlier) => self.read_returns(),
            Phase::ReturnsRead => self.finish_returns(got),
            Phase::ReturnsFinished => self.returns_finished(),
            Phase::Dropped(Whose::Ours) => self.count_loads(),
            Phase::Counting => self.loads_counted(&got),
            Phase::Unlocking => self.over(),
            Phase::Over(outcome) => Phase::Over(outcome),
        }
    }

    fn learn_tables(&mut self, got: &[(Statement, Reply)]) {
        if let Some((_, Reply::Names(names))) = got.last() {
            self.tables = COVERED.into_iter().filter(|table| names.contains(table.name)).collect();
        }
    }

    /// After the lock, and after what an earlier apply left: the plan itself.
    fn begin_plan(&mut self) -> Phase {
        if self.plan.changes.is_empty() {
            return self.put_back();
        }
        // A fence goes to disk first, so that a restart of ProxySQL at any moment keeps it (I10).
        self.read_rows(Writing { place: Place::Disk, fences: true, tries: 1 })
    }

    fn read_rows(&mut self, writing: Writing) -> Phase {
        self.ask([Statement::Read { place: writing.place, table: SERVERS }]);
        Phase::RowsRead(writing)
    }

    /// Carries the plan out on the rows that were just read.
    fn write_rows(&mut self, writing: Writing, got: Vec<(Statement, Reply)>) -> Phase {
        let plan = if writing.fences { self.fences() } else { self.plan.clone() };
        for (_, reply) in got {
            if let Reply::Content(content) = reply
                && let Ok(rows) = content.rows()
            {
                let planned = content.with_rows(&plan.carry_out(&rows));
                let stuck = self.take_stuck(writing.place, SERVERS, &content);
                self.ask(statement::swaps(writing.place, SERVERS, &content, &planned, &stuck));
            }
        }
        self.missed.clear();
        Phase::RowsWritten(writing)
    }

    fn rows_written(&mut self, writing: Writing) -> Phase {
        if !self.missed.is_empty() && writing.tries < WRITE_TRIES_MAX {
            return self.read_rows(Writing { tries: writing.tries + 1, ..writing });
        }
        match writing.place {
            Place::Disk if writing.fences => self.begin_lending(),
            Place::Disk => self.unlock(),
            _ => self.put_back(),
        }
    }

    fn begin_lending(&mut self) -> Phase {
        self.ask([Statement::RenewLock { owner: self.owner.clone() }]);
        if self.plan.changes.iter().any(|change| change.layer == Layer::Runtime) {
            let tables = self.tables.clone();
            self.copied = true;
            self.ask([Statement::Read { place: Place::Runtime, table: recheck::CHECKSUMS }]);
            self.ask([Statement::NoteWatch, Statement::MarkDisk]);
            // Runtime first: what somebody edits and LOADs in between is then an edit, and not just what we lend.
            for (from, to) in [(Place::Runtime, Place::Target), (Place::Memory, Place::Kept)] {
                self.ask(tables.iter().map(|table| Statement::Copy { from, to, table: *table }));
            }
            for place in [Place::Kept, Place::Target] {
                self.ask(tables.iter().map(|table| Statement::Read { place, table: *table }));
            }
            Phase::Keeping
        } else {
            // Runtime is as it should be: memory alone is brought in line, without a LOAD.
            self.read_rows(Writing { place: Place::Memory, fences: false, tries: 1 })
        }
    }

    /// Memory is kept and runtime copied; now the plan goes into both copies, and memory becomes the target.
    fn lend(&mut self, got: Vec<(Statement, Reply)>) -> Phase {
        let mut lent = BTreeMap::new();
        for (statement, reply) in got {
            if let (Statement::Read { place, table }, Reply::Content(content)) = (statement, reply) {
                match place {
                    Place::Kept => drop(lent.insert(table, content)),
                    Place::Target => drop(self.target.insert(table, content)),
                    _ => self.expected = recheck::counts_loads(&content),
                }
            }
        }
        self.kept = lent.clone();
        let (plan, fences) = (self.plan.clone(), self.fences());
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
            // A return reaches memory after it is live: until then whoever puts memory back leaves the node fenced.
            let rows = if live { plan.carry_out(&live_rows(rows)) } else { fences.carry_out(&rows) };
            Ok(content.with_rows(&rows))
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
        self.kept.insert(SERVERS, kept);
        for (table, runtime) in self.target.clone() {
            let wanted = match self.for_them {
                true => self.wanted(table, &runtime).unwrap_or_else(|| runtime.clone()),
                false if table == SERVERS => target.clone(),
                false => continue,
            };
            self.swap_content(Place::Target, table, &runtime, &wanted);
            self.target.insert(table, wanted);
        }
        self.lent = true;
        for table in self.tables.clone() {
            let target = self.target[&table].clone();
            self.swap_content(Place::Memory, table, &lent[&table], &target);
        }
        Phase::Lent
    }

    /// A return goes to disk last: a restart before that finds the node still fenced. A fence is there already,
    /// unless somebody saved memory to disk meanwhile.
    fn disk_last(&mut self) -> Phase {
        if self.broken_off.is_some() || self.plan.changes.is_empty() {
            return self.unlock();
        }
        self.read_rows(Writing { place: Place::Disk, fences: false, tries: 1 })
    }

    fn unlock(&mut self) -> Phase {
        self.drop_returns();
        self.ask([Statement::DropLock { owner: self.owner.clone() }]);
        Phase::Unlocking
    }

    /// The plan less its returns.
    fn fences(&self) -> Plan {
        let fences = self.plan.directives.iter().filter(|(_, d)| matches!(d, Directive::Fence { .. }));
        let directives = fences.map(|(n, d)| (n.clone(), d.clone())).collect();
        Plan { directives, managed: self.plan.managed.clone(), ..Plan::default() }
    }

    /// Turns one content into another that may have to be put back. A record that is still as it was read though our
    /// statement did not find it goes by its key.
    fn swap_content(&mut self, place: Place, table: Table, from: &Content, to: &Content) {
        let stuck = self.take_stuck(place, table, from);
        self.ask(statement::swaps(place, table, from, to, &stuck));
    }

    /// Records that no comparison finds: our statement missed them, and they are as they were.
    fn take_stuck(&mut self, place: Place, table: Table, now: &Content) -> BTreeSet<Record> {
        let of_it = |statement: &Statement| match statement {
            Statement::Swap { place: there, table: of, .. } => (*there, *of) == (place, table),
            Statement::Restate { place: there, .. } => (*there, SERVERS) == (place, table),
            _ => false,
        };
        let (missed, others) = std::mem::take(&mut self.missed).into_iter().partition(of_it);
        self.missed = others;
        let missed: Vec<Statement> = missed;
        statement::stuck(&missed, now)
    }
}

/// What a LOAD of runtime's own rows must contain: SHUNNED is written ONLINE (it can stick for good otherwise), and
/// ghost OFFLINE_HARD rows are left out (facts §2).
fn live_rows(rows: Vec<Row>) -> Vec<Row> {
    rows.into_iter()
        .filter(|row| row.status != Status::OfflineHard)
        .map(|row| if row.status == Status::Shunned { Row { status: Status::Online, ..row } } else { row })
        .collect()
}
