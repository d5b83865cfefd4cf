//! What came back from each endpoint, and what it means together. docs/what-came-back.md has the table.

use std::collections::BTreeSet;

use stonith_core::orchestrator::{CameBackKind, EndpointAnswer};

use super::answers::{Health, RaftStatus};
use super::error::RequestError;

/// An endpoint's answer to whether it leads, and why not.
#[derive(Debug)]
pub enum CameBack {
    /// The node leads.
    Leads,
    /// The node does not lead; this is its raft status.
    Follows(RaftStatus),
    /// The node does not lead; there is no raft, and this is the state of its database.
    Passive(Health),
    /// The node does not lead, and did not give a reason.
    NotLeader,
    /// No usable answer.
    Failed(RequestError),
    /// No answer yet; the client stopped waiting.
    Pending,
}

impl RequestError {
    /// The kind of answer.
    pub fn kind(&self) -> CameBackKind {
        match self {
            Self::Unreached { .. } => CameBackKind::Unreached,
            Self::Late { .. } => CameBackKind::Late,
            Self::Lost { .. } => CameBackKind::Broken,
            Self::Gateway { .. } => CameBackKind::Gateway,
            Self::Closes { .. } => CameBackKind::Closes,
            Self::LostTheLead { .. } => CameBackKind::LostTheLead,
            Self::NotRelayed { .. } => CameBackKind::NotRelayed,
            Self::Refused { .. } => CameBackKind::Refused,
            Self::Tls { .. } => CameBackKind::TlsFailed,
            Self::Status { .. } | Self::Garbled { .. } | Self::Unreadable { .. } => CameBackKind::Unusable,
        }
    }
}

impl CameBack {
    /// The kind of answer.
    pub fn kind(&self) -> CameBackKind {
        match self {
            Self::Leads => CameBackKind::Leads,
            Self::Follows(status) if status.leader.is_empty() => CameBackKind::NamesNobody,
            Self::Follows(_) => CameBackKind::NamesALeader,
            Self::Passive(Health::AnotherIsActive) => CameBackKind::AnotherIsActive,
            Self::Passive(Health::NobodyIsActive) => CameBackKind::NobodyIsActive,
            Self::Passive(Health::DatabaseGone) => CameBackKind::DatabaseGone,
            Self::NotLeader => CameBackKind::NotLeader,
            Self::Failed(error) => error.kind(),
            Self::Pending => CameBackKind::Late,
        }
    }

    /// The raft member at the endpoint: its own name, else the endpoint. `leader` is the leader's name.
    pub fn member(&self, endpoint: &str, leader: &str) -> String {
        match self {
            Self::Leads => leader.to_owned(),
            Self::Follows(status) => status.name(endpoint),
            _ => endpoint.to_owned(),
        }
    }

    /// Whether the node answered that it does not lead.
    pub fn does_not_lead(&self) -> bool {
        matches!(self, Self::Follows(_) | Self::Passive(_) | Self::NotLeader)
    }

    /// The answer as data and as text.
    pub fn answer(&self, endpoint: &str) -> EndpointAnswer {
        EndpointAnswer { kind: self.kind(), text: self.text(endpoint) }
    }

    fn text(&self, endpoint: &str) -> String {
        let at = format!("Orchestrator at {endpoint}");
        match self {
            Self::Leads => format!("{at} leads"),
            Self::Follows(status) if status.leader.is_empty() => {
                format!("{at} does not lead and knows no leader: it may be cut off from the other nodes")
            }
            Self::Follows(status) => format!("{at} does not lead and names {} as the leader", status.leader),
            Self::Passive(Health::AnotherIsActive) => format!("{at} does not lead: another node is active"),
            Self::Passive(Health::NobodyIsActive) => format!("{at} does not lead, and no other node is active"),
            Self::Passive(Health::DatabaseGone) => format!("{at} does not lead: its database is gone"),
            Self::NotLeader => format!("{at} does not lead, and gives no reason"),
            Self::Failed(error) => error.to_string(),
            Self::Pending => format!("{at} was late before and has not answered yet"),
        }
    }
}

/// Whether all answers together say that no node can promote.
///
/// With raft, a majority knows no leader. Without raft, the shared database has no active node, or is gone for every
/// configured node.
pub fn nobody_can_lead(came_back: &[CameBack], endpoints: &[String]) -> bool {
    let statuses = || {
        came_back.iter().zip(endpoints).filter_map(|(came_back, endpoint)| match came_back {
            CameBack::Follows(status) => Some((status, endpoint)),
            _ => None,
        })
    };
    let peers = statuses().map(|(status, _)| status.peers).max().unwrap_or(0);
    // Members count by their own names: two endpoints can be one node.
    let members: BTreeSet<String> = came_back.iter().zip(endpoints).map(|(one, at)| one.member(at, "")).collect();
    let votes =
        statuses().filter(|(status, _)| status.leader.is_empty()).map(|(status, endpoint)| status.name(endpoint));
    let votes = votes.collect::<BTreeSet<_>>().len();
    let is_any = |kind| came_back.iter().any(|one| one.kind() == kind);
    votes >= majority(peers, members.len())
        || is_any(CameBackKind::NobodyIsActive)
        || came_back.iter().all(|one| one.kind() == CameBackKind::DatabaseGone)
}

/// The size of a majority of the raft nodes.
///
/// The raft has as many nodes as one of them says, but no fewer than are configured here. A node whose wrong
/// `RaftNodes` makes it its own only peer is therefore no majority (design §12).
pub fn majority(peers: usize, configured: usize) -> usize {
    peers.max(configured) / 2 + 1
}

impl RaftStatus {
    /// The name of the node that answered: its own name if it gave one, else the endpoint.
    pub fn name(&self, endpoint: &str) -> String {
        if self.node.is_empty() { endpoint.to_owned() } else { self.node.clone() }
    }
}

#[cfg(test)]
mod tests {
    use stonith_core::orchestrator::Counts;

    use super::*;

    #[test]
    fn the_endpoint_that_leads_is_the_member_that_the_raft_calls_the_leader() {
        let follows = CameBack::Follows(RaftStatus { node: "orc2:10008".to_owned(), ..RaftStatus::default() });
        for (came_back, member) in
            [(CameBack::Leads, "orc1:10008"), (follows, "orc2:10008"), (CameBack::NotLeader, "http://balancer")]
        {
            assert_eq!(came_back.member("http://balancer", "orc1:10008"), member);
        }
    }

    #[test]
    fn what_came_back_is_of_the_kind_that_the_table_says() {
        let follows =
            |leader: &str| CameBack::Follows(RaftStatus { leader: leader.to_owned(), ..RaftStatus::default() });
        for (came_back, kind, counts) in [
            (CameBack::Leads, CameBackKind::Leads, Counts::Leader),
            (follows("orc1"), CameBackKind::NamesALeader, Counts::Leader),
            (follows(""), CameBackKind::NamesNobody, Counts::NobodyCanLead),
            (CameBack::Passive(Health::AnotherIsActive), CameBackKind::AnotherIsActive, Counts::Silence),
            (CameBack::Passive(Health::NobodyIsActive), CameBackKind::NobodyIsActive, Counts::NobodyCanLead),
            (CameBack::Passive(Health::DatabaseGone), CameBackKind::DatabaseGone, Counts::NobodyCanLead),
            (CameBack::NotLeader, CameBackKind::NotLeader, Counts::Silence),
            (CameBack::Pending, CameBackKind::Late, Counts::Silence),
        ] {
            assert_eq!((came_back.kind(), came_back.kind().counts()), (kind, counts));
        }
    }
}
