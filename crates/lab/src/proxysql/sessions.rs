//! Client sessions: which backend each one holds, and what becomes of it (FACTS §4).

use std::collections::BTreeMap;

use super::layers::ServerRow;
use crate::nodes::{Nodes, PORT, Process};

/// Why a statement of a client failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SessionError {
    /// 2002: the proxy takes no clients (PAUSE, or it is down).
    NoProxy,
    /// 2013: the session was ended, or its backend is gone.
    Lost,
    /// 9001: no usable server in time.
    NoServer,
    /// No answer: the backend hangs.
    Hangs,
    /// 1290: the server is read-only.
    ReadOnly,
}

/// How a session binds itself to a backend.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Bound {
    pub(super) in_transaction: bool,
    pub(super) pinned: bool,
}

/// One client session.
#[derive(Debug, Clone, Default)]
pub(super) struct Client {
    pub(super) bound: Bound,
    /// The backend that it holds in each hostgroup.
    pub(super) holds: BTreeMap<u32, String>,
    /// The backend of its last statement: all that the processlist shows.
    pub(super) current: Option<(u32, String)>,
    pub(super) dead: bool,
}

impl Client {
    /// Takes what a session that was ended has.
    pub(super) fn end(&mut self) {
        *self = Self { dead: true, ..Self::default() };
    }
}

/// Sends a statement to a backend.
pub(super) fn execute(nodes: &Nodes, host: &str, writes: bool) -> Result<(), SessionError> {
    let server = nodes.get(host);
    match server.process {
        Process::Down => return Err(SessionError::Lost),
        Process::Hung => return Err(SessionError::Hangs),
        Process::Up => {}
    }
    if writes {
        if server.read_only {
            return Err(SessionError::ReadOnly);
        }
        nodes.change(host, |server| server.writes += 1);
    }
    Ok(())
}

type Row = Vec<Option<String>>;

/// `stats_mysql_connection_pool`.
pub(super) fn connection_pool(rows: &[ServerRow], clients: &BTreeMap<u64, Client>) -> Vec<Row> {
    let row = |row: &ServerRow| {
        let used = used(clients, row.hostgroup, &row.host);
        let mut values =
            vec![row.hostgroup.to_string(), row.host.clone(), PORT.to_string(), row.status.clone(), used.to_string()];
        values.resize(14, "0".to_owned());
        values.into_iter().map(Some).collect()
    };
    rows.iter().map(row).collect()
}

/// How many sessions hold a row.
pub(super) fn used(clients: &BTreeMap<u64, Client>, hostgroup: u32, host: &str) -> usize {
    clients.values().filter(|client| client.holds.get(&hostgroup).is_some_and(|held| held == host)).count()
}

/// `stats_mysql_processlist`; `extended` as with `mysql-show_processlist_extended`.
pub(super) fn processlist(clients: &BTreeMap<u64, Client>, extended: bool) -> Vec<Row> {
    let row = |(id, client): (&u64, &Client)| {
        let text = |text: &str| Some(text.to_owned());
        let (hostgroup, host) = match &client.current {
            Some((hostgroup, host)) => (hostgroup.to_string(), Some(host.clone())),
            None => ("10".to_owned(), None),
        };
        let port = host.as_ref().map(|_| PORT.to_string());
        let backend = |host: &String| serde_json::json!({"conn": {"mysql": {"host": host, "port": PORT}}});
        let info = extended.then(|| {
            let backends: Vec<_> = client.holds.values().map(backend).collect();
            serde_json::json!({"backends": backends}).to_string()
        });
        vec![
            text("0"),
            Some(id.to_string()),
            text("app"),
            text(""),
            text("127.0.0.1"),
            text("40000"),
            Some(hostgroup),
            text(""),
            text("0"),
            host,
            port,
            text("Sleep"),
            text("0"),
            text(""),
            text("0"),
            info,
        ]
    };
    clients.iter().filter(|(_, client)| !client.dead).map(row).collect()
}
