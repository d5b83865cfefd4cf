//! A way to the leader: a connection on which the lead is checked again and again.
//!
//! **Invariant:** an answer counts only if, on the same connection, the check held before and after it (I8).
//!
//! If the connection was closed in between, it is opened once more and everything is asked again. A second early close
//! makes the endpoint unusable, which does not count as silence.

use std::sync::Arc;

use stonith_core::orchestrator::Downtime;
use tokio_rustls::TlsConnector;

use super::Settings;
use super::answers::{self, Entries, Raft};
use super::connection::Connection;
use super::endpoint::Endpoint;
use super::error::RequestError;

/// How the lead is checked on a way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LeadCheck {
    /// The node itself leads.
    Leads,
    /// The node is a follower and asks the leader.
    Relays,
}

impl LeadCheck {
    fn request(self) -> &'static str {
        match self {
            Self::Leads => "leader-check",
            Self::Relays => "routed-leader-check",
        }
    }
}

/// The answer that every tick needs: the downtimed nodes, by the leader's clock.
#[derive(Debug)]
pub struct Marks {
    /// The entries of `/api/downtimed`.
    pub downtimes: Entries<Downtime>,
    /// The leader's time, s since 1970.
    pub date_s: i64,
}

/// A way to the leader.
pub struct Way {
    connection: Connection,
    check: LeadCheck,
    /// The index of its endpoint.
    index: usize,
    settings: Arc<Settings>,
    tls: Option<TlsConnector>,
}

impl Way {
    /// Makes a way over an endpoint's connection. The lead is not checked yet.
    pub fn new(
        connection: Connection,
        check: LeadCheck,
        index: usize,
        settings: Arc<Settings>,
        tls: Option<TlsConnector>,
    ) -> Self {
        Self { connection, check, index, settings, tls }
    }

    /// The endpoint.
    pub fn endpoint(&self) -> &Endpoint {
        &self.settings.endpoints[self.index]
    }

    /// How the lead is checked on this way.
    pub fn checked_by(&self) -> LeadCheck {
        self.check
    }

    /// Gives up the connection, because an answer is still due on it. The next question opens a new one.
    pub fn give_up_connection(&mut self) {
        self.connection.give_up();
    }

    /// Returns the connection, to keep it.
    pub fn into_connection(mut self) -> Connection {
        if self.check == LeadCheck::Relays {
            self.connection.forget_name(); // by the next tick the node may follow another leader, or lead itself
        }
        self.connection
    }

    /// Asks for the downtimed nodes.
    ///
    /// # Errors
    /// See [`Self::ask`].
    pub async fn marks(&mut self) -> Result<Marks, RequestError> {
        self.ask(async |connection| {
            let response = connection.get("downtimed").await?;
            let date_s = response.date_s;
            let downtimes = response.entries(|body| answers::downtimes(body, date_s))?;
            Ok(Marks { downtimes, date_s })
        })
        .await
    }

    /// Asks the node on this connection for its raft status.
    ///
    /// # Errors
    /// See [`Self::ask`].
    pub async fn raft(&mut self) -> Result<Raft, RequestError> {
        let raft = self.ask(async |connection| connection.raft().await).await?;
        let name = match &raft {
            Raft::On(status) if !status.leader.is_empty() => status.leader.clone(),
            _ => self.endpoint().to_string(),
        };
        self.connection.set_name(name);
        Ok(raft)
    }

    /// The leader's name, once it was asked on this connection.
    ///
    /// It is the name in the raft: a leader has the same name over every way, and a new leader has another name over
    /// the same way. Without raft it is the endpoint.
    pub fn leader(&self) -> Option<&str> {
        self.connection.name()
    }

    /// Sets the leader's name that was heard before the way was found.
    pub fn named(mut self, leader: &str) -> Self {
        self.connection.set_name(leader.to_owned());
        self
    }

    /// Asks a question and checks the lead afterwards.
    ///
    /// # Errors
    /// There is no answer, or the lead was lost before the answer was whole.
    pub async fn ask<T>(
        &mut self,
        question: impl AsyncFn(&mut Connection) -> Result<T, RequestError>,
    ) -> Result<T, RequestError> {
        match self.ask_once(&question).await {
            Err(error) if error.is_a_close() => {}
            done => return done,
        }
        self.reopen().await?;
        match self.ask_once(&question).await {
            Err(error) if error.is_a_close() => {
                Err(RequestError::Closes { endpoint: self.endpoint().to_string(), answers: self.connection.answers() })
            }
            done => done,
        }
    }

    async fn ask_once<T>(
        &mut self,
        question: &impl AsyncFn(&mut Connection) -> Result<T, RequestError>,
    ) -> Result<T, RequestError> {
        let said = question(&mut self.connection).await?;
        self.check().await?;
        Ok(said)
    }

    async fn reopen(&mut self) -> Result<(), RequestError> {
        self.connection = Connection::open(self.endpoint(), &self.settings, self.tls.as_ref()).await?;
        self.check().await
    }

    /// Checks the lead now.
    ///
    /// # Errors
    /// The lead was lost, or is unknown.
    pub async fn check(&mut self) -> Result<(), RequestError> {
        let response = self.connection.get(self.check.request()).await?;
        let endpoint = self.endpoint().to_string();
        match (response.leads(), self.check) {
            (Ok(true), _) => Ok(()),
            (Ok(false), LeadCheck::Leads) => Err(RequestError::LostTheLead { endpoint }),
            (Ok(false), LeadCheck::Relays) => Err(RequestError::NotRelayed { endpoint }),
            // The node's version is too old for this request.
            (Err(_), LeadCheck::Relays) if response.status == 404 => Err(RequestError::NotRelayed { endpoint }),
            (Err(error), _) => Err(error),
        }
    }
}
