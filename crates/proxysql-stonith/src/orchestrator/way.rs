//! A way to the leader: a connection on which the lead can be checked again and again.
//!
//! **Invariant:** what is asked on a way counts only if, on the same connection, the check held before and after it (I8).
//! A connection that was closed in between is opened once more, and everything asked again; one that closes too early
//! again can't be used, and is no silence.

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
    /// The node leads itself.
    Leads,
    /// The node follows, and asks the leader.
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

/// What every tick asks: who is downtimed, by the leader's clock.
#[derive(Debug)]
pub struct Marks {
    /// `/api/downtimed`.
    pub downtimes: Entries<Downtime>,
    /// The leader's time, s since 1970.
    pub date_s: i64,
}

/// A way to the leader.
pub struct Way {
    connection: Connection,
    check: LeadCheck,
    /// Which endpoint it goes over.
    index: usize,
    settings: Arc<Settings>,
    tls: Option<TlsConnector>,
}

impl Way {
    /// A way over this endpoint's connection, not checked yet.
    pub fn new(
        connection: Connection,
        check: LeadCheck,
        index: usize,
        settings: Arc<Settings>,
        tls: Option<TlsConnector>,
    ) -> Self {
        Self { connection, check, index, settings, tls }
    }

    /// The endpoint that it goes over.
    pub fn endpoint(&self) -> &Endpoint {
        &self.settings.endpoints[self.index]
    }

    /// How the lead is checked here.
    pub fn checked_by(&self) -> LeadCheck {
        self.check
    }

    /// Opens a new connection before the next question: this one still owes an answer.
    pub fn give_up_connection(&mut self) {
        self.connection.give_up();
    }

    /// The connection, to be kept.
    pub fn into_connection(mut self) -> Connection {
        if self.check == LeadCheck::Relays {
            self.connection.forget_name(); // it follows another one by the next tick, or leads itself
        }
        self.connection
    }

    /// Who is downtimed.
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

    /// What the node at the end of the connection says of the raft.
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

    /// Who leads, once that was asked on this connection: as the raft calls it, so that it has one name over every way, and
    /// a new leader another one over the same way; without a raft, as the endpoint is called.
    pub fn leader(&self) -> Option<&str> {
        self.connection.name()
    }

    /// Who leads, as it was heard before the way was found.
    pub fn named(mut self, leader: &str) -> Self {
        self.connection.set_name(leader.to_owned());
        self
    }

    /// Asks, and checks the lead after it.
    ///
    /// # Errors
    /// No answer, or the lead was lost before it was whole.
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
    /// It was lost, or can't be told.
    pub async fn check(&mut self) -> Result<(), RequestError> {
        let response = self.connection.get(self.check.request()).await?;
        let endpoint = self.endpoint().to_string();
        match (response.leads(), self.check) {
            (Ok(true), _) => Ok(()),
            (Ok(false), LeadCheck::Leads) => Err(RequestError::LostTheLead { endpoint }),
            (Ok(false), LeadCheck::Relays) => Err(RequestError::NotRelayed { endpoint }),
            // One that is too old to know the question.
            (Err(_), LeadCheck::Relays) if response.status == 404 => Err(RequestError::NotRelayed { endpoint }),
            (Err(error), _) => Err(error),
        }
    }
}
