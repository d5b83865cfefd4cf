//! The looks before and after the LOAD. Nobody's edit goes live with it, and no move of runtime is lost.

use std::collections::{BTreeMap, BTreeSet};

use super::{Apply, BrokenOff, Phase, Place, Reply, Statement, live_rows, merge};
use crate::online_limit::ATTRIBUTES;
use crate::plan::Directive;
use crate::table::{Change, Content, Record, SERVERS, Table};

/// The most looks that find memory or runtime changed before a fence goes on anyway (design §8.5).
const CHECKS_MAX: u32 = 3;

/// ProxySQL's own count of LOADs. A LOAD adds one to the version, and a move of the monitor does not (facts §1).
pub(super) const CHECKSUMS: Table = Table::known("checksums_values", 1);

type Seen = BTreeMap<(Place, Table), Content>;

/// The kind of look. Each reads the tables in its own order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Look {
    /// After runtime moved. Runtime is read before memory, so that a record which somebody edits and LOADs in between
    /// counts as an edit.
    Settle,
    /// The last look before the LOAD. Runtime's rows are read last, since nothing shows a later move of the monitor. A
    /// later edit still shows in memory.
    Before,
    /// After the LOAD. The version is read last, so that it counts every LOAD before the look.
    After,
}

impl Apply {
    pub(super) fn look(&mut self, checks: u32, look: Look) -> Phase {
        let tables = self.tables.clone();
        let read = |place, table: &Table| Statement::Read { place, table: *table };
        let all = |place| tables.iter().map(move |table| read(place, table));
        match look {
            Look::Settle => {
                self.ask([Statement::RenewLock { owner: self.owner.clone() }]);
                self.ask(all(Place::Runtime).chain(all(Place::Memory)));
            }
            Look::Before => {
                self.ask([Statement::RenewLock { owner: self.owner.clone() }]);
                self.note_returns();
                self.ask([read(Place::Runtime, &CHECKSUMS)]);
                let others = tables.iter().filter(|table| **table != SERVERS);
                self.ask(others.map(|table| read(Place::Runtime, table)));
                self.ask(all(Place::Memory).rev());
                self.ask([read(Place::Runtime, &SERVERS)]);
            }
            Look::After => {
                self.ask(all(Place::Memory).chain(all(Place::Runtime)));
                self.ask([read(Place::Runtime, &CHECKSUMS)]);
            }
        }
        Phase::Looking { checks, look }
    }

    pub(super) fn looked(&mut self, got: Vec<(Statement, Reply)>, checks: u32, look: Look) -> Phase {
        let mut seen = Seen::new();
        for (statement, reply) in got {
            if let (Statement::Read { place, table }, Reply::Content(content)) = (statement, reply) {
                seen.insert((place, table), content);
            }
        }
        let tables = self.tables.clone();
        let edits = |table: Table| self.fold_edits(table, &seen[&(Place::Memory, table)]);
        let edited: BTreeSet<(Table, Record)> = tables.into_iter().flat_map(edits).collect();
        match look {
            Look::Settle => {
                self.retarget(&seen);
                Phase::Settled { checks: checks + 1, look: Look::Before }
            }
            Look::Before => self.looked_before(&seen, &edited, checks),
            Look::After => self.looked_after(&seen, edited, checks),
        }
    }

    /// Sends the LOAD if memory is the target to the byte, and the target is runtime with the plan carried out.
    /// Otherwise looks again, puts a return off, or at last loads a fence anyway.
    fn looked_before(&mut self, seen: &Seen, edited: &BTreeSet<(Table, Record)>, checks: u32) -> Phase {
        let moved = self.tables.iter().any(|table| {
            let wanted = self.wanted(*table, &seen[&(Place::Runtime, *table)]);
            wanted.is_none_or(|wanted| wanted.records != self.target[table].records)
        });
        if checks < CHECKS_MAX {
            if moved {
                return Phase::Settled { checks, look: Look::Settle };
            }
            if !edited.is_empty() {
                return Phase::Settled { checks: checks + 1, look: Look::Before };
            }
        }
        let fences = self.plan.directives.values().any(|directive| matches!(directive, Directive::Fence { .. }));
        if !fences && (moved || !edited.is_empty()) {
            self.broken_off = Some(BrokenOff::PutOff); // a return can wait
            return self.put_back();
        }
        self.retarget(seen);
        self.version = version(seen);
        self.ask([Statement::Load]);
        Phase::Loading { checks }
    }

