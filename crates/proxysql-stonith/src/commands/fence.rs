//! `fence` and `unfence`: an operator's order, decided and applied as everything else, for the ordered nodes only.
//!
//! **Invariant:** exit code 0, and a line that says "fenced" or "let back", only for what runtime showed after the apply.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use futures_util::future::join_all;
use stonith_core::apply::Outcome;
use stonith_core::condition::of_outcome;
use stonith_core::decide::{Decision, HoldReason, ReturnBlocker, Verdict, decide, release_by_order};
use stonith_core::evidence::{EvidenceKind, Level};
use stonith_core::managed::{Managed, served};
use stonith_core::node::Node;
use stonith_core::observed::{Observed, ProxyView};
use stonith_core::orders::{Order, Release};
use stonith_core::plan::{Directive, Plan};
use stonith_core::table::{Comment, Layer, Row, Status};
use tokio::time::Instant;

use super::names::find;
use super::proxies::{looking_agent, state_dir};
use super::{DONE, Ended, FAILED, Failure, answer, complain, of_configured};
use crate::agent::Agent;
use crate::cli::{FenceArgs, UnfenceArgs};
use crate::clock::{self, Now};
use crate::config::{Config, Enforcement, ProxyConfig, Word};
use crate::report;

/// How long another applier's work is waited for.
const BUSY_MAX: Duration = Duration::from_secs(10);

/// How long a leader may take until its good news counts: 2 s with a majority, 5 s with one endpoint (I8).
const CONFIRM_MAX: Duration = Duration::from_secs(8);

/// Between two looks.
const LOOK_AGAIN: Duration = Duration::from_millis(250);

/// One ProxySQL that was reached, and what it showed.
struct Target<'c> {
    proxy: &'c ProxyConfig,
    agent: Agent,
    observed: Observed,
}

/// What an order came to on one ProxySQL.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Came {
    /// It was seen in runtime.
    Done,
    /// The node was not fenced there: there is nothing to let back.
    NotFenced,
    /// The node has no managed row there.
    Absent,
}

/// Takes a node out of traffic.
pub async fn fence(config: &Config, args: &FenceArgs) -> Ended {
    refuse_in_observe_mode(config)?;
    let mut targets = look_at_all(config).await?;
    let node = find_among(&args.node, &targets)?;
    if !args.yes {
        for target in &targets {
            if let Some(hostgroup) = last_online_writer(target, &node) {
                return Err(Failure::BadInput(format!(
                    "{node} is the last ONLINE writer of hostgroup {hostgroup} on ProxySQL {}: clients could not write. \
                     Nothing was changed; add --yes if that is meant",
                    target.proxy.address
                )));
            }
        }
    }
    let until = args.wait.map(|wait| Instant::now() + wait);
    let came = join_all(targets.iter_mut().map(|target| fence_one(target, &node, args))).await;
    let mut waiting = Vec::new();
    let mut failed = targets.len() < config.proxies.len();
    let mut fenced = 0;
    for (target, came) in targets.iter_mut().zip(came) {
        match came {
            Ok(Came::Done) => {
                fenced += 1;
                waiting.push(target);
            }
            Ok(Came::NotFenced | Came::Absent) => say_absent(target.proxy, &node),
            Err(text) => {
                complain(&format!("ProxySQL {}: {text}", target.proxy.address));
                failed = true;
            }
        }
    }
    failed |= fenced == 0;
    let mut unused = "";
    if let Some(until) = until.filter(|_| fenced > 0) {
        let all_unused = join_all(waiting.into_iter().map(|target| wait_until_unused(target, &node, until))).await;
        if all_unused.into_iter().all(|unused| unused) {
            unused = ", no connection in use there";
        } else {
            failed = true;
        }
    }
    answer(&format!("{node} fenced({}) on {} ProxySQLs{unused}", args.level.word(), of_configured(fenced, config)));
    close(targets).await;
    Ok(if failed { FAILED } else { DONE })
}

