//! What a test looks at: rows, and what was decided of a node.

use stonith_core::decide::{Decision, Lacks, Verdict, Why};
use stonith_core::evidence::Kind;
use stonith_core::lease::Standing;
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
        let nodes = self.servers.keys().map(|node| node.host.to_string());
        nodes.filter(|name| self.is_fenced(name)).collect()
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
    fn kinds(&self, name: &str) -> Vec<Kind>;
    fn lacks(&self, name: &str) -> Option<&Lacks>;
    fn held(&self, name: &str) -> Option<&Why>;
    fn unfenced(&self, name: &str) -> Option<Role>;
    fn isolated(&self) -> bool;
}

impl Decided for Decision {
    fn of(&self, name: &str) -> &Verdict {
        &self.verdicts[&node(name)]
    }

    /// What fences it, highest rank first.
    fn kinds(&self, name: &str) -> Vec<Kind> {
        match self.of(name) {
            Verdict::Fence { evidence, .. } => evidence.iter().map(|fact| fact.kind).collect(),
            _ => vec![],
        }
    }

    fn lacks(&self, name: &str) -> Option<&Lacks> {
        match self.of(name) {
            Verdict::Fence { lacks, .. } => Some(lacks),
            _ => None,
        }
    }

    fn held(&self, name: &str) -> Option<&Why> {
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
        self.standing == Standing::Isolated
    }
}
