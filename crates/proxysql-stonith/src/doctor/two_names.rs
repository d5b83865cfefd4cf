//! Whether one server has rows under two names.

use std::collections::BTreeMap;

use stonith_core::node::Node;

use super::{Area, Check, Facts, Finding, Fix, Level, Need, few};
use crate::proxysql::rename_for_people;

pub const CHECK: Check =
    Check { name: "two names", area: Area::ProxySql, needs: Need::Tables, labels: &["two-names"], run };

const WHY: &str = "ProxySQL counts them as two servers: the monitor moves each by itself, and one shows as a second writer \
                   beside the other. The program fences all rows of the server, under both names";

fn run(facts: &Facts) -> Vec<Finding> {
    let mut found = Vec::new();
    for proxy in &facts.proxies {
        let mut by_server: BTreeMap<Node, Vec<Node>> = BTreeMap::new();
        for node in proxy.nodes() {
            let instance = facts.instance(proxy, &node).map_or(&node, |instance| &instance.node);
            by_server.entry(proxy.identity.server(instance).clone()).or_default().push(node);
        }
        for names in by_server.values().filter(|names| names.len() > 1) {
            let what = format!("one server has rows under {} names: {}", names.len(), few(names));
            let fix = Fix::Admin(rename_for_people(&names[1], &names[0]));
            found.push(Finding::new(Level::Warning, "two-names", what).why(WHY).fix(fix).at(proxy));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use stonith_core::orchestrator::Addresses;

    use super::super::facts::{healthy, node, row};
    use super::*;

    #[test]
    fn servers_with_a_name_each_are_well() {
        assert_eq!(run(&healthy()), []);
    }

    #[test]
    fn a_server_with_rows_under_two_names_is_found_with_both() {
        let mut facts = healthy();
        let instances = facts.instances().to_vec();
        let proxy = &mut facts.proxies[0];
        proxy.view.as_mut().unwrap().runtime.push(row(20, "10.0.0.3"));
        let aliases: BTreeMap<Node, Node> = [(node("10.0.0.3"), node("node03"))].into();
        let served = proxy.nodes();
        proxy.identity.learn(&instances, &served, &aliases, &Addresses::default());
        let [found] = &run(&facts)[..] else { panic!() };
        assert_eq!(found.what, "one server has rows under 2 names: 10.0.0.3:3306, node03:3306");
        let Some(Fix::Admin(fix)) = &found.fix else { panic!() };
        assert!(fix.contains("hostname='10.0.0.3'") && fix.contains("hostname='node03'"), "{fix}");
    }
}
