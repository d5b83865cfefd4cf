//! Orchestrator's HTTP API: which node leads, and what it says.
//!
//! ```text
//! all endpoints: leader-check -> the one that leads, or a follower that relays to it (routed-leader-check)
//!   downtimed, check                                     -> the lease, and who is downtimed
//!   [raft-status] [all-instances] [audit-recovery/0, ..]  -> side questions, a check after each
//! nobody leads: raft-status [, health] of each           -> can anybody promote? (docs/what-came-back.md)
//! ```
//!
//! **Invariant:** an answer counts only if, on the same connection, the check held before and after it (I8). A side
//! question that is slow, fails or is cut off costs no lease.
//! Every request is bounded in time and bytes; no redirects, no proxy from the environment.

pub mod answers;
mod asking;
pub mod came_back;
mod check;
mod connection;
mod endpoint;
mod json;
mod tls;
mod voices;
mod way;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use stonith_core::decide::LeaderQuery;
use stonith_core::orchestrator::{
    Answer, AnswerPart, Backing, Downtime, HistoryProgress, Instance, LeaderView, RecoveryHistory, SkippedEntry,
};
use tokio::time::{Instant, timeout, timeout_at};

use crate::secret::Secret;
use answers::{Entries, Raft, RaftStatus, WhyNot};
use asking::{Asking, Question, Said};
use came_back::{CameBack, Counts, Kind, nobody_can_lead};
pub use check::check;
use connection::Connection;
pub use connection::RequestError;
pub use endpoint::{Endpoint, EndpointError};
pub use tls::{TlsError, TlsSettings};
use voices::Voices;
use way::{Check, Marks, Way};

/// How long an endpoint is waited for that need not be: once another passed leader-check, to see a second leader; and one
/// that did not answer in time when it was last asked, once all others have.
const GRACE: Duration = Duration::from_millis(100);

/// How long the raft's members are waited for, to hear whom they take for the leader.
const RAFT_WAIT: Duration = Duration::from_millis(500);

/// How long a follower is waited for that relays to a leader: a leader that hangs leaves it without an answer.
const RELAY_WAIT: Duration = Duration::from_secs(1);

/// After so long no further page of the history is begun in a tick.
const HISTORY_WAIT: Duration = Duration::from_millis(500);

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

/// Why an answer may be another's than Orchestrator's, in words; `None` where TLS or this host's own network vouches.
pub fn unverified(endpoints: &[Endpoint], is_any_certificate_good: bool, has_password: bool) -> Option<String> {
    let is_tls = endpoints.iter().any(Endpoint::is_https);
    let what = match endpoints.iter().find(|endpoint| endpoint.is_open()) {
        Some(endpoint) => format!("{endpoint} is plain HTTP"),
        None if is_tls && is_any_certificate_good => "orchestrator.tls_verify is false".to_owned(),
        None => return None,
    };
    let password = if has_password { ", and read Orchestrator's password" } else { "" };
    Some(format!(
        "{what}: whoever is on the network path to Orchestrator can fence and unfence nodes{password}. Use https:// with \
         orchestrator.ca_file, or a network that you trust"
    ))
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
    settings: Arc<Settings>,
    asking: Asking,
    tls: Option<tokio_rustls::TlsConnector>,
    refused: bool,
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client").field("settings", &self.settings).finish_non_exhaustive()
    }
}