async fn fence_one(target: &mut Target<'_>, node: &Node, args: &FenceArgs) -> Result<Came, String> {
    let proxy = &target.proxy.address;
    let decision = ordered(target, Order::Fence { node: node.clone(), level: args.level });
    match decision.verdicts.get(node) {
        None => return Ok(Came::Absent),
        Some(Verdict::Fence { .. }) => {}
        Some(Verdict::Hold(why)) => return Err(not_fenced(target, node, why)),
        Some(verdict) => return Err(format!("{node} is not fenced: {}", report::reason(verdict))),
    }
    if let Some(Directive::Fence { kind, .. }) = decision.plan.directives.get(node)
        && *kind < EvidenceKind::Manual
    {
        complain(&format!(
            "ProxySQL {proxy}: {node} is fenced for {kind} already, and comes back when that ends: the order adds nothing"
        ));
    }
    let decision = plan_for([node].into(), decision, target);
    let outcome = apply(&mut target.agent, &decision).await?;
    let mut left = Vec::new();
    for condition in of_outcome(&outcome) {
        complain(&format!("ProxySQL {proxy}: {condition}"));
    }
    if let Outcome::Applied(done) = &outcome
        && args.level == Level::Sessions
        && done.sessions_left.contains(node)
    {
        left.push(format!("{node} still has connections in use"));
    }
    let seen = target.agent.proxy_view().await.map_err(|error| format!("{node} was not seen fenced: {error}"))?;
    let in_service = rows_of(&seen, target, node).filter(|row| row.status.in_service()).map(shown);
    left.extend(in_service.map(|row| format!("{row} is still in service")));
    if !left.is_empty() {
        return Err(format!("{}; try again", left.join(", ")));
    }
    let reason = args.reason.as_deref().unwrap_or("none given");
    tracing::info!(proxy = %proxy, %node, reason, "fenced by order");
    report::log::changes(proxy, &decision, &outcome);
    Ok(Came::Done)
}

/// Which rows stay in service, and the way out.
fn not_fenced(target: &Target<'_>, node: &Node, why: &HoldReason) -> String {
    let rows = rows_of(&target.observed.proxy, target, node).filter(|row| row.status.in_service());
    let rows: Vec<String> = rows.map(shown).collect();
    let rows = if rows.is_empty() { String::new() } else { format!(" In service: {}.", rows.join(", ")) };
    let way_out = match why {
        HoldReason::UnreadableMarker => {
            " Correct or remove the [stonith:...] note in the comment of its rows in mysql_servers, LOAD MYSQL SERVERS \
             TO RUNTIME, and fence it again"
        }
        HoldReason::UnknownStatus(_) => " Set a status in mysql_servers that ProxySQL documents, and fence it again",
        _ => "",
    };
    format!("{node} is not fenced, nothing was changed: {why}.{rows}{way_out}")
}

/// Lets a node back, or all that are out for an isolation.
pub async fn unfence(config: &Config, args: &UnfenceArgs) -> Ended {
    refuse_in_observe_mode(config)?;
    let mut targets = look_at_all(config).await?;
    let Some(name) = &args.node else { return end_isolation(config, args, targets).await };
    let node = find_among(name, &targets)?;
    let until = args.wait.map(|wait| Instant::now() + wait);
    let came = join_all(targets.iter_mut().map(|target| unfence_one(config, target, &node, args, until))).await;
    let mut failed = targets.len() < config.proxies.len();
    let (mut back, mut not_fenced) = (0, 0);
    for (target, came) in targets.iter().zip(came) {
        match came {
            Ok(Came::Done) => back += 1,
            Ok(Came::NotFenced) => not_fenced += 1,
            Ok(Came::Absent) => say_absent(target.proxy, &node),
            Err(text) => {
                complain(&format!("ProxySQL {}: {text}", target.proxy.address));
                failed = true;
            }
        }
    }
    if not_fenced > 0 {
        let on = of_configured(not_fenced, config);
        answer(&format!("{node} was not fenced on {on} ProxySQLs: there is nothing to let back"));
    }
    if back > 0 || not_fenced == 0 {
        answer(&format!("{node} let back on {} ProxySQLs", of_configured(back, config)));
    }
    close(targets).await;
    Ok(if failed { FAILED } else { DONE })
}

