//! The names of one server. They are unified here, before the decision, which sees one name per server.
//!
//! ProxySQL's rows and Orchestrator may name a server differently, such as by its address and by its host name.
//! Orchestrator can list a server under two names, such as its address and its host name, as two valid instances with
//! one `ServerUUID` (facts §8). Records and marks name either. MariaDB has no such UUID, so its names stay separate
//! nodes.

mod addresses;

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

pub use self::addresses::{Addresses, UnsureName};

use self::addresses::{Matches, Shown};
use crate::node::Node;
use crate::orchestrator::joined::Joined;
use crate::orchestrator::{Answer, Instance, Recovery};

/// The names of each server. A name in ProxySQL's rows and one in Orchestrator are the same server if, in this order: an
/// alias of the config says so, the names are equal, Orchestrator lists one `ServerUUID` under both, or their addresses
/// match, one to one.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Identity {
    /// Names that share a `ServerUUID`, each with the first of them.
    by_uuid: BTreeMap<Node, Node>,
    /// The config's aliases: the instance of each row.
    aliases: BTreeMap<Node, Node>,
    /// The rows that are matched by address.
    by_address: Matches,
    /// Each other name of a server with several, and the one that stands for it. It follows from the three above.
    server_of: BTreeMap<Node, Node>,
}

impl Identity {
    /// Learns from the leader's instances, the names in this ProxySQL's rows, the config's aliases, and addresses.
    pub fn learn(
        &mut self,
        instances: &[Instance],
        served: &BTreeSet<Node>,
        aliases: &BTreeMap<Node, Node>,
        addresses: &Addresses,
    ) {
        let listed: BTreeSet<&Node> = instances.iter().map(|instance| &instance.node).collect();
        self.learn_uuids(instances, &listed);
        self.aliases.clone_from(aliases);
        let by_uuid = &self.by_uuid;
        let has_uuid: BTreeSet<&Node> = by_uuid.iter().flat_map(|(name, of)| [name, of]).collect();
        self.by_address.learn(&Shown {
            served,
            listed: &listed,
            addresses,
            is_matched: &|row| aliases.contains_key(row) || listed.contains(row) || has_uuid.contains(row),
            server: &|instance| by_uuid.get(instance).unwrap_or(instance),
            is_aliased: &|instance| aliases.values().any(|aliased| aliased == instance),
        });
        self.server_of = self.servers(served);
    }

    /// Learns which listed names share a UUID. Two names stay one server until the leader lists both as two. A name that
    /// is not listed, or whose instance cannot be read, does not become another server.
    fn learn_uuids(&mut self, instances: &[Instance], listed: &BTreeSet<&Node>) {
        let mut learned = names_by_uuid(instances);
        let firsts: BTreeSet<Node> = learned.values().cloned().collect();
        for (name, of) in std::mem::take(&mut self.by_uuid) {
            let is_known = learned.contains_key(&name) || firsts.contains(&name);
            if !(is_known || listed.contains(&name) && listed.contains(&of)) {
                let of = learned.get(&of).cloned().unwrap_or(of);
                learned.insert(name, of);
            }
        }
        self.by_uuid = learned;
    }

    /// One name per server. A name in this ProxySQL's rows stands for the server, if there is one.
    fn servers(&self, served: &BTreeSet<Node>) -> BTreeMap<Node, Node> {
        let mut joined = Joined::default();
        self.by_uuid.iter().chain(&self.aliases).chain(self.by_address.sure()).for_each(|(a, b)| joined.join(a, b));
        let mut names_of: BTreeMap<usize, Vec<&Node>> = BTreeMap::new();
        for (name, set) in joined.set_of_each() {
            names_of.entry(set).or_default().push(name);
        }
        let mut server_of = BTreeMap::new();
        for names in names_of.into_values() {
            let Some(server) = names.iter().find(|name| served.contains(**name)).or(names.first()) else { continue };
            let others = names.iter().filter(|name| *name != server);
            server_of.extend(others.map(|name| ((*name).clone(), (*server).clone())));
        }
        server_of
    }

    /// Whether an alias or an address gives any row another name.
    pub fn has_instances(&self) -> bool {
        !self.aliases.is_empty() || self.by_address.sure().next().is_some()
    }

    /// The instance that an alias or a row's address gives to the row, if its name is another one.
    pub fn instance_of(&self, row: &Node) -> Option<&Node> {
        self.aliases.get(row).or_else(|| self.by_address.of(row)).filter(|instance| *instance != row)
    }

