//! Carries a plan out on one ProxySQL by the merge-safe LOAD (design §8). A state machine without I/O.
//!
//! | phase | waits for | next |
//! | --- | --- | --- |
//! | `Pausing` | ProxySQL paused, and no session left | `Start` |
//! | `Start` | the tables in `main` | `Locking` |
//! | `Locking` | the lock, or whose it is | `Locked`; `Busy` |
//! | `Locked`, `Finishing` | what an earlier apply left | `PuttingBack(Earlier)` |
//! | `PuttingBack`, `Missed` | memory put back; records that somebody changed are read again | `Watched` |
//! | `Watched`, `Dropped` | whether somebody SAVEd; the copies dropped | `ReturnsRead` (earlier), `Counting` (ours) |
//! | `ReturnsRead`, `ReturnsFinished` | the returns that an earlier apply noted | `RowsRead` on disk |
//! | `RowsRead`, `RowsWritten` | one layer's rows: fences on disk first, returns on disk last | `Keeping`; `Unlocking` |
//! | `Keeping` | the copies of runtime and memory | `Lent` |
//! | `Lent`, `Looking`, `Settled` | memory is the target to the byte, and nothing moved | `Loading`; put off |
//! | `Loading` | the LOAD | `Looking(After)`, then `PuttingBack(Ours)` |
//! | `Counting` | how many LOADs there were; one for somebody else goes through `Keeping` again | `Sessions` |
//! | `Sessions`, `PossibleHolders` | no connection in use | `LimitsRead`; `RowsRead` on disk |
//! | `LimitsRead` | the backstop on disk | `RowsRead` on disk |
//! | `Unlocking` | the lock dropped | `Resuming`; `Over` |
//! | `Resuming` | ProxySQL resumed, and the note of the pause dropped | `Over` |
//!
//! From every phase, a refused statement puts memory back and ends in `Over`.
//!
//! LOAD makes runtime equal to memory, and memory holds other people's staged edits. So memory is lent: it is made the
//! `target` that goes live, and afterwards put back to `kept`. Both copies are tables in ProxySQL's own `main`. Any
//! agent can finish what another began, and the copies die with memory when ProxySQL restarts. Memory is lent as
//! briefly as possible: sessions are ended after it was put back.
//!
//! A SAVE by somebody else while memory is lent would save the lent rows. A mark in the disk table (`MarkDisk`) shows
//! such a SAVE, and memory is saved again once it is put back.
//!
//! Every write names the record as it was read. A record that somebody edited meanwhile is left alone, seen by the next
//! look, folded into `kept` column by column, and only then replaced. An edit between the last look and the LOAD goes
//! live for a moment: the look after the LOAD sees it, and a second LOAD takes it out again. An edit that sets a value
//! to the lent one, or to one that memory is about to show, cannot be seen.
//!
//! No other applier takes over while this one writes. The lock is renewed before each batch of writes and lasts 30 s
//! from then, and the driver sends no statement later than 20 s after the first (`APPLY_DEADLINE`). So `DropLock`,
//! which cannot name an owner in SQL, drops this applier's lock or none.

mod drain;
pub(crate) mod lock;
pub(crate) mod merge;
mod pause;
mod put_back;
mod recheck;
mod return_journal;
mod sessions;
mod statement;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

pub use drain::{DELAYS_MS, DRAIN_NAME, DRAIN_RENEWS_S};
pub use pause::PAUSED_NAME;
pub use put_back::{SCRATCH_NAME, WATCHED_NAME, copy_name};
pub use return_journal::RETURNS_NAME;
pub use sessions::{ENDED_NAME, EXTENDED_NAME};
pub use statement::{Backend, LockSeen, Place, Reply, Session, Statement, Variables};

use crate::lease::LeaseAction;
use crate::node::Node;
use crate::online_limit::ATTRIBUTES;
use crate::plan::{Directive, Plan};
use crate::role::Role;
use crate::table::{Content, Layer, Record, Row, SERVERS, Status, Table};
use lock::LockStep;
use put_back::{PutBack, Whose};
use recheck::Look;
use sessions::Ending;

