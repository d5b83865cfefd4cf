//! Whether `isolation.after` fits the tick, an election of Orchestrator, and a handover without raft.

use std::time::Duration;

use stonith_core::policy::{APPLY_MS, ELECTION_MS, IsolationScope, PAUSE_MS, Policy};

use super::{Area, Check, Facts, Finding, Fix, Level, Need, ProxyFacts};
use crate::config::duration;
use crate::orchestrator::RaftSeen;

pub const CHECK: Check = Check {
    name: "timing",
    area: Area::Program,
    needs: Need::Config,
    labels: &[
        "isolation-too-early",
        "isolation-at-handover",
        "isolation-late",
        "isolation-pause",
        "isolation-off",
        "observing",
    ],
    run,
};

/// The longest that another node takes to become active where Orchestrator has no raft, ms (facts §8: 5.9 s).
const HANDOVER_MS: u64 = 6_000;

/// A longer `isolation.after` leaves time for many writes that the other side lacks.
const LATE: Duration = Duration::from_secs(60);

const HANDOVER: &str = "Without raft another node of Orchestrator becomes active 5.9 s after the active one died (facts §8). The \
                        proxy must not go out of service meanwhile";

const TOO_LATE: &str = "A proxy that is cut off writes to the old primary as long. Measured: the other side promotes 5.4 s after \
                        a cut";

const PAUSE: &str = "A member of a ProxySQL Cluster is paused, which takes up to 2.8 s, and must not begin before an election \
                     ends (facts §6)";

const OFF: &str =
    "A proxy that is cut off from Orchestrator goes on writing to a primary that the other side may have replaced";

const OBSERVING: &str = "A failover is reported, and not fenced";

fn run(facts: &Facts) -> Vec<Finding> {
    let is_raft_off = facts.orchestrator.endpoints.iter().any(|seen| seen.raft == Some(RaftSeen::Off));
    let of_each = facts.proxies.iter().map(|proxy| (proxy, of_proxy(proxy, is_raft_off)));
    of_each.flat_map(|(proxy, found)| found.into_iter().map(|finding| finding.at(proxy))).collect()
}

fn of_proxy(proxy: &ProxyFacts, is_raft_off: bool) -> Vec<Finding> {
    let program = &proxy.program;
    let mut found = Vec::new();
    if program.observes {
        let fix = Fix::Config("policy.mode = \"enforce\"".to_owned());
        let finding = Finding::new(Level::Note, "observing", "policy.mode is \"observe\", so nothing is changed");
        found.push(finding.why(OBSERVING).fix(fix));
    }
    if program.scope == IsolationScope::Off {
        let fix = Fix::Config("isolation.scope = \"all\"".to_owned());
        let finding = Finding::new(Level::Warning, "isolation-off", "isolation.scope is \"off\"");
        found.push(finding.why(OFF).fix(fix));
        return found;
    }
    let is_clustered = proxy.view.as_ref().is_some_and(|view| view.clustered);
    let is_scheduled = is_scheduled(proxy);
    for mode in program.modes.iter().filter(|mode| mode.command == "run" || is_scheduled) {
        let command = mode.command;
        let mut add = |level, label, what: String, why: &str, least_ms| {
            let fix = Fix::Config(format!("isolation.after = \"{}\"", duration::show(Duration::from_millis(least_ms))));
            found.push(Finding::new(level, label, what).why(why).fix(fix));
        };
        let tick_ms = duration::millis(mode.tick);
        let (after, after_ms) = (duration::show(mode.isolation_after), duration::millis(mode.isolation_after));
        let handover_ms = HANDOVER_MS + 2 * tick_ms + APPLY_MS;
        let pause_ms = ELECTION_MS + PAUSE_MS + tick_ms;
        if let Some(refusal) = &mode.refusal {
            let least_ms = Policy::shortest_isolation_after_ms(tick_ms);
            add(
                Level::Error,
                "isolation-too-early",
                format!("`{command}` refuses this config: {refusal}"),
                TOO_EARLY,
                least_ms,
            );
        } else if is_raft_off && after_ms < handover_ms {
            let what = format!("isolation.after is {after} with `{command}`, and Orchestrator has no raft");
            add(Level::Warning, "isolation-at-handover", what, HANDOVER, handover_ms);
        } else if is_clustered && after_ms < pause_ms {
            let what = format!("isolation.after is {after} with `{command}`, and ProxySQL is a member of a cluster");
            add(Level::Warning, "isolation-pause", what, PAUSE, pause_ms);
        }
        if mode.isolation_after > LATE {
            let least_ms = Policy::shortest_isolation_after_ms(tick_ms).max(10_000);
            add(
                Level::Warning,
                "isolation-late",
                format!("isolation.after is {after} with `{command}`"),
                TOO_LATE,
                least_ms,
            );
        }
    }
    found
}

