//! Whether every configured node of Orchestrator answers, and knows the leader.

use stonith_core::orchestrator::CameBackKind;

use super::{Area, Check, Facts, Finding, Fix, Level, Need};
use crate::orchestrator::RaftSeen;

pub const CHECK: Check = Check {
    name: "endpoints",
    area: Area::Orchestrator,
    needs: Need::Config,
    labels: &["endpoint-unusable", "endpoint-without-leader"],
    run,
};

const SILENT: &str = "An endpoint that gives no usable answer is no way to the leader, and has no voice when the others are \
                      asked who leads. Without any way to the leader nothing new is fenced, and the proxy is taken out of \
                      service after isolation.after";

const CUT_OFF: &str = "A node that knows no leader may be cut off from the raft. It answers from stale data (facts §8), so \
                       it is no way to the leader";

fn run(facts: &Facts) -> Vec<Finding> {
    let endpoints = &facts.orchestrator.endpoints;
    let any_answers = endpoints.iter().any(|seen| seen.leads.is_ok());
    let is_known = endpoints.iter().any(|seen| names_a_leader(seen.raft.as_ref()));
    let mut found = Vec::new();
    for seen in endpoints {
        let look = |path| Fix::Shell(format!("curl -sS -i {}/api/{path}", seen.url));
        match &seen.leads {
            // A check of its own tells about logins.
            Err(problem) if problem.kind == CameBackKind::Refused => {}
            Err(problem) => {
                let level = if any_answers { Level::Warning } else { Level::Error };
                let finding = Finding::new(level, "endpoint-unusable", &problem.text);
                found.push(finding.why(SILENT).fix(look("leader-check")));
            }
            Ok(false)
                if is_known
                    && matches!(seen.raft, Some(RaftSeen::On { .. }))
                    && !names_a_leader(seen.raft.as_ref()) =>
            {
                let what = format!("Orchestrator at {} knows no leader, and other nodes do", seen.url);
                let finding = Finding::new(Level::Warning, "endpoint-without-leader", what);
                found.push(finding.why(CUT_OFF).fix(look("raft-status")));
            }
            Ok(_) => {}
        }
    }
    found
}

fn names_a_leader(raft: Option<&RaftSeen>) -> bool {
    matches!(raft, Some(RaftSeen::On { leader, .. }) if !leader.is_empty())
}

#[cfg(test)]
mod tests {
    use super::super::facts::healthy;
    use super::*;
    use crate::orchestrator::Problem;

    fn broken(kind: CameBackKind) -> Problem {
        Problem { kind, text: "Orchestrator at http://orc1:3000 was not reached".to_owned() }
    }

    #[test]
    fn nodes_that_answer_and_know_the_leader_are_well() {
        assert_eq!(run(&healthy()), []);
    }

    #[test]
    fn one_silent_endpoint_is_a_warning_and_all_of_them_are_an_error() {
        let mut facts = healthy();
        facts.orchestrator.endpoints[1].leads = Err(broken(CameBackKind::Unreached));
        let [one] = &run(&facts)[..] else { panic!() };
        assert_eq!((one.level, one.label), (Level::Warning, "endpoint-unusable"));
        assert_eq!(one.fix, Some(Fix::Shell("curl -sS -i http://orc2:3000/api/leader-check".to_owned())));
        facts.orchestrator.endpoints.iter_mut().for_each(|seen| seen.leads = Err(broken(CameBackKind::Late)));
        assert!(run(&facts).iter().all(|finding| finding.level == Level::Error));
    }

    #[test]
    fn a_member_that_knows_no_leader_is_found() {
        let mut facts = healthy();
        facts.orchestrator.endpoints[2].raft =
            Some(RaftSeen::On { node: "orc3".to_owned(), leader: String::new(), peers: 3 });
        assert_eq!(run(&facts)[0].label, "endpoint-without-leader");
    }
}
