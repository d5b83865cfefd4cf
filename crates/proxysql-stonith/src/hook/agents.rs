//! The agents' HTTP: `POST /v1/wake` and `GET /status.json`, to all of them side by side. They are those of the config, and
//! those that registered themselves at the failed node ([`crate::registration`]).

use std::time::Duration;

use futures_util::future::join_all;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1::handshake;
use hyper::header::{AUTHORIZATION, HOST, HeaderValue};
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use stonith_core::barrier::{AtProxy, NeverReason, SelfFence};
use stonith_core::list::first_few;
use stonith_core::node::Node;
use tokio::net::TcpStream;
use tokio::sync::OnceCell;
use tokio::time::timeout;

use crate::clock;
use crate::config::{AgentUrl, BarrierConfig, SecretError, duration, read_whole_file};
use crate::http::{DrainAnswer, WAIT_MAX, WakeAnswer, WokenProxy};
use crate::orchestrator::{LeaderError, Tags};
use crate::registration::Registered;
use crate::secret::Secret;
use crate::untrusted_text::one_line;

/// The longest answer, in bytes.
const ANSWER_MAX_BYTES: usize = 4 << 20;

/// The most registrations that a text names.
const LISTED_MAX: usize = 20;

/// The time to connect, and the time that an answer may take beyond the wait that was asked for.
const SLACK: Duration = Duration::from_secs(1);

/// Every agent that the hook asks, and their token.
pub struct Agents {
    of_config: Vec<AgentUrl>,
    /// Those that registered themselves, once they are known.
    registered: OnceCell<RegisteredAgents>,
    forget_after: Option<Duration>,
    token: Option<Secret>,
}

/// The agents that registered themselves at a node.
#[derive(Debug, Default)]
pub struct RegisteredAgents {
    /// Their addresses, without those of the config.
    pub urls: Vec<AgentUrl>,
    /// Why there may be others; `None` if nothing says so.
    pub others: Option<String>,
}

/// A step of a drain, as `/v1/drain` names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DrainStep {
    /// Lets go of sessions that stay after an insert, while no client waits.
    Prepare,
    /// Takes the rows out, and waits for transactions.
    Go,
}

/// Why an agent gave no answer that counts.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// It was not reached, or did not answer in time.
    #[error("it was not reached: {0}")]
    Unreached(String),
    /// It refused.
    #[error("it answered {0}: {1}")]
    Status(StatusCode, String),
    /// Its answer cannot be read.
    #[error("its answer cannot be read: {0}")]
    Unreadable(String),
    /// Its token cannot be read here.
    #[error("its token cannot be read: {0}")]
    Token(String),
}

/// A ProxySQL as an agent's `/status.json` has it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct AgentProxy {
    /// The ProxySQL.
    pub proxysql: String,
    /// The mode, as a word.
    pub mode: String,
    /// Whether the agent isolates it once it has no lease.
    pub armed: bool,
    /// The reason of the suspension.
    pub suspended: Option<String>,
}

#[derive(Debug, Deserialize)]
struct AgentStatus {
    proxies: Vec<AgentProxy>,
}

impl Agents {
    /// Takes the agents of the config.
    ///
    /// # Errors
    /// The token file can't be read.
    pub fn new(config: &BarrierConfig) -> Result<Self, SecretError> {
        let token = config.token_file.as_deref().map(|path| read_whole_file(path, "token")).transpose()?;
        let (of_config, forget_after) = (config.agents.clone(), config.forget_after);
        Ok(Self { of_config, registered: OnceCell::new(), forget_after, token })
    }

    /// The agents of the config.
    pub fn of_config(&self) -> &[AgentUrl] {
        &self.of_config
    }

    /// Whether agents that registered themselves are asked too.
    pub fn may_register(&self) -> bool {
        self.forget_after.is_some()
    }

