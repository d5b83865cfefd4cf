//! What came back from each endpoint, and what all of it together means: the table of docs/what-came-back.md.

use std::collections::BTreeSet;

use super::answers::{Health, RaftStatus};
use super::connection::RequestError;

/// What an endpoint answered when it was asked whether it leads, and why not.
#[derive(Debug)]
pub enum CameBack {
    /// It leads.
    Leads,
    /// It does not lead; what it says of the raft.
    Follows(RaftStatus),
    /// It does not lead; there is no raft, and this is what it says of the database.
    Passive(Health),
    /// It does not lead, and did not say why.
    NotLeader,
    /// No answer, or none that can be used.
    Failed(RequestError),
    /// It was not waited for any longer.
    Pending,
}

/// The kinds of what can come back: the rows of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// leader-check is 200.
    Leads,
    /// It follows a leader that it names: it may be a way to it.
    NamesALeader,
    /// It is in a raft, and knows no leader.
    NamesNobody,
    /// No raft: another node is active.
    AnotherIsActive,
    /// No raft: the active node stopped renewing its time in the database.
    NobodyIsActive,
    /// No raft: its database is gone.
    DatabaseGone,
    /// It does not lead, and did not say why.
    NotLeader,
    /// Connection refused, no route, no such name.
    Unreached,
    /// No answer in time, in this tick or since one before.
    Late,
    /// The connection broke before the answer was whole.
    Broken,
    /// A 5xx of what is in front of Orchestrator.
    Gateway,
    /// It led, and not any more before its answer was confirmed.
    LostTheLead,
    /// It follows a leader that it names and does not reach.
    NotRelayed,
    /// It answers, and closes connections too early.
    Closes,
    /// 401 or 403.
    Refused,
    /// TLS failed.
    TlsFailed,
    /// Another status, not HTTP, or JSON that is not Orchestrator's.
    Unusable,
}

/// What a kind counts as where no endpoint leads or relays.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Counts {
    /// A leader, or a way to it.
    Leader,
    /// One vote that nobody can promote: of a majority of the raft, or of all that share a database.
    NobodyCanLead,
    /// Nothing was heard that counts.
    Silence,
    /// Orchestrator is there, and its answer can't be used.
    Blind,
}

impl Counts {
    /// It in the words of the table.
    pub fn label(self) -> &'static str {
        match self {
            Self::Leader => "leader",
            Self::NobodyCanLead => "vote: nobody can promote",
            Self::Silence => "silence",
            Self::Blind => "blind",
        }
    }
}

impl Kind {
    /// All of them, in the order of the table.
    pub const ALL: [Self; 17] = [
        Self::Leads,
        Self::NamesALeader,
        Self::NamesNobody,
        Self::AnotherIsActive,
        Self::NobodyIsActive,
        Self::DatabaseGone,
        Self::NotLeader,
        Self::Unreached,
        Self::Late,
        Self::Broken,
        Self::Gateway,
        Self::LostTheLead,
        Self::NotRelayed,
        Self::Closes,
        Self::Refused,
        Self::TlsFailed,
        Self::Unusable,
    ];

    /// It in the words of the table.
    pub fn label(self) -> &'static str {
        match self {
            Self::Leads => "leads",
            Self::NamesALeader => "follows, names a leader and relays to it",
            Self::NamesNobody => "in a raft, knows no leader",
            Self::AnotherIsActive => "no raft: another node is active",
            Self::NobodyIsActive => "no raft: no node is active",
            Self::DatabaseGone => "no raft: its database is gone",
            Self::NotLeader => "does not lead, and does not say why",
            Self::Unreached => "not reached",
            Self::Late => "no answer in time",
            Self::Broken => "the connection broke",
            Self::Gateway => "a gateway's 5xx",
            Self::LostTheLead => "lost the lead while it answered",
            Self::NotRelayed => "follows, and does not relay",
            Self::Closes => "closes connections too early",
            Self::Refused => "401 or 403",
            Self::TlsFailed => "TLS failed",
            Self::Unusable => "anything else",
        }
    }

    /// What it counts as.
    pub fn counts(self) -> Counts {
        match self {
            Self::Leads | Self::NamesALeader => Counts::Leader,
            Self::NamesNobody | Self::NobodyIsActive | Self::DatabaseGone => Counts::NobodyCanLead,
            Self::AnotherIsActive
            | Self::NotLeader
            | Self::Unreached
            | Self::Late
            | Self::Broken
            | Self::Gateway
            | Self::LostTheLead
            | Self::NotRelayed => Counts::Silence,
            Self::Closes | Self::Refused | Self::TlsFailed | Self::Unusable => Counts::Blind,
        }
    }
}

