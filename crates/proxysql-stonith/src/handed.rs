//! What each level of the fence of a node itself is given: a tick hands its targets to a thread with a task for each node.
//!
//! ```text
//! tick -> Hand::over -> the level's thread -> tasks_of_nodes: a task for each target
//! ```
//!
//! No tick waits for a level, and no level for another.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use stonith_core::node::Node;
use tokio::sync::watch;
use tokio::time::{Instant, sleep};

use crate::agent::to_its_end;
use crate::clock;
use crate::config::duration;
use crate::state::{Book, Record};

/// How long a target counts at least after the tick that gave it, ms. A tick with silent servers takes seconds.
const TARGET_MIN_MS: u64 = 15_000;

/// How often it is looked at whether a level could do what it may have to.
pub const CHECK_EACH: Duration = Duration::from_secs(600);

/// How often a level that could not is looked at again, at most.
pub const CHECK_AGAIN: Duration = Duration::from_secs(30);

/// How long a target counts after the tick that gave it, ms.
pub fn target_max_ms(interval: Duration) -> u64 {
    TARGET_MIN_MS.max(duration::millis(interval).saturating_mul(3))
}

/// What a tick handed over.
#[derive(Debug, Clone)]
pub struct Handed<T> {
    /// The targets of the last tick that knew the primaries.
    pub targets: BTreeMap<Node, T>,
    /// When that tick ended, ms since boot; 0 if a later one did not know them, so that the targets count no longer.
    pub at_ms: u64,
    /// All nodes that may be fenced one day.
    pub nodes: BTreeSet<Node>,
}

impl<T> Default for Handed<T> {
    fn default() -> Self {
        Self { targets: BTreeMap::new(), at_ms: 0, nodes: BTreeSet::new() }
    }
}

/// The end at which a tick hands over. The level's thread stops when this is dropped; what is done at a node stays done.
#[derive(Debug)]
pub struct Hand<T> {
    handed: watch::Sender<Handed<T>>,
}

impl<T: Send + Sync + 'static> Hand<T> {
    /// Starts a level's thread, which does this work until nobody hands over.
    ///
    /// # Errors
    /// The operating system refuses a thread.
    pub fn to_thread<W: Future<Output = ()>>(
        name: &str,
        work: impl FnOnce(watch::Receiver<Handed<T>>) -> W + Send + 'static,
    ) -> Result<Self, std::io::Error> {
        let (handed, receiver) = watch::channel(Handed::default());
        std::thread::Builder::new().name(name.to_owned()).spawn(move || {
            to_its_end(async {
                work(receiver).await;
                Ok::<(), std::io::Error>(())
            })
        })?;
        Ok(Self { handed })
    }

    /// Hands over what a tick decided: the nodes that must be fenced themselves now, and which nodes there are. `None` if
    /// a promotion may be unknown: nothing is done until a tick knows.
    pub fn over(&self, targets: Option<BTreeMap<Node, T>>, nodes: BTreeSet<Node>) {
        self.handed.send_modify(|handed| {
            handed.at_ms = if targets.is_some() { clock::boot_ms() } else { 0 };
            handed.targets = targets.unwrap_or_else(|| std::mem::take(&mut handed.targets));
            if !nodes.is_empty() {
                handed.nodes = nodes;
            }
        });
    }
}

/// Starts a task for each node that becomes a target, and for each that an earlier process left open, until nobody hands
/// over.
pub async fn tasks_of_nodes<T, W: Future<Output = ()> + Send + 'static>(
    mut handed: watch::Receiver<Handed<T>>,
    book: &Book<impl Record>,
    task: impl Fn(Node) -> W,
) {
    // What an earlier process left open is ended or gone on with.
    let left_open = book.left_open();
    let mut has_task: BTreeSet<Node> = BTreeSet::new();
    while handed.changed().await.is_ok() {
        let targets: Vec<Node> = handed.borrow_and_update().targets.keys().cloned().collect();
        for node in targets.into_iter().chain(left_open.iter().cloned()) {
            if has_task.insert(node.clone()) {
                tokio::spawn(task(node));
            }
        }
    }
}

/// Whether a level could fence a node. Nothing is changed there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Readiness {
    /// It could.
    Ready,
    /// It could not, and why.
    Unready(String),
    /// The node did not answer, and why.
    Unreached(String),
}

/// Asks at the start, and from time to time, whether a level could fence its nodes, until nobody hands over.
pub async fn check_nodes<T, A: Future<Output = BTreeMap<Node, Readiness>>>(
    mut handed: watch::Receiver<Handed<T>>,
    book: &Book<impl Record>,
    ask: impl Fn(Vec<Node>) -> A,
    again: impl Fn(&Readiness) -> Duration,
) {
    let mut due_at: BTreeMap<Node, Instant> = BTreeMap::new();
    loop {
        let nodes = handed.borrow_and_update().nodes.clone();
        let now = Instant::now();
        let due = nodes.iter().filter(|node| due_at.get(*node).is_none_or(|at| *at <= now));
        let found = ask(due.cloned().collect()).await;
        for (node, readiness) in &found {
            due_at.insert(node.clone(), Instant::now() + again(readiness));
        }
        book.change(|history| {
            history.unready.retain(|node, _| nodes.contains(node));
            for (node, readiness) in found {
                match readiness {
                    Readiness::Ready => drop(history.unready.remove(&node)),
                    Readiness::Unready(why) => drop(history.unready.insert(node, why)),
                    Readiness::Unreached(_) => {}
                }
            }
        });
        tokio::select! {
            () = sleep(CHECK_AGAIN) => {}
            changed = handed.wait_for(|handed| handed.nodes != nodes) => if changed.is_err() { return },
        }
    }
}
