//! Orchestrator's HTTP API: which node leads, and what it says.
//!
//! ```text
//! all endpoints: leader-check -> the one that passes: downtimed [, audit-recovery] [, all-instances] -> leader-check
//! ```
//!
//! **Invariant:** an answer counts only if, on the same connection, leader-check held before and after it (I8).
//! Every request is bounded in time and bytes; no redirects, no proxy from the environment.

mod answers;
mod connection;
mod endpoint;
mod tls;

use std::collections::BTreeSet;
use std::time::Duration;

use stonith_core::node::Node;
use stonith_core::observed::{Answer, Backing, Downtime, LeaderView, Recovery};
use stonith_core::superseded::newest;
use stonith_core::wants::Wants;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::secret::Secret;
use answers::RaftStatus;
pub use connection::RequestError;
use connection::{Connection, Response};
pub use endpoint::{Endpoint, EndpointError};
pub use tls::{TlsError, TlsSettings};

/// Records on a page of the recovery history (FACTS §8).
const PAGE_RECORDS: usize = 20;

/// Pages read at most: 2,000 recoveries, far more than are kept in a week.
const PAGES_MAX: usize = 100;

/// Once one endpoint passed leader-check, how long the others are waited for, to see a second leader.
const SECOND_LEADER_GRACE: Duration = Duration::from_millis(100);

/// How to reach Orchestrator.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Its nodes.
    pub endpoints: Vec<Endpoint>,
    /// For basic auth.
    pub auth: Option<Basic>,
    /// For https.
    pub tls: TlsSettings,
    /// The longest connect.
    pub connect_timeout: Duration,
    /// The longest wait for one answer.
    pub read_timeout: Duration,
    /// The longest time that a tick asks.
    pub tick_timeout: Duration,
}

/// A user and a password.
#[derive(Debug, Clone)]
pub struct Basic {
    /// The user.
    pub user: String,
    /// The password.
    pub password: Secret,
}

/// The client of one loop; keeps a connection per endpoint.
pub struct Client {
    settings: Settings,
    connections: Vec<Option<Connection>>,
    tls: Option<tokio_rustls::TlsConnector>,
    refused: bool,
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client").field("settings", &self.settings).finish_non_exhaustive()
    }
}

/// What an endpoint said to leader-check.
#[derive(Debug)]
enum Probe {
    Leads,
    Follows,
    Unusable(String),
    Unreached(String),
}

impl Client {
    /// A client; loads CAs if some endpoint is https.
    ///
    /// # Errors
    /// A certificate or key can't be read.
    pub fn new(settings: Settings) -> Result<Self, TlsError> {
        let tls = settings
            .endpoints
            .iter()
            .any(|endpoint| endpoint.is_https())
            .then(|| tls::connector(&settings.tls))
            .transpose()?;
        let connections = settings.endpoints.iter().map(|_| None).collect();
        Ok(Self { settings, connections, tls, refused: false })
    }

    /// Takes a password that was read again.
    pub fn set_auth(&mut self, auth: Option<Basic>) {
        self.settings.auth = auth;
        self.connections.fill_with(|| None);
    }

    /// Whether the last tick was refused with 401 or 403.
    pub fn refused(&self) -> bool {
        self.refused
    }

    /// One tick: who leads, and what it says. `wants` says what else to ask once it is known who is downtimed.
    pub async fn look(
        &mut self,
        now_ms: impl Fn() -> u64,
        wants: impl FnOnce(&str, &[Downtime]) -> Wants,
        served: &BTreeSet<Node>,
    ) -> LeaderView {
        let deadline = Instant::now() + self.settings.tick_timeout;
        self.refused = false;
        match tokio::time::timeout_at(deadline, self.look_unbounded(now_ms, wants, served)).await {
            Ok(view) => view,
            Err(_) => {
                self.connections.fill_with(|| None);
                LeaderView::Silent(format!(
                    "no answer within orchestrator.tick_timeout ({:?})",
                    self.settings.tick_timeout
                ))
            }
        }
    }

