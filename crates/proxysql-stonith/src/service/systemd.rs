//! What systemd is told (sd_notify). Nothing is sent if systemd did not start the daemon.

use std::time::{Duration, Instant};

use sd_notify::NotifyState;
use stonith_core::condition::NodeList;

use crate::board::{Board, Seen};
use crate::snapshot::NodeReport;

/// A daemon whose ProxySQLs are not reached counts as started after this long. Otherwise systemd would end it.
const READY_AT_THE_LATEST: Duration = Duration::from_secs(30);

/// The notifications of one daemon.
pub struct Systemd {
    started: Instant,
    ready: bool,
    /// The last status, so that only a change is sent.
    status: String,
}

impl Systemd {
    /// Begins a daemon's notifications.
    pub fn new() -> Self {
        Self { started: Instant::now(), ready: false, status: String::new() }
    }

    /// Tells what the board shows: READY after the first verified tick of each ProxySQL, the status, and WATCHDOG while
    /// no loop hangs.
    pub fn tell(&mut self, board: &Board) {
        let now = Instant::now();
        let all: Vec<Seen> = board.entries().values().map(|entry| entry.seen()).collect();
        let mut states = Vec::new();
        let status = status(&all);
        if status != self.status {
            states.push(NotifyState::Status(&status));
        }
        let verified = all.iter().all(|seen| seen.verified.is_some());
        if !self.ready && (verified || now.saturating_duration_since(self.started) > READY_AT_THE_LATEST) {
            self.ready = true;
            states.push(NotifyState::Ready);
        }
        if all.iter().all(|seen| seen.is_alive(now)) {
            states.push(NotifyState::Watchdog);
        }
        notify(&states);
        self.status = status;
    }

    /// Tells that the config is being read again.
    pub fn reloading(&self) {
        let at = NotifyState::monotonic_usec_now().ok();
        let states: Vec<NotifyState<'_>> = std::iter::once(NotifyState::Reloading).chain(at).collect();
        notify(&states);
    }

    /// Tells that the reload is over.
    pub fn ready_again(&self) {
        notify(&[NotifyState::Ready]);
    }

    /// Tells that the daemon ends.
    pub fn stopping(&self) {
        notify(&[NotifyState::Stopping]);
    }
}

fn notify(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::debug!("systemd was not told: {error}");
    }
}

/// One line for `systemctl status`.
fn status(all: &[Seen]) -> String {
    let snapshots = || all.iter().filter_map(|seen| seen.last.as_deref()).map(|ticked| &ticked.snapshot);
    let reached = snapshots().filter(|snapshot| snapshot.reached).count();
    let armed = snapshots().filter(|snapshot| snapshot.reached && snapshot.armed).count();
    let isolated = snapshots().filter(|snapshot| snapshot.isolated).count();
    let out = |node: &&NodeReport| node.verdict == "fence";
    let fenced =
        NodeList::of(snapshots().flat_map(|snapshot| snapshot.nodes.iter().filter(out)).map(|node| &node.node));
    let fenced = if fenced.count() > 0 { format!("fenced: {fenced}") } else { "no node is fenced".to_owned() };
    let isolated = if isolated > 0 { format!(", {isolated} isolated") } else { String::new() };
    format!("{reached} of {} ProxySQLs reached, {armed} armed{isolated}; {fenced}", all.len())
}
