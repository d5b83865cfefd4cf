//! `install backstop`: at most one ONLINE server in each writer hostgroup that has one primary. It goes through the apply,
//! so nobody's staged edits go live or get lost.

use std::collections::{BTreeMap, BTreeSet};

use futures_util::future::join_all;
use stonith_core::apply::Outcome;
use stonith_core::decide::Decision;
use stonith_core::lending::Layers;
use stonith_core::managed::Managed;
use stonith_core::node::Node;
use stonith_core::observed::ProxyView;
use stonith_core::online_limit::{ATTRIBUTES, LimitChange, LimitChanges, NO_LIMIT, is_noted, limit};
use stonith_core::orchestrator::{Identity, Instance};
use stonith_core::plan::Plan;
use stonith_core::table::{Content, Hostgroup, Row};

use super::{OnProxy, Target, Targets};
use crate::agent::look::examine_orchestrator;
use crate::proxysql::{TableError, column_defaults, read_layers};

/// What is asked for.
#[derive(Debug, Clone, Copy)]
pub struct BackstopOrder {
    /// What was there before is restored.
    pub remove: bool,
    /// Nothing is changed.
    pub dry_run: bool,
}

/// What was done on one ProxySQL.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct BackstopResult {
    /// The hostgroups that were, or would be, changed.
    pub changed: BTreeSet<Hostgroup>,
    /// The hostgroups that are as ordered already.
    pub unchanged: BTreeSet<Hostgroup>,
    /// The hostgroups that are left alone, each with the reason.
    pub left: BTreeMap<Hostgroup, String>,
}

impl Targets<'_> {
    /// Sets the backstop, or takes it back, on every ProxySQL that was reached.
    pub async fn backstop(&mut self, order: BackstopOrder) -> Vec<OnProxy<BackstopResult, String>> {
        let results = join_all(self.reached.iter_mut().map(|target| target.backstop(order))).await;
        self.reports(results)
    }
}

impl Target<'_> {
    async fn backstop(&mut self, order: BackstopOrder) -> Result<BackstopResult, String> {
        let layers = self.attributes().await?;
        let managed = self.managed(&self.observed.proxy);
        let result = if order.remove {
            taken_back(&layers)
        } else {
            let recovery = examine_orchestrator(&self.proxy.orchestrator).await.map_err(|error| error.to_string())?;
            let instances = recovery.recovery.and_then(|seen| seen.instances).ok_or(
                "Orchestrator's leader does not answer, so it is unknown which hostgroups have one primary. Nothing was \
                 changed",
            )?;
            chosen(&self.observed.proxy, &managed, &instances, &self.identity, &layers)
        };
        if order.dry_run || result.changed.is_empty() {
            return Ok(result);
        }
        let change = if order.remove { LimitChange::Restore } else { LimitChange::Set };
        let changes = LimitChanges {
            changes: result.changed.iter().map(|hostgroup| (*hostgroup, change)).collect(),
            defaults: self.defaults().await?,
        };
        let plan = Plan { limits: changes.clone(), ..Plan::new(managed, BTreeMap::new(), &self.observed.proxy) };
        let decision = Decision { plan, ..self.decided() };
        match self.apply(&decision).await.map_err(|error| error.to_string())? {
            Outcome::PutOff => {
                Err("somebody edits the server tables at this moment. Nothing was changed: try again".to_owned())
            }
            Outcome::Applied(_) => {
                let after = self.attributes().await?;
                let wrong: Vec<&str> = [
                    ("runtime", &layers.runtime, &after.runtime),
                    ("memory", &layers.memory, &after.memory),
                    ("disk", &layers.disk, &after.disk),
                ]
                .into_iter()
                .filter(|(_, before, after)| !is_carried_out(&changes, before, after))
                .map(|(layer, ..)| layer)
                .collect();
                if wrong.is_empty() {
                    Ok(result)
                } else {
                    Err(format!("not as ordered in {}: try again", wrong.join(", ")))
                }
            }
            // The remarks say what happened.
            _ => Err("the backstop was not changed".to_owned()),
        }
    }

    async fn attributes(&mut self) -> Result<Layers, String> {
        let admin = self.agent.connected().map_err(|error| error.to_string())?;
        match read_layers(admin, ATTRIBUTES).await {
            Ok(layers) => Ok(layers),
            Err(TableError::Admin(error)) if error.to_string().contains("no such table") => {
                Err("this ProxySQL has no mysql_hostgroup_attributes, which came with 2.5. Nothing was changed"
                    .to_owned())
            }
            Err(error) => Err(error.to_string()),
        }
    }

    async fn defaults(&mut self) -> Result<BTreeMap<String, Option<String>>, String> {
        let admin = self.agent.connected().map_err(|error| error.to_string())?;
        Ok(column_defaults(admin, ATTRIBUTES).await.map_err(|error| error.to_string())?.collect())
    }
}

