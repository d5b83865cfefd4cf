//! What Orchestrator tells a hook: `ORC_*` variables, or its placeholders as flags.

use clap::Args;
use stonith_core::node::Node;

/// The failures whose recovery moves the primary's role. Orchestrator runs the same hooks for others too.
const OF_A_PRIMARY: [&str; 4] =
    ["DeadMaster", "DeadMasterAndSomeReplicas", "DeadCoMaster", "DeadCoMasterAndSomeReplicas"];

/// `ORC_COMMAND` of a planned takeover.
const PLANNED: &str = "graceful-master-takeover";

/// What Orchestrator tells: each flag has its `ORC_*` variable. A placeholder that Orchestrator leaves empty is absent.
#[derive(Debug, Clone, Default, PartialEq, Eq, Args)]
pub struct FailoverArgs {
    /// Host of the failed node: {failedHost}
    #[arg(long, value_name = "HOST", env = "ORC_FAILED_HOST", default_value = "", hide_default_value = true)]
    pub failed_host: String,
    /// Port of the failed node: {failedPort}
    #[arg(long, value_name = "PORT", env = "ORC_FAILED_PORT", default_value = "", hide_default_value = true)]
    pub failed_port: String,
    /// Kind of failure: {failureType}
    #[arg(long, value_name = "TYPE", env = "ORC_FAILURE_TYPE", default_value = "", hide_default_value = true)]
    pub failure_type: String,
    /// Cluster of the failed node, for the log: {failureCluster}
    #[arg(long, value_name = "NAME", env = "ORC_FAILURE_CLUSTER", default_value = "", hide_default_value = true)]
    pub failure_cluster: String,
    /// UID of the recovery: {recoveryUID}
    #[arg(long, value_name = "UID", env = "ORC_RECOVERY_UID", default_value = "", hide_default_value = true)]
    pub recovery_uid: String,
    /// Command of a planned takeover: {command}
    #[arg(long, value_name = "COMMAND", env = "ORC_COMMAND", default_value = "", hide_default_value = true)]
    pub command: String,
    /// Host of the promoted node: {successorHost}
    #[arg(long, value_name = "HOST", env = "ORC_SUCCESSOR_HOST", default_value = "", hide_default_value = true)]
    pub successor_host: String,
    /// Port of the promoted node: {successorPort}
    #[arg(long, value_name = "PORT", env = "ORC_SUCCESSOR_PORT", default_value = "", hide_default_value = true)]
    pub successor_port: String,
    /// Host of the Orchestrator that runs the hook
    #[arg(long, value_name = "HOST", env = "ORC_ORCHESTRATOR_HOST", default_value = "", hide_default_value = true)]
    pub orchestrator_host: String,
}

/// Why the arguments tell of no failover.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FailoverError {
    /// The failed node is missing.
    #[error(
        "no failed node; expected ORC_FAILED_HOST and ORC_FAILED_PORT, or --failed-host={{failedHost}} \
         --failed-port={{failedPort}}"
    )]
    NoNode,
    /// A node cannot be read.
    #[error("{0:?} is no node: {1}")]
    NotANode(String, String),
}

/// One failover.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failover {
    /// The failed node.
    pub failed: Node,
    /// The promoted node.
    pub successor: Option<Node>,
    /// The recovery's UID; else `proxysql-stonith`.
    pub recovery: String,
    /// The cluster, for the log.
    pub cluster: String,
    /// The host of the Orchestrator that runs the hook.
    pub orchestrator_host: Option<String>,
    /// Whether an operator planned it, and the old primary is well.
    pub is_planned: bool,
    /// Whether it moves the primary's role.
    pub is_of_a_primary: bool,
}

impl FailoverArgs {
    /// Reads the failover.
    ///
    /// # Errors
    /// The failed node is missing, or a node cannot be read.
    pub fn read(&self) -> Result<Failover, FailoverError> {
        let failed = node(&self.failed_host, &self.failed_port)?.ok_or(FailoverError::NoNode)?;
        let text = |text: &str| given(text).map(str::to_owned);
        Ok(Failover {
            failed,
            successor: node(&self.successor_host, &self.successor_port)?,
            recovery: text(&self.recovery_uid).unwrap_or_else(|| super::OWNER.to_owned()),
            cluster: text(&self.failure_cluster).unwrap_or_default(),
            orchestrator_host: text(&self.orchestrator_host),
            is_planned: self.command.trim() == PLANNED,
            is_of_a_primary: given(&self.failure_type).is_none_or(|of| OF_A_PRIMARY.contains(&of)),
        })
    }
}

/// A value that Orchestrator filled in. A placeholder that it does not know stays as it is.
fn given(text: &str) -> Option<&str> {
    let text = text.trim();
    (!text.is_empty() && !text.starts_with('{')).then_some(text)
}

fn node(host: &str, port: &str) -> Result<Option<Node>, FailoverError> {
    let (Some(host), Some(port)) = (given(host), given(port)) else { return Ok(None) };
    let shown = || format!("{host}:{port}");
    let port = port.parse().map_err(|_| FailoverError::NotANode(shown(), "the port is no number".to_owned()))?;
    Node::new(host, port).map(Some).map_err(|error| FailoverError::NotANode(shown(), error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(host: &str, port: &str) -> FailoverArgs {
        FailoverArgs { failed_host: host.to_owned(), failed_port: port.to_owned(), ..FailoverArgs::default() }
    }

    #[test]
    fn a_failover_has_a_failed_node_and_what_orchestrator_does_not_fill_in_is_absent() {
        let whole = FailoverArgs {
            successor_host: "{successorHost}".to_owned(),
            successor_port: "{successorPort}".to_owned(),
            recovery_uid: "17:abc".to_owned(),
            ..args("db1", "3306")
        };
        let failover = whole.read().unwrap();
        assert_eq!((failover.failed.to_string().as_str(), failover.successor), ("db1:3306", None));
        assert_eq!(
            (failover.recovery.as_str(), failover.is_of_a_primary, failover.is_planned),
            ("17:abc", true, false)
        );
        assert_eq!(args("", "").read(), Err(FailoverError::NoNode));
        assert!(matches!(args("db1", "x").read(), Err(FailoverError::NotANode(..))));
    }

    #[test]
    fn a_planned_takeover_and_the_failure_of_a_replica_are_told_apart() {
        let planned = FailoverArgs { command: PLANNED.to_owned(), ..args("db1", "3306") };
        assert!(planned.read().unwrap().is_planned);
        let forced = FailoverArgs { command: "force-master-failover".to_owned(), ..args("db1", "3306") };
        assert!(!forced.read().unwrap().is_planned);
        for (failure_type, is_of_a_primary) in [("DeadMaster", true), ("DeadIntermediateMaster", false)] {
            let args = FailoverArgs { failure_type: failure_type.to_owned(), ..args("db1", "3306") };
            assert_eq!(args.read().unwrap().is_of_a_primary, is_of_a_primary);
        }
    }
}
