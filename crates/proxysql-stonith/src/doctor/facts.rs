//! What was gathered, as plain data.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use stonith_core::node::Node;
use stonith_core::observed::ProxyView;
use stonith_core::orchestrator::{Identity, Instance};
use stonith_core::policy::{IsolationScope, Policy};
use stonith_core::shared::Shared;
use stonith_core::table::{Row, Status};

use crate::certificate::Certificate;
use crate::handed::Readiness;
use crate::orchestrator;
use crate::proxysql;
use crate::registration::Registered;
use crate::snapshot::Snapshot;

/// One Orchestrator and its ProxySQLs: what the checks judge.
#[derive(Debug, Clone)]
pub struct Facts {
    /// This host's clock, s since 1970.
    pub now_s: i64,
    /// The name of the Orchestrator, where the config has several.
    pub name: Option<String>,
    /// Whether Orchestrator's certificates are verified.
    pub verifies: bool,
    /// The certificate that the program shows to Orchestrator.
    pub own_certificate: Option<Certificate>,
    /// Orchestrator.
    pub orchestrator: orchestrator::Survey,
    /// The ProxySQLs that it decides for.
    pub proxies: Vec<ProxyFacts>,
    /// What the hook before a promotion counts on. Of several Orchestrators the first one has it.
    pub barrier: Option<BarrierFacts>,
}

/// What the hook finds, were it run now.
#[derive(Debug, Clone)]
pub struct BarrierFacts {
    /// Each agent of `barrier.agents`, each that registered itself, and their ProxySQLs.
    pub agents: Vec<(String, Result<Vec<GuardedProxy>, AgentFault>)>,
    /// Who registered at each primary, or why that is not known; empty without `barrier.forget_after`.
    pub registered: Vec<(Node, Result<Registered, String>)>,
    /// How long the hook waits at most, by `barrier.deadline`.
    pub longest_wait: Duration,
    /// How long it has to wait for an agent that does not answer, by `barrier.lease`.
    pub lease_wait: Duration,
}

/// Why the hook has nothing from an agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AgentFault {
    /// No answer came that can be read.
    Unreached(String),
    /// It does not take the token.
    Refuses(String),
}

/// A ProxySQL of an agent, as its `/status.json` has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GuardedProxy {
    /// The ProxySQL.
    pub proxysql: String,
    /// The agent is suspended.
    pub suspended: bool,
    /// The agent only observes.
    pub observes: bool,
    /// The agent isolates this ProxySQL once it has no lease.
    pub armed: bool,
}

/// What matters of this program's config for one ProxySQL.
#[derive(Debug, Clone)]
pub struct Program {
    /// `isolation.scope`.
    pub scope: IsolationScope,
    /// `policy.mode = "observe"`.
    pub observes: bool,
    /// `run.scheduler_interval`.
    pub scheduler_interval: Duration,
    /// The daemon, and `run --once` by ProxySQL's scheduler.
    pub modes: Vec<ModeFacts>,
}

/// One way to run.
#[derive(Debug, Clone)]
pub struct ModeFacts {
    /// The command.
    pub command: &'static str,
    /// The largest gap between two ticks.
    pub tick: Duration,
    /// `isolation.after`, as it is in force.
    pub isolation_after: Duration,
    /// Why the config is refused.
    pub refusal: Option<String>,
}

/// One ProxySQL.
#[derive(Debug, Clone)]
pub struct ProxyFacts {
    /// What was observed and decided.
    pub snapshot: Snapshot,
    /// This program's config.
    pub program: Program,
    /// The policy that decided.
    pub policy: Policy,
    /// Its tables; `None` if they could not be read.
    pub view: Option<ProxyView>,
    /// Which names are one server.
    pub identity: Shared<Identity>,
    /// What was read besides; `None` if it could not be read.
    pub survey: Option<proxysql::Survey>,
    /// The words of another script that stand in the files which its scheduler starts, by the entry's id.
    pub traces: BTreeMap<String, BTreeSet<&'static str>>,
    /// Whether each node could be fenced itself; empty if the config does not ask for it.
    pub node_accounts: BTreeMap<Node, Readiness>,
    /// Whether each node could be powered off; empty if the config does not ask for it.
    pub fence_agents: BTreeMap<Node, Readiness>,
}

