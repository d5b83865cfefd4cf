//! Why a request to Orchestrator came to nothing.

use std::error::Error as StdError;
use std::time::Duration;

use hyper::StatusCode;

use super::endpoint::Endpoint;
use super::tls;
use crate::untrusted_text::one_line;

/// Why a request came to nothing.
#[derive(Debug, thiserror::Error)]
pub enum RequestError {
    /// No connection.
    #[error("Orchestrator at {endpoint} was not reached: {cause}. Is it up, and the endpoint right?")]
    Unreached {
        /// Where.
        endpoint: String,
        /// Why.
        cause: String,
    },
    /// It took too long.
    #[error(
        "Orchestrator at {endpoint} did not {what} within {within:?}. Is it hung, or is something between dropping packets?"
    )]
    Late {
        /// Where.
        endpoint: String,
        /// What was waited for.
        what: String,
        /// How long.
        within: Duration,
    },
    /// The connection went away.
    #[error("Orchestrator at {endpoint}: the connection broke before {path} was answered: {cause}")]
    Lost {
        /// Where.
        endpoint: String,
        /// What was asked.
        path: String,
        /// Why.
        cause: String,
    },
    /// A 5xx that is not Orchestrator's: what is in front of it did not reach it.
    #[error(
        "Orchestrator at {endpoint} was not reached: what is in front of it answered {path} with {status}. Is Orchestrator up?"
    )]
    Gateway {
        /// Where.
        endpoint: String,
        /// What was asked.
        path: String,
        /// The status.
        status: StatusCode,
    },
    /// It, or what is in front of it, closes connections before the answers that belong together are given on one.
    #[error(
        "Orchestrator at {endpoint} answers and closes the connection after {answers} answers. An answer counts only between \
         two leader-checks on one connection. Switch keep-alive on in what is in front of Orchestrator, for at least 3 \
         requests a connection"
    )]
    Closes {
        /// Where.
        endpoint: String,
        /// How many answers came on the last connection.
        answers: u32,
    },
    /// It led, and then not any more.
    #[error(
        "Orchestrator at {endpoint} lost the lead while it answered, so the answer does not count; the next tick asks again"
    )]
    LostTheLead {
        /// Where.
        endpoint: String,
    },
    /// It follows, and does not reach a leader either.
    #[error("Orchestrator at {endpoint} does not lead, and does not relay to a node that does")]
    NotRelayed {
        /// Where.
        endpoint: String,
    },
    /// TLS failed.
    #[error("Orchestrator at {endpoint}: TLS failed: {cause}. {advice}")]
    Tls {
        /// Where.
        endpoint: String,
        /// Why.
        cause: String,
        /// What to do.
        advice: &'static str,
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
        "Orchestrator at {endpoint} answered {path} with something that can't be used: {cause}. Is that Orchestrator's HTTP port?"
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
        cause: String,
    },
}

impl RequestError {
    /// Whether a connection that could be used was closed: a new one may do.
    pub fn is_a_close(&self) -> bool {
        matches!(self, Self::Lost { .. })
    }

    /// Whether it took too long.
    pub fn is_late(&self) -> bool {
        matches!(self, Self::Late { .. })
    }

    /// Whether the connection can't be used any more: all but a whole answer that is not of use.
    pub fn is_the_end_of_the_connection(&self) -> bool {
        !matches!(self, Self::Status { .. } | Self::Gateway { .. } | Self::Unreadable { .. } | Self::Refused { .. })
    }
}

/// The TLS error that is at the bottom of this one, if any: a broken connection is none.
pub fn tls_error(endpoint: &Endpoint, error: &(dyn StdError + 'static)) -> Option<RequestError> {
    let (cause, advice) = tls::cause_and_advice(error)?;
    Some(RequestError::Tls { endpoint: endpoint.to_string(), cause: one_line(&cause), advice })
}
