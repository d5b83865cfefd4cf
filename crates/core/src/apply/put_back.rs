//! Puts memory back after this apply, or after an earlier one that was cut off, whichever agent's it was (I10).
//!
//! **Invariant:** putting back is always right. A record of memory that equals the target's becomes the kept one. Any
//! other record is untouched or somebody's edit. If only one of the two copies is left, memory was put back already.

use std::collections::{BTreeMap, BTreeSet};

use super::recheck;
use super::statement::key_record;
use super::{Apply, DRAIN_NAME, ENDED_NAME, EXTENDED_NAME, Phase, Place, RETURNS_NAME, Reply, Statement, merge};
use crate::table::{Content, Record, SCHEDULER, SERVERS, Table};

/// The table in `main` that notes the mark of the disk table, by which a SAVE is seen.
pub const WATCHED_NAME: &str = "stonith_watched";

/// The table in `main` that shows that tables can be made there. Whoever has the lock makes and drops it.
pub const SCRATCH_NAME: &str = "stonith_scratch";

/// The most attempts to put back records that somebody edits meanwhile.
const PUT_BACK_TRIES_MAX: u32 = 3;

/// The apply whose copies are put back: an earlier one or this one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Whose {
    Earlier,
    Ours,
}

/// The progress of putting memory back.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct PutBack {
    whose: Whose,
    tries: u32,
    /// Records that were no longer as they had been lent.
    missed: BTreeSet<(Table, Record)>,
}

impl Apply {
    /// Reads what an earlier apply left in `main`.
    pub(super) fn finish_earlier(&mut self, got: &[(Statement, Reply)]) -> Phase {
        let none = BTreeSet::new();
        let names = match got.last() {
            Some((_, Reply::Names(names))) => names,
            _ => &none,
        };
        self.noted_earlier = names.contains(RETURNS_NAME);
        self.noted_ended = names.contains(ENDED_NAME);
        self.watched_earlier = names.contains(WATCHED_NAME);
        if names.contains(SCRATCH_NAME) {
            self.ask([Statement::DropScratch]);
            self.done.finished_earlier = true;
        }
        if names.contains(EXTENDED_NAME) {
            self.ask([Statement::SetExtended(false), Statement::Variables]);
            self.done.finished_earlier = true;
        }
        if names.contains(DRAIN_NAME) {
            self.ask([Statement::ReadDrain]);
        }
        let left = |place: Place, table: &Table| names.contains(&copy_name(place, *table));
        // An `install` that was cut off leaves copies of the scheduler's table.
        let tables: Vec<Table> = self.tables.iter().copied().chain([SCHEDULER]).collect();
        for table in tables {
            match (left(Place::Kept, &table), left(Place::Target, &table)) {
                (true, true) => {
                    for place in [Place::Kept, Place::Target, Place::Memory] {
                        self.ask([Statement::Read { place, table }]);
                    }
                }
                (true, false) => self.ask([Statement::Drop { place: Place::Kept, table }]),
                (false, true) => self.ask([Statement::Drop { place: Place::Target, table }]),
                (false, false) => continue,
            }
            self.done.finished_earlier = true;
        }
        Phase::Finishing
    }

    pub(super) fn put_back_earlier(&mut self, got: Vec<(Statement, Reply)>) -> Phase {
        let mut memory: BTreeMap<Table, Content> = BTreeMap::new();
        for (statement, reply) in got {
            if let Reply::Variables(seen) = reply {
                self.hide_holders(Some(seen));
            } else if let Reply::Drain { left_over, staged } = reply {
                if left_over {
                    self.end_drain(staged);
                }
            } else if let (Statement::Read { place, table }, Reply::Content(content)) = (statement, reply) {
                match place {
                    Place::Kept => drop(self.kept.insert(table, content)),
                    Place::Target => drop(self.target.insert(table, content)),
                    _ => drop(memory.insert(table, content)),
                }
            }
        }
        if !memory.is_empty() {
            self.ask([Statement::RenewLock { owner: self.owner.clone() }]);
        }
        for (table, memory) in memory {
            let all = [&self.target[&table], &self.kept[&table], &memory];
            let keys = all.into_iter().flat_map(|content| content.records.keys()).cloned().collect();
            self.put_back_merged(table, &memory, &keys);
        }
        self.missed.clear();
        Phase::PuttingBack(PutBack { whose: Whose::Earlier, tries: 1, missed: BTreeSet::new() })
    }

    /// Turns the lent memory back into the kept one. Records that somebody changed meanwhile stay as they set them.
    pub(super) fn put_back(&mut self) -> Phase {
        self.ask([Statement::RenewLock { owner: self.owner.clone() }]);
        self.missed.clear();
        if self.lent {
            for table in self.tables.clone() {
                if let (Some(target), Some(kept)) = (self.target.get(&table).cloned(), self.kept.get(&table).cloned()) {
                    self.swap_content(Place::Memory, table, &target, &kept);
                }
            }
        }
        Phase::PuttingBack(PutBack { whose: Whose::Ours, tries: 1, missed: BTreeSet::new() })
    }

