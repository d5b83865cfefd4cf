//! The plan: the smallest set of row changes that carries the verdicts out.
//!
//! **Invariant:** one function, [`Plan::carry_out`], gives the rows that a layer must have, with the same rules for
//! runtime, memory and disk. The decision compares with it, and the apply follows it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use crate::evidence::EvidenceKind;
use crate::lease::LeaseAction;
use crate::managed::Managed;
use crate::memory::KeptRow;
use crate::node::Node;
use crate::observed::{PauseSeen, ProxyView};
use crate::online_limit::LimitChanges;
use crate::orders::Release;
use crate::role::Role;
use crate::table::{Change, Comment, Layer, Marker, Row, RowKey, Status, is_at_defaults, mark, unmarked};

/// The plan for all managed rows of a node.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Directive {
    /// The rows go out of service.
    Fence {
        /// The highest-ranking evidence, for the marker.
        kind: EvidenceKind,
        /// The node that took over, for the marker.
        by: Option<Node>,
        /// Whether the node's sessions are ended too.
        sessions: bool,
    },
    /// The rows go back into service, in this role.
    Unfence(Role),
}

/// The isolation of a ProxySQL Cluster member: it is paused, and no row changes (design §10).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum PauseAction {
    /// No new client is taken, and the sessions that are left are ended.
    Pause(PauseSeen),
    /// It takes clients again. Only a pause that agents noted ends.
    Resume,
}

impl PauseAction {
    /// A stable name for programs.
    pub fn label(self) -> &'static str {
        match self {
            Self::Pause(_) => "pause",
            Self::Resume => "resume",
        }
    }
}

/// The change of one row in one layer.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RowChange {
    /// The layer that is changed.
    pub layer: Layer,
    /// The row before and after.
    pub change: Change<Row>,
}

impl RowChange {
    /// The key of the row. A change keeps it.
    pub fn key(&self) -> &RowKey {
        &self.change.either().key
    }

    /// The status before; `None` if the row is made.
    pub fn from_status(&self) -> Option<&Status> {
        self.change.from().map(|row| &row.status)
    }

    /// The status after; `None` if the row is deleted.
    pub fn to_status(&self) -> Option<&Status> {
        self.change.to().map(|row| &row.status)
    }
}

impl fmt::Display for RowChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [from, to] = [self.from_status(), self.to_status()].map(|status| status.map_or("(none)", Status::as_str));
        write!(f, "{} {} {from} -> {to}", self.layer, self.key())
    }
}

/// What is taken over of what Orchestrator's own hooks did (facts §14).
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct HookRepairs {
    /// OFFLINE_SOFT rows that the hooks left without a marker. They get the marker of their node's fence.
    pub adopted: BTreeSet<RowKey>,
    /// Rows that the hooks reset to the defaults, with what they had before.
    pub reset: BTreeMap<RowKey, KeptRow>,
}

impl HookRepairs {
    /// A row that the hooks reset, with what it had before. A row that somebody has set since stays as it is.
    fn restored(&self, row: &Row) -> Option<Row> {
        let kept = self.reset.get(&row.key).filter(|_| is_at_defaults(row))?;
        let mut restored = row.clone();
        let before = kept.settings.iter().filter(|(name, _)| row.settings.contains_key(*name));
        restored.settings.extend(before.map(|(name, value)| (name.clone(), value.clone())));
        restored.comment = match Comment::parse(&row.comment) {
            Comment::Marked(_, marker) => mark(&kept.comment, &marker),
            Comment::Plain | Comment::Unreadable(_) => kept.comment.clone(),
        };
        Some(restored)
    }
}

/// Why a change is made that no verdict's evidence explains.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ChangeReason {
    /// Orchestrator's hooks took the row out, and it gets this program's marker.
    Adopted,
    /// Orchestrator's hooks reset the row, and it gets these columns back.
    Restored(BTreeMap<String, String>),
}

impl ChangeReason {
    /// A stable name for programs.
    pub fn label(&self) -> &'static str {
        match self {
            Self::Adopted => "adopted",
            Self::Restored(_) => "restored",
        }
    }
}

