//! The hostgroups and rows that the program may touch, and an index of the rows by server.
//!
//! The definition is design §2. Rows are indexed once per tick, so every rule is linear in their number.

use std::collections::{BTreeMap, BTreeSet};

use crate::evidence::EvidenceKind;
use crate::node::Node;
use crate::observed::ProxyView;
use crate::orchestrator::Identity;
use crate::policy::Policy;
use crate::table::{CheckType, Comment, Hostgroup, Layer, Pair, Row, Status};

/// The hostgroups that may be touched, and which of them take writes.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Managed {
    /// Pairs by their writer hostgroup.
    pairs: BTreeMap<Hostgroup, Pair>,
    /// The writer hostgroup of each reader hostgroup.
    writer_of: BTreeMap<Hostgroup, Hostgroup>,
    /// Writer hostgroups without a pair, as the config names them.
    named_writers: BTreeSet<Hostgroup>,
    /// Hostgroups that are never touched.
    excluded: BTreeSet<Hostgroup>,
}

impl Managed {
    /// The managed hostgroups of one ProxySQL.
    pub fn of(proxy: &ProxyView, policy: &Policy) -> Self {
        let mut excluded: BTreeSet<Hostgroup> = proxy.foreign.union(&policy.excluded_hostgroups).copied().collect();
        let is_ours = |pair: &&Pair| !excluded.contains(&pair.writer) && !excluded.contains(&pair.reader);
        let (ours, others): (Vec<&Pair>, Vec<&Pair>) = proxy.pairs.iter().partition(is_ours);
        let mut managed = Self::of_pairs(ours.into_iter().cloned());
        // The monitor moves rows between the halves of a pair, so if one half is excluded, the other is too.
        excluded.extend(others.iter().flat_map(|pair| [pair.writer, pair.reader]));
        managed.named_writers = policy.writer_hostgroups.difference(&excluded).copied().collect();
        managed.excluded = excluded;
        managed
    }

    /// Every hostgroup, with these pairs.
    pub fn of_pairs(pairs: impl IntoIterator<Item = Pair>) -> Self {
        let pairs: BTreeMap<Hostgroup, Pair> = pairs.into_iter().map(|pair| (pair.writer, pair)).collect();
        let writer_of = pairs.values().map(|pair| (pair.reader, pair.writer)).collect();
        Self { pairs, writer_of, ..Self::default() }
    }

    /// Whether rows of this hostgroup may be touched.
    pub fn contains(&self, hostgroup: Hostgroup) -> bool {
        !self.excluded.contains(&hostgroup)
    }

    /// Whether it takes writes: the writer hostgroup of a pair, or one that the config names.
    pub fn is_writer(&self, hostgroup: Hostgroup) -> bool {
        self.pairs.contains_key(&hostgroup) || self.named_writers.contains(&hostgroup)
    }

    /// Every hostgroup that takes writes.
    pub fn writers(&self) -> impl Iterator<Item = Hostgroup> {
        let named = self.named_writers.iter().filter(|hostgroup| !self.pairs.contains_key(hostgroup));
        self.pairs.keys().chain(named).copied()
    }

    /// The pair whose writer hostgroup this is.
    pub fn pair_of_writer(&self, hostgroup: Hostgroup) -> Option<&Pair> {
        self.pairs.get(&hostgroup)
    }

    /// The writer hostgroup that belongs to this one: itself, or the other half of its pair. `None`: nothing makes a
    /// node of this hostgroup a writer.
    pub fn writer_beside(&self, hostgroup: Hostgroup) -> Option<Hostgroup> {
        match self.pair_of(hostgroup) {
            Some(pair) => Some(pair.writer),
            None => self.named_writers.contains(&hostgroup).then_some(hostgroup),
        }
    }

    /// The pair that has this hostgroup as either half.
    pub fn pair_of(&self, hostgroup: Hostgroup) -> Option<&Pair> {
        self.pairs.get(&hostgroup).or_else(|| self.pairs.get(self.writer_of.get(&hostgroup)?))
    }
}

/// The managed rows of one server, under all its names.
#[derive(Debug, Default)]
pub struct ServerRows<'a> {
    names: Vec<Node>,
    rows: Vec<(Layer, &'a Row)>,
    has_note: bool,
}

impl<'a> ServerRows<'a> {
    /// The names of the server in its rows.
    pub fn names(&self) -> &[Node] {
        &self.names
    }

    /// Whether any row has a marker, readable or not.
    pub fn has_note(&self) -> bool {
        self.has_note
    }

    /// Whether a row of this layer has a marker of this kind.
    pub fn has_marker(&self, layer: Layer, kind: EvidenceKind) -> bool {
        self.has_note && self.of(layer).any(|row| Comment::kind(&row.comment) == Some(kind))
    }