async fn unfence_one(
    config: &Config,
    target: &mut Target<'_>,
    node: &Node,
    args: &UnfenceArgs,
    until: Option<Instant>,
) -> Result<Came, String> {
    let order = Order::Unfence { node: node.clone(), without_lease: args.without_lease, role: args.role };
    let decision = decide_confirmed(target, node, &order).await?;
    let was_fenced = is_marked(&target.observed.proxy, node);
    match decision.verdicts.get(node) {
        None => return Ok(Came::Absent),
        Some(verdict @ Verdict::Fence { .. }) => {
            let obstacles = report::obstacles(verdict);
            let obstacles: Vec<String> = obstacles.into_iter().map(|obstacle| obstacle.text).collect();
            return Err(format!(
                "{node} is not let back: {}. Nothing was changed; see also --as and --without-lease",
                obstacles.join("; ")
            ));
        }
        Some(Verdict::Hold(why)) if !decision.plan.directives.contains_key(node) && was_fenced => {
            return Err(format!("{node} is not let back, nothing was changed: {why}"));
        }
        _ => {}
    }
    // First on record, or the next tick of the agent would fence it again. Where no agent keeps state nothing is made.
    let release = release(&decision, target, node, args.without_lease);
    let state = state_dir(config, target.proxy);
    if state.is_kept() {
        state.release(node, release).map_err(|error| format!("{error}. Nothing was changed"))?;
    }
    let mut decision = plan_for([node].into(), decision, target);
    if decision.plan.is_empty() {
        return Ok(if was_fenced { Came::Done } else { Came::NotFenced });
    }
    // The agents on other hosts read it in ProxySQL.
    decision.plan.releases = BTreeMap::from([(node.clone(), release)]);
    let on_record = "its release is on record, its rows are not as ordered yet: try again";
    let outcome = apply(&mut target.agent, &decision).await.map_err(|error| format!("{error}; {on_record}"))?;
    for condition in of_outcome(&outcome) {
        complain(&format!("ProxySQL {}: {condition}", target.proxy.address));
    }
    let seen = target.agent.proxy_view().await.map_err(|error| format!("{node} was not seen let back: {error}"))?;
    if let Some(row) = rows_of(&seen, target, node).find(|row| is_ours(row)) {
        return Err(format!("{} is still fenced; {on_record}", shown(row)));
    }
    report::log::changes(&target.proxy.address, &decision, &outcome);
    match until {
        Some(until) if !wait_until_in_service(target, node, until).await => {
            Err(format!("{node} is let back, and was not seen ONLINE in time"))
        }
        _ => Ok(Came::Done),
    }
}

/// Decides, and waits while all that a return lacks is a confirmed leader.
async fn decide_confirmed(target: &mut Target<'_>, node: &Node, order: &Order) -> Result<Decision, String> {
    let until = Instant::now() + CONFIRM_MAX;
    loop {
        let decision = ordered(target, order.clone());
        let unconfirmed = matches!(
            decision.verdicts.get(node),
            Some(Verdict::Fence { blocker: ReturnBlocker::ConfirmedLeader | ReturnBlocker::Lease, .. })
        );
        if !unconfirmed || Instant::now() >= until {
            return Ok(decision);
        }
        // Only in this process: how long the leader has been the same.
        target.agent.memory = decision.memory;
        tokio::time::sleep(LOOK_AGAIN).await;
        let orders = target.observed.orders.clone();
        target.observed = target.agent.look(orders).await.map_err(|error| error.to_string())?.0;
    }
}

/// All that is known against the node. What this host can't name is released up to now: the operator vouches for it.
fn release(decision: &Decision, target: &Target<'_>, node: &Node, without_lease: bool) -> Release {
    let now_s = Now::read().wall_s;
    let known = release_by_order(&decision.memory, &target.observed.leader, node, now_s);
    let known = known.and(release_by_order(&target.agent.memory, &target.observed.leader, node, now_s));
    if !without_lease {
        return known;
    }
    // To the end of this second: a recovery that began in it was before the order.
    let now_ns = u64::try_from(now_s).unwrap_or(0).saturating_add(1).saturating_mul(1_000_000_000) - 1;
    Release {
        recovery_ns: if known.recovery_ns == 0 { now_ns } else { known.recovery_ns },
        downtime_s: if known.downtime_s == 0 { now_s } else { known.downtime_s },
        ..known
    }
}

