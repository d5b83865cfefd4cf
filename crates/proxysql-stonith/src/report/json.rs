//! `status --json`: fields for programs, described in docs/status-json.md. Labels are stable; texts are for people and may
//! change.

use serde::Serialize;
use stonith_core::condition::Severity;

use crate::snapshot::Snapshot;

/// The version of the format: it grows when a field changes its meaning or goes.
pub const SCHEMA: u32 = 1;

/// All configured ProxySQLs.
#[derive(Debug, Serialize)]
struct Status<'s> {
    schema: u32,
    configured: usize,
    reached: usize,
    worst: &'static str,
    proxies: &'s [Snapshot],
}

/// The snapshots of all configured ProxySQLs as one JSON text.
pub fn status(snapshots: &[Snapshot]) -> String {
    let worst = snapshots.iter().map(|snapshot| snapshot.worst).max().unwrap_or(Severity::Info);
    let status = Status {
        schema: SCHEMA,
        configured: snapshots.len(),
        reached: snapshots.iter().filter(|snapshot| snapshot.reached).count(),
        worst: worst.label(),
        proxies: snapshots,
    };
    // Maps with keys that are no texts are all that cannot be written, and it has no map.
    serde_json::to_string_pretty(&status).unwrap_or_default()
}
