//! The client of a MySQL or MariaDB node, for the fence of the node itself: [`stonith_core::node_fence`] says what to do.
//!
//! It speaks [`crate::wire`], as the ProxySQL adapter does, and not by a stock driver: that hands the password to whoever
//! asks for it (docs/security.md). So an account with `caching_sha2_password` needs TLS.
//!
//! **Invariant:** only `sql` contains SQL. No statement makes a node writable.

mod grants;
mod sql;

use std::collections::BTreeMap;
use std::time::Duration;

use grants::Lacks;
use stonith_core::node::Node;
use stonith_core::node_fence::{Looked, ReadOnly, ServerId, Session};
use stonith_core::table::Record;
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::loopback::numeric;
use crate::secret::Credential;
use crate::untrusted_text::one_line;
use crate::wire::{Answer, Connection, Tls, TlsProblem, WireError};

/// MySQL's numbers of errors.
const LOCK_WAIT_TIMEOUT: u16 = 1205;
const NO_SUCH_THREAD: u16 = 1094;
/// A login that is refused for now: too many connections, of all or of this account, or the server is going down.
const REFUSED_FOR_NOW: [u16; 4] = [1040, 1203, 1226, 1053];

/// The settings to connect to nodes.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The account, the same on all nodes.
    pub credential: Credential,
    /// TLS and how the server is verified; `None` is plain TCP.
    pub tls: Option<Tls>,
    /// The longest wait for an answer, and for the login. A server that was stopped answers it when it wakes.
    pub timeout: Duration,
}

/// Why a node did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// It was not reached, or the connection broke.
    #[error("{0}")]
    Lost(String),
    /// It refused the login, or is not trusted with it.
    #[error("{0}")]
    Denied(String),
    /// It refused a statement.
    #[error("{text}")]
    Refused {
        /// MySQL's number.
        code: u16,
        /// Its text.
        text: String,
    },
}

/// Which of the two a server is, and what that means.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Kind {
    MySql {
        /// Its major, minor and patch version.
        version: (u32, u32, u32),
    },
    MariaDb {
        /// Its major and minor version.
        version: (u32, u32),
    },
}

/// A connection to a node after the login.
#[derive(Debug)]
pub struct Server {
    connection: Connection,
    timeout: Duration,
    kind: Kind,
    lacks: Lacks,
}

impl Server {
    /// Connects, logs in, and finds out what the server is and what the account may do. Changes nothing but settings of
    /// its own session. `tcp` is the longest time for TCP; `None` is as long as an answer may take.
    ///
    /// # Errors
    /// The node was not reached, or refuses the account.
    pub async fn connect(node: &Node, settings: &Settings, tcp: Option<Duration>) -> Result<Self, NodeError> {
        let host = node.host.as_str();
        let stream = timeout(tcp.unwrap_or(settings.timeout), TcpStream::connect((numeric(host), node.port)));
        let stream = stream.await.map_err(|_| lost("no answer"))?.map_err(lost)?;
        stream.set_nodelay(true).map_err(lost)?;
        let tls = settings.tls.as_ref().map(|tls| tls.towards(host)).transpose().map_err(of_login)?;
        let opening = timeout(settings.timeout, Connection::open(stream, &settings.credential, tls));
        let connection = opening.await.map_err(|_| lost("no greeting, or no end of the login"))?.map_err(of_login)?;
        let mut server = Self {
            connection,
            timeout: settings.timeout,
            kind: Kind::MySql { version: (0, 0, 0) },
            lacks: Lacks::default(),
        };
        server.kind = kind(&text(server.query(sql::VERSION).await?.records.first(), 0)?);
        server.query(sql::WAIT_SHORTLY).await?;
        let grants = server.query(sql::GRANTS).await?.records.into_iter().flatten().flatten().collect::<Vec<_>>();
        server.lacks = grants::lacking(&grants, &server.kind);
        Ok(server)
    }

    /// Looks at the server.
    ///
    /// # Errors
    /// The connection broke, or an answer is not understood.
    pub async fn look(&mut self) -> Result<Looked, NodeError> {
        let identity = self.query(sql::IDENTITY).await?;
        let [id, hostname, port, now_s] = [0, 1, 2, 3].map(|at| text(identity.records.first(), at));
        let uptime = self.query(sql::UPTIME).await?;
        let uptime_s: i64 = number(&text(uptime.records.first(), 1)?)?;
        let of_kind = match self.kind {
            Kind::MySql { .. } => sql::MYSQL_READ_ONLY,
            Kind::MariaDb { .. } => sql::MARIADB_READ_ONLY,
        };
        let read_only = self.query(of_kind).await?;
        let values = read_only.records.first().ok_or_else(|| lost("no answer to a look"))?;
        let is_on = |value: &Option<String>| value.as_deref().is_some_and(|value| !matches!(value, "0" | "OFF"));
        Ok(Looked {
            server: ServerId { id: id?, hostname: hostname?, port: port? },
            started_s: number::<i64>(&now_s?)?.saturating_sub(uptime_s),
            read_only: if values.iter().all(is_on) { ReadOnly::Yes } else { ReadOnly::No },
            lacks: self.lacks.for_all.clone(),
            lacks_for_some: self.lacks.for_some.clone(),
        })
    }

