//! One plain connection to the admin interface.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use mysql_async::prelude::Queryable;
use mysql_async::{Conn, Opts, OptsBuilder, Row, Value};
use stonith_core::node::Node;
use stonith_core::table::Record;

use crate::bytes;
use crate::foreign::shown;
use crate::secret::Secret;

/// The most rows read from one table. ProxySQL with 5,000 servers was measured (FACTS §1).
const ROWS_MAX: usize = 200_000;

/// The largest packet read or written, in bytes: ProxySQL's own default.
const PACKET_MAX_BYTES: usize = 64 << 20;

/// Who logs in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Credential {
    /// The admin user; a remote one unless the address is local (FACTS §1).
    pub user: String,
    /// Its password.
    pub password: Secret,
}

/// Where and how to connect.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The admin interface.
    pub address: Node,
    /// Who logs in.
    pub credential: Credential,
    /// The longest wait for the connection, and for any one reply.
    pub timeout: Duration,
}

/// What went wrong on the admin interface.
#[derive(Debug, thiserror::Error)]
pub enum AdminError {
    /// Not reached.
    #[error(
        "connecting to ProxySQL's admin interface at {address}: {cause}. Is ProxySQL running, and is this its admin (not its client) port?"
    )]
    Connect {
        /// Where.
        address: Node,
        /// Why.
        cause: String,
    },
    /// The password or user is wrong.
    #[error(
        "ProxySQL at {address} refused user {user:?}: {cause}. Check the credential; remote users must be in admin-admin_credentials and must not be named \"admin\""
    )]
    AccessDenied {
        /// Where.
        address: Node,
        /// Who.
        user: String,
        /// ProxySQL's words.
        cause: String,
    },
    /// The statement was refused.
    #[error("ProxySQL at {address} refused {statement:?}: {cause}")]
    Refused {
        /// Where.
        address: Node,
        /// What was tried; shortened.
        statement: String,
        /// ProxySQL's words.
        cause: String,
    },
    /// The connection broke or a reply did not come in time.
    #[error("ProxySQL at {address} did not answer {statement:?}: {cause}")]
    Lost {
        /// Where.
        address: Node,
        /// What was tried; shortened.
        statement: String,
        /// Why.
        cause: String,
    },
    /// More than we are ready to read.
    #[error("ProxySQL at {address} answered {statement:?} with more than {ROWS_MAX} rows")]
    TooManyRows {
        /// Where.
        address: Node,
        /// What was tried; shortened.
        statement: String,
    },
}

/// A result set, or the number of records that matched.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Answer {
    /// Column names; empty for a statement without a result set.
    pub columns: Vec<String>,
    /// Records; every value as text, as the admin interface sends it.
    pub records: Vec<Record>,
    /// Matched records.
    pub affected: u64,
}

/// A connection to the admin interface.
#[derive(Debug)]
pub struct Admin {
    conn: Conn,
    /// Which connection of this process it is.
    number: u64,
    address: Node,
    timeout: Duration,
}

impl Admin {
    /// Connects and logs in; sends no query.
    ///
    /// # Errors
    /// [`AdminError::Connect`], or [`AdminError::AccessDenied`].
    pub async fn connect(settings: &Settings) -> Result<Self, AdminError> {
        let address = settings.address.clone();
        let opts: Opts = OptsBuilder::default()
            .ip_or_hostname(address.host.as_str())
            .tcp_port(address.port)
            .user(Some(settings.credential.user.clone()))
            .pass(Some(settings.credential.password.expose().to_owned()))
            // Each of these spares a query that the admin interface answers with an error (FACTS §1).
            .prefer_socket(false)
            .max_allowed_packet(Some(PACKET_MAX_BYTES))
            .wait_timeout(Some(28_800))
            .stmt_cache_size(0)
            .into();
        let conn = match tokio::time::timeout(settings.timeout, caught(Conn::new(opts))).await {
            Err(_) => {
                return Err(AdminError::Connect { address, cause: format!("no answer within {:?}", settings.timeout) });
            }
            Ok(Ok(conn)) => conn,
            Ok(Err(mysql_async::Error::Server(error))) => {
                let user = settings.credential.user.clone();
                return Err(AdminError::AccessDenied { address, user, cause: shown(&error.message) });
            }
            Ok(Err(error)) => return Err(AdminError::Connect { address, cause: whole_cause(&error) }),
        };
        static CONNECTIONS: AtomicU64 = AtomicU64::new(0);
        let number = CONNECTIONS.fetch_add(1, Ordering::Relaxed);
        Ok(Self { conn, number, address, timeout: settings.timeout })
    }

