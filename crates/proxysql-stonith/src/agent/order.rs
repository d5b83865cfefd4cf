//! An operator's orders. They are decided and applied as in a tick, for the ordered nodes only.
//!
//! ```text
//! reach every ProxySQL -> decide with the order -> plan_for_node -> apply (again while another one is busy) -> look
//! ```
//!
//! **Invariant:** "fenced" and "let back" are reported only if runtime showed it after the apply.

mod backstop;
mod barrier;
mod drain;
mod end_isolation;
mod fence;
mod names;
mod unfence;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use futures_util::future::join_all;
use stonith_core::apply::Outcome;
use stonith_core::condition::of_outcome;
use stonith_core::decide::{Decision, HoldReason, Verdict, decide};
use stonith_core::managed::{Managed, served};
use stonith_core::node::Node;
use stonith_core::observed::{Observed, ProxyView};
use stonith_core::orchestrator::Identity;
use stonith_core::orders::Order;
use stonith_core::plan::Plan;
use stonith_core::shared::Shared;
use stonith_core::table::{Comment, Hostgroup, Layer, Row};
use tokio::time::Instant;

use super::build::{BuildError, looking_agent, state_dir};
use super::look::LOOK_AGAIN;
use super::snapshot::Suspended;
use super::{Agent, TickError};
use crate::clock::{self, Now};
use crate::config::{Config, Enforcement, ProxyConfig};
use crate::report;
use crate::snapshot::Snapshot;
use crate::state::{StateDir, StateError};

pub use backstop::{BackstopOrder, BackstopResult};
pub use barrier::{fence_for_barrier, lift_barrier};
pub use drain::{Course, Drained, drain, wake_monitor};
pub use end_isolation::IsolationEnd;
pub use fence::FenceOrder;
pub use names::NameError;
pub use unfence::UnfenceOrder;

/// The longest wait while another applier is busy.
pub(super) const BUSY_MAX: Duration = Duration::from_secs(10);

/// Why an order was carried out nowhere.
#[derive(Debug, thiserror::Error)]
pub enum OrderError {
    /// The config has `mode = "observe"` for a ProxySQL.
    #[error(
        "ProxySQL {0} has mode = \"observe\", which never writes. To carry out the order, add --mode=enforce; for other \
         ProxySQLs only, add --proxysql=HOST:PORT,..."
    )]
    ObserveMode(Node),
    /// No agent can be built from the config.
    #[error(transparent)]
    Build(#[from] BuildError),
    /// The name matches no node, or several.
    #[error(transparent)]
    Name(#[from] NameError),
    /// ProxySQLs of several Orchestrators have a node of this name.
    #[error(
        "{name:?} may be a different node at each of several Orchestrators. Nothing was changed; choose one with {}",
        .choices.join(" or ")
    )]
    SeveralOrchestrators {
        /// What was typed.
        name: String,
        /// A flag for each Orchestrator, which chooses its ProxySQLs.
        choices: Vec<String>,
    },
    /// The last-writer guard refused: the order would leave a writer hostgroup without an ONLINE node.
    #[error(
        "{node} is the last ONLINE writer of hostgroup {hostgroup} on ProxySQL {proxy}: without it, clients cannot write. \
        Nothing was changed; to fence it anyway, add --yes"
    )]
    LastWriter {
        /// The node.
        node: Node,
        /// The writer hostgroup.
        hostgroup: Hostgroup,
        /// The ProxySQL.
        proxy: Node,
    },
    /// The agent is not suspended, so it would isolate again.
    #[error(
        "the agent of ProxySQL {0} would isolate it again in its next tick; nothing was changed. Suspend the agent first: \
         proxysql-stonith suspend --for 1h --reason \"...\""
    )]
    NotSuspended(Node),
    /// No ProxySQL could be read.
    #[error("no ProxySQL was reached; nothing was changed")]
    NoneReached,
}

