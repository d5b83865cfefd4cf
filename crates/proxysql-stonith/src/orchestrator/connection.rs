//! One owned HTTP/1 connection to one endpoint, bounded in time and bytes.

use std::time::Duration;

use base64::Engine;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::ServerName;

use super::Settings;
use super::answers::{self, AnswerError, RaftStatus};
use super::endpoint::Endpoint;

/// The largest body that is read, in bytes: 50,000 instances of 1.3 KB.
const BODY_MAX_BYTES: usize = 64 << 20;

/// Why a request came to nothing.
#[derive(Debug, thiserror::Error)]
pub enum RequestError {
    /// Not reached, or it went away.
    #[error("Orchestrator at {endpoint} was not reached: {cause}")]
    Unreached {
        /// Where.
        endpoint: String,
        /// Why.
        cause: String,
    },
    /// TLS failed.
    #[error("Orchestrator at {endpoint}: TLS failed: {cause}. Check the certificate, and orchestrator.ca_file")]
    Tls {
        /// Where.
        endpoint: String,
        /// Why.
        cause: String,
    },
    /// 401 or 403.
    #[error("Orchestrator at {endpoint} refused {path} with {status}: check orchestrator.user and its password")]
    Refused {
        /// Where.
        endpoint: String,
        /// What was asked.
        path: String,
        /// The status.
        status: StatusCode,
    },
    /// Another status.
    #[error("Orchestrator at {endpoint} answered {path} with {status}: {body}")]
    Status {
        /// Where.
        endpoint: String,
        /// What was asked.
        path: String,
        /// The status.
        status: StatusCode,
        /// The beginning of the body.
        body: String,
    },
    /// Not HTTP, cut short, or too large.
    #[error(
        "Orchestrator at {endpoint} answered {path} with something that is not a whole HTTP answer of at most 64 MiB: {cause}"
    )]
    Garbled {
        /// Where.
        endpoint: String,
        /// What was asked.
        path: String,
        /// Why.
        cause: String,
    },
    /// Not the JSON we know.
    #[error("Orchestrator at {endpoint} answered {path} with JSON that cannot be used: {cause}")]
    Unreadable {
        /// Where.
        endpoint: String,
        /// What was asked.
        path: String,
        /// Why.
        cause: AnswerError,
    },
}

impl RequestError {
    /// The connection or the lead went away.
    pub fn lost(endpoint: &str, cause: &str) -> Self {
        Self::Unreached { endpoint: endpoint.to_owned(), cause: cause.to_owned() }
    }

    /// Whether nothing was heard, as against something unusable.
    pub fn is_unreached(&self) -> bool {
        matches!(self, Self::Unreached { .. })
    }

    /// Whether the credential was refused.
    pub fn is_refused(&self) -> bool {
        matches!(self, Self::Refused { .. })
    }
}

/// A whole answer.
#[derive(Debug)]
pub struct Response {
    /// The status code.
    pub status: u16,
    /// The server's `Date`, s since 1970.
    pub date_s: i64,
    body: Bytes,
    endpoint: String,
    path: String,
}

impl Response {
    /// Reads the body of a 200.
    pub fn read<T>(&self, parse: impl FnOnce(&[u8]) -> Result<T, AnswerError>) -> Result<T, RequestError> {
        if self.status != 200 {
            return Err(self.unexpected());
        }
        let unreadable =
            |cause| RequestError::Unreadable { endpoint: self.endpoint.clone(), path: self.path.clone(), cause };
        parse(&self.body).map_err(unreadable)
    }

    /// The error that an unexpected status is.
    pub fn unexpected(&self) -> RequestError {
        let (endpoint, path) = (self.endpoint.clone(), self.path.clone());
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        match self.status {
            401 | 403 => RequestError::Refused { endpoint, path, status },
            _ => RequestError::Status {
                endpoint,
                path,
                status,
                body: String::from_utf8_lossy(&self.body).chars().take(200).collect(),
            },
        }
    }

    /// The raft status that this is; none where raft is off.
    pub fn raft_status(&self) -> Option<RaftStatus> {
        self.read(answers::raft_status).ok()
    }
}

/// A connection.
#[derive(Debug)]
pub struct Connection {
    sender: SendRequest<Empty<Bytes>>,
    endpoint: Endpoint,
    authorization: Option<String>,
    read_timeout: Duration,
}

