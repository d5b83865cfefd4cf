//! Requests in progress, at most one per endpoint.
//!
//! Requests outlive the tick that sent them. A tick does not wait for a slow or hung endpoint, and a late answer still
//! makes the connection ready for the next tick.
//!
//! **Invariant:** a request ends by itself, answered or not, within connect_timeout and read_timeout.

use std::collections::HashMap;
use std::sync::Arc;

use tokio::task::{Id, JoinError, JoinSet};
use tokio::time::Instant;
use tokio_rustls::TlsConnector;

use super::Settings;
use super::answers::WhyNot;
use super::connection::Connection;
use super::error::RequestError;

/// A question to all endpoints, asked side by side.
#[derive(Debug, Clone, Copy)]
pub enum Question {
    /// Whether the node leads (leader-check).
    Leads,
    /// Why the node does not lead: the state of the raft, or of its database.
    WhyNot,
}

/// The answer to a question.
#[derive(Debug)]
pub enum Said {
    /// Whether the node leads.
    Leads(Result<bool, RequestError>),
    /// Why the node does not lead.
    WhyNot(Result<WhyNot, RequestError>),
}

impl Said {
    fn error(&self) -> Option<&RequestError> {
        match self {
            Self::Leads(result) => result.as_ref().err(),
            Self::WhyNot(result) => result.as_ref().err(),
        }
    }
}

type Job = (Option<Connection>, Said);

/// The connections, idle or in use.
pub struct Asking {
    idle: Vec<Option<Connection>>,
    /// Per endpoint: whether it did not answer in time when it was last asked.
    hung: Vec<bool>,
    jobs: JoinSet<Job>,
    under_way: HashMap<Id, usize>,
}

impl Asking {
    /// Makes the connections of this many endpoints, none open yet.
    pub fn new(endpoints: usize) -> Self {
        Self {
            idle: std::iter::repeat_with(|| None).take(endpoints).collect(),
            hung: vec![false; endpoints],
            jobs: JoinSet::new(),
            under_way: HashMap::new(),
        }
    }

    /// Closes every connection.
    pub fn close_all(&mut self) {
        self.idle.fill_with(|| None);
        self.jobs = JoinSet::new();
        self.under_way.clear();
    }

    /// Takes an idle connection out. [`Self::put_back`] returns it; otherwise it is closed.
    pub fn take(&mut self, endpoint: usize) -> Option<Connection> {
        self.idle[endpoint].take()
    }

    /// Closes an idle connection that was opened before `than`. Returns whether there was one.
    pub fn close_if_older(&mut self, endpoint: usize, than: Instant) -> bool {
        let is_older = self.idle[endpoint].as_ref().is_some_and(|connection| connection.opened() < than);
        if is_older {
            self.idle[endpoint] = None;
        }
        is_older
    }

    /// Returns a connection that was taken out.
    pub fn put_back(&mut self, endpoint: usize, connection: Connection) {
        self.idle[endpoint] = Some(connection);
    }

    /// Whether no request to this endpoint is in progress.
    pub fn is_free(&self, endpoint: usize) -> bool {
        !self.under_way.values().any(|asked| *asked == endpoint)
    }

    /// Whether requests are in progress, all of them to endpoints that were late before.
    pub fn only_late_ones_are_left(&self) -> bool {
        !self.under_way.is_empty() && self.under_way.values().all(|endpoint| self.hung[*endpoint])
    }

    /// Collects the requests that ended since the last tick. Their connections are used; their answers are too old.
    pub fn take_in_late_ones(&mut self) {
        while let Some(joined) = self.jobs.try_join_next_with_id() {
            self.end(joined);
        }
    }

    /// Sends a question to an endpoint without a request in progress.
    pub fn ask(&mut self, endpoint: usize, question: Question, settings: &Arc<Settings>, tls: Option<&TlsConnector>) {
        let kept = self.idle[endpoint].take();
        let (settings, tls) = (settings.clone(), tls.cloned());
        let job = self.jobs.spawn(async move { put(kept, endpoint, question, &settings, tls.as_ref()).await });
        self.under_way.insert(job.id(), endpoint);
    }

    /// Waits for the next answer; `None` if no request is in progress. It can be cancelled and called again.
    pub async fn next(&mut self) -> Option<(usize, Said)> {
        loop {
            let joined = self.jobs.join_next_with_id().await?;
            if let Some(heard) = self.end(joined) {
                return Some(heard);
            }
        }
    }

    fn end(&mut self, joined: Result<(Id, Job), JoinError>) -> Option<(usize, Said)> {
        let id = joined.as_ref().map_or_else(JoinError::id, |(id, _)| *id);
        let endpoint = self.under_way.remove(&id)?;
        let (_, (connection, said)) = joined.ok()?;
        self.idle[endpoint] = connection;
        self.hung[endpoint] = said.error().is_some_and(RequestError::is_late);
        Some((endpoint, said))
    }
}

/// Asks on the kept connection, and if that is gone, once on a new one, because the server may have restarted.
async fn put(
    kept: Option<Connection>,
    endpoint: usize,
    question: Question,
    settings: &Settings,
    tls: Option<&TlsConnector>,
) -> Job {
    let endpoint = &settings.endpoints[endpoint];
    let within = settings.connect_timeout + settings.read_timeout;
    let asking = async {
        if let Some(mut connection) = kept {
            let said = put_on(&mut connection, question).await;
            if said.error().is_none() {
                return (Some(connection), said);
            }
        }
        match Connection::open(endpoint, settings, tls).await {
            Ok(mut connection) => {
                let said = put_on(&mut connection, question).await;
                (Some(connection).filter(|_| said.error().is_none()), said)
            }
            Err(error) => (None, failed(question, error)),
        }
    };
    match tokio::time::timeout(within, asking).await {
        Ok(done) => done,
        Err(_) => {
            let what = "answer".to_owned();
            (None, failed(question, RequestError::Late { endpoint: endpoint.to_string(), what, within }))
        }
    }
}

async fn put_on(connection: &mut Connection, question: Question) -> Said {
    match question {
        Question::Leads => Said::Leads(connection.get("leader-check").await.and_then(|response| response.leads())),
        Question::WhyNot => Said::WhyNot(connection.why_not().await),
    }
}

fn failed(question: Question, error: RequestError) -> Said {
    match question {
        Question::Leads => Said::Leads(Err(error)),
        Question::WhyNot => Said::WhyNot(Err(error)),
    }
}
