//! An HTTP/1 connection to one endpoint, bounded in time and bytes.

use std::error::Error as StdError;
use std::time::Duration;

use base64::Engine;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::{Body, Bytes};
use hyper::client::conn::http1::{Builder, SendRequest};
use hyper::header::{AUTHORIZATION, CONNECTION, DATE, HeaderMap, HeaderValue, LOCATION};
use hyper::{Request, Version};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::Instant;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::ServerName;

use super::Settings;
use super::answers::{self, Health, Raft, RaftStatus, WhyNot};
use super::endpoint::Endpoint;
use super::error::{RequestError, tls_error};
use super::response::{Response, Secrets};
use crate::untrusted_text::whole_cause;

/// The largest list of instances, in bytes: 20,000 instances of 3 KB, as recorded.
const INSTANCES_MAX_BYTES: usize = 64 << 20;

/// The largest page of the recovery history, in bytes: 20 records, each with its replicas by name. A list of thousands of
/// clusters fits too, and so do a node's tags, which never end.
const HISTORY_MAX_BYTES: usize = 8 << 20;

/// The largest answer about the lead or the raft, and the largest error, in bytes.
const SMALL_MAX_BYTES: usize = 64 << 10;

/// The largest read-ahead that a connection keeps, and the largest head of an answer, in bytes.
const BUFFER_MAX_BYTES: usize = 16 << 10;

fn most_bytes(request: &str, status: u16) -> usize {
    match request.split('/').next() {
        Some("downtimed" | "all-instances") if status == 200 => INSTANCES_MAX_BYTES,
        Some("audit-recovery" | "clusters-info" | "blocked-recoveries" | "tags") if status == 200 => HISTORY_MAX_BYTES,
        Some(request) if request.starts_with("tagged?") && status == 200 => HISTORY_MAX_BYTES,
        _ => SMALL_MAX_BYTES,
    }
}

/// A connection to one endpoint.
pub struct Connection {
    sender: SendRequest<Empty<Bytes>>,
    endpoint: Endpoint,
    authorization: Option<HeaderValue>,
    secrets: Secrets,
    read_timeout: Duration,
    /// Whether nothing more comes on it, because the server closes it or it was given up.
    closing: bool,
    opened: Instant,
    /// How many whole answers were read from it.
    answers: u32,
    /// The node's own name, once it was asked.
    name: Option<String>,
}

impl Connection {
    /// Opens a connection.
    ///
    /// # Errors
    /// The endpoint was not reached in time, or TLS failed.
    pub async fn open(
        endpoint: &Endpoint,
        settings: &Settings,
        tls: Option<&TlsConnector>,
    ) -> Result<Self, RequestError> {
        let opening = Self::open_unbounded(endpoint, settings, tls);
        match tokio::time::timeout(settings.connect_timeout, opening).await {
            Ok(opened) => opened,
            Err(_) => Err(RequestError::Late {
                endpoint: endpoint.to_string(),
                what: "take a connection".to_owned(),
                within: settings.connect_timeout,
            }),
        }
    }

    async fn open_unbounded(
        endpoint: &Endpoint,
        settings: &Settings,
        tls: Option<&TlsConnector>,
    ) -> Result<Self, RequestError> {
        let unreached = |error: &(dyn StdError + 'static)| RequestError::Unreached {
            endpoint: endpoint.to_string(),
            cause: whole_cause(error),
        };
        let stream = TcpStream::connect((endpoint.host(), endpoint.port())).await.map_err(|error| unreached(&error))?;
        let _ = stream.set_nodelay(true);
        let sender = match tls.filter(|_| endpoint.is_https()) {
            None => Self::speak(stream).await.map_err(|error| unreached(&error))?,
            Some(connector) => {
                let name = ServerName::try_from(endpoint.host().to_owned()).map_err(|error| RequestError::Tls {
                    endpoint: endpoint.to_string(),
                    cause: error.to_string(),
                    advice: "Use an endpoint URL with a host name or address that a certificate can contain",
                })?;
                let stream = connector
                    .connect(name, stream)
                    .await
                    .map_err(|error| tls_error(endpoint, &error).unwrap_or_else(|| unreached(&error)))?;
                Self::speak(stream).await.map_err(|error| unreached(&error))?
            }
        };
        let (mut authorization, mut secrets) = (None, Secrets::default());
        if let Some(auth) = &settings.auth {
            let plain = format!("{}:{}", auth.user, auth.password.expose());
            let encoded = base64::engine::general_purpose::STANDARD.encode(plain);
            if let Ok(mut value) = HeaderValue::try_from(format!("Basic {encoded}")) {
                value.set_sensitive(true);
                authorization = Some(value);
            }
            secrets = Secrets::of([encoded.as_str(), auth.password.expose()]);
        }
        let (endpoint, read_timeout) = (endpoint.clone(), settings.read_timeout);
        let (opened, closing, answers, name) = (Instant::now(), false, 0, None);
        Ok(Self { sender, endpoint, authorization, secrets, read_timeout, closing, opened, answers, name })
    }

    async fn speak<S>(stream: S) -> Result<SendRequest<Empty<Bytes>>, hyper::Error>
    where
        S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
    {
        let (sender, connection) =
            Builder::new().max_buf_size(BUFFER_MAX_BYTES).handshake(TokioIo::new(stream)).await?;
        // The task ends when the sender is dropped.
        tokio::spawn(async move { drop(connection.await) });
        Ok(sender)
    }

