//! Whether somebody has staged edits in memory, or left disk behind.

use std::collections::BTreeMap;

use stonith_core::observed::ProxyView;
use stonith_core::table::{Hostgroup, Row, Status};

use super::{Area, Check, Facts, Finding, Fix, Level, Need, few};

pub const CHECK: Check = Check {
    name: "staged edits",
    area: Area::ProxySql,
    needs: Need::Survey,
    labels: &["servers-staged", "servers-unsaved", "tables-staged", "tables-unsaved", "variables-staged"],
    run,
};

const STAGED: &str = "An apply of this program keeps staged edits staged. Any other LOAD takes all of them live at once, and a \
                      restart of ProxySQL loses them";

const UNSAVED: &str = "A restart of ProxySQL serves what disk has";

const VARIABLES: &str = "While a MySQL variable is staged, the program does not switch the extended processlist on. A session \
                         that holds a fenced node behind another server is then not named (facts §4)";

fn run(facts: &Facts) -> Vec<Finding> {
    let mut found = Vec::new();
    for proxy in &facts.proxies {
        let (Some(view), Some(survey)) = (&proxy.view, &proxy.survey) else { continue };
        let mut add = |label, what: String, why, fix: &str| {
            let finding = Finding::new(Level::Warning, label, what).why(why).fix(Fix::Admin(fix.to_owned()));
            found.push(finding.at(proxy));
        };
        let staged = staged(view);
        if !staged.is_empty() {
            let what = format!("rows of mysql_servers are staged, and not in force: {}", few(&staged));
            add("servers-staged", what, STAGED, KEEP_OR_DROP);
        }
        let unsaved = unsaved(view);
        if !unsaved.is_empty() {
            let what = format!("rows of mysql_servers are not the same on disk: {}", few(&unsaved));
            add("servers-unsaved", what, UNSAVED, "-- if memory is right: SAVE MYSQL SERVERS TO DISK");
        }
        let count = |of: fn(&crate::proxysql::Differences) -> u64| {
            let differing = survey.differences.iter().filter(|table| of(table) > 0);
            differing.map(|table| format!("{} ({} records)", table.table, of(table))).collect::<Vec<_>>()
        };
        let (staged, unsaved) = (count(|table| table.staged), count(|table| table.unsaved));
        if !staged.is_empty() {
            let what = format!("edits of these tables are staged, and not in force: {}", few(&staged));
            add("tables-staged", what, STAGED, KEEP_OR_DROP);
        }
        if !unsaved.is_empty() {
            let what = format!("these tables are not the same on disk: {}", few(&unsaved));
            add(
                "tables-unsaved",
                what,
                UNSAVED,
                "-- if memory is right: SAVE MYSQL SERVERS TO DISK; SAVE SCHEDULER TO DISK",
            );
        }
        if !survey.staged_variables.is_empty() {
            let what = format!("variables are staged, and not in force: {}", few(&survey.staged_variables));
            let fix =
                "-- to use them: LOAD MYSQL VARIABLES TO RUNTIME; to drop them: SAVE MYSQL VARIABLES FROM RUNTIME";
            add("variables-staged", what, VARIABLES, fix);
        }
    }
    found
}

const KEEP_OR_DROP: &str = "-- to use them: LOAD MYSQL SERVERS TO RUNTIME; to drop them: LOAD MYSQL SERVERS FROM DISK. A LOAD \
                            after a failover undoes the monitor's moves until its next check (facts §2)";

/// What of a row an operator edits. ProxySQL shuns rows by itself.
fn edited(row: &Row) -> (&Status, &str, &BTreeMap<String, String>) {
    let status = if row.status == Status::Shunned { &Status::Online } else { &row.status };
    (status, before_nul(&row.comment), &row.settings)
}

/// The part of a comment that runtime has.
fn before_nul(comment: &str) -> &str {
    comment.split('\0').next().unwrap_or_default()
}