/// Why an order failed on one ProxySQL.
#[derive(Debug, thiserror::Error)]
pub enum TargetError {
    /// ProxySQL could not be read or changed.
    #[error(transparent)]
    Tick(#[from] TickError),
    /// The decision holds the node.
    #[error("{node} is not fenced, nothing was changed: {why}.{}{}", rows_in_service(.in_service), way_out(.why))]
    Held {
        /// The node.
        node: Node,
        /// Why it is held.
        why: Box<HoldReason>,
        /// Its rows that stay in service.
        in_service: Vec<String>,
    },
    /// The decision does not fence the node.
    #[error("{node} is not fenced: {why}")]
    NotFenced {
        /// The node.
        node: Node,
        /// The verdict's reason.
        why: String,
    },
    /// The plan was applied, and ProxySQL could not be read afterwards.
    #[error("the plan was applied, but it is not verified that {what} {how}: {cause}")]
    Unseen {
        /// What was changed, with its verb: "node01:3306 was".
        what: String,
        /// The ordered state: "fenced".
        how: &'static str,
        /// The reading error.
        cause: TickError,
    },
    /// Runtime does not show the ordered state.
    #[error("{}; try again", .0.join(", "))]
    NotAsOrdered(Vec<String>),
    /// A blocker keeps the node out.
    #[error("{node} is not let back: {}. Nothing was changed; see also --as and --without-lease", .blockers.join("; "))]
    NotLetBack {
        /// The node.
        node: Node,
        /// The blockers, as text.
        blockers: Vec<String>,
    },
    /// The decision holds a fenced node.
    #[error("{node} is not let back, nothing was changed: {why}")]
    HeldOut {
        /// The node.
        node: Node,
        /// Why it is held.
        why: Box<HoldReason>,
    },
    /// The release could not be saved.
    #[error("{0}. Nothing was changed")]
    Unrecorded(StateError),
    /// The release is saved, but the rows are not as ordered.
    #[error("{0}; the release is saved, but the rows are not as ordered yet: try again")]
    OnRecord(String),
    /// The rows are as ordered, but runtime did not show the node ONLINE in time.
    #[error("{node} is let back, but was not ONLINE in time: {}", .rows.join(", "))]
    NotOnline {
        /// The node.
        node: Node,
        /// Its rows as last seen.
        rows: Vec<String>,
    },
}

fn rows_in_service(rows: &[String]) -> String {
    if rows.is_empty() { String::new() } else { format!(" In service: {}.", rows.join(", ")) }
}

fn way_out(why: &HoldReason) -> &'static str {
    match why {
        HoldReason::UnreadableMarker => {
            " Correct or remove the [stonith:...] note in the comment of its rows in mysql_servers, LOAD MYSQL SERVERS \
             TO RUNTIME, and fence the node again"
        }
        HoldReason::UnknownStatus(_) => {
            " Set a status in mysql_servers that ProxySQL documents, and fence the node again"
        }
        _ => "",
    }
}

/// The result of an order on one ProxySQL.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OrderResult {
    /// Runtime shows the ordered state.
    Done,
    /// The node was not fenced there, so there is nothing to let back.
    NotFenced,
    /// The node has no managed row there.
    Absent,
}

/// The result of an order on one ProxySQL, with remarks for the operator.
#[derive(Debug)]
pub struct OnProxy<T, E = TargetError> {
    /// The ProxySQL.
    pub proxy: Node,
    /// What was unexpected, or is useful to know.
    pub remarks: Vec<String>,
    /// The result.
    pub result: Result<T, E>,
}

/// Every ProxySQL that was reached, and what was observed there.
#[derive(Debug)]
pub struct Targets<'c> {
    reached: Vec<Target<'c>>,
    unreached: Vec<TickError>,
}

/// One ProxySQL that was reached.
#[derive(Debug)]
struct Target<'c> {
    proxy: &'c ProxyConfig,
    agent: Agent,
    state: StateDir,
    observed: Observed,
    identity: Shared<Identity>,
    suspended: Suspended,
    remarks: Vec<String>,
}

impl<'c> Targets<'c> {
    /// Observes every ProxySQL, all at the same time.
    ///
    /// # Errors
    /// `mode` is `observe`, or no agent can be built from the config.
    pub async fn reach(config: &'c Config) -> Result<Self, OrderError> {
        if let Some(proxy) = config.proxies.iter().find(|proxy| proxy.policy.mode == Enforcement::Observe) {
            return Err(OrderError::ObserveMode(proxy.address.clone()));
        }
        Self::reach_to_read(config).await
    }

    /// The same in any mode, to change nothing.
    ///
    /// # Errors
    /// No agent can be built from the config.
    pub async fn reach_to_read(config: &'c Config) -> Result<Self, OrderError> {
        let mut agents = Vec::new();
        for proxy in &config.proxies {
            agents.push((proxy, looking_agent(config, proxy)?));
        }
        let looks = agents.into_iter().map(|(proxy, agent)| Target::look(config, proxy, agent));
        let mut targets = Self { reached: Vec::new(), unreached: Vec::new() };
        for looked in join_all(looks).await {
            match looked {
                Ok(target) => targets.reached.push(target),
                Err(error) => targets.unreached.push(error),
            }
        }
        Ok(targets)
    }

    /// The errors of the ProxySQLs that were not reached.
    pub fn unreached(&self) -> &[TickError] {
        &self.unreached
    }

