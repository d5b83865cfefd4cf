//! MySQL's client protocol, as much of it as the admin interface needs: one login, then one text statement at a time.
//!
//! ```text
//! greeting -> [TLS] -> login -> [switch to mysql_native_password] -> (statement -> answer)* -> goodbye
//! ```
//!
//! It is our own because a stock driver does what the server asks: `mysql_async` answers `caching_sha2_password` and its
//! RSA key with the password, and makes room for as many columns as a packet says (docs/security.md).
//!
//! **Invariants:** a password leaves only as the answer of `mysql_native_password`, and only to a server that asks for
//! it. An answer takes at most [`ANSWER_MAX_BYTES`], and room is made for what has come, never for what is announced.

mod handshake;
mod packet;
mod resultset;

use std::fmt;
use std::io;

use stonith_core::table::Record;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::ServerName;

use crate::secret::Credential;
use packet::{Budget, Packets};

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

/// The most memory that one answer may take: some 60,000 server rows. ProxySQL with 5,000 was measured (facts §1).
pub const ANSWER_MAX_BYTES: usize = 64 << 20;

/// The most that a server may say until the login is done.
const LOGIN_MAX_BYTES: usize = 64 << 10;

const COM_QUIT: u8 = 1;
const COM_QUERY: u8 = 3;

/// Why a conversation did not go on.
#[derive(Debug, thiserror::Error)]
pub enum WireError {
    /// The socket.
    #[error("{0}")]
    Io(io::Error),
    /// The server closed the connection.
    #[error("the connection was closed")]
    Closed,
    /// The server said no, in these words; after the login the connection goes on.
    #[error("{0}")]
    Refused(String),
    /// The server asks for another proof of the password than the one that is given.
    #[error("it asks for {0}")]
    Asks(String),
    /// No TLS, or none that can be trusted.
    #[error("{cause}")]
    Tls {
        /// What is wrong.
        cause: String,
        /// What to do about it.
        advice: &'static str,
    },
    /// More than [`ANSWER_MAX_BYTES`].
    #[error("more than {} MiB", ANSWER_MAX_BYTES >> 20)]
    TooMuch,
    /// No server of this protocol says that here.
    #[error("a packet that makes no sense: {0}")]
    Senseless(&'static str),
    /// An earlier statement ended the connection.
    #[error("the connection was lost before")]
    Over,
}

impl From<io::Error> for WireError {
    fn from(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::UnexpectedEof { Self::Closed } else { Self::Io(error) }
    }
}

/// What a connection runs over: TCP, or TLS.
trait Stream: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send {}

impl<S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send> Stream for S {}

/// One connection that is logged in. Not bounded in time: that is the caller's.
pub struct Connection {
    /// Away while a statement runs, and for good where one was cut off: nobody reads the rest of its answer as another's.
    packets: Option<Packets<Box<dyn Stream>>>,
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection").finish_non_exhaustive()
    }
}

impl Connection {
    /// Logs in. With `tls` nothing is said before the server has proven who it is.
    ///
    /// # Errors
    /// [`WireError::Refused`] if the server does not take the credential.
    pub async fn open(
        stream: TcpStream,
        credential: &Credential,
        tls: Option<(&TlsConnector, ServerName<'static>)>,
    ) -> Result<Self, WireError> {
        stream.set_nodelay(true)?;
        let mut budget = Budget::new(LOGIN_MAX_BYTES);
        let mut packets = Packets::new(Box::new(stream) as Box<dyn Stream>);
        let greeting = handshake::greeting(packets.read(&mut budget).await?)?;
        let over_tls = tls.is_some();
        if let Some((connector, name)) = tls {
            if !greeting.offers_tls() {
                return Err(WireError::Tls {
                    cause: "it offers no TLS".to_owned(),
                    advice: "Set mysql-have_ssl=true in ProxySQL. Nothing was sent to it: somebody between it and \
                             this host may have taken the offer away",
                });
            }
            packets.write(&handshake::tls_request()).await?;
            let stream = connector.connect(name, packets.into_stream()?).await.map_err(super::tls::failure)?;
            packets = Packets::carried_on(Box::new(stream), 2);
        }
        handshake::log_in(&mut packets, &greeting, credential, over_tls, &mut budget).await?;
        Ok(Self { packets: Some(packets) })
    }

    /// Sends a statement and reads its answer.
    ///
    /// # Errors
    /// [`WireError::Refused`] where the connection goes on; anything else ends it.
    pub async fn query(&mut self, statement: &str) -> Result<Answer, WireError> {
        let mut packets = self.packets.take().ok_or(WireError::Over)?;
        packets.begin();
        packets.write(&[&[COM_QUERY], statement.as_bytes()].concat()).await?;
        let answer = resultset::read(&mut packets, &mut Budget::new(ANSWER_MAX_BYTES)).await;
        if matches!(answer, Ok(_) | Err(WireError::Refused(_))) {
            self.packets = Some(packets);
        }
        answer
    }

    /// Says goodbye.
    pub async fn quit(mut self) {
        if let Some(mut packets) = self.packets.take() {
            packets.begin();
            let _ = packets.write(&[COM_QUIT]).await;
        }
    }
}
