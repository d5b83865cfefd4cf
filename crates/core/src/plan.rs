//! From verdicts to rows: the smallest set of row changes that carries them out.
//!
//! One function, [`Plan::carry_out`], says what a layer's rows become. `decide` compares with it, `apply` follows
//! it, and the same rules hold for runtime, memory and disk.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use crate::evidence::EvidenceKind;
use crate::lease::LeaseAction;
use crate::managed::Managed;
use crate::node::Node;
use crate::observed::ProxyView;
use crate::orders::Release;
use crate::role::Role;
use crate::table::{Change, Comment, Layer, Marker, Row, RowKey, Status, mark, unmarked};

/// What is to happen to all managed rows of a node.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Directive {
    /// Out of service.
    Fence {
        /// The highest-ranking evidence.
        kind: EvidenceKind,
        /// Who took over.
        by: Option<Node>,
        /// And no session left.
        sessions: bool,
    },
    /// Back, in this role.
    Unfence(Role),
}

/// One row's change in one layer.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RowChange {
    /// Where.
    pub layer: Layer,
    /// What becomes of the row.
    pub change: Change<Row>,
}

impl RowChange {
    /// The row's key.
    pub fn key(&self) -> &RowKey {
        &self.change.either().key
    }

    /// The status before; `None`: the row is made.
    pub fn from_status(&self) -> Option<&Status> {
        self.change.from().map(|row| &row.status)
    }

    /// The status after; `None`: the row is deleted.
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

/// What an apply carries out.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Plan {
    /// Which hostgroups may be touched.
    pub managed: Managed,
    /// Per node, what is to become of it: all that are fenced, changed in this tick or not.
    pub directives: BTreeMap<Node, Directive>,
    /// The notes that returning nodes' rows had when this was decided. A row that has another one by now was fenced
    /// anew by somebody else, and stays out.
    pub marked: BTreeMap<Node, BTreeSet<Marker>>,
    /// The row changes, for people and to tell whether there is anything to do.
    pub changes: Vec<RowChange>,
    /// Nodes whose sessions are to be ended: fenced so, and some are left.
    pub sessions: BTreeSet<Node>,
    /// An earlier apply has to be finished first.
    pub finish: bool,
    /// What the returning nodes are released of, for the other agents of this ProxySQL to know.
    pub releases: BTreeMap<Node, Release>,
    /// Idle sessions that may hold a fenced node are ended where it can't be told which ones do.
    pub end_possible_holders: bool,
    /// Whoever LOADs while memory is lent is an operator: no other ProxySQL spreads its tables to this one.
    pub loads_are_operators: bool,
    /// What becomes of the lease that agents share.
    pub lease_action: Option<LeaseAction>,
}

impl Plan {
    /// A plan for these directives on these rows.
    pub fn new(managed: Managed, directives: BTreeMap<Node, Directive>, proxy: &ProxyView) -> Self {
        let mut plan = Self {
            managed,
            directives,
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

    /// Takes the notes of returning nodes from these rows.
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
        self.lease_action.is_none() && !self.changes_rows()
    }

    /// Whether there is more to do than to share a lease.
    pub fn changes_rows(&self) -> bool {
        !self.changes.is_empty() || !self.sessions.is_empty() || self.finish
    }

    /// The nodes that may keep no session.
    pub fn ending_sessions(&self) -> impl Iterator<Item = &Node> {
        self.directives.iter().filter_map(|(node, directive)| match directive {
            Directive::Fence { sessions: true, .. } => Some(node),
            _ => None,
        })
    }

    /// The nodes that are let back, and as what.
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

    /// What the rows of one layer become. Applied to its own outcome it changes nothing.
    pub fn carry_out(&self, rows: &[Row]) -> Vec<Row> {
        let mut after: BTreeMap<RowKey, Row> = BTreeMap::new();
        let mut made: Vec<Row> = Vec::new();
        for row in rows {
            let directive = row
                .node()
                .filter(|_| self.managed.contains(row.key.hostgroup))
                .and_then(|node| self.directives.get(&node));
            let outcome = match directive {
                None => Some(row.clone()),
                Some(Directive::Fence { kind, by, .. }) => Some(fenced(row, *kind, by.as_ref())),
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
            // Only where the node has no such row: one that an operator took out stays out (I3).
            after.entry(row.key.clone()).or_insert(row);
        }
        after.into_values().collect()
    }

    /// The changes that carrying out makes in one layer.
    pub fn changes_in(&self, layer: Layer, rows: &[Row]) -> Vec<RowChange> {
        if self.directives.is_empty() {
            return Vec::new();
        }
        // No other row changes: of thousands most are copied for nothing.
        let concerned =
            |row: &&Row| !row.is_ghost_in(layer) && row.node().is_some_and(|node| self.directives.contains_key(&node));
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

    /// The operator's part of a row's comment and our note, if it is one that this plan lets back.
    fn lets_back(&self, row: &Row) -> Option<(String, Marker)> {
        let Comment::Marked(_, marker) = Comment::parse(&row.comment) else { return None };
        let marked = self.marked.get(&row.node()?)?;
        marked.contains(&marker).then(|| (unmarked(&row.comment), marker))
    }

    /// A row of ours goes back; one that isn't ours stays as it is (I3).
    fn unfenced(&self, row: &Row, role: Role) -> Option<Row> {
        let Some((before, marker)) = self.lets_back(row) else { return Some(row.clone()) };
        let mut back = Row { comment: before, ..row.clone() };
        if row.status != Status::OfflineSoft {
            return Some(back); // an operator chose another status meanwhile: theirs
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

    /// The row that a returning node has in the other half of the pair, made from this one's settings.
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

/// A row out of service, with our marker; one that an operator took out stays theirs (I3), one that can't be
/// understood stays as it is (I1).
fn fenced(row: &Row, kind: EvidenceKind, by: Option<&Node>) -> Row {
    let (marked, was) = match Comment::parse(&row.comment) {
        Comment::Unreadable(_) => return row.clone(),
        // It waits for its node to be the primary, whatever else comes and goes.
        Comment::Marked(_, marker) if marker.kind == EvidenceKind::Replica && row.status == Status::OfflineSoft => {
            return row.clone();
        }
        Comment::Plain => (false, Status::Online),
        Comment::Marked(_, marker) => (true, marker.was),
    };
    let ours = match row.status {
        Status::Online | Status::Shunned => true,
        Status::OfflineSoft => marked,
        Status::OfflineHard | Status::Unknown(_) => false,
    };
    if !ours {
        return row.clone();
    }
    let marker = Marker { kind, by: by.cloned(), was };
    Row { status: Status::OfflineSoft, comment: mark(&row.comment, &marker), ..row.clone() }
}

/// The row of a replica in a writer hostgroup that no monitor looks after: out, until the node is the primary.
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
            Row { key, status, comment: String::new(), settings: BTreeMap::new() }
        };
        let (from, to) = (row(Status::Online), row(Status::OfflineSoft));
        let change = RowChange { layer: Layer::Runtime, change: Change::Replace { from: from.clone(), to } };
        assert_eq!(change.to_string(), "runtime 20/node02:3306 ONLINE -> OFFLINE_SOFT");
        let deleted = RowChange { change: Change::Delete(from), ..change };
        assert_eq!(deleted.to_string(), "runtime 20/node02:3306 ONLINE -> (none)");
    }
}
