//! Whether every row is matched to an instance of Orchestrator, and how.

use stonith_core::node::Node;
use stonith_core::orchestrator::in_brackets;

use super::{Area, Check, Facts, Finding, Fix, Level, Need, ProxyFacts, few};

pub const CHECK: Check = Check {
    name: "names",
    area: Area::ProxySql,
    needs: Need::Leader,
    labels: &["rows-by-address", "rows-by-alias", "rows-by-uuid", "rows-unmatched"],
    run,
};

const BY_ADDRESS: &str = "A name or an address that moves makes the match unsure. The node is then held, and no failover fences \
                          it until it is clear";

const BY_UUID: &str = "Records and downtimes under either name count for the row";

const BY_ALIAS: &str = "The config says so. An alias for a server that was replaced is not noticed";

const UNMATCHED: &str = "Orchestrator does not know these rows, and no pair makes a writer of them. A failover does not fence \
                         them";

/// How a row is matched to an instance.
#[derive(Clone, Copy, PartialEq, Eq)]
enum How {
    Name,
    Alias,
    Uuid,
    Address,
    Not,
}

fn run(facts: &Facts) -> Vec<Finding> {
    if facts.instances().is_empty() {
        return Vec::new();
    }
    let mut found = Vec::new();
    for proxy in facts.proxies.iter().filter(|proxy| proxy.view.is_some()) {
        let matched: Vec<(Node, How)> =
            proxy.nodes().into_iter().map(|node| (node.clone(), how(facts, proxy, &node))).collect();
        for (how, label, words, why) in [
            (How::Address, "rows-by-address", "matched by address", BY_ADDRESS),
            (How::Uuid, "rows-by-uuid", "matched by the server's UUID", BY_UUID),
            (How::Alias, "rows-by-alias", "matched by an alias of the config", BY_ALIAS),
        ] {
            let of_row = |node: &Node| facts.instance(proxy, node).map_or_else(|| node.clone(), |one| one.node.clone());
            let rows: Vec<(&Node, Node)> =
                matched.iter().filter(|(_, of)| *of == how).map(|(node, _)| (node, of_row(node))).collect();
            if rows.is_empty() {
                continue;
            }
            let shown: Vec<String> = rows.iter().map(|(row, one)| format!("{row}{}", in_brackets(row, one))).collect();
            let lines: Vec<String> = rows.iter().take(5).map(|(row, one)| format!("\"{row}\" = \"{one}\"")).collect();
            let what = format!("{} of {} nodes are {words}: {}", rows.len(), matched.len(), few(&shown));
            let finding = Finding::new(Level::Note, label, what).why(why).at(proxy);
            found.push(match how {
                How::Alias => finding,
                _ => finding.fix(Fix::Config(format!("[aliases] {}", lines.join(", ")))),
            });
        }
        found.extend(unmatched(proxy, &matched));
    }
    found
}

fn how(facts: &Facts, proxy: &ProxyFacts, row: &Node) -> How {
    let is_listed = |name: &Node| facts.instances().iter().any(|instance| instance.node == *name);
    let server = proxy.identity.server(row);
    if proxy.policy.aliases.get(row).is_some_and(|instance| instance != row) {
        How::Alias
    } else if is_listed(row) {
        How::Name
    } else if proxy.identity.instance_of(row).is_some() {
        How::Address
    } else if proxy.identity.names(server).any(is_listed) {
        How::Uuid
    } else {
        How::Not
    }
}

/// The unmatched nodes that no condition names: those outside all pairs.
fn unmatched(proxy: &ProxyFacts, matched: &[(Node, How)]) -> Option<Finding> {
    let is_said = proxy.snapshot.conditions.iter().any(|condition| condition.label == "nothing-protected");
    let pairs = proxy.view.iter().flat_map(|view| &view.pairs);
    let paired: Vec<_> = pairs.flat_map(|pair| [pair.writer, pair.reader]).collect();
    let is_paired =
        |node: &Node| proxy.rows().any(|row| row.node().as_ref() == Some(node) && paired.contains(&row.key.hostgroup));
    let rows: Vec<&Node> =
        matched.iter().filter(|(node, how)| *how == How::Not && !is_paired(node)).map(|(node, _)| node).collect();
    if rows.is_empty() || is_said {
        return None;
    }
    let what = format!("Orchestrator knows none of these nodes outside the pairs: {}", few(&rows));
    let fix = Fix::Shell(format!("orchestrator-client -c discover -i {}   # if it is to be fenced", rows[0]));
    Some(Finding::new(Level::Note, "rows-unmatched", what).why(UNMATCHED).fix(fix).at(proxy))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use stonith_core::orchestrator::{Addresses, Instance};

    use super::super::facts::{healthy, instance, node, row};
    use super::*;

    /// The set-up with `10.0.0.5` in the place of node03's row.
    fn renamed(instances: &[Instance], aliases: &[(&str, &str)], addresses: &[(&str, u8)]) -> Facts {
        let mut facts = healthy();
        facts.orchestrator.recovery.as_mut().unwrap().instances = Some(instances.to_vec());
        let proxy = &mut facts.proxies[0];
        proxy.view.as_mut().unwrap().runtime[2] = row(20, "10.0.0.5");
        let aliases: BTreeMap<Node, Node> = aliases.iter().map(|(row, of)| (node(row), node(of))).collect();
        let address = |(host, last): &(&str, u8)| (host.parse().unwrap(), [[10, 0, 0, *last].into()].into());
        let addresses: Addresses = addresses.iter().map(address).collect();
        let served = proxy.nodes();
        proxy.identity.learn(instances, &served, &aliases, &addresses);
        proxy.policy.aliases = aliases;
        facts
    }

    fn told(facts: &Facts) -> Vec<(&'static str, String)> {
        run(facts).into_iter().map(|finding| (finding.label, finding.what)).collect()
    }

    fn three() -> [Instance; 3] {
        [instance("node01", None), instance("node02", Some("node01")), instance("node03", Some("node01"))]
    }

    #[test]
    fn rows_that_orchestrator_names_equally_are_well() {
        assert_eq!(told(&healthy()), []);
    }

    #[test]
    fn rows_that_are_matched_otherwise_are_noted_with_their_instance() {
        let by_address = renamed(&three(), &[], &[("10.0.0.5", 5), ("node03", 5)]);
        let what = "1 of 3 nodes are matched by address: 10.0.0.5:3306 (node03)".to_owned();
        assert_eq!(told(&by_address), [("rows-by-address", what)]);
        let line = "[aliases] \"10.0.0.5:3306\" = \"node03:3306\"";
        assert_eq!(run(&by_address)[0].fix, Some(Fix::Config(line.to_owned())));
        let by_alias = renamed(&three(), &[("10.0.0.5", "node03")], &[]);
        assert_eq!(told(&by_alias)[0].0, "rows-by-alias");
    }

    #[test]
    fn a_row_that_nobody_knows_is_noted_outside_the_pairs() {
        let mut facts = renamed(&three(), &[], &[]);
        assert_eq!(told(&facts), [], "a condition says it of a pair");
        facts.proxies[0].view.as_mut().unwrap().runtime[2] = row(50, "10.0.0.5");
        assert_eq!(told(&facts)[0].0, "rows-unmatched");
    }
}
