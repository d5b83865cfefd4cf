//! What `doctor` asks Orchestrator besides what a tick asks: each endpoint by itself, then the settings of recoveries.

use futures_util::future::join_all;
use stonith_core::orchestrator::{CameBackKind, Instance};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::ServerName;

use super::answers::{self, AnswerError, BlockedRecovery, ClusterRecovery, Raft};
use super::connection::Connection;
use super::endpoint::Endpoint;
use super::error::RequestError;
use super::{Settings, TlsError, TlsSettings, tls};
use crate::certificate::Certificate;
use crate::clock;
use crate::untrusted_text::one_line;

/// What was found at Orchestrator.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Survey {
    /// Each endpoint, in the order of the config.
    pub endpoints: Vec<EndpointSeen>,
    /// What the leader shows of recoveries; `None` if there is no way to it.
    pub recovery: Option<RecoverySeen>,
}

/// One endpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndpointSeen {
    /// Its URL.
    pub url: String,
    /// Its host.
    pub host: String,
    /// Whether it is reached over a network, and not only on this host.
    pub is_far: bool,
    /// Whether it leads, or why that is unknown.
    pub leads: Result<bool, Problem>,
    /// What it says of the raft; `None` if it did not answer.
    pub raft: Option<RaftSeen>,
    /// Its clock less this host's, s. It is exact to about a second.
    pub clock_ahead_s: i64,
    /// Its certificate, if it is `https`.
    pub certificate: Option<Certificate>,
    /// Whether it answers without a login.
    pub is_open: bool,
}

/// Why an endpoint gave no usable answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The kind.
    pub kind: CameBackKind,
    /// The text for people.
    pub text: String,
}

/// What a node says of the raft.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RaftSeen {
    /// There is none.
    Off,
    /// There is one.
    On {
        /// The node's own name in it.
        node: String,
        /// The leader that the node names; empty if none.
        leader: String,
        /// The number of its nodes.
        peers: usize,
    },
}

/// What Orchestrator shows of recoveries. A part that this version does not show is `None`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RecoverySeen {
    /// Whether recoveries are enabled at all.
    pub is_enabled: Option<bool>,
    /// Whether each cluster is recovered without an operator.
    pub clusters: Option<Vec<ClusterRecovery>>,
    /// The patterns of hosts whose failure recovers nothing.
    pub ignored_hosts: Option<Vec<String>>,
    /// The recoveries that were blocked lately.
    pub blocked: Option<Vec<BlockedRecovery>>,
    /// The instances.
    pub instances: Option<Vec<Instance>>,
}

/// Asks every endpoint, side by side, and then the leader.
///
/// # Errors
/// A certificate or key can't be read.
pub async fn survey(settings: &Settings) -> Result<Survey, TlsError> {
    let is_tls = settings.endpoints.iter().any(Endpoint::is_https);
    let verified = is_tls.then(|| tls::connector(&settings.tls)).transpose()?;
    let any = TlsSettings { insecure: true, ..settings.tls.clone() };
    let any = is_tls.then(|| tls::connector(&any)).transpose()?;
    let ask = |endpoint| one(endpoint, settings, verified.as_ref(), any.as_ref());
    let endpoints = join_all(settings.endpoints.iter().map(ask)).await;
    let leads = |seen: &EndpointSeen| seen.leads == Ok(true);
    let relays = |seen: &EndpointSeen| matches!(&seen.raft, Some(RaftSeen::On { leader, .. }) if !leader.is_empty());
    let way = endpoints.iter().position(leads).or_else(|| endpoints.iter().position(relays));
    let recovery = match way {
        Some(index) => recovery(&settings.endpoints[index], settings, verified.as_ref()).await.ok(),
        None => None,
    };
    Ok(Survey { endpoints, recovery })
}

async fn one(
    endpoint: &Endpoint,
    settings: &Settings,
    verified: Option<&TlsConnector>,
    any: Option<&TlsConnector>,
) -> EndpointSeen {
    let certificate = match any.filter(|_| endpoint.is_https()) {
        Some(any) => timeout(settings.connect_timeout, certificate(endpoint, any)).await.ok().flatten(),
        None => None,
    };
    let mut seen = EndpointSeen {
        url: endpoint.to_string(),
        host: endpoint.host().to_owned(),
        is_far: !crate::loopback::is_here(endpoint.host()),
        leads: Ok(false),
        raft: None,
        clock_ahead_s: 0,
        certificate,
        is_open: false,
    };
    if let Err(error) = ask(endpoint, settings, verified, &mut seen).await {
        seen.leads = Err(Problem { kind: error.kind(), text: one_line(&error.to_string()) });
    } else if settings.auth.is_none() {
        seen.is_open = true;
    } else {
        let without = Settings { auth: None, ..settings.clone() };
        let mut other = seen.clone();
        seen.is_open = ask(endpoint, &without, verified, &mut other).await.is_ok();
    }
    seen
}

async fn ask(
    endpoint: &Endpoint,
    settings: &Settings,
    tls: Option<&TlsConnector>,
    seen: &mut EndpointSeen,
) -> Result<(), RequestError> {
    let mut connection = Connection::open(endpoint, settings, tls).await?;
    let answer = connection.get("leader-check").await?;
    let now_s = clock::wall_s();
    seen.leads = Ok(answer.leads()?);
    seen.clock_ahead_s = answer.date_s.saturating_sub(now_s);
    seen.raft = match connection.raft().await {
        Ok(Raft::Off) => Some(RaftSeen::Off),
        Ok(Raft::On(status)) => {
            Some(RaftSeen::On { node: one_line(&status.node), leader: one_line(&status.leader), peers: status.peers })
        }
        Err(_) => None,
    };
    Ok(())
}

/// The certificate that a server shows. Nothing is sent to it but the handshake.
async fn certificate(endpoint: &Endpoint, any: &TlsConnector) -> Option<Certificate> {
    let stream = tokio::net::TcpStream::connect((endpoint.host(), endpoint.port())).await.ok()?;
    let name = ServerName::try_from(endpoint.host().to_owned()).ok()?;
    let stream = any.connect(name, stream).await.ok()?;
    Certificate::read(stream.get_ref().1.peer_certificates()?.first()?)
}

async fn recovery(
    endpoint: &Endpoint,
    settings: &Settings,
    tls: Option<&TlsConnector>,
) -> Result<RecoverySeen, RequestError> {
    let mut connection = Connection::open(endpoint, settings, tls).await?;
    Ok(RecoverySeen {
        is_enabled: shown(&mut connection, "check-global-recoveries", answers::global_recoveries).await?,
        clusters: shown(&mut connection, "clusters-info", answers::clusters).await?,
        ignored_hosts: shown(&mut connection, "automated-recovery-filters", answers::ignored_hosts).await?,
        blocked: shown(&mut connection, "blocked-recoveries", answers::blocked).await?,
        instances: instances(&mut connection).await?,
    })
}

async fn instances(connection: &mut Connection) -> Result<Option<Vec<Instance>>, RequestError> {
    let answer = connection.get("all-instances").await?;
    let date_s = answer.date_s;
    Ok(answer.entries(|body| answers::instances(body, date_s)).ok().map(|entries| entries.read))
}

/// One setting; `None` if this Orchestrator does not show it, or not in this form.
async fn shown<T>(
    connection: &mut Connection,
    request: &str,
    parse: impl FnOnce(&[u8]) -> Result<T, AnswerError>,
) -> Result<Option<T>, RequestError> {
    Ok(connection.get(request).await?.read(parse).ok())
}
