//! The text of each condition, for people.

use std::fmt;

use super::{Condition, NAMED_MAX, NodeList, UnarmedReason};
use crate::decide::HoldReason;
use crate::list::first_few;
use crate::node::Node;
use crate::table::Hostgroup;

impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::LeaderConflict(cause) => write!(f, "{cause}"),
            Self::OrchestratorUnverified(why) => f.write_str(why),
            Self::ProxyUnread(why) | Self::ProxyUnverified(why) => f.write_str(why),
            Self::StateUnkept(why) | Self::OrdersUnread(why) | Self::NoAgent(why) => f.write_str(why),
            Self::ApplyFailed(why) => f.write_str(why),
            Self::Leaderless => f.write_str(LEADERLESS),
            Self::LeaderUnusable(why) => {
                write!(f, "Orchestrator's answers cannot be used, so nothing is changed: {why}")
            }
            Self::LeaderUnreached(why) => write!(f, "Orchestrator's leader was not reached: {why}"),
            Self::AnswerSkipped { count, first, nodes } => skipped(f, *count, first, nodes),
            Self::ProxyUnfit { text, .. } => write!(f, "{text}. {UNFIT}"),
            Self::ProxyAhead { version, tried } => write!(
                f,
                "ProxySQL {version} is newer than {tried}, the newest that this program was tried with. It has \
                 everything that is needed, so the program works on it"
            ),
            Self::LoadsUncounted => f.write_str(LOADS_UNCOUNTED),
            Self::NothingManaged => f.write_str(NOTHING_MANAGED),
            Self::NoWriterHostgroup => f.write_str(NO_WRITER_HOSTGROUP),
            Self::TwoWriters { hostgroup, nodes } => two_writers(f, *hostgroup, nodes),
            Self::Unmatched(nodes) => write!(f, "Orchestrator lists {nodes} {UNMATCHED}"),
            Self::NothingProtected { served, listed } => nothing_protected(f, served, listed),
            Self::UnknownNodes { nodes, served } => {
                write!(f, "{} of {served} nodes {UNKNOWN_NODES}: {nodes}", nodes.count())
            }
            Self::ForeignHooks => f.write_str(FOREIGN_HOOKS),
            Self::WithoutWriter { hostgroup, hostname, node } => without_writer(f, *hostgroup, hostname, node),
            Self::Unarmed(reason) => write!(f, "isolation is not armed{reason}"),
            Self::Paused { by_agents } => f.write_str(if *by_agents { PAUSED } else { PAUSED_BY_OPERATOR }),
            Self::PauseIsSlow(version) => write!(f, "ProxySQL {version} {PAUSE_IS_SLOW}"),
            Self::ResumeMayHang(version) => write!(f, "ProxySQL {version} {RESUME_MAY_HANG}"),
            Self::ReturnsByHand { check_type, writers } => by_hand(f, check_type, writers),
            Self::Isolated => write!(f, "out of service: there is no lease from Orchestrator's leader"),
            Self::AnsweredFor(owner) => {
                write!(f, "kept in service by agent {owner}, which still reaches Orchestrator's leader")
            }
            Self::Suspended(reason) => write!(f, "suspended; nothing is fenced or let back: {reason}"),
            Self::Held { why, nodes } => held(f, why, nodes),
            Self::HeldMore(count) => write!(f, "{count} more nodes are held; `status` lists them"),
            Self::ErrantTransactions { set, nodes } => write!(f, "{nodes} {ERRANT} ({set}): {ERRANT_FIX}"),
            Self::Observing(plan) => write!(f, "mode = \"observe\", so nothing is changed. The plan is:\n{plan}"),
            Self::ApplierBusy(owner) => {
                write!(f, "another applier ({owner}) works on this ProxySQL, and the work is left to it")
            }
            Self::ApplierReplaced => write!(f, "another applier took over and finishes the work"),
            Self::ReturnPutOff => write!(f, "the server tables keep changing, so the return of a node is put off"),
            Self::SessionsLeft(nodes) => write!(f, "connections to {nodes} {SESSIONS_LEFT}"),
            Self::ClientsLeft(count) => write!(f, "{count} client sessions are left, though ProxySQL is paused"),
            Self::NotAsPlanned(rows) => write!(f, "{NOT_AS_PLANNED}: {rows}"),
            Self::DiskRefused(why) => write!(f, "{DISK_REFUSED}: {why}"),
            Self::NodeFenceFailed { .. }
            | Self::FenceAgentFailed { .. }
            | Self::NodeFenceUnready { .. }
            | Self::NodeFenceSessionsLeft { .. }
            | Self::NodeFenceUndone(_)
            | Self::NodeFenceNeedsDaemon => of_node_fence(f, self),
        }
    }
}

