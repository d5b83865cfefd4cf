//! The settings that decide whether the promoted node takes writes. Orchestrator's API shows none of them.

use super::{Area, Check, Facts, Finding, Fix, Level, Need};

pub const CHECK: Check = Check {
    name: "recovery settings",
    area: Area::Orchestrator,
    needs: Need::Leader,
    labels: &["primary-read-only", "recovery-settings-unseen"],
    run,
};

const READ_ONLY: &str = "No node of the cluster takes writes. After a failover this is what a false \
                         ApplyMySQLPromotionAfterMasterFailover leaves behind: ProxySQL's monitor then moves no node to the \
                         writers";

const UNSEEN: &str = "With a false ApplyMySQLPromotionAfterMasterFailover the promoted node stays read-only. \
                      RecoveryPeriodBlockSeconds is how long a second failure promotes nobody (3600 by default)";

fn run(facts: &Facts) -> Vec<Finding> {
    if facts.orchestrator.recovery.is_none() {
        return Vec::new();
    }
    let served = facts.served_clusters();
    let instances = facts.instances();
    let has_replica = |node| instances.iter().any(|other| other.valid && other.primary.as_ref() == Some(node));
    let primaries = instances.iter().filter(|one| one.valid && one.primary.is_none() && has_replica(&one.node));
    let read_only = primaries.filter(|primary| primary.read_only && served.contains(primary.cluster.as_str()));
    let mut found: Vec<Finding> = read_only
        .map(|primary| {
            let what = format!("{} is the primary of its cluster, and is read-only", primary.node);
            let fix = Fix::Mysql(format!("SET GLOBAL read_only=0   -- on {}", primary.node));
            Finding::new(Level::Warning, "primary-read-only", what).why(READ_ONLY).fix(fix)
        })
        .collect();
    let what = "Orchestrator's API shows neither ApplyMySQLPromotionAfterMasterFailover nor RecoveryPeriodBlockSeconds";
    let fix = "grep -E 'ApplyMySQLPromotion|RecoveryPeriodBlock' /etc/orchestrator.conf.json   # on each of its nodes";
    found.push(Finding::new(Level::Note, "recovery-settings-unseen", what).why(UNSEEN).fix(Fix::Shell(fix.to_owned())));
    found
}

#[cfg(test)]
mod tests {
    use super::super::facts::healthy;
    use super::*;

    fn labels(facts: &Facts) -> Vec<&'static str> {
        run(facts).into_iter().map(|finding| finding.label).collect()
    }

    #[test]
    fn what_cannot_be_seen_is_said_once() {
        assert_eq!(labels(&healthy()), ["recovery-settings-unseen"]);
        let mut facts = healthy();
        facts.orchestrator.recovery = None;
        assert_eq!(labels(&facts), [""; 0]);
    }

    #[test]
    fn a_primary_that_is_read_only_is_found_and_a_replica_is_none() {
        let mut facts = healthy();
        let instances = facts.orchestrator.recovery.as_mut().unwrap().instances.as_mut().unwrap();
        instances[0].read_only = true;
        assert_eq!(labels(&facts), ["primary-read-only", "recovery-settings-unseen"]);
    }
}
