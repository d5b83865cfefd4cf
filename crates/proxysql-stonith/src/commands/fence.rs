//! `fence` and `unfence`: an operator's order, decided and applied as everything else, for one node only.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use stonith_core::apply::Outcome;
use stonith_core::decide::{Decision, decide};
use stonith_core::discharge::release_by_order;
use stonith_core::evidence::Kind;
use stonith_core::managed::Managed;
use stonith_core::managed::served;
use stonith_core::marker::Comment;
use stonith_core::node::Node;
use stonith_core::observed::{Observed, Order, ProxyView};
use stonith_core::plan::{Directive, Plan};
use stonith_core::row::{Layer, Status};
use stonith_core::verdict::{Lacks, Verdict};
use tokio::time::Instant;

use super::names::find;
use super::proxies::{looking_agent, state_dir};
use super::{DONE, Ended, FAILED, Failure, answer, complain, of_configured};
use crate::agent::Agent;
use crate::cli::{FenceArgs, UnfenceArgs};
use crate::clock::{self, Now};
use crate::config::{Config, Enforcement, ProxyConfig};
use crate::report;

/// How long another applier's work is waited for.
const BUSY_MAX: Duration = Duration::from_secs(10);

/// How long a leader may take until its good news counts: 2 s with a majority, 5 s with one endpoint (I8).
const CONFIRM_MAX: Duration = Duration::from_secs(8);

/// Between two looks.
const LOOK_AGAIN: Duration = Duration::from_millis(250);

/// One ProxySQL that was reached, and what it showed.
struct Seen<'c> {
    proxy: &'c ProxyConfig,
    agent: Agent,
    observed: Observed,
}

/// Takes a node out of traffic.
pub async fn fence(config: &Config, args: &FenceArgs) -> Ended {
    refuse_in_observe_mode(config)?;
    let (seen, node) = look_for(config, &args.node).await?;
    if !args.yes {
        for one in &seen {
            if let Some(hostgroup) = last_online_writer(&one.observed.proxy, &one.agent, &node) {
                return Err(Failure::BadInput(format!(
                    "{node} is the last ONLINE writer of hostgroup {hostgroup} on ProxySQL {}: clients could not write. \
                     Nothing was changed; add --yes if that is meant",
                    one.proxy.address
                )));
            }
        }
    }
    let until = args.wait.map(|wait| Instant::now() + wait);
    let (mut fenced, mut failed) = (0, seen.len() < config.proxies.len());
    for mut one in seen {
        one.observed.orders.now = Some(Order::Fence { node: node.clone(), level: args.level });
        let decision = decide(&one.observed, &one.agent.memory, &one.agent.settings.policy, clock::boot_ms());
        if let Some(Directive::Fence { kind, .. }) = decision.plan.directives.get(&node)
            && *kind < Kind::Manual
        {
            let proxy = &one.proxy.address;
            complain(&format!(
                "ProxySQL {proxy}: {node} is fenced for {kind} already, and comes back when that ends: the order adds nothing"
            ));
        }
        let decision = only(&node, decision, &one);
        let outcome = apply(&mut one.agent, &decision).await;
        match said(one.proxy, &outcome) {
            true => {
                fenced += 1;
                let reason = args.reason.as_deref().unwrap_or("none given");
                tracing::info!(proxy = %one.proxy.address, %node, reason, "fenced by order");
                report::log_changes(&one.proxy.address, &decision, &outcome.unwrap_or(Outcome::PutOff));
            }
            false => failed = true,
        }
        if let Some(until) = until
            && !wait_until_unused(&mut one.agent, &node, until).await
        {
            complain(&format!("ProxySQL {}: connections to {node} are still in use", one.proxy.address));
            failed = true;
        }
        one.agent.close().await;
    }
    let unused = if until.is_some() && !failed { ", no connection in use" } else { "" };
    answer(&format!("{node} fenced({}) on {} ProxySQLs{unused}", level(args), of_configured(fenced, config)));
    Ok(if failed { FAILED } else { DONE })
}

