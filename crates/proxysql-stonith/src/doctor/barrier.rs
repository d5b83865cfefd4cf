//! Whether the agents that the hook before a promotion counts on answer it, and would fence.

use std::time::Duration;

use stonith_core::node::Node;

use super::facts::{AgentFault, GuardedProxy};
use super::{Area, Check, Facts, Finding, Fix, Level, Need};
use crate::config::duration;
use crate::registration::Registered;
use crate::untrusted_text::one_line;

pub const CHECK: Check = Check {
    name: "barrier",
    area: Area::Program,
    needs: Need::Config,
    labels: &[
        "agent-unreached",
        "agent-refuses",
        "agent-never-fences",
        "agent-not-isolating",
        "agent-forgotten",
        "no-agent-registered",
        "registration-refused",
        "registrations-unread",
        "barrier-short",
    ],
    run,
};

/// What the hook keeps of its deadline for the last steps, rounded up.
const LAST_STEPS: Duration = Duration::from_secs(3);

const UNREACHED: &str = "In each failover the hook waits for this agent's lease to run out, and cannot tell whether its ProxySQLs have \
                         the fence";

const REFUSES: &str = "The hook can neither wake this agent nor learn whether it has fenced";

const NEVER: &str = "In a failover this agent fences nothing and never takes its ProxySQL out of service, so the hook cannot confirm \
                     it: writes go on to the failed node after the promotion, or the recovery is aborted";

const NOT_ISOLATING: &str = "While it is cut off, its ProxySQL goes on writing to the failed node after the promotion, and no wait \
                             changes that";

const FORGOTTEN: &str = "If it still guards a ProxySQL, the hook neither wakes it nor waits for it. An agent that is gone for good needs nothing";

const NONE: &str =
    "If this node fails, the hook wakes only the agents of barrier.agents, and the failover takes as long as a lease";

const STRANGER: &str = "The hook does not ask this agent, and a failover of this node takes as long as a lease";

const UNREAD: &str =
    "The hook asks only the agents of barrier.agents. Before a promotion it waits for the lease of the others";

const SHORT: &str = "An agent that is cut off is out of service only after its lease. The promotion comes before, unless \
                     barrier.on_unconfirmed is \"abort\"";

fn run(facts: &Facts) -> Vec<Finding> {
    let Some(barrier) = &facts.barrier else { return Vec::new() };
    let mut found: Vec<Finding> = barrier.agents.iter().flat_map(|(url, seen)| of_agent(url, seen)).collect();
    found.extend(barrier.registered.iter().flat_map(|(node, seen)| of_primary(facts.now_s, node, seen)));
    if !barrier.agents.is_empty() && barrier.lease_wait > barrier.longest_wait {
        let [wait, needs] = [barrier.longest_wait, barrier.lease_wait].map(duration::show);
        let what =
            format!("the hook waits {wait} at most, and an agent that is cut off is out of service after {needs}");
        let deadline = barrier.lease_wait + LAST_STEPS;
        let fix = Fix::Config(format!("barrier.deadline = \"{}s\"", deadline.as_secs()));
        found.push(Finding::new(Level::Warning, "barrier-short", what).why(SHORT).fix(fix));
    }
    found
}

/// What is wrong with the registrations at a primary.
fn of_primary(now_s: i64, node: &Node, seen: &Result<Registered, String>) -> Vec<Finding> {
    let token = || Fix::Config("http.token_file at the agent, and barrier.token_file here: the same token".to_owned());
    let register = || Fix::Config("http.register_as and http.token_file at each agent".to_owned());
    let registered = match seen {
        Ok(registered) => registered,
        Err(why) => {
            let what = format!("the agents that registered at {node} are not known: {why}");
            return vec![Finding::new(Level::Warning, "registrations-unread", what).why(UNREAD)];
        }
    };
    let mut found = Vec::new();
    if registered.agents.is_empty() {
        let what = format!("no agent is registered at the primary {node}");
        found.push(Finding::new(Level::Warning, "no-agent-registered", what).why(NONE).fix(register()));
    }
    for (agent, seen_s) in &registered.forgotten {
        let age = Duration::from_secs(now_s.saturating_sub(*seen_s).unsigned_abs());
        let what = format!("agent {agent} registered at {node}, and was last seen {} ago", duration::show(age));
        found.push(Finding::new(Level::Note, "agent-forgotten", what).why(FORGOTTEN));
    }
    for tag in &registered.refused {
        let what = format!("{} at {node} is not signed with this token", one_line(tag));
        found.push(Finding::new(Level::Warning, "registration-refused", what).why(STRANGER).fix(token()));
    }
    found
}

