//! The backstop inside ProxySQL: `max_num_online_servers = 1` of writer hostgroups (facts §5), set and taken back.
//!
//! A note in the record's comment has what was there before. Other columns stay as they are, and so does the rest of
//! the comment.

use std::collections::BTreeMap;

use crate::table::{COVERED, Content, Hostgroup, Record, Table};

/// The table of a hostgroup's settings, from ProxySQL 2.5 on.
pub const ATTRIBUTES: Table = COVERED[5];

const KEY: &str = "hostgroup_id";
const LIMIT: &str = "max_num_online_servers";
const COMMENT: &str = "comment";
const NOTE: &str = "[stonith-backstop was=";

/// The value of the limit without any record.
pub const NO_LIMIT: &str = "1000000";

/// What becomes of a hostgroup's limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum LimitChange {
    /// One server may be ONLINE.
    Set,
    /// What was there before [`LimitChange::Set`] is there again.
    Restore,
}

/// The changes to the limits of hostgroups.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct LimitChanges {
    /// The change of each hostgroup.
    pub changes: BTreeMap<Hostgroup, LimitChange>,
    /// The default of each column, for a record that is made.
    pub defaults: BTreeMap<String, Option<String>>,
}

impl LimitChanges {
    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }

    /// The content of one layer afterwards. On its own outcome it changes nothing.
    pub fn carry_out(&self, content: &Content) -> Content {
        let mut after = content.clone();
        for (hostgroup, change) in &self.changes {
            let key: Record = vec![Some(hostgroup.to_string())];
            let changed = match (change, after.records.get(&key)) {
                (LimitChange::Set, None) => self.made(*hostgroup, &content.columns),
                (LimitChange::Set, Some(record)) => Some(limited(&content.columns, record)),
                (LimitChange::Restore, None) => None,
                (LimitChange::Restore, Some(record)) => self.restored(&content.columns, record),
            };
            match changed {
                Some(record) => drop(after.records.insert(key, record)),
                None => drop(after.records.remove(&key)),
            }
        }
        after
    }

    /// A record at the defaults, with the limit; `None` if this ProxySQL's table lacks a column that it needs.
    fn made(&self, hostgroup: Hostgroup, columns: &[String]) -> Option<Record> {
        at(columns, KEY).and(at(columns, LIMIT)).and(at(columns, COMMENT))?;
        let value = |column: &String| match column.as_str() {
            KEY => Some(hostgroup.to_string()),
            LIMIT => Some("1".to_owned()),
            COMMENT => Some(format!("{NOTE}none]")),
            other => self.defaults.get(other).cloned().flatten(),
        };
        Some(columns.iter().map(value).collect())
    }

    /// The record as it was before; `None` if there was none, and nobody has set anything in it since.
    fn restored(&self, columns: &[String], record: &Record) -> Option<Record> {
        let (Some(limit), Some(comment)) = (at(columns, LIMIT), at(columns, COMMENT)) else {
            return Some(record.clone());
        };
        let Some((rest, was)) = record[comment].as_deref().and_then(noted) else { return Some(record.clone()) };
        let is_default = |(column, value): (&String, &Option<String>)| {
            [KEY, LIMIT, COMMENT].contains(&column.as_str()) || self.defaults.get(column) == Some(value)
        };
        let is_set = record[limit].as_deref() == Some("1");
        if was.is_none() && is_set && rest.is_empty() && columns.iter().zip(record).all(is_default) {
            return None;
        }
        let mut restored = record.clone();
        if is_set {
            restored[limit] = Some(was.unwrap_or(NO_LIMIT).to_owned());
        }
        restored[comment] = Some(rest);
        Some(restored)
    }
}

/// The record with the limit, and with a note of what it had. A record that has it already stays as it is.
fn limited(columns: &[String], record: &Record) -> Record {
    let mut limited = record.clone();
    if let (Some(limit), Some(comment)) = (at(columns, LIMIT), at(columns, COMMENT))
        && record[limit].as_deref() != Some("1")
    {
        let words = record[comment].clone().unwrap_or_default();
        let rest = noted(&words).map_or_else(|| words.clone(), |(rest, _)| rest);
        let was = record[limit].as_deref().unwrap_or(NO_LIMIT);
        limited[comment] = Some(if rest.is_empty() { format!("{NOTE}{was}]") } else { format!("{rest} {NOTE}{was}]") });
        limited[limit] = Some("1".to_owned());
    }
    limited
}

