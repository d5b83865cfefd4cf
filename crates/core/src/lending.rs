//! How one record gets into a table of ProxySQL without a word of what others have staged there (I6).
//!
//! LOAD makes runtime equal to memory, and SAVE makes disk equal to memory. So memory is lent: it becomes runtime with
//! the change, is loaded, and becomes what it was, with the change. Disk gets the change alone. This is the rule of
//! [`crate::apply`] for a table that nobody but operators writes, such as the scheduler's.

use std::collections::BTreeSet;

use crate::table::{Change, Content, Record};

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

/// The record changes of each step. A step without changes is left out.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Lending {
    /// Memory as it was found becomes what goes live.
    pub lend: Vec<Change<Record>>,
    /// Whether memory is loaded then.
    pub load: bool,
    /// Memory becomes what it was, with the change.
    pub put_back: Vec<Change<Record>>,
    /// Disk gets the change.
    pub disk: Vec<Change<Record>>,
    /// What memory has while it is lent.
    pub lent: Content,
    /// The layers afterwards.
    pub after: Layers,
}

impl Lending {
    /// The steps that carry a change of one layer out on all of them.
    pub fn of(layers: &Layers, change: impl Fn(&Content) -> Content) -> Self {
        let Layers { runtime, memory, disk } = layers;
        let after = Layers { runtime: change(runtime), memory: change(memory), disk: change(disk) };
        let load = after.runtime != *runtime;
        let lent = if load { after.runtime.clone() } else { memory.clone() };
        Self {
            lend: changes(memory, &lent),
            load,
            put_back: changes(&lent, &after.memory),
            disk: changes(disk, &after.disk),
            lent,
            after,
        }
    }

    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        !self.load && self.lend.is_empty() && self.put_back.is_empty() && self.disk.is_empty()
    }
}

/// The changes from one content to another. Records go before others come, so that no two share a key.
pub fn changes(from: &Content, to: &Content) -> Vec<Change<Record>> {
    let keys: BTreeSet<&Record> = from.records.keys().chain(to.records.keys()).collect();
    let change = |key| Change::between(from.records.get(key).cloned(), to.records.get(key).cloned());
    let (gone, others): (Vec<_>, Vec<_>) =
        keys.into_iter().filter_map(change).partition(|change| matches!(change, Change::Delete(_)));
    gone.into_iter().chain(others).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::Table;

    fn content(records: &[[&str; 2]]) -> Content {
        let table = Table::new("scheduler", 1).unwrap();
        let records = records.iter().map(|record| record.iter().map(|value| Some((*value).to_owned())).collect());
        Content::new(table, vec!["id".to_owned(), "filename".to_owned()], records)
    }

    fn with_ours(content: &Content) -> Content {
        let mut after = content.clone();
        after.records.insert(vec![Some("9".to_owned())], vec![Some("9".to_owned()), Some("ours".to_owned())]);
        after
    }

    fn carried_out(from: &Content, changes: &[Change<Record>]) -> Content {
        let mut after = from.clone();
        for change in changes {
            let key = change.either()[..1].to_vec();
            assert_eq!(after.records.get(&key), change.from(), "it names the record as it is");
            match change.to() {
                Some(record) => drop(after.records.insert(key, record.clone())),
                None => drop(after.records.remove(&key)),
            }
        }
        after
    }

    #[test]
    fn i6_what_is_staged_stays_staged_and_what_is_unsaved_stays_unsaved() {
        let layers = Layers {
            runtime: content(&[["1", "live"], ["2", "live"]]),
            memory: content(&[["1", "edited"], ["3", "new"]]),
            disk: content(&[["1", "live"]]),
        };
        let lending = Lending::of(&layers, with_ours);
        let lent = carried_out(&layers.memory, &lending.lend);
        assert_eq!((&lent, lending.load), (&with_ours(&layers.runtime), true), "only the change goes live");
        assert_eq!(carried_out(&lent, &lending.put_back), with_ours(&layers.memory));
        assert_eq!(carried_out(&layers.disk, &lending.disk), with_ours(&layers.disk));
        assert_eq!(lending.lent, lent);
    }

    #[test]
    fn a_layer_that_has_the_change_already_is_left_alone() {
        let layers = Layers {
            runtime: with_ours(&content(&[])),
            memory: with_ours(&content(&[["1", "staged"]])),
            disk: content(&[]),
        };
        let lending = Lending::of(&layers, with_ours);
        assert_eq!((lending.lend.len(), lending.load, lending.put_back.len(), lending.disk.len()), (0, false, 0, 1));
        assert!(!lending.is_empty());
        assert!(Lending::of(&lending.after, with_ours).is_empty());
    }
}
