//! Whether the raft can lose a node, and whether a majority of it is asked.

use std::collections::BTreeSet;

use stonith_core::orchestrator::Backing;

use super::{Area, Check, Facts, Finding, Fix, Level, Need};
use crate::orchestrator::RaftSeen;

pub const CHECK: Check = Check {
    name: "members",
    area: Area::Orchestrator,
    needs: Need::Endpoint,
    labels: &["raft-too-small", "raft-without-spare", "majority-not-asked", "leader-unconfirmed", "one-endpoint"],
    run,
};

const SMALL: &str = "Once one node is gone, a raft of so few nodes has no majority. Then nobody can promote, and nothing new \
                     is fenced";

const SPARE: &str =
    "Once one more node is gone, the raft has no majority. Then nobody can promote, and nothing new is fenced";

const NOT_ASKED: &str = "A leader that a majority confirms counts after 2 s, and one that no majority can confirm after 5 s. \
                         A node with a wrong RaftNodes could speak for all";

const UNCONFIRMED: &str = "A leader that the others do not name can fence, and lets nothing back. It may be a leader that \
                           was just replaced";

const ALONE: &str = "Once this endpoint is gone, the program has no way to Orchestrator, and takes the proxy out of service \
                     after isolation.after";

fn run(facts: &Facts) -> Vec<Finding> {
    let endpoints = &facts.orchestrator.endpoints;
    let mut names = BTreeSet::new();
    let mut peers = 0;
    for seen in endpoints {
        if let Some(RaftSeen::On { node, peers: told, .. }) = &seen.raft {
            names.insert(if node.is_empty() { &seen.url } else { node });
            peers = peers.max(*told);
        }
    }
    let (answered, majority) = (names.len(), peers / 2 + 1);
    let mut found = Vec::new();
    if answered > 0 && peers < 3 {
        let what = format!("Orchestrator's raft has {peers} nodes");
        let fix = Fix::Orchestrator("\"RaftNodes\": [\"orc1\", \"orc2\", \"orc3\"]".to_owned());
        found.push(Finding::new(Level::Warning, "raft-too-small", what).why(SMALL).fix(fix));
    } else if answered > 0 && endpoints.len() < majority {
        let what = format!("{} of the raft's {peers} nodes are configured here", endpoints.len());
        let fix = "orchestrator.endpoints = [\"http://orc1:3000\", \"http://orc2:3000\", \"http://orc3:3000\"]";
        found.push(
            Finding::new(Level::Warning, "majority-not-asked", what).why(NOT_ASKED).fix(Fix::Config(fix.to_owned())),
        );
    } else if answered > 0 && endpoints.len() >= peers && answered <= majority && answered < peers {
        let what = format!("{answered} of the raft's {peers} nodes answer, and {majority} are needed");
        let fix = Fix::Shell("systemctl start orchestrator   # on the nodes that do not answer".to_owned());
        found.push(Finding::new(Level::Warning, "raft-without-spare", what).why(SPARE).fix(fix));
    }
    if let Some(leader) = unconfirmed(facts) {
        let what = format!("no majority of Orchestrator's nodes names the leader {leader}");
        let fix = Fix::Shell(format!("curl -sS {}/api/raft-status", endpoints.first().map_or("", |seen| &seen.url)));
        found.push(Finding::new(Level::Warning, "leader-unconfirmed", what).why(UNCONFIRMED).fix(fix));
    }
    if let [only] = &endpoints[..]
        && matches!(only.raft, Some(RaftSeen::Off))
    {
        let what = format!("{} is the only endpoint", only.url);
        let fix = Fix::Config("orchestrator.endpoints = [\"http://orc1:3000\", \"http://orc2:3000\"]".to_owned());
        found.push(Finding::new(Level::Note, "one-endpoint", what).why(ALONE).fix(fix));
    }
    found
}

/// The leader, if a ProxySQL's look found that nobody confirms it.
fn unconfirmed(facts: &Facts) -> Option<&str> {
    let leaders = facts.proxies.iter().filter_map(|proxy| proxy.snapshot.leader.as_ref());
    let mut unconfirmed = leaders.filter(|leader| leader.backing == Backing::Unconfirmed.label());
    unconfirmed.next().map(|leader| leader.name.as_str())
}

#[cfg(test)]
mod tests {
    use super::super::facts::healthy;
    use super::*;
    use crate::snapshot::LeaderReport;

    fn labels(facts: &Facts) -> Vec<&'static str> {
        run(facts).into_iter().map(|finding| finding.label).collect()
    }

    #[test]
    fn three_members_that_answer_are_well() {
        assert_eq!(labels(&healthy()), [""; 0]);
    }

    #[test]
    fn a_raft_that_can_lose_no_member_is_found() {
        let mut facts = healthy();
        facts.orchestrator.endpoints[1].raft = None;
        assert_eq!(labels(&facts), ["raft-without-spare"]);
        facts.orchestrator.endpoints[0].raft =
            Some(RaftSeen::On { node: "orc1".to_owned(), leader: "orc1".to_owned(), peers: 2 });
        facts.orchestrator.endpoints.truncate(1);
        assert_eq!(labels(&facts), ["raft-too-small"]);
    }

    #[test]
    fn fewer_endpoints_than_a_majority_are_found() {
        let mut facts = healthy();
        facts.orchestrator.endpoints.truncate(1);
        assert_eq!(labels(&facts), ["majority-not-asked"]);
        facts.orchestrator.endpoints[0].raft = Some(RaftSeen::Off);
        assert_eq!(labels(&facts), ["one-endpoint"]);
    }

    #[test]
    fn a_leader_that_nobody_confirms_is_found() {
        let mut facts = healthy();
        facts.proxies[0].snapshot.leader = Some(LeaderReport { name: "orc1".to_owned(), backing: "unconfirmed" });
        assert_eq!(labels(&facts), ["leader-unconfirmed"]);
    }
}
