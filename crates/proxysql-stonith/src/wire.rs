//! The part of MySQL's client protocol that ProxySQL's admin interface and the fence of a node need: one login, then one
//! text statement at a time.
//!
//! ```text
//! greeting -> [TLS] -> login -> [switch to mysql_native_password] -> [the password, over TLS] -> (statement -> answer)* -> goodbye
//! ```
//!
//! It does not use a stock driver, because that does what the server asks. `mysql_async` answers
//! `caching_sha2_password` and its RSA key with the password, and allocates as many columns as a packet announces
//! (docs/security.md).
//!
//! **Invariants:** in the clear nothing of the password is sent but the proof of `mysql_native_password`, and only to a
//! server that asks for it. A unix socket counts as in the clear. The password itself is sent only over TLS, to a server
//! that was verified and asks for `caching_sha2_password`'s full authentication. An answer takes at most [`ANSWER_MAX_BYTES`]. Memory is allocated for received bytes, never for announced ones.

mod handshake;
mod packet;
mod resultset;
mod tls;

use std::fmt;
use std::io;

use stonith_core::table::Record;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls;
use tokio_rustls::rustls::pki_types::ServerName;

use crate::secret::Credential;
use crate::untrusted_text::one_line;
use packet::{Budget, Packets};
pub use tls::{ServerCheck, Tls};

/// A result set, or the number of records that matched.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Answer {
    /// The column names; empty for a statement without a result set.
    pub columns: Vec<String>,
    /// The records, with every value as text.
    pub records: Vec<Record>,
    /// The number of matched records.
    pub affected: u64,
}

/// The largest memory for one answer, in bytes: some 60,000 server rows. 5,000 were measured (facts §1).
pub const ANSWER_MAX_BYTES: usize = 64 << 20;

/// The largest amount that a server may send during the login, in bytes.
const LOGIN_MAX_BYTES: usize = 64 << 10;

const COM_QUIT: u8 = 1;
const COM_QUERY: u8 = 3;

/// An error of the protocol.
#[derive(Debug, thiserror::Error)]
pub enum WireError {
    /// The socket failed.
    #[error("{0}")]
    Io(io::Error),
    /// The server closed the connection.
    #[error("the connection was closed")]
    Closed,
    /// The server refused, with this text. After the login the connection stays usable.
    #[error("{text}")]
    Refused {
        /// MySQL's number of the error. ProxySQL's admin interface has the same for all (facts §1).
        code: u16,
        /// The text.
        text: String,
    },
    /// The server asks for a proof of the password that is not given to it.
    #[error("it asks for {0}")]
    Asks(String),
    /// TLS is not offered or not trusted.
    #[error(transparent)]
    Tls(#[from] TlsProblem),
    /// The answer is larger than [`ANSWER_MAX_BYTES`].
    #[error("more than {} MiB", ANSWER_MAX_BYTES >> 20)]
    TooMuch,
    /// The packet does not fit the protocol.
    #[error("a packet does not fit MySQL's protocol: {0}")]
    Senseless(&'static str),
    /// An earlier statement ended the connection.
    #[error("the connection was lost before")]
    Over,
}

/// Why TLS did not come about. The adapters say what to do about it.
#[derive(Debug, thiserror::Error)]
pub enum TlsProblem {
    /// The server has no TLS, or another host on the path removed the offer. The login was not sent.
    #[error("it offers no TLS")]
    NotOffered,
    /// No certificate can be for this name.
    #[error("{0}")]
    NoName(String),
    /// The handshake failed.
    #[error("{}", one_line(&.0.to_string()))]
    Handshake(rustls::Error),
}

impl From<io::Error> for WireError {
    fn from(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::UnexpectedEof { Self::Closed } else { Self::Io(error) }
    }
}

/// The transport of a connection: TCP, a unix socket or TLS.
pub trait Stream: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send {}

impl<S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send> Stream for S {}

/// A connection after login. The caller bounds the time.
pub struct Connection {
    /// `None` while a statement runs, and for good after one was cut off: the rest of its answer must not be read as
    /// another one's.
    packets: Option<Packets<Box<dyn Stream>>>,
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection").finish_non_exhaustive()
    }
}

impl Connection {
    /// Logs in. With `tls`, nothing secret is sent before the server is verified.
    ///
    /// # Errors
    /// [`WireError::Refused`] if the server refuses the credential.
    pub async fn open(
        stream: impl Stream + 'static,
        credential: &Credential,
        tls: Option<(&TlsConnector, ServerName<'static>)>,
    ) -> Result<Self, WireError> {
        let mut budget = Budget::new(LOGIN_MAX_BYTES);
        let mut packets = Packets::new(Box::new(stream) as Box<dyn Stream>);
        let greeting = handshake::greeting(packets.read(&mut budget).await?)?;
        let over_tls = tls.is_some();
        if let Some((connector, name)) = tls {
            if !greeting.offers_tls() {
                return Err(TlsProblem::NotOffered.into());
            }
            packets.write(&handshake::tls_request()).await?;
            let stream = connector.connect(name, packets.into_stream()?).await.map_err(tls::failure)?;
            packets = Packets::carried_on(Box::new(stream), 2);
        }
        handshake::log_in(&mut packets, &greeting, credential, over_tls, &mut budget).await?;
        Ok(Self { packets: Some(packets) })
    }

    /// Sends a statement and reads its answer.
    ///
    /// # Errors
    /// [`WireError::Refused`] leaves the connection usable. Any other error ends it.
    pub async fn query(&mut self, statement: &str) -> Result<Answer, WireError> {
        let mut packets = self.packets.take().ok_or(WireError::Over)?;
        packets.begin();
        packets.write(&[&[COM_QUERY], statement.as_bytes()].concat()).await?;
        let answer = resultset::read(&mut packets, &mut Budget::new(ANSWER_MAX_BYTES)).await;
        if matches!(answer, Ok(_) | Err(WireError::Refused { .. })) {
            self.packets = Some(packets);
        }
        answer
    }

    /// Closes the connection.
    pub async fn quit(mut self) {
        if let Some(mut packets) = self.packets.take() {
            packets.begin();
            let _ = packets.write(&[COM_QUIT]).await;
        }
    }
}