/// The break-glass: puts back what is out for an isolation and for nothing else, on every ProxySQL.
async fn end_isolation(config: &Config, args: &UnfenceArgs, mut targets: Vec<Target<'_>>) -> Ended {
    if let Some(target) = targets.iter().find(|target| target.observed.orders.suspended.is_none()) {
        return Err(Failure::BadInput(format!(
            "the agent of ProxySQL {} would isolate it again in its next tick; nothing was changed. Suspend it first: \
             proxysql-stonith suspend --for 1h --reason \"...\"",
            target.proxy.address
        )));
    }
    let mut orders = Vec::new();
    for target in &mut targets {
        let decision = ordered(target, Order::EndIsolation);
        let marked: BTreeSet<Node> =
            decision.verdicts.keys().filter(|node| is_marked(&target.observed.proxy, node)).cloned().collect();
        let is_back = |node: &&Node| matches!(decision.verdicts.get(*node), Some(Verdict::Unfence { .. }));
        let (back, stay): (BTreeSet<&Node>, BTreeSet<&Node>) = marked.iter().partition(is_back);
        let names = |nodes: &BTreeSet<&Node>| nodes.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        let proxy = &target.proxy.address;
        answer(&match back.is_empty() {
            true => format!("ProxySQL {proxy}: no node is out for an isolation alone"),
            false => format!("ProxySQL {proxy}: the rows go back as they were before the isolation: {}", names(&back)),
        });
        for node in &stay {
            let why = decision.verdicts.get(*node).map(report::reason).unwrap_or_default();
            answer(&format!("ProxySQL {proxy}: {node} stays out: {why}"));
        }
        let back: BTreeSet<Node> = back.into_iter().cloned().collect();
        orders.push((decision, back));
    }
    if !args.yes {
        return Err(Failure::BadInput(
            "nothing was changed. Without a lease nobody knows which node is the primary by now: make sure that no other \
             node takes writes, then add --yes"
                .to_owned(),
        ));
    }
    let work = targets.iter_mut().zip(orders);
    let came = join_all(work.map(|(target, (decision, back))| end_isolation_of(target, decision, back))).await;
    let mut failed = targets.len() < config.proxies.len();
    let mut done = 0;
    for (target, came) in targets.iter().zip(came) {
        match came {
            Ok(()) => done += 1,
            Err(text) => {
                complain(&format!("ProxySQL {}: {text}", target.proxy.address));
                failed = true;
            }
        }
    }
    answer(&format!("the isolation is taken back on {} ProxySQLs", of_configured(done, config)));
    close(targets).await;
    Ok(if failed { FAILED } else { DONE })
}

async fn end_isolation_of(target: &mut Target<'_>, decision: Decision, back: BTreeSet<Node>) -> Result<(), String> {
    let decision = plan_for(back.iter().collect(), decision, target);
    let outcome = apply(&mut target.agent, &decision).await?;
    for condition in of_outcome(&outcome) {
        complain(&format!("ProxySQL {}: {condition}", target.proxy.address));
    }
    let seen = target.agent.proxy_view().await.map_err(|error| format!("the rows were not seen back: {error}"))?;
    let left: Vec<String> =
        back.iter().flat_map(|node| rows_of(&seen, target, node)).filter(|row| is_ours(row)).map(shown).collect();
    if !left.is_empty() {
        return Err(format!("still out: {}; try again", left.join(", ")));
    }
    report::log::changes(&target.proxy.address, &decision, &outcome);
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

/// Looks at every ProxySQL at once.
async fn look_at_all(config: &Config) -> Result<Vec<Target<'_>>, Failure> {
    let mut agents = Vec::new();
    for proxy in &config.proxies {
        agents.push((proxy, looking_agent(config, proxy)?));
    }
    let looks = agents.into_iter().map(|(proxy, mut agent)| async move {
        let orders = state_dir(config, proxy).orders(&Now::read()).orders;
        let (observed, _) = agent.look(orders).await.map_err(|error| error.to_string())?;
        Ok::<_, String>(Target { proxy, agent, observed })
    });
    let mut targets = Vec::new();
    for looked in join_all(looks).await {
        match looked {
            Ok(target) => targets.push(target),
            Err(error) => complain(&error),
        }
    }
    if targets.is_empty() {
        return Err(Failure::Error(anyhow::anyhow!("no ProxySQL was reached; nothing was changed")));
    }
    Ok(targets)
}

