//! Orchestrator's HTTP API: which node leads, and what it says.
//!
//! ```text
//! all endpoints: leader-check -> the one that passes: downtimed [, audit-recovery] [, all-instances] -> leader-check
//! ```
//!
//! **Invariant:** an answer counts only if, on the same connection, leader-check held before and after it (I8).
//! Every request is bounded in time and bytes; no redirects, no proxy from the environment.

pub mod answers;
mod asking;
mod check;
mod connection;
mod endpoint;
mod json;
mod tls;

use std::collections::BTreeSet;
use std::time::Duration;

use stonith_core::node::Node;
use stonith_core::observed::{Answer, Backing, Downtime, LeaderView, Recovery};
use stonith_core::superseded::newest;
use stonith_core::wants::Wants;
use tokio::time::Instant;

use crate::secret::Secret;
use answers::{Raft, RaftStatus};
use asking::{Asking, Question, Said};
pub use check::check;
use connection::Connection;
pub use connection::RequestError;
pub use endpoint::{Endpoint, EndpointError};
pub use tls::{TlsError, TlsSettings};

/// Records on a page of the recovery history (FACTS §8).
const PAGE_RECORDS: usize = 20;

/// Pages read at most: 2,000 recoveries, far more than are kept in a week.
const PAGES_MAX: usize = 100;

/// How long an endpoint is waited for that need not be: once another passed leader-check, to see a second leader; and one
/// that did not answer in time when it was last asked, once all others have.
const GRACE: Duration = Duration::from_millis(100);

/// How long the raft's members are waited for, to hear whom they take for the leader.
const RAFT_WAIT: Duration = Duration::from_millis(500);

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
    asking: Asking,
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
    Failed(RequestError),
    /// It was not waited for any longer.
    Pending,
}

