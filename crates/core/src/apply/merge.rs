//! Somebody's edit of a record that we lent, merged with what the record shall be in the end: what they changed is
//! theirs, column by column, and the rest is as it was kept.

use std::collections::{BTreeMap, BTreeSet};

use super::live_rows;
use crate::managed::Managed;
use crate::plan::Plan;
use crate::table::{Comment, Content, Hostgroup, Record, Row, RowKey, SERVERS, Table, mark, unmarked};

/// What a record shall be: lent as `ours`, found as `theirs`, to be put back as `kept`.
pub(super) fn merged(
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

/// Status and marker go together: who changed the comment alone leaves a fenced row ours; who changed the status of
/// a row that we had lent without a marker made it theirs (I3).
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

/// A server record with a plan carried out that only fences: such a plan makes and deletes no rows.
pub(super) fn planned(table: Table, columns: &[String], record: Record, fences: &Plan) -> Record {
    if table != SERVERS {
        return record;
    }
    let one = Content::new(SERVERS, columns.to_vec(), [record.clone()]);
    let planned = one.rows().ok().map(|rows| one.with_rows(&fences.carry_out(&rows)));
    planned.and_then(|content| content.records.into_values().next()).unwrap_or(record)
}

/// What goes live where somebody LOADs what is staged: memory, but for the half of a pair that a row is in. That is the
/// monitor's to say, and memory does not hear of it.
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

/// A record's key.
pub(super) fn key(table: Table, record: &Record) -> Record {
    record.iter().take(table.key_columns).cloned().collect()
}

/// Sets, or takes out, the record of this key.
pub(super) fn put(content: &mut Content, key: &Record, record: Option<Record>) {
    match record {
        Some(record) => drop(content.records.insert(key.clone(), record)),
        None => drop(content.records.remove(key)),
    }
}

/// Keys whose records differ.
pub(super) fn changed_keys(from: &Content, to: &Content) -> Vec<Record> {
    let keys: BTreeSet<&Record> = from.records.keys().chain(to.records.keys()).collect();
    keys.into_iter().filter(|key| from.records.get(*key) != to.records.get(*key)).cloned().collect()
}