/// The node that is meant, among all managed rows.
fn find_among(name: &str, targets: &[Target<'_>]) -> Result<Node, Failure> {
    let served = |target: &Target<'_>| served(&target.observed.proxy, &managed(target, &target.observed.proxy));
    let nodes: BTreeSet<Node> = targets.iter().flat_map(served).collect();
    find(name, &nodes).map_err(|error| Failure::BadInput(error.to_string()))
}

fn managed(target: &Target<'_>, proxy: &ProxyView) -> Managed {
    Managed::of(proxy, &target.agent.settings.policy)
}

/// What is decided with this order.
fn ordered(target: &mut Target<'_>, order: Order) -> Decision {
    target.observed.orders.now = Some(order);
    decide(&target.observed, &target.agent.memory, &target.agent.settings.policy, clock::boot_ms())
}

/// The decision with the ordered nodes' part of the plan alone: the rest is the running agent's.
fn plan_for(nodes: BTreeSet<&Node>, decision: Decision, target: &Target<'_>) -> Decision {
    let managed = decision.plan.managed.clone();
    let directives = decision.plan.directives.iter().filter(|(node, _)| nodes.contains(node));
    let directives = directives.map(|(node, directive)| (node.clone(), directive.clone())).collect();
    let mut plan = Plan::new(managed, directives, &target.observed.proxy);
    plan.end_possible_holders = decision.plan.end_possible_holders;
    Decision { plan, ..decision }
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

async fn wait_until_unused(target: &mut Target<'_>, node: &Node, until: Instant) -> bool {
    loop {
        let used = target.agent.connections_used(node).await;
        if used.as_ref().is_ok_and(|used| *used == 0) {
            return true;
        }
        if Instant::now() >= until {
            let proxy = &target.proxy.address;
            complain(&match used {
                Ok(used) => format!("ProxySQL {proxy}: {used} connections to {node} are still in use"),
                Err(error) => {
                    format!("ProxySQL {proxy}: whether connections to {node} are in use is not known: {error}")
                }
            });
            return false;
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}

async fn wait_until_in_service(target: &mut Target<'_>, node: &Node, until: Instant) -> bool {
    loop {
        let seen = target.agent.proxy_view().await;
        if seen.is_ok_and(|seen| rows_of(&seen, target, node).any(|row| row.status == Status::Online)) {
            return true;
        }
        if Instant::now() >= until {
            return false;
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}

async fn close(targets: Vec<Target<'_>>) {
    for target in targets {
        target.agent.close().await;
    }
}

fn say_absent(proxy: &ProxyConfig, node: &Node) {
    answer(&format!("ProxySQL {}: {node} has no managed row there", proxy.address));
}

/// The node's managed rows in runtime.
fn rows_of<'v>(proxy: &'v ProxyView, target: &Target<'_>, node: &'v Node) -> impl Iterator<Item = &'v Row> {
    let managed = managed(target, proxy);
    proxy.runtime.iter().filter(move |row| managed.contains(row.key.hostgroup) && row.node().as_ref() == Some(node))
}

fn shown(row: &Row) -> String {
    format!("{} {}", row.key, row.status)
}

fn is_ours(row: &Row) -> bool {
    matches!(Comment::parse(&row.comment), Comment::Marked(..))
}

fn is_marked(proxy: &ProxyView, node: &Node) -> bool {
    [Layer::Runtime, Layer::Memory, Layer::Disk]
        .into_iter()
        .flat_map(|layer| proxy.layer(layer))
        .any(|row| row.node().as_ref() == Some(node) && Comment::parse(&row.comment) != Comment::Plain)
}

/// The writer hostgroup in which this node is the only ONLINE one.
fn last_online_writer(target: &Target<'_>, node: &Node) -> Option<u32> {
    let proxy = &target.observed.proxy;
    managed(target, proxy).writers().find_map(|hostgroup| {
        let rows = proxy.runtime.iter().filter(|row| row.key.hostgroup == hostgroup && row.status == Status::Online);
        let online: BTreeSet<Node> = rows.filter_map(|row| row.node()).collect();
        (online.len() == 1 && online.contains(node)).then_some(hostgroup.0)
    })
}
