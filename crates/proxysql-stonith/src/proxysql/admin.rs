//! One plain connection to the admin interface.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use stonith_core::node::Node;
use tokio::net::TcpStream;

use super::tls::Tls;
use super::wire::{ANSWER_MAX_BYTES, Answer, Connection, WireError};
use crate::loopback::{is_here, numeric};
use crate::secret::Credential;
use crate::untrusted_text::one_line;

/// Where and how to connect.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The admin interface.
    pub address: Node,
    /// Who logs in: a remote admin user unless the address is local (facts §1).
    pub credential: Credential,
    /// TLS, and how the other side proves who it is; `None` is plain TCP.
    pub tls: Option<Tls>,
    /// The longest wait for the connection, and for any one reply.
    pub timeout: Duration,
}

/// Why what answers at this address may be another than this ProxySQL, in words; `None` where TLS or this host's own network
/// vouches.
pub fn unverified(address: &Node, has_tls: bool) -> Option<String> {
    let is_open = !has_tls && !is_here(address.host.as_str());
    is_open.then(|| {
        format!(
            "ProxySQL's admin interface at {address} is spoken to without TLS: whoever is on the network path to it can pass \
             a login on and run its commands. Set tls = \"verify-ca\" and ca_file at this [[proxysql]], or use a network \
             that you trust"
        )
    })
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
        "ProxySQL at {address} refused user {user:?}: {cause}. Check the credential; remote users must be in admin-admin_credentials and must not be named \"admin\", and a password must stand there as text or as \"*...\", not as \"$A$...\""
    )]
    AccessDenied {
        /// Where.
        address: Node,
        /// Who.
        user: String,
        /// ProxySQL's words.
        cause: String,
    },
    /// The server asks for the password itself, or for a proof that gives it away.
    #[error(
        "the server at {address} asks for {asked}, not for mysql_native_password, as ProxySQL's admin interface does: the login was given up, and it got nothing of the password. Is this ProxySQL, and is this its admin (not its client) port?"
    )]
    Asks {
        /// Where.
        address: Node,
        /// The plugin it named.
        asked: String,
    },
    /// TLS was asked for, and can't be had or not be trusted.
    #[error("TLS to ProxySQL's admin interface at {address}: {cause}. {advice}")]
    Tls {
        /// Where.
        address: Node,
        /// Why.
        cause: String,
        /// What to do about it.
        advice: &'static str,
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
    #[error("ProxySQL at {address} answered {statement:?} with more than {} MiB", ANSWER_MAX_BYTES >> 20)]
    TooMuch {
        /// Where.
        address: Node,
        /// What was tried; shortened.
        statement: String,
    },
}

/// A connection to the admin interface.
#[derive(Debug)]
pub struct Admin {
    connection: Connection,
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
        let opening = async {
            let host = address.host.as_str();
            let tls = settings.tls.as_ref().map(|tls| tls.towards(host)).transpose()?;
            let stream = TcpStream::connect((numeric(host), address.port)).await?;
            Connection::open(stream, &settings.credential, tls).await
        };
        let connection = match tokio::time::timeout(settings.timeout, opening).await {
            Err(_) => {
                return Err(AdminError::Connect { address, cause: format!("no answer within {:?}", settings.timeout) });
            }
            Ok(Ok(connection)) => connection,
            Ok(Err(WireError::Refused(words))) => {
                let user = settings.credential.user.clone();
                return Err(AdminError::AccessDenied { address, user, cause: one_line(&words) });
            }
            Ok(Err(WireError::Asks(asked))) => return Err(AdminError::Asks { address, asked }),
            Ok(Err(WireError::Tls { cause, advice })) => return Err(AdminError::Tls { address, cause, advice }),
            Ok(Err(error)) => return Err(AdminError::Connect { address, cause: one_line(&error.to_string()) }),
        };
        static CONNECTIONS: AtomicU64 = AtomicU64::new(0);
        let number = CONNECTIONS.fetch_add(1, Ordering::Relaxed);
        Ok(Self { connection, number, address, timeout: settings.timeout })
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
        match tokio::time::timeout(timeout, self.connection.query(statement)).await {
            Err(_) => {
                Err(AdminError::Lost { address, statement: short(), cause: format!("no answer within {timeout:?}") })
            }
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(WireError::TooMuch)) => Err(AdminError::TooMuch { address, statement: short() }),
            Ok(Err(WireError::Refused(words))) => {
                Err(AdminError::Refused { address, statement: short(), cause: one_line(&words) })
            }
            Ok(Err(error)) => {
                Err(AdminError::Lost { address, statement: short(), cause: one_line(&error.to_string()) })
            }
        }
    }

    /// Says goodbye; a connection that is simply dropped is closed by ProxySQL at its leisure.
    pub async fn close(self) {
        let _ = tokio::time::timeout(self.timeout, self.connection.quit()).await;
    }
}

fn shorten(statement: &str) -> String {
    const MOST: usize = 160;
    if statement.chars().count() <= MOST {
        return statement.to_owned();
    }
    statement.chars().take(MOST).chain("...".chars()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_statement_is_quoted_by_its_beginning() {
        assert_eq!(shorten(&"s".repeat(160)), "s".repeat(160));
        assert_eq!(shorten(&"s".repeat(161)), format!("{}...", "s".repeat(160)));
    }
}
