//! A connection to the admin interface.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use stonith_core::node::Node;
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::rustls::{CertificateError, Error};

use crate::loopback::{is_here, numeric};
use crate::secret::Credential;
use crate::untrusted_text::one_line;
use crate::wire::{ANSWER_MAX_BYTES, Answer, Connection, Tls, TlsProblem, WireError};

/// The settings to connect.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The address of the admin interface. It names the ProxySQL, also where a socket is used.
    pub address: Node,
    /// The unix socket to connect to, instead of the address.
    pub socket: Option<PathBuf>,
    /// The credential. Unless the address is local, it must be that of a remote admin user (facts §1).
    pub credential: Credential,
    /// TLS and how the server is verified; `None` is plain TCP.
    pub tls: Option<Tls>,
    /// The longest wait for the connection, and for each reply.
    pub timeout: Duration,
}

/// Why another server may answer in this ProxySQL's place; `None` if TLS, a socket or this host's own network prevents
/// it.
pub fn unverified(address: &Node, has_tls: bool, has_socket: bool) -> Option<String> {
    let is_open = !has_tls && !has_socket && !is_here(address.host.as_str());
    is_open.then(|| {
        format!(
            "ProxySQL's admin interface at {address} is used without TLS: anyone on the network path to it can relay a login \
            and run admin commands. Set tls = \"verify-ca\" and ca_file at this [[proxysql]], or use a network \
             that you trust"
        )
    })
}

/// An error of the admin interface.
#[derive(Debug, thiserror::Error)]
pub enum AdminError {
    /// The admin interface was not reached.
    #[error(
        "ProxySQL's admin interface at {address} was not reached: {cause}. Is ProxySQL running, and is this its admin port, not its client port?"
    )]
    Connect {
        /// The admin interface.
        address: Node,
        /// The cause.
        cause: String,
    },
    /// ProxySQL refused the user or the password.
    #[error(
        "ProxySQL at {address} refused user {user:?}: {cause}. Check the credential; remote users must be in admin-admin_credentials and must not be named \"admin\". A password that is stored there as \"$A$...\" needs tls = \"verify-ca\" in this [[proxysql]], and mysql-default_authentication_plugin='caching_sha2_password' in ProxySQL"
    )]
    AccessDenied {
        /// The admin interface.
        address: Node,
        /// The user.
        user: String,
        /// ProxySQL's error.
        cause: String,
    },
    /// The server asks for the password itself, or for a proof that reveals it, and may not have it.
    #[error(
        "the server at {address} asks for {asked}, not for mysql_native_password as ProxySQL's admin interface does. The login was stopped, and the password was not sent. Is this ProxySQL, and is this its admin port, not its client port? If it is, set tls = \"verify-ca\" and ca_file in this [[proxysql]]: caching_sha2_password is answered only over TLS"
    )]
    Asks {
        /// The admin interface.
        address: Node,
        /// The plugin that it named.
        asked: String,
    },
    /// TLS is configured, but not offered or not trusted.
    #[error("TLS to ProxySQL's admin interface at {address}: {cause}. {advice}")]
    Tls {
        /// The admin interface.
        address: Node,
        /// The cause.
        cause: String,
        /// What to do.
        advice: &'static str,
    },
    /// ProxySQL refused the statement.
    #[error("ProxySQL at {address} refused {statement:?}: {cause}")]
    Refused {
        /// The admin interface.
        address: Node,
        /// The statement, shortened.
        statement: String,
        /// ProxySQL's error.
        cause: String,
    },
    /// The connection broke, or a reply was late.
    #[error("ProxySQL at {address} did not answer {statement:?}: {cause}")]
    Lost {
        /// The admin interface.
        address: Node,
        /// The statement, shortened.
        statement: String,
        /// The cause.
        cause: String,
    },
    /// The answer is larger than the limit that the message names.
    #[error("ProxySQL at {address} answered {statement:?} with more than {} MiB", ANSWER_MAX_BYTES >> 20)]
    TooMuch {
        /// The admin interface.
        address: Node,
        /// The statement, shortened.
        statement: String,
    },
}

/// A connection to the admin interface.
#[derive(Debug)]
pub struct Admin {
    connection: Connection,
    /// The number of this connection in this process.
    number: u64,
    address: Node,
    timeout: Duration,
}