    /// The agents that registered themselves at a node. The first answer counts for good.
    ///
    /// # Errors
    /// Orchestrator's leader does not say.
    pub async fn registered(&self, tags: &Tags, node: &Node) -> Result<&RegisteredAgents, LeaderError> {
        let read = async || {
            let (Some(token), Some(forget_after)) = (&self.token, self.forget_after) else {
                return Ok(Default::default());
            };
            let tags = tags.of_node(node).await?;
            let registered = Registered::of(&tags, token, clock::wall_s(), forget_after);
            if !registered.forgotten.is_empty() {
                let agents = listed(registered.forgotten.keys());
                tracing::info!(agents, %node, "not asked: they registered, and were not seen for barrier.forget_after");
            }
            let others = match (&registered.refused[..], registered.agents.is_empty()) {
                ([], false) => None,
                ([], true) => Some(format!("no agent is registered at {node}")),
                (refused, _) => Some(format!("not signed with the token of barrier.token_file: {}", listed(refused))),
            };
            let urls = registered.agents.into_iter().filter(|agent| !self.of_config.contains(agent)).collect();
            Ok(RegisteredAgents { urls, others })
        };
        self.registered.get_or_try_init(read).await
    }

    /// All agents that are known by now.
    pub fn all(&self) -> impl Iterator<Item = &AgentUrl> {
        self.of_config.iter().chain(self.registered.get().into_iter().flat_map(|registered| &registered.urls))
    }

    /// Wakes every agent, and waits for none.
    pub async fn wake_all(&self) {
        let wakes = self.all().map(|url| async move {
            if let Err(error) = self.post(url, "/v1/wake", SLACK).await {
                tracing::debug!(agent = %url, "not woken: {error}");
            }
        });
        join_all(wakes).await;
    }

    /// Wakes every agent, and waits up to `longest` until each has the node fenced. Who has not is logged.
    pub async fn fenced_everywhere(&self, node: &Node, longest: Duration) {
        let waits = self.all().map(|url| async move {
            match self.fenced_at(url, node, longest).await {
                Err(error) => tracing::warn!(agent = %url, %node, "no word of the fence: {error}"),
                Ok(answer) => {
                    for at in answer.proxies.iter().filter(|at| !at.fenced) {
                        let why = one_line(&at.why);
                        tracing::warn!(agent = %url, proxy = %at.proxysql, %node, "not fenced: {why}");
                    }
                }
            }
        });
        join_all(waits).await;
    }

    /// Asks every agent whether it takes the token, and how it guards its ProxySQLs. No agent is woken.
    pub async fn look_at_all(&self) -> Vec<(String, Result<Vec<AgentProxy>, AgentError>)> {
        join_all(self.all().map(async |url| (url.to_string(), self.look_at(url).await))).await
    }

    async fn look_at(&self, url: &AgentUrl) -> Result<Vec<AgentProxy>, AgentError> {
        // The token is looked at before the question, which asks for nothing that there is.
        let (status, body) = self.post(url, "/v1/wake?wait=nothing", SLACK).await?;
        if status != StatusCode::BAD_REQUEST {
            return Err(AgentError::Status(status, one_line(&String::from_utf8_lossy(&body))));
        }
        let (status, body) = self.ask(Method::GET, url, "/status.json", SLACK).await?;
        if status != StatusCode::OK {
            return Err(AgentError::Unreadable(format!("/status.json: {status}")));
        }
        let seen: AgentStatus =
            serde_json::from_slice(&body).map_err(|error| AgentError::Unreadable(error.to_string()))?;
        Ok(seen.proxies)
    }

    /// Wakes an agent, and waits up to `longest` until it has the node fenced.
    ///
    /// # Errors
    /// It gives no answer that counts.
    pub async fn fenced_at(&self, url: &AgentUrl, node: &Node, longest: Duration) -> Result<WakeAnswer, AgentError> {
        let wait_ms = duration::millis(longest.min(WAIT_MAX)).max(1);
        let path = format!("/v1/wake?wait=fenced&node={node}&timeout={wait_ms}ms");
        read(&self.post(url, &path, longest + SLACK).await?)
    }

    /// Has an agent carry out a step of a drain, within `longest`.
    ///
    /// # Errors
    /// It gives no answer that counts.
    pub async fn drain(
        &self,
        url: &AgentUrl,
        step: DrainStep,
        node: &Node,
        longest: Duration,
    ) -> Result<DrainAnswer, AgentError> {
        // One that hangs must not hold up the others for as long as an answer may take.
        self.post(url, "/v1/wake", SLACK).await?;
        let step = match step {
            DrainStep::Prepare => "prepare",
            DrainStep::Go => "go",
        };
        let wait_ms = duration::millis(longest.min(WAIT_MAX)).max(1); // zero is refused
        let path = format!("/v1/drain?node={node}&step={step}&timeout={wait_ms}ms");
        read(&self.post(url, &path, longest + 4 * SLACK).await?)
    }

