//! `fence` and `unfence`: an operator's orders.

use std::collections::BTreeSet;

use stonith_core::node::Node;

use super::{DONE, Ended, FAILED, Failure, answer, complain, of_configured};
use crate::agent::order::{FenceOrder, IsolationEnd, OnProxy, OrderError, OrderResult, Targets, UnfenceOrder};
use crate::cli::{FenceArgs, UnfenceArgs};
use crate::config::{Config, Word};

/// Takes a node out of traffic.
pub async fn fence(config: &Config, args: &FenceArgs) -> Ended {
    let order = FenceOrder {
        node: args.node.clone(),
        level: args.level,
        reason: args.reason.clone(),
        wait: args.wait,
        last_writer_too: args.yes,
    };
    let mut targets = reach(config).await?;
    let fenced = targets.fence(&order).await.map_err(failure)?;
    let node = &fenced.node;
    let count = tell(node, &fenced.on);
    let unused = if fenced.is_unused == Some(true) { ", no connections in use" } else { "" };
    let on = of_configured(count.done, config);
    answer(&format!("{node} fenced({}) on {on} ProxySQLs{unused}", args.level.word()));
    let is_all = targets.unreached().is_empty() && count.failed == 0 && count.done > 0;
    targets.close().await;
    Ok(if is_all && fenced.is_unused != Some(false) { DONE } else { FAILED })
}

/// Lets one node back; with `--all`, every node that only an isolation took out.
pub async fn unfence(config: &Config, args: &UnfenceArgs) -> Ended {
    let Some(node) = args.node.clone() else { return end_isolation(config, args).await };
    let order = UnfenceOrder { node, role: args.role, without_lease: args.without_lease, wait: args.wait };
    let mut targets = reach(config).await?;
    let unfenced = targets.unfence(&order).await.map_err(failure)?;
    let node = &unfenced.node;
    let count = tell(node, &unfenced.on);
    if count.not_fenced > 0 {
        let on = of_configured(count.not_fenced, config);
        answer(&format!("{node} was not fenced on {on} ProxySQLs: nothing to let back"));
    }
    if count.done > 0 || count.not_fenced == 0 {
        answer(&format!("{node} let back on {} ProxySQLs", of_configured(count.done, config)));
    }
    let is_all = targets.unreached().is_empty() && count.failed == 0;
    targets.close().await;
    Ok(if is_all { DONE } else { FAILED })
}

/// The break-glass. Without `--yes` it only prints which rows would be restored.
async fn end_isolation(config: &Config, args: &UnfenceArgs) -> Ended {
    let mut targets = reach(config).await?;
    let ends = targets.isolation_ends().map_err(failure)?;
    ends.iter().for_each(preview);
    if !args.yes {
        return Err(Failure::bad_input(
            "nothing was changed. Without a lease, the current primary is unknown. Make sure that no other node takes \
            writes, then add --yes",
        ));
    }
    let (mut done, mut failed) = (0, !targets.unreached().is_empty());
    for OnProxy { proxy, remarks, result } in targets.end_isolation(ends).await {
        remarks.iter().for_each(|remark| complain_of(&proxy, remark));
        match result {
            Ok(()) => done += 1,
            Err(error) => {
                complain_of(&proxy, &error);
                failed = true;
            }
        }
    }
    answer(&format!("the isolation was ended on {} ProxySQLs", of_configured(done, config)));
    targets.close().await;
    Ok(if failed { FAILED } else { DONE })
}

fn preview(end: &IsolationEnd) {
    let IsolationEnd { proxy, back, stay, .. } = end;
    answer(&match back.is_empty() {
        true => format!("ProxySQL {proxy}: no node is out of service only because of an isolation"),
        false => format!("ProxySQL {proxy}: rows to restore as they were before the isolation: {}", list(back)),
    });
    for (node, why) in stay {
        answer(&format!("ProxySQL {proxy}: {node} stays out: {why}"));
    }
}

fn list(nodes: &BTreeSet<Node>) -> String {
    nodes.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

async fn reach(config: &Config) -> Result<Targets<'_>, Failure> {
    let targets = Targets::reach(config).await.map_err(failure)?;
    targets.unreached().iter().for_each(|error| complain(&error.to_string()));
    Ok(targets)
}

fn failure(error: OrderError) -> Failure {
    match error {
        OrderError::NoneReached => Failure::Error(error.into()),
        error => Failure::bad_input(error),
    }
}

/// On how many ProxySQLs an order had each result.
#[derive(Default)]
struct Count {
    done: usize,
    not_fenced: usize,
    failed: usize,
}

/// Prints the remarks and errors, and counts the results.
fn tell(node: &Node, on: &[OnProxy<OrderResult>]) -> Count {
    let mut count = Count::default();
    for OnProxy { proxy, remarks, result } in on {
        remarks.iter().for_each(|remark| complain_of(proxy, remark));
        match result {
            Ok(OrderResult::Done) => count.done += 1,
            Ok(OrderResult::NotFenced) => count.not_fenced += 1,
            Ok(OrderResult::Absent) => answer(&format!("ProxySQL {proxy}: {node} has no managed row there")),
            Err(error) => {
                complain_of(proxy, error);
                count.failed += 1;
            }
        }
    }
    count
}

fn complain_of(proxy: &Node, what: impl std::fmt::Display) {
    complain(&format!("ProxySQL {proxy}: {what}"));
}
