//! Log lines for what an apply changed.

use std::collections::BTreeSet;

use stonith_core::apply::{Done, Outcome};
use stonith_core::node::Node;
use stonith_core::table::Layer;

use crate::snapshot::{ChangeReport, Snapshot};

/// Logs what an apply changed, one line per runtime row.
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
        tracing::info!(%proxy, layers, "configured rows changed to match runtime");
    }
    side_effects(&snapshot.proxysql, done);
}

/// Logs what else the apply did, and what an operator did meanwhile.
fn side_effects(proxy: &Node, done: &Done) {
    if done.finished_earlier {
        tracing::warn!(%proxy, "finished an interrupted apply");
    }
    if done.paused {
        tracing::warn!(%proxy, "paused: it takes no clients (PROXYSQL PAUSE)");
    }
    if done.clients_ended > 0 {
        tracing::info!(%proxy, ended = done.clients_ended, "client sessions ended");
    }
    if done.resumed {
        tracing::info!(%proxy, "resumed: it takes clients again (PROXYSQL RESUME)");
    }
    if done.sessions_ended > 0 {
        tracing::info!(%proxy, ended = done.sessions_ended, "sessions ended on fenced nodes");
    }
    if done.possible_ended > 0 {
        let ended = done.possible_ended;
        tracing::warn!(%proxy, ended, "could not tell which sessions hold a fenced node; ended idle sessions of its hostgroups (policy.end_possible_holders)");
    }
    if done.extended_left {
        tracing::warn!(%proxy, "mysql-show_processlist_extended stays on in runtime because another variable was staged meanwhile; the next LOAD MYSQL VARIABLES turns it off");
    }
    match done.load_made_up {
        Some(true) => {
            tracing::warn!(%proxy, "another client loaded mysql_servers during this apply; the edits that were staged are loaded now")
        }
        Some(false) => {
            tracing::error!(%proxy, "another client loaded mysql_servers during this apply; the edits that were staged may not be live. Check them, and repeat LOAD MYSQL SERVERS TO RUNTIME")
        }
        None => {}
    }
    match done.save_made_up {
        Some(true) => {
            tracing::warn!(%proxy, "another client saved mysql_servers to disk during this apply; the edits that were staged are saved now")
        }
        Some(false) => {
            tracing::error!(%proxy, "another client saved mysql_servers to disk during this apply; the edits that were staged may not be on disk. Check them, and repeat SAVE MYSQL SERVERS TO DISK")
        }
        None => {}
    }
    if done.edits_kept > 0 {
        tracing::info!(%proxy, edits = done.edits_kept, "edits made during this apply stay staged");
    }
}

fn log_change(snapshot: &Snapshot, change: &ChangeReport) {
    let proxy = &snapshot.proxysql;
    let ChangeReport { hostgroup, from, to, .. } = change;
    let node = snapshot.name_in(change);
    let [from, to] = [from, to].map(|status| status.as_deref().unwrap_or("none"));
    let decided = change.of.as_ref().and_then(|node| snapshot.node(node));
    let (verdict, evidence) = decided.map(|node| (node.word(), node.why.clone())).unwrap_or_default();
    match &change.reason {
        Some(reason) => {
            let reason = &reason.text;
            tracing::info!(%proxy, node, hostgroup, from, to, reason, verdict, evidence, "row changed");
        }
        None => tracing::info!(%proxy, node, hostgroup, from, to, verdict, evidence, "row changed"),
    }
}
