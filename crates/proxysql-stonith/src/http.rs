//! The HTTP service of a daemon: metrics, health, status, and a wake-up. It has a thread of its own and reads the board
//! only, so no request delays a tick.
//!
//! ```text
//! GET  /metrics       OpenMetrics, or Prometheus' text format
//! GET  /healthz       200 while no loop hangs
//! GET  /readyz        200 while each loop has verified its ProxySQL lately
//! GET  /status.json   what `status --json` prints, of the last ticks
//! POST /v1/wake       a tick at once; ?wait=fenced&node=HOST:PORT answers once that node is fenced everywhere
//! POST /v1/drain      ?node=HOST:PORT&step=prepare, then step=go: a planned takeover begins
//! POST /v1/resume     the monitor checks at once, after a planned takeover
//! ```
//!
//! **Invariant:** no answer contains a secret (I11). Requests, headers, times and connections are bounded.

mod drain;
mod server;
mod wake;

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};

pub use drain::{Answer as DrainAnswer, AtProxy as DrainedProxy};
pub use wake::{Answer as WakeAnswer, AtProxy as WokenProxy, WAIT_MAX};

use crate::board::{Board, Seen};
use crate::config::HttpConfig;
use crate::metrics;
use crate::report;
use crate::snapshot::Snapshot;

/// A loop has verified its ProxySQL lately if that is no longer ago than this. Ticks are up to 5 s apart while
/// ProxySQL is not reached.
const VERIFIED_LATELY: Duration = Duration::from_secs(15);

/// What the handlers need.
#[derive(Clone)]
struct Shared {
    board: Arc<Board>,
    http: Arc<HttpConfig>,
    drains: drain::Drains,
}

/// Starts the service in a thread of its own, if the config has it. A failure is logged and tried again: what guards
/// ProxySQL goes on without HTTP.
pub fn start(http: &HttpConfig, board: Arc<Board>) {
    let Some(address) = http.listen.0 else { return };
    let token = if http.token_file.is_some() { "" } else { "; every POST is off without http.token_file" };
    if !http.listen.is_local() {
        tracing::warn!(%address, "HTTP is open to other hosts: they can read the names and states of all nodes");
    }
    let routes = routes(Shared { board, http: Arc::new(http.clone()), drains: drain::Drains::default() });
    let thread = std::thread::Builder::new().name("http".to_owned());
    let serve = move || server::serve(address, routes, token);
    if let Err(error) = thread.spawn(serve) {
        tracing::error!("HTTP is off: no thread can be started: {error}");
    }
}

fn routes(shared: Shared) -> Router {
    Router::new()
        .route("/metrics", get(metrics))
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
        .route("/status.json", get(status))
        .route("/v1/wake", post(wake::wake))
        .route("/v1/drain", post(drain::drain))
        .route("/v1/resume", post(drain::resume))
        .with_state(shared)
}

async fn metrics(State(shared): State<Shared>, headers: HeaderMap) -> Response {
    let accepted = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let format = metrics::Format::accepted(accepted);
    let text = metrics::render(&shared.board, format);
    ([(header::CONTENT_TYPE, format.content_type())], text).into_response()
}

/// What `/healthz` and `/readyz` answer: one line per ProxySQL that is not as it has to be.
fn health(shared: &Shared, wrong: impl Fn(&Seen, Instant) -> Option<String>) -> Response {
    let now = Instant::now();
    let entries = shared.board.entries();
    let lines: Vec<String> = entries
        .values()
        .filter_map(|entry| wrong(&entry.seen(), now).map(|why| format!("ProxySQL {}: {why}\n", entry.proxy())))
        .collect();
    match lines.is_empty() {
        true => (StatusCode::OK, "ok\n".to_owned()).into_response(),
        false => (StatusCode::SERVICE_UNAVAILABLE, lines.concat()).into_response(),
    }
}

async fn healthz(State(shared): State<Shared>) -> Response {
    health(&shared, |seen, now| (!seen.is_alive(now)).then(|| "its loop hangs".to_owned()))
}

async fn readyz(State(shared): State<Shared>) -> Response {
    health(&shared, |seen, now| {
        let verified = seen.verified.is_some_and(|at| now.saturating_duration_since(at) < VERIFIED_LATELY);
        (!verified).then(|| match &seen.last {
            None => "it was not looked at yet".to_owned(),
            Some(ticked) if !ticked.snapshot.reached => "it is not reached".to_owned(),
            Some(_) => "it does not show what was decided".to_owned(),
        })
    })
}

async fn status(State(shared): State<Shared>) -> Response {
    let seen: Vec<Seen> = shared.board.entries().values().map(|entry| entry.seen()).collect();
    let snapshots: Vec<&Snapshot> = seen.iter().filter_map(|seen| seen.last.as_deref()).map(|t| &t.snapshot).collect();
    ([(header::CONTENT_TYPE, "application/json")], report::json::status(&snapshots)).into_response()
}