    /// A text in which each row that is matched to another name has that name in brackets: `10.0.0.5:3306 (db1)`.
    pub fn with_instances(&self, text: &str) -> String {
        let is_of_name = |c: char| c.is_ascii_alphanumeric() || "._-:[]".contains(c);
        let mut named = String::with_capacity(text.len());
        let mut rest = text;
        while let Some(start) = rest.find(is_of_name) {
            let word = &rest[start..];
            let word = &word[..word.find(|c| !is_of_name(c)).unwrap_or(word.len())];
            let name = word.trim_end_matches([':', '.']);
            let end = start + name.len();
            named.push_str(&rest[..end]);
            let row: Option<Node> = name.parse().ok();
            if let Some((row, instance)) = row.as_ref().and_then(|row| Some((row, self.instance_of(row)?))) {
                named.push_str(&in_brackets(row, instance));
            }
            named.push_str(&rest[end..start + word.len()]);
            rest = &rest[start + word.len()..];
        }
        named + rest
    }

    /// The reason why a row is not taken for an instance.
    pub fn unsure(&self, row: &Node) -> Option<&UnsureName> {
        self.by_address.unsure(row)
    }

    /// The name that stands for the server with this name.
    pub fn server<'n>(&'n self, name: &'n Node) -> &'n Node {
        self.server_of.get(name).unwrap_or(name)
    }

    /// All names of a server, the one that stands for it first.
    pub fn names<'n>(&'n self, server: &'n Node) -> impl Iterator<Item = &'n Node> {
        let others = self.server_of.iter().filter(move |(_, of)| *of == server).map(|(name, _)| name);
        std::iter::once(server).chain(others)
    }

    /// The other names, each with the one that stands for its server.
    pub fn aliases(&self) -> impl Iterator<Item = (&Node, &Node)> {
        self.server_of.iter()
    }

    /// Renames the nodes of an answer to one name per server.
    pub fn unified<'a>(&self, answer: &'a Answer) -> Cow<'a, Answer> {
        if self.server_of.is_empty() {
            return Cow::Borrowed(answer);
        }
        let mut unified = answer.clone();
        for downtime in &mut unified.downtimes {
            self.rename(&mut downtime.node);
        }
        for record in unified.history.iter_mut().flat_map(|history| &mut history.records) {
            self.rename_in(record);
        }
        for skipped in &mut unified.skipped {
            skipped.nodes = skipped.nodes.iter().map(|name| self.server(name).clone()).collect();
        }
        if let Some(instances) = unified.instances.take() {
            unified.instances = Some(self.one_per_server(instances));
        }
        Cow::Owned(unified)
    }

    /// Renames the nodes of a record to one name per server.
    pub fn rename_in(&self, record: &mut Recovery) {
        self.rename(&mut record.failed);
        if let Some(successor) = &mut record.successor {
            self.rename(successor);
        }
    }

    fn rename(&self, name: &mut Node) {
        if let Some(server) = self.server_of.get(name) {
            *name = server.clone();
        }
    }

    /// Keeps one instance per server: valid before invalid, then the one that was checked last. The server is downtimed
    /// if any of its instances is.
    fn one_per_server(&self, instances: Vec<Instance>) -> Vec<Instance> {
        let mut by_server: BTreeMap<Node, Instance> = BTreeMap::new();
        for mut instance in instances {
            self.rename(&mut instance.node);
            if let Some(primary) = &mut instance.primary {
                self.rename(primary);
            }
            match by_server.get_mut(&instance.node) {
                None => drop(by_server.insert(instance.node.clone(), instance)),
                Some(known) => {
                    let downtimed = known.downtimed || instance.downtimed;
                    if (instance.valid, instance.checked_s) > (known.valid, known.checked_s) {
                        *known = instance;
                    }
                    known.downtimed = downtimed;
                }
            }
        }
        by_server.into_values().collect()
    }
}

/// What follows a row's name in a text for people: ` (db1)`. The port is left out if it is the row's.
pub fn in_brackets(row: &Node, instance: &Node) -> String {
    if instance.port == row.port { format!(" ({})", instance.host) } else { format!(" ({instance})") }
}

