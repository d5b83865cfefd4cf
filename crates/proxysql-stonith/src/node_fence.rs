//! Makes fenced nodes read-only at the nodes themselves, in a thread of its own: it delays no tick and no apply.
//!
//! ```text
//! a tick's targets -> a task for each node: stonith_core::node_fence says the step, crate::mysql does it
//!                  -> the history in the state directory, which ticks and `status` read
//! ```
//!
//! Two agents on one host have one history, by the lock of their state directory. Agents on other hosts meet at the node:
//! its lock (`GET_LOCK`) ends with the holder's connection, and every step may be done twice.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use stonith_core::node::Node;
use stonith_core::node_fence::{Looked, Machine, NodeFenceRecord, NodeFenceSettings, Reply, ServerId, Step, Target};
use tokio::sync::watch;
use tokio::time::sleep;

use crate::clock;
use crate::config::{Config, CredentialSource, NodeFenceConfig, ProxyTls};
use crate::handed::{CHECK_AGAIN, CHECK_EACH, Hand, Handed, Readiness, check_nodes, target_max_ms, tasks_of_nodes};
use crate::mysql::{NodeError, Server, Settings};
use crate::state::Book;
use crate::tls::TlsError;
use crate::untrusted_text::one_line;
use crate::wire::{ServerCheck, Tls};

/// The longest wait for a primary that is asked who it is.
const ASK_MAX: Duration = Duration::from_secs(2);

/// The most nodes that are checked at once.
const CHECKS_AT_ONCE: usize = 16;

