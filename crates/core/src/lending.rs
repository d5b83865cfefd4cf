//! How one record of this program gets into the scheduler's table without a word of what others have staged there (I6).
//! A state machine without I/O, in the manner of [`crate::apply`], and under the same lock (I12).
//!
//! | phase | waits for | next |
//! | --- | --- | --- |
//! | `Locking` | the lock, or whose it is | `Locked`; `Busy` |
//! | `Locked` | what an earlier install left | `PuttingBack(Earlier)`; `LayersRead` |
//! | `LayersRead` | the three layers | `Copied`; `DiskRead` if runtime has the record already |
//! | `Copied` | the copies of runtime and memory | `Looking(Before)` |
//! | `Looking(Before)` | memory is the target, and runtime has not moved | `Looking(After)` with the LOAD; put off |
//! | `Looking(After)` | whether the LOAD took somebody's edit live; then it is loaded out again | `PuttingBack(Ours)` |
//! | `PuttingBack` | memory put back | `PutBack`; `LayersRead` (earlier) |
//! | `PutBack` | whether somebody SAVEd or LOADed lent records | `DiskRead`; `Unlocking` |
//! | `DiskRead` | the disk table | `Unlocking` |
//! | `Unlocking` | the lock dropped | `Over` |
//!
//! LOAD makes runtime equal to memory, and SAVE makes disk equal to memory. So memory is lent: it becomes runtime with
//! the record, is loaded, and becomes what it was, with the record. Disk gets the record alone. A run that is cut off
//! leaves both copies of the table in `main`, and the next apply or install puts memory back from them (I10).
//!
//! ProxySQL does not count the LOADs of the scheduler. So an edit that is found live after the LOAD counts as taken
//! live by it, and is loaded out again: it stays staged, and the report names it.

use std::collections::{BTreeSet, VecDeque};

use crate::apply::lock::{self, LockStep};
use crate::apply::merge;
use crate::apply::{Place, Reply, Statement, Step, copy_name};
use crate::table::{Change, Content, Record, SCHEDULER};

/// One table's three layers.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Layers {
    /// What is in force.
    pub runtime: Content,
    /// What is being edited.
    pub memory: Content,
    /// What a restart loads.
    pub disk: Content,
}

/// This program's own record: how it is known, and what becomes of it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct OwnRecord {
    /// The column that tells whose a record is.
    pub column: &'static str,
    /// Its value in a record of this program.
    pub note: &'static str,
    /// The record that has to be there; none if it goes.
    pub record: Option<Record>,
}

impl OwnRecord {
    /// Whether a record is this program's.
    pub fn is_ours(&self, columns: &[String], record: &Record) -> bool {
        let at = columns.iter().position(|column| column == self.column);
        at.and_then(|at| record.get(at)?.as_deref()) == Some(self.note)
    }

    /// The content of one layer afterwards. `None`: somebody else's record has the key. On its own outcome it changes
    /// nothing.
    pub fn carry_out(&self, content: &Content) -> Option<Content> {
        let mut after = content.clone();
        after.records.retain(|_, record| !self.is_ours(&content.columns, record));
        if let Some(record) = &self.record {
            let key = merge::key(SCHEDULER, record);
            if after.records.contains_key(&key) {
                return None;
            }
            after.records.insert(key, record.clone());
        }
        Some(after)
    }

    /// Whether every layer has it as it has to be.
    pub fn is_carried_out(&self, layers: &Layers) -> bool {
        let all = [&layers.runtime, &layers.memory, &layers.disk];
        all.into_iter().all(|content| self.carry_out(content).as_ref() == Some(content))
    }
}

/// The results of a lending.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Lent {
    /// An earlier install was finished first.
    pub finished_earlier: bool,
    /// The number of edits by somebody else meanwhile. They stay staged.
    pub edits_kept: u64,
    /// The keys of records that were edited at the moment of the LOAD, were live for a moment, and are staged again.
    pub loaded_out: Vec<String>,
    /// Somebody LOADed while memory was lent. `true`: their staged edits were loaded for them.
    pub load_made_up: Option<bool>,
    /// Somebody SAVEd to disk while memory was lent. `true`: their staged edits were saved for them.
    pub save_made_up: Option<bool>,
    /// The error of the disk layer. A restart of ProxySQL would lose the record.
    pub disk_error: Option<String>,
}

