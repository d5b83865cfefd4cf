//! Whether the clocks of Orchestrator's nodes agree with each other and with this host's.

use super::{Area, Check, Facts, Finding, Fix, Level, Need};

pub const CHECK: Check = Check {
    name: "clock",
    area: Area::Orchestrator,
    needs: Need::Endpoint,
    labels: &["orchestrator-clocks-differ", "clock-differs"],
    run,
};

/// The largest difference between two nodes of Orchestrator, s. It is that of two begins of one downtime.
const AMONG_NODES_S: i64 = stonith_core::orchestrator::DOWNTIME_BEGIN_SLACK_S;

/// The largest difference to this host, s.
const TO_HOST_S: i64 = 30;

const NODES: &str = "A record or a downtime has the time of the leader that tells it. After a change of the leader a downtime \
                     that an operator has released looks like a new one, and fences the node again";

const HOST: &str = "Certificates are judged, and suspensions end, by this host's clock. The times in its log do not fit \
                    those of Orchestrator";

fn run(facts: &Facts) -> Vec<Finding> {
    let answered = || facts.orchestrator.endpoints.iter().filter(|seen| seen.leads.is_ok());
    let (Some(first), Some(last)) =
        (answered().min_by_key(|seen| seen.clock_ahead_s), answered().max_by_key(|seen| seen.clock_ahead_s))
    else {
        return Vec::new();
    };
    let fix = |where_to| Fix::Shell(format!("timedatectl set-ntp true   # {where_to}"));
    let mut found = Vec::new();
    let apart_s = last.clock_ahead_s.saturating_sub(first.clock_ahead_s);
    if apart_s > AMONG_NODES_S {
        let what = format!("the clock of {} is {apart_s} s ahead of that of {}", last.url, first.url);
        let finding = Finding::new(Level::Warning, "orchestrator-clocks-differ", what);
        found.push(finding.why(NODES).fix(fix("on both")));
    }
    let most = if first.clock_ahead_s.abs() > last.clock_ahead_s.abs() { first } else { last };
    if most.clock_ahead_s.abs() > TO_HOST_S {
        let (by_s, side) = (most.clock_ahead_s.abs(), if most.clock_ahead_s > 0 { "ahead of" } else { "behind" });
        let what = format!("the clock of {} is {by_s} s {side} this host's", most.url);
        found.push(Finding::new(Level::Warning, "clock-differs", what).why(HOST).fix(fix("on both")));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::super::facts::healthy;
    use super::*;

    fn found(ahead_s: [i64; 3]) -> Vec<Finding> {
        let mut facts = healthy();
        for (seen, ahead_s) in facts.orchestrator.endpoints.iter_mut().zip(ahead_s) {
            seen.clock_ahead_s = ahead_s;
        }
        run(&facts)
    }

    #[test]
    fn clocks_that_differ_by_a_few_seconds_are_well() {
        assert_eq!(found([-2, 0, 3]), []);
        assert_eq!(found([30, 30, 30]), []);
    }

    #[test]
    fn clocks_of_two_nodes_that_differ_are_found() {
        let [one] = &found([-3, 0, 3])[..] else { panic!() };
        assert_eq!(one.label, "orchestrator-clocks-differ");
        assert!(one.what.contains("orc3:3000 is 6 s ahead of that of http://orc1"), "{one:?}");
    }

    #[test]
    fn a_host_whose_clock_differs_is_found() {
        let [one] = &found([-31, -31, -31])[..] else { panic!() };
        assert_eq!(one.label, "clock-differs");
        assert!(one.what.contains("31 s behind this host's"), "{one:?}");
    }
}