impl From<Result<bool, RequestError>> for Probe {
    fn from(said: Result<bool, RequestError>) -> Self {
        match said {
            Ok(true) => Self::Leads,
            Ok(false) => Self::Follows,
            Err(error) => Self::Failed(error),
        }
    }
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
        Ok(Self { asking: Asking::new(settings.endpoints.len()), settings, tls, refused: false })
    }

    /// Takes a password that was read again.
    pub fn set_auth(&mut self, auth: Option<Basic>) {
        self.settings.auth = auth;
        self.asking.close_all();
    }

    /// Whether the last tick is blind because of a 401 or 403.
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
            // The connection that was in use is closed.
            Err(_) => LeaderView::Silent(format!(
                "Orchestrator did not answer all that was asked within orchestrator.tick_timeout ({:?})",
                self.settings.tick_timeout
            )),
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
            [leader] => self.led_by(leader, &probes, asked_ms, wants, served).await,
            [] => self.without_leader(probes).await,
            [one, other, ..] => self.conflict(one, other),
        }
    }

    fn conflict(&self, one: usize, other: usize) -> LeaderView {
        let [one, other] = [one, other].map(|index| &self.settings.endpoints[index]);
        LeaderView::Conflict(format!(
            "{one} and {other} both pass leader-check: unless this ends by itself with an election, one is of another \
             Orchestrator cluster, or they are the same node twice; correct orchestrator.endpoints"
        ))
    }

    /// leader-check of every endpoint, side by side: a hung one costs no more than its own deadline, and hardly anything
    /// once another leads or once it is known to hang.
    async fn probe(&mut self) -> Vec<Probe> {
        self.asking.take_in_late_ones();
        let mut probes: Vec<Probe> = self.settings.endpoints.iter().map(|_| Probe::Pending).collect();
        for index in 0..probes.len() {
            if self.asking.is_free(index) {
                self.ask(index, Question::Leads);
            }
        }
        // Longer than any request takes: each ends by itself.
        let mut until = Instant::now() + self.settings.connect_timeout + self.settings.read_timeout + GRACE;
        loop {
            if self.asking.only_late_ones_are_left() {
                until = until.min(Instant::now() + GRACE);
            }
            let Ok(Some((index, said))) = tokio::time::timeout_at(until, self.asking.next()).await else { break };
            match said {
                Said::Leads(said) => {
                    probes[index] = said.into();
                    if matches!(probes[index], Probe::Leads) {
                        until = until.min(Instant::now() + GRACE);
                    }
                }
                // Left over from the last tick.
                Said::Raft(_) => self.ask(index, Question::Leads),
            }
        }
        probes
    }

    fn ask(&mut self, index: usize, question: Question) {
        self.asking.ask(index, question, &self.settings, self.tls.as_ref());
    }

    /// What the one leader says, and whether it counts.
    async fn led_by(
        &mut self,
        leader: usize,
        probes: &[Probe],
        asked_ms: u64,
        wants: impl FnOnce(&str, &[Downtime]) -> Wants,
        served: &BTreeSet<Node>,
    ) -> LeaderView {
        let name = self.settings.endpoints[leader].to_string();
        // In use it is taken out: if this is cut short, it is closed.
        let Some(mut connection) = self.asking.take(leader) else {
            return LeaderView::Silent(format!("the connection to {name} is gone"));
        };
        let asked = ask_leader(&mut connection, &name, asked_ms, wants, served).await;
        let (mut answer, raft) = match asked {
            Ok(asked) => asked,
            Err(error) => return self.nothing(&[&error], error.to_string()),
        };
        self.asking.put_back(leader, connection);
        if let Some(raft) = raft {
            match self.backing(raft, &name, probes).await {
                Ok(backing) => answer.backing = backing,
                Err(other) => return self.conflict(leader, other),
            }
        }
        LeaderView::Led(answer)
    }

    /// Blind or silent, by what went wrong.
    fn nothing(&mut self, errors: &[&RequestError], why: String) -> LeaderView {
        if errors.iter().all(|error| error.is_unreached()) {
            return LeaderView::Silent(why);
        }
        self.refused = errors.iter().any(|error| error.is_refused());
        LeaderView::Blind(why)
    }

    /// Whether a majority of the raft nodes name this leader; a second leader is an error.
    async fn backing(
        &mut self,
        raft: Result<Raft, RequestError>,
        name: &str,
        probes: &[Probe],
    ) -> Result<Backing, usize> {
        let own = match raft {
            Ok(Raft::On(own)) => own,
            Ok(Raft::Off) => return Ok(Backing::Single),
            Err(_) => return Ok(Backing::Unconfirmed),
        };
        let configured = self.settings.endpoints.len();
        let majority = majority(own.peers, configured);
        if configured < majority {
            return Ok(Backing::Single);
        }
        if own.leader.is_empty() {
            return Ok(Backing::Unconfirmed);
        }
        // By their own names: two endpoints can be one node.
        let mut named = BTreeSet::from([raft_name(&own, name)]);
        if named.len() < majority {
            self.hear_raft(probes, |other_name, other| {
                if other.leader == own.leader {
                    named.insert(raft_name(&other, other_name));
                }
                named.len() >= majority
            })
            .await?;
        }
        Ok(if named.len() >= majority { Backing::Majority } else { Backing::Unconfirmed })
    }

    /// Asks those that follow whom they take for the leader, until `enough` or [`RAFT_WAIT`] is over. Who passes
    /// leader-check only now is an error.
    async fn hear_raft(
        &mut self,
        probes: &[Probe],
        mut enough: impl FnMut(&str, RaftStatus) -> bool,
    ) -> Result<(), usize> {
        for (index, probe) in probes.iter().enumerate() {
            if matches!(probe, Probe::Follows) {
                self.ask(index, Question::Raft);
            }
        }
        let until = Instant::now() + RAFT_WAIT;
        while !self.asking.only_late_ones_are_left() {
            let Ok(Some((index, said))) = tokio::time::timeout_at(until, self.asking.next()).await else { break };
            match said {
                Said::Raft(Ok(Raft::On(status))) => {
                    if enough(&self.settings.endpoints[index].to_string(), status) {
                        break;
                    }
                }
                Said::Leads(Ok(true)) => return Err(index),
                Said::Leads(Ok(false)) => self.ask(index, Question::Raft),
                Said::Raft(_) | Said::Leads(Err(_)) => {}
            }
        }
        Ok(())
    }

    /// Nobody passed leader-check: leaderless, blind or silent?
    async fn without_leader(&mut self, probes: Vec<Probe>) -> LeaderView {
        let (mut leaderless, mut peers) = (BTreeSet::new(), 0);
        let configured = probes.len();
        let heard = self.hear_raft(&probes, |name, status| {
            peers = peers.max(status.peers);
            if status.leader.is_empty() {
                leaderless.insert(raft_name(&status, name));
            }
            leaderless.len() >= majority(peers, configured)
        });
        // One that passes leader-check only now is asked in the next tick.
        if heard.await.is_ok() && leaderless.len() >= majority(peers, configured) {
            return LeaderView::Leaderless;
        }
        let said = probes.iter().zip(&self.settings.endpoints).map(|(probe, endpoint)| match probe {
            Probe::Follows => format!("Orchestrator at {endpoint} answers that it does not lead"),
            Probe::Failed(error) => error.to_string(),
            Probe::Pending => {
                format!("Orchestrator at {endpoint} did not answer in time before, and has not yet")
            }
            Probe::Leads => format!("Orchestrator at {endpoint} leads"),
        });
        let said = said.collect::<Vec<_>>().join("; ");
        let errors: Vec<&RequestError> =
            probes.iter().filter_map(|p| if let Probe::Failed(error) = p { Some(error) } else { None }).collect();
        self.nothing(&errors, said)
    }
}