    async fn look_unbounded(
        &mut self,
        now_ms: impl Fn() -> u64,
        wants: impl FnOnce(&str, &[Downtime]) -> Wants,
        served: &BTreeSet<Node>,
    ) -> LeaderView {
        let asked_ms = now_ms();
        let probes = self.probe().await;
        let leaders: Vec<usize> =
            probes.iter().enumerate().filter(|(_, p)| matches!(p, Probe::Leads)).map(|(i, _)| i).collect();
        match leaders[..] {
            [leader] => match self.ask_leader(leader, asked_ms, wants, served).await {
                Ok(answer) => LeaderView::Led(answer),
                Err(error) => {
                    self.connections[leader] = None;
                    self.refused |= error.is_refused();
                    if error.is_unreached() {
                        LeaderView::Silent(error.to_string())
                    } else {
                        LeaderView::Blind(error.to_string())
                    }
                }
            },
            [] => self.without_leader(&probes).await,
            _ => {
                let names: Vec<String> = leaders.iter().map(|i| self.settings.endpoints[*i].to_string()).collect();
                LeaderView::Conflict(format!(
                    "{} both pass leader-check; is one of another Orchestrator cluster?",
                    names.join(" and ")
                ))
            }
        }
    }

    /// leader-check of every endpoint, side by side: a hung one costs no more than its own deadline, and nothing once
    /// another leads.
    async fn probe(&mut self) -> Vec<Probe> {
        let mut probes: Vec<Probe> =
            self.connections.iter().map(|_| Probe::Unreached("no answer in time".to_owned())).collect();
        let mut asking = JoinSet::new();
        for index in 0..self.connections.len() {
            asking.spawn(self.request_on(index, "leader-check"));
        }
        let mut deadline = Instant::now() + self.settings.connect_timeout + self.settings.read_timeout;
        while let Ok(Some(joined)) = tokio::time::timeout_at(deadline, asking.join_next()).await {
            let Ok((index, connection, result)) = joined else { continue };
            self.connections[index] = connection;
            probes[index] = match result {
                Ok(response) if response.status == 200 => {
                    deadline = deadline.min(Instant::now() + SECOND_LEADER_GRACE);
                    Probe::Leads
                }
                Ok(response) if response.status == 404 => Probe::Follows,
                Ok(response) => {
                    let error = response.unexpected();
                    self.refused |= error.is_refused();
                    Probe::Unusable(error.to_string())
                }
                Err(error) if error.is_unreached() => Probe::Unreached(error.to_string()),
                Err(error) => Probe::Unusable(error.to_string()),
            };
        }
        probes
    }

    /// Sends one request on an endpoint's connection, made anew if need be.
    fn request_on(
        &mut self,
        index: usize,
        path: &'static str,
    ) -> impl Future<Output = (usize, Option<Connection>, Result<Response, RequestError>)> + Send + use<> {
        let kept = self.connections[index].take();
        let endpoint = self.settings.endpoints[index].clone();
        let (settings, tls) = (self.settings.clone(), self.tls.clone());
        async move {
            if let Some(mut connection) = kept
                && let Ok(response) = connection.get(path).await
            {
                return (index, Some(connection), Ok(response));
            }
            match Connection::open(&endpoint, &settings, tls.as_ref()).await {
                Ok(mut connection) => match connection.get(path).await {
                    Ok(response) => (index, Some(connection), Ok(response)),
                    Err(error) => (index, None, Err(error)),
                },
                Err(error) => (index, None, Err(error)),
            }
        }
    }

    async fn ask_leader(
        &mut self,
        leader: usize,
        asked_ms: u64,
        wants: impl FnOnce(&str, &[Downtime]) -> Wants,
        served: &BTreeSet<Node>,
    ) -> Result<Answer, RequestError> {
        let name = self.settings.endpoints[leader].to_string();
        let connection =
            self.connections[leader].as_mut().ok_or_else(|| RequestError::lost(&name, "the connection is gone"))?;
        let downtimed = connection.get("downtimed").await?;
        let date_s = downtimed.date_s;
        let downtimes = downtimed.read(|body| answers::downtimes(body, date_s))?;
        let wants = wants(&name, &downtimes);
        let history = if wants.history { Some(history(connection, served).await?) } else { None };
        let instances = match wants.instances {
            true => Some(connection.get("all-instances").await?.read(answers::instances)?),
            false => None,
        };
        let peers = if wants.backing { Some(connection.get("raft-status").await?) } else { None };
        // The closing check: nothing above counts unless it still leads, on this very connection.
        let closing = connection.get("leader-check").await?;
        if closing.status != 200 {
            return Err(RequestError::lost(&name, "it lost the lead while it answered"));
        }
        let backing = match peers {
            Some(response) => self.backing(leader, &response).await,
            None => Backing::Unconfirmed,
        };
        Ok(Answer { leader: name, asked_ms, date_s, backing, downtimes, history, instances })
    }

