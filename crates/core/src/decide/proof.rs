//! The proof that lets a node back (design §6). Every return asks the same: what speaks against this node, and in which
//! role does it return?

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::node::Node;
use crate::orchestrator::{Instance, Topology};
use crate::role::Role;

/// One obstacle to a node's return. Its text tells the operator what to do next.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum ProofGap {
    /// Orchestrator does not list the node.
    Unlisted,
    /// Orchestrator's last check of the node failed.
    NotValid,
    /// No check of the node began after the recovery ended.
    NotCheckedSince,
    /// The node is, or would be, a second primary beside this present one.
    StandsAlone(Node),
    /// The cluster has no present primary, or several nodes may be it.
    NoPresentPrimary,
    /// A replication thread does not run. The server's error, if it gives one.
    NotReplicating(String),
    /// Following the node's primaries does not lead to this present primary.
    LeadsElsewhere(Node),
    /// The node has `read_only=0`.
    Writable,
    /// Its pair's `check_type` names a variable that Orchestrator does not report.
    CheckTypeUnseen(String),
    /// Its former successor is not a read-only replica of it.
    SuccessorNotFollowing,
    /// The node has this GTID set, which its primary lacks.
    ErrantGtid(String),
}

impl ProofGap {
    /// Whether it shows that the node is not well. Other gaps show only that something is unknown.
    fn is_bad(&self) -> bool {
        matches!(
            self,
            Self::NotValid | Self::StandsAlone(_) | Self::LeadsElsewhere(_) | Self::Writable | Self::NotReplicating(_)
        )
    }

    /// Whether it leaves the node's role open.
    fn is_unknown(&self) -> bool {
        matches!(self, Self::Unlisted | Self::NotCheckedSince | Self::NoPresentPrimary | Self::SuccessorNotFollowing)
    }
}

/// Whether these gaps prove that a node is not well: it does not answer, or it is neither a replica nor the primary.
/// An unknown role proves nothing.
pub fn prove_bad(gaps: &[ProofGap]) -> bool {
    gaps.iter().any(ProofGap::is_bad) && !gaps.iter().any(ProofGap::is_unknown)
}

impl ProofGap {
    /// A stable name for programs.
    pub fn label(&self) -> &'static str {
        match self {
            Self::Unlisted => "unlisted",
            Self::NotValid => "not-valid",
            Self::NotCheckedSince => "not-checked-since",
            Self::StandsAlone(_) => "stands-alone",
            Self::NoPresentPrimary => "no-present-primary",
            Self::NotReplicating(_) => "not-replicating",
            Self::LeadsElsewhere(_) => "leads-elsewhere",
            Self::Writable => "writable",
            Self::CheckTypeUnseen(_) => "check-type-unseen",
            Self::SuccessorNotFollowing => "successor-not-following",
            Self::ErrantGtid(_) => "errant-gtid",
        }
    }
}

impl fmt::Display for ProofGap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unlisted => write!(f, "Orchestrator does not list it: discover it there or `unfence` it"),
            Self::NotValid => write!(f, "Orchestrator's last check of it failed: start it"),
            Self::NotCheckedSince => write!(f, "Orchestrator has not checked it since the recovery ended"),
            Self::StandsAlone(primary) => {
                write!(f, "it would be a second primary beside {primary}: make it a replica")
            }
            Self::NoPresentPrimary => write!(f, "Orchestrator does not show which node of its cluster is the primary"),
            Self::NotReplicating(error) if error.is_empty() => {
                write!(f, "a replication thread does not run: start replication")
            }
            Self::NotReplicating(error) => {
                write!(f, "a replication thread does not run: repair it; the server's error is {error:?}")
            }
            Self::LeadsElsewhere(primary) => {
                write!(f, "it does not replicate from {primary}, neither directly nor through other replicas")
            }
            Self::Writable => write!(f, "it is writable: set read_only=1"),
            Self::CheckTypeUnseen(check) => write!(
                f,
                "its pair's check_type is {check}, which Orchestrator does not report: check the node, then `unfence` \
                 it as a replica"
            ),
            Self::SuccessorNotFollowing => write!(
                f,
                "Orchestrator shows it as the primary, but its former successor is not a read-only replica of it: make \
                 the successor its replica, or `unfence` this node"
            ),
            Self::ErrantGtid(set) => write!(
                f,
                "it has transactions that its primary lacks ({set}): merge or drop them, or set policy.errant_gtid = \
                 \"warn\""
            ),
        }
    }
}

/// All obstacles to one return. Never empty.
pub type ProofGaps = Vec<ProofGap>;