    /// Takes the lock on the node without waiting. It ends with the connection, whatever becomes of the agent.
    ///
    /// # Errors
    /// The connection broke.
    pub async fn take_lock(&mut self) -> Result<bool, NodeError> {
        let answer = self.query(sql::TAKE_LOCK).await?;
        Ok(text(answer.records.first(), 0)? == "1")
    }

    /// Sets it read-only, as far as this server can be. Returns whether it is; if not, something holds it up.
    ///
    /// # Errors
    /// The connection broke, or the account may not.
    pub async fn set_read_only(&mut self) -> Result<bool, NodeError> {
        let statement = match self.kind {
            Kind::MySql { .. } => sql::SET_MYSQL,
            Kind::MariaDb { version } if version >= (12, 0) => sql::SET_MARIADB_12,
            Kind::MariaDb { .. } => sql::SET_MARIADB,
        };
        match self.query(statement).await {
            Ok(_) => Ok(true),
            Err(NodeError::Refused { code: LOCK_WAIT_TIMEOUT, .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// All threads of the server.
    ///
    /// # Errors
    /// The connection broke, or the answer is not understood.
    pub async fn sessions(&mut self) -> Result<Vec<Session>, NodeError> {
        let answer = self.query(sql::SESSIONS).await?;
        let column = |name: &str| {
            let at = answer.columns.iter().position(|column| column.eq_ignore_ascii_case(name));
            at.ok_or_else(|| lost(format!("the list of threads has no column {name}")))
        };
        let (id, user, command) = (column("Id")?, column("User")?, column("Command")?);
        let session = |record: &Record| {
            Ok(Session {
                id: number(&text(Some(record), id)?)?,
                user: text(Some(record), user)?,
                command: text(Some(record), command)?,
            })
        };
        answer.records.iter().map(session).collect()
    }

    /// Ends sessions. Returns how many took it, and those that the account may not end with the server's words. One that is
    /// gone is passed over.
    ///
    /// # Errors
    /// The connection broke.
    pub async fn kill(&mut self, ids: &[u64]) -> Result<(u64, BTreeMap<u64, String>), NodeError> {
        let (mut ended, mut refused) = (0, BTreeMap::new());
        for id in ids {
            match self.query(&sql::kill(*id)).await {
                Ok(_) => ended += 1,
                Err(NodeError::Refused { code: NO_SUCH_THREAD, .. }) => {}
                Err(NodeError::Refused { text, .. }) => drop(refused.insert(*id, text)),
                Err(error) => return Err(error),
            }
        }
        Ok((ended, refused))
    }

    /// Closes the connection.
    pub async fn close(self) {
        let _ = timeout(self.timeout, self.connection.quit()).await;
    }

    async fn query(&mut self, statement: &str) -> Result<Answer, NodeError> {
        match timeout(self.timeout, self.connection.query(statement)).await {
            Err(_) => Err(lost(format!("no answer within {:?}", self.timeout))),
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(WireError::Refused { code, text })) => Err(NodeError::Refused { code, text: one_line(&text) }),
            Ok(Err(error)) => Err(lost(error)),
        }
    }
}

fn lost(why: impl ToString) -> NodeError {
    NodeError::Lost(one_line(&why.to_string()))
}

/// Why a login came to nothing.
fn of_login(error: WireError) -> NodeError {
    NodeError::Denied(match error {
        WireError::Refused { code, text } if REFUSED_FOR_NOW.contains(&code) => return lost(text),
        WireError::Refused { text, .. } => one_line(&text),
        WireError::Asks(asked) => format!(
            "the account asks for {asked}, which is answered only over TLS to a verified server: set tls = \"verify-ca\" and \
             ca_file in [node_fence]"
        ),
        WireError::Tls(problem @ TlsProblem::NotOffered) => format!("TLS: {problem}. Turn it on in the server"),
        WireError::Tls(problem) => format!(
            "TLS: {problem}. Set ca_file in [node_fence] to the CA that signed the server's certificate; MySQL's own is ca.pem \
             in its data directory"
        ),
        error => return lost(error),
    })
}

fn kind(version: &str) -> Kind {
    // A prefix for old replicas: 5.5.5-10.11.6-MariaDB.
    let mut parts = version.strip_prefix("5.5.5-").unwrap_or(version).split(['.', '-']).map(|part| part.parse().ok());
    let mut next = || parts.next().flatten().unwrap_or(0);
    let (major, minor, patch) = (next(), next(), next());
    match version.contains("MariaDB") {
        true => Kind::MariaDb { version: (major, minor) },
        false => Kind::MySql { version: (major, minor, patch) },
    }
}

fn text(record: Option<&Record>, at: usize) -> Result<String, NodeError> {
    let value = record.and_then(|record| record.get(at)).and_then(Option::as_deref);
    Ok(value.ok_or_else(|| lost("an answer lacks a value"))?.to_owned())
}

fn number<N: std::str::FromStr>(text: &str) -> Result<N, NodeError> {
    text.parse().map_err(|_| lost(format!("{text:?} is no number")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_says_which_server_it_is() {
        assert_eq!(kind("9.7.0"), Kind::MySql { version: (9, 7, 0) });
        assert_eq!(kind("8.0.41-32"), Kind::MySql { version: (8, 0, 41) });
        assert_eq!(kind("10.11.6-MariaDB-0+deb12u1-log"), Kind::MariaDb { version: (10, 11) });
        assert_eq!(kind("5.5.5-10.4.2-MariaDB"), Kind::MariaDb { version: (10, 4) });
    }
}