/// The rows whose memory is not in force, by their key. A row that the monitor moved is not among them.
fn staged(view: &ProxyView) -> Vec<String> {
    let other_half = |hostgroup: Hostgroup| {
        view.pairs.iter().find_map(|pair| match hostgroup {
            of if of == pair.writer => Some(pair.reader),
            of if of == pair.reader => Some(pair.writer),
            _ => None,
        })
    };
    let is_of = |row: &Row, of: &Row| row.key.hostname == of.key.hostname && row.key.port == of.key.port;
    let (is_there, is_moved) = (
        |rows: &[Row], of: &Row| rows.iter().any(|row| row.key == of.key && edited(row) == edited(of)),
        |rows: &[Row], of: &Row| {
            let half = other_half(of.key.hostgroup);
            rows.iter().any(|row| is_of(row, of) && Some(row.key.hostgroup) == half && edited(row) == edited(of))
        },
    );
    let live: Vec<Row> = view.runtime.iter().filter(|row| row.status != Status::OfflineHard).cloned().collect();
    let memory: Vec<Row> = view.memory.iter().filter(|row| row.status != Status::OfflineHard).cloned().collect();
    let has_key = |rows: &[Row], of: &Row| rows.iter().any(|row| row.key == of.key);
    let not_live = memory.iter().filter(|row| !is_there(&live, row) && (has_key(&live, row) || !is_moved(&live, row)));
    let not_kept = live.iter().filter(|row| !has_key(&memory, row) && !is_moved(&memory, row));
    let mut keys: Vec<String> = not_live.chain(not_kept).map(|row| row.key.to_string()).collect();
    keys.dedup();
    keys
}

/// The rows that memory and disk do not have alike, by their key.
fn unsaved(view: &ProxyView) -> Vec<String> {
    let differs = |rows: &[Row], of: &Row| {
        !rows.iter().any(|row| {
            row.key == of.key && (&row.status, &row.comment, &row.settings) == (&of.status, &of.comment, &of.settings)
        })
    };
    let lost = view.memory.iter().filter(|row| differs(&view.disk, row));
    let back = view.disk.iter().filter(|row| !view.memory.iter().any(|other| other.key == row.key));
    lost.chain(back).map(|row| row.key.to_string()).collect()
}

#[cfg(test)]
mod tests {
    use super::super::facts::{healthy, row};
    use super::*;
    use crate::proxysql::{Differences, Survey};

    fn found(change: impl FnOnce(&mut ProxyView, &mut Survey)) -> Vec<(&'static str, String)> {
        let mut facts = healthy();
        let proxy = &mut facts.proxies[0];
        change(proxy.view.as_mut().unwrap(), proxy.survey.as_mut().unwrap());
        run(&facts).into_iter().map(|finding| (finding.label, finding.what)).collect()
    }

    fn labels(change: impl FnOnce(&mut ProxyView, &mut Survey)) -> Vec<&'static str> {
        found(change).into_iter().map(|(label, _)| label).collect()
    }

    #[test]
    fn layers_that_are_equal_are_well() {
        assert_eq!(labels(|_, _| ()), [""; 0]);
    }

    #[test]
    fn the_monitors_moves_ghosts_and_shunned_rows_are_no_edits() {
        let moved = |view: &mut ProxyView, _: &mut Survey| {
            *view.runtime = vec![row(20, "node01"), row(10, "node02"), row(20, "node02"), row(20, "node03")];
            view.runtime[3].status = Status::Shunned;
            view.runtime.push(Row { status: Status::OfflineHard, ..row(10, "node01") });
        };
        assert_eq!(found(moved), []);
    }

    #[test]
    fn a_row_that_was_added_changed_or_removed_in_memory_is_staged() {
        let edits: [fn(&mut Vec<Row>); 4] = [
            |rows| rows.push(row(20, "node09")),
            |rows| rows[1].comment = "new".to_owned(),
            |rows| rows[1].status = Status::OfflineSoft,
            |rows| drop(rows.remove(2)),
        ];
        for edit in edits {
            let memory = |view: &mut ProxyView, _: &mut Survey| {
                edit(&mut view.memory);
                view.disk.clone_from(&view.memory);
            };
            assert_eq!(labels(memory), ["servers-staged"]);
        }
    }

    #[test]
    fn what_disk_lacks_or_has_more_is_found() {
        assert_eq!(labels(|view, _| drop(view.disk.pop())), ["servers-unsaved"]);
        assert_eq!(labels(|view, _| view.disk.push(row(30, "node01"))), ["servers-unsaved"]);
    }

    #[test]
    fn other_tables_and_variables_are_named() {
        let tables = |_: &mut ProxyView, survey: &mut Survey| {
            survey.differences = vec![Differences { table: "scheduler".to_owned(), staged: 2, unsaved: 1 }];
            survey.staged_variables = vec!["mysql-threads".to_owned()];
        };
        let found = found(tables);
        let labels: Vec<_> = found.iter().map(|(label, _)| *label).collect();
        assert_eq!(labels, ["tables-staged", "tables-unsaved", "variables-staged"]);
        assert!(found[0].1.ends_with("scheduler (2 records)") && found[2].1.ends_with("mysql-threads"), "{found:?}");
    }
}
