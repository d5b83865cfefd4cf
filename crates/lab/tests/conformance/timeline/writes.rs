//! The recorder's writes: one after the other, each by a session of its own; and when it says where they land.

use lab::proxysql::{ProxySql, Session, SessionError};

/// ProxySQL's `mysql-connect_timeout_server_max` where the timelines were recorded, in ms.
const WAITS: u64 = 3_000;

/// How often the recorder says where writes landed lately, in ms.
const LATELY: u64 = 500;

/// Writes, one at a time.
#[derive(Default)]
pub struct Writes {
    /// One that has no answer yet, and since when it waits for a server.
    pending: Option<(Session, Option<u64>)>,
    since: u64,
    now: Vec<String>,
    lately: Vec<String>,
    /// Where they landed, one after the other, as the recorder says it.
    pub landed: Vec<String>,
}

impl Writes {
    /// Sends the next one, or looks for an answer to the one before.
    pub fn go_on(&mut self, proxy: &ProxySql, at: u64) {
        let (session, waits) = self.pending.take().unwrap_or_else(|| (proxy.connect(), None));
        match session.write() {
            Ok(node) => self.ends(at, &node),
            Err(SessionError::Hangs) => self.pending = Some((session, None)),
            Err(SessionError::NoServer) if waits.is_none_or(|since| at < since + WAITS) => {
                self.pending = Some((session, Some(waits.unwrap_or(at))));
            }
            Err(error) => self.ends(at, &error.code().map_or("nothing".to_owned(), |code| code.to_string())),
        }
    }

    /// One has ended.
    pub fn ends(&mut self, at: u64, outcome: &str) {
        let is_in = |outcomes: &[String]| outcomes.iter().any(|one| one == outcome);
        if !is_in(&self.now) && !is_in(&self.lately) {
            self.landed.push(outcome.to_owned());
        }
        if !is_in(&self.now) {
            self.now.push(outcome.to_owned());
        }
        if at >= self.since + LATELY {
            self.lately = std::mem::take(&mut self.now);
            self.since = at;
        }
    }

    /// Where they land in the end.
    pub fn lately(&self) -> Vec<String> {
        let mut lately = self.lately.clone();
        lately.sort();
        lately
    }
}
