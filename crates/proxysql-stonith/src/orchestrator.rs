//! The client of Orchestrator's HTTP API: which node leads, and what the leader answers.
//!
//! ```text
//! all endpoints: leader-check -> the one that leads, or a follower that relays to it (routed-leader-check)
//!   downtimed, check                                     -> the lease, and who is downtimed
//!   [raft-status] [all-instances] [audit-recovery/0, ..]  -> side questions, with a check after each
//! nobody leads: raft-status [, health] of each           -> can anybody promote? (docs/what-came-back.md)
//! ```
//!
//! **Invariant:** an answer counts only if, on the same connection, the check held before and after it (I8). A side
//! question that is slow, fails or is cut off costs no lease.
//! Every request is bounded in time and bytes. Redirects are not followed, and proxies of the environment are ignored.

pub mod answers;
mod aside;
mod asking;
mod came_back;
mod check;
mod connection;
mod endpoint;
mod error;
mod json;
mod leaders;
mod response;
mod survey;
mod tags;
mod tls;
mod voices;
mod way;
mod writer;

use std::sync::Arc;
use std::time::Duration;

use stonith_core::decide::LeaderQuery;
use stonith_core::orchestrator::{
    BlindCause, CameBackKind, ConflictCause, Counts, Downtime, HistoryProgress, LeaderView, SilentCause,
};
use tokio::time::{Instant, timeout, timeout_at};

use crate::secret::Credential;
use crate::tls::ReadFiles;
pub use answers::{BlockedRecovery, ClusterRecovery};
use answers::{Raft, RaftStatus, WhyNot};
use asking::{Asking, Question, Said};
use came_back::{CameBack, nobody_can_lead};
pub use check::check;
pub use endpoint::{Endpoint, EndpointError};
pub use error::RequestError;
pub use leaders::LeaderError;
pub use survey::{EndpointSeen, Problem, RaftSeen, RecoverySeen, Survey, survey};
pub use tags::Tags;
pub use tls::{TlsError, TlsSettings};
use way::{LeadCheck, Marks, Way};
pub use writer::{Mark, MarkWriter};

/// How much longer the client waits for the rest of the endpoints.
///
/// It applies once an endpoint passed leader-check, to notice a second leader. It also applies once only endpoints are
/// left that were late the last time.
const GRACE: Duration = Duration::from_millis(100);

/// How long the client waits to hear which leader the raft's members name.
const RAFT_WAIT: Duration = Duration::from_millis(500);

/// How long the client waits for a follower that relays to the leader. If the leader hangs, the follower never answers.
const RELAY_WAIT: Duration = Duration::from_secs(1);

/// The settings to reach Orchestrator.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Orchestrator's nodes.
    pub endpoints: Vec<Endpoint>,
    /// The credential for basic auth.
    pub auth: Option<Credential>,
    /// The settings for https.
    pub tls: TlsSettings,
    /// The longest time to connect.
    pub connect_timeout: Duration,
    /// The longest wait for one answer.
    pub read_timeout: Duration,
    /// The longest time that one tick asks.
    pub tick_timeout: Duration,
}

/// Why another host may answer in Orchestrator's place; `None` if TLS or this host's own network prevents it.
pub fn unverified(endpoints: &[Endpoint], is_any_certificate_good: bool, has_password: bool) -> Option<String> {
    let is_tls = endpoints.iter().any(Endpoint::is_https);
    let what = match endpoints.iter().find(|endpoint| endpoint.is_open()) {
        Some(endpoint) => format!("{endpoint} is plain HTTP"),
        None if is_tls && is_any_certificate_good => "orchestrator.tls_verify is false".to_owned(),
        None => return None,
    };
    let password = if has_password { ", and read Orchestrator's password" } else { "" };
    Some(format!(
        "{what}: anyone on the network path to Orchestrator can fence and unfence nodes{password}. Use https:// with \
         orchestrator.ca_file, or a network that you trust"
    ))
}

/// The client of one agent. It keeps a connection per endpoint.
pub struct Client {
    settings: Arc<Settings>,
    asking: Asking,
    tls: Option<tokio_rustls::TlsConnector>,
    tls_files: ReadFiles,
    refused: bool,
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client").field("settings", &self.settings).finish_non_exhaustive()
    }
}

/// A way to the leader, and what the endpoints answered until it was found.
struct LeaderPath {
    way: Way,
    /// The index of its endpoint.
    index: usize,
    marks: Marks,
    came_back: Vec<CameBack>,
}

impl Client {
    /// Makes a client; loads CAs if an endpoint is https.
    ///
    /// # Errors
    /// A certificate or key can't be read.
    pub fn new(settings: Settings) -> Result<Self, TlsError> {
        let tls_files = settings.tls.files();
        let tls = settings
            .endpoints
            .iter()
            .any(|endpoint| endpoint.is_https())
            .then(|| tls::connector(&settings.tls))
            .transpose()?;
        let asking = Asking::new(settings.endpoints.len());
        Ok(Self { asking, settings: Arc::new(settings), tls, tls_files, refused: false })
    }

