//! Whether the agents that the hook before a promotion counts on answer it, and would fence.

use std::time::Duration;

use super::facts::{AgentFault, GuardedProxy};
use super::{Area, Check, Facts, Finding, Fix, Level, Need};
use crate::config::duration;

pub const CHECK: Check = Check {
    name: "barrier",
    area: Area::Program,
    needs: Need::Config,
    labels: &["agent-unreached", "agent-refuses", "agent-never-fences", "agent-not-isolating", "barrier-short"],
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

const SHORT: &str = "An agent that is cut off is out of service only after its lease. The promotion comes before, unless \
                     barrier.on_unconfirmed is \"abort\"";

fn run(facts: &Facts) -> Vec<Finding> {
    let Some(barrier) = &facts.barrier else { return Vec::new() };
    let mut found: Vec<Finding> = barrier.agents.iter().flat_map(|(url, seen)| of_agent(url, seen)).collect();
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

fn of_agent(url: &str, seen: &Result<Vec<GuardedProxy>, AgentFault>) -> Vec<Finding> {
    let finding = |level, label, what: String, why, fix| Finding::new(level, label, what).why(why).fix(fix);
    match seen {
        Err(AgentFault::Unreached(why)) => {
            let fix = Fix::Config("http.listen at the agent, and barrier.agents here".to_owned());
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
}