/// A way to the leader, and what was heard until it was found.
struct Found {
    way: Way,
    /// The endpoint that it goes over.
    index: usize,
    marks: Marks,
    came_back: Vec<CameBack>,
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
        Ok(Self { asking: Asking::new(settings.endpoints.len()), settings: Arc::new(settings), tls, refused: false })
    }

    /// Takes a password that was read again.
    pub fn set_auth(&mut self, auth: Option<Basic>) {
        Arc::make_mut(&mut self.settings).auth = auth;
        self.asking.close_all();
    }

    /// See [`unverified`].
    pub fn unverified(&self) -> Option<String> {
        let Settings { endpoints, tls, auth, .. } = &*self.settings;
        unverified(endpoints, tls.insecure, auth.is_some())
    }

    /// Whether the last tick is blind because of a 401 or 403.
    pub fn refused(&self) -> bool {
        self.refused
    }

    /// One tick: who leads, and what it says. `query` says what else to ask once it is known who is downtimed; `known`,
    /// how far the history was read before.
    pub async fn look(
        &mut self,
        now_ms: impl Fn() -> u64,
        query: impl FnOnce(&str, &[Downtime]) -> LeaderQuery,
        known: &HistoryProgress,
    ) -> LeaderView {
        let deadline = Instant::now() + self.settings.tick_timeout;
        let asked_ms = now_ms();
        self.refused = false;
        match timeout_at(deadline, self.find()).await {
            Ok(Ok(found)) => self.ask_more(found, asked_ms, query, known, deadline).await,
            Ok(Err(view)) => view,
            // The connection that was in use is closed.
            Err(_) => LeaderView::Silent(format!(
                "Orchestrator did not answer all that was asked within orchestrator.tick_timeout ({:?})",
                self.settings.tick_timeout
            )),
        }
    }

    /// Finds a way to the leader. Where nobody leads or relays, what the kept connections end at is looked up once more:
    /// an address that several nodes share may lead to another one by now.
    async fn find(&mut self) -> Result<Found, LeaderView> {
        let began = Instant::now();
        let mut came_back: Vec<_> = self.settings.endpoints.iter().map(|_| CameBack::Pending).collect();
        loop {
            self.probe(&mut came_back).await;
            let leads = |(index, one): (usize, &CameBack)| matches!(one, CameBack::Leads).then_some(index);
            let leaders: Vec<usize> = came_back.iter().enumerate().filter_map(leads).collect();
            match leaders[..] {
                [] => {}
                [index] => match self.led_by(index).await {
                    Ok((way, marks)) => return Ok(Found { way, index, marks, came_back }),
                    Err(error) if error.kind() == Kind::LostTheLead => came_back[index] = CameBack::Failed(error),
                    Err(error) => return Err(self.view_of(&[CameBack::Failed(error)], &[index])),
                },
                [one, other, ..] => return Err(self.conflict(one, other)),
            }
            self.ask_why_not(&mut came_back).await;
            if let Some((way, index, marks)) = self.relayed(&mut came_back).await {
                return Ok(Found { way, index, marks, came_back });
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
        let [one, other] = [one, other].map(|index| &self.settings.endpoints[index]);
        LeaderView::Conflict(format!(
            "{one} and {other} both pass leader-check: unless this ends by itself with an election, one is of another \
             Orchestrator cluster, or they are the same node twice; correct orchestrator.endpoints"
        ))
    }

    /// leader-check of every endpoint that was not heard yet, side by side: a hung one costs no more than its own
    /// deadline, and hardly anything once another leads or once it is known to hang.
    async fn probe(&mut self, came_back: &mut [CameBack]) {
        self.asking.take_in_late_ones();
        for (index, one) in came_back.iter().enumerate() {
            if matches!(one, CameBack::Pending) && self.asking.is_free(index) {
                self.ask(index, Question::Leads);
            }
        }
        // Longer than any request takes: each ends by itself.
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
                // Left over from the last tick.
                Said::WhyNot(_) => self.ask(index, Question::Leads),
            }
        }
    }

    fn ask(&mut self, index: usize, question: Question) {
        self.asking.ask(index, question, &self.settings, self.tls.as_ref());
    }

    /// A way over an endpoint's connection; in use it is taken out: if this is cut short, it is closed.
    fn way(&mut self, index: usize, check: Check) -> Result<Way, RequestError> {
        let connection = self.asking.take(index).ok_or_else(|| RequestError::Unreached {
            endpoint: self.settings.endpoints[index].to_string(),
            cause: "its connection is gone".to_owned(),
        })?;
        Ok(Way::new(connection, check, index, self.settings.clone(), self.tls.clone()))
    }

    /// What the one that has just passed leader-check says.
    async fn led_by(&mut self, index: usize) -> Result<(Way, Marks), RequestError> {
        let mut way = self.way(index, Check::Leads)?;
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

    /// Asks all that do not lead why not.
    async fn ask_why_not(&mut self, came_back: &mut [CameBack]) {
        for (index, one) in came_back.iter().enumerate() {
            if (one.does_not_lead() || one.kind() == Kind::LostTheLead) && self.asking.is_free(index) {
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
                // One that passes leader-check only now is asked in the next tick.
                Said::Leads(Ok(true)) | Said::WhyNot(Err(_)) => {}
                Said::Leads(Err(error)) => came_back[index] = CameBack::Failed(error),
            }
        }
    }

    /// The way over the first follower that relays to the leader that it names, before and after.
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
            // Whom the others name will not be quicker.
            let is_late = error.is_late();
            *one = CameBack::Failed(error);
            if is_late {
                break;
            }
        }
        None
    }

    async fn relayed_by(&mut self, index: usize, leader: &str) -> Result<(Way, Marks), RequestError> {
        let mut way = self.way(index, Check::Relays)?.named(leader);
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

    /// Closes the kept connections to nodes that do not lead; whether there were any.
    fn forget_kept(&mut self, came_back: &mut [CameBack], began: Instant) -> bool {
        let mut any = false;
        for (index, one) in came_back.iter_mut().enumerate() {
            let is_kept = one.does_not_lead() || matches!(one.kind(), Kind::LostTheLead | Kind::NotRelayed);
            if is_kept && self.asking.close_if_older(index, began) {
                *one = CameBack::Pending;
                any = true;
            }
        }
        any
    }

    /// Nobody leads: leaderless, blind or silent?
    fn view_of(&mut self, came_back: &[CameBack], of: &[usize]) -> LeaderView {
        let names = self.names();
        if nobody_can_lead(came_back, &names) {
            return LeaderView::Leaderless;
        }
        let told: Vec<_> = came_back.iter().zip(of).map(|(one, index)| one.told(&names[*index])).collect();
        self.refused = came_back.iter().any(|one| one.kind() == Kind::Refused);
        match came_back.iter().any(|one| one.kind().counts() == Counts::Blind) {
            true => LeaderView::Blind(told.join("; ")),
            false => LeaderView::Silent(told.join("; ")),
        }
    }

    /// The side questions: what they come to is added to the answer, and their failure is said.
    async fn ask_more(
        &mut self,
        found: Found,
        asked_ms: u64,
        query: impl FnOnce(&str, &[Downtime]) -> LeaderQuery,
        known: &HistoryProgress,
        deadline: Instant,
    ) -> LeaderView {
        let Found { way, index, marks: Marks { downtimes, date_s }, came_back } = found;
        let Entries { read: downtimes, skipped } = downtimes;
        let endpoint = way.endpoint().to_string();
        let relays = way.checked_by() == Check::Relays;
        let mut aside = Aside { way, deadline, skipped };
        let mut own = None;
        if aside.leader().is_none() {
            own = aside.raft().await;
        }
        let query = query(&aside.leader().unwrap_or_else(|| endpoint.clone()), &downtimes);
        if query.backing && own.is_none() && !relays {
            own = aside.raft().await;
        }
        let mut answer = Answer {
            leader: aside.leader().unwrap_or(endpoint),
            asked_ms,
            date_s,
            backing: Backing::Unconfirmed,
            downtimes,
            history: None,
            instances: None,
            skipped: Vec::new(),
        };
        if query.backing {
            if relays {
                own = Some(Raft::On(RaftStatus { leader: answer.leader.clone(), ..RaftStatus::default() }));
            }
            match self.backing(own, &came_back, index).await {
                Ok(backing) => answer.backing = backing,
                Err(view) => return view,
            }
        }
        if query.instances {
            answer.instances = aside.instances(date_s).await;
        }
        if query.history {
            answer.history = aside.history(known, &answer.leader).await;
        }
        answer.skipped = aside.skipped;
        self.asking.put_back(index, aside.way.into_connection());
        LeaderView::Led(answer)
    }

    /// Whether a majority of the raft nodes name this leader.
    ///
    /// # Errors
    /// A second one leads, or a majority names another.
    async fn backing(&mut self, own: Option<Raft>, came_back: &[CameBack], at: usize) -> Result<Backing, LeaderView> {
        let own = match own {
            Some(Raft::On(own)) => own,
            Some(Raft::Off) => return Ok(Backing::Single),
            None => return Ok(Backing::Unconfirmed),
        };
        if own.leader.is_empty() {
            return Ok(Backing::Unconfirmed);
        }
        let names = self.names();
        let mut voices = Voices::of(&own, came_back, &names);
        if !voices.confirm() {
            for (index, one) in came_back.iter().enumerate() {
                if matches!(one, CameBack::NotLeader) {
                    self.ask(index, Question::WhyNot);
                }
            }
            let until = Instant::now() + RAFT_WAIT;
            while !voices.confirm() && !self.asking.only_late_ones_are_left() {
                let Ok(Some((index, said))) = timeout_at(until, self.asking.next()).await else { break };
                match said {
                    Said::WhyNot(Ok(WhyNot::Raft(status))) => voices.hear(index, &status, &names[index]),
                    Said::Leads(Ok(true)) => return Err(self.conflict(at, index)),
                    Said::Leads(Ok(false)) => self.ask(index, Question::WhyNot),
                    Said::WhyNot(_) | Said::Leads(Err(_)) => {}
                }
            }
        }
        if let Some(other) = voices.contradict() {
            return Err(LeaderView::Conflict(format!(
                "{} says that {} leads, and a majority of the raft names {other}: check its RaftNodes",
                names[at], own.leader
            )));
        }
        Ok(match voices.confirm() {
            // One that has no peers is confirmed by nobody.
            true if voices.majority() > 1 => Backing::Majority,
            true => Backing::Single,
            false if names.len() < voices.majority() => Backing::Single,
            false => Backing::Unconfirmed,
        })
    }
}