/// Lets a node back.
pub async fn unfence(config: &Config, args: &UnfenceArgs) -> Ended {
    refuse_in_observe_mode(config)?;
    let (seen, node) = look_for(config, &args.node).await?;
    let until = args.wait.map(|wait| Instant::now() + wait);
    let (mut back, mut failed) = (0, seen.len() < config.proxies.len());
    for mut one in seen {
        let well = match unfence_one(config, &mut one, &node, args.without_lease).await {
            Ok(()) => match until {
                Some(until) => wait_until_in_service(&mut one.agent, &node, until).await,
                None => true,
            },
            Err(text) => {
                complain(&format!("ProxySQL {}: {text}", one.proxy.address));
                false
            }
        };
        if well {
            back += 1
        } else {
            failed = true
        }
        one.agent.close().await;
    }
    answer(&format!("{node} let back on {} ProxySQLs", of_configured(back, config)));
    Ok(if failed { FAILED } else { DONE })
}

async fn unfence_one(config: &Config, one: &mut Seen<'_>, node: &Node, without_lease: bool) -> Result<(), String> {
    let until = Instant::now() + CONFIRM_MAX;
    let decision = loop {
        one.observed.orders.now = Some(Order::Unfence { node: node.clone(), without_lease });
        let decision = decide(&one.observed, &one.agent.memory, &one.agent.settings.policy, clock::boot_ms());
        let unconfirmed = matches!(
            decision.verdicts.get(node),
            Some(Verdict::Fence { lacks: Lacks::ConfirmedLeader | Lacks::Lease, .. })
        );
        if !unconfirmed || Instant::now() >= until {
            break decision;
        }
        // Only in this process: how long the leader has been the same.
        one.agent.memory = decision.memory;
        tokio::time::sleep(LOOK_AGAIN).await;
        let orders = one.observed.orders.clone();
        one.observed = one.agent.look(orders).await.map_err(|error| error.to_string())?.0;
    };
    match decision.verdicts.get(node) {
        Some(Verdict::Fence { lacks, .. }) => {
            return Err(format!("{node} is not let back: {lacks}. Nothing was changed; see also --without-lease"));
        }
        Some(Verdict::Hold(why))
            if !decision.plan.directives.contains_key(node) && is_marked(&one.observed.proxy, node) =>
        {
            return Err(format!("{node} is not let back: {why}"));
        }
        _ => {}
    }
    // First on record, or the next tick of the agent would fence it again.
    let release = release_by_order(&one.agent.memory, &one.observed.leader, node, Now::read().wall_s);
    state_dir(config, one.proxy).release(node, release).map_err(|error| format!("{error}. Nothing was changed"))?;
    let decision = only(node, decision, one);
    let outcome = apply(&mut one.agent, &decision).await;
    if !said(one.proxy, &outcome) {
        return Err("its release is on record, its rows are not changed yet: try again".to_owned());
    }
    report::log_changes(&one.proxy.address, &decision, &outcome.unwrap_or(Outcome::PutOff));
    Ok(())
}

fn refuse_in_observe_mode(config: &Config) -> Result<(), Failure> {
    match config.policy.mode {
        Enforcement::Enforce => Ok(()),
        Enforcement::Observe => {
            Err(Failure::BadInput("mode = \"observe\" never writes; give --mode=enforce to order it".to_owned()))
        }
    }
}

