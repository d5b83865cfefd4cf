//! Client sessions: which backend each one holds, and when it loses it (facts §4).

use std::collections::BTreeMap;

use tokio::time::Instant;

use super::rows::{RowKey, ServerRow};
use super::{Engine, ProxySql};
use crate::nodes::{Nodes, Process};

/// The default hostgroup of a client's session, and the one to which a query rule sends a SELECT.
pub(super) const WRITERS: u32 = 10;
const READERS: u32 = 20;

/// Why a client's statement failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SessionError {
    /// 2002: the proxy takes no clients (PAUSE, or it is down).
    NoProxy,
    /// 2013: the session was ended, or its backend is gone.
    Lost,
    /// 9001: no usable server in time.
    NoServer,
    /// There is no answer because the backend hangs.
    Hangs,
    /// 1290: the server is read-only.
    ReadOnly,
}

impl SessionError {
    /// The code that a client sees; `None` if the statement hangs.
    pub fn code(self) -> Option<u16> {
        match self {
            Self::NoProxy => Some(2002),
            Self::Lost => Some(2013),
            Self::NoServer => Some(9001),
            Self::Hangs => None,
            Self::ReadOnly => Some(1290),
        }
    }
}

/// A client session inside ProxySQL.
#[derive(Debug, Clone, Default)]
pub(super) struct Client {
    pub(super) pinned: bool,
    in_transaction: bool,
    /// The hostgroup of the open transaction. All its statements go there (`transaction_persistent`).
    transaction: Option<u32>,
    /// The backend that it holds in each hostgroup.
    pub(super) holds: BTreeMap<u32, RowKey>,
    /// The hostgroup of its last statement. The processlist shows only the backend held there.
    pub(super) hostgroup: u32,
    pub(super) dead: bool,
}

impl Client {
    /// Takes everything from a session that was ended.
    pub(super) fn end(&mut self) {
        *self = Self { dead: true, ..Self::default() };
    }
}

/// A client's session.
pub struct Session {
    proxy: ProxySql,
    id: u64,
    refused: bool,
}

impl Session {
    pub(super) fn new(proxy: ProxySql) -> Self {
        let mut engine = proxy.engine();
        let id = engine.next_client;
        engine.next_client += 1;
        let refused = engine.paused || engine.down;
        engine.clients.insert(id, Client { dead: refused, hostgroup: WRITERS, ..Client::default() });
        drop(engine);
        Self { proxy, id, refused }
    }

    /// Runs an INSERT. Returns the node that took it.
    ///
    /// # Errors
    /// The error that the client sees.
    pub fn write(&self) -> Result<String, SessionError> {
        self.execute(WRITERS, true)
    }

    /// Runs a SELECT that a query rule sends to the readers.
    ///
    /// # Errors
    /// The error that the client sees.
    pub fn read(&self) -> Result<String, SessionError> {
        self.execute(READERS, false)
    }

    /// BEGIN. Its first statement binds it to a backend.
    pub fn begin(&self) {
        self.bind(|client| client.in_transaction = true);
    }

    /// COMMIT.
    ///
    /// # Errors
    /// The error that the client sees. Nothing was committed.
    pub fn commit(&self) -> Result<(), SessionError> {
        self.proxy.engine().commit(self.id)
    }

    /// SET @x, a temporary table, GET_LOCK: no multiplexing from the next statement on.
    pub fn pin(&self) {
        self.bind(|client| client.pinned = true);
    }

    fn bind(&self, bind: impl FnOnce(&mut Client)) {
        if let Some(client) = self.proxy.engine().clients.get_mut(&self.id).filter(|client| !client.dead) {
            bind(client);
        }
    }

    fn execute(&self, hostgroup: u32, writes: bool) -> Result<String, SessionError> {
        if self.refused {
            return Err(SessionError::NoProxy);
        }
        self.proxy.engine().execute(self.id, hostgroup, writes)
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.proxy.engine().clients.remove(&self.id);
    }
}

impl Engine {
    fn execute(&mut self, id: u64, hostgroup: u32, writes: bool) -> Result<String, SessionError> {
        self.layers.close_idle();
        let client = self.clients.get(&id).filter(|client| !client.dead).ok_or(SessionError::Lost)?.clone();
        let hostgroup = client.transaction.unwrap_or(hostgroup);
        let key = match client.holds.get(&hostgroup) {
            Some(key) => self.held(id, key)?,
            None => self.pick(hostgroup)?,
        };
        let done = send(&self.nodes, &key, writes);
        if done == Err(SessionError::Lost) {
            self.shun(&key);
            if client.holds.is_empty() {
                // In autocommit, another server is tried if there is one.
                return self.execute(id, hostgroup, writes);
            }
            self.end_client(id);
            return Err(SessionError::Lost);
        }
        self.idle.insert(key.clone());
        if let Some(client) = self.clients.get_mut(&id) {
            let holds = client.in_transaction || client.pinned;
            client.hostgroup = hostgroup;
            if holds {
                client.holds.insert(hostgroup, key.clone());
            }
            if client.in_transaction {
                client.transaction = Some(hostgroup);
            }
        }
        done.map(|()| key.host)
    }