    /// Finds the node that the operator means, and leaves the ProxySQLs of other Orchestrators alone.
    ///
    /// Each Orchestrator has its own clusters, so one name may be a different node at each.
    async fn find(&mut self, name: &str) -> Result<Node, OrderError> {
        if self.reached.is_empty() {
            return Err(OrderError::NoneReached);
        }
        let orchestrators: BTreeSet<Option<&String>> = self.reached.iter().map(Target::orchestrator).collect();
        let (mut found, mut candidates) = (Vec::new(), BTreeSet::new());
        for orchestrator in orchestrators {
            let its = self.reached.iter().filter(|target| target.orchestrator() == orchestrator).collect::<Vec<_>>();
            match find_among(&its, name) {
                Ok(node) => found.push((orchestrator.cloned(), node)),
                Err(NameError::Unknown { candidates: known, .. }) => candidates.extend(known),
                Err(ambiguous) => return Err(ambiguous.into()),
            }
        }
        match found.as_slice() {
            [] => Err(NameError::Unknown { name: name.to_owned(), candidates }.into()),
            [(orchestrator, node)] => {
                let is_its = |target: &Target<'_>| target.orchestrator() == orchestrator.as_ref();
                let (its, others) = std::mem::take(&mut self.reached).into_iter().partition(is_its);
                self.reached = its;
                for target in others {
                    target.agent.close().await;
                }
                Ok(node.clone())
            }
            several => {
                let choices = several.iter().map(|(orchestrator, _)| self.choice(orchestrator.as_ref())).collect();
                Err(OrderError::SeveralOrchestrators { name: name.to_owned(), choices })
            }
        }
    }

    /// The flag that chooses the ProxySQLs of one Orchestrator.
    fn choice(&self, orchestrator: Option<&String>) -> String {
        let its = self.reached.iter().filter(|target| target.orchestrator() == orchestrator);
        let its: Vec<String> = its.map(|target| target.proxy.address.to_string()).collect();
        let name = orchestrator.map_or("", String::as_str);
        format!("--proxysql={} ({name})", its.join(","))
    }

    /// Pairs each result with its ProxySQL and the remarks.
    fn reports<T, E>(&mut self, results: Vec<Result<T, E>>) -> Vec<OnProxy<T, E>> {
        let reports = self.reached.iter_mut().zip(results).map(|(target, result)| OnProxy {
            proxy: target.proxy.address.clone(),
            remarks: std::mem::take(&mut target.remarks),
            result,
        });
        reports.collect()
    }

    /// Closes the connection to every ProxySQL.
    pub async fn close(self) {
        for target in self.reached {
            target.agent.close().await;
        }
    }
}

/// Finds the node that the operator means, among all managed rows of these ProxySQLs.
fn find_among(targets: &[&Target<'_>], name: &str) -> Result<Node, NameError> {
    let served = |target: &&Target<'_>| served(&target.observed.proxy, &target.managed(&target.observed.proxy));
    let rows: BTreeSet<Node> = targets.iter().flat_map(served).collect();
    let of_target = |target: &&Target<'_>| {
        let of_row = |row: &Node| Some((target.identity.instance_of(row)?.clone(), row.clone()));
        rows.iter().filter_map(of_row).collect::<Vec<_>>()
    };
    let by_instance: BTreeMap<Node, Node> = targets.iter().flat_map(of_target).collect();
    let known = rows.iter().chain(by_instance.keys()).cloned().collect();
    let found = names::find(name, &known)?;
    Ok(by_instance.get(&found).filter(|_| !rows.contains(&found)).cloned().unwrap_or(found))
}

impl<'c> Target<'c> {
    /// Observes one ProxySQL.
    async fn look(config: &Config, proxy: &'c ProxyConfig, mut agent: Agent) -> Result<Self, TickError> {
        let (state, now) = (state_dir(config, proxy), Now::read());
        let standing = state.orders(&now);
        let suspended = Suspended::by(&standing, &now);
        let (observed, decision) = agent.look_once(standing.orders).await?;
        let identity = decision.memory.nodes.identity;
        Ok(Self { proxy, agent, state, observed, identity, suspended, remarks: Vec::new() })
    }
}

