//! `POST /v1/wake`: a tick of each ProxySQL at once, and a wait for a fence.

use std::path::Path;
use std::time::{Duration, Instant};

use axum::Json;
use axum::extract::{Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use futures_util::future::join_all;
use serde::{Deserialize, Serialize};
use stonith_core::apply::Outcome;
use stonith_core::node::Node;

use super::Shared;
use crate::agent::Ticked;
use crate::board::{Entry, Seen};
use crate::config::{Enforcement, duration, read_whole_file};
use crate::snapshot::{NodeReport, Snapshot};

/// The longest wait for a fence.
pub const WAIT_MAX: Duration = Duration::from_secs(30);

/// The wait for a fence, if none is given.
const WAIT_DEFAULT: Duration = Duration::from_secs(5);

/// What may follow the `?`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Asked {
    wait: Option<String>,
    node: Option<String>,
    timeout: Option<String>,
}

/// What the caller waits for.
#[derive(Debug)]
struct Wait {
    node: Node,
    longest: Duration,
}

/// What is answered. The hook reads it too.
#[derive(Debug, Serialize, Deserialize)]
pub struct Answer {
    /// Whether the node is fenced on every ProxySQL that has it.
    pub fenced: bool,
    /// Each ProxySQL of this daemon.
    pub proxies: Vec<AtProxy>,
}

/// How one ProxySQL has the node.
#[derive(Debug, Serialize, Deserialize)]
pub struct AtProxy {
    /// The ProxySQL.
    pub proxysql: Node,
    /// Whether the node is fenced, or has no row.
    pub fenced: bool,
    /// The reason.
    pub why: String,
    /// Whether ProxySQL could be read.
    pub reached: bool,
    /// Whether the agent is suspended.
    pub suspended: bool,
    /// Whether the agent only observes.
    pub observes: bool,
    /// A marked node is out by itself this long after its mark, in ms; `None` if the agent does not isolate.
    pub out_within_ms: Option<u64>,
    /// The node is out by itself this long after this answer, in ms, if no answer of Orchestrator counts any more; `None`
    /// if the agent does not isolate.
    #[serde(default)]
    pub out_in_ms: Option<u64>,
}

/// Wakes all loops. Waits for a fence, if asked to.
pub async fn wake(State(shared): State<Shared>, headers: HeaderMap, asked: Query<Asked>) -> Response {
    if let Err(refused) = authorize(shared.http.token_file.as_deref(), &headers) {
        return refused.into_response();
    }
    let wait = match wait(&asked) {
        Ok(wait) => wait,
        Err(why) => return (StatusCode::BAD_REQUEST, format!("{why}\n")).into_response(),
    };
    let woken = Instant::now();
    let entries = shared.board.entries();
    entries.values().for_each(|entry| entry.wake());
    let Some(wait) = wait else { return (StatusCode::ACCEPTED, "woken\n").into_response() };
    let proxies = join_all(entries.values().map(|entry| fenced_at(entry, &wait, woken))).await;
    let fenced = proxies.iter().all(|at| at.fenced);
    let code = if fenced { StatusCode::OK } else { StatusCode::GATEWAY_TIMEOUT };
    (code, Json(Answer { fenced, proxies })).into_response()
}

/// Checks the token of a request.
pub(super) fn authorize(token_file: Option<&Path>, headers: &HeaderMap) -> Result<(), (StatusCode, &'static str)> {
    let Some(path) = token_file else {
        return Err((StatusCode::FORBIDDEN, "this request is off; http.token_file in the config turns it on\n"));
    };
    let token = read_whole_file(path, "token").map_err(|error| {
        tracing::error!("a POST is refused: {error}");
        (StatusCode::SERVICE_UNAVAILABLE, "the token file cannot be read; the log says why\n")
    })?;
    let given = headers.get(header::AUTHORIZATION).and_then(|value| value.as_bytes().strip_prefix(b"Bearer "));
    match given.is_some_and(|given| same(given, token.expose().as_bytes())) {
        true => Ok(()),
        false => Err((StatusCode::UNAUTHORIZED, "expected `Authorization: Bearer` and the token of http.token_file\n")),
    }
}

/// Compares in a time that depends on the lengths only.
fn same(one: &[u8], other: &[u8]) -> bool {
    one.len() == other.len() && one.iter().zip(other).fold(0, |differ, (a, b)| differ | (a ^ b)) == 0
}