/// The most times that another applier's copies are put back first.
const IN_THE_WAY_MAX: u32 = 3;

/// How an apply ended.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// The plan was carried out, and runtime was checked.
    Applied(Done),
    /// Another applier holds the lock (I12). Nothing was changed.
    Busy {
        /// The lock's owner.
        owner: String,
    },
    /// Another applier took the lock over, and finishes this apply's work.
    LostLock,
    /// A return was put off, since memory or runtime kept changing. Memory was put back, and nothing went live.
    PutOff,
    /// ProxySQL refused a statement. Memory was put back unless ProxySQL refused that too.
    Failed {
        /// The statement's short form.
        statement: String,
        /// ProxySQL's error.
        error: String,
    },
}

/// The results of an apply that was carried out.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Done {
    /// An earlier apply was finished first.
    pub finished_earlier: bool,
    /// The number of sessions that were ended.
    pub sessions_ended: u64,
    /// The number of ended sessions that may not have held a fenced node: those of the last resort.
    pub possible_ended: u64,
    /// `mysql-show_processlist_extended` stays on until the next LOAD MYSQL VARIABLES, since somebody staged another
    /// variable meanwhile.
    pub extended_left: bool,
    /// Fenced nodes that still have connections in use.
    pub sessions_left: BTreeSet<Node>,
    /// Rows that runtime does not show as they were loaded, the planned ones first.
    pub not_as_planned: Vec<String>,
    /// The error of the disk layer. A restart of ProxySQL would lose the change.
    pub disk_error: Option<String>,
    /// The number of edits by somebody else during the apply. They stay staged.
    pub edits_kept: u64,
    /// Somebody LOADed while memory was lent. `true`: their staged edits were loaded for them.
    pub load_made_up: Option<bool>,
    /// Somebody SAVEd to disk while memory was lent. `true`: their staged edits were saved for them.
    pub save_made_up: Option<bool>,
    /// ProxySQL was paused, and takes no clients.
    pub paused: bool,
    /// ProxySQL was resumed, and takes clients again.
    pub resumed: bool,
    /// The number of client sessions that were ended since ProxySQL is paused.
    pub clients_ended: u64,
    /// The number of client sessions that are left all the same.
    pub clients_left: u64,
    /// Why ProxySQL was not paused or resumed.
    pub pause_error: Option<String>,
}

/// The driver's next step.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Step<O = Outcome> {
    /// Send this statement, and call [`Apply::next`] with the reply.
    Ask(Statement),
    /// It is over.
    Done(O),
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Phase {
    Pausing { looks: u32 },
    Start,
    Locking { tries: u32 },
    Locked,
    Finishing,
    ReturnsRead,
    ReturnsFinished,
    RowsRead(Writing),
    RowsWritten(Writing),
    LimitsRead,
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
    Resuming,
    Over(Outcome),
}

/// An attempt to write the plan into the server table of one layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Writing {
    place: Place,
    /// Only the fences of the plan are written, and not its returns.
    fences: bool,
    tries: u32,
}

/// The most attempts to write rows that somebody edits meanwhile, or that no comparison finds.
const WRITE_TRIES_MAX: u32 = 3;

/// The reason why an apply ends early.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum BrokenOff {
    Failed { statement: String, error: String },
    PutOff,
}

