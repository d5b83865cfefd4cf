//! The progress of reading the recovery history: newest first, in pieces from tick to tick, and only the new part.
//!
//! ```text
//! page 0, 1, .. down to the last piece -> from the end of that piece on, .. down to the known records -> known
//! ```
//!
//! **Invariant:** no record is left out. New records push older ones only to later pages, so a read may go on at the
//! page where it stopped.

use serde::{Deserialize, Serialize};

use crate::orchestrator::Recovery;

/// Records on a page of the recovery history (facts §8).
pub const PAGE_RECORDS: usize = 20;

/// The most pages that are read. After these 20,000 records the history counts as whole.
const PAGES_MAX: usize = 1_000;

/// The time for which a record without an end is read again, in ns: one day. After that it counts as ended.
const OPEN_FOR_NS: u64 = 86_400_000_000_000;

/// The part of the history that is read again from another leader, in ns: one hour. Its records can differ.
const AGAIN_NS: u64 = 3_600_000_000_000;

/// The part of the recovery history that one tick read.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct RecoveryHistory {
    /// The records, in any order.
    pub records: Vec<Recovery>,
    /// The progress with these records.
    pub progress: HistoryProgress,
}

impl RecoveryHistory {
    /// A history that was read to its end.
    pub fn whole(leader: &str, records: Vec<Recovery>) -> Self {
        let known_ns = records.iter().map(|record| record.at_ns).max().unwrap_or(0);
        Self { progress: HistoryProgress { leader: leader.to_owned(), known_ns, under_way: None }, records }
    }

    /// Whether the history is known up to this tick.
    pub fn is_whole(&self) -> bool {
        self.progress.under_way.is_none()
    }
}

/// The extent to which the history is known.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct HistoryProgress {
    /// The leader that was asked last.
    pub leader: String,
    /// All records up to this time have ended and were read, in ns since 1970.
    pub known_ns: u64,
    /// A read that has not reached `known_ns` yet.
    pub under_way: Option<UnderWay>,
}

/// A read that goes on in the next tick.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct UnderWay {
    /// The time of the newest record that was read, in ns.
    pub newest_ns: u64,
    /// The time of the oldest record that was read and had not ended, in ns.
    pub open_ns: Option<u64>,
    /// The next page. All earlier ones were read.
    pub next_page: usize,
}

/// The read of one tick's pages.
#[derive(Debug)]
pub struct HistoryReading {
    leader: String,
    known_ns: u64,
    /// The read of earlier ticks, until this tick's pages have reached it.
    before: Option<UnderWay>,
    now: UnderWay,
    is_whole: bool,
}

impl HistoryProgress {
    /// Begins this tick's pages.
    pub fn read(&self, leader: &str) -> HistoryReading {
        let is_same = self.leader == leader;
        HistoryReading {
            leader: leader.to_owned(),
            known_ns: if is_same { self.known_ns } else { self.known_ns.saturating_sub(AGAIN_NS) },
            before: self.under_way.clone().filter(|_| is_same),
            now: UnderWay::default(),
            is_whole: false,
        }
    }
}

impl HistoryReading {
    /// The page to read next; `None` once nothing is missing.
    pub fn next_page(&self) -> Option<usize> {
        (!self.is_whole).then_some(self.now.next_page)
    }

    /// Takes in the next page. `of` is the number of its entries, unreadable ones included. `now_s` is in s since 1970.
    pub fn take(&mut self, records: &[Recovery], of: usize, now_s: i64) {
        let oldest_ns = records.iter().map(|record| record.at_ns).min().unwrap_or(u64::MAX);
        let newest_ns = records.iter().map(|record| record.at_ns).max().unwrap_or(0);
        let long_ago_ns = u64::try_from(now_s).unwrap_or(0).saturating_mul(1_000_000_000).saturating_sub(OPEN_FOR_NS);
        let is_open = |record: &&Recovery| record.end_s.is_none() && record.at_ns > long_ago_ns;
        let open_ns = records.iter().filter(is_open).map(|record| record.at_ns).min();
        // A page with an unreadable record is read again for the same time as one with an open record.
        let unread_ns = Some(oldest_ns).filter(|ns| of > records.len() && (long_ago_ns..u64::MAX).contains(ns));
        let open_ns = open_ns.into_iter().chain(unread_ns).min();
        self.now.newest_ns = self.now.newest_ns.max(newest_ns);
        self.now.open_ns = self.now.open_ns.into_iter().chain(open_ns).min();
        self.now.next_page += 1;
        self.is_whole = of < PAGE_RECORDS || oldest_ns <= self.known_ns || self.now.next_page >= PAGES_MAX;
        if let Some(before) = self.before.take_if(|before| oldest_ns <= before.newest_ns) {
            self.now.next_page = self.now.next_page.max(before.next_page);
            self.now.open_ns = self.now.open_ns.into_iter().chain(before.open_ns).min();
        }
    }