/// Whether this layer's record of a hostgroup has the note.
pub fn is_noted(content: &Content, hostgroup: Hostgroup) -> bool {
    value(content, hostgroup, COMMENT).is_some_and(|comment| noted(comment).is_some())
}

/// The limit that a layer has for a hostgroup.
pub fn limit(content: &Content, hostgroup: Hostgroup) -> &str {
    value(content, hostgroup, LIMIT).unwrap_or(NO_LIMIT)
}

fn value<'c>(content: &'c Content, hostgroup: Hostgroup, column: &str) -> Option<&'c str> {
    content.records.get(&vec![Some(hostgroup.to_string())])?.get(at(&content.columns, column)?)?.as_deref()
}

fn at(columns: &[String], name: &str) -> Option<usize> {
    columns.iter().position(|column| column == name)
}

/// A comment without the note, and the limit that the note has: a number, or none.
fn noted(comment: &str) -> Option<(String, Option<&str>)> {
    let (before, rest) = comment.split_once(NOTE)?;
    let (was, after) = rest.split_once(']')?;
    let was = if was == "none" { None } else { Some(was.parse::<u64>().is_ok().then_some(was)?) };
    Some((format!("{}{after}", before.strip_suffix(' ').unwrap_or(before)), was))
}

#[cfg(test)]
mod tests {
    use super::*;

    const COLUMNS: [&str; 4] = [KEY, LIMIT, "init_connect", COMMENT];

    fn content(records: &[[&str; 4]]) -> Content {
        let records = records.iter().map(|record| record.iter().map(|value| Some((*value).to_owned())).collect());
        Content::new(ATTRIBUTES, COLUMNS.iter().map(ToString::to_string).collect(), records)
    }

    fn change(hostgroup: u32, change: LimitChange) -> LimitChanges {
        let defaults = [(LIMIT, NO_LIMIT), ("init_connect", ""), (COMMENT, "")];
        LimitChanges {
            changes: [(Hostgroup(hostgroup), change)].into(),
            defaults: defaults.map(|(name, value)| (name.to_owned(), Some(value.to_owned()))).into(),
        }
    }

    #[test]
    fn what_was_there_before_is_restored_to_the_byte() {
        for before in [
            content(&[]),
            content(&[["10", "1000000", "", ""]]),
            content(&[["10", "3", "SET a=1", "rack 9"], ["20", "2", "", ""]]),
            content(&[["10", "0", "", ""]]),
        ] {
            let set = change(10, LimitChange::Set).carry_out(&before);
            assert_eq!((limit(&set, Hostgroup(10)), is_noted(&set, Hostgroup(10))), ("1", true), "{set:?}");
            assert_eq!(change(10, LimitChange::Set).carry_out(&set), set);
            assert_eq!(limit(&set, Hostgroup(20)), limit(&before, Hostgroup(20)));
            assert_eq!(change(10, LimitChange::Restore).carry_out(&set), before);
        }
    }

    #[test]
    fn a_limit_that_somebody_else_set_is_neither_noted_nor_taken_back() {
        let theirs = content(&[["10", "1", "", "by hand"]]);
        assert_eq!(change(10, LimitChange::Set).carry_out(&theirs), theirs);
        assert_eq!(change(10, LimitChange::Restore).carry_out(&theirs), theirs);
        assert!(!is_noted(&theirs, Hostgroup(10)));
    }

    #[test]
    fn what_somebody_set_since_stays_and_only_the_note_goes() {
        let ours = "[stonith-backstop was=none]";
        for (since, after) in [
            (["10", "1", "SET a=1", ours], ["10", NO_LIMIT, "SET a=1", ""]),
            (["10", "2", "", ours], ["10", "2", "", ""]),
            (["10", "1", "", "mine [stonith-backstop was=7]"], ["10", "7", "", "mine"]),
        ] {
            assert_eq!(change(10, LimitChange::Restore).carry_out(&content(&[since])), content(&[after]));
        }
        let odd = content(&[["10", "1", "", "[stonith-backstop was=evil]"]]);
        assert_eq!(change(10, LimitChange::Restore).carry_out(&odd), odd, "no note of ours");
    }
}
