//! The causes why no leader's answer counts, as data. Each endpoint's result is a row of the table in
//! docs/what-came-back.md.

use std::fmt;
use std::time::Duration;

/// The kinds of results that an endpoint can give: the rows of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum CameBackKind {
    /// The leader check gave 200.
    Leads,
    /// The node follows a leader that it names, and may relay to it.
    NamesALeader,
    /// The node is in a raft and knows no leader.
    NamesNobody,
    /// There is no raft, and another node is active.
    AnotherIsActive,
    /// There is no raft, and the active node stopped renewing its time in the database.
    NobodyIsActive,
    /// There is no raft, and the node's database is gone.
    DatabaseGone,
    /// The node does not lead, and its answer does not say why.
    NotLeader,
    /// The connection was refused, or there is no route or no such name.
    Unreached,
    /// No answer came in time, in this tick or since an earlier one.
    Late,
    /// The connection broke before the answer was whole.
    Broken,
    /// A gateway in front of Orchestrator gave a 5xx.
    Gateway,
    /// The node led, but no longer when its answer was to be confirmed.
    LostTheLead,
    /// The node follows a leader that it names and does not reach.
    NotRelayed,
    /// The node answers, and closes connections too early.
    Closes,
    /// The answer was 401 or 403.
    Refused,
    /// TLS failed.
    TlsFailed,
    /// The answer had another status, was not HTTP, or was not Orchestrator's JSON.
    Unusable,
}

/// The meaning of a kind if no endpoint leads or relays.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Counts {
    /// The leader answered, or a node that may relay to it.
    Leader,
    /// One vote that nobody can promote. It takes a majority of the raft, or all nodes that share a database.
    NobodyCanLead,
    /// No answer counts.
    Silence,
    /// Orchestrator answered, and the answer cannot be used.
    Blind,
}

impl fmt::Display for Counts {
    /// Writes the words of the table.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Leader => "leader",
            Self::NobodyCanLead => "vote: nobody can promote",
            Self::Silence => "silence",
            Self::Blind => "blind",
        })
    }
}

impl CameBackKind {
    /// All kinds, in the order of the table.
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

    /// A stable name for programs.
    pub fn label(self) -> &'static str {
        match self {
            Self::Leads => "leads",
            Self::NamesALeader => "names-a-leader",
            Self::NamesNobody => "names-nobody",
            Self::AnotherIsActive => "another-is-active",
            Self::NobodyIsActive => "nobody-is-active",
            Self::DatabaseGone => "database-gone",
            Self::NotLeader => "not-leader",
            Self::Unreached => "unreached",
            Self::Late => "late",
            Self::Broken => "broken",
            Self::Gateway => "gateway",
            Self::LostTheLead => "lost-the-lead",
            Self::NotRelayed => "not-relayed",
            Self::Closes => "closes",
            Self::Refused => "refused",
            Self::TlsFailed => "tls-failed",
            Self::Unusable => "unusable",
        }
    }

    /// The meaning of this kind.
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

impl fmt::Display for CameBackKind {
    /// Writes the words of the table.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
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
        })
    }
}

/// The result of one endpoint.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct EndpointAnswer {
    /// The kind of the result.
    pub kind: CameBackKind,
    /// The endpoint and its answer or error, in one bounded line.
    pub text: String,
}

impl fmt::Display for EndpointAnswer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// The cause why answers cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum BlindCause {
    /// The results of the endpoints. At least one of them is blind.
    Answers(Vec<EndpointAnswer>),
    /// The password was refused, and cannot be read again.
    PasswordUnread {
        /// The results of the endpoints.
        answers: Vec<EndpointAnswer>,
        /// The error of reading the password, in one bounded line.
        why: String,
    },
}

impl BlindCause {
    /// A stable name for programs.
    pub fn label(&self) -> &'static str {
        match self {
            Self::Answers(answers) => {
                let blind = answers.iter().find(|answer| answer.kind.counts() == Counts::Blind);
                blind.map_or(CameBackKind::Unusable, |answer| answer.kind).label()
            }
            Self::PasswordUnread { .. } => "password-unread",
        }
    }
}

