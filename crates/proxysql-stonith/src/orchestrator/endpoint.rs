//! Where an Orchestrator node's API is: `http://orc1:3000`, with or without `/api`, with a URL prefix or not.

use std::fmt;
use std::str::FromStr;

use hyper::Uri;

use crate::loopback::is_here;

/// One Orchestrator node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    https: bool,
    host: String,
    port: u16,
    prefix: String,
}

/// Why a text is not an endpoint. A password in it is not shown (I11).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EndpointError {
    /// The text contains a user or a password.
    #[error(
        "a user or password must not be in the URL, where others can see it; use orchestrator.user and \
         orchestrator.password_file, or ORCHESTRATOR_AUTH_USER and _PASSWORD"
    )]
    HasPassword,
    /// The text is not scheme, host, and optionally port and prefix.
    #[error("{text:?} {why}; expected a URL such as \"http://orc1:3000\"")]
    NoEndpoint {
        /// The beginning of the text.
        text: String,
        /// The problem.
        why: &'static str,
    },
}

impl Endpoint {
    /// Whether it uses TLS.
    pub fn is_https(&self) -> bool {
        self.https
    }

    /// Whether others on the network path can change its answers: it uses plain HTTP and is not on this host.
    pub fn is_open(&self) -> bool {
        !self.https && !is_here(&self.host)
    }

    /// The host, without brackets.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The value of the Host header.
    pub fn authority(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }

    /// The path of a request.
    pub fn path(&self, request: &str) -> String {
        format!("{}/api/{request}", self.prefix)
    }
}

impl FromStr for Endpoint {
    type Err = EndpointError;

    fn from_str(text: &str) -> Result<Self, EndpointError> {
        if text.contains('@') {
            return Err(EndpointError::HasPassword);
        }
        let error = |why| EndpointError::NoEndpoint { text: text.chars().take(80).collect(), why };
        let (scheme, rest) = text.split_once("://").ok_or_else(|| error("has no scheme"))?;
        let https = scheme.eq_ignore_ascii_case("https");
        if !https && !scheme.eq_ignore_ascii_case("http") {
            return Err(error("is neither http:// nor https://"));
        }
        if !rest.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(error("has blanks or letters outside ASCII"));
        }
        if rest.contains(['?', '#']) {
            return Err(error("has a query or a fragment"));
        }
        let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let (host, port) = match authority.strip_prefix('[') {
            Some(v6) => match v6.split_once(']') {
                Some((host, "")) => (host, None),
                Some((host, port)) if port.starts_with(':') => (host, Some(&port[1..])),
                _ => return Err(error("has an IPv6 address that is not in brackets, as in http://[::1]:3000")),
            },
            None => match authority.split_once(':') {
                Some((host, port)) => (host, Some(port)),
                None => (authority, None),
            },
        };
        if host.is_empty() {
            return Err(error("names no host"));
        }
        // The HTTP client cannot use such a URL.
        if host.contains(['[', ']']) || text.parse::<Uri>().is_err() {
            return Err(error("is not a URL"));
        }
        let port = match port.map(str::parse) {
            None => {
                if https {
                    443
                } else {
                    80
                }
            }
            Some(Ok(port @ 1..)) => port,
            Some(_) => return Err(error("has no port from 1 to 65535 after the colon")),
        };
        let path = path.trim_end_matches('/');
        let prefix = path.strip_suffix("/api").unwrap_or(path).trim_end_matches('/').to_owned();
        Ok(Self { https, host: host.to_ascii_lowercase(), port, prefix })
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A prefix that itself ends with `/api` would otherwise be read back without it.
        let api = if self.prefix.ends_with("/api") { "/api" } else { "" };
        write!(f, "{}://{}{}{api}", if self.https { "https" } else { "http" }, self.authority(), self.prefix)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn with_or_without_api_and_with_a_prefix_it_is_the_same_endpoint() {
        let path = |text: &str| text.parse::<Endpoint>().unwrap().path("leader-check");
        assert_eq!(path("http://orc1:3000"), "/api/leader-check");
        assert_eq!(path("http://orc1:3000/api/"), "/api/leader-check");
        assert_eq!(path("https://lb/orchestrator/api"), "/orchestrator/api/leader-check");
        assert_eq!(path("https://lb/api/api"), "/api/api/leader-check");
        assert_eq!("http://ORC1:3000/api".parse::<Endpoint>().unwrap(), "http://orc1:3000/".parse().unwrap());
        assert_eq!("https://[::1]/x".parse::<Endpoint>().unwrap().to_string(), "https://[::1]:443/x");
    }

    #[test]
    fn i11_a_password_in_an_endpoint_is_refused_and_not_shown() {
        for text in ["http://admin:hunter2@orc1:3000", "admin:hunter2@orc1", "http://admin:hunter 2@orc1"] {
            let error = text.parse::<Endpoint>().unwrap_err();
            assert!(!format!("{error} {error:?}").contains("hunter"), "{error}");
        }
    }

    #[test]
    fn what_is_no_endpoint_says_what_one_looks_like() {
        for text in ["orc1:3000", "ftp://orc1", "http://", "http://orc1/?x=1", "http://orc1/#x", ""] {
            let error = text.parse::<Endpoint>().unwrap_err().to_string();
            assert!(error.contains("expected a URL such as \"http://orc1:3000\""), "{error}");
        }
        for text in ["http://orc1:99999", "http://orc1:0", "http://orc1:", "http://[::1]:x", "http://[::1]13000"] {
            assert!(text.parse::<Endpoint>().is_err(), "{text} would be taken for another port");
        }
    }
}
