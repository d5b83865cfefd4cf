//! What the ProxySQL hooks of the fork's Orchestrator left behind, and what of it this program takes over (facts §14).
//!
//! The hooks take the old primary out without a marker, and reset the new primary's row. So the rows are viewed while the
//! hooks are on, and a change counts as theirs if the views show that it fell into the recovery.
//!
//! **Invariant:** a row that was out before the recovery began, or went out later than the hooks work, is an operator's
//! (I3). What was not viewed before is not taken over.

use std::collections::{BTreeMap, BTreeSet};

use super::facts::Facts;
use crate::evidence::EvidenceKind;
use crate::managed::{Managed, ServerRows, managed_rows};
use crate::memory::{HookMemory, KeptRow, PairView, Seen};
use crate::node::Node;
use crate::observed::ProxyView;
use crate::orchestrator::{Answer, Identity, NewestRecoveries, ProxyHooks, Recovery};
use crate::plan::HookRepairs;
use crate::policy::HOOKS_LAST_S;
use crate::table::{Comment, Hostgroup, Layer, Row, RowKey, Status, is_at_defaults, unmarked};

/// The most nodes that are viewed. What the hooks do to others stays as it is.
const VIEWED_MAX: usize = 10_000;

/// A view without a row, and settings that are gone, are kept this long, in s.
const GONE_KEPT_S: i64 = 3_600;

/// Takes the leader's word about its hooks into the memory.
pub(crate) fn learn_hooks(hooks: &mut HookMemory, answer: &Answer, now_ms: u64) {
    let Some(said) = answer.hooks else { return };
    hooks.asked = Some((answer.leader.clone(), now_ms));
    match said {
        ProxyHooks::Unclear => {}
        ProxyHooks::On => hooks.said = Some((answer.leader.clone(), said)),
        ProxyHooks::Off | ProxyHooks::Absent => {
            let (asked, said) = (hooks.asked.take(), Some((answer.leader.clone(), said)));
            *hooks = HookMemory { asked, said, ..HookMemory::default() };
        }
    }
}

/// A node's rows in one pair, in one tick.
#[derive(Default)]
struct Shown<'a> {
    /// A runtime row is in service, or this program fenced it.
    serves: bool,
    /// Hostgroups with a row that somebody else took out, or that an operator's order did.
    out: BTreeSet<Hostgroup>,
    /// The runtime rows.
    rows: BTreeMap<Hostgroup, &'a Row>,
}

/// Views the rows, if the hooks are on. `records` are by server.
pub(crate) fn view(
    hooks: &mut HookMemory,
    proxy: &ProxyView,
    managed: &Managed,
    records: &[Recovery],
    identity: &Identity,
    date_s: i64,
) {
    if !matches!(hooks.said, Some((_, ProxyHooks::On))) {
        return;
    }
    let mut shown = shown(proxy, managed);
    let now = Seen { after_s: hooks.viewed_s, by_s: date_s };
    let newest = NewestRecoveries::of_each(records);
    for (writer, nodes) in &mut hooks.views {
        for (node, view) in nodes.iter_mut() {
            let of_node = shown.remove(&(*writer, node.clone())).unwrap_or_default();
            let of_it = newest.of(identity.server(node)).map_or(0, |record| record.at_ns);
            update(view, &of_node, now, of_it);
        }
        let is_old = |seen: &Seen| date_s.saturating_sub(seen.by_s) > GONE_KEPT_S;
        nodes.retain(|_, view| !view.soft.is_empty() || !view.out.as_ref().is_some_and(is_old));
        for view in nodes.values_mut() {
            view.kept.retain(|_, kept| !kept.gone.as_ref().is_some_and(is_old));
        }
    }
    hooks.views.retain(|_, nodes| !nodes.is_empty());
    let mut viewed: usize = hooks.views.values().map(BTreeMap::len).sum();
    for ((writer, node), of_node) in shown {
        if viewed < VIEWED_MAX {
            viewed += 1;
            let view = hooks.views.entry(writer).or_default().entry(node).or_default();
            update(view, &of_node, Seen { after_s: None, by_s: date_s }, 0);
        }
    }
    hooks.viewed_s = Some(date_s);
}

fn shown<'a>(proxy: &'a ProxyView, managed: &Managed) -> BTreeMap<(Hostgroup, Node), Shown<'a>> {
    let mut shown: BTreeMap<_, Shown<'a>> = BTreeMap::new();
    for (layer, row) in managed_rows(proxy, managed).filter(|(layer, row)| !row.is_ghost_in(*layer)) {
        let (Some(pair), Some(node)) = (managed.pair_of(row.key.hostgroup), row.node()) else { continue };
        let of_node = shown.entry((pair.writer, node)).or_default();
        let is_fenced = Comment::kind(&row.comment).is_some_and(|kind| kind != EvidenceKind::Manual);
        if !is_fenced && !row.status.in_service() {
            of_node.out.insert(row.key.hostgroup);
        }
        if layer == Layer::Runtime {
            of_node.serves |= is_fenced || row.status.in_service();
            of_node.rows.insert(row.key.hostgroup, row);
        }
    }
    shown
}