/// How a lending ended.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum LendingOutcome {
    /// The record was carried out.
    Applied(Lent),
    /// Memory or runtime kept changing, or somebody took the key. Memory was put back.
    PutOff(Lent),
    /// Another applier holds the lock, or took it over.
    Busy {
        /// The lock's owner.
        owner: String,
    },
    /// ProxySQL refused a statement. Memory was put back unless ProxySQL refused that too.
    Failed {
        /// The statement's short form.
        statement: String,
        /// ProxySQL's error.
        error: String,
    },
}

/// The most looks that find memory edited.
const CHECKS_MAX: u32 = 3;

/// The most attempts to put back records that somebody edits meanwhile.
const PUT_BACK_TRIES_MAX: u32 = 3;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Whose {
    Earlier,
    Ours,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Look {
    /// Runtime is read before memory, so that a record which somebody edits and LOADs in between counts as an edit.
    Before,
    /// Memory is read before runtime, so that an edit which is seen there was there at the LOAD, if it is live.
    After,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Phase {
    Locking { tries: u32 },
    Locked,
    LayersRead,
    Copied,
    Looking { checks: u32, look: Look },
    PuttingBack { whose: Whose, tries: u32 },
    PutBack,
    DiskRead,
    Unlocking,
    Over(LendingOutcome),
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum BrokenOff {
    PutOff,
    Failed { statement: String, error: String },
}

/// One change of the scheduler's table.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Lending {
    change: OwnRecord,
    owner: String,
    phase: Phase,
    queue: VecDeque<Statement>,
    asked: Option<Statement>,
    got: Vec<(Statement, Reply)>,
    /// Memory as it was found.
    found: Content,
    /// What memory is put back to.
    kept: Content,
    /// What goes live.
    target: Content,
    /// Runtime as it has to be if nobody else LOADs.
    expected: Content,
    /// Disk as it was found.
    disk: Content,
    /// The copies in `main` are there, or may be.
    copied: bool,
    /// The LOAD was carried out.
    live: bool,
    broken_off: Option<BrokenOff>,
    done: Lent,
}

impl Lending {
    /// A lending of the scheduler's table. `owner` must be a name that no other process has, now or later.
    pub fn new(change: OwnRecord, owner: String) -> Self {
        let first = Statement::TakeLock { owner: owner.clone() };
        Self {
            change,
            owner,
            phase: Phase::Locking { tries: 1 },
            queue: [first].into(),
            asked: None,
            got: Vec::new(),
            found: Content::default(),
            kept: Content::default(),
            target: Content::default(),
            expected: Content::default(),
            disk: Content::default(),
            copied: false,
            live: false,
            broken_off: None,
            done: Lent::default(),
        }
    }

    /// Takes the reply to the last statement (`None` the first time), and returns the next step.
    pub fn next(&mut self, reply: Option<Reply>) -> Step<LendingOutcome> {
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
            Reply::Refused(error) if is_disk_write(&statement) => {
                if statement == Statement::SaveScheduler {
                    self.done.save_made_up = Some(false);
                }
                self.done.disk_error = Some(error);
            }
            Reply::Refused(error) => self.fail(&statement, error),
            // Another applier has taken over the lock and the copies, and finishes this work.
            Reply::Changed(0) if matches!(statement, Statement::RenewLock { .. }) => self.lose(),
            // An applier that lost the lock to this one has made copies meanwhile. The next attempt puts them back.
            Reply::Exists if matches!(statement, Statement::Copy { .. }) => self.lose(),
            reply => {
                if statement == Statement::LoadScheduler {
                    (self.expected, self.live) = (self.target.clone(), true);
                }
                self.got.push((statement, reply));
            }
        }
    }

    fn lose(&mut self) {
        self.queue.clear();
        self.phase = Phase::Over(LendingOutcome::Busy { owner: "unknown".to_owned() });
    }

    /// Ends early, after putting memory back. If that fails too, the copies stay for the next run.
    fn fail(&mut self, statement: &Statement, error: String) {
        self.queue.clear();
        self.got.clear();
        let again = matches!(self.broken_off, Some(BrokenOff::Failed { .. }));
        if !again {
            self.broken_off = Some(BrokenOff::Failed { statement: statement.to_string(), error });
        }
        let is_locked = !matches!(self.phase, Phase::Locking { .. });
        self.phase = if again || !is_locked { self.over() } else { self.put_back() };
    }

    fn over(&mut self) -> Phase {
        let done = std::mem::take(&mut self.done);
        Phase::Over(match self.broken_off.take() {
            Some(BrokenOff::Failed { statement, error }) => LendingOutcome::Failed { statement, error },
            Some(BrokenOff::PutOff) => LendingOutcome::PutOff(done),
            None => LendingOutcome::Applied(done),
        })
    }

    fn ask(&mut self, statements: impl IntoIterator<Item = Statement>) {
        self.queue.extend(statements);
    }

    fn read(&mut self, places: &[Place]) {
        self.ask(places.iter().map(|place| Statement::Read { place: *place, table: SCHEDULER }));
    }

    fn renew(&mut self) {
        self.ask([Statement::RenewLock { owner: self.owner.clone() }]);
    }

    /// Turns one content into another, record by record. A record that somebody changed meanwhile stays as they set it.
    fn swap_content(&mut self, place: Place, from: &Content, to: &Content) {
        let swap = |change| Statement::Swap { place, table: SCHEDULER, change };
        self.ask(from.changes_to(to).into_iter().map(swap));
    }

    /// One match on the phase: takes its replies, asks the next statements, and returns the next phase.
    fn advance(&mut self, phase: Phase, got: Vec<(Statement, Reply)>) -> Phase {
        let names = got.iter().find_map(|(_, reply)| if let Reply::Names(names) = reply { Some(names) } else { None });
        let content = |wanted: Place| {
            got.iter().rev().find_map(|(statement, reply)| match (statement, reply) {
                (Statement::Read { place, .. }, Reply::Content(content)) if *place == wanted => Some(content.clone()),
                _ => None,
            })
        };
        let [runtime, memory, disk] = [Place::Runtime, Place::Memory, Place::Disk].map(content);
        match phase {
            Phase::Locking { tries } => match lock::next(&self.owner, tries, got.into_iter().next()) {
                LockStep::Held => {
                    self.ask([Statement::Names]);
                    Phase::Locked
                }
                LockStep::Ask(statement, tries) => {
                    self.ask([statement]);
                    Phase::Locking { tries }
                }
                LockStep::Busy(owner) => Phase::Over(LendingOutcome::Busy { owner }),
            },
            Phase::Locked => self.finish_earlier(names),
            Phase::LayersRead => match (runtime, memory, disk) {
                (Some(runtime), Some(memory), Some(disk)) => self.lend_or_edit(runtime, &memory, disk),
                _ => self.unlock(),
            },
            Phase::Copied => match (content(Place::Target), content(Place::Kept)) {
                (Some(runtime), Some(kept)) => self.lend(runtime, kept),
                _ => self.put_back(),
            },
            Phase::Looking { checks, look } => match (runtime, memory, look) {
                (Some(runtime), Some(memory), Look::Before) => self.looked_before(&runtime, &memory, checks),
                (Some(runtime), Some(memory), Look::After) => self.looked_after(runtime, &memory, checks),
                _ => self.put_back(),
            },
            Phase::PuttingBack { whose, tries } => {
                if let (Some(kept), Some(target)) = (content(Place::Kept), content(Place::Target)) {
                    (self.kept, self.target) = (kept, target);
                }
                self.putting_back(whose, tries, memory.as_ref())
            }
            Phase::PutBack => self.make_up(disk.as_ref(), runtime.as_ref()),
            Phase::DiskRead => {
                if let Some((disk, after)) = disk.as_ref().and_then(|disk| Some((disk, self.change.carry_out(disk)?))) {
                    self.swap_content(Place::Disk, disk, &after);
                }
                self.unlock()
            }
            Phase::Unlocking => self.over(),
            Phase::Over(outcome) => Phase::Over(outcome),
        }
    }

    /// Reads what an earlier install left in `main`, to put memory back.
    fn finish_earlier(&mut self, names: Option<&BTreeSet<String>>) -> Phase {
        let is_left = |place| names.is_some_and(|names| names.contains(&copy_name(place, SCHEDULER)));
        let [kept, target] = [Place::Kept, Place::Target].map(is_left);
        if kept && target {
            self.read(&[Place::Kept, Place::Target, Place::Memory]);
            return Phase::PuttingBack { whose: Whose::Earlier, tries: 1 };
        }
        // With one copy left, memory was put back already.
        let left = [(kept, Place::Kept), (target, Place::Target)].into_iter().filter(|(is_left, _)| *is_left);
        self.ask(left.map(|(_, place)| Statement::Drop { place, table: SCHEDULER }));
        self.begin()
    }

    fn begin(&mut self) -> Phase {
        self.read(&[Place::Runtime, Place::Memory, Place::Disk]);
        Phase::LayersRead
    }

    /// Lends memory if runtime lacks the record. Otherwise memory and disk get it without a LOAD.
    fn lend_or_edit(&mut self, runtime: Content, memory: &Content, disk: Content) -> Phase {
        let after = [&runtime, memory, &disk].map(|layer| self.change.carry_out(layer));
        let [Some(live), Some(staged), Some(_)] = after else {
            self.broken_off = Some(BrokenOff::PutOff); // somebody took the key since it was chosen
            return self.unlock();
        };
        self.disk = disk;
        self.renew();
        if live == runtime {
            self.swap_content(Place::Memory, memory, &staged);
            self.read(&[Place::Disk]);
            return Phase::DiskRead;
        }
        self.copied = true;
        // Runtime is copied first. Then an edit that somebody makes and LOADs between the copies shows as an edit.
        for (from, to) in [(Place::Runtime, Place::Target), (Place::Memory, Place::Kept)] {
            self.ask([Statement::Copy { from, to, table: SCHEDULER }]);
        }
        self.read(&[Place::Kept, Place::Target]);
        Phase::Copied
    }

    /// Makes memory the target.
    fn lend(&mut self, runtime: Content, kept: Content) -> Phase {
        let target = self.change.carry_out(&runtime).filter(|_| kept.columns == runtime.columns);
        let Some(target) = target else {
            self.broken_off = Some(BrokenOff::PutOff);
            (self.kept, self.target, self.expected) = (kept, runtime.clone(), runtime);
            return self.put_back();
        };
        self.swap_content(Place::Target, &runtime, &target);
        self.swap_content(Place::Memory, &kept, &target);
        self.found = kept.clone();
        (self.kept, self.target, self.expected) = (kept, target, runtime);
        self.look_before(0)
    }

    fn look_before(&mut self, checks: u32) -> Phase {
        self.renew();
        self.read(&[Place::Runtime, Place::Memory]);
        Phase::Looking { checks, look: Look::Before }
    }

    /// Sends the LOAD if memory is the target to the byte and nobody else has LOADed. Otherwise looks again, or puts
    /// the change off.
    fn looked_before(&mut self, runtime: &Content, memory: &Content, checks: u32) -> Phase {
        let is_edited = !self.fold_edits(memory).is_empty();
        let is_moved = *runtime != self.expected;
        if is_moved {
            self.done.load_made_up = Some(false);
        }
        if is_edited && checks < CHECKS_MAX {
            return self.look_before(checks + 1);
        }
        if is_edited || is_moved {
            if self.live {
                return self.put_back_with_record();
            }
            self.broken_off = Some(BrokenOff::PutOff);
            return self.put_back();
        }
        self.ask([Statement::LoadScheduler]);
        self.read(&[Place::Memory, Place::Runtime]);
        Phase::Looking { checks, look: Look::After }
    }

    /// Loads again if the LOAD took an edit live. Otherwise the record is kept from here on.
    fn looked_after(&mut self, runtime: Content, memory: &Content, checks: u32) -> Phase {
        let edited = self.fold_edits(memory);
        let is_live = |key: &&Record| runtime.records.get(*key) != self.target.records.get(*key);
        let live: Vec<String> = edited.iter().filter(is_live).map(shown).collect();
        self.expected = runtime;
        if !live.is_empty() && checks < CHECKS_MAX {
            self.done.loaded_out.extend(live);
            return self.look_before(checks + 1);
        }
        self.put_back_with_record()
    }

    fn put_back_with_record(&mut self) -> Phase {
        if let Some(kept) = self.change.carry_out(&self.kept) {
            let before = std::mem::replace(&mut self.kept, kept.clone());
            self.swap_content(Place::Kept, &before, &kept);
        }
        self.put_back()
    }

    /// Moves each difference between memory and the target into `kept`, where it stays staged. It is somebody's edit.
    fn fold_edits(&mut self, memory: &Content) -> Vec<Record> {
        let mut edited = Vec::new();
        for change in self.target.changes_to(memory) {
            let key = merge::key(SCHEDULER, change.either());
            let kept = self.kept.records.get(&key).cloned();
            let wanted = merge::merged(SCHEDULER, &memory.columns, change.from(), change.to(), kept.as_ref());
            let refold = Change::between(kept, wanted.clone());
            self.ask(refold.map(|change| Statement::Swap { place: Place::Kept, table: SCHEDULER, change }));
            self.ask([Statement::Swap { place: Place::Memory, table: SCHEDULER, change: change.reversed() }]);
            merge::put(&mut self.kept, &key, wanted);
            self.done.edits_kept += 1;
            edited.push(key);
        }
        edited
    }

    fn put_back(&mut self) -> Phase {
        if !self.copied {
            return self.unlock();
        }
        self.renew();
        self.read(&[Place::Memory]);
        Phase::PuttingBack { whose: Whose::Ours, tries: 1 }
    }

    /// Puts back what memory shows as lent, until it shows nothing of that.
    fn putting_back(&mut self, whose: Whose, tries: u32, memory: Option<&Content>) -> Phase {
        if let Some(memory) = memory {
            let back = merge::put_back(SCHEDULER, memory, &self.target, &self.kept);
            if back != *memory && tries <= PUT_BACK_TRIES_MAX {
                self.renew();
                self.swap_content(Place::Memory, memory, &back);
                self.read(&[Place::Memory]);
                return Phase::PuttingBack { whose, tries: tries + 1 };
            }
        }
        match whose {
            Whose::Earlier => {
                self.done.finished_earlier = true;
                self.drop_copies();
                self.begin()
            }
            Whose::Ours => {
                self.read(&[Place::Disk, Place::Runtime]);
                Phase::PutBack
            }
        }
    }

    /// Makes up for a SAVE and a LOAD of lent records: memory, with what they had staged, is saved or loaded for them. It
    /// is not loaded if somebody edited meanwhile, since that edit may not be meant to be live.
    fn make_up(&mut self, disk: Option<&Content>, runtime: Option<&Content>) -> Phase {
        self.renew();
        let is_refused = matches!(self.broken_off, Some(BrokenOff::Failed { .. }));
        if !is_refused && runtime.is_some_and(|runtime| *runtime != self.expected) {
            self.done.load_made_up = Some(false);
        }
        if let Some(disk) = disk.filter(|disk| **disk != self.disk) {
            let is_saved = is_mix(disk, [&self.found, &self.kept, &self.target]);
            self.done.save_made_up = Some(is_saved);
            self.ask(is_saved.then_some(Statement::SaveScheduler));
        }
        if !is_refused && self.done.load_made_up.is_some() && self.done.edits_kept == 0 {
            self.done.load_made_up = Some(true);
            self.ask([Statement::LoadScheduler]);
        }
        self.drop_copies();
        if self.broken_off.is_some() {
            return self.unlock();
        }
        self.read(&[Place::Disk]);
        Phase::DiskRead
    }

    /// Drops the target first: a kept copy alone means that memory was put back.
    fn drop_copies(&mut self) {
        self.copied = false;
        self.ask([Place::Target, Place::Kept].map(|place| Statement::Drop { place, table: SCHEDULER }));
    }

    fn unlock(&mut self) -> Phase {
        self.ask([Statement::DropLock { owner: self.owner.clone() }]);
        Phase::Unlocking
    }
}

/// Whether it writes the disk table. The record is live then, and such an error is told.
fn is_disk_write(statement: &Statement) -> bool {
    statement.place() == Some(Place::Disk) && !matches!(statement, Statement::Read { .. })
}

/// Whether each record is from one of these: memory at some moment of the lending.
fn is_mix(content: &Content, of: [&Content; 3]) -> bool {
    let keys = of.into_iter().chain([content]).flat_map(|content| content.records.keys());
    keys.into_iter().all(|key| of.iter().any(|one| one.records.get(key) == content.records.get(key)))
}

fn shown(key: &Record) -> String {
    key.iter().map(|value| value.as_deref().unwrap_or("NULL")).collect::<Vec<_>>().join("/")
}
