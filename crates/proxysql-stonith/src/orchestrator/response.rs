//! A whole answer of Orchestrator, and what of it may be shown.

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
    /// The server's `Date`, s since 1970; without one that can be read, this host's clock.
    pub date_s: i64,
    /// What came.
    pub body: Bytes,
    /// Where from.
    pub endpoint: String,
    /// What was asked.
    pub path: String,
    /// Where it redirects to.
    pub location: Option<String>,
    /// What must not be shown of it.
    pub secrets: Secrets,
}

impl Response {
    /// Reads the body of a 200.
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

    /// Reads a list; what is said of skipped entries shows no secret either.
    pub fn entries<T>(
        &self,
        parse: impl FnOnce(&[u8]) -> Result<Entries<T>, AnswerError>,
    ) -> Result<Entries<T>, RequestError> {
        let mut entries = self.read(parse)?;
        entries.skipped.iter_mut().for_each(|skipped| skipped.what = self.secrets.show(&skipped.what));
        Ok(entries)
    }

    /// Reads leader-check: 200 leads, 404 follows, each with JSON. A wrong URL prefix answers 404 as well, but with text,
    /// and a server that is not Orchestrator may answer 200 to anything.
    pub fn leads(&self) -> Result<bool, RequestError> {
        match self.status {
            200 | 404 if answers::is_json(&self.body) => Ok(self.status == 200),
            _ => Err(self.unexpected()),
        }
    }

    /// The error that an unexpected status or body is.
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
            (200, _) => "not the JSON that Orchestrator answers. Is that Orchestrator's HTTP port?".to_owned(),
            (404, _) => format!("{text}. Is that Orchestrator's HTTP port, and its URL prefix?"),
            (300..400, Some(to)) => {
                format!("it redirects to {}, which is not followed; is that the endpoint?", self.secrets.show(to))
            }
            _ => text,
        };
        RequestError::Status { endpoint, path, status, body }
    }
}

/// What an error must not show, should the server send it back (I11).
#[derive(Clone, Default)]
pub struct Secrets(Arc<[String]>);

impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl Secrets {
    /// Each as it is, and as it stands in JSON and in our own messages where it has a quote or a backslash.
    pub fn of<'s>(secrets: impl IntoIterator<Item = &'s str>) -> Self {
        let spelled = secrets.into_iter().filter(|secret| !secret.is_empty()).flat_map(|secret| {
            let [json, ours] = [serde_json::Value::from(secret).to_string(), format!("{secret:?}")];
            [json, ours].map(|quoted| quoted[1..quoted.len() - 1].to_owned()).into_iter().chain([secret.to_owned()])
        });
        Self(spelled.collect())
    }

    /// Foreign text as it may go into a message.
    fn show(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for secret in self.0.iter() {
            text = text.replace(secret, "***");
        }
        one_line(&text)
    }
}
