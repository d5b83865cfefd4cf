//! `status --json` and `/status.json`: fields for programs, described in docs/status-json.md.
//!
//! Labels are stable. Texts are for people and may change.

use serde::Serialize;
use stonith_core::condition::Severity;

use crate::snapshot::Snapshot;

/// The version of the format. It grows when a field changes its meaning or is removed.
pub const SCHEMA: u32 = 1;

/// The whole JSON document.
#[derive(Debug, Serialize)]
struct Status<'s> {
    schema: u32,
    configured: usize,
    reached: usize,
    worst: &'static str,
    proxies: &'s [&'s Snapshot],
}

/// Renders the snapshots of all configured ProxySQLs as one JSON text.
pub fn status(snapshots: &[&Snapshot]) -> String {
    let worst = snapshots.iter().map(|snapshot| snapshot.worst).max().unwrap_or(Severity::Info);
    let status = Status {
        schema: SCHEMA,
        configured: snapshots.len(),
        reached: snapshots.iter().filter(|snapshot| snapshot.reached).count(),
        worst: worst.label(),
        proxies: snapshots,
    };
    // Serialisation fails only for maps with keys that are not text. A snapshot has no maps.
    serde_json::to_string_pretty(&status).unwrap_or_default()
}