    /// Reads the certificates again if one of their files has changed. Files that do not fit each other are read once
    /// more in the next tick, and until then the old ones count.
    fn read_certificates_again(&mut self) {
        let Some(files) = self.tls_files.changed().filter(|_| self.tls.is_some()) else { return };
        if let Ok(connector) = tls::connector(&self.settings.tls) {
            (self.tls, self.tls_files) = (Some(connector), files);
            self.asking.close_all();
        }
    }

    /// Sets a credential that was read again.
    pub fn set_auth(&mut self, auth: Option<Credential>) {
        Arc::make_mut(&mut self.settings).auth = auth;
        self.asking.close_all();
    }

    /// See [`unverified`].
    pub fn unverified(&self) -> Option<String> {
        let Settings { endpoints, tls, auth, .. } = &*self.settings;
        unverified(endpoints, tls.insecure, auth.is_some())
    }

    /// Whether the last tick was blind because of a 401 or 403.
    pub fn refused(&self) -> bool {
        self.refused
    }

    /// Asks which node leads, and what it answers, once per tick.
    ///
    /// `query` returns the side questions, given the downtimed nodes. `known` is how far the history was read before.
    pub async fn look(
        &mut self,
        now_ms: impl Fn() -> u64,
        query: impl FnOnce(&str, &[Downtime]) -> LeaderQuery,
        known: &HistoryProgress,
    ) -> LeaderView {
        self.read_certificates_again();
        let deadline = Instant::now() + self.settings.tick_timeout;
        let asked_ms = now_ms();
        self.refused = false;
        match timeout_at(deadline, self.find()).await {
            Ok(Ok(found)) => self.ask_more(found, asked_ms, query, known, deadline).await,
            Ok(Err(view)) => view,
            // The connection in use is closed by this.
            Err(_) => LeaderView::Silent(SilentCause::TickTimeout(self.settings.tick_timeout)),
        }
    }

    /// Finds a way to the leader.
    ///
    /// If no node leads or relays, kept connections are opened anew: an address that several nodes share may now reach
    /// another node.
    async fn find(&mut self) -> Result<LeaderPath, LeaderView> {
        let began = Instant::now();
        let mut came_back: Vec<_> = self.settings.endpoints.iter().map(|_| CameBack::Pending).collect();
        loop {
            self.probe(&mut came_back).await;
            let leads = |(index, one): (usize, &CameBack)| matches!(one, CameBack::Leads).then_some(index);
            let leaders: Vec<usize> = came_back.iter().enumerate().filter_map(leads).collect();
            match leaders[..] {
                [] => {}
                [index] => match self.led_by(index).await {
                    Ok((way, marks)) => return Ok(LeaderPath { way, index, marks, came_back }),
                    Err(error) if error.kind() == CameBackKind::LostTheLead => {
                        came_back[index] = CameBack::Failed(error)
                    }
                    Err(error) => return Err(self.view_of(&[CameBack::Failed(error)], &[index])),
                },
                [one, other, ..] => return Err(self.conflict(one, other)),
            }
            self.ask_why_not(&mut came_back).await;
            if let Some((way, index, marks)) = self.relayed(&mut came_back).await {
                return Ok(LeaderPath { way, index, marks, came_back });
            }
            if nobody_can_lead(&came_back, &self.names()) || !self.forget_kept(&mut came_back, began) {
                let all: Vec<usize> = (0..came_back.len()).collect();
                return Err(self.view_of(&came_back, &all));
            }
        }
    }

    fn names(&self) -> Vec<String> {
        self.settings.endpoints.iter().map(ToString::to_string).collect()
    }

    fn conflict(&self, one: usize, other: usize) -> LeaderView {
        let [one, other] = [one, other].map(|index| self.settings.endpoints[index].to_string());
        LeaderView::Conflict(ConflictCause::TwoLeaders { one, other })
    }

    /// Sends leader-check to every endpoint without an answer yet, side by side.
    ///
    /// A hung endpoint costs its own deadline at most, and only [`GRACE`] once another one leads or if it hung before.
    async fn probe(&mut self, came_back: &mut [CameBack]) {
        self.asking.take_in_late_ones();
        for (index, one) in came_back.iter().enumerate() {
            if matches!(one, CameBack::Pending) && self.asking.is_free(index) {
                self.ask(index, Question::Leads);
            }
        }
        // This is longer than any request takes: each request ends by itself.
        let mut until = Instant::now() + self.settings.connect_timeout + self.settings.read_timeout + GRACE;
        loop {
            if self.asking.only_late_ones_are_left() {
                until = until.min(Instant::now() + GRACE);
            }
            let Ok(Some((index, said))) = timeout_at(until, self.asking.next()).await else { break };
            match said {
                Said::Leads(Ok(true)) => {
                    came_back[index] = CameBack::Leads;
                    until = until.min(Instant::now() + GRACE);
                }
                Said::Leads(Ok(false)) => came_back[index] = CameBack::NotLeader,
                Said::Leads(Err(error)) => came_back[index] = CameBack::Failed(error),
                // This answer is left over from the last tick.
                Said::WhyNot(_) => self.ask(index, Question::Leads),
            }
        }
    }

