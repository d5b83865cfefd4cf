//! A whole answer of Orchestrator, and the part of it that may be shown.

use std::fmt;
use std::sync::Arc;

use hyper::StatusCode;
use hyper::body::Bytes;

use super::answers::{self, AnswerError, Entries};
use super::error::RequestError;
use crate::untrusted_text::one_line;

/// A whole answer.
#[derive(Debug)]
pub struct Response {
    /// The status code.
    pub status: u16,
    /// The server's `Date`, s since 1970; this host's clock if there is no valid one.
    pub date_s: i64,
    /// The body.
    pub body: Bytes,
    /// The endpoint.
    pub endpoint: String,
    /// The request.
    pub path: String,
    /// The target of a redirect.
    pub location: Option<String>,
    /// The secrets that must not be shown.
    pub secrets: Secrets,
}

impl Response {
    /// Parses the body of a 200.
    pub fn read<T>(&self, parse: impl FnOnce(&[u8]) -> Result<T, AnswerError>) -> Result<T, RequestError> {
        if self.status != 200 {
            return Err(self.unexpected());
        }
        parse(&self.body).map_err(|error| RequestError::Unreadable {
            endpoint: self.endpoint.clone(),
            path: self.path.clone(),
            cause: self.secrets.show(&error.to_string()),
        })
    }

    /// Parses a list. The reports of skipped entries show no secret either.
    pub fn entries<T>(
        &self,
        parse: impl FnOnce(&[u8]) -> Result<Entries<T>, AnswerError>,
    ) -> Result<Entries<T>, RequestError> {
        let mut entries = self.read(parse)?;
        entries.skipped.iter_mut().for_each(|skipped| skipped.what = self.secrets.show(&skipped.what));
        Ok(entries)
    }

    /// Parses leader-check: 200 means that the node leads, 404 that it follows. Both must have JSON.
    ///
    /// A wrong URL prefix also answers 404, but with plain text. A server that is not Orchestrator may answer 200 to
    /// anything.
    pub fn leads(&self) -> Result<bool, RequestError> {
        match self.status {
            200 | 404 if answers::is_json(&self.body) => Ok(self.status == 200),
            _ => Err(self.unexpected()),
        }
    }

    /// The error for an unexpected status or body.
    pub fn unexpected(&self) -> RequestError {
        let (endpoint, path) = (self.endpoint.clone(), self.path.clone());
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        if matches!(self.status, 401 | 403) {
            return RequestError::Refused { endpoint, path, status };
        }
        if self.status >= 500 && !answers::is_own_error(&self.body) {
            return RequestError::Gateway { endpoint, path, status };
        }
        let text = self.secrets.show(&String::from_utf8_lossy(&self.body));
        let body = match (self.status, &self.location) {
            (200, _) => "not Orchestrator's JSON. Is this Orchestrator's HTTP port?".to_owned(),
            (404, _) => format!("{text}. Are Orchestrator's HTTP port and URL prefix correct?"),
            (300..400, Some(to)) => {
                format!(
                    "it redirects to {}; redirects are not followed. Is that the correct endpoint?",
                    self.secrets.show(to)
                )
            }
            _ => text,
        };
        RequestError::Status { endpoint, path, status, body }
    }
}

/// Secrets that an error must not show if the server sends them back (I11).
#[derive(Clone, Default)]
pub struct Secrets(Arc<[String]>);

impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl Secrets {
    /// Keeps each secret as it is, and as it looks in JSON and in messages if it contains a quote or a backslash.
    pub fn of<'s>(secrets: impl IntoIterator<Item = &'s str>) -> Self {
        let spelled = secrets.into_iter().filter(|secret| !secret.is_empty()).flat_map(|secret| {
            let [json, ours] = [serde_json::Value::from(secret).to_string(), format!("{secret:?}")];
            [json, ours].map(|quoted| quoted[1..quoted.len() - 1].to_owned()).into_iter().chain([secret.to_owned()])
        });
        Self(spelled.collect())
    }

    /// Makes a foreign text safe for a message.
    fn show(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for secret in self.0.iter() {
            text = text.replace(secret, "***");
        }
        one_line(&text)
    }
}
