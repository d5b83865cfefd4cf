//! What each loop saw last, and the sums since the start. Loops write it; systemd, HTTP and metrics read it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use prometheus_client::metrics::histogram::Histogram;
use stonith_core::apply::Outcome;
use stonith_core::condition::Severity;
use stonith_core::node::Node;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::{Mutex as AsyncMutex, Notify, oneshot, watch};

use crate::agent::Ticked;
use crate::agent::order::{Course, Drained};

/// A loop that has not finished a tick for this long hangs. A tick with an apply takes far less.
const HANGS_AFTER: Duration = Duration::from_secs(30);

/// The upper bounds of the histograms, in s.
const BOUNDS_S: [f64; 12] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0];

/// What all loops saw, by ProxySQL.
#[derive(Debug, Default)]
pub struct Board {
    entries: Mutex<BTreeMap<Node, Arc<Entry>>>,
}

impl Board {
    /// Adds a ProxySQL; `None` if it has a loop already.
    pub fn enter(&self, proxy: &Node) -> Option<Arc<Entry>> {
        let mut entries = self.lock();
        if entries.contains_key(proxy) {
            return None;
        }
        let entry = Arc::new(Entry::new(proxy.clone()));
        entries.insert(proxy.clone(), entry.clone());
        Some(entry)
    }

    /// Removes a ProxySQL whose loop has ended.
    pub fn leave(&self, proxy: &Node) {
        self.lock().remove(proxy);
    }

    /// The ProxySQLs that have a loop.
    pub fn entries(&self) -> BTreeMap<Node, Arc<Entry>> {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Node, Arc<Entry>>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The place of one ProxySQL on the board.
#[derive(Debug)]
pub struct Entry {
    proxy: Node,
    seen: watch::Sender<Seen>,
    wake: Notify,
    ask: UnboundedSender<Asked>,
    asked: AsyncMutex<UnboundedReceiver<Asked>>,
}

/// What a loop is asked for beside its ticks.
#[derive(Debug)]
pub enum Asked {
    /// Drain a node before a planned takeover.
    Drain {
        /// The node.
        node: Node,
        /// What the drain and its caller tell each other.
        course: Course,
        /// Gets how it went.
        done: oneshot::Sender<Result<Drained, String>>,
    },
    /// Make ProxySQL's monitor check every server now.
    WakeMonitor(oneshot::Sender<Result<bool, String>>),
}

/// What the loop of one ProxySQL saw.
#[derive(Debug, Clone)]
pub struct Seen {
    /// When the loop started.
    pub started: Instant,
    /// The last tick; `None` before the first one has ended.
    pub last: Option<Arc<Ticked>>,
    /// When the last tick ended.
    pub ended: Option<Instant>,
    /// When ProxySQL was last read and showed what was decided.
    pub verified: Option<Instant>,
    /// Whether each of its nodes has this daemon's registration at Orchestrator; `None` if the config wants none.
    pub registered: Option<bool>,
    /// The sums since the start.
    pub totals: Totals,
    /// The durations of ticks, s.
    pub tick_s: Histogram,
    /// The durations of applies, s.
    pub apply_s: Histogram,
}

/// What a loop counted since its start.
#[derive(Debug, Clone, Default)]
pub struct Totals {
    /// Ticks in which a leader answered and the whole plan was applied.
    pub ticks_well: u64,
    /// The other ticks.
    pub ticks_not_well: u64,
    /// Applies that were carried out.
    pub applied: u64,
    /// Applies that were not: refused, put off, broken off, or left to another applier.
    pub not_applied: u64,
    /// Changes from one leader of Orchestrator to another.
    pub leader_changes: u64,
    /// Fences that were applied again, since another writer had undone them.
    pub refences: u64,
    /// Applies during which somebody else loaded the server tables.
    pub foreign_loads: u64,
    /// Sessions ended on fenced nodes.
    pub sessions_ended: u64,
    /// Ticks with a failure, by the condition's label.
    pub errors: BTreeMap<&'static str, u64>,
}

impl Entry {
    fn new(proxy: Node) -> Self {
        let histogram = || Histogram::new(BOUNDS_S);
        let seen = Seen {
            started: Instant::now(),
            last: None,
            ended: None,
            verified: None,
            registered: None,
            totals: Totals::default(),
            tick_s: histogram(),
            apply_s: histogram(),
        };
        let (ask, asked) = unbounded_channel();
        Self { proxy, seen: watch::channel(seen).0, wake: Notify::new(), ask, asked: AsyncMutex::new(asked) }
    }

    /// The ProxySQL.
    pub fn proxy(&self) -> &Node {
        &self.proxy
    }

    /// Puts a tick that has just ended on the board.
    pub fn put(&self, ticked: Ticked) {
        self.seen.send_modify(|seen| seen.take(ticked, Instant::now()));
    }

    /// Puts on the board whether this daemon is registered at its nodes.
    pub fn put_registered(&self, registered: bool) {
        self.seen.send_if_modified(|seen| {
            seen.registered = Some(registered);
            false // no tick has ended
        });
    }

    /// What was seen last.
    pub fn seen(&self) -> Seen {
        self.seen.borrow().clone()
    }

    /// What is seen, from tick to tick.
    pub fn follow(&self) -> watch::Receiver<Seen> {
        self.seen.subscribe()
    }

    /// Makes the loop tick at once. A tick that has begun is finished, and another one follows it.
    pub fn wake(&self) {
        self.wake.notify_one();
    }

    /// Asks the loop for something beside its ticks.
    pub fn ask(&self, asked: Asked) {
        let _ = self.ask.send(asked); // the receiver is ours
    }

    /// Waits until somebody asks for something.
    pub async fn asked(&self) -> Asked {
        match self.asked.lock().await.recv().await {
            Some(asked) => asked,
            None => std::future::pending().await, // the sender is ours
        }
    }

    /// Waits until somebody wakes the loop.
    pub async fn woken(&self) {
        self.wake.notified().await;
    }
}

impl Seen {
    fn take(&mut self, ticked: Ticked, now: Instant) {
        let totals = &mut self.totals;
        let count = if ticked.well { &mut totals.ticks_well } else { &mut totals.ticks_not_well };
        *count += 1;
        self.tick_s.observe(ticked.took.as_secs_f64());
        if let Some(took) = ticked.apply_took {
            self.apply_s.observe(took.as_secs_f64());
            match &ticked.outcome {
                Some(Outcome::Applied(done)) => {
                    totals.applied += 1;
                    totals.sessions_ended += done.sessions_ended + done.possible_ended;
                    totals.foreign_loads += u64::from(done.load_made_up.is_some());
                }
                _ => totals.not_applied += 1,
            }
        }
        totals.refences += u64::try_from(ticked.refences).unwrap_or(0);
        let leader = |ticked: &Ticked| ticked.snapshot.leader.as_ref().map(|leader| leader.name.clone());
        if let (Some(before), Some(now)) = (self.last.as_deref().and_then(leader), leader(&ticked)) {
            totals.leader_changes += u64::from(before != now);
        }
        let failures = ticked.snapshot.conditions.iter().filter(|condition| condition.severity == Severity::Failure);
        for condition in failures {
            *totals.errors.entry(condition.label).or_default() += 1;
        }
        if ticked.verified() {
            self.verified = Some(now);
        }
        (self.ended, self.last) = (Some(now), Some(Arc::new(ticked)));
    }

    /// Whether the loop has finished a tick lately.
    pub fn is_alive(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.ended.unwrap_or(self.started)) < HANGS_AFTER
    }
}