/// Looks at every ProxySQL, and finds the node that is meant among all their rows.
async fn look_for<'c>(config: &'c Config, name: &str) -> Result<(Vec<Seen<'c>>, Node), Failure> {
    let mut seen = Vec::new();
    let mut nodes = BTreeSet::new();
    let mut unreached = Vec::new();
    for proxy in &config.proxies {
        let mut agent = looking_agent(config, proxy)?;
        let orders = state_dir(config, proxy).orders(&Now::read()).orders;
        match agent.look(orders).await {
            Ok((observed, _)) => {
                nodes.extend(served(&observed.proxy, &Managed::of(&observed.proxy, &agent.settings.policy)));
                seen.push(Seen { proxy, agent, observed });
            }
            Err(error) => unreached.push(error.to_string()),
        }
    }
    for error in &unreached {
        complain(error);
    }
    if seen.is_empty() {
        return Err(Failure::Error(anyhow::anyhow!("no ProxySQL was reached; nothing was changed")));
    }
    let node = find(name, &nodes).map_err(|error| Failure::BadInput(error.to_string()))?;
    Ok((seen, node))
}

/// The decision with the ordered node's part of the plan alone: the rest is the running agent's.
fn only(node: &Node, decision: Decision, one: &Seen<'_>) -> Decision {
    let managed = decision.plan.managed.clone();
    let directive = decision.plan.directives.get(node).cloned();
    let directives = BTreeMap::from_iter(directive.map(|directive| (node.clone(), directive)));
    Decision { plan: Plan::new(managed, directives, &one.observed.proxy), ..decision }
}

async fn apply(agent: &mut Agent, decision: &Decision) -> Result<Outcome, String> {
    if decision.plan.is_empty() {
        return Ok(Outcome::Applied(Default::default()));
    }
    let until = Instant::now() + BUSY_MAX;
    loop {
        match agent.apply(decision).await.map_err(|error| error.to_string())? {
            Outcome::Busy { .. } if Instant::now() < until => tokio::time::sleep(LOOK_AGAIN).await,
            outcome => return Ok(outcome),
        }
    }
}

/// Says what was left undone; whether rows are as ordered all the same.
fn said(proxy: &ProxyConfig, outcome: &Result<Outcome, String>) -> bool {
    let undone = match outcome {
        Ok(outcome) => report::left_undone(outcome),
        Err(error) => BTreeMap::from([("apply".to_owned(), error.clone())]),
    };
    for text in undone.values() {
        complain(&format!("ProxySQL {}: {text}", proxy.address));
    }
    matches!(outcome, Ok(Outcome::Applied(done)) if done.not_as_planned.is_empty())
}

async fn wait_until_unused(agent: &mut Agent, node: &Node, until: Instant) -> bool {
    loop {
        if agent.connections_used(node).await.is_ok_and(|used| used == 0) {
            return true;
        }
        if Instant::now() >= until {
            return false;
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}

async fn wait_until_in_service(agent: &mut Agent, node: &Node, until: Instant) -> bool {
    loop {
        let online = |proxy: &ProxyView| {
            let mut rows = proxy.runtime.iter().filter(|row| row.node().as_ref() == Some(node));
            rows.any(|row| row.status == Status::Online)
        };
        if agent.proxy_view().await.is_ok_and(|proxy| online(&proxy)) {
            return true;
        }
        if Instant::now() >= until {
            return false;
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}

fn is_marked(proxy: &ProxyView, node: &Node) -> bool {
    [Layer::Runtime, Layer::Memory, Layer::Disk]
        .into_iter()
        .flat_map(|layer| proxy.layer(layer))
        .any(|row| row.node().as_ref() == Some(node) && Comment::parse(&row.comment) != Comment::Plain)
}

/// The writer hostgroup in which this node is the only ONLINE one.
fn last_online_writer(proxy: &ProxyView, agent: &Agent, node: &Node) -> Option<u32> {
    let managed = Managed::of(proxy, &agent.settings.policy);
    managed.writers().find_map(|hostgroup| {
        let rows = proxy.runtime.iter().filter(|row| row.key.hostgroup == hostgroup && row.status == Status::Online);
        let online: BTreeSet<Node> = rows.filter_map(|row| row.node()).collect();
        (online.len() == 1 && online.contains(node)).then_some(hostgroup.0)
    })
}

fn level(args: &FenceArgs) -> &'static str {
    use crate::config::Word;
    args.level.word()
}
