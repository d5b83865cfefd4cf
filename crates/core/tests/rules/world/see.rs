//! What a test looks at: rows, and what was decided of a node.

use std::collections::BTreeSet;

use stonith_core::decide::{Decision, HoldReason, ReturnBlocker, Verdict};
use stonith_core::evidence::EvidenceKind;
use stonith_core::lease::LeaseState;
use stonith_core::node::Node;
use stonith_core::role::Role;
use stonith_core::table::{Comment, Hostgroup, Layer, Row, RowKey};

use super::{LAYERS, Lab, node};

impl Lab {
    pub fn row(&self, layer: Layer, hostgroup: u32, name: &str) -> Option<&Row> {
        let key = RowKey { hostgroup: Hostgroup(hostgroup), hostname: name.into(), port: 3306 };
        self.proxy.layer(layer).iter().find(|row| row.key == key)
    }

    /// A node's rows of a layer: `10:ONLINE 20:OFFLINE_SOFT`.
    pub fn rows_in(&self, layer: Layer, name: &str) -> String {
        let mut rows: Vec<&Row> = self.proxy.layer(layer).iter().filter(|row| row.node() == Some(node(name))).collect();
        rows.sort();
        let text: Vec<_> = rows.iter().map(|row| format!("{}:{}", row.key.hostgroup, row.status)).collect();
        text.join(" ")
    }

    /// A node's rows in force.
    pub fn rows(&self, name: &str) -> String {
        self.rows_in(Layer::Runtime, name)
    }

    /// Out of service in every layer, by our doing.
    pub fn is_fenced(&self, name: &str) -> bool {
        LAYERS.iter().all(|layer| {
            let rows = self.proxy.layer(*layer).iter().filter(|row| row.node() == Some(node(name)));
            let rows: Vec<&Row> = rows.collect();
            !rows.is_empty()
                && rows.iter().all(|row| !row.status.in_service())
                && rows.iter().any(|row| matches!(Comment::parse(&row.comment), Comment::Marked(..)))
        })
    }

    /// The nodes that are fenced.
    pub fn fenced(&self) -> Vec<String> {
        let named = LAYERS.iter().flat_map(|layer| self.proxy.layer(*layer)).filter_map(Row::node);
        let nodes: BTreeSet<Node> = named.filter(|node| node.port == 3306).collect();
        nodes.into_iter().map(|node| node.host.to_string()).filter(|name| self.is_fenced(name)).collect()
    }

    /// Every layer's rows, to compare.
    pub fn layers(&self) -> [Vec<Row>; 3] {
        LAYERS.map(|layer| {
            let mut rows = self.proxy.layer(layer).to_vec();
            rows.sort();
            rows
        })
    }
}

/// Shorthands for what was decided of a node.
pub trait Decided {
    fn of(&self, name: &str) -> &Verdict;
    fn kinds(&self, name: &str) -> Vec<EvidenceKind>;
    fn blocker(&self, name: &str) -> Option<&ReturnBlocker>;
    fn held(&self, name: &str) -> Option<&HoldReason>;
    fn unfenced(&self, name: &str) -> Option<Role>;
    fn isolated(&self) -> bool;
}

impl Decided for Decision {
    fn of(&self, name: &str) -> &Verdict {
        &self.verdicts[&node(name)]
    }

    /// What fences it, highest rank first.
    fn kinds(&self, name: &str) -> Vec<EvidenceKind> {
        match self.of(name) {
            Verdict::Fence { evidence, .. } => evidence.iter().map(|fact| fact.kind).collect(),
            _ => vec![],
        }
    }

    fn blocker(&self, name: &str) -> Option<&ReturnBlocker> {
        match self.of(name) {
            Verdict::Fence { blocker, .. } => Some(blocker),
            _ => None,
        }
    }

    fn held(&self, name: &str) -> Option<&HoldReason> {
        match self.of(name) {
            Verdict::Hold(why) | Verdict::Ignore(why) => Some(why),
            _ => None,
        }
    }

    fn unfenced(&self, name: &str) -> Option<Role> {
        match self.of(name) {
            Verdict::Unfence { role, .. } => Some(*role),
            _ => None,
        }
    }

    fn isolated(&self) -> bool {
        self.lease_state == LeaseState::Isolated
    }
}
