//! Parses what Orchestrator shows of its settings for recoveries (facts §15).

use serde::Deserialize;
use stonith_core::node::Node;

use super::{AnswerError, Key};
use crate::orchestrator::json::{Bounded, Object};
use crate::untrusted_text::one_line;

/// Whether a cluster's dead primary is replaced without an operator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClusterRecovery {
    /// `ClusterName`.
    pub name: String,
    /// `ClusterAlias`; may be empty.
    pub alias: String,
    /// `HasAutomatedMasterRecovery`.
    pub is_automatic: bool,
}

/// A recovery that Orchestrator did not begin, because another one was not long before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlockedRecovery {
    /// The failed server.
    pub node: Node,
    /// The cluster.
    pub cluster: String,
    /// The recovery that blocks it.
    pub by: i64,
}

/// Parses `/api/clusters-info`.
pub fn clusters(body: &[u8]) -> Result<Vec<ClusterRecovery>, AnswerError> {
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct ClusterJson {
        cluster_name: String,
        #[serde(default)]
        cluster_alias: String,
        has_automated_master_recovery: bool,
    }
    let Bounded(list) = serde_json::from_slice::<Bounded<Object<ClusterJson>>>(body)?;
    let read = |Object(json): Object<ClusterJson>| ClusterRecovery {
        name: one_line(&json.cluster_name),
        alias: one_line(&json.cluster_alias),
        is_automatic: json.has_automated_master_recovery,
    };
    Ok(list.into_iter().map(read).collect())
}

/// Parses `/api/check-global-recoveries`: whether recoveries are enabled at all.
pub fn global_recoveries(body: &[u8]) -> Result<bool, AnswerError> {
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct GlobalJson {
        details: String,
    }
    let Object(json) = serde_json::from_slice::<Object<GlobalJson>>(body)?;
    Ok(json.details != "disabled")
}

/// Parses `/api/automated-recovery-filters`: the patterns of hosts whose failure recovers nothing.
pub fn ignored_hosts(body: &[u8]) -> Result<Vec<String>, AnswerError> {
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct FiltersJson {
        details: Object<DetailsJson>,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct DetailsJson {
        #[serde(default)]
        recovery_ignore_hostname_filters: Option<Vec<String>>,
    }
    let Object(FiltersJson { details: Object(details) }) = serde_json::from_slice(body)?;
    Ok(details.recovery_ignore_hostname_filters.iter().flatten().map(|pattern| one_line(pattern)).collect())
}

/// Parses `/api/blocked-recoveries`.
pub fn blocked(body: &[u8]) -> Result<Vec<BlockedRecovery>, AnswerError> {
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct BlockedJson {
        failed_instance_key: Object<Key>,
        #[serde(default)]
        cluster_name: String,
        #[serde(default)]
        blocking_recovery_id: i64,
    }
    let list = serde_json::from_slice::<Option<Bounded<Object<BlockedJson>>>>(body)?;
    let read = |Object(json): Object<BlockedJson>| {
        let node = json.failed_instance_key.0.node()?;
        Ok(BlockedRecovery { node, cluster: one_line(&json.cluster_name), by: json.blocking_recovery_id })
    };
    list.into_iter().flat_map(|Bounded(list)| list).map(read).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_settings_that_orchestrator_shows_are_read() {
        let of = r#"[{"ClusterName":"node01:3306","ClusterAlias":"main","HasAutomatedMasterRecovery":false}]"#;
        let cluster = ClusterRecovery { name: "node01:3306".into(), alias: "main".into(), is_automatic: false };
        assert_eq!(clusters(of.as_bytes()).unwrap(), [cluster]);
        let said = |word: &str| format!(r#"{{"Code":"OK","Message":"Global recoveries {word}","Details":"{word}"}}"#);
        assert!(global_recoveries(said("enabled").as_bytes()).unwrap());
        assert!(!global_recoveries(said("disabled").as_bytes()).unwrap());
        let filters = r#"{"Code":"OK","Message":"","Details":{"RecoveryIgnoreHostnameFilters":["^backup"]}}"#;
        assert_eq!(ignored_hosts(filters.as_bytes()).unwrap(), ["^backup"]);
        let none = r#"{"Code":"OK","Message":"","Details":{"RecoveryIgnoreHostnameFilters":null}}"#;
        assert!(ignored_hosts(none.as_bytes()).unwrap().is_empty());
    }

    #[test]
    fn blocked_recoveries_are_a_list_or_nothing() {
        assert!(blocked(b"null").unwrap().is_empty() && blocked(b"[]").unwrap().is_empty());
        let one =
            r#"[{"FailedInstanceKey":{"Hostname":"node01","Port":3306},"ClusterName":"c","BlockingRecoveryId":7}]"#;
        assert_eq!(blocked(one.as_bytes()).unwrap()[0].by, 7);
        assert!(blocked(b"{}").is_err());
    }
}