fn of_agent(url: &str, seen: &Result<Vec<GuardedProxy>, AgentFault>) -> Vec<Finding> {
    let finding = |level, label, what: String, why, fix| Finding::new(level, label, what).why(why).fix(fix);
    match seen {
        Err(AgentFault::Unreached(why)) => {
            let fix = Fix::Config(
                "http.listen at the agent, and the same address in barrier.agents here or http.register_as there"
                    .to_owned(),
            );
            vec![finding(Level::Warning, "agent-unreached", format!("agent {url}: {why}"), UNREACHED, fix)]
        }
        Err(AgentFault::Refuses(why)) => {
            let fix =
                Fix::Config("http.token_file at the agent, and barrier.token_file here: the same token".to_owned());
            vec![finding(Level::Error, "agent-refuses", format!("agent {url}: {why}"), REFUSES, fix)]
        }
        Ok(proxies) => {
            let of_proxy = |proxy: &GuardedProxy| {
                let at = format!("agent {url} of ProxySQL {}", proxy.proxysql);
                match proxy {
                    GuardedProxy { suspended: true, .. } => {
                        let fix = Fix::Shell("proxysql-stonith resume   # on the agent's host".to_owned());
                        Some(finding(Level::Warning, "agent-never-fences", format!("{at} is suspended"), NEVER, fix))
                    }
                    GuardedProxy { observes: true, .. } => {
                        let fix = Fix::Config("policy.mode = \"enforce\"   # on the agent's host".to_owned());
                        Some(finding(Level::Warning, "agent-never-fences", format!("{at} only observes"), NEVER, fix))
                    }
                    GuardedProxy { armed: false, .. } => {
                        let fix = Fix::Shell("proxysql-stonith status   # on the agent's host, says why".to_owned());
                        let what = format!("{at} is not armed to isolate");
                        Some(finding(Level::Warning, "agent-not-isolating", what, NOT_ISOLATING, fix))
                    }
                    _ => None,
                }
            };
            proxies.iter().filter_map(of_proxy).collect()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::facts::healthy;
    use super::*;
    use crate::doctor::facts::BarrierFacts;

    fn labels(agent: Result<Vec<GuardedProxy>, AgentFault>, lease_wait_s: u64) -> Vec<&'static str> {
        let barrier = BarrierFacts {
            agents: vec![("http://10.0.0.7:9632".to_owned(), agent)],
            registered: Vec::new(),
            longest_wait: Duration::from_secs(19),
            lease_wait: Duration::from_secs(lease_wait_s),
        };
        let facts = Facts { barrier: Some(barrier), ..healthy() };
        run(&facts).into_iter().map(|finding| finding.label).collect()
    }

    fn guarded() -> GuardedProxy {
        GuardedProxy { proxysql: "10.0.0.7:6032".to_owned(), suspended: false, observes: false, armed: true }
    }

    #[test]
    fn agents_that_answer_and_guard_are_well_and_so_is_a_config_without_any() {
        assert_eq!(labels(Ok(vec![guarded(), guarded()]), 18), [""; 0]);
        assert!(run(&healthy()).is_empty());
    }

    #[test]
    fn an_agent_that_gives_no_answer_and_one_that_refuses_the_token_are_told_apart() {
        assert_eq!(labels(Err(AgentFault::Unreached("no answer".to_owned())), 18), ["agent-unreached"]);
        assert_eq!(labels(Err(AgentFault::Refuses("401".to_owned())), 18), ["agent-refuses"]);
    }

    #[test]
    fn an_agent_that_would_not_fence_is_found_by_its_first_reason() {
        let all = [
            GuardedProxy { suspended: true, observes: true, ..guarded() },
            GuardedProxy { observes: true, armed: false, ..guarded() },
            GuardedProxy { armed: false, ..guarded() },
        ];
        let found = labels(Ok(all.to_vec()), 18);
        assert_eq!(found, ["agent-never-fences", "agent-never-fences", "agent-not-isolating"]);
    }

    #[test]
    fn a_deadline_that_ends_before_a_lease_must_have_run_out_is_told_with_one_that_fits() {
        assert_eq!(labels(Ok(vec![guarded()]), 19), [""; 0]);
        assert_eq!(labels(Ok(vec![guarded()]), 20), ["barrier-short"]);
    }

    #[test]
    fn what_is_wrong_with_the_registrations_at_a_primary_is_told_and_what_is_gone_is_a_note() {
        let node: Node = "node01:3306".parse().unwrap();
        let of = |seen: Result<Registered, String>| {
            let found = of_primary(10_000, &node, &seen).into_iter();
            found.map(|finding| (finding.level, finding.label)).collect::<Vec<_>>()
        };
        let agent = |text: &str| text.parse().unwrap();
        let well = Registered { agents: [agent("http://a:1")].into(), ..Registered::default() };
        assert_eq!(of(Ok(well.clone())), []);
        assert_eq!(of(Ok(Registered::default())), [(Level::Warning, "no-agent-registered")]);
        let worse = Registered {
            forgotten: [(agent("http://b:1"), 0)].into(),
            refused: vec!["proxysql-stonith:c:1".to_owned()],
            ..well
        };
        assert_eq!(of(Ok(worse)), [(Level::Note, "agent-forgotten"), (Level::Warning, "registration-refused")]);
        assert_eq!(of(Err("no leader".to_owned())), [(Level::Warning, "registrations-unread")]);
    }
}