impl fmt::Display for ChangeReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Adopted => write!(f, "adopted: Orchestrator's hooks took it out"),
            Self::Restored(columns) => {
                let columns: Vec<String> = columns.iter().map(|(name, value)| format!("{name}={value}")).collect();
                write!(f, "restored, since Orchestrator's hooks reset it: {}", columns.join(", "))
            }
        }
    }
}

/// The input of an apply.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Plan {
    /// The hostgroups that may be touched.
    pub managed: Managed,
    /// The directive of each node that is fenced or returns, whether its rows change in this tick or not.
    pub directives: BTreeMap<Node, Directive>,
    /// What is taken over of what Orchestrator's own hooks did.
    pub hooks: HookRepairs,
    /// The markers that returning nodes' rows had at the decision. A row with another marker by now was fenced again by
    /// another agent, and stays out.
    pub marked: BTreeMap<Node, BTreeSet<Marker>>,
    /// The row changes as they were decided, for people and for [`Plan::is_empty`].
    pub changes: Vec<RowChange>,
    /// Nodes that still have connections in use and must not keep a session.
    pub sessions: BTreeSet<Node>,
    /// An earlier apply was cut off, and has to be finished first.
    pub finish: bool,
    /// The releases of returning nodes, for the other agents of this ProxySQL.
    pub releases: BTreeMap<Node, Release>,
    /// `policy.end_possible_holders`: idle sessions that may hold a fenced node are ended if nothing shows which ones
    /// do.
    pub end_possible_holders: bool,
    /// A LOAD by somebody else is an operator's, since no ProxySQL Cluster peer spreads its tables to this ProxySQL.
    pub loads_are_operators: bool,
    /// The change to the lease that agents share.
    pub lease_action: Option<LeaseAction>,
    /// The change to whether this ProxySQL takes clients.
    pub pause: Option<PauseAction>,
    /// The changes to the backstop of writer hostgroups, which an order makes and no tick.
    pub limits: LimitChanges,
}

impl Plan {
    /// The plan that carries these directives out on the rows of `proxy`.
    pub fn new(managed: Managed, directives: BTreeMap<Node, Directive>, proxy: &ProxyView) -> Self {
        Self::with_hooks(managed, directives, HookRepairs::default(), proxy)
    }

    /// The same, with what is taken over of the hooks' doing.
    pub fn with_hooks(
        managed: Managed,
        directives: BTreeMap<Node, Directive>,
        hooks: HookRepairs,
        proxy: &ProxyView,
    ) -> Self {
        let mut plan = Self {
            managed,
            directives,
            hooks,
            finish: proxy.unfinished,
            loads_are_operators: !proxy.clustered,
            ..Self::default()
        };
        let layers = [Layer::Disk, Layer::Memory, Layer::Runtime];
        plan.note_markers(layers.iter().flat_map(|layer| proxy.layer(*layer)));
        for layer in layers {
            plan.changes.extend(plan.changes_in(layer, proxy.layer(layer)));
        }
        plan.sessions = plan
            .ending_sessions()
            .filter(|node| proxy.conn_used.get(*node).is_some_and(|used| *used > 0))
            .cloned()
            .collect();
        plan
    }

