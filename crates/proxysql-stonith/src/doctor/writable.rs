//! Whether a replica takes writes. ProxySQL's monitor has asked the nodes, so that no login to MySQL is needed.

use stonith_core::table::Row;

use super::{Area, Check, Facts, Finding, Fix, Level, Need};

pub const CHECK: Check = Check {
    name: "writable nodes",
    area: Area::ProxySql,
    needs: Need::LeaderAndSurvey,
    labels: &["replica-writable", "two-writable"],
    run,
};

const WHY: &str = "The monitor puts a writable node of a pair among the writers, also when it starts so after a failure. \
                   Measured: such a node took 411 inserts that the new primary lacks (facts §3)";

fn run(facts: &Facts) -> Vec<Finding> {
    let mut found = Vec::new();
    for proxy in &facts.proxies {
        let (Some(view), Some(survey)) = (&proxy.view, &proxy.survey) else { continue };
        let Some(checks) = &survey.read_only_checks else { continue };
        for pair in &view.pairs {
            // A fenced node may be writable, and is not checked any more.
            let is_served =
                |row: &&Row| row.status.in_service() && [pair.writer, pair.reader].contains(&row.key.hostgroup);
            let mut nodes: Vec<_> = proxy.rows().filter(is_served).filter_map(Row::node).collect();
            nodes.sort();
            nodes.dedup();
            nodes.retain(|node| checks.get(node).is_some_and(|checked| checked.read_only == Some(false)));
            let is_replica = |node: &_| facts.instance(proxy, node).is_some_and(|instance| instance.primary.is_some());
            let (replicas, others): (Vec<_>, Vec<_>) = nodes.into_iter().partition(is_replica);
            for node in replicas {
                let what = format!("{node} is a replica, and read_only is off there");
                let fix = Fix::Mysql(format!("SET GLOBAL read_only=1   -- on {node}, and read_only=ON in its my.cnf"));
                found.push(Finding::new(Level::Error, "replica-writable", what).why(WHY).fix(fix).at(proxy));
            }
            if let [_, _, ..] = &others[..] {
                let what = format!(
                    "read_only is off on several nodes of writer hostgroup {}: {}",
                    pair.writer,
                    super::few(&others)
                );
                let fix = Fix::Mysql(
                    "SET GLOBAL read_only=1   -- on all but the primary, and read_only=ON in its my.cnf".to_owned(),
                );
                found.push(Finding::new(Level::Error, "two-writable", what).why(WHY).fix(fix).at(proxy));
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::super::facts::{healthy, node};
    use super::*;

    fn with_writable(name: &str) -> Facts {
        let mut facts = healthy();
        let checks = facts.proxies[0].survey.as_mut().unwrap().read_only_checks.as_mut().unwrap();
        checks.get_mut(&node(name)).unwrap().read_only = Some(false);
        facts
    }

    fn labels(facts: &Facts) -> Vec<&'static str> {
        run(facts).into_iter().map(|finding| finding.label).collect()
    }

    #[test]
    fn one_writable_primary_is_well() {
        assert_eq!(labels(&healthy()), [""; 0]);
    }

    #[test]
    fn a_writable_replica_is_an_error() {
        let [found] = &run(&with_writable("node03"))[..] else { panic!() };
        assert_eq!((found.level, found.label), (Level::Error, "replica-writable"));
        assert!(found.what.starts_with("node03:3306 "));
    }

    #[test]
    fn a_fenced_node_may_be_writable() {
        let mut facts = with_writable("node03");
        facts.proxies[0].view.as_mut().unwrap().runtime[2].status = stonith_core::table::Status::OfflineSoft;
        assert_eq!(labels(&facts), [""; 0]);
    }

    #[test]
    fn two_writable_nodes_are_found_where_orchestrator_shows_no_replica() {
        let mut facts = with_writable("node03");
        facts.orchestrator.recovery = None;
        assert_eq!(labels(&facts), ["two-writable"]);
    }
}