    /// Reads the records again that were not as they had been lent. If there are none, memory is put back.
    pub(super) fn putting_back(&mut self, mut back: PutBack) -> Phase {
        back.missed = self.missed.iter().flat_map(missed).collect();
        if !back.missed.is_empty() && back.tries < PUT_BACK_TRIES_MAX {
            back.tries += 1;
            let tables: BTreeSet<Table> = back.missed.iter().map(|(table, _)| *table).collect();
            self.ask(tables.into_iter().map(|table| Statement::Read { place: Place::Memory, table }));
            return Phase::Missed(back);
        }
        self.lent = false;
        // Without copies nothing was lent. The earlier apply may have noted the mark without setting it.
        let watched = match back.whose {
            Whose::Earlier => self.watched_earlier && !self.target.is_empty(),
            Whose::Ours => self.watched,
        };
        self.ask(watched.then_some(Statement::WasSaved));
        Phase::Watched(back.whose)
    }

    /// Makes up for a SAVE of lent rows: memory, with what they had staged, is saved for them. The copies are dropped
    /// after that, so that a crash in between does not lose the edit.
    pub(super) fn end_watch(&mut self, whose: Whose, got: &[(Statement, Reply)]) -> Phase {
        let saved = got.contains(&(Statement::WasSaved, Reply::Saved(true)));
        if saved && self.done.disk_error.is_none() {
            let makes_up = self.plan.loads_are_operators;
            self.done.save_made_up = Some(makes_up);
            if makes_up {
                self.ask([Statement::RenewLock { owner: self.owner.clone() }, Statement::Save]);
            }
        }
        self.drop_copies(whose);
        if self.copied || self.watched_earlier {
            self.ask([Statement::DropWatch]);
        }
        (self.watched, self.watched_earlier) = (false, false);
        Phase::Dropped(whose)
    }

    /// Counts the LOADs since memory was lent.
    pub(super) fn count_loads(&mut self) -> Phase {
        if self.expected.is_none() || self.broken_off.is_some() {
            return self.begin_sessions();
        }
        self.ask([Statement::Read { place: Place::Runtime, table: recheck::CHECKSUMS }]);
        Phase::Counting
    }

    /// Makes up for somebody's LOAD of lent rows, once: their staged edits are loaded for them, with the placements
    /// that the monitor gave to rows meanwhile (I5).
    pub(super) fn loads_counted(&mut self, got: &[(Statement, Reply)]) -> Phase {
        let now = got.iter().find_map(|(_, reply)| match reply {
            Reply::Content(content) => recheck::counts_loads(content),
            _ => None,
        });
        if now.is_none_or(|now| Some(now) <= self.expected) {
            return self.begin_sessions();
        }
        let makes_up = self.plan.loads_are_operators && !self.for_them;
        self.done.load_made_up = Some(makes_up || (self.for_them && self.done.load_made_up == Some(true)));
        if !makes_up {
            return self.begin_sessions();
        }
        self.for_them = true;
        self.begin_lending()
    }

    /// Drops the target first: a kept copy alone means that memory was put back. Copies that were not put back stay.
    fn drop_copies(&mut self, whose: Whose) {
        let tables: Vec<Table> = match whose {
            Whose::Earlier => self.target.keys().copied().collect(),
            Whose::Ours if self.copied => self.tables.clone(),
            Whose::Ours => Vec::new(),
        };
        for place in [Place::Target, Place::Kept] {
            self.ask(tables.iter().map(|table| Statement::Drop { place, table: *table }));
        }
        self.kept.clear();
        self.target.clear();
    }

    pub(super) fn put_back_missed(&mut self, back: PutBack, got: Vec<(Statement, Reply)>) -> Phase {
        for (statement, reply) in got {
            if let (Statement::Read { table, .. }, Reply::Content(memory)) = (statement, reply) {
                let keys =
                    back.missed.iter().filter(|(missed, _)| *missed == table).map(|(_, key)| key.clone()).collect();
                self.put_back_merged(table, &memory, &keys);
            }
        }
        self.missed.clear();
        Phase::PuttingBack(back)
    }

    fn put_back_merged(&mut self, table: Table, memory: &Content, keys: &BTreeSet<Record>) {
        let (Some(target), Some(kept)) = (self.target.get(&table), self.kept.get(&table)) else { return };
        if kept.columns != memory.columns || target.columns != memory.columns {
            return;
        }
        let fences = self.fences();
        let mut wanted = memory.clone();
        for key in keys {
            let [ours, theirs, kept] = [target, memory, kept].map(|content| content.records.get(key));
            if theirs != kept {
                let merged = merge::merged(table, &memory.columns, ours, theirs, kept);
                let planned = merged.map(|record| merge::planned(table, &memory.columns, record, &fences));
                merge::put(&mut wanted, key, planned);
            }
        }
        self.swap_content(Place::Memory, table, memory, &wanted);
    }
}

/// The records that a statement on memory did not find as they were read.
fn missed(statement: &Statement) -> Vec<(Table, Record)> {
    match statement {
        Statement::Swap { place: Place::Memory, table, change } => vec![(*table, merge::key(*table, change.either()))],
        Statement::Restate { place: Place::Memory, keys, .. } => {
            keys.iter().map(|key| (SERVERS, key_record(key))).collect()
        }
        _ => Vec::new(),
    }
}

/// The name in `main` of a table's kept or target copy.
pub fn copy_name(place: Place, table: Table) -> String {
    let what = if place == Place::Kept { "kept" } else { "target" };
    format!("stonith_{what}_{}", table.name())
}
