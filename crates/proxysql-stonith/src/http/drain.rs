//! `POST /v1/drain` and `POST /v1/resume`: the two sides of a planned takeover, for a hook that reaches no ProxySQL itself.
//!
//! ```text
//! step=prepare  answers once every loop is prepared; no client waits yet
//! step=go       answers once the node is drained; a loop that was not prepared drains at once
//! ```
//!
//! **Invariant:** a token alone takes no node out: Orchestrator's leader must list the planned takeover.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Json;
use axum::extract::{Query, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use futures_util::future::join_all;
use serde::{Deserialize, Serialize};
use stonith_core::node::Node;
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::Shared;
use super::wake::{WAIT_MAX, authorize};
use crate::agent::order::{Course, Drained};
use crate::board::{Asked, Entry};
use crate::config::duration;

/// The time that a loop may take beyond what it was given, to connect and to apply.
const SLACK: Duration = Duration::from_secs(3);

/// The drains that are prepared, by ProxySQL.
pub type Drains = Arc<Mutex<BTreeMap<Node, Prepared>>>;

/// A drain that waits for its second step. It is called off if this is dropped.
#[derive(Debug)]
pub struct Prepared {
    node: Node,
    go: oneshot::Sender<Duration>,
    done: oneshot::Receiver<Result<Drained, String>>,
}

impl Prepared {
    /// Whether it still waits, and is of this node.
    fn is_open_for(&self, node: &Node) -> bool {
        self.node == *node && !self.go.is_closed()
    }
}

/// What may follow the `?`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Wanted {
    node: String,
    step: Step,
    timeout: String,
}

/// The steps of a drain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Step {
    Prepare,
    Go,
}

/// What is answered. The hook reads it too.
#[derive(Debug, Serialize, Deserialize)]
pub struct Answer {
    /// Each ProxySQL of this daemon.
    pub proxies: Vec<AtProxy>,
}

/// How a step went at one ProxySQL.
#[derive(Debug, Serialize, Deserialize)]
pub struct AtProxy {
    /// The ProxySQL.
    pub proxysql: Node,
    /// Why it is not done; `None` if it is.
    pub why: Option<String>,
    /// The sessions that were ended between two of their transactions.
    #[serde(default)]
    pub ended_between: usize,
    /// The connections whose sessions were ended at the deadline.
    #[serde(default)]
    pub ended_late: u64,
    /// How long clients may have waited so far, ms.
    #[serde(default)]
    pub took_ms: u64,
}

impl AtProxy {
    fn of(entry: &Entry, done: Result<Drained, String>) -> Self {
        let proxysql = entry.proxy().clone();
        match done {
            Ok(Drained { ended_between, ended_late, took }) => {
                Self { proxysql, why: None, ended_between, ended_late, took_ms: duration::millis(took) }
            }
            Err(why) => Self { proxysql, why: Some(why), ended_between: 0, ended_late: 0, took_ms: 0 },
        }
    }
}

/// Carries out one step of a drain in every loop.
pub async fn drain(State(shared): State<Shared>, headers: HeaderMap, asked: Query<Wanted>) -> Response {
    if let Err(refused) = authorize(shared.http.token_file.as_deref(), &headers) {
        return refused.into_response();
    }
    let (node, longest) = match (asked.node.parse::<Node>(), duration::parse(&asked.timeout)) {
        (Ok(node), Ok(longest)) if longest <= WAIT_MAX => (node, longest),
        _ => {
            let text = format!(
                "expected ?node=HOST:PORT&step=prepare|go&timeout=DURATION, at most {}\n",
                duration::show(WAIT_MAX)
            );
            return (StatusCode::BAD_REQUEST, text).into_response();
        }
    };
    let entries = shared.board.entries();
    let steps = entries.values().map(|entry| async {
        let done = match asked.step {
            Step::Prepare => prepare(&shared.drains, entry, &node, longest).await,
            Step::Go => go(&shared.drains, entry, &node, longest).await,
        };
        AtProxy::of(entry, done)
    });
    Json(Answer { proxies: join_all(steps).await }).into_response()
}

async fn prepare(drains: &Drains, entry: &Entry, node: &Node, longest: Duration) -> Result<Drained, String> {
    let is_prepared = {
        let mut drains = drains.lock().unwrap_or_else(PoisonError::into_inner);
        if drains.get(entry.proxy()).is_some_and(|begun| begun.is_open_for(node)) {
            return Ok(Drained::default()); // a hook that knows two addresses of this agent asks twice
        }
        let (begun, is_prepared) = begin(entry, node, longest);
        drains.insert(entry.proxy().clone(), begun);
        is_prepared
    };
    if timeout(longest + SLACK, is_prepared).await.is_ok_and(|prepared| prepared.is_ok()) {
        return Ok(Drained::default());
    }
    let begun = drains.lock().unwrap_or_else(PoisonError::into_inner).remove(entry.proxy());
    let Some(Prepared { done, .. }) = begun else { return Err(ended()) };
    timeout(SLACK, done).await.map_err(|_| "it is not prepared in time".to_owned())?.unwrap_or_else(|_| Err(ended()))
}

async fn go(drains: &Drains, entry: &Entry, node: &Node, longest: Duration) -> Result<Drained, String> {
    let prepared = drains.lock().unwrap_or_else(PoisonError::into_inner).remove(entry.proxy());
    let Prepared { go, done, .. } = match prepared.filter(|prepared| prepared.is_open_for(node)) {
        Some(prepared) => prepared,
        None => begin(entry, node, Duration::ZERO).0,
    };
    let _ = go.send(longest); // one that has failed says why
    timeout(longest + SLACK, done)
        .await
        .map_err(|_| "it did not end in time".to_owned())?
        .unwrap_or_else(|_| Err(ended()))
}

/// Asks a loop for a drain.
fn begin(entry: &Entry, node: &Node, prepare: Duration) -> (Prepared, oneshot::Receiver<()>) {
    let (prepared, is_prepared) = oneshot::channel();
    let (go, goes_on) = oneshot::channel();
    let (done, is_done) = oneshot::channel();
    let course = Course { needs_mark: true, prepare, prepared, go: goes_on };
    entry.ask(Asked::Drain { node: node.clone(), course, done });
    (Prepared { node: node.clone(), go, done: is_done }, is_prepared)
}

fn ended() -> String {
    "its loop ended".to_owned()
}

/// Makes every ProxySQL's monitor check at once.
pub async fn resume(State(shared): State<Shared>, headers: HeaderMap) -> Response {
    if let Err(refused) = authorize(shared.http.token_file.as_deref(), &headers) {
        return refused.into_response();
    }
    let entries = shared.board.entries();
    let wakes = entries.values().map(|entry| async {
        entry.wake();
        let (done, is_done) = oneshot::channel();
        entry.ask(Asked::WakeMonitor(done));
        let woken = timeout(SLACK, is_done).await.map_err(|_| "it did not end in time".to_owned());
        let why = match woken.and_then(|woken| woken.unwrap_or_else(|_| Err(ended()))) {
            Ok(true) => None,
            Ok(false) => Some("a variable is staged".to_owned()),
            Err(why) => Some(why),
        };
        AtProxy { proxysql: entry.proxy().clone(), why, ended_between: 0, ended_late: 0, took_ms: 0 }
    });
    Json(Answer { proxies: join_all(wakes).await }).into_response()
}
