//! Finishes what an earlier apply left, ours or another agent's (I10).
//!
//! Putting back is always right: a record of memory that is still the target's becomes the kept one, and any other
//! is either untouched or somebody's edit. Where only one of the two copies is left, memory is as it should be.

use std::collections::{BTreeMap, BTreeSet};

use super::{Apply, Phase, Place, Reply, Statement};
use crate::table::{COVERED, Content, Table};

impl Apply {
    /// Reads what is left, or goes on with the plan.
    pub(super) fn finish_earlier(&mut self, got: &[(Statement, Reply)]) -> Phase {
        let none = BTreeSet::new();
        let names = match got.first() {
            Some((_, Reply::Names(names))) => names,
            _ => &none,
        };
        let left = |place: Place, table: &Table| names.contains(&copy_name(place, *table));
        for table in COVERED {
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

    /// Puts memory back, then drops the copies: the target first, since `kept` alone means "is put back".
    pub(super) fn put_back_earlier(&mut self, got: Vec<(Statement, Reply)>) -> Phase {
        let mut seen: BTreeMap<Table, BTreeMap<Place, Content>> = BTreeMap::new();
        for (statement, reply) in got {
            if let (Statement::Read { place, table }, Reply::Content(content)) = (statement, reply) {
                seen.entry(table).or_default().insert(place, content);
            }
        }
        for (table, contents) in seen {
            let [Some(kept), Some(target), Some(memory)] =
                [Place::Kept, Place::Target, Place::Memory].map(|place| contents.get(&place))
            else {
                continue;
            };
            if kept.columns == memory.columns && target.columns == memory.columns {
                self.swap_content(Place::Memory, table, target, kept);
            }
            self.ask([Statement::Drop { place: Place::Target, table }, Statement::Drop { place: Place::Kept, table }]);
        }
        Phase::Finished
    }
}

/// The name of a copy in `main`.
pub fn copy_name(place: Place, table: Table) -> String {
    let what = if place == Place::Kept { "kept" } else { "target" };
    format!("stonith_{what}_{}", table.name)
}