impl RequestError {
    /// Its kind.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Unreached { .. } => Kind::Unreached,
            Self::Late { .. } => Kind::Late,
            Self::Lost { .. } => Kind::Broken,
            Self::Gateway { .. } => Kind::Gateway,
            Self::Closes { .. } => Kind::Closes,
            Self::LostTheLead { .. } => Kind::LostTheLead,
            Self::NotRelayed { .. } => Kind::NotRelayed,
            Self::Refused { .. } => Kind::Refused,
            Self::Tls { .. } => Kind::TlsFailed,
            Self::Status { .. } | Self::Garbled { .. } | Self::Unreadable { .. } => Kind::Unusable,
        }
    }
}

impl CameBack {
    /// Its kind.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Leads => Kind::Leads,
            Self::Follows(status) if status.leader.is_empty() => Kind::NamesNobody,
            Self::Follows(_) => Kind::NamesALeader,
            Self::Passive(Health::AnotherIsActive) => Kind::AnotherIsActive,
            Self::Passive(Health::NobodyIsActive) => Kind::NobodyIsActive,
            Self::Passive(Health::DatabaseGone) => Kind::DatabaseGone,
            Self::NotLeader => Kind::NotLeader,
            Self::Failed(error) => error.kind(),
            Self::Pending => Kind::Late,
        }
    }

    /// Which member of the raft it is, as far as it said: by its own name, else by its endpoint. `leader` is the name of the
    /// one that leads.
    pub fn member(&self, endpoint: &str, leader: &str) -> String {
        match self {
            Self::Leads => leader.to_owned(),
            Self::Follows(status) => status.name(endpoint),
            _ => endpoint.to_owned(),
        }
    }

    /// Whether it answered that it does not lead.
    pub fn does_not_lead(&self) -> bool {
        matches!(self, Self::Follows(_) | Self::Passive(_) | Self::NotLeader)
    }

    /// It in words.
    pub fn told(&self, endpoint: &str) -> String {
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
            Self::NotLeader => format!("{at} does not lead, and does not say why"),
            Self::Failed(error) => error.to_string(),
            Self::Pending => format!("{at} did not answer in time before, and has not yet"),
        }
    }
}

/// Whether all that came back says that nobody can promote: a majority of the raft knows no leader; or, without raft,
/// the shared database says that nobody is active, or is gone for every node that is configured.
pub fn nobody_can_lead(came_back: &[CameBack], endpoints: &[String]) -> bool {
    let statuses = || {
        came_back.iter().zip(endpoints).filter_map(|(came_back, endpoint)| match came_back {
            CameBack::Follows(status) => Some((status, endpoint)),
            _ => None,
        })
    };
    let peers = statuses().map(|(status, _)| status.peers).max().unwrap_or(0);
    // By their own names: two endpoints can be one node.
    let members: BTreeSet<String> = came_back.iter().zip(endpoints).map(|(one, at)| one.member(at, "")).collect();
    let votes =
        statuses().filter(|(status, _)| status.leader.is_empty()).map(|(status, endpoint)| status.name(endpoint));
    let votes = votes.collect::<BTreeSet<_>>().len();
    let is_any = |kind| came_back.iter().any(|one| one.kind() == kind);
    votes >= majority(peers, members.len())
        || is_any(Kind::NobodyIsActive)
        || came_back.iter().all(|one| one.kind() == Kind::DatabaseGone)
}

/// How many raft nodes are a majority: of as many as one of them says there are, and of no fewer than are configured here.
/// A node with a wrong `RaftNodes` that is its own only peer is no majority (design §12).
pub fn majority(peers: usize, configured: usize) -> usize {
    peers.max(configured) / 2 + 1
}

impl RaftStatus {
    /// What names the node that said it; one that doesn't say goes by its endpoint.
    pub fn name(&self, endpoint: &str) -> String {
        if self.node.is_empty() { endpoint.to_owned() } else { self.node.clone() }
    }
}