    /// The rows of every layer, runtime first.
    pub fn all(&self) -> impl Iterator<Item = &'a Row> {
        self.rows.iter().map(|(_, row)| *row)
    }

    /// The rows of one layer.
    pub fn of(&self, layer: Layer) -> impl Iterator<Item = &'a Row> {
        self.rows.iter().filter(move |(of, _)| *of == layer).map(|(_, row)| *row)
    }

    /// The hostgroups in which the server has a row, in any layer.
    pub fn hostgroups(&self) -> BTreeSet<Hostgroup> {
        self.all().map(|row| row.key.hostgroup).collect()
    }

    /// Whether the server has a row in a writer hostgroup, in any layer.
    pub fn has_writer(&self, managed: &Managed) -> bool {
        self.all().any(|row| managed.is_writer(row.key.hostgroup))
    }

    /// Whether the server has a runtime row in service.
    pub fn in_service(&self) -> bool {
        self.of(Layer::Runtime).any(|row| row.status.in_service())
    }

    /// Whether ProxySQL sends writes to the server once it is writable: it has a row in a pair or in a writer
    /// hostgroup.
    pub fn may_become_writer(&self, managed: &Managed) -> bool {
        self.all().any(|row| managed.writer_beside(row.key.hostgroup).is_some())
    }

    /// A `check_type` of the server's pairs that `read_only` alone does not prove.
    pub fn unproven_check_type(&self, managed: &'a Managed) -> Option<&'a str> {
        self.all().find_map(|row| match &managed.pair_of(row.key.hostgroup)?.check_type {
            CheckType::ReadOnly => None,
            CheckType::Other(text) => Some(text.as_str()),
        })
    }
}

/// The managed rows of one ProxySQL, by server.
#[derive(Debug, Default)]
pub struct ManagedRows<'a> {
    /// Sorted by name.
    servers: Vec<(Node, ServerRows<'a>)>,
    in_runtime: BTreeMap<Hostgroup, Vec<(Node, &'a Row)>>,
}

impl<'a> ManagedRows<'a> {
    /// Indexes the rows of every layer.
    pub fn new(proxy: &'a ProxyView, managed: &Managed, identity: &Identity) -> Self {
        let mut index = Self::default();
        let mut named = Vec::with_capacity(3 * proxy.runtime.len());
        for (layer, row) in managed_rows(proxy, managed) {
            let Some(name) = row.node() else { continue };
            let server = identity.server(&name).clone();
            if layer == Layer::Runtime {
                index.in_runtime.entry(row.key.hostgroup).or_default().push((server.clone(), row));
            }
            named.push((server, name, layer, row));
        }
        // Each table comes sorted, so this stable sort is a cheap merge. It keeps the order of the layers.
        named.sort_by(|(a, ..), (b, ..)| a.cmp(b));
        for (server, name, layer, row) in named {
            if index.servers.last().is_none_or(|(last, _)| *last != server) {
                index.servers.push((server, ServerRows::default()));
            }
            let Some((_, rows)) = index.servers.last_mut() else { continue };
            if !rows.names.contains(&name) {
                rows.names.push(name);
            }
            rows.rows.push((layer, row));
            rows.has_note |= Comment::parse(&row.comment) != Comment::Plain;
        }
        index
    }

    /// The servers that have managed rows, sorted by name.
    pub fn servers(&self) -> impl Iterator<Item = (&Node, &ServerRows<'a>)> {
        self.servers.iter().map(|(server, rows)| (server, rows))
    }

    /// The rows of one server.
    pub fn of(&self, server: &Node) -> Option<&ServerRows<'a>> {
        let at = self.servers.binary_search_by(|(other, _)| other.cmp(server)).ok()?;
        self.servers.get(at).map(|(_, rows)| rows)
    }

    /// Whether this server has managed rows.
    pub fn serves(&self, server: &Node) -> bool {
        self.of(server).is_some()
    }

    /// The runtime rows of a hostgroup, each with its server.
    pub fn in_runtime(&self, hostgroup: Hostgroup) -> impl Iterator<Item = (&Node, &'a Row)> {
        self.in_runtime.get(&hostgroup).into_iter().flatten().map(|(server, row)| (server, *row))
    }

    /// The servers that are ONLINE in a hostgroup.
    pub fn online(&self, hostgroup: Hostgroup) -> BTreeSet<&Node> {
        let online = self.in_runtime(hostgroup).filter(|(_, row)| row.status == Status::Online);
        online.map(|(server, _)| server).collect()
    }

    /// The servers that ProxySQL may send traffic to in a hostgroup, now or later.
    pub fn in_service(&self, hostgroup: Hostgroup) -> BTreeSet<&Node> {
        let in_service = self.in_runtime(hostgroup).filter(|(_, row)| row.status.in_service());
        in_service.map(|(server, _)| server).collect()
    }

    /// Whether any row has a marker of this kind.
    pub fn any_marker(&self, kind: EvidenceKind) -> bool {
        let layers = Layer::ALL;
        self.servers.iter().any(|(_, rows)| layers.iter().any(|layer| rows.has_marker(*layer, kind)))
    }

    /// Whether any row has a marker, readable or not.
    pub fn any_note(&self) -> bool {
        self.servers.iter().any(|(_, rows)| rows.has_note)
    }
}

/// The names of the nodes that have managed rows.
pub fn served(proxy: &ProxyView, managed: &Managed) -> BTreeSet<Node> {
    managed_rows(proxy, managed).filter_map(|(_, row)| row.node()).collect()
}

/// The managed rows that name a node, runtime first, without an index.
pub fn managed_rows<'a, 'm>(
    proxy: &'a ProxyView,
    managed: &'m Managed,
) -> impl Iterator<Item = (Layer, &'a Row)> + use<'a, 'm> {
    let layers = Layer::ALL.into_iter();
    let rows = layers.flat_map(|layer| proxy.layer(layer).iter().map(move |row| (layer, row)));
    rows.filter(|(_, row)| managed.contains(row.key.hostgroup) && row.key.hostname.host().is_some())
}