fn update(view: &mut PairView, shown: &Shown<'_>, now: Seen, newest_ns: u64) {
    view.soft.retain(|hostgroup, _| shown.out.contains(hostgroup));
    for hostgroup in &shown.out {
        view.soft.entry(*hostgroup).or_insert(now);
    }
    view.out = if shown.serves { None } else { view.out.or(Some(now)) };
    let set: BTreeMap<_, _> = shown.rows.iter().filter(|(_, row)| !is_at_defaults(row)).collect();
    if !set.is_empty() {
        // Somebody, or this program, has set the node's rows: what they were before is settled.
        let is_gone = |kept: &KeptRow| kept.gone.is_some();
        if view.kept.values().any(is_gone) {
            view.restored_ns = newest_ns;
        }
        view.kept.retain(|hostgroup, _| shown.rows.contains_key(hostgroup));
        view.kept.retain(|_, kept| !is_gone(kept));
    }
    for (hostgroup, kept) in &mut view.kept {
        if !set.contains_key(hostgroup) {
            kept.gone.get_or_insert(now);
        }
    }
    for (hostgroup, row) in set {
        let kept = KeptRow { comment: unmarked(&row.comment), settings: row.settings.clone(), gone: None };
        view.kept.insert(*hostgroup, kept);
    }
}

/// Whether a change fell into a recovery, as far as the views tell.
fn is_of(seen: Seen, record: &Recovery) -> bool {
    let ended_s = record.end_s.unwrap_or(i64::MAX);
    let is_in_time = |after_s: i64| after_s <= ended_s.saturating_add(HOOKS_LAST_S);
    seen.by_s >= record.at_s() && seen.after_s.is_some_and(is_in_time)
}

impl Facts<'_> {
    /// Whether this tick's leader has hooks that change ProxySQL.
    pub(super) fn hooks_are_on(&self) -> bool {
        let said = self.memory.hooks.said.as_ref();
        self.answer.is_some_and(|answer| said == Some(&(answer.leader.clone(), ProxyHooks::On)))
    }

    /// The view of the node of a row, in the row's pair.
    fn view_of(&self, key: &RowKey) -> Option<&PairView> {
        let pair = self.managed.pair_of(key.hostgroup)?;
        self.memory.hooks.views.get(&pair.writer)?.get(&key.node()?)
    }

    /// The rows of a superseded node that the hooks took out, and that nobody had taken out before.
    pub(super) fn left_by_hooks(&self, node: &Node, rows: &ServerRows<'_>) -> Vec<RowKey> {
        let Some(record) = self.superseding(node).filter(|_| self.hooks_are_on()) else { return Vec::new() };
        let is_left = |row: &&Row| {
            let went_out = |view: &PairView| {
                let row_did = view.soft.get(&row.key.hostgroup).is_some_and(|seen| is_of(*seen, record));
                row_did && view.out.is_none_or(|seen| is_of(seen, record))
            };
            is_plainly_out(row) && self.view_of(&row.key).is_some_and(went_out)
        };
        rows.of(Layer::Runtime).filter(is_left).map(|row| row.key.clone()).collect()
    }

    /// What a row had before the hooks of this recovery reset it.
    fn reset_by_hooks(&self, key: &RowKey, record: &Recovery) -> Option<KeptRow> {
        let view = self.view_of(key).filter(|view| view.restored_ns < record.at_ns)?;
        let was_reset = |kept: &&KeptRow| kept.gone.is_some_and(|gone| is_of(gone, record));
        let own = view.kept.get(&key.hostgroup).filter(was_reset);
        own.or_else(|| view.kept.values().find(was_reset)).cloned()
    }

    /// What the plan takes over of the hooks' doing. `left` are rows of nodes that this tick fences.
    pub(super) fn hook_repairs(&self, left: BTreeMap<RowKey, Node>) -> HookRepairs {
        let mut repairs = HookRepairs::default();
        if !self.hooks_are_on() || self.observed.orders.suspended.is_some() {
            return repairs;
        }
        for (server, rows) in self.rows.servers().filter(|(_, rows)| self.unsure_name_in(rows).is_none()) {
            let Some(record) = self.newest.of(server) else { continue };
            let is_new_writer = |row: &&Row| {
                self.newest.promoting(server).is_some() && self.managed.pair_of_writer(row.key.hostgroup).is_some()
            };
            let is_reset = |row: &&Row| is_at_defaults(row) && (left.contains_key(&row.key) || is_new_writer(row));
            for row in rows.of(Layer::Runtime).filter(|row| !row.is_ghost_in(Layer::Runtime)).filter(is_reset) {
                repairs.reset.extend(self.reset_by_hooks(&row.key, record).map(|kept| (row.key.clone(), kept)));
            }
        }
        repairs.adopted = left.into_keys().collect();
        repairs
    }

    /// The writer hostgroups without a writer, with a row that somebody took out while the rows were viewed. The hooks do
    /// so before a failover, and undo nothing if it fails. While a recovery may still be at work, nothing is said.
    pub(super) fn without_writer(&self) -> BTreeMap<Hostgroup, RowKey> {
        let mut found = BTreeMap::new();
        let Some(answer) = self.answer.filter(|_| self.hooks_are_on()) else { return found };
        for writer in self.managed.writers().filter(|writer| self.managed.pair_of_writer(*writer).is_some()) {
            let rows = || self.rows.in_runtime(writer);
            if rows().any(|(_, row)| row.status.in_service()) {
                continue;
            }
            let is_left = |(server, row): &(&Node, &Row)| {
                let seen = self.view_of(&row.key).and_then(|view| view.soft.get(&writer));
                let lasts =
                    |seen: &Seen| seen.after_s.is_some() && answer.date_s.saturating_sub(seen.by_s) > HOOKS_LAST_S;
                is_plainly_out(row) && self.superseding(server).is_none() && seen.is_some_and(lasts)
            };
            found.extend(rows().find(is_left).map(|(_, row)| (writer, row.key.clone())));
        }
        found
    }
}

/// Whether a row is OFFLINE_SOFT without this program's marker.
fn is_plainly_out(row: &Row) -> bool {
    row.status == Status::OfflineSoft && Comment::parse(&row.comment) == Comment::Plain
}