    /// Adds to `marked` the markers that returning nodes have in these rows.
    pub fn note_markers<'r>(&mut self, rows: impl IntoIterator<Item = &'r Row>) {
        if !self.unfences() {
            return;
        }
        for row in rows {
            let Some(node) = row.node().filter(|_| self.managed.contains(row.key.hostgroup)) else { continue };
            if let Some(Directive::Unfence(_)) = self.directives.get(&node)
                && let Comment::Marked(_, marker) = Comment::parse(&row.comment)
            {
                self.marked.entry(node).or_default().insert(marker);
            }
        }
    }

    /// Whether there is nothing to do (I7).
    pub fn is_empty(&self) -> bool {
        self.lease_action.is_none() && self.pause.is_none() && !self.changes_rows()
    }

    /// Whether rows, sessions or an earlier apply need an apply. A shared lease alone does not.
    pub fn changes_rows(&self) -> bool {
        !self.changes.is_empty() || !self.sessions.is_empty() || self.finish || !self.limits.is_empty()
    }

    /// The nodes that may keep no session.
    pub fn ending_sessions(&self) -> impl Iterator<Item = &Node> {
        self.directives.iter().filter_map(|(node, directive)| match directive {
            Directive::Fence { sessions: true, .. } => Some(node),
            _ => None,
        })
    }

    /// The nodes that are let back, with their roles.
    pub fn returns(&self) -> impl Iterator<Item = (&Node, Role)> {
        self.directives.iter().filter_map(|(node, directive)| match directive {
            Directive::Unfence(role) => Some((node, *role)),
            Directive::Fence { .. } => None,
        })
    }

    /// Whether some directive lets a node back.
    pub fn unfences(&self) -> bool {
        self.returns().next().is_some()
    }

    /// The reason of a change that the verdict's evidence does not explain.
    pub fn reason(&self, change: &RowChange) -> Option<ChangeReason> {
        let Change::Replace { from, to } = &change.change else { return None };
        if self.hooks.adopted.contains(&from.key) && from.status == to.status {
            return Some(ChangeReason::Adopted);
        }
        self.hooks.reset.get(&from.key)?;
        let set = to.settings.iter().filter(|(name, value)| from.settings.get(*name) != Some(*value));
        Some(ChangeReason::Restored(set.map(|(name, value)| (name.clone(), value.clone())).collect()))
    }

    /// The rows of one layer after the plan. On its own outcome it changes nothing (I7).
    pub fn carry_out(&self, rows: &[Row]) -> Vec<Row> {
        let mut after: BTreeMap<RowKey, Row> = BTreeMap::new();
        let mut made: Vec<Row> = Vec::new();
        for found in rows {
            let restored = self.hooks.restored(found);
            let row = restored.as_ref().unwrap_or(found);
            let directive = row
                .node()
                .filter(|_| self.managed.contains(row.key.hostgroup))
                .and_then(|node| self.directives.get(&node));
            let outcome = match directive {
                None => Some(row.clone()),
                Some(Directive::Fence { kind, by, .. }) => {
                    Some(fenced(row, *kind, by.as_ref(), self.hooks.adopted.contains(&row.key)))
                }
                Some(Directive::Unfence(role)) => {
                    if let Some(row) = self.counterpart(row, *role) {
                        made.push(row);
                    }
                    self.unfenced(row, *role)
                }
            };
            if let Some(row) = outcome {
                after.insert(row.key.clone(), row);
            }
        }
        for row in made {
            // A row that the node already has stays as it is, since an operator may have taken it out (I3).
            after.entry(row.key.clone()).or_insert(row);
        }
        after.into_values().collect()
    }

    /// The row changes of one layer.
    pub fn changes_in(&self, layer: Layer, rows: &[Row]) -> Vec<RowChange> {
        if self.directives.is_empty() && self.hooks.reset.is_empty() {
            return Vec::new();
        }
        // Rows of other nodes do not change. Without this filter thousands would be copied in vain.
        let is_named = |row: &Row| row.node().is_some_and(|node| self.directives.contains_key(&node));
        let concerned =
            |row: &&Row| !row.is_ghost_in(layer) && (is_named(row) || self.hooks.reset.contains_key(&row.key));
        let rows: Vec<Row> = rows.iter().filter(concerned).cloned().collect();
        let before: BTreeMap<&RowKey, &Row> = rows.iter().map(|row| (&row.key, row)).collect();
        let after = self.carry_out(&rows);
        let after: BTreeMap<&RowKey, &Row> = after.iter().map(|row| (&row.key, row)).collect();
        let keys: BTreeSet<&RowKey> = before.keys().chain(after.keys()).copied().collect();
        let change = |key: &RowKey| {
            let row = |rows: &BTreeMap<&RowKey, &Row>| rows.get(key).map(|row| (*row).clone());
            Some(RowChange { layer, change: Change::between(row(&before), row(&after))? })
        };
        keys.into_iter().filter_map(change).collect()
    }

    /// The operator's part of a row's comment and the marker, if this plan lets the row back.
    fn lets_back(&self, row: &Row) -> Option<(String, Marker)> {
        let Comment::Marked(_, marker) = Comment::parse(&row.comment) else { return None };
        let marked = self.marked.get(&row.node()?)?;
        marked.contains(&marker).then(|| (unmarked(&row.comment), marker))
    }

    /// A returning node's row after the plan; `None` if it is deleted. A row without a marker stays as it is (I3).
    fn unfenced(&self, row: &Row, role: Role) -> Option<Row> {
        let Some((before, marker)) = self.lets_back(row) else { return Some(row.clone()) };
        let mut back = Row { comment: before, ..row.clone() };
        if row.status != Status::OfflineSoft {
            return Some(back); // an operator chose another status meanwhile, so the row is theirs
        }
        if role == Role::Replica && self.managed.is_writer(row.key.hostgroup) {
            let is_monitored = self.managed.pair_of_writer(row.key.hostgroup).is_some();
            return (!is_monitored).then(|| waiting(row, &marker));
        }
        if marker.kind == EvidenceKind::Replica && role != Role::Primary {
            return Some(row.clone());
        }
        back.status = marker.was;
        Some(back)
    }

    /// The row that a returning node needs in the other half of the pair, made with this row's settings.
    fn counterpart(&self, row: &Row, role: Role) -> Option<Row> {
        let (before, marker) = self.lets_back(row)?;
        if row.status != Status::OfflineSoft {
            return None;
        }
        let pair = self.managed.pair_of(row.key.hostgroup)?;
        let hostgroup = match role {
            Role::Replica if pair.writer == row.key.hostgroup => pair.reader,
            Role::Primary if pair.reader == row.key.hostgroup => pair.writer,
            _ => return None,
        };
        Some(Row {
            key: RowKey { hostgroup, ..row.key.clone() },
            status: marker.was,
            comment: before,
            settings: row.settings.clone(),
        })
    }
}