    fn ask(&mut self, index: usize, question: Question) {
        self.asking.ask(index, question, &self.settings, self.tls.as_ref());
    }

    /// Makes a way over an endpoint's connection. The connection is taken out, so an interrupted use closes it.
    fn way(&mut self, index: usize, check: LeadCheck) -> Result<Way, RequestError> {
        let connection = self.asking.take(index).ok_or_else(|| RequestError::Unreached {
            endpoint: self.settings.endpoints[index].to_string(),
            cause: "its connection is gone".to_owned(),
        })?;
        Ok(Way::new(connection, check, index, self.settings.clone(), self.tls.clone()))
    }

    /// Asks the endpoint that has just passed leader-check.
    async fn led_by(&mut self, index: usize) -> Result<(Way, Marks), RequestError> {
        let mut way = self.way(index, LeadCheck::Leads)?;
        match way.marks().await {
            Ok(marks) => Ok((way, marks)),
            Err(error) => {
                if !error.is_the_end_of_the_connection() {
                    self.asking.put_back(index, way.into_connection());
                }
                Err(error)
            }
        }
    }

    /// Asks every endpoint that does not lead for the reason.
    async fn ask_why_not(&mut self, came_back: &mut [CameBack]) {
        for (index, one) in came_back.iter().enumerate() {
            if (one.does_not_lead() || one.kind() == CameBackKind::LostTheLead) && self.asking.is_free(index) {
                self.ask(index, Question::WhyNot);
            }
        }
        let until = Instant::now() + RAFT_WAIT;
        while !self.asking.only_late_ones_are_left() {
            let Ok(Some((index, said))) = timeout_at(until, self.asking.next()).await else { break };
            match said {
                Said::WhyNot(Ok(WhyNot::Raft(status))) => came_back[index] = CameBack::Follows(status),
                Said::WhyNot(Ok(WhyNot::NoRaft(health))) => came_back[index] = CameBack::Passive(health),
                Said::Leads(Ok(false)) => {
                    came_back[index] = CameBack::NotLeader;
                    self.ask(index, Question::WhyNot);
                }
                // An endpoint that passes leader-check only now is asked in the next tick.
                Said::Leads(Ok(true)) | Said::WhyNot(Err(_)) => {}
                Said::Leads(Err(error)) => came_back[index] = CameBack::Failed(error),
            }
        }
    }

    /// The way over the first follower that relays to the leader. The follower names the same leader before and after.
    async fn relayed(&mut self, came_back: &mut [CameBack]) -> Option<(Way, usize, Marks)> {
        for (index, one) in came_back.iter_mut().enumerate() {
            let leader = match one {
                CameBack::Follows(RaftStatus { leader, .. }) if !leader.is_empty() => leader.clone(),
                _ => continue,
            };
            let error = match self.relayed_by(index, &leader).await {
                Ok((way, marks)) => return Some((way, index, marks)),
                Err(error) => error,
            };
            // The leader that the other followers name will not be quicker.
            let is_late = error.is_late();
            *one = CameBack::Failed(error);
            if is_late {
                break;
            }
        }
        None
    }

    async fn relayed_by(&mut self, index: usize, leader: &str) -> Result<(Way, Marks), RequestError> {
        let mut way = self.way(index, LeadCheck::Relays)?.named(leader);
        let endpoint = way.endpoint().to_string();
        timeout(RELAY_WAIT, way.check()).await.map_err(|_| RequestError::Late {
            endpoint: endpoint.clone(),
            what: format!("relay to the leader {leader}"),
            within: RELAY_WAIT,
        })??;
        let marks = way.marks().await?;
        match way.raft().await? {
            Raft::On(status) if status.leader == leader => Ok((way, marks)),
            _ => Err(RequestError::LostTheLead { endpoint }),
        }
    }

    /// Closes the kept connections to nodes that do not lead. Returns whether there were any.
    fn forget_kept(&mut self, came_back: &mut [CameBack], began: Instant) -> bool {
        let mut any = false;
        for (index, one) in came_back.iter_mut().enumerate() {
            let is_kept =
                one.does_not_lead() || matches!(one.kind(), CameBackKind::LostTheLead | CameBackKind::NotRelayed);
            if is_kept && self.asking.close_if_older(index, began) {
                *one = CameBack::Pending;
                any = true;
            }
        }
        any
    }

    /// The view if no node leads: leaderless, blind or silent.
    fn view_of(&mut self, came_back: &[CameBack], of: &[usize]) -> LeaderView {
        let names = self.names();
        if nobody_can_lead(came_back, &names) {
            return LeaderView::Leaderless;
        }
        let answers = came_back.iter().zip(of).map(|(one, index)| one.answer(&names[*index])).collect();
        self.refused = came_back.iter().any(|one| one.kind() == CameBackKind::Refused);
        match came_back.iter().any(|one| one.kind().counts() == Counts::Blind) {
            true => LeaderView::Blind(BlindCause::Answers(answers)),
            false => LeaderView::Silent(SilentCause::Answers(answers)),
        }
    }
}
