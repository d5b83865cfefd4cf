//! The side questions of a tick: the leader's backing, the instances, the history, its own hooks.
//!
//! A side question that is slow, fails or is cut off costs no lease. Its part of the answer is missing and reported.

use std::collections::BTreeSet;
use std::time::Duration;

use stonith_core::decide::LeaderQuery;
use stonith_core::orchestrator::{
    Answer, AnswerPart, Backing, ConflictCause, Downtime, HistoryProgress, Instance, LeaderView, ProxyHooks,
    RecoveryHistory, SkippedEntry,
};
use tokio::time::{Instant, timeout_at};

use super::answers::{self, Entries, Raft, RaftStatus, WhyNot};
use super::asking::{Question, Said};
use super::came_back::CameBack;
use super::connection::Connection;
use super::error::RequestError;
use super::voices::Voices;
use super::way::{LeadCheck, Marks, Way};
use super::{Client, LeaderPath, RAFT_WAIT};

/// A tick begins no further page of the history after this time.
const HISTORY_WAIT: Duration = Duration::from_millis(500);

/// How long the client waits to hear of Orchestrator's own hooks.
const HOOKS_WAIT: Duration = Duration::from_millis(500);

impl Client {
    /// Asks the side questions. Adds their results to the answer, and reports their failures.
    pub(super) async fn ask_more(
        &mut self,
        found: LeaderPath,
        asked_ms: u64,
        query: impl FnOnce(&str, &[Downtime]) -> LeaderQuery,
        known: &HistoryProgress,
        deadline: Instant,
    ) -> LeaderView {
        let LeaderPath { way, index, marks: Marks { downtimes, date_s }, came_back } = found;
        let Entries { read: downtimes, skipped } = downtimes;
        let endpoint = way.endpoint().to_string();
        let relays = way.checked_by() == LeadCheck::Relays;
        let mut aside = SideQuestions { way, deadline, skipped };
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
            hooks: None,
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
        if query.hooks {
            answer.hooks = Some(aside.hooks().await);
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
            let (endpoint, leader, other) = (names[at].clone(), own.leader.clone(), other.to_owned());
            return Err(LeaderView::Conflict(ConflictCause::MajorityNamesAnother { endpoint, leader, other }));
        }
        Ok(match voices.confirm() {
            // A leader without peers is confirmed by no other node.
            true if voices.majority() > 1 => Backing::Majority,
            true => Backing::Single,
            false if names.len() < voices.majority() => Backing::Single,
            false => Backing::Unconfirmed,
        })
    }
}

/// The side questions of a tick.
struct SideQuestions {
    way: Way,
    deadline: Instant,
    /// The entries that can't be used, and the questions without an answer.
    skipped: Vec<SkippedEntry>,
}

impl SideQuestions {
    fn leader(&self) -> Option<String> {
        self.way.leader().map(str::to_owned)
    }

    /// Asks one question, until a deadline.
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

    /// Asks the leader for its raft status.
    async fn raft(&mut self) -> Option<Raft> {
        self.ask(Instant::now() + RAFT_WAIT, "raft-status", async |way: &mut Way| way.raft().await).await
    }

    /// Asks for the instances; `date_s` is the leader's time before the request.
    async fn instances(&mut self, date_s: i64) -> Option<Vec<Instance>> {
        let question = async |connection: &mut Connection| {
            connection.get("all-instances").await?.entries(|body| answers::instances(body, date_s))
        };
        let said = self.ask(self.deadline, "all-instances", async |way: &mut Way| way.ask(question).await).await?;
        self.skipped.extend(said.skipped);
        Some(said.read)
    }

    /// Asks whether its build changes ProxySQL by hooks of its own (facts §14). Nothing depends on the answer in this
    /// tick, so it comes last, and no answer is no error.
    async fn hooks(&mut self) -> ProxyHooks {
        let question = async |connection: &mut Connection| {
            let response = connection.get("v2/proxysql/servers").await?;
            Ok(answers::proxy_hooks(response.status, &response.body))
        };
        let until = self.deadline.min(Instant::now() + HOOKS_WAIT);
        match timeout_at(until, self.way.ask(question)).await {
            Ok(Ok(said)) => said,
            Ok(Err(error)) if !error.is_the_end_of_the_connection() => ProxyHooks::Unclear,
            Ok(Err(_)) | Err(_) => {
                self.way.give_up_connection();
                ProxyHooks::Unclear
            }
        }
    }

    /// Asks for the new pages of the history: the newest, at least one more, and others while there is time.
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