fn of_node_fence(f: &mut fmt::Formatter<'_>, condition: &Condition) -> fmt::Result {
    match condition {
        Condition::NodeFenceFailed { nodes, why } => write!(f, "{nodes} {NODE_FENCE_FAILED}: {why}"),
        Condition::FenceAgentFailed { nodes, why } => write!(f, "{nodes} {FENCE_AGENT_FAILED}: {why}"),
        Condition::NodeFenceUnready { nodes, why } => write!(f, "{nodes} {NODE_FENCE_UNREADY}: {why}"),
        Condition::NodeFenceSessionsLeft { nodes, why } => write!(f, "{nodes} {NODE_FENCE_SESSIONS}: {why}"),
        Condition::NodeFenceUndone(nodes) => write!(f, "{nodes} {NODE_FENCE_UNDONE}"),
        _ => f.write_str(NODE_FENCE_NEEDS_DAEMON),
    }
}

const ERRANT: &str = "returned with transactions that the primary lacks";

const ERRANT_FIX: &str = "merge them or rebuild the replica";

const NOT_AS_PLANNED: &str = "runtime does not show what was loaded; the next tick looks again";

const LEADERLESS: &str = "Orchestrator's nodes report no leader, so none can promote; nothing is changed";

const UNFIT: &str = "Until then `run` changes nothing here, so a failover fences nothing";

const LOADS_UNCOUNTED: &str = "ProxySQL does not count LOADs, so a LOAD by somebody else during an apply is not noticed. \
                               To count them: SET admin-checksum_mysql_servers='true' and LOAD ADMIN VARIABLES TO RUNTIME";

const NOTHING_MANAGED: &str =
    "nothing is protected here: ProxySQL has no server row outside the hostgroups that are never touched";

const NO_WRITER_HOSTGROUP: &str = "no hostgroup is known to take writes, so a second writer is not seen: \
                                   mysql_replication_hostgroups has no pair, and policy.writer_hostgroups names none";

const UNMATCHED: &str = "as failed over in a cluster that this ProxySQL serves, but no row has that name. A row under \
                         another name is not fenced";

const UNKNOWN_NODES: &str = "cannot be fenced, since Orchestrator lists them neither under ProxySQL's names nor at their \
                             addresses";

const PAUSED: &str = "paused by this program (PROXYSQL PAUSE): it takes no clients until the lease from Orchestrator's \
                      leader is back";

const PAUSED_BY_OPERATOR: &str = "paused, and not by this program: it takes no clients until an operator runs \
                                  PROXYSQL RESUME";

const PAUSE_IS_SLOW: &str = "is a member of a ProxySQL Cluster, and a pause takes up to 8 s in this version. A cut-off one \
                             may take writes for 4 s longer than isolation.after";

const RESUME_MAY_HANG: &str = "may hang and restart when it is resumed after an isolation, which pauses a member of a \
                               ProxySQL Cluster. From 2.7.2 on it does not";

const SESSIONS_LEFT: &str = "are still in use, and ProxySQL does not show which sessions hold them";

const DISK_REFUSED: &str = "ProxySQL's disk layer refused the change, and a restart of ProxySQL would lose it";

const NODE_FENCE_FAILED: &str = "fenced in ProxySQL, but not read-only at the node itself; it is tried again";

const FENCE_AGENT_FAILED: &str = "fenced in ProxySQL, but not powered off; it is tried again";

const NODE_FENCE_UNREADY: &str = "could not be fenced at the node itself as the config says if a failover required it";