/// Whether ProxySQL's scheduler starts this program.
fn is_scheduled(proxy: &ProxyFacts) -> bool {
    let entries = proxy.survey.iter().flat_map(|survey| &survey.scheduled);
    entries.into_iter().any(|entry| entry.words.contains("proxysql-stonith"))
}

const TOO_EARLY: &str =
    "An election of Orchestrator would take the proxy out of service. Measured: 2.6 s to 3.4 s (facts §9)";

#[cfg(test)]
mod tests {
    use super::super::facts::healthy;
    use super::*;
    use crate::proxysql::Scheduled;

    fn found(facts: &Facts) -> Vec<(Level, &'static str)> {
        run(facts).into_iter().map(|finding| (finding.level, finding.label)).collect()
    }

    fn after(seconds: u64) -> Facts {
        let mut facts = healthy();
        facts.proxies[0].program.modes.truncate(1);
        facts.proxies[0].program.modes[0].isolation_after = Duration::from_secs(seconds);
        facts
    }

    #[test]
    fn the_defaults_are_well_with_a_raft_without_one_and_in_a_cluster() {
        let mut facts = healthy();
        assert_eq!(found(&facts), []);
        facts.orchestrator.endpoints[0].raft = Some(RaftSeen::Off);
        facts.proxies[0].view.as_mut().unwrap().clustered = true;
        assert_eq!(found(&facts), []);
        assert_eq!(found(&after(60)), []);
    }

    #[test]
    fn a_config_that_is_refused_is_an_error_for_the_way_to_run_that_is_used() {
        let mut facts = healthy();
        facts.proxies[0].program.modes[1].refusal = Some("isolation.after: 10s is too short".to_owned());
        assert_eq!(found(&facts), [], "nothing starts it");
        let entry = Scheduled { words: ["proxysql-stonith"].into(), ..Scheduled::default() };
        facts.proxies[0].survey.as_mut().unwrap().scheduled.push(entry);
        assert_eq!(found(&facts), [(Level::Error, "isolation-too-early")]);
        assert_eq!(run(&facts)[0].fix, Some(Fix::Config("isolation.after = \"16s\"".to_owned())));
    }

    #[test]
    fn a_handover_without_raft_and_a_pause_need_more_time() {
        let mut facts = after(9);
        facts.orchestrator.endpoints[0].raft = Some(RaftSeen::Off);
        assert_eq!(found(&facts), [(Level::Warning, "isolation-at-handover")]);
        let mut facts = after(9);
        facts.proxies[0].view.as_mut().unwrap().clustered = true;
        assert_eq!(found(&facts), [(Level::Warning, "isolation-pause")]);
    }

    #[test]
    fn no_isolation_a_late_one_and_observing_are_found() {
        assert_eq!(found(&after(61)), [(Level::Warning, "isolation-late")]);
        let mut facts = healthy();
        (facts.proxies[0].program.scope, facts.proxies[0].program.observes) = (IsolationScope::Off, true);
        assert_eq!(found(&facts), [(Level::Note, "observing"), (Level::Warning, "isolation-off")]);
    }
}
