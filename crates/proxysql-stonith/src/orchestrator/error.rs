//! Errors of requests to Orchestrator.

use std::error::Error as StdError;
use std::time::Duration;

use hyper::StatusCode;

use super::endpoint::Endpoint;
use super::tls;
use crate::untrusted_text::one_line;

/// Why a request failed.
#[derive(Debug, thiserror::Error)]
pub enum RequestError {
    /// The connection could not be opened.
    #[error("Orchestrator at {endpoint} was not reached: {cause}. Is it up, and is the endpoint correct?")]
    Unreached {
        /// The endpoint.
        endpoint: String,
        /// The cause.
        cause: String,
    },
    /// The request took too long.
    #[error(
        "Orchestrator at {endpoint} did not {what} within {within:?}. Does it hang, or does a firewall drop packets?"
    )]
    Late {
        /// The endpoint.
        endpoint: String,
        /// What the client waited for, as a verb: "answer leader-check".
        what: String,
        /// How long the client waited.
        within: Duration,
    },
    /// The connection broke.
    #[error("Orchestrator at {endpoint}: the connection broke before {path} was answered: {cause}")]
    Lost {
        /// The endpoint.
        endpoint: String,
        /// The request.
        path: String,
        /// The cause.
        cause: String,
    },
    /// A 5xx that is not Orchestrator's own: a proxy in front of it did not reach it.
    #[error(
        "Orchestrator at {endpoint} was not reached: the proxy in front of it answered {path} with {status}. Is Orchestrator up?"
    )]
    Gateway {
        /// The endpoint.
        endpoint: String,
        /// The request.
        path: String,
        /// The status.
        status: StatusCode,
    },
    /// Orchestrator, or a proxy in front of it, closes connections before one of them has carried a whole tick.
    #[error(
        "Orchestrator at {endpoint} answers and closes the connection after {answers} answers. An answer counts only between \
         two leader-checks on one connection. Enable keep-alive in the proxy in front of Orchestrator, for at least 3 \
         requests per connection"
    )]
    Closes {
        /// The endpoint.
        endpoint: String,
        /// How many answers were read from the last connection.
        answers: u32,
    },
    /// The node lost the lead during the tick.
    #[error(
        "Orchestrator at {endpoint} lost the lead while it answered, so the answer does not count; the next tick asks again"
    )]
    LostTheLead {
        /// The endpoint.
        endpoint: String,
    },
    /// The node is a follower and does not reach a leader.
    #[error("Orchestrator at {endpoint} does not lead, and does not relay to a node that does")]
    NotRelayed {
        /// The endpoint.
        endpoint: String,
    },
    /// TLS failed.
    #[error("Orchestrator at {endpoint}: TLS failed: {cause}. {advice}")]
    Tls {
        /// The endpoint.
        endpoint: String,
        /// The cause.
        cause: String,
        /// What to do.
        advice: &'static str,
    },
    /// Orchestrator refused the credential: 401 or 403.
    #[error(
        "Orchestrator at {endpoint} refused {path} with {status}: check orchestrator.user and its password, and \
         orchestrator.client_cert if Orchestrator asks for certificates"
    )]
    Refused {
        /// The endpoint.
        endpoint: String,
        /// The request.
        path: String,
        /// The status.
        status: StatusCode,
    },
    /// Orchestrator answered with another status.
    #[error("Orchestrator at {endpoint} answered {path} with {status}: {body}")]
    Status {
        /// The endpoint.
        endpoint: String,
        /// The request.
        path: String,
        /// The status.
        status: StatusCode,
        /// The beginning of the body.
        body: String,
    },
    /// The answer is not HTTP, is cut short, or is too large.
    #[error(
        "Orchestrator at {endpoint} answered {path} with an unusable answer: {cause}. Is this Orchestrator's HTTP port?"
    )]
    Garbled {
        /// The endpoint.
        endpoint: String,
        /// The request.
        path: String,
        /// The cause.
        cause: String,
    },
    /// The JSON does not have the expected form.
    #[error("Orchestrator at {endpoint} answered {path} with unusable JSON: {cause}")]
    Unreadable {
        /// The endpoint.
        endpoint: String,
        /// The request.
        path: String,
        /// The cause.
        cause: String,
    },
}

impl RequestError {
    /// Whether a usable connection was closed, so that a new one may work.
    pub fn is_a_close(&self) -> bool {
        matches!(self, Self::Lost { .. })
    }

    /// Whether the request took too long.
    pub fn is_late(&self) -> bool {
        matches!(self, Self::Late { .. })
    }

    /// Whether the connection can't be used any more. It can after a whole answer, even an unusable one.
    pub fn is_the_end_of_the_connection(&self) -> bool {
        !matches!(self, Self::Status { .. } | Self::Gateway { .. } | Self::Unreadable { .. } | Self::Refused { .. })
    }
}

/// The TLS error among the sources of this one, if any. A broken connection is not a TLS error.
pub fn tls_error(endpoint: &Endpoint, error: &(dyn StdError + 'static)) -> Option<RequestError> {
    let (cause, advice) = tls::cause_and_advice(error)?;
    Some(RequestError::Tls { endpoint: endpoint.to_string(), cause: one_line(&cause), advice })
}