/// Whether a layer has the limits and the notes that these changes make of what it had before.
fn is_carried_out(changes: &LimitChanges, before: &Content, after: &Content) -> bool {
    let wanted = changes.carry_out(before);
    let seen = |layer: &Content, hostgroup| (limit(layer, hostgroup).to_owned(), is_noted(layer, hostgroup));
    changes.changes.keys().all(|hostgroup| seen(after, *hostgroup) == seen(&wanted, *hostgroup))
}

/// The hostgroups whose limit this program set.
fn taken_back(layers: &Layers) -> BackstopResult {
    let all = [&layers.runtime, &layers.memory, &layers.disk];
    let keys = all.into_iter().flat_map(|layer| layer.records.keys());
    let hostgroups = keys.filter_map(|key| Some(Hostgroup(key.first()?.as_ref()?.parse().ok()?)));
    let mut result = BackstopResult::default();
    for hostgroup in hostgroups.collect::<BTreeSet<_>>() {
        if all.into_iter().any(|layer| is_noted(layer, hostgroup)) {
            result.changed.insert(hostgroup);
        } else if limit(&layers.runtime, hostgroup) == "1" {
            result.left.insert(hostgroup, "its limit was not set by this program".to_owned());
        }
    }
    result
}

/// The writer hostgroups that have one primary, as far as anybody can see.
fn chosen(
    proxy: &ProxyView,
    managed: &Managed,
    instances: &[Instance],
    identity: &Identity,
    layers: &Layers,
) -> BackstopResult {
    let mut result = BackstopResult::default();
    for hostgroup in managed.writers() {
        let [live, staged, disk] = [&layers.runtime, &layers.memory, &layers.disk].map(|layer| limit(layer, hostgroup));
        if let Some(why) = several_primaries(proxy, managed, instances, identity, hostgroup) {
            result.left.insert(hostgroup, why);
        } else if [live, staged, disk] == ["1"; 3] {
            result.unchanged.insert(hostgroup);
        } else if staged != live {
            let why = format!(
                "max_num_online_servers is {live} in runtime and {staged} in memory: load or undo that edit first"
            );
            result.left.insert(hostgroup, why);
        } else if live != NO_LIMIT && live != "1" {
            result.left.insert(hostgroup, format!("max_num_online_servers is {live} already, which somebody chose"));
        } else {
            result.changed.insert(hostgroup);
        }
    }
    result
}

/// Why a writer hostgroup may have several primaries.
fn several_primaries(
    proxy: &ProxyView,
    managed: &Managed,
    instances: &[Instance],
    identity: &Identity,
    hostgroup: Hostgroup,
) -> Option<String> {
    let reader = managed.pair_of_writer(hostgroup).map(|pair| pair.reader);
    let of_pair = |row: &&Row| row.key.hostgroup == hostgroup || Some(row.key.hostgroup) == reader;
    let rows: Vec<&Row> = proxy.runtime.iter().filter(of_pair).filter(|row| row.status.in_service()).collect();
    let writers: BTreeSet<Node> =
        rows.iter().filter(|row| row.key.hostgroup == hostgroup).filter_map(|row| row.node()).collect();
    if writers.len() > 1 {
        return Some(format!("it has {} servers in service", writers.len()));
    }
    let known = |node: &Node| {
        let server = identity.server(node);
        instances.iter().find(|instance| identity.server(&instance.node) == server)
    };
    let served: Vec<Node> = rows.iter().filter_map(|row| row.node()).collect();
    if let Some(unknown) = served.iter().find(|node| known(node).is_none()) {
        return Some(format!("Orchestrator does not know {unknown}"));
    }
    let found: Vec<&Instance> = served.iter().filter_map(known).collect();
    let clusters: BTreeSet<&str> = found.iter().map(|instance| instance.cluster.as_str()).collect();
    if clusters.len() > 1 {
        return Some(format!("it serves {} clusters of Orchestrator", clusters.len()));
    }
    let replicates_back = |one: &&&Instance| {
        let primary = one.primary.as_ref().and_then(known);
        let back = primary.and_then(|primary| primary.primary.as_ref());
        back.is_some_and(|back| identity.server(back) == identity.server(&one.node))
    };
    found.iter().find(replicates_back).map(|one| format!("{} has a co-primary", one.node))
}