    /// Loads again if this apply's LOAD took an edit live, or if planned rows are not as planned. Somebody else's LOAD
    /// stands otherwise.
    fn looked_after(&mut self, seen: &Seen, edited: BTreeSet<(Table, Record)>, checks: u32) -> Phase {
        let live: BTreeMap<Table, Content> =
            self.tables.iter().map(|table| (*table, loadable(*table, &seen[&(Place::Runtime, *table)]))).collect();
        let ours_alone = self.loaded_alone(seen, &edited, &live[&SERVERS]);
        self.undo = edited
            .into_iter()
            .filter(|(table, key)| ours_alone && live[table].records.get(key) != self.target[table].records.get(key))
            .collect();
        let planned = self.not_as_planned(&live[&SERVERS]);
        if checks < CHECKS_MAX && (!self.undo.is_empty() || !planned.is_empty()) {
            return Phase::Settled { checks: checks + 1, look: Look::Before };
        }
        if !planned.is_empty() {
            self.expected = None; // somebody keeps loading the node back: that is reported and not made up for
        }
        self.done.not_as_planned = planned;
        if !ours_alone {
            let others = self.not_as_loaded(&live);
            self.done.not_as_planned.extend(others);
        }
        if self.plan.unfences()
            && let Ok(rows) = self.kept[&SERVERS].rows()
        {
            let kept = self.kept[&SERVERS].clone();
            let planned = kept.with_rows(&self.plan.carry_out(&rows));
            self.swap_content(Place::Kept, SERVERS, &kept, &planned);
            self.kept.insert(SERVERS, planned);
        }
        if let Some(kept) = self.kept.get(&ATTRIBUTES).filter(|_| !self.plan.limits.is_empty()).cloned() {
            let limited = self.plan.limits.carry_out(&kept);
            self.swap_content(Place::Kept, ATTRIBUTES, &kept, &limited);
            self.kept.insert(ATTRIBUTES, limited);
        }
        self.put_back()
    }

    /// Whether nobody else LOADed since this apply's last look.
    ///
    /// Before 2.6 a move of the monitor counts as a LOAD does. Somebody's LOAD leaves runtime's rows where memory has
    /// them, and a move does not.
    fn loaded_alone(&self, seen: &Seen, edited: &BTreeSet<(Table, Record)>, live: &Content) -> bool {
        let (Some(before), Some(checksums)) = (self.version, seen.get(&(Place::Runtime, CHECKSUMS))) else {
            return false;
        };
        let loads = version_of(checksums).and_then(|now| now.checked_sub(before));
        let places = |content: &Content| -> BTreeSet<Record> {
            content.records.keys().filter(|key| !edited.contains(&(SERVERS, (*key).clone()))).cloned().collect()
        };
        let moves_count = counts_loads(checksums).is_none();
        loads == Some(1) || (loads > Some(1) && moves_count && places(live) != places(&self.target[&SERVERS]))
    }

    /// Moves each difference between memory and the target into `kept`, where it stays staged. It is somebody's edit.
    fn fold_edits(&mut self, table: Table, memory: &Content) -> Vec<(Table, Record)> {
        let target = self.target[&table].clone();
        let fences = self.fences();
        let stuck = self.take_stuck(Place::Memory, table, memory);
        let mut edited = Vec::new();
        for change in target.changes_to(memory) {
            let key = merge::key(table, change.either());
            let (ours, theirs) = (change.from(), change.to());
            if edited.is_empty() {
                self.ask([Statement::RenewLock { owner: self.owner.clone() }]); // the last renewal may be long ago
            }
            if let Some(from) = theirs.filter(|_| stuck.contains(&key)).cloned() {
                // This is nobody's edit: a statement missed the record, which is as it was read.
                self.ask([Statement::SwapByKey { place: Place::Memory, table, from, to: ours.cloned() }]);
                edited.push((table, key));
                continue;
            }
            let kept = self.kept[&table].records.get(&key).cloned();
            let columns = &memory.columns;
            let merged = merge::merged(table, columns, ours, theirs, kept.as_ref());
            let wanted = merged.map(|record| merge::planned(table, columns, record, &fences));
            let refold = Change::between(kept, wanted.clone());
            self.ask(refold.map(|change| Statement::Swap { place: Place::Kept, table, change }));
            self.ask([Statement::Swap { place: Place::Memory, table, change: change.reversed() }]);
            if let Some(content) = self.kept.get_mut(&table) {
                merge::put(content, &key, wanted);
            }
            self.done.edits_kept += 1;
            edited.push((table, key));
        }
        edited
    }

