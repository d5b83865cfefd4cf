//! Whether Orchestrator replaces a dead primary of the served clusters by itself.

use super::{Area, Check, Facts, Finding, Fix, Level, Need, few};

pub const CHECK: Check = Check {
    name: "recovery filters",
    area: Area::Orchestrator,
    needs: Need::Leader,
    labels: &["recoveries-disabled", "recovery-by-hand", "recovery-ignores-hosts", "recovery-unseen"],
    run,
};

const DISABLED: &str = "Nobody is promoted when a primary dies, so there are no writes until an operator acts, and nothing is \
                        fenced before";

const BY_HAND: &str = "Orchestrator promotes nobody in a cluster that its RecoverMasterClusterFilters do not name. A failover \
                       waits for an operator, and so does the fence";

const IGNORED: &str = "A primary whose host fits one of these patterns is not replaced when it dies";

const UNSEEN: &str = "Whether a failover happens by itself could not be seen";

fn run(facts: &Facts) -> Vec<Finding> {
    let Some(seen) = &facts.orchestrator.recovery else { return Vec::new() };
    let url = facts.orchestrator.endpoints.iter().find(|endpoint| endpoint.leads == Ok(true));
    let ask =
        |request: &str| Fix::Shell(format!("curl -sS {}/api/{request}", url.map_or("", |endpoint| &endpoint.url)));
    let mut found = Vec::new();
    if seen.is_enabled == Some(false) {
        let finding = Finding::new(Level::Error, "recoveries-disabled", "Orchestrator's recoveries are disabled");
        found.push(finding.why(DISABLED).fix(ask("enable-global-recoveries")));
    }
    let served = facts.served_clusters();
    for cluster in seen.clusters.iter().flatten() {
        if served.contains(cluster.name.as_str()) && !cluster.is_automatic {
            let name = if cluster.alias.is_empty() { &cluster.name } else { &cluster.alias };
            let what = format!("Orchestrator does not recover the primary of cluster {name} by itself");
            let fix = Fix::Orchestrator(format!("\"RecoverMasterClusterFilters\": [\"{name}\"]"));
            found.push(Finding::new(Level::Warning, "recovery-by-hand", what).why(BY_HAND).fix(fix));
        }
    }
    match &seen.ignored_hosts {
        Some(patterns) if !patterns.is_empty() => {
            let what = format!("RecoveryIgnoreHostnameFilters has {}", few(patterns));
            let fix = Fix::Orchestrator("\"RecoveryIgnoreHostnameFilters\": []".to_owned());
            found.push(Finding::new(Level::Note, "recovery-ignores-hosts", what).why(IGNORED).fix(fix));
        }
        _ => {}
    }
    if seen.is_enabled.is_none() || seen.clusters.is_none() {
        let what = "this Orchestrator does not show whether it recovers clusters by itself";
        found.push(Finding::new(Level::Note, "recovery-unseen", what).why(UNSEEN).fix(ask("clusters-info")));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::super::facts::healthy;
    use super::*;
    use crate::orchestrator::RecoverySeen;

    fn found(change: impl FnOnce(&mut RecoverySeen)) -> Vec<(Level, &'static str)> {
        let mut facts = healthy();
        change(facts.orchestrator.recovery.as_mut().unwrap());
        run(&facts).into_iter().map(|finding| (finding.level, finding.label)).collect()
    }

    #[test]
    fn clusters_that_are_recovered_are_well() {
        assert_eq!(found(|_| ()), []);
    }

    #[test]
    fn recoveries_that_are_disabled_are_an_error() {
        assert_eq!(found(|seen| seen.is_enabled = Some(false)), [(Level::Error, "recoveries-disabled")]);
    }

    #[test]
    fn a_served_cluster_that_no_filter_names_is_found_and_no_other() {
        let by_hand = |seen: &mut RecoverySeen| seen.clusters.as_mut().unwrap()[0].is_automatic = false;
        assert_eq!(found(by_hand), [(Level::Warning, "recovery-by-hand")]);
        let other = |seen: &mut RecoverySeen| {
            by_hand(seen);
            seen.clusters.as_mut().unwrap()[0].name = "other:3306".to_owned();
        };
        assert_eq!(found(other), []);
    }

    #[test]
    fn what_is_ignored_or_not_shown_is_noted() {
        let ignores = |seen: &mut RecoverySeen| seen.ignored_hosts = Some(vec!["^backup".to_owned()]);
        assert_eq!(found(ignores), [(Level::Note, "recovery-ignores-hosts")]);
        assert_eq!(found(|seen| seen.clusters = None), [(Level::Note, "recovery-unseen")]);
    }
}