/// Judges the return of one node by what the leader shows of it.
#[derive(Debug)]
pub struct Judge<'a> {
    /// The leader's instances.
    pub topology: &'a Topology<'a>,
    /// A `check_type` of the node's pairs that `read_only` alone does not prove.
    pub unproven_check_type: Option<&'a str>,
    /// Whether ProxySQL sends writes to the node once it is writable: it is in a pair or a writer hostgroup.
    pub may_become_writer: bool,
    /// Whether the node has a row in a writer hostgroup.
    pub has_writer_row: bool,
    /// Whether transactions that its primary lacks keep the node out (`policy.errant_gtid = "hold"`).
    pub errant_gtid_holds: bool,
}

impl Judge<'_> {
    /// The live proof that evidence of a recovery needs: the node is (a) a replica or (b) the primary.
    ///
    /// `after_s` is the recovery's end. Checks of the node and of its replicas must have begun later, since older ones
    /// show the old replication (facts §8). `successor` is the node that took over.
    ///
    /// # Errors
    /// All obstacles, if the node is neither.
    pub fn live(&self, node: &Node, after_s: Option<i64>, successor: Option<&Node>) -> Result<Role, ProofGaps> {
        let instance = self.topology.instance(node).ok_or_else(|| vec![ProofGap::Unlisted])?;
        if !instance.valid {
            return Err(vec![ProofGap::NotValid]); // its other values are from before the failed check
        }
        let checked_since = |i: &Instance| after_s.is_none_or(|end| i.checked_s > end);
        if !checked_since(instance) {
            return Err(vec![ProofGap::NotCheckedSince]);
        }
        let present = self.topology.present_primary(node);
        match (present, &instance.primary) {
            (Some(primary), _) if primary.node == *node => {
                let mut replicas = self.topology.running_replicas(node).filter(|i| i.read_only && checked_since(i));
                let followed = replicas.any(|i| successor.is_none_or(|successor| i.node == *successor));
                if followed { Ok(Role::Primary) } else { Err(vec![ProofGap::SuccessorNotFollowing]) }
            }
            (_, Some(_)) => self.replica(instance, present),
            (None, None) => Err(vec![ProofGap::NoPresentPrimary]),
            (Some(primary), None) => Err(vec![ProofGap::StandsAlone(primary.node.clone())]),
        }
    }

    fn replica(&self, instance: &Instance, present: Option<&Instance>) -> Result<Role, ProofGaps> {
        let mut gaps = ProofGaps::new();
        match present {
            None => gaps.push(ProofGap::NoPresentPrimary),
            Some(primary) if !self.topology.leads_to(&instance.node, &primary.node) => {
                gaps.push(ProofGap::LeadsElsewhere(primary.node.clone()));
            }
            Some(_) => {}
        }
        if !instance.replicating {
            gaps.push(ProofGap::NotReplicating(instance.replication_error.clone()));
        }
        if !instance.read_only {
            gaps.push(ProofGap::Writable);
        }
        gaps.extend(self.unproven_check_type.map(|check| ProofGap::CheckTypeUnseen(check.to_owned())));
        if self.errant_gtid_holds && !instance.errant_gtid.is_empty() {
            gaps.push(ProofGap::ErrantGtid(instance.errant_gtid.clone()));
        }
        if gaps.is_empty() { Ok(Role::Replica) } else { Err(gaps) }
    }

    /// The role that the node has now, for fences that end without proof (downtime, isolation). A read-only node is a
    /// replica. An unknown role keeps no node out: its rows go back as they were. A node stays out if it would take
    /// writes beside another present primary, or beside the node that was promoted in its primary's place. So does a
    /// node with a writer row that Orchestrator has forgotten.
    ///
    /// # Errors
    /// The obstacle, if the node would be a second writer.
    pub fn role(&self, node: &Node) -> Result<Role, ProofGaps> {
        let (instance, present) = (self.topology.instance(node), self.topology.present_primary(node));
        if instance.is_some_and(|instance| instance.valid && instance.read_only) {
            return Ok(Role::Replica); // also without a present primary
        }
        match (instance, present) {
            (Some(instance), Some(present)) => self.role_beside(instance, present),
            (None, Some(_)) if self.has_writer_row => Err(vec![ProofGap::Unlisted]),
            (Some(i), None) if i.valid && self.has_writer_row && self.topology.follows_a_replaced_primary(i) => {
                Err(vec![ProofGap::Writable])
            }
            (_, _) => Ok(Role::AsBefore),
        }
    }

    fn role_beside(&self, instance: &Instance, present: &Instance) -> Result<Role, ProofGaps> {
        let node = &instance.node;
        if present.node == *node {
            return Ok(Role::Primary);
        }
        let is_harmless = !self.may_become_writer || self.topology.co_primaries(node, &present.node);
        match (&instance.primary, instance.read_only || !instance.valid) {
            _ if is_harmless => Ok(Role::AsBefore),
            (Some(_), true) => Ok(Role::Replica), // ProxySQL itself shuns a node that is down
            (Some(_), false) => Err(vec![ProofGap::Writable]),
            (None, _) => Err(vec![ProofGap::StandsAlone(present.node.clone())]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::orchestrator::KnownTies;
    use crate::orchestrator::shown::{instance, node};

    fn topology(shown: &[Instance]) -> Topology<'_> {
        Topology::new(shown, &KnownTies::default())
    }

    fn judge<'a>(topology: &'a Topology<'a>) -> Judge<'a> {
        Judge {
            topology,
            unproven_check_type: None,
            may_become_writer: true,
            has_writer_row: true,
            errant_gtid_holds: true,
        }
    }

    #[test]
    fn a_check_counts_if_it_began_after_the_second_in_which_the_recovery_was_over() {
        let shown = [instance("a", None), instance("b", Some("a"))];
        let topology = topology(&shown);
        assert_eq!(judge(&topology).live(&node("b"), Some(99), None), Ok(Role::Replica));
        assert_eq!(judge(&topology).live(&node("b"), Some(100), None), Err(vec![ProofGap::NotCheckedSince]));
    }

    #[test]
    fn a_writable_replica_goes_back_only_where_that_does_no_harm() {
        let writable = |valid| [instance("a", None), Instance { valid, read_only: false, ..instance("b", Some("a")) }];
        let role = |shown: &[Instance], may_become_writer| {
            let topology = topology(shown);
            Judge { may_become_writer, ..judge(&topology) }.role(&node("b"))
        };
        assert_eq!(role(&writable(true), true), Err(vec![ProofGap::Writable]));
        assert_eq!(role(&writable(true), false), Ok(Role::AsBefore), "nothing makes a writer of it");
        assert_eq!(role(&writable(false), true), Ok(Role::Replica), "dead: ProxySQL's own business");
    }

    #[test]
    fn a_read_only_node_goes_back_as_a_replica_while_its_cluster_has_no_primary() {
        let role = |read_only| {
            let dead = Instance { valid: false, ..instance("a", None) };
            let shown = [dead, Instance { read_only, ..instance("b", Some("a")) }];
            judge(&topology(&shown)).role(&node("b"))
        };
        assert_eq!(role(true), Ok(Role::Replica), "its runtime row may be in the writer hostgroup still");
        assert_eq!(role(false), Ok(Role::AsBefore));
    }

    #[test]
    fn a_primary_is_proven_by_its_former_successor_only_if_that_is_read_only() {
        let live = |read_only| {
            let shown = [instance("a", None), Instance { read_only, ..instance("b", Some("a")) }];
            let topology = topology(&shown);
            judge(&topology).live(&node("a"), None, Some(&node("b")))
        };
        assert_eq!(live(true), Ok(Role::Primary));
        assert_eq!(live(false), Err(vec![ProofGap::SuccessorNotFollowing]));
    }

    #[test]
    fn every_obstacle_is_named_and_the_servers_own_words_are_quoted() {
        let error = "Got fatal error 1236 from master";
        let stopped = Instance {
            read_only: false,
            replicating: false,
            replication_error: error.to_owned(),
            errant_gtid: "u:1-3".to_owned(),
            ..instance("b", Some("a"))
        };
        let shown = [instance("a", None), stopped];
        let topology = topology(&shown);
        let gaps = judge(&topology).live(&node("b"), None, None).unwrap_err();
        assert_eq!(
            gaps,
            [ProofGap::NotReplicating(error.to_owned()), ProofGap::Writable, ProofGap::ErrantGtid("u:1-3".to_owned())]
        );
        assert!(gaps[0].to_string().contains(error), "{}", gaps[0]);
    }

    #[test]
    fn what_is_missing_says_what_to_do_and_names_the_node_in_the_way() {
        let missing = ProofGap::StandsAlone(node("a"));
        assert!(missing.to_string().contains("a:3306"), "{missing}");
        for missing in
            [ProofGap::NotValid, ProofGap::Writable, ProofGap::NotReplicating(String::new()), ProofGap::Unlisted]
        {
            assert!(missing.to_string().len() > 10, "{missing:?}");
        }
    }
}