const NODE_FENCE_SESSIONS: &str = "read-only at the node itself, but client sessions from before are left there";

const NODE_FENCE_UNDONE: &str = "fenced in ProxySQL, and somebody made it writable again at the node itself. It is left so \
                                 until its server restarts";

const NODE_FENCE_NEEDS_DAEMON: &str = "[node_fence] is set, and `run --once` does not act on it: only the daemon (`run`) fences \
                                       nodes themselves";

const FOREIGN_HOOKS: &str = "Orchestrator's own hooks (ProxySQLAdminAddress) change ProxySQL at a failover too: they take the \
                             old primary out without this program's note, never let it back, and reset the new writer's \
                             row to the defaults. This program takes the old primary over, lets it back on proof, and \
                             restores the row";

fn without_writer(f: &mut fmt::Formatter<'_>, hostgroup: Hostgroup, hostname: &str, node: &Node) -> fmt::Result {
    let (port, quoted) = (node.port, hostname.replace('\'', "''"));
    write!(
        f,
        "writer hostgroup {hostgroup} has no writer: {node} was taken out without this program's note. Orchestrator's hooks \
         do so before a failover, and undo nothing if it fails. If it is still the primary: UPDATE mysql_servers SET status='ONLINE' WHERE \
         hostgroup_id={hostgroup} AND hostname='{quoted}' AND port={port}; LOAD MYSQL SERVERS TO RUNTIME"
    )
}

fn held(f: &mut fmt::Formatter<'_>, why: &HoldReason, nodes: &NodeList) -> fmt::Result {
    let (verb, rows) = if nodes.count() == 1 { ("is", "its rows") } else { ("are", "their rows") };
    write!(f, "{nodes} {verb} held, and {rows} stay as they are: {why}")
}

fn skipped(f: &mut fmt::Formatter<'_>, count: usize, first: &str, nodes: &NodeList) -> fmt::Result {
    write!(f, "{count} entries of Orchestrator's answer cannot be read and are skipped. The first: {first}")?;
    match nodes.count() {
        0 => Ok(()),
        _ => write!(f, ". They name {nodes}"),
    }
}

fn two_writers(f: &mut fmt::Formatter<'_>, hostgroup: Hostgroup, nodes: &NodeList) -> fmt::Result {
    write!(
        f,
        "{nodes} take writes through hostgroup {hostgroup}, and nothing tells which of them is the primary. They stay as \
         they are; `fence` the ones that are not"
    )
}

fn nothing_protected(f: &mut fmt::Formatter<'_>, served: &NodeList, listed: &NodeList) -> fmt::Result {
    let count = served.count();
    write!(
        f,
        "nothing is protected here: Orchestrator knows none of ProxySQL's {count} nodes by name or address ({served})"
    )?;
    if listed.count() > 0 {
        write!(f, "; it lists {listed}")?;
    }
    write!(
        f,
        ". Say in [aliases] which instance each row is, or write the hostnames and ports into mysql_servers as \
         Orchestrator has them"
    )
}

fn by_hand(f: &mut fmt::Formatter<'_>, check_type: &str, writers: &[Hostgroup]) -> fmt::Result {
    let writers = first_few(writers, writers.len(), NAMED_MAX);
    write!(
        f,
        "repaired nodes do not return by themselves: Orchestrator does not report {check_type:?}, the check_type of \
         the pairs with writer hostgroup {writers}. An operator must let them back with `unfence --as`"
    )
}

/// The text continues "isolation is not armed".
impl fmt::Display for UnarmedReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoLeader => write!(f, ": no leader that knows this ProxySQL's writers has answered yet"),
            Self::NoWriter => write!(f, ": the writer hostgroups have no row"),
            Self::UnknownWriters { hostgroups, nodes } => {
                let hostgroups = first_few(hostgroups, hostgroups.len(), NAMED_MAX);
                write!(
                    f,
                    " for writer hostgroup {hostgroups}: Orchestrator lists none of the nodes there under ProxySQL's \
                     names: {nodes}"
                )
            }
        }
    }
}