    fn commit(&mut self, id: u64) -> Result<(), SessionError> {
        let client = self.clients.get(&id).filter(|client| !client.dead).ok_or(SessionError::Lost)?.clone();
        if let Some(key) = client.transaction.and_then(|hostgroup| client.holds.get(&hostgroup)) {
            let key = self.held(id, key)?;
            match send(&self.nodes, &key, false) {
                Err(SessionError::Lost) => {
                    self.shun(&key);
                    self.end_client(id);
                    return Err(SessionError::Lost);
                }
                done => done?,
            }
        }
        if let Some(client) = self.clients.get_mut(&id) {
            (client.in_transaction, client.transaction) = (false, None);
            if !client.pinned {
                client.holds.clear();
            }
        }
        Ok(())
    }

    /// Uses a backend that a session holds.
    ///
    /// The session dies if the row is gone, but not if it is OFFLINE_SOFT. It also dies if too many servers are ONLINE
    /// (facts §5).
    fn held(&mut self, id: u64, key: &RowKey) -> Result<RowKey, SessionError> {
        let rows = self.layers.rows().unwrap_or_default();
        let is_there = rows.iter().any(|row| row.key() == *key && row.status != "OFFLINE_HARD");
        if is_there && self.is_within_threshold(&rows, key.hostgroup) {
            return Ok(key.clone());
        }
        self.end_client(id);
        Err(SessionError::Lost)
    }

    /// `max_num_online_servers`: with more servers ONLINE, none is used ([15]).
    fn is_within_threshold(&self, rows: &[ServerRow], hostgroup: u32) -> bool {
        let online = rows.iter().filter(|row| row.hostgroup == hostgroup && row.status == "ONLINE").count();
        self.layers.max_online(hostgroup).is_ok_and(|most| online <= most as usize)
    }

    /// The next usable server in turn. A shunned server returns lazily, on traffic (facts §3).
    fn pick(&mut self, hostgroup: u32) -> Result<RowKey, SessionError> {
        let rows = self.layers.rows().unwrap_or_default();
        if !self.is_within_threshold(&rows, hostgroup) {
            return Err(SessionError::NoServer);
        }
        let here = || rows.iter().filter(|row| row.hostgroup == hostgroup && row.weight > 0);
        let mut usable: Vec<RowKey> = here().filter(|row| row.status == "ONLINE").map(ServerRow::key).collect();
        let wait = if usable.is_empty() { self.settings.shun_recovery / 10 } else { self.settings.shun_recovery };
        for key in here().filter(|row| row.status == "SHUNNED").map(ServerRow::key) {
            // A server that the configuration shunned has no time of shunning, so it never returns.
            if self.shunned.get(&key).is_some_and(|since| since.elapsed() >= wait) {
                let _ = self.layers.set_status(&key, "ONLINE");
                self.shunned.remove(&key);
                usable.push(key);
            }
        }
        self.turn += 1;
        usable.get(self.turn % usable.len().max(1)).cloned().ok_or(SessionError::NoServer)
    }

    /// Shuns a server that was not reached, for a while.
    pub(super) fn shun(&mut self, key: &RowKey) {
        let rows = self.layers.rows().unwrap_or_default();
        let status = rows.iter().find(|row| row.key() == *key).map(|row| row.status.as_str());
        if status == Some("ONLINE") || status == Some("SHUNNED") && self.shunned.contains_key(key) {
            let _ = self.layers.set_status(key, "SHUNNED");
            self.shunned.insert(key.clone(), Instant::now());
        }
        self.idle.remove(key);
    }

    /// Sends uncounted traffic. Unlike a session's statement, it does not wait for a timeout: a node that hangs is
    /// shunned like one that refuses ([3m-sigstop-pinned-softraw-8s]).
    pub(super) fn touch(&mut self, hostgroup: u32) {
        if let Ok(key) = self.pick(hostgroup)
            && send(&self.nodes, &key, false).is_err()
        {
            self.shun(&key);
        }
    }

    fn end_client(&mut self, id: u64) {
        if let Some(client) = self.clients.get_mut(&id) {
            client.end();
        }
    }

    /// The rows to which sessions hold connections now.
    pub(super) fn used(&self) -> impl Fn(&RowKey) -> bool + use<> {
        let held: Vec<RowKey> = self.clients.values().flat_map(|client| client.holds.values().cloned()).collect();
        move |key| held.contains(key)
    }
}

/// Sends a statement to a backend.
fn send(nodes: &Nodes, key: &RowKey, writes: bool) -> Result<(), SessionError> {
    let server = key.server(nodes).ok_or(SessionError::Lost)?;
    match server.process {
        Process::Down => Err(SessionError::Lost),
        Process::Hung => Err(SessionError::Hangs),
        Process::Up if !writes => Ok(()),
        Process::Up if server.read_only => Err(SessionError::ReadOnly),
        Process::Up => {
            nodes.change(&key.host, |server| server.writes += 1);
            Ok(())
        }
    }
}
