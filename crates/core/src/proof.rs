//! What must be seen of a node before it is let back (DESIGN §6).

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::cluster::Topology;
use crate::node::Node;
use crate::observed::Instance;

/// The role in which a node goes back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// Its reader row, and no writer row.
    Replica,
    /// Its writer row.
    Primary,
    /// The rows exactly as they were.
    AsBefore,
}

const ROLES: [(Role, &str); 3] =
    [(Role::Replica, "replica"), (Role::Primary, "primary"), (Role::AsBefore, "as before")];

impl Role {
    /// Reads the words that [`fmt::Display`] writes.
    pub fn parse(text: &str) -> Option<Self> {
        ROLES.iter().find(|(_, name)| *name == text).map(|(role, _)| *role)
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(ROLES.iter().find(|(role, _)| role == self).map_or("", |(_, name)| name))
    }
}

/// What of the proof is missing: said to the operator as the next thing to do.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Missing {
    /// Orchestrator doesn't list the node.
    Unlisted,
    /// Its last check failed.
    NotValid,
    /// No check of it began after the recovery ended.
    NotCheckedSince,
    /// It stands as a primary beside the present one.
    StandsAlone(Node),
    /// The cluster's present primary can't be told.
    NoPresentPrimary,
    /// A replication thread is down.
    NotReplicating,
    /// It doesn't lead to the present primary.
    LeadsElsewhere(Node),
    /// It is writable.
    Writable,
    /// Its pair's check_type names a variable that Orchestrator doesn't report.
    CheckTypeUnseen(String),
    /// Its former successor doesn't replicate from it.
    SuccessorNotFollowing,
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unlisted => write!(f, "Orchestrator does not list it: discover it there, or `unfence` it"),
            Self::NotValid => write!(f, "Orchestrator's last check of it failed: start it"),
            Self::NotCheckedSince => write!(f, "Orchestrator has not checked it since the recovery ended"),
            Self::StandsAlone(primary) => {
                write!(f, "it stands as a primary of its own beside {primary}: make it a replica")
            }
            Self::NoPresentPrimary => write!(f, "Orchestrator shows no single present primary of its cluster"),
            Self::NotReplicating => write!(f, "a replication thread does not run: start replication"),
            Self::LeadsElsewhere(primary) => write!(f, "it does not replicate from {primary}, directly or not"),
            Self::Writable => write!(f, "it is writable: set read_only=1"),
            Self::CheckTypeUnseen(check) => {
                write!(
                    f,
                    "its pair's check_type is {check}, which Orchestrator does not report: check it, then `unfence` it"
                )
            }
            Self::SuccessorNotFollowing => {
                write!(f, "it is the primary, but its former successor does not replicate from it")
            }
        }
    }
}

/// What the proof is judged by.
#[derive(Debug)]
pub struct Judge<'a> {
    /// The leader's instances.
    pub topology: &'a Topology<'a>,
    /// A check_type of the node's pairs that can't be seen; `None` if all can.
    pub unseen_check_type: Option<&'a str>,
    /// Whether the node is in a pair: outside, read_only is not required.
    pub in_pair: bool,
}