/// The side questions of a tick.
struct Aside {
    way: Way,
    deadline: Instant,
    /// What can't be used of the answers, and which ones did not come.
    skipped: Vec<SkippedEntry>,
}

impl Aside {
    fn leader(&self) -> Option<String> {
        self.way.leader().map(str::to_owned)
    }

    /// One question, until then.
    async fn ask<T>(
        &mut self,
        until: Instant,
        what: &str,
        question: impl AsyncFnOnce(&mut Way) -> Result<T, RequestError>,
    ) -> Option<T> {
        let (began, endpoint) = (Instant::now(), self.way.endpoint().to_string());
        let error = match timeout_at(until.min(self.deadline), question(&mut self.way)).await {
            Ok(Ok(said)) => return Some(said),
            Ok(Err(error)) => error,
            Err(_) => RequestError::Late { endpoint, what: format!("answer {what}"), within: began.elapsed() },
        };
        if error.is_the_end_of_the_connection() {
            self.way.give_up_connection();
        }
        self.skipped.push(SkippedEntry { part: AnswerPart::Question, nodes: BTreeSet::new(), what: error.to_string() });
        None
    }

    /// What the leader says of the raft.
    async fn raft(&mut self) -> Option<Raft> {
        self.ask(Instant::now() + RAFT_WAIT, "raft-status", async |way: &mut Way| way.raft().await).await
    }