impl Target<'_> {
    /// The name of its Orchestrator.
    fn orchestrator(&self) -> Option<&String> {
        self.proxy.orchestrator.name.as_ref()
    }

    fn managed(&self, proxy: &ProxyView) -> Managed {
        Managed::of(proxy, &self.agent.settings.policy)
    }

    /// Decides without an order.
    fn decided(&self) -> Decision {
        decide(&self.observed, &self.agent.memory, &self.agent.settings.policy, clock::boot_ms())
    }

    /// Decides with this order.
    fn ordered(&mut self, order: Order) -> Decision {
        self.observed.orders.now = Some(order);
        decide(&self.observed, &self.agent.memory, &self.agent.settings.policy, clock::boot_ms())
    }

    /// The decision with only one node's part of the plan. The rest is left to the running agent.
    fn plan_for_node(&self, node: &Node, decision: Decision) -> Decision {
        self.plan_for_nodes(&[node.clone()].into(), decision)
    }

    fn plan_for_nodes(&self, nodes: &BTreeSet<Node>, decision: Decision) -> Decision {
        let managed = decision.plan.managed.clone();
        let directives = decision.plan.directives.iter().filter(|(node, _)| nodes.contains(*node));
        let directives = directives.map(|(node, directive)| (node.clone(), directive.clone())).collect();
        let mut plan = Plan::new(managed, directives, &self.observed.proxy);
        plan.end_possible_holders = decision.plan.end_possible_holders;
        Decision { plan, ..decision }
    }

    /// Applies the plan, retries while another applier is busy, and adds a remark for what it could not do.
    async fn apply(&mut self, decision: &Decision) -> Result<Outcome, TickError> {
        if decision.plan.is_empty() {
            return Ok(Outcome::Applied(Default::default()));
        }
        let until = Instant::now() + BUSY_MAX;
        let outcome = loop {
            match self.agent.apply(decision).await? {
                Outcome::Busy { .. } if Instant::now() < until => tokio::time::sleep(LOOK_AGAIN).await,
                outcome => break outcome,
            }
        };
        self.remarks.extend(of_outcome(&outcome).iter().map(ToString::to_string));
        Ok(outcome)
    }

    /// Reads runtime after the apply.
    async fn look_again(&mut self, what: &str, how: &'static str) -> Result<ProxyView, TargetError> {
        let unseen = |cause| TargetError::Unseen { what: what.to_owned(), how, cause };
        self.agent.proxy_view().await.map_err(unseen)
    }

    /// Logs what was changed.
    fn log(&self, decision: &Decision, outcome: &Outcome) {
        let snapshot = Snapshot::of(&self.agent, Some((&self.observed, decision)), self.suspended.clone(), &[]);
        report::log::changes(&snapshot, outcome);
    }

    /// The node's managed rows in runtime.
    fn rows_of<'v>(&self, proxy: &'v ProxyView, node: &'v Node) -> impl Iterator<Item = &'v Row> + use<'v> {
        let managed = self.managed(proxy);
        proxy.runtime.iter().filter(move |row| managed.contains(row.key.hostgroup) && row.node().as_ref() == Some(node))
    }
}

/// Why a verdict does not fence the node, if it does not.
fn not_fenced(node: &Node, verdict: &Verdict) -> Option<TargetError> {
    let why = match verdict {
        Verdict::Fence { .. } => return None,
        Verdict::Hold(why) | Verdict::Ignore(why) => why.to_string(),
        Verdict::Keep | Verdict::Unfence { .. } => "the decision lets it stay in service".to_owned(),
    };
    Some(TargetError::NotFenced { node: node.clone(), why })
}

fn row_text(row: &Row) -> String {
    format!("{} {}", row.key, row.status)
}

fn is_ours(row: &Row) -> bool {
    matches!(Comment::parse(&row.comment), Comment::Marked(..))
}

/// Whether a row of the node has a fence note in any layer, readable or not.
fn is_marked(proxy: &ProxyView, node: &Node) -> bool {
    let rows = Layer::ALL.into_iter().flat_map(|layer| proxy.layer(layer));
    rows.into_iter().any(|row| row.node().as_ref() == Some(node) && Comment::parse(&row.comment) != Comment::Plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_that_is_held_by_what_the_operator_can_correct_says_how() {
        let held = |why| {
            let node = Node::new("node01", 3306).unwrap();
            TargetError::Held { node, why: Box::new(why), in_service: vec!["10/node01:3306 ONLINE".to_owned()] }
                .to_string()
        };
        for (why, way_out) in [
            (HoldReason::UnreadableMarker, Some("Correct or remove the [stonith:...] note")),
            (HoldReason::UnknownStatus("DRAINING".to_owned()), Some("Set a status in mysql_servers")),
            (HoldReason::NotKnown, None),
        ] {
            let text = held(why);
            assert!(text.contains("In service: 10/node01:3306 ONLINE."), "{text}");
            match way_out {
                Some(way_out) => assert!(text.contains(way_out), "{text}"),
                None => assert!(text.ends_with("ONLINE."), "{text}"),
            }
        }
    }
}