    /// Sends one GET and reads the answer. After an error the connection must not be used any more.
    ///
    /// # Errors
    /// See [`RequestError`].
    pub async fn get(&mut self, request: &str) -> Result<Response, RequestError> {
        let path = self.endpoint.path(request);
        match tokio::time::timeout(self.read_timeout, self.get_unbounded(request, &path)).await {
            Ok(result) => result,
            Err(_) => Err(RequestError::Late {
                endpoint: self.endpoint.to_string(),
                what: format!("answer {path}"),
                within: self.read_timeout,
            }),
        }
    }

    async fn get_unbounded(&mut self, request: &str, path: &str) -> Result<Response, RequestError> {
        let endpoint = self.endpoint.to_string();
        let garbled =
            |cause: String| RequestError::Garbled { endpoint: endpoint.clone(), path: path.to_owned(), cause };
        let lost = |cause: String| RequestError::Lost { endpoint: endpoint.clone(), path: path.to_owned(), cause };
        let mut builder =
            Request::get(path).header("host", self.endpoint.authority()).header("accept", "application/json");
        if let Some(authorization) = &self.authorization {
            builder = builder.header(AUTHORIZATION, authorization);
        }
        let message = builder.body(Empty::new()).map_err(|error| garbled(whole_cause(&error)))?;
        if self.closing {
            return Err(lost("it was about to be closed".to_owned()));
        }
        let broken = |error: hyper::Error| match tls_error(&self.endpoint, &error) {
            Some(error) => error,
            None if error.is_parse() => garbled(whole_cause(&error)),
            None => lost(whole_cause(&error)),
        };
        self.sender.ready().await.map_err(&broken)?;
        let answer = self.sender.send_request(message).await.map_err(&broken)?;
        let status = answer.status().as_u16();
        let date = answer.headers().get(DATE).and_then(|value| value.to_str().ok());
        let date_s = date.and_then(answers::http_date).unwrap_or_else(crate::clock::wall_s);
        let location =
            answer.headers().get(LOCATION).map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
        let closing = closes(answer.version(), answer.headers());
        let most = most_bytes(request, status);
        let too_large = || garbled(format!("its answer has more than {} KiB", most >> 10));
        if answer.body().size_hint().lower() > most as u64 {
            return Err(too_large());
        }
        // Each part is copied and given back at once. Collected parts would need the memory twice.
        let (mut parts, mut body) = (Limited::new(answer.into_body(), most), Vec::new());
        while let Some(part) = parts.frame().await {
            match part {
                Ok(part) => part.data_ref().into_iter().for_each(|bytes| body.extend_from_slice(bytes)),
                Err(error) if error.is::<http_body_util::LengthLimitError>() => return Err(too_large()),
                Err(error) => return Err(garbled(whole_cause(&*error))),
            }
        }
        let body = Bytes::from(body);
        self.closing = closing;
        self.answers += 1;
        let secrets = self.secrets.clone();
        Ok(Response { status, date_s, body, endpoint: endpoint.clone(), path: path.to_owned(), location, secrets })
    }

    /// Marks the connection as not usable any more.
    pub fn give_up(&mut self) {
        self.closing = true;
    }

    /// When it was opened.
    pub fn opened(&self) -> Instant {
        self.opened
    }

    /// How many whole answers were read from it.
    pub fn answers(&self) -> u32 {
        self.answers
    }

    /// The node's own name, if it was asked.
    pub fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    /// Keeps the node's own name.
    pub fn set_name(&mut self, name: String) {
        self.name = Some(name);
    }

    /// Forgets the node's own name, so that it is asked again.
    pub fn forget_name(&mut self) {
        self.name = None;
    }

    /// Asks why the node does not lead.
    ///
    /// # Errors
    /// The node gives no usable answer.
    pub async fn why_not(&mut self) -> Result<WhyNot, RequestError> {
        Ok(match self.raft().await? {
            Raft::On(status) => WhyNot::Raft(status),
            Raft::Off => WhyNot::NoRaft(self.health().await?),
        })
    }

    /// Asks a node without raft whether the shared database is there, and whether an active node renews its time in it.
    async fn health(&mut self) -> Result<Health, RequestError> {
        let health = self.get("health").await?;
        match health.status {
            500 if answers::is_own_error(&health.body) => Ok(Health::DatabaseGone),
            _ => health.read(answers::health),
        }
    }

    /// Asks the node for its raft status.
    ///
    /// # Errors
    /// The node gives no usable answer.
    pub async fn raft(&mut self) -> Result<Raft, RequestError> {
        let status = self.get("raft-status").await?;
        if status.status == 404 {
            return self.raft_before_3_2_3().await;
        }
        if status.status == 500 && answers::says_raft_is_off(&status.body) {
            return Ok(Raft::Off);
        }
        Ok(Raft::On(status.read(answers::raft_status)?))
    }

    /// Asks an Orchestrator older than 3.2.3, which has no raft-status (its git history). Before 3.0 there is no raft.
    async fn raft_before_3_2_3(&mut self) -> Result<Raft, RequestError> {
        let leader = self.get("raft-leader").await?;
        if leader.status == 404 || (leader.status == 500 && answers::says_raft_is_off(&leader.body)) {
            return Ok(Raft::Off);
        }
        let leader = leader.read(answers::raft_leader)?;
        let peers = self.get("raft-peers").await?.read(answers::raft_peers)?;
        Ok(Raft::On(RaftStatus { node: String::new(), leader, peers }))
    }
}

fn closes(version: Version, headers: &HeaderMap) -> bool {
    let says = |word: &str| {
        headers
            .get_all(CONNECTION)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','))
            .any(|said| said.trim().eq_ignore_ascii_case(word))
    };
    says("close") || (version < Version::HTTP_11 && !says("keep-alive"))
}