/// The row out of service and with the marker. A row that an operator took out stays as it is (I3), and so does a row
/// that cannot be understood (I1). An adopted row is out already, and not by an operator.
fn fenced(row: &Row, kind: EvidenceKind, by: Option<&Node>, is_adopted: bool) -> Row {
    let (marked, was) = match Comment::parse(&row.comment) {
        Comment::Unreadable(_) => return row.clone(),
        // A replica's row in a named writer hostgroup is out already, and waits until the node is the primary.
        Comment::Marked(_, marker) if marker.kind == EvidenceKind::Replica && row.status == Status::OfflineSoft => {
            return row.clone();
        }
        Comment::Plain => (false, Status::Online),
        Comment::Marked(_, marker) => (true, marker.was),
    };
    let ours = match row.status {
        Status::Online | Status::Shunned => true,
        Status::OfflineSoft => marked || is_adopted,
        Status::OfflineHard | Status::Unknown(_) => false,
    };
    if !ours {
        return row.clone();
    }
    let marker = Marker { kind, by: by.cloned(), was };
    Row { status: Status::OfflineSoft, comment: mark(&row.comment, &marker), ..row.clone() }
}

/// A replica's row in a named writer hostgroup. It stays out until the node is the primary.
fn waiting(row: &Row, marker: &Marker) -> Row {
    let marker = Marker { kind: EvidenceKind::Replica, by: None, was: marker.was.clone() };
    Row { status: Status::OfflineSoft, comment: mark(&row.comment, &marker), ..row.clone() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::{Hostgroup, Status};

    #[test]
    fn a_change_reads_as_layer_row_and_what_becomes_of_it() {
        let row = |status| {
            let key = RowKey { hostgroup: Hostgroup(20), hostname: "node02".into(), port: 3306 };
            Row { key, status, comment: String::new(), settings: Default::default() }
        };
        let (from, to) = (row(Status::Online), row(Status::OfflineSoft));
        let change = RowChange { layer: Layer::Runtime, change: Change::Replace { from: from.clone(), to } };
        assert_eq!(change.to_string(), "runtime 20/node02:3306 ONLINE -> OFFLINE_SOFT");
        let deleted = RowChange { change: Change::Delete(from), ..change };
        assert_eq!(deleted.to_string(), "runtime 20/node02:3306 ONLINE -> (none)");
    }
}