    /// The target of a table that has this runtime content; `None` if the content cannot be read.
    pub(super) fn wanted(&self, table: Table, runtime: &Content) -> Option<Content> {
        let mut wanted = loadable(table, runtime);
        if self.for_them {
            wanted = merge::staged(table, &wanted, self.kept.get(&table)?, &self.plan.managed)?;
        }
        for (_, key) in self.undo.iter().filter(|(undone, _)| *undone == table) {
            merge::put(&mut wanted, key, self.target[&table].records.get(key).cloned());
        }
        if table == ATTRIBUTES {
            wanted = self.plan.limits.carry_out(&wanted);
        }
        if table == SERVERS {
            let rows = wanted.rows().ok()?;
            wanted = wanted.with_rows(&self.plan.carry_out(&rows));
        }
        Some(wanted)
    }

    /// Makes the target follow runtime, which the monitor or another LOAD moved. Each changed record of memory becomes
    /// the kept one in between. At no point is it neither the target's nor the kept one, which would read as somebody's
    /// edit.
    fn retarget(&mut self, seen: &Seen) {
        for table in self.tables.clone() {
            let target = self.target[&table].clone();
            let Some(wanted) = self.wanted(table, &seen[&(Place::Runtime, table)]) else { continue };
            let mut between = target.clone();
            for key in merge::changed_keys(&target, &wanted) {
                merge::put(&mut between, &key, self.kept[&table].records.get(&key).cloned());
            }
            self.swap_content(Place::Memory, table, &target, &between);
            self.swap_content(Place::Target, table, &target, &wanted);
            self.swap_content(Place::Memory, table, &between, &wanted);
            self.target.insert(table, wanted);
        }
    }

    /// Planned rows that must be out of service and are not. Returned rows are not checked, since the monitor may have
    /// moved them already.
    fn not_as_planned(&self, live: &Content) -> Vec<String> {
        let (Ok(rows), Ok(target)) = (live.rows(), self.target[&SERVERS].rows()) else { return Vec::new() };
        let planned = |key: &crate::table::RowKey| {
            self.plan.managed.contains(key.hostgroup)
                && key.node().is_some_and(|node| self.plan.directives.contains_key(&node))
        };
        let shown: BTreeMap<_, _> = rows.iter().map(|row| (&row.key, &row.status)).collect();
        let missing = target
            .iter()
            .filter(|row| planned(&row.key) && !row.status.in_service() && shown.get(&row.key) != Some(&&row.status))
            .map(|row| format!("{} should be {}", row.key, row.status));
        let fenced = self.fences();
        let back = rows.iter().filter(|row| {
            row.status.in_service()
                && planned(&row.key)
                && row.node().is_some_and(|node| fenced.directives.contains_key(&node))
                && !target.iter().any(|target| target.key == row.key)
        });
        missing.chain(back.map(|row| format!("{} should not be in service", row.key))).collect()
    }

    /// Other records that somebody else's LOAD changed, for the report. Without such a LOAD, differences are the
    /// monitor's moves, as in any failover.
    fn not_as_loaded(&self, live: &BTreeMap<Table, Content>) -> Vec<String> {
        let mut others = Vec::new();
        for (table, live) in live {
            for key in merge::changed_keys(&self.target[table], live) {
                let name = key.iter().map(|value| value.as_deref().unwrap_or("NULL")).collect::<Vec<_>>().join("/");
                others.push(format!("{} {name} was changed by somebody else during the apply", table.name()));
            }
        }
        others
    }
}

/// Runtime's content as a LOAD must have it.
fn loadable(table: Table, runtime: &Content) -> Content {
    if table != SERVERS {
        return runtime.clone();
    }
    runtime.rows().map_or_else(|_| runtime.clone(), |rows| runtime.with_rows(&live_rows(rows)))
}

/// The count of LOADs, where nothing else adds to it: from 2.6, which has a second checksum of the servers. Before, a
/// move of the monitor adds one too (facts §12).
pub(super) fn counts_loads(checksums: &Content) -> Option<u64> {
    checksums.records.get(&vec![Some("mysql_servers_v2".to_owned())])?;
    version_of(checksums)
}

fn version(seen: &Seen) -> Option<u64> {
    version_of(seen.get(&(Place::Runtime, CHECKSUMS))?)
}

fn version_of(checksums: &Content) -> Option<u64> {
    let at = checksums.columns.iter().position(|column| column == "version")?;
    checksums.records.get(&vec![Some(SERVERS.name().to_owned())])?.get(at)?.as_ref()?.parse().ok()
}
