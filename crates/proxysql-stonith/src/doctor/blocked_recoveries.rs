//! Whether an earlier recovery keeps Orchestrator from the next one.

use super::{Area, Check, Facts, Finding, Fix, Level, Need};

pub const CHECK: Check = Check {
    name: "blocked recoveries",
    area: Area::Orchestrator,
    needs: Need::Leader,
    labels: &["recovery-blocked"],
    run,
};

const WHY: &str = "Orchestrator recovers a cluster once within RecoveryPeriodBlockSeconds (3600 by default), and then not \
                   until the time is over or the recovery is acknowledged. A failure meanwhile promotes nobody";

fn run(facts: &Facts) -> Vec<Finding> {
    let blocked = facts.orchestrator.recovery.iter().flat_map(|seen| seen.blocked.iter().flatten());
    let served = facts.served_clusters();
    let ours = blocked.filter(|blocked| {
        let serves = |node| facts.proxies.iter().any(|proxy| proxy.nodes().contains(node));
        served.contains(blocked.cluster.as_str()) || serves(&blocked.node)
    });
    let leader = facts.orchestrator.endpoints.iter().find(|endpoint| endpoint.leads == Ok(true));
    let finding = |blocked: &crate::orchestrator::BlockedRecovery| {
        let what = format!("a recovery of {} was blocked by recovery {}", blocked.node, blocked.by);
        let url = leader.map_or("", |endpoint| &endpoint.url);
        let fix = format!("curl -sS '{url}/api/ack-recovery/{}?comment=seen'", blocked.by);
        Finding::new(Level::Warning, "recovery-blocked", what).why(WHY).fix(Fix::Shell(fix))
    };
    ours.map(finding).collect()
}

#[cfg(test)]
mod tests {
    use super::super::facts::{healthy, node};
    use super::*;
    use crate::orchestrator::BlockedRecovery;

    fn with(node_name: &str, cluster: &str) -> Facts {
        let mut facts = healthy();
        let blocked = BlockedRecovery { node: node(node_name), cluster: cluster.to_owned(), by: 7 };
        facts.orchestrator.recovery.as_mut().unwrap().blocked = Some(vec![blocked]);
        facts
    }

    #[test]
    fn nothing_that_is_blocked_is_well_and_so_is_another_cluster() {
        assert_eq!(run(&healthy()), []);
        assert_eq!(run(&with("other01", "other01:3306")), []);
    }

    #[test]
    fn a_blocked_recovery_of_a_served_node_or_cluster_is_found() {
        for facts in [with("node01", "gone"), with("node09", "node01:3306")] {
            let [found] = &run(&facts)[..] else { panic!() };
            assert_eq!(found.label, "recovery-blocked");
            let fix = "curl -sS 'http://orc1:3000/api/ack-recovery/7?comment=seen'";
            assert_eq!(found.fix, Some(Fix::Shell(fix.to_owned())));
        }
    }
}