impl Judge<'_> {
    /// The live proof that fences of a recovery need: (a) as a replica or (b) as the primary.
    ///
    /// `after_s` is the recovery's end, after which checks must have begun, those of its replicas too: rows of before
    /// show the old replication (FACTS §8). `successor` is who took over then.
    ///
    /// # Errors
    /// What is missing.
    pub fn live(&self, node: &Node, after_s: Option<i64>, successor: Option<&Node>) -> Result<Role, Missing> {
        let instance = self.checked(node)?;
        let checked_since = |i: &Instance| after_s.is_none_or(|end| i.checked_s > end);
        if !checked_since(instance) {
            return Err(Missing::NotCheckedSince);
        }
        match &instance.primary {
            Some(_) => self.replica(instance),
            None => {
                let primary = self.topology.present_primary(node).ok_or(Missing::NoPresentPrimary)?;
                if primary.node != *node {
                    return Err(Missing::StandsAlone(primary.node.clone()));
                }
                let mut replicas = self.topology.running_replicas(&instance.node).filter(|i| checked_since(i));
                if replicas.any(|i| successor.is_none_or(|successor| i.node == *successor)) {
                    Ok(Role::Primary)
                } else {
                    Err(Missing::SuccessorNotFollowing)
                }
            }
        }
    }

    /// The role that the node has now, for fences that end by themselves (downtime, isolation).
    ///
    /// # Errors
    /// Why it must not go back yet.
    pub fn role(&self, node: &Node) -> Result<Role, Missing> {
        let Some(instance) = self.topology.instance(node) else { return Ok(Role::AsBefore) };
        let present = self.topology.present_primary(node);
        match (&instance.primary, present) {
            (_, Some(present)) if present.node == *node => Ok(Role::Primary),
            (Some(other), _) if self.topology.co_primaries(node, other) => Ok(Role::AsBefore),
            (Some(_), _) if instance.valid && instance.read_only => Ok(Role::Replica),
            (Some(_), _) if instance.valid && self.in_pair => Err(Missing::Writable),
            (Some(_), _) => Ok(if self.in_pair { Role::Replica } else { Role::AsBefore }),
            (None, Some(present)) => Err(Missing::StandsAlone(present.node.clone())),
            (None, None) => Ok(Role::AsBefore),
        }
    }

    fn checked(&self, node: &Node) -> Result<&Instance, Missing> {
        let instance = self.topology.instance(node).ok_or(Missing::Unlisted)?;
        if instance.valid { Ok(instance) } else { Err(Missing::NotValid) }
    }

    fn replica(&self, instance: &Instance) -> Result<Role, Missing> {
        let primary = self.topology.present_primary(&instance.node).ok_or(Missing::NoPresentPrimary)?;
        if !instance.replicating {
            return Err(Missing::NotReplicating);
        }
        if !self.topology.leads_to(&instance.node, &primary.node) {
            return Err(Missing::LeadsElsewhere(primary.node.clone()));
        }
        if self.in_pair {
            if let Some(check) = self.unseen_check_type {
                return Err(Missing::CheckTypeUnseen(check.to_owned()));
            }
            if !instance.read_only {
                return Err(Missing::Writable);
            }
        }
        Ok(Role::Replica)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observed::shown::{instance, node};

    #[test]
    fn a_check_counts_if_it_began_after_the_second_in_which_the_recovery_was_over() {
        let shown = [instance("a", None), instance("b", Some("a"))];
        let topology = Topology::new(&shown, []);
        let judge = Judge { topology: &topology, unseen_check_type: None, in_pair: true };
        assert_eq!(judge.live(&node("b"), Some(99), None), Ok(Role::Replica));
        assert_eq!(judge.live(&node("b"), Some(100), None), Err(Missing::NotCheckedSince));
    }

    #[test]
    fn a_writable_replica_goes_back_only_where_that_does_no_harm() {
        let writable = |valid| [instance("a", None), Instance { valid, read_only: false, ..instance("b", Some("a")) }];
        let role = |shown: &[Instance], in_pair| {
            let topology = Topology::new(shown, []);
            Judge { topology: &topology, unseen_check_type: None, in_pair }.role(&node("b"))
        };
        assert_eq!(role(&writable(true), true), Err(Missing::Writable));
        assert_eq!(role(&writable(true), false), Ok(Role::AsBefore), "no monitor makes a writer of it");
        assert_eq!(role(&writable(false), true), Ok(Role::Replica), "dead: ProxySQL's own business");
    }

    #[test]
    fn what_is_missing_says_what_to_do_and_names_the_node_in_the_way() {
        let missing = Missing::StandsAlone(node("a"));
        assert!(missing.to_string().contains("a:3306"), "{missing}");
        for missing in [Missing::NotValid, Missing::Writable, Missing::NotReplicating, Missing::Unlisted] {
            assert!(missing.to_string().len() > 10, "{missing:?}");
        }
    }

    #[test]
    fn a_role_reads_back_from_its_words() {
        for (role, words) in ROLES {
            assert_eq!((role.to_string().as_str(), Role::parse(words)), (words, Some(role)));
        }
    }
}