    /// Whether a majority of the raft nodes name this leader.
    async fn backing(&mut self, leader: usize, its_own: &Response) -> Backing {
        let configured = self.settings.endpoints.len();
        let Some(status) = its_own.raft_status() else { return Backing::Single };
        let peers = status.peers.max(configured);
        let majority = peers / 2 + 1;
        if configured < majority {
            return Backing::Single;
        }
        let statuses = self.raft_statuses(Some(leader)).await;
        let named =
            statuses.iter().flatten().filter(|other| other.leader == status.leader && !other.leader.is_empty()).count();
        if named + 1 >= majority && !status.leader.is_empty() { Backing::Majority } else { Backing::Unconfirmed }
    }

    /// raft-status of every endpoint but one, side by side.
    async fn raft_statuses(&mut self, but: Option<usize>) -> Vec<Option<RaftStatus>> {
        let mut statuses: Vec<Option<RaftStatus>> = self.connections.iter().map(|_| None).collect();
        let mut asking = JoinSet::new();
        for index in (0..self.connections.len()).filter(|index| Some(*index) != but) {
            asking.spawn(self.request_on(index, "raft-status"));
        }
        // Enough for those that are well; a hung one doesn't hold the tick up for long.
        let deadline = Instant::now() + self.settings.read_timeout.min(Duration::from_millis(500));
        while let Ok(Some(joined)) = tokio::time::timeout_at(deadline, asking.join_next()).await {
            let Ok((index, connection, result)) = joined else { continue };
            self.connections[index] = connection;
            statuses[index] = result.ok().and_then(|response| response.raft_status());
        }
        statuses
    }

    /// Nobody passed leader-check: leaderless, blind or silent?
    async fn without_leader(&mut self, probes: &[Probe]) -> LeaderView {
        let configured = self.settings.endpoints.len();
        if configured > 1 {
            let statuses = self.raft_statuses(None).await;
            let leaderless = statuses.iter().flatten().filter(|status| status.leader.is_empty()).count();
            let peers = statuses.iter().flatten().map(|status| status.peers).max().unwrap_or(0);
            if leaderless > peers.max(configured) / 2 {
                return LeaderView::Leaderless;
            }
        }
        let unusable: Vec<&str> = probes
            .iter()
            .filter_map(|p| if let Probe::Unusable(why) = p { Some(why.as_str()) } else { None })
            .collect();
        if !unusable.is_empty() {
            return LeaderView::Blind(unusable.join("; "));
        }
        let said: Vec<String> = probes
            .iter()
            .zip(&self.settings.endpoints)
            .map(|(probe, endpoint)| match probe {
                Probe::Follows => format!("{endpoint} answers that it does not lead"),
                Probe::Unreached(why) => why.clone(),
                Probe::Leads | Probe::Unusable(_) => String::new(),
            })
            .collect();
        LeaderView::Silent(said.join("; "))
    }
}

/// The recovery history, page by page, until every served node is settled.
async fn history(connection: &mut Connection, served: &BTreeSet<Node>) -> Result<Vec<Recovery>, RequestError> {
    let mut records: Vec<Recovery> = Vec::new();
    for page in 0..PAGES_MAX {
        let (read, of) = connection.get(&format!("audit-recovery/{page}")).await?.read(answers::recoveries)?;
        records.extend(read);
        if of < PAGE_RECORDS || served.iter().all(|node| newest(&records, node).is_some()) {
            break;
        }
    }
    Ok(records)
}