/// One apply. The model clones, compares and hashes it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Apply {
    plan: Plan,
    owner: String,
    phase: Phase,
    queue: VecDeque<Statement>,
    asked: Option<Statement>,
    /// The statements of this phase with their replies.
    got: Vec<(Statement, Reply)>,
    /// Statements that did not find the records that they were to change.
    missed: Vec<Statement>,
    /// The tables that a LOAD covers on this ProxySQL, the server table first.
    tables: Vec<Table>,
    kept: BTreeMap<Table, Content>,
    target: BTreeMap<Table, Content>,
    /// The copies in `main` are from this apply, and not from an earlier one.
    copied: bool,
    /// The disk table carries this apply's mark, which a SAVE removes.
    watched: bool,
    /// An earlier apply left the note of such a mark.
    watched_earlier: bool,
    /// Memory may differ from `kept`, and has to be put back.
    lent: bool,
    /// This apply's LOAD was carried out.
    live: bool,
    /// An earlier apply left a note of returns.
    noted_earlier: bool,
    /// Fenced nodes whose hidden sessions were looked for, as noted in `main`.
    ended: BTreeSet<Node>,
    /// That note is there.
    noted_ended: bool,
    /// Noted returns: live or about to be, and not on disk yet.
    returns: BTreeMap<Node, Role>,
    /// Runtime's version before this apply's LOAD. Each LOAD adds one, and nothing else does (facts §1).
    version: Option<u64>,
    /// The version in the end, if nobody else LOADs while memory is lent.
    expected: Option<u64>,
    /// Somebody else LOADed. Their staged edits are being loaded for them.
    for_them: bool,
    /// Records that this apply's LOAD took live while somebody was editing them. The next LOAD takes the target's live.
    undo: BTreeSet<(Table, Record)>,
    /// The number of times that another applier's copies were in the way.
    in_the_way: u32,
    broken_off: Option<BrokenOff>,
    done: Done,
}

impl Apply {
    /// An apply of this plan. `owner` must be a name that no other process has, now or later. `tables` are those that a
    /// LOAD covers on this ProxySQL, or on any: what is staged in one would go live if it were not among them.
    pub fn new(plan: Plan, owner: String, tables: Vec<Table>) -> Self {
        // Sharing a lease needs no lock. The holder of the lock must not decide whether another agent isolates.
        let share = plan.lease_action.map(|share| match share {
            LeaseAction::Keep { good_ms } => Statement::LeaveLease { owner: owner.clone(), good_s: good_ms / 1_000 },
            LeaseAction::Want => Statement::WantLease,
            LeaseAction::End => Statement::DropLease,
        });
        let mut apply = Self {
            plan,
            owner,
            phase: Phase::Start,
            queue: share.into_iter().collect(),
            asked: None,
            got: Vec::new(),
            missed: Vec::new(),
            tables,
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
        };
        apply.phase = apply.begin();
        apply
    }

