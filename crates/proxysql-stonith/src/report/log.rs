//! Log lines of what an apply changed.

use std::collections::BTreeSet;

use stonith_core::apply::{Done, Outcome};
use stonith_core::node::Node;
use stonith_core::table::Layer;

use crate::snapshot::{ChangeReport, Snapshot};

/// Logs what an apply changed: one line per node and runtime change.
pub fn changes(snapshot: &Snapshot, outcome: &Outcome) {
    let Outcome::Applied(done) = outcome else { return };
    let changes = &snapshot.plan.changes;
    for change in changes.iter().filter(|change| change.layer == Layer::Runtime) {
        log_change(snapshot, change);
    }
    let is_kept = |layer: &Layer| *layer != Layer::Disk || done.disk_error.is_none();
    let layers: BTreeSet<Layer> = changes.iter().map(|change| change.layer).collect();
    if !layers.contains(&Layer::Runtime) && layers.iter().any(is_kept) {
        let layers: Vec<String> = layers.iter().filter(|layer| is_kept(layer)).map(ToString::to_string).collect();
        let (proxy, layers) = (&snapshot.proxysql, layers.join(","));
        tracing::info!(%proxy, layers, "configured rows brought in line with runtime");
    }
    done_beside(&snapshot.proxysql, done);
}

/// What it did besides, and what an operator did meanwhile.
fn done_beside(proxy: &Node, done: &Done) {
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

fn log_change(snapshot: &Snapshot, change: &ChangeReport) {
    let proxy = &snapshot.proxysql;
    let ChangeReport { hostgroup, node, from, to, .. } = change;
    let [from, to] = [from, to].map(|status| status.as_deref().unwrap_or("none"));
    let decided = change.of.as_ref().and_then(|node| snapshot.node(node));
    let (verdict, evidence) = decided.map(|node| (node.word(), node.why.clone())).unwrap_or_default();
    tracing::info!(%proxy, node, hostgroup, from, to, verdict, evidence, "row changed");
}