impl Connection {
    /// Connects.
    ///
    /// # Errors
    /// Not reached in time, or TLS failed.
    pub async fn open(
        endpoint: &Endpoint,
        settings: &Settings,
        tls: Option<&TlsConnector>,
    ) -> Result<Self, RequestError> {
        let opening = Self::open_unbounded(endpoint, settings, tls);
        match tokio::time::timeout(settings.connect_timeout, opening).await {
            Ok(opened) => opened,
            Err(_) => Err(RequestError::lost(
                &endpoint.to_string(),
                &format!("no connection within {:?}", settings.connect_timeout),
            )),
        }
    }

    async fn open_unbounded(
        endpoint: &Endpoint,
        settings: &Settings,
        tls: Option<&TlsConnector>,
    ) -> Result<Self, RequestError> {
        let unreached = |cause: &dyn std::error::Error| RequestError::lost(&endpoint.to_string(), &cause.to_string());
        let stream = TcpStream::connect((endpoint.host(), endpoint.port())).await.map_err(|error| unreached(&error))?;
        let _ = stream.set_nodelay(true);
        let sender = match tls.filter(|_| endpoint.is_https()) {
            None => Self::speak(stream, endpoint).await?,
            Some(connector) => {
                let tls = |cause: String| RequestError::Tls { endpoint: endpoint.to_string(), cause };
                let name = ServerName::try_from(endpoint.host().to_owned()).map_err(|error| tls(error.to_string()))?;
                let stream = connector.connect(name, stream).await.map_err(|error| tls(error.to_string()))?;
                Self::speak(stream, endpoint).await?
            }
        };
        let authorization = settings.auth.as_ref().map(|auth| {
            let plain = format!("{}:{}", auth.user, auth.password.expose());
            format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(plain))
        });
        Ok(Self { sender, endpoint: endpoint.clone(), authorization, read_timeout: settings.read_timeout })
    }

    async fn speak<S>(stream: S, endpoint: &Endpoint) -> Result<SendRequest<Empty<Bytes>>, RequestError>
    where
        S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
    {
        let (sender, connection) = handshake(TokioIo::new(stream))
            .await
            .map_err(|error| RequestError::lost(&endpoint.to_string(), &error.to_string()))?;
        // Ends with the sender.
        tokio::spawn(async move { drop(connection.await) });
        Ok(sender)
    }

    /// One GET; the connection can't be used any more after an error.
    ///
    /// # Errors
    /// See [`RequestError`].
    pub async fn get(&mut self, request: &str) -> Result<Response, RequestError> {
        let endpoint = self.endpoint.to_string();
        match tokio::time::timeout(self.read_timeout, self.get_unbounded(request)).await {
            Ok(result) => result,
            Err(_) => {
                Err(RequestError::lost(&endpoint, &format!("no answer to {request} within {:?}", self.read_timeout)))
            }
        }
    }

    async fn get_unbounded(&mut self, request: &str) -> Result<Response, RequestError> {
        let endpoint = self.endpoint.to_string();
        let path = self.endpoint.path(request);
        let mut builder =
            Request::get(&path).header("host", self.endpoint.authority()).header("accept", "application/json");
        if let Some(authorization) = &self.authorization {
            builder = builder.header("authorization", authorization);
        }
        let garbled = |cause: String| RequestError::Garbled { endpoint: endpoint.clone(), path: path.clone(), cause };
        let message = builder.body(Empty::new()).map_err(|error| garbled(error.to_string()))?;
        self.sender.ready().await.map_err(|error| RequestError::lost(&endpoint, &error.to_string()))?;
        let answer = match self.sender.send_request(message).await {
            Ok(answer) => answer,
            Err(error) if error.is_parse() => return Err(garbled(error.to_string())),
            Err(error) => return Err(RequestError::lost(&endpoint, &error.to_string())),
        };
        let status = answer.status().as_u16();
        let date = answer.headers().get("date").and_then(|value| value.to_str().ok());
        let date_s = date.and_then(answers::http_date).unwrap_or_else(crate::clock::wall_s);
        let body = Limited::new(answer.into_body(), BODY_MAX_BYTES)
            .collect()
            .await
            .map_err(|error| garbled(error.to_string()))?;
        Ok(Response { status, date_s, body: body.to_bytes(), endpoint: endpoint.clone(), path: path.clone() })
    }
}
