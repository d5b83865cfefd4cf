//! Whether the account of `[node_fence]` and the fence agents could fence each node itself. Nothing is changed there.

use super::{Area, Check, Facts, Finding, Fix, Level, Need};
use crate::handed::Readiness;

pub const CHECK: Check = Check {
    name: "fence of the nodes themselves",
    area: Area::Program,
    needs: Need::Tables,
    labels: &["node-account-unready", "node-unreached", "fence-agent-unready"],
    run,
};

const UNREADY: &str = "A failover would fence the node in ProxySQL only, though [node_fence] asks for more";

const UNREACHED: &str = "Whether the account could fence the node itself is not known";

const AGENTS: &str = "proxysql-stonith config check --connect";

const GRANTS: &str = "the GRANT statements of docs/node-fence.md";

fn run(facts: &Facts) -> Vec<Finding> {
    let mut found = Vec::new();
    for proxy in &facts.proxies {
        for (node, readiness) in &proxy.node_accounts {
            let (level, label, what, why) = match readiness {
                Readiness::Ready => continue,
                Readiness::Unready(text) => (Level::Error, "node-account-unready", text, UNREADY),
                Readiness::Unreached(text) => (Level::Warning, "node-unreached", text, UNREACHED),
            };
            let finding = Finding::new(level, label, format!("{node}: {what}")).why(why).at(proxy);
            found.push(match level {
                Level::Error => finding.fix(Fix::Mysql(GRANTS.to_owned())),
                _ => finding,
            });
        }
    }
    for proxy in &facts.proxies {
        for (node, readiness) in &proxy.fence_agents {
            let (Readiness::Unready(text) | Readiness::Unreached(text)) = readiness else { continue };
            let finding = Finding::new(Level::Error, "fence-agent-unready", format!("{node}: {text}"));
            found.push(finding.why(UNREADY).at(proxy).fix(Fix::Shell(AGENTS.to_owned())));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::super::facts::{healthy, node};
    use super::*;

    fn found(readiness: Readiness) -> Vec<(Level, &'static str)> {
        let mut facts = healthy();
        facts.proxies[0].node_accounts = [(node("node01"), readiness)].into();
        run(&facts).into_iter().map(|finding| (finding.level, finding.label)).collect()
    }

    #[test]
    fn an_account_that_could_fence_the_node_is_well() {
        assert_eq!(found(Readiness::Ready), []);
    }

    #[test]
    fn a_fence_agent_that_could_not_power_a_node_off_is_an_error() {
        let mut facts = healthy();
        facts.proxies[0].fence_agents =
            [(node("node01"), Readiness::Unready("it hangs".to_owned())), (node("node02"), Readiness::Ready)].into();
        let found = run(&facts);
        assert_eq!(found.iter().map(|finding| finding.label).collect::<Vec<_>>(), ["fence-agent-unready"]);
        assert!(found[0].what.contains("node01:3306: it hangs"), "{:?}", found[0]);
    }

    #[test]
    fn an_account_without_a_privilege_is_an_error_and_a_node_that_is_down_a_warning() {
        let lacks = Readiness::Unready("the account lacks CONNECTION_ADMIN".to_owned());
        assert_eq!(found(lacks), [(Level::Error, "node-account-unready")]);
        assert_eq!(found(Readiness::Unreached("no answer".to_owned())), [(Level::Warning, "node-unreached")]);
    }
}