    /// Where this connects to.
    pub fn address(&self) -> &Node {
        &self.address
    }

    /// Which connection of this process it is.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// Sends one statement and reads its whole answer.
    ///
    /// # Errors
    /// [`AdminError::Refused`] where the connection goes on; anything else ends it.
    pub async fn query(&mut self, statement: &str) -> Result<Answer, AdminError> {
        let address = self.address.clone();
        let short = || shorten(statement);
        let timeout = self.timeout;
        match tokio::time::timeout(timeout, caught(read(&mut self.conn, statement))).await {
            Err(_) => {
                Err(AdminError::Lost { address, statement: short(), cause: format!("no answer within {timeout:?}") })
            }
            Ok(Ok(Some(answer))) => Ok(answer),
            Ok(Ok(None)) => Err(AdminError::TooManyRows { address, statement: short() }),
            Ok(Err(mysql_async::Error::Server(error))) => {
                Err(AdminError::Refused { address, statement: short(), cause: shown(&error.message) })
            }
            Ok(Err(error)) => Err(AdminError::Lost { address, statement: short(), cause: whole_cause(&error) }),
        }
    }

    /// Says goodbye; a connection that is simply dropped is closed by ProxySQL at its leisure.
    pub async fn close(self) {
        let _ = tokio::time::timeout(self.timeout, self.conn.disconnect()).await;
    }
}

/// The driver panics on some packets that no ProxySQL sends, an empty one for instance. One ProxySQL gone mad must not
/// end an agent that serves others too: an error like any other, which ends the connection.
async fn caught<T>(asked: impl Future<Output = Result<T, mysql_async::Error>>) -> Result<T, mysql_async::Error> {
    let mut asked = pin!(asked);
    let gone_mad = || std::io::Error::new(std::io::ErrorKind::InvalidData, "a packet that makes no sense");
    let poll = |context: &mut Context<'_>| {
        catch_unwind(AssertUnwindSafe(|| asked.as_mut().poll(context)))
            .unwrap_or_else(|_| Poll::Ready(Err(mysql_async::Error::from(gone_mad()))))
    };
    std::future::poll_fn(poll).await
}

async fn read(conn: &mut Conn, statement: &str) -> Result<Option<Answer>, mysql_async::Error> {
    let mut result = conn.query_iter(statement).await?;
    let columns: Vec<String> = result.columns_ref().iter().map(|column| column.name_str().into_owned()).collect();
    let mut records = Vec::new();
    while let Some(row) = result.next().await? {
        if records.len() == ROWS_MAX {
            return Ok(None);
        }
        records.push(texts(row));
    }
    let affected = result.affected_rows();
    drop(result);
    Ok(Some(Answer { columns, records, affected }))
}

fn texts(row: Row) -> Record {
    row.unwrap().into_iter().map(text).collect()
}

fn text(value: Value) -> Option<String> {
    match value {
        Value::NULL => None,
        Value::Bytes(bytes) => Some(bytes::to_text(bytes)),
        other => Some(other.as_sql(true).trim_matches('\'').to_owned()),
    }
}

fn shorten(statement: &str) -> String {
    const MOST: usize = 160;
    if statement.chars().count() <= MOST {
        return statement.to_owned();
    }
    statement.chars().take(MOST).chain("...".chars()).collect()
}

/// An error with all its causes, once each.
fn whole_cause(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let said = cause.to_string();
        if !text.contains(&said) {
            text.push_str(": ");
            text.push_str(&said);
        }
        next = cause.source();
    }
    shown(&text)
}