impl Facts {
    /// Orchestrator's instances, if they could be read.
    pub fn instances(&self) -> &[Instance] {
        self.orchestrator.recovery.as_ref().and_then(|seen| seen.instances.as_deref()).unwrap_or_default()
    }

    /// The instance of a row of this ProxySQL.
    pub fn instance(&self, proxy: &ProxyFacts, row: &Node) -> Option<&Instance> {
        let server = proxy.identity.server(row);
        let is_it = |instance: &&Instance| proxy.identity.server(&instance.node) == server;
        self.instances().iter().find(|instance| instance.node == *row).or_else(|| self.instances().iter().find(is_it))
    }

    /// The names of the clusters that any ProxySQL serves.
    pub fn served_clusters(&self) -> BTreeSet<&str> {
        let served = self.proxies.iter().flat_map(|proxy| proxy.nodes().into_iter().map(move |node| (proxy, node)));
        served.filter_map(|(proxy, node)| Some(self.instance(proxy, &node)?.cluster.as_str())).collect()
    }
}

impl ProxyFacts {
    /// The rows in force. A ghost is none.
    pub fn rows(&self) -> impl Iterator<Item = &Row> {
        let rows = self.view.iter().flat_map(|view| &view.runtime);
        rows.filter(|row| row.status != Status::OfflineHard)
    }

    /// The nodes of these rows.
    pub fn nodes(&self) -> BTreeSet<Node> {
        self.rows().filter_map(Row::node).collect()
    }

    /// A variable in force.
    pub fn variable(&self, name: &str) -> Option<&str> {
        self.survey.as_ref()?.variables.get(name).map(String::as_str)
    }

    /// A variable in force that is a number.
    pub fn number(&self, name: &str) -> Option<u64> {
        self.variable(name)?.parse().ok()
    }
}

#[cfg(test)]
pub use tests::{healthy, instance, node, row};

#[cfg(test)]
mod tests {
    use stonith_core::condition::Severity;
    use stonith_core::table::{CheckType, Hostgroup, Pair, RowKey};

    use super::*;
    use crate::config::Enforcement;
    use crate::orchestrator::{ClusterRecovery, EndpointSeen, RaftSeen, RecoverySeen};
    use crate::proxysql::{Checked, Survey};
    use crate::snapshot::{LeaderReport, PlanReport};

    pub fn node(name: &str) -> Node {
        format!("{name}:3306").parse().unwrap()
    }

    pub fn row(hostgroup: u32, name: &str) -> Row {
        let key = RowKey { hostgroup: Hostgroup(hostgroup), hostname: name.into(), port: 3306 };
        Row { key, status: Status::Online, comment: String::new(), settings: Shared::default() }
    }

    pub fn instance(name: &str, primary: Option<&str>) -> Instance {
        Instance {
            node: node(name),
            cluster: "node01:3306".to_owned(),
            alias: "main".to_owned(),
            valid: true,
            read_only: primary.is_some(),
            primary: primary.map(node),
            replicating: primary.is_some(),
            checked_s: 100,
            downtimed: false,
            uuid: String::new(),
            errant_gtid: String::new(),
            replication_error: String::new(),
        }
    }

    fn endpoint(n: usize) -> EndpointSeen {
        EndpointSeen {
            url: format!("http://orc{n}:3000"),
            host: format!("orc{n}"),
            is_far: false,
            leads: Ok(n == 1),
            raft: Some(RaftSeen::On { node: format!("orc{n}"), leader: "orc1".to_owned(), peers: 3 }),
            clock_ahead_s: 0,
            certificate: None,
            is_open: true,
        }
    }