    /// `date_s`: the leader's time, as it was before.
    async fn instances(&mut self, date_s: i64) -> Option<Vec<Instance>> {
        let question = async |connection: &mut Connection| {
            connection.get("all-instances").await?.entries(|body| answers::instances(body, date_s))
        };
        let said = self.ask(self.deadline, "all-instances", async |way: &mut Way| way.ask(question).await).await?;
        self.skipped.extend(said.skipped);
        Some(said.read)
    }

    /// The pages of the history that are new, as many as there is time for, and one at least besides the newest.
    async fn history(&mut self, known: &HistoryProgress, leader: &str) -> Option<RecoveryHistory> {
        let began = Instant::now();
        let mut reading = known.read(leader);
        let (mut records, mut pages) = (Vec::new(), 0);
        while let Some(page) = reading.next_page().filter(|_| pages < 2 || began.elapsed() < HISTORY_WAIT) {
            let request = format!("audit-recovery/{page}");
            let question = async |connection: &mut Connection| {
                let response = connection.get(&request).await?;
                let date_s = response.date_s;
                Ok((response.entries(|body| answers::recoveries(body, date_s))?, date_s))
            };
            let read = self.ask(self.deadline, &request, async |way: &mut Way| way.ask(question).await);
            let Some((said, date_s)) = read.await else { break };
            reading.take(&said.read, said.read.len() + said.skipped.len(), date_s);
            records.extend(said.read);
            self.skipped.extend(said.skipped);
            pages += 1;
        }
        (pages > 0).then(|| RecoveryHistory { records, progress: reading.end() })
    }
}
