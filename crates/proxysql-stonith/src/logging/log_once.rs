//! Logs an error once, not every tick. The state file keeps it, so that this also works across restarts.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// The same error is logged again after this time, s.
pub const AGAIN_AFTER_S: i64 = 3_600;

/// The largest number of remembered errors. After that, the one logged longest ago is forgotten.
const REMEMBERED_MAX: usize = 200;

/// The largest part of an error that is remembered, to see whether it changed, in bytes.
const TEXT_MAX_BYTES: usize = 2_000;

/// Which errors were logged, and when.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct LogOnce {
    said: BTreeMap<String, Said>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Said {
    text: String,
    said_s: i64,
    unsaid: u64,
}

impl LogOnce {
    /// Notes an error. Returns what to log, if anything.
    ///
    /// A new or changed text is logged at once, an unchanged one once an hour with a count. `key` names what failed
    /// (`orchestrator http://orc1:3000`), `text` says how.
    pub fn error(&mut self, key: &str, text: &str, now_s: i64) -> Option<String> {
        let kept = bounded(text);
        if let Some(said) = self.said.get_mut(key)
            && said.text == kept
            // If the clock was set back, the error is logged again rather than never.
            && (said.said_s..said.said_s.saturating_add(AGAIN_AFTER_S)).contains(&now_s)
        {
            said.unsaid = said.unsaid.saturating_add(1);
            return None;
        }
        let before = self.said.insert(key.to_owned(), Said { text: kept.to_owned(), said_s: now_s, unsaid: 0 });
        self.forget_oldest();
        match before {
            Some(before) if before.text == kept && before.unsaid > 0 => {
                Some(format!("{text} (still; {} more times since it was last logged)", before.unsaid))
            }
            _ => Some(text.to_owned()),
        }
    }

    /// Notes that `key` works again. Returns what to log, once, if an error was logged before.
    pub fn recovered(&mut self, key: &str) -> Option<String> {
        let said = self.said.remove(key)?;
        Some(format!("recovered: {key} (was: {})", said.text))
    }

    /// The keys of the errors that have not recovered yet, with their text.
    pub fn present(&self) -> impl Iterator<Item = (&str, &str)> {
        self.said.iter().map(|(key, said)| (key.as_str(), said.text.as_str()))
    }

    fn forget_oldest(&mut self) {
        while self.said.len() > REMEMBERED_MAX {
            let oldest = self.said.iter().min_by_key(|(_, said)| said.said_s).map(|(key, _)| key.clone());
            let Some(oldest) = oldest else { return };
            self.said.remove(&oldest);
        }
    }
}

fn bounded(text: &str) -> &str {
    let end = (0..=TEXT_MAX_BYTES.min(text.len())).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
    &text[..end]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_error_is_said_once_then_hourly_with_a_count() {
        let mut log_once = LogOnce::default();
        assert_eq!(log_once.error("orc1", "refused", 100).as_deref(), Some("refused"));
        for tick in 1..=50 {
            assert_eq!(log_once.error("orc1", "refused", 100 + tick), None);
        }
        let again = log_once.error("orc1", "refused", 100 + AGAIN_AFTER_S).unwrap();
        assert!(again.starts_with("refused") && again.contains("50 more times"), "{again}");
        assert_eq!(log_once.error("orc1", "refused", 101 + AGAIN_AFTER_S), None);
    }

    #[test]
    fn the_count_is_left_out_where_there_is_nothing_to_count() {
        let mut log_once = LogOnce::default();
        log_once.error("orc1", "refused", 100);
        assert_eq!(log_once.error("orc1", "refused", 100 + AGAIN_AFTER_S).as_deref(), Some("refused"));
        assert_eq!(log_once.error("orc1", "refused", 101 + AGAIN_AFTER_S), None);
        assert_eq!(log_once.error("orc1", "401", 102 + AGAIN_AFTER_S).as_deref(), Some("401"));
    }

    #[test]
    fn another_error_or_another_place_is_said_at_once() {
        let mut log_once = LogOnce::default();
        log_once.error("orc1", "refused", 100);
        assert!(log_once.error("orc1", "401", 101).is_some());
        assert!(log_once.error("orc2", "401", 101).is_some());
        assert_eq!(log_once.present().collect::<Vec<_>>(), [("orc1", "401"), ("orc2", "401")]);
    }

    #[test]
    fn a_recovery_is_said_once_and_only_after_an_error() {
        let mut log_once = LogOnce::default();
        assert_eq!(log_once.recovered("orc1"), None);
        log_once.error("orc1", "refused", 100);
        assert_eq!(log_once.recovered("orc1").as_deref(), Some("recovered: orc1 (was: refused)"));
        assert_eq!(log_once.recovered("orc1"), None);
        assert!(log_once.error("orc1", "refused", 102).is_some());
    }

    #[test]
    fn it_holds_from_one_start_to_the_next_and_when_the_clock_is_set_back() {
        let mut log_once = LogOnce::default();
        log_once.error("orc1", "refused", 100);
        let mut next: LogOnce = serde_json::from_str(&serde_json::to_string(&log_once).unwrap()).unwrap();
        assert_eq!(next.error("orc1", "refused", 105), None);
        assert!(next.error("orc1", "refused", 50).is_some());
    }

    #[test]
    fn it_stays_small() {
        let mut log_once = LogOnce::default();
        for i in 0..1_000 {
            log_once.error(&format!("key{i}"), &"é".repeat(5_000), i);
        }
        assert_eq!(log_once.present().count(), REMEMBERED_MAX);
        assert!(log_once.present().all(|(_, text)| text.len() <= TEXT_MAX_BYTES));
        assert!(log_once.error("key999", &"é".repeat(5_000), 999).is_none());
    }
}