    /// Makes the monitor of every agent's ProxySQLs check at once. Where that fails is logged.
    pub async fn resume_all(&self) {
        let all = self.all().map(|url| async move {
            let answer = match self.post(url, "/v1/resume", 2 * SLACK).await {
                Ok(answer) => read::<DrainAnswer>(&answer),
                Err(error) => Err(error),
            };
            match answer {
                Err(error) => tracing::warn!(agent = %url, "its monitors are not made to check at once: {error}"),
                Ok(answer) => {
                    for at in answer.proxies {
                        match at.why {
                            None => tracing::info!(agent = %url, proxy = %at.proxysql, "its monitor checks at once"),
                            Some(why) => {
                                let why = one_line(&why);
                                tracing::warn!(agent = %url, proxy = %at.proxysql, "its monitor is not made to check at once: {why}");
                            }
                        }
                    }
                }
            }
        });
        join_all(all).await;
    }

    async fn post(&self, url: &AgentUrl, path: &str, within: Duration) -> Result<(StatusCode, Bytes), AgentError> {
        self.ask(Method::POST, url, path, within).await
    }

    async fn ask(
        &self,
        method: Method,
        url: &AgentUrl,
        path: &str,
        within: Duration,
    ) -> Result<(StatusCode, Bytes), AgentError> {
        let unreached = |error: &dyn std::fmt::Display| AgentError::Unreached(error.to_string());
        let asking = async {
            let connecting = timeout(SLACK, TcpStream::connect((url.0.host.as_str(), url.0.port))).await;
            let connected = connecting.map_err(|_| unreached(&"no connection in time"))?;
            let stream = connected.map_err(|error| unreached(&error))?;
            let (mut sender, connection) = handshake(TokioIo::new(stream)).await.map_err(|error| unreached(&error))?;
            tokio::spawn(async move { drop(connection.await) }); // ends when the sender is dropped
            let mut request = Request::builder().method(method).uri(path).header(HOST, url.0.to_string());
            if let Some(mut value) = self.token.as_ref().and_then(bearer) {
                value.set_sensitive(true);
                request = request.header(AUTHORIZATION, value);
            }
            let request = request.body(Empty::<Bytes>::new()).map_err(|error| unreached(&error))?;
            let answer = sender.send_request(request).await.map_err(|error| unreached(&error))?;
            let status = answer.status();
            let body = Limited::new(answer.into_body(), ANSWER_MAX_BYTES).collect().await;
            Ok((status, body.map_err(|error| AgentError::Unreadable(error.to_string()))?.to_bytes()))
        };
        timeout(within, asking).await.map_err(|_| unreached(&"no answer in time"))?
    }
}

/// The first few, on one line.
fn listed<T: ToString>(all: impl IntoIterator<Item = T>) -> String {
    let all: Vec<String> = all.into_iter().map(|one| one_line(&one.to_string())).collect();
    first_few(&all, all.len(), LISTED_MAX)
}

fn read<T: DeserializeOwned>((status, body): &(StatusCode, Bytes)) -> Result<T, AgentError> {
    match *status {
        StatusCode::OK | StatusCode::GATEWAY_TIMEOUT => {
            serde_json::from_slice(body).map_err(|error| AgentError::Unreadable(error.to_string()))
        }
        status => Err(AgentError::Status(status, one_line(&String::from_utf8_lossy(body)))),
    }
}

fn bearer(token: &Secret) -> Option<HeaderValue> {
    HeaderValue::try_from(format!("Bearer {}", token.expose())).ok()
}

/// What an agent's answer says of one of its ProxySQLs. `by_lease`: when it is out by itself ([`stonith_core::barrier::Barrier::by_lease`]).
pub fn seen_at(at: &WokenProxy, by_lease: impl Fn(u64, u64) -> SelfFence) -> AtProxy {
    let by_itself = match at.out_within_ms {
        Some(within_ms) => by_lease(within_ms, at.out_in_ms.unwrap_or(0)),
        None => SelfFence::Never(NeverReason::NotIsolating),
    };
    match at {
        _ if at.fenced => AtProxy::Fenced,
        _ if at.suspended => AtProxy::Refused(NeverReason::Suspended),
        _ if at.observes => AtProxy::Refused(NeverReason::Observes),
        _ if !at.reached => AtProxy::NotYet(SelfFence::Never(NeverReason::Unreached), one_line(&at.why)),
        _ => AtProxy::NotYet(by_itself, one_line(&at.why)),
    }
}
