//! Log lines of what an apply changed.

use std::collections::BTreeSet;

use stonith_core::apply::Outcome;
use stonith_core::decide::Decision;
use stonith_core::node::Node;
use stonith_core::plan::RowChange;
use stonith_core::table::{Layer, Status};

use super::{reason, word};

/// Logs what an apply changed: one line per node and runtime change.
pub fn changes(proxy: &Node, decision: &Decision, outcome: &Outcome) {
    let Outcome::Applied(done) = outcome else { return };
    let runtime = decision.plan.changes.iter().filter(|change| change.layer == Layer::Runtime);
    for change in runtime {
        log_change(proxy, decision, change);
    }
    let other_layers: BTreeSet<Layer> = decision
        .plan
        .changes
        .iter()
        .map(|change| change.layer)
        .filter(|layer| *layer != Layer::Runtime && (*layer != Layer::Disk || done.disk_error.is_none()))
        .collect();
    if !other_layers.is_empty() && decision.plan.changes.iter().all(|change| change.layer != Layer::Runtime) {
        tracing::info!(%proxy, layers = ?other_layers, "configured rows brought in line with runtime");
    }
    if done.finished_earlier {
        tracing::warn!(%proxy, "finished an apply that had been cut off");
    }
    if done.sessions_ended > 0 {
        tracing::info!(%proxy, ended = done.sessions_ended, "sessions ended on fenced nodes");
    }
    if done.possible_ended > 0 {
        let ended = done.possible_ended;
        tracing::warn!(%proxy, ended, "it could not be told which sessions hold a fenced node: idle ones of its hostgroups were ended (policy.end_possible_holders)");
    }
    if done.extended_left {
        tracing::warn!(%proxy, "mysql-show_processlist_extended is on in runtime: somebody staged another variable meanwhile; their LOAD MYSQL VARIABLES switches it off");
    }
    match done.load_made_up {
        Some(true) => {
            tracing::warn!(%proxy, "somebody loaded mysql_servers while its memory was lent to this apply; what they had staged was loaded after it")
        }
        Some(false) => {
            tracing::error!(%proxy, "somebody loaded mysql_servers while its memory was lent to this apply; what they had staged may not be live: look, and LOAD MYSQL SERVERS TO RUNTIME again")
        }
        None => {}
    }
    match done.save_made_up {
        Some(true) => {
            tracing::warn!(%proxy, "somebody saved mysql_servers to disk while its memory was lent to this apply; what they had staged was saved after it")
        }
        Some(false) => {
            tracing::error!(%proxy, "somebody saved mysql_servers to disk while its memory was lent to this apply; what they had staged may not be on disk: look, and SAVE MYSQL SERVERS TO DISK again")
        }
        None => {}
    }
    if done.edits_kept > 0 {
        tracing::info!(%proxy, edits = done.edits_kept, "edits made meanwhile were kept staged");
    }
}

fn log_change(proxy: &Node, decision: &Decision, change: &RowChange) {
    let key = change.key();
    let verdict = key.node().and_then(|node| decision.verdicts.get(&node));
    let [from, to] = [change.from_status(), change.to_status()].map(|status| status.map_or("none", Status::as_str));
    let evidence = verdict.map(reason).unwrap_or_default();
    let what = verdict.map(word).unwrap_or_default();
    tracing::info!(%proxy, node = %format!("{}:{}", key.hostname, key.port), hostgroup = %key.hostgroup, from, to, verdict = what, evidence, "row changed");
}