fn wait(asked: &Asked) -> Result<Option<Wait>, String> {
    let node = match (asked.wait.as_deref(), &asked.node) {
        (None, None) if asked.timeout.is_none() => return Ok(None),
        (Some("fenced"), Some(node)) => node.parse::<Node>().map_err(|why| format!("node: {why}"))?,
        _ => {
            return Err("expected nothing, or ?wait=fenced&node=HOST:PORT, with &timeout=DURATION if wanted".to_owned());
        }
    };
    let longest = asked.timeout.as_deref().map(duration::parse).transpose().map_err(|why| format!("timeout: {why}"))?;
    let longest = longest.unwrap_or(WAIT_DEFAULT);
    if longest > WAIT_MAX {
        return Err(format!("timeout: expected at most {}", duration::show(WAIT_MAX)));
    }
    Ok(Some(Wait { node, longest }))
}

/// Waits until a tick that began after `woken` shows the node fenced.
async fn fenced_at(entry: &Entry, wait: &Wait, woken: Instant) -> AtProxy {
    let proxysql = entry.proxy().clone();
    let until = tokio::time::Instant::now() + wait.longest;
    let mut follow = entry.follow();
    loop {
        let why = {
            let seen = follow.borrow_and_update();
            let since = seen.last.as_deref().filter(|ticked| ticked.begun >= woken);
            let not_fenced = not_fenced_in(&seen, woken, &wait.node);
            // What an apply left is seen by the tick after it.
            if not_fenced.is_some() && since.is_some_and(|ticked| ticked.outcome.is_some()) {
                entry.wake();
            }
            if since.is_some_and(|ticked| writes_nothing(&ticked.snapshot)) {
                return at_proxy(proxysql, &seen, not_fenced); // waiting changes nothing
            }
            not_fenced
        };
        let Some(why) = why else {
            return at_proxy(proxysql, &entry.seen(), None);
        };
        if !matches!(tokio::time::timeout_at(until, follow.changed()).await, Ok(Ok(()))) {
            return at_proxy(proxysql, &entry.seen(), Some(why));
        }
    }
}

/// Whether the agent fences nothing, whatever it is told.
fn writes_nothing(snapshot: &Snapshot) -> bool {
    snapshot.suspended.is_some() || snapshot.mode == Enforcement::Observe
}

/// The answer for one ProxySQL. `not_fenced` is the reason why it does not count as fenced.
fn at_proxy(proxysql: Node, seen: &Seen, not_fenced: Option<String>) -> AtProxy {
    let last = seen.last.as_deref();
    let is = |of: &dyn Fn(&Snapshot) -> bool| last.is_some_and(|ticked| of(&ticked.snapshot));
    AtProxy {
        proxysql,
        fenced: not_fenced.is_none(),
        why: not_fenced.unwrap_or_else(|| "fenced, or without a row here".to_owned()),
        reached: is(&|snapshot| snapshot.reached),
        suspended: is(&|snapshot| snapshot.suspended.is_some()),
        observes: is(&|snapshot| snapshot.mode == Enforcement::Observe),
        out_within_ms: last.and_then(|ticked| ticked.out_within_ms),
        out_in_ms: last.and_then(|ticked| ticked.out_in_ms),
    }
}

/// What is reported of a node, whether this is its name in ProxySQL or in Orchestrator.
fn reports_of<'s>(snapshot: &'s Snapshot, node: &'s Node) -> impl Iterator<Item = &'s NodeReport> {
    snapshot.nodes.iter().filter(move |report| report.node == *node || report.instance.as_ref() == Some(node))
}

fn not_fenced_in(seen: &Seen, woken: Instant, node: &Node) -> Option<String> {
    match seen.last.as_deref().filter(|ticked| ticked.begun >= woken) {
        None => Some("no tick has ended since".to_owned()),
        Some(ticked) => not_fenced(ticked, node),
    }
}

/// Why a node does not count as fenced; `None` if it is fenced and seen so, or has no row.
///
/// An apply has read runtime after its LOAD, so a tick that applied it needs no other one to show that.
fn not_fenced(ticked: &Ticked, node: &Node) -> Option<String> {
    let Ticked { snapshot, outcome, .. } = ticked;
    let is_applied = matches!(outcome, Some(Outcome::Applied(done)) if done.not_as_planned.is_empty());
    if !snapshot.reached {
        return Some("ProxySQL is not reached".to_owned());
    }
    let in_service = |status: &str| !matches!(status, "OFFLINE_SOFT" | "OFFLINE_HARD");
    reports_of(snapshot, node).find_map(|report| {
        if report.verdict != "fence" {
            return Some(format!("{}: {}", report.word(), report.why));
        }
        let row = report.rows.iter().find(|row| !is_applied && in_service(&row.status))?;
        Some(format!("its row in hostgroup {} is {} still", row.hostgroup, row.status))
    })
}