    /// Takes the reply to the last statement (`None` the first time), and returns the next step.
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
            Reply::Refused(error) if statement.is_about_the_pause() => self.done.pause_refused(&statement, &error),
            // A fence does not depend on these answers.
            Reply::Refused(error) if statement.is_about_sessions() => self.got.push((statement, Reply::Refused(error))),
            Reply::Refused(_) if statement.is_about_saves() => {}
            // Without the checksums nothing shows whose LOAD it was. The apply goes on.
            Reply::Refused(_) if matches!(statement, Statement::Read { table, .. } if table == recheck::CHECKSUMS) => {}
            Reply::Refused(error) => self.fail(&statement, error),
            // Another applier has taken over the lock and the copies, and finishes this apply's work.
            Reply::Changed(0) if matches!(statement, Statement::RenewLock { .. }) => {
                self.queue.clear();
                self.phase = Phase::Over(Outcome::LostLock);
            }
            Reply::Exists if matches!(statement, Statement::LeaveLease { .. }) => {
                if let Statement::LeaveLease { owner, good_s } = statement {
                    self.queue.push_front(Statement::RenewLease { owner, good_s });
                }
            }
            // An applier that lost the lock to this one has made copies meanwhile. They are put back like those of any
            // earlier apply.
            Reply::Exists if matches!(statement, Statement::Copy { .. }) => {
                self.queue.clear();
                self.got.clear();
                (self.copied, self.watched) = (false, false);
                self.in_the_way += 1;
                self.phase =
                    if self.in_the_way > IN_THE_WAY_MAX { Phase::Over(Outcome::LostLock) } else { Phase::Locked };
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

    /// Ends the apply early, after putting memory back if it is lent. If that fails too, the copies stay for the next
    /// apply.
    fn fail(&mut self, statement: &Statement, error: String) {
        self.queue.clear();
        self.got.clear();
        let failed = BrokenOff::Failed { statement: statement.to_string(), error };
        let again = matches!(self.broken_off, Some(BrokenOff::Failed { .. }));
        if !again {
            self.broken_off = Some(failed);
        }
        let locked = !matches!(self.phase, Phase::Pausing { .. } | Phase::Start | Phase::Locking { .. });
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

    /// One match on the phase: takes its replies, asks the next statements, and returns the next phase.
    fn advance(&mut self, phase: Phase, got: Vec<(Statement, Reply)>) -> Phase {
        match phase {
            Phase::Pausing { looks } => self.pausing(looks, got),
            Phase::Start => {
                self.keep_tables(&got);
                self.ask([Statement::TakeLock { owner: self.owner.clone() }]);
                Phase::Locking { tries: 1 }
            }
            Phase::Locking { tries } => match lock::next(&self.owner, tries, got.into_iter().next()) {
                LockStep::Held => {
                    self.ask([Statement::Names]);
                    Phase::Locked
                }
                LockStep::Ask(statement, tries) => {
                    self.ask([statement]);
                    Phase::Locking { tries }
                }
                LockStep::Busy(owner) => Phase::Over(Outcome::Busy { owner }),
            },
            Phase::Locked => self.finish_earlier(&got),
            Phase::Finishing => self.put_back_earlier(got),
            Phase::RowsRead(writing) => self.write_rows(writing, got),
            Phase::RowsWritten(writing) => self.rows_written(writing),
            Phase::LimitsRead => self.write_limits(got),
            Phase::Keeping => self.lend(got),
            Phase::Lent => self.look(0, Look::Before),
            Phase::Looking { checks, look } => self.looked(got, checks, look),
            Phase::Settled { checks, look } => self.look(checks, look),
            Phase::Loading { checks } => self.loaded(checks),
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
            Phase::Unlocking => self.over_or_resume(),
            Phase::Resuming => self.resuming(&got),
            Phase::Over(outcome) => Phase::Over(outcome),
        }
    }

    fn loaded(&mut self, checks: u32) -> Phase {
        self.live = true;
        self.expected = self.expected.map(|version| version + 1);
        self.look(checks, Look::After)
    }

    /// Keeps the tables that this ProxySQL has.
    fn keep_tables(&mut self, got: &[(Statement, Reply)]) {
        if let Some((_, Reply::Names(names))) = got.last() {
            self.tables.retain(|table| names.contains(table.name()));
        }
    }

    /// Begins the plan itself, after the lock was taken and an earlier apply was finished.
    fn begin_plan(&mut self) -> Phase {
        if self.plan.changes.is_empty() && self.plan.limits.is_empty() {
            return self.put_back();
        }
        // Fences go to disk first, so that a restart of ProxySQL at any moment keeps them (I10).
        self.read_rows(Writing { place: Place::Disk, fences: true, tries: 1 })
    }

    fn read_rows(&mut self, writing: Writing) -> Phase {
        self.ask([Statement::Read { place: writing.place, table: SERVERS }]);
        Phase::RowsRead(writing)
    }

    /// Carries the plan out on the rows that were read.
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
        if self.plan.changes.iter().any(|change| change.layer == Layer::Runtime) || !self.plan.limits.is_empty() {
            let tables = self.tables.clone();
            self.copied = true;
            self.ask([Statement::Read { place: Place::Runtime, table: recheck::CHECKSUMS }]);
            self.ask([Statement::NoteWatch, Statement::MarkDisk]);
            // Runtime is copied first. Then an edit that somebody makes and LOADs between the copies shows as an edit.
            for (from, to) in [(Place::Runtime, Place::Target), (Place::Memory, Place::Kept)] {
                self.ask(tables.iter().map(|table| Statement::Copy { from, to, table: *table }));
            }
            for place in [Place::Kept, Place::Target] {
                self.ask(tables.iter().map(|table| Statement::Read { place, table: *table }));
            }
            Phase::Keeping
        } else {
            // Runtime is as planned already. Memory alone is changed, without a LOAD.
            self.read_rows(Writing { place: Place::Memory, fences: false, tries: 1 })
        }
    }

    /// Carries the plan out on both copies, and makes memory the target.
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
            // A return goes into `kept` only once it is live. Until then, putting memory back leaves the node fenced.
            let rows = if live { plan.carry_out(&live_rows(rows)) } else { fences.carry_out(&rows) };
            Ok(content.with_rows(&rows))
        };
        let both = match (lent.get(&SERVERS), self.target.get(&SERVERS)) {
            (Some(kept), Some(target)) => planned(kept, false).and_then(|kept| Ok((kept, planned(target, true)?))),
            _ => Err("a copy of mysql_servers is missing".to_owned()),
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
                false if table == ATTRIBUTES => self.plan.limits.carry_out(&runtime),
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

    /// Writes the plan to disk, returns included: a restart before that finds the node still fenced. Fences are there
    /// already unless somebody saved to disk meanwhile.
    fn disk_last(&mut self) -> Phase {
        if self.broken_off.is_some() {
            return self.unlock();
        }
        if !self.plan.limits.is_empty() && self.tables.contains(&ATTRIBUTES) {
            self.ask([Statement::Read { place: Place::Disk, table: ATTRIBUTES }]);
            return Phase::LimitsRead;
        }
        self.disk_rows_last()
    }

    fn write_limits(&mut self, got: Vec<(Statement, Reply)>) -> Phase {
        for (_, reply) in got {
            if let Reply::Content(disk) = reply {
                let limited = self.plan.limits.carry_out(&disk);
                self.swap_content(Place::Disk, ATTRIBUTES, &disk, &limited);
            }
        }
        self.disk_rows_last()
    }

    fn disk_rows_last(&mut self) -> Phase {
        if self.plan.changes.is_empty() {
            return self.unlock();
        }
        self.read_rows(Writing { place: Place::Disk, fences: false, tries: 1 })
    }

    fn unlock(&mut self) -> Phase {
        self.drop_returns();
        self.ask([Statement::DropLock { owner: self.owner.clone() }]);
        Phase::Unlocking
    }

    /// The plan without its returns. What the hooks did is repaired with the fences.
    fn fences(&self) -> Plan {
        let fences = self.plan.directives.iter().filter(|(_, d)| matches!(d, Directive::Fence { .. }));
        let directives = fences.map(|(n, d)| (n.clone(), d.clone())).collect();
        let Plan { managed, hooks, .. } = self.plan.clone();
        Plan { directives, managed, hooks, ..Plan::default() }
    }

    /// Turns one content into another, record by record. A record that an earlier statement missed although nobody
    /// changed it goes by its key.
    fn swap_content(&mut self, place: Place, table: Table, from: &Content, to: &Content) {
        let stuck = self.take_stuck(place, table, from);
        self.ask(statement::swaps(place, table, from, to, &stuck));
    }

    /// The records that no comparison finds: a statement missed them, and they are as they were.
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

/// Runtime's rows as a LOAD must have them (facts §2): SHUNNED becomes ONLINE, since a loaded SHUNNED can stick for
/// good. Ghosts are left out.
fn live_rows(rows: Vec<Row>) -> Vec<Row> {
    rows.into_iter()
        .filter(|row| row.status != Status::OfflineHard)
        .map(|row| if row.status == Status::Shunned { Row { status: Status::Online, ..row } } else { row })
        .collect()
}