impl Default for BlindCause {
    fn default() -> Self {
        Self::Answers(Vec::new())
    }
}

impl fmt::Display for BlindCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Answers(answers) => f.write_str(&joined(answers)),
            Self::PasswordUnread { answers, why } => {
                write!(f, "{}; and the password cannot be read again: {why}", joined(answers))
            }
        }
    }
}

/// The leaders that contradict each other.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum ConflictCause {
    /// Two endpoints pass the leader check.
    TwoLeaders {
        /// One endpoint.
        one: String,
        /// The other endpoint.
        other: String,
    },
    /// One endpoint passes the leader check, and a majority of the raft names another leader.
    MajorityNamesAnother {
        /// The endpoint that passes.
        endpoint: String,
        /// The leader that the endpoint names.
        leader: String,
        /// The leader that the majority names.
        other: String,
    },
}

impl ConflictCause {
    /// A stable name for programs.
    pub fn label(&self) -> &'static str {
        match self {
            Self::TwoLeaders { .. } => "two-leaders",
            Self::MajorityNamesAnother { .. } => "majority-names-another",
        }
    }
}

impl fmt::Display for ConflictCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TwoLeaders { one, other } => write!(
                f,
                "{one} and {other} both pass leader-check: unless this ends by itself with an election, one is of another \
                 Orchestrator cluster, or they are the same node twice; correct orchestrator.endpoints"
            ),
            Self::MajorityNamesAnother { endpoint, leader, other } => write!(
                f,
                "{endpoint} says that {leader} leads, and a majority of the raft names {other}: check its RaftNodes"
            ),
        }
    }
}

/// The cause why no answer counts.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum SilentCause {
    /// The results of the endpoints. None counts.
    Answers(Vec<EndpointAnswer>),
    /// The tick's time was over before everything was answered.
    TickTimeout(Duration),
}

impl SilentCause {
    /// A stable name for programs.
    pub fn label(&self) -> &'static str {
        match self {
            Self::Answers(answers) => answers.first().map_or(CameBackKind::Unreached, |answer| answer.kind).label(),
            Self::TickTimeout(_) => "tick-timeout",
        }
    }
}

impl Default for SilentCause {
    fn default() -> Self {
        Self::Answers(Vec::new())
    }
}

impl fmt::Display for SilentCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Answers(answers) => f.write_str(&joined(answers)),
            Self::TickTimeout(after) => {
                write!(f, "Orchestrator did not answer all that was asked within orchestrator.tick_timeout ({after:?})")
            }
        }
    }
}

fn joined(answers: &[EndpointAnswer]) -> String {
    answers.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cause_is_labelled_by_what_makes_it_one() {
        let answer = |kind| EndpointAnswer { kind, text: format!("orc1: {kind}") };
        let answers = vec![answer(CameBackKind::Late), answer(CameBackKind::Refused)];
        let blind = BlindCause::Answers(answers.clone());
        assert_eq!(
            (blind.label(), blind.to_string().as_str()),
            ("refused", "orc1: no answer in time; orc1: 401 or 403")
        );
        assert_eq!(SilentCause::Answers(answers[..1].to_vec()).label(), "late");
        let unread = BlindCause::PasswordUnread { answers, why: "it is gone".to_owned() };
        assert!(unread.to_string().ends_with("the password cannot be read again: it is gone"), "{unread}");
    }

    #[test]
    fn every_kind_has_its_own_label_and_words() {
        for told in [|kind: CameBackKind| kind.label().to_owned(), |kind: CameBackKind| kind.to_string()] {
            let all: std::collections::BTreeSet<String> = CameBackKind::ALL.map(told).into();
            assert_eq!(all.len(), CameBackKind::ALL.len());
        }
    }
}
