//! Times in Orchestrator's formats.

use super::Inner;

/// Seconds since 1970.
pub(super) fn now_s() -> i64 {
    jiff::Timestamp::now().as_second()
}

impl Inner {
    /// A time as in the database: without a zone, despite its `Z` (facts §8).
    pub(super) fn local(&self, second: i64) -> String {
        timestamp(second + self.settings.zone_offset_s)
    }
}

/// Formats a time as `2026-11-23T06:20:35Z`.
pub(super) fn timestamp(second: i64) -> String {
    jiff::Timestamp::from_second(second).map(|time| time.to_string()).unwrap_or_default()
}