/// How many raft nodes are a majority of these; without a number, of the endpoints.
fn majority(peers: usize, endpoints: usize) -> usize {
    let members = if peers == 0 { endpoints } else { peers };
    members / 2 + 1
}

/// What names a raft member; one that doesn't say goes by its endpoint.
fn raft_name(status: &RaftStatus, endpoint: &str) -> String {
    if status.node.is_empty() { endpoint.to_owned() } else { status.node.clone() }
}

/// What the leader says, between two leader-checks on one connection (the first one is done), and what it says of the
/// raft, if wanted.
async fn ask_leader(
    connection: &mut Connection,
    name: &str,
    asked_ms: u64,
    wants: impl FnOnce(&str, &[Downtime]) -> Wants,
    served: &BTreeSet<Node>,
) -> Result<(Answer, Option<Result<Raft, RequestError>>), RequestError> {
    let downtimed = connection.get("downtimed").await?;
    let date_s = downtimed.date_s;
    let downtimes = downtimed.read(|body| answers::downtimes(body, date_s))?;
    let wants = wants(name, &downtimes);
    let history = if wants.history { Some(history(connection, served).await?) } else { None };
    let instances = match wants.instances {
        true => Some(connection.get("all-instances").await?.read(answers::instances)?),
        false => None,
    };
    let raft = match wants.backing {
        true => Some(match connection.raft().await {
            // No closing check on it.
            Err(error) if error.is_the_end_of_the_connection() => return Err(error),
            said => said,
        }),
        false => None,
    };
    // The closing check: nothing above counts unless it still leads, on this very connection.
    if !connection.get("leader-check").await?.leads()? {
        return Err(RequestError::LostTheLead { endpoint: name.to_owned() });
    }
    let backing = Backing::Unconfirmed;
    Ok((
        Answer {
            leader: name.to_owned(),
            asked_ms,
            date_s,
            backing,
            downtimes,
            history,
            instances,
            skipped: Vec::new(),
        },
        raft,
    ))
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