/// Names that share a UUID, each with the first of them.
fn names_by_uuid(instances: &[Instance]) -> BTreeMap<Node, Node> {
    let mut by_uuid: BTreeMap<&str, Vec<&Instance>> = BTreeMap::new();
    for instance in instances.iter().filter(|instance| !instance.uuid.is_empty()) {
        by_uuid.entry(&instance.uuid).or_default().push(instance);
    }
    let mut first_of = BTreeMap::new();
    for group in by_uuid.into_values().filter(|group| group.len() > 1) {
        // A copied data directory has its origin's UUID. Instances that replicate from each other are no aliases.
        let names: BTreeSet<&Node> = group.iter().map(|instance| &instance.node).collect();
        if group.iter().any(|instance| instance.primary.as_ref().is_some_and(|primary| names.contains(primary))) {
            continue;
        }
        let mut names = names.into_iter();
        let Some(first) = names.next() else { continue };
        first_of.extend(names.map(|name| (name.clone(), first.clone())));
    }
    first_of
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::orchestrator::shown::{instance, node};

    fn named(name: &str, primary: Option<&str>, uuid: &str) -> Instance {
        Instance { uuid: uuid.to_owned(), ..instance(name, primary) }
    }

    /// Learns beside a row of `a`, without aliases and addresses.
    fn learn(identity: &mut Identity, shown: &[Instance]) {
        identity.learn(shown, &[node("a")].into(), &BTreeMap::new(), &Addresses::default());
    }

    fn learned(shown: &[Instance]) -> Identity {
        let mut identity = Identity::default();
        learn(&mut identity, shown);
        identity
    }

    #[test]
    fn one_uuid_under_two_names_is_one_server_by_the_name_that_proxysql_has() {
        let shown = [named("10.0.0.1", None, "u1"), named("a", None, "u1"), named("b", Some("a"), "u2")];
        let identity = learned(&shown);
        assert_eq!(identity.server(&node("10.0.0.1")), &node("a"));
        assert_eq!(identity.server(&node("b")), &node("b"));
        assert_eq!(identity.names(&node("a")).count(), 2);
    }

    #[test]
    fn names_stay_one_server_until_both_are_listed_and_are_seen_to_be_two() {
        let shown = [named("10.0.0.1", None, "u1"), named("a", None, "u1"), named("b", Some("a"), "u2")];
        let mut identity = Identity::default();
        learn(&mut identity, &shown);
        for listed in [&shown[2..], &shown[1..], &[shown[0].clone()]] {
            learn(&mut identity, listed);
            assert_eq!(identity.server(&node("10.0.0.1")), &node("a"));
        }
        learn(&mut identity, &[named("10.0.0.1", None, "u3"), named("a", None, "u1")]);
        assert_eq!(identity, Identity::default());
    }

    #[test]
    fn no_uuid_joins_no_names_and_neither_does_a_copied_one() {
        let shown = [instance("a", None), instance("b", None)];
        assert_eq!(learned(&shown), Identity::default());
        let copied = [named("a", None, "u"), named("b", Some("a"), "u")];
        assert_eq!(learned(&copied), Identity::default());
    }

    #[test]
    fn the_last_good_check_of_either_name_counts() {
        let stale = Instance { checked_s: 90, read_only: true, ..named("a", None, "u") };
        let shown = [stale, Instance { downtimed: true, ..named("10.0.0.1", None, "u") }];
        let identity = learned(&shown);
        let unified = identity.one_per_server(shown.to_vec());
        assert_eq!(unified.len(), 1);
        assert_eq!((unified[0].node.clone(), unified[0].checked_s, unified[0].downtimed), (node("a"), 100, true));
        assert!(!unified[0].read_only);
    }

    #[test]
    fn a_text_shows_the_instance_of_each_row_that_has_another_name() {
        let port = |text: &str| text.parse::<Node>().unwrap();
        let aliases = [("10.0.0.5:3306", "db1:3306"), ("[fe80::1]:3306", "db2:3307"), ("c:3306", "c:3306")];
        let mut identity = Identity::default();
        let aliases = aliases.map(|(row, instance)| (port(row), port(instance))).into();
        identity.learn(&[], &BTreeSet::new(), &aliases, &Addresses::default());
        for (text, shown) in [
            ("10.0.0.5:3306 is held", "10.0.0.5:3306 (db1) is held"),
            ("10/10.0.0.5:3306: ok", "10/10.0.0.5:3306 (db1): ok"),
            ("by=[fe80::1]:3306.", "by=[fe80::1]:3306 (db2:3307)."),
            ("c:3306, 10.0.0.5:3307, \u{e9}", "c:3306, 10.0.0.5:3307, \u{e9}"),
            ("", ""),
        ] {
            assert_eq!(identity.with_instances(text), shown);
        }
    }
}