impl Admin {
    /// Connects and logs in, without sending a query.
    ///
    /// # Errors
    /// [`AdminError::Connect`], or [`AdminError::AccessDenied`].
    pub async fn connect(settings: &Settings) -> Result<Self, AdminError> {
        let address = settings.address.clone();
        let opening = async {
            let host = address.host.as_str();
            let tls = settings.tls.as_ref().map(|tls| tls.towards(host)).transpose()?;
            match &settings.socket {
                Some(path) => Connection::open(UnixStream::connect(path).await?, &settings.credential, tls).await,
                None => {
                    let stream = TcpStream::connect((numeric(host), address.port)).await?;
                    stream.set_nodelay(true)?;
                    Connection::open(stream, &settings.credential, tls).await
                }
            }
        };
        let connection = match tokio::time::timeout(settings.timeout, opening).await {
            Err(_) => {
                return Err(AdminError::Connect { address, cause: format!("no answer within {:?}", settings.timeout) });
            }
            Ok(Ok(connection)) => connection,
            Ok(Err(WireError::Refused { text: words, .. })) => {
                let user = settings.credential.user.clone();
                return Err(AdminError::AccessDenied { address, user, cause: one_line(&words) });
            }
            Ok(Err(WireError::Asks(asked))) => return Err(AdminError::Asks { address, asked }),
            Ok(Err(WireError::Tls(problem))) => {
                let (cause, advice) = (problem.to_string(), advice(&problem));
                return Err(AdminError::Tls { address, cause, advice });
            }
            Ok(Err(error)) => {
                let at = settings.socket.as_ref().map(|path| format!("{}: ", path.display())).unwrap_or_default();
                return Err(AdminError::Connect { address, cause: one_line(&format!("{at}{error}")) });
            }
        };
        static CONNECTIONS: AtomicU64 = AtomicU64::new(0);
        let number = CONNECTIONS.fetch_add(1, Ordering::Relaxed);
        Ok(Self { connection, number, address, timeout: settings.timeout })
    }

    /// The address of the admin interface.
    pub fn address(&self) -> &Node {
        &self.address
    }

    /// The number of this connection in this process.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// Sends one statement and reads its whole answer.
    ///
    /// # Errors
    /// [`AdminError::Refused`] leaves the connection usable. Any other error ends it.
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
            Ok(Err(WireError::Refused { text: words, .. })) => {
                Err(AdminError::Refused { address, statement: short(), cause: one_line(&words) })
            }
            Ok(Err(error)) => {
                Err(AdminError::Lost { address, statement: short(), cause: one_line(&error.to_string()) })
            }
        }
    }

    /// Closes the connection. ProxySQL would close a dropped one only later.
    pub async fn close(self) {
        let _ = tokio::time::timeout(self.timeout, self.connection.quit()).await;
    }
}

/// What to do about TLS that did not come about.
fn advice(problem: &TlsProblem) -> &'static str {
    use CertificateError as Bad;
    match problem {
        TlsProblem::NotOffered => {
            "Set mysql-have_ssl=true in ProxySQL. The login was not sent: another host on the path may have removed the \
             offer of TLS"
        }
        TlsProblem::NoName(_) => "Use a host name or address for ProxySQL that a certificate can contain",
        TlsProblem::Handshake(Error::InvalidCertificate(Bad::Expired | Bad::ExpiredContext { .. })) => {
            "Renew ProxySQL's certificate (PROXYSQL RELOAD TLS), or correct this host's clock"
        }
        TlsProblem::Handshake(Error::InvalidCertificate(Bad::NotValidYet | Bad::NotValidYetContext { .. })) => {
            "Correct this host's clock"
        }
        TlsProblem::Handshake(Error::InvalidCertificate(Bad::NotValidForName | Bad::NotValidForNameContext { .. })) => {
            "Use a name for ProxySQL that is in its certificate, or set tls = \"verify-ca\" with a CA of its own, such \
             as the proxysql-ca.pem in its data directory"
        }
        TlsProblem::Handshake(Error::InvalidCertificate(_)) => {
            "Set ca_file to the CA that signed ProxySQL's certificate. By default it is proxysql-ca.pem in ProxySQL's data \
            directory"
        }
        TlsProblem::Handshake(_) => "Check ProxySQL's certificate, and ca_file",
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