    fn snapshot() -> Snapshot {
        Snapshot {
            proxysql: "127.0.0.1:6032".parse().unwrap(),
            at_s: 1_000,
            reached: true,
            version: Some("2.7.1".to_owned()),
            mode: Enforcement::Enforce,
            worst: Severity::Info,
            lease_state: None,
            leader: Some(LeaderReport { name: "orc1".to_owned(), backing: "majority" }),
            armed: true,
            writers: Vec::new(),
            isolated: false,
            lease_age_ms: None,
            lease_left_ms: None,
            isolates_in_ms: None,
            suspended: None,
            suspended_for_s: None,
            conditions: Vec::new(),
            nodes: Shared::default(),
            node_fences: Vec::new(),
            plan: PlanReport { empty: true, ..PlanReport::default() },
        }
    }

    fn survey() -> Survey {
        let variables = [
            ("mysql-monitor_enabled", "true"),
            ("mysql-monitor_username", "monitor"),
            ("mysql-monitor_read_only_interval", "1500"),
            ("mysql-monitor_read_only_timeout", "500"),
            ("mysql-monitor_writer_is_also_reader", "true"),
            ("mysql-show_processlist_extended", "0"),
            ("admin-cluster_username", ""),
            ("admin-cluster_check_interval_ms", "1000"),
            ("admin-cluster_mysql_servers_diffs_before_sync", "3"),
            ("admin-cluster_mysql_servers_save_to_disk", "true"),
        ];
        let checked =
            |name, read_only| (node(name), Checked { checks: 10, failed: 0, age_s: 1, error: None, read_only });
        let replicas = [checked("node02", Some(true)), checked("node03", Some(true))];
        Survey {
            variables: variables.map(|(name, value)| (name.to_owned(), value.to_owned())).into(),
            read_only_checks: Some(replicas.into_iter().chain([checked("node01", Some(false))]).collect()),
            connects: Some(["node01", "node02", "node03"].map(|name| checked(name, None)).into()),
            online_limits: Some([(Hostgroup(10), 1)].into()),
            default_hostgroups: [Hostgroup(10)].into(),
            ..Survey::default()
        }
    }

    /// A set-up in which no check finds more than a note.
    pub fn healthy() -> Facts {
        let rows = Shared::from(vec![row(10, "node01"), row(20, "node02"), row(20, "node03")]);
        let pair = Pair { writer: Hostgroup(10), reader: Hostgroup(20), check_type: CheckType::ReadOnly };
        let view = ProxyView {
            runtime: rows.clone(),
            memory: rows.clone(),
            disk: rows,
            pairs: vec![pair],
            ..ProxyView::default()
        };
        let cluster = ClusterRecovery { name: "node01:3306".to_owned(), alias: "main".to_owned(), is_automatic: true };
        let replicas = ["node02", "node03"].map(|name| instance(name, Some("node01")));
        let recovery = RecoverySeen {
            is_enabled: Some(true),
            clusters: Some(vec![cluster]),
            ignored_hosts: Some(Vec::new()),
            blocked: Some(Vec::new()),
            instances: Some([instance("node01", None)].into_iter().chain(replicas).collect()),
        };
        let mode = |command, tick, isolation_after| ModeFacts {
            command,
            tick: Duration::from_millis(tick),
            isolation_after: Duration::from_secs(isolation_after),
            refusal: None,
        };
        let program = Program {
            scope: IsolationScope::All,
            observes: false,
            scheduler_interval: Duration::from_secs(5),
            modes: vec![mode("run", 1_200, 10), mode("run --once", 5_000, 16)],
        };
        let proxy = ProxyFacts {
            snapshot: snapshot(),
            program,
            policy: Policy::default(),
            view: Some(view),
            identity: Shared::default(),
            survey: Some(survey()),
            traces: BTreeMap::new(),
            node_accounts: BTreeMap::new(),
            fence_agents: BTreeMap::new(),
        };
        Facts {
            now_s: 1_000_000_000,
            name: None,
            verifies: true,
            own_certificate: None,
            orchestrator: orchestrator::Survey { endpoints: (1..=3).map(endpoint).collect(), recovery: Some(recovery) },
            proxies: vec![proxy],
            barrier: None,
        }
    }
}
