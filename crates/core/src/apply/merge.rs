//! Merges an edit that somebody made to a lent record with the kept record. The columns that they changed stay as they
//! set them. The other columns are put back.

use std::collections::{BTreeMap, BTreeSet};

use super::live_rows;
use crate::managed::Managed;
use crate::plan::Plan;
use crate::table::{Comment, Content, Hostgroup, Record, Row, RowKey, SERVERS, Table, mark, unmarked};

/// The record that memory must have in the end. It was lent as `ours`, is found as `theirs`, and was `kept` before.
pub(crate) fn merged(
    table: Table,
    columns: &[String],
    ours: Option<&Record>,
    theirs: Option<&Record>,
    kept: Option<&Record>,
) -> Option<Record> {
    if ours == theirs {
        return kept.cloned();
    }
    let (Some(ours), Some(found), Some(kept)) = (ours, theirs, kept) else { return theirs.cloned() };
    let changed = |i: usize| found.get(i) != ours.get(i);
    let mut merged: Record =
        (0..columns.len()).map(|i| if changed(i) { found.get(i) } else { kept.get(i) }.cloned().flatten()).collect();
    if table == SERVERS {
        settle_marker(columns, ours, found, kept, &mut merged);
    }
    Some(merged)
}

/// Memory put back, as far as it shows lent records: a record that is as it was kept is left alone.
pub(crate) fn put_back(table: Table, memory: &Content, target: &Content, kept: &Content) -> Content {
    let mut back = memory.clone();
    if kept.columns != memory.columns || target.columns != memory.columns {
        return back;
    }
    let keys: BTreeSet<&Record> =
        [memory, target, kept].into_iter().flat_map(|content| content.records.keys()).collect();
    for key in keys {
        let [ours, theirs, kept] = [target, memory, kept].map(|content| content.records.get(key));
        if theirs != kept {
            put(&mut back, key, merged(table, &memory.columns, ours, theirs, kept));
        }
    }
    back
}

/// Keeps status and marker together (I3). A fenced row keeps its marker if somebody changed only the comment. It loses
/// its marker if somebody changed the status of a row that was lent without one: the row is theirs then.
fn settle_marker(columns: &[String], ours: &Record, theirs: &Record, kept: &Record, merged: &mut Record) {
    let at = |name: &str| columns.iter().position(|column| column == name);
    let (Some(status), Some(comment)) = (at("status"), at("comment")) else { return };
    let text = |record: &Record| record.get(comment).cloned().flatten().unwrap_or_default();
    let kept = text(kept);
    let Comment::Marked(_, marker) = Comment::parse(&kept) else { return };
    if ours.get(status) == theirs.get(status) {
        if matches!(Comment::parse(&text(merged)), Comment::Plain) {
            merged[comment] = Some(mark(&text(merged), &marker));
        }
    } else if matches!(Comment::parse(&text(ours)), Comment::Plain) && ours.get(comment) == theirs.get(comment) {
        merged[comment] = Some(unmarked(&kept));
    }
}

/// A record with the fences carried out on it. A plan that only fences makes and deletes no rows.
pub(super) fn planned(table: Table, columns: &[String], record: Record, fences: &Plan) -> Record {
    if table != SERVERS {
        return record;
    }
    let one = Content::new(SERVERS, columns.to_vec(), [record.clone()]);
    let planned = one.rows().ok().map(|rows| one.with_rows(&fences.carry_out(&rows)));
    planned.and_then(|content| content.records.into_values().next()).unwrap_or(record)
}

/// The table that goes live when somebody's LOAD is made up for: the kept memory, with each row in the half of its pair
/// that runtime has it in. The monitor moves rows between the halves, and memory does not show that.
pub(super) fn staged(table: Table, runtime: &Content, kept: &Content, managed: &Managed) -> Option<Content> {
    if table != SERVERS {
        return Some(kept.clone());
    }
    let half = |row: &Row| {
        managed.pair_of(row.key.hostgroup).map(|pair| (pair.writer, row.key.hostname.clone(), row.key.port))
    };
    let mut live: BTreeMap<_, BTreeSet<Hostgroup>> = BTreeMap::new();
    for row in runtime.rows().ok()? {
        if let Some(half) = half(&row) {
            live.entry(half).or_default().insert(row.key.hostgroup);
        }
    }
    let staged = live_rows(kept.rows().ok()?);
    let mut rows: BTreeMap<RowKey, Row> = BTreeMap::new();
    for row in &staged {
        match half(row).and_then(|half| live.get(&half)) {
            None => drop(rows.insert(row.key.clone(), row.clone())),
            Some(hostgroups) => {
                for hostgroup in hostgroups {
                    let key = RowKey { hostgroup: *hostgroup, ..row.key.clone() };
                    let own = row.key.hostgroup == *hostgroup;
                    if own || !rows.contains_key(&key) {
                        rows.insert(key.clone(), Row { key, ..row.clone() });
                    }
                }
            }
        }
    }
    Some(kept.with_rows(&rows.into_values().collect::<Vec<_>>()))
}

/// The key columns of a record.
pub(crate) fn key(table: Table, record: &Record) -> Record {
    record.iter().take(table.key_columns).cloned().collect()
}

/// Sets or removes the record of this key.
pub(crate) fn put(content: &mut Content, key: &Record, record: Option<Record>) {
    match record {
        Some(record) => drop(content.records.insert(key.clone(), record)),
        None => drop(content.records.remove(key)),
    }
}

/// The keys whose records differ.
pub(super) fn changed_keys(from: &Content, to: &Content) -> Vec<Record> {
    let keys: BTreeSet<&Record> = from.records.keys().chain(to.records.keys()).collect();
    keys.into_iter().filter(|key| from.records.get(*key) != to.records.get(*key)).cloned().collect()
}