/// Why no node can be fenced by this config.
#[derive(Debug, thiserror::Error)]
pub enum SetUpError {
    /// The password can't be read.
    #[error("[node_fence]: {0}")]
    Secret(#[from] crate::config::SecretError),
    /// The CA can't be read.
    #[error("[node_fence]: {0}")]
    Tls(#[from] TlsError),
    /// The operating system refused a thread.
    #[error("the thread that fences nodes did not start: {0}")]
    Thread(#[from] std::io::Error),
}

/// Starts the thread that makes one ProxySQL's fenced nodes read-only; `None` if the config names no evidence.
///
/// # Errors
/// The password or the CA can't be read, or the thread does not start.
pub fn start(config: &Config, book: Arc<Book<NodeFenceRecord>>) -> Result<Option<Hand<Target>>, SetUpError> {
    let Some(chosen) = &config.node_fence else { return Ok(None) };
    let settings = settings(chosen)?;
    let spared = chosen.spare.iter().cloned().chain([settings.credential.user.clone()]).collect();
    let tasks = Tasks {
        settings,
        source: chosen.credential.clone(),
        machine: NodeFenceSettings { spared, target_max_ms: target_max_ms(config.run.interval) },
        book,
    };
    Ok(Some(Hand::to_thread("node-fence", |handed| tasks.run(handed))?))
}

/// The settings to reach nodes.
///
/// # Errors
/// The password or the CA can't be read.
fn settings(chosen: &NodeFenceConfig) -> Result<Settings, SetUpError> {
    let check = match chosen.tls {
        ProxyTls::Off => None,
        ProxyTls::VerifyCa => Some(ServerCheck::Ca),
        ProxyTls::VerifyIdentity => Some(ServerCheck::Identity),
    };
    let tls = check.map(|check| Tls::new(check, chosen.ca_file.as_deref(), "the nodes")).transpose()?;
    Ok(Settings { credential: chosen.credential.read()?, tls, timeout: chosen.timeout })
}

/// Looks whether the account of the config could make these nodes read-only. Nothing is changed.
///
/// # Errors
/// The password or the CA can't be read.
pub async fn readiness(
    chosen: &NodeFenceConfig,
    nodes: impl IntoIterator<Item = Node>,
) -> Result<BTreeMap<Node, Readiness>, SetUpError> {
    let settings = settings(chosen)?;
    Ok(ready(&settings, &nodes.into_iter().collect::<Vec<_>>()).await)
}

async fn ready(settings: &Settings, nodes: &[Node]) -> BTreeMap<Node, Readiness> {
    let mut all = BTreeMap::new();
    for some in nodes.chunks(CHECKS_AT_ONCE) {
        let asked = some.iter().map(async |node| (node.clone(), ready_one(settings, node).await));
        all.extend(join_all(asked).await);
    }
    all
}

async fn ready_one(settings: &Settings, node: &Node) -> Readiness {
    match look_at(settings, node).await {
        Ok(Looked { lacks, .. }) if !lacks.is_empty() => {
            Readiness::Unready(format!("the account lacks {}", lacks.join(", ")))
        }
        Ok(Looked { lacks_for_some, .. }) if !lacks_for_some.is_empty() => Readiness::Unready(format!(
            "the account lacks {}, so it cannot end the sessions of accounts that have it",
            lacks_for_some.join(", ")
        )),
        Ok(_) => Readiness::Ready,
        Err(NodeError::Lost(why)) => Readiness::Unreached(why),
        Err(error) => Readiness::Unready(error.to_string()),
    }
}

/// What all tasks of one ProxySQL have in common.
#[derive(Debug, Clone)]
struct Tasks {
    settings: Settings,
    source: CredentialSource,
    machine: NodeFenceSettings,
    book: Arc<Book<NodeFenceRecord>>,
}

impl Tasks {
    /// Starts a task for each node that becomes a target, and one that checks the account, until nobody hands over.
    async fn run(self, handed: watch::Receiver<Handed<Target>>) {
        let check = tokio::spawn(self.clone().check(handed.clone()));
        tasks_of_nodes(handed.clone(), &self.book, |node| self.clone().fence(node, handed.clone())).await;
        check.abort();
    }

    /// Fences one node whenever it is a target.
    async fn fence(self, node: Node, mut handed: watch::Receiver<Handed<Target>>) {
        let mut machine = Machine::new(self.machine.clone(), self.book.record(&node));
        let mut worker = Worker { node: node.clone(), tasks: self, server: None };
        handed.mark_changed();
        loop {
            let (now_ms, now_s) = (clock::boot_ms(), clock::wall_s());
            if handed.has_changed().unwrap_or(false) {
                aim(&mut machine, &handed.borrow_and_update(), &node, now_ms, now_s);
            }
            let step = machine.next(now_ms);
            let wait = match &step {
                Step::Rest => Duration::from_secs(3_600),
                Step::Wait { until_ms } => Duration::from_millis(until_ms.saturating_sub(now_ms)),
                _ => {
                    let reply = worker.perform(step).await;
                    let (now_ms, now_s) = (clock::boot_ms(), clock::wall_s());
                    if handed.has_changed().unwrap_or(false) {
                        aim(&mut machine, &handed.borrow_and_update(), &node, now_ms, now_s);
                    }
                    machine.take(reply, now_ms, now_s);
                    worker.tell(machine.record());
                    continue;
                }
            };
            if step == Step::Rest {
                worker.leave().await;
            }
            worker.tell(machine.record());
            tokio::select! {
                () = sleep(wait) => {}
                changed = handed.changed() => match changed {
                    Ok(()) => handed.mark_changed(),
                    Err(_) => return worker.leave().await,
                },
            }
        }
    }

    /// Looks whether the account could do what it may have to.
    async fn check(self, handed: watch::Receiver<Handed<Target>>) {
        let ask = async |nodes: Vec<Node>| {
            let mut settings = self.settings.clone();
            if let Ok(credential) = self.source.read() {
                settings.credential = credential;
            }
            ready(&settings, &nodes).await
        };
        let again = |found: &Readiness| match found {
            Readiness::Unreached(_) => CHECK_AGAIN,
            Readiness::Ready | Readiness::Unready(_) => CHECK_EACH,
        };
        check_nodes(handed, &self.book, ask, again).await;
    }
}

fn aim(machine: &mut Machine, handed: &Handed<Target>, node: &Node, now_ms: u64, now_s: i64) {
    match handed.targets.get(node) {
        // It counts from when it was decided, not from when this task got to it.
        Some(target) => machine.aim(Some(target.clone()), handed.at_ms.min(now_ms), now_s),
        None if handed.at_ms == 0 => {} // Orchestrator is silent, so nothing is over
        None => machine.aim(None, now_ms, now_s),
    }
}

/// Asks servers who they are, side by side; `None` for one that did not say.
async fn who_they_are(settings: &Settings, nodes: BTreeSet<Node>) -> BTreeMap<Node, Option<ServerId>> {
    let settings = Settings { timeout: settings.timeout.min(ASK_MAX), ..settings.clone() };
    let ask = async |node: Node| {
        let looked = look_at(&settings, &node).await.ok();
        (node, looked.map(|looked| looked.server))
    };
    join_all(nodes.into_iter().map(ask)).await.into_iter().collect()
}

/// Connects, looks, and closes.
async fn look_at(settings: &Settings, node: &Node) -> Result<Looked, NodeError> {
    let mut server = Server::connect(node, settings, None).await?;
    let looked = server.look().await;
    server.close().await;
    looked
}

/// Does the steps of one machine.
struct Worker {
    node: Node,
    tasks: Tasks,
    server: Option<Server>,
}

impl Worker {
    async fn perform(&mut self, step: Step) -> Reply {
        if let Step::AskPrimaries(nodes) = step {
            return Reply::Primaries(who_they_are(&self.tasks.settings, nodes).await);
        }
        if let Step::Connect { tcp_ms } = step {
            self.server = None;
            return match Server::connect(&self.node, &self.tasks.settings, tcp_ms.map(Duration::from_millis)).await {
                Ok(server) => {
                    self.server = Some(server);
                    Reply::Connected
                }
                Err(error) => self.failed(error),
            };
        }
        let Some(server) = &mut self.server else { return Reply::Lost("there is no connection".to_owned()) };
        let done = match step {
            Step::Look => server.look().await.map(Reply::Looked),
            Step::TakeLock => server.take_lock().await.map(Reply::Locked),
            Step::SetReadOnly => {
                server.set_read_only().await.map(|is_set| if is_set { Reply::Set } else { Reply::SetWaits })
            }
            Step::ListSessions => server.sessions().await.map(Reply::Sessions),
            Step::Kill(ids) => server.kill(&ids).await.map(|(ended, refused)| Reply::Killed { ended, refused }),
            Step::Rest | Step::Wait { .. } | Step::AskPrimaries(_) | Step::Connect { .. } => return Reply::Connected,
        };
        done.unwrap_or_else(|error| self.failed(error))
    }

    fn failed(&mut self, error: NodeError) -> Reply {
        match error {
            NodeError::Lost(why) => {
                self.server = None;
                Reply::Lost(why)
            }
            NodeError::Denied(why) => {
                // The password may have changed.
                if let Ok(credential) = self.tasks.source.read() {
                    self.tasks.settings.credential = credential;
                }
                Reply::Denied(why)
            }
            NodeError::Refused { text, .. } => Reply::Refused(text),
        }
    }

    /// Keeps what was done, and writes the log.
    fn tell(&self, record: Option<&NodeFenceRecord>) {
        let Some(record) = record else { return };
        let before = self.tasks.book.record(&self.node);
        let is_forgotten = before.is_none() && record.ended_s.is_some();
        if is_forgotten || before.as_ref() == Some(record) {
            return;
        }
        let failure = |record: &NodeFenceRecord| record.failure.as_ref().map(|failure| failure.text.clone());
        let state = record.state();
        let is_news =
            before.as_ref().is_none_or(|before| before.state() != state || failure(before) != failure(record));
        // A time alone is no news, and not worth a write.
        if !is_news && before.is_some_and(|before| before.failure.is_some() && record.failure.is_some()) {
            return;
        }
        self.tasks.book.change(|history| drop(history.records.insert(self.node.clone(), record.clone())));
        if is_news {
            let (node, kind, sessions_ended) = (&self.node, record.kind, record.sessions_ended);
            match failure(record).map(|why| one_line(&why)) {
                Some(why) => tracing::error!(%node, %kind, "the node itself is not fenced: {why}"),
                None => tracing::info!(%node, %kind, sessions_ended, "the node itself: {state}"),
            }
        }
    }

    async fn leave(&mut self) {
        if let Some(server) = self.server.take() {
            server.close().await;
        }
    }
}