    /// The progress after these pages.
    pub fn end(self) -> HistoryProgress {
        if !self.is_whole {
            return HistoryProgress { leader: self.leader, known_ns: self.known_ns, under_way: Some(self.now) };
        }
        let known_ns = self.now.open_ns.map_or(self.now.newest_ns, |open| open.saturating_sub(1));
        HistoryProgress { leader: self.leader, known_ns: known_ns.max(self.known_ns), under_way: None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::orchestrator::Analysis;
    use crate::orchestrator::shown::node;

    const NOW_S: i64 = 1_000_000_000;

    /// A recovery that began `age_s` seconds ago.
    fn record(age_s: u64, is_over: bool) -> Recovery {
        let at_ns = (NOW_S as u64 - age_s) * 1_000_000_000;
        Recovery {
            at_ns,
            uid: format!("{at_ns}:x"),
            end_s: is_over.then_some(NOW_S),
            analysis: Analysis::DeadPrimary,
            successful: is_over,
            failed: node("a"),
            successor: is_over.then(|| node("b")),
            alias: String::new(),
        }
    }

    /// Reads at most `most` pages, and returns their numbers.
    fn read(progress: &mut HistoryProgress, history: &[Recovery], most: usize) -> Vec<usize> {
        let mut reading = progress.read("orc1");
        let mut pages = Vec::new();
        while let Some(page) = reading.next_page().filter(|_| pages.len() < most) {
            let records: Vec<_> = history.iter().skip(page * PAGE_RECORDS).take(PAGE_RECORDS).cloned().collect();
            reading.take(&records, records.len(), NOW_S);
            pages.push(page);
        }
        *progress = reading.end();
        pages
    }

    fn long(records: u64) -> Vec<Recovery> {
        (1..=records).map(|n| record(n * 1_000, true)).collect()
    }

    #[test]
    fn a_long_history_is_read_in_pieces_and_then_only_what_is_new() {
        let (mut progress, mut history) = (HistoryProgress::default(), long(100));
        assert_eq!(read(&mut progress, &history, 2), [0, 1]);
        assert_eq!(read(&mut progress, &history, 3), [0, 2, 3]);
        assert!(progress.under_way.is_some());
        assert_eq!(read(&mut progress, &history, 3), [0, 4, 5], "an empty page ends the history");
        assert_eq!((progress.under_way.clone(), progress.known_ns), (None, history[0].at_ns));
        assert_eq!(read(&mut progress, &history, 9), [0]);
        history.insert(0, record(1, true));
        assert_eq!(read(&mut progress, &history, 9), [0]);
        assert_eq!(progress.known_ns, history[0].at_ns);
    }

    #[test]
    fn records_that_arrive_between_two_pieces_leave_no_gap() {
        let (mut progress, mut history) = (HistoryProgress::default(), long(90));
        read(&mut progress, &history, 2);
        let new: Vec<_> = (0..30).map(|n| record(n, true)).collect();
        history.splice(0..0, new);
        let mut seen = vec![0, 1];
        seen.extend(read(&mut progress, &history, 9));
        assert_eq!(seen, [0, 1, 0, 1, 2, 3, 4, 5, 6], "page 1 reaches the earlier piece");
        assert_eq!(progress.under_way, None);
    }

    #[test]
    fn more_new_records_than_a_tick_reads_are_read_on_from_there() {
        let (mut progress, mut history) = (HistoryProgress::default(), long(30));
        read(&mut progress, &history, 9);
        let new: Vec<_> = (0..70).map(|n| record(n, true)).collect();
        history.splice(0..0, new);
        assert_eq!(read(&mut progress, &history, 2), [0, 1]);
        assert_eq!(read(&mut progress, &history, 2), [0, 2]);
        assert_eq!(read(&mut progress, &history, 2), [0, 3], "page 3 has the first known record");
        assert_eq!(progress.under_way, None);
    }

    #[test]
    fn a_record_without_an_end_is_read_again_until_it_has_one_or_is_a_day_old() {
        let mut history = long(60);
        history.insert(24, Recovery { end_s: None, ..record(24_500, true) });
        let mut progress = HistoryProgress::default();
        read(&mut progress, &history, 9);
        assert_eq!(read(&mut progress, &history, 9), [0, 1]);
        history[24].end_s = Some(NOW_S);
        assert_eq!(read(&mut progress, &history, 9), [0, 1]);
        assert_eq!(read(&mut progress, &history, 9), [0]);
        history[59].end_s = None;
        history[59].at_ns = record(200_000, true).at_ns;
        let mut progress = HistoryProgress::default();
        read(&mut progress, &history, 9);
        assert_eq!(read(&mut progress, &history, 9), [0]);
    }

    #[test]
    fn a_page_with_a_record_that_cannot_be_read_is_read_again() {
        let history = long(30);
        let mut progress = HistoryProgress::default();
        for unreadable in [1, 1, 0] {
            let mut reading = progress.read("orc1");
            let page = &history[unreadable..PAGE_RECORDS];
            reading.take(page, PAGE_RECORDS, NOW_S);
            reading.take(&history[PAGE_RECORDS..], 10, NOW_S);
            progress = reading.end();
            assert_eq!(progress.known_ns >= history[0].at_ns, unreadable == 0);
            assert_eq!(progress.read("orc1").next_page(), Some(0));
        }
    }

    #[test]
    fn another_leaders_history_is_read_an_hour_back() {
        let history = long(100);
        let mut progress = HistoryProgress::default();
        read(&mut progress, &history, 9);
        progress.leader = "orc2".to_owned();
        assert_eq!(read(&mut progress, &history, 9), [0], "3 records are younger than an hour");
        assert_eq!(progress.leader, "orc1");
        let dense: Vec<_> = (1..=100).map(|n| record(n * 60, true)).collect();
        let mut progress = HistoryProgress::default();
        read(&mut progress, &dense, 9);
        progress.leader = "orc2".to_owned();
        assert_eq!(read(&mut progress, &dense, 9), [0, 1, 2, 3]);
    }

    #[test]
    fn an_empty_history_is_known_at_once() {
        let mut progress = HistoryProgress::default();
        assert_eq!(read(&mut progress, &[], 9), [0]);
        assert_eq!((progress.known_ns, progress.under_way), (0, None));
    }
}
