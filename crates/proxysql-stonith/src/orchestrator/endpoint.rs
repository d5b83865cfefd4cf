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

/// Why a text is no endpoint.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not an Orchestrator endpoint: {why}; expected http://host:3000 or https://host/prefix")]
pub struct EndpointError {
    text: String,
    why: &'static str,
}

impl Endpoint {
    /// Whether it is spoken to over TLS.
    pub fn is_https(&self) -> bool {
        self.https
    }

    /// Whether somebody on the network is on the path to it and can change what it says: plain HTTP, and not to this host.
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

    /// What goes into the Host header.
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
        // What may be a password is not shown (I11).
        let shown = if text.contains('@') { "***" } else { text };
        let error = |why| EndpointError { text: shown.chars().take(200).collect(), why };
        let uri: Uri = text.parse().map_err(|_| error("it is not a URL"))?;
        let https = match uri.scheme_str() {
            Some("http") => false,
            Some("https") => true,
            _ => return Err(error("it does not begin with http:// or https://")),
        };
        let authority = uri.authority().ok_or_else(|| error("it names no host"))?;
        if authority.as_str().contains('@') {
            return Err(error("a user and a password do not belong there"));
        }
        if uri.query().is_some() || text.contains('#') {
            return Err(error("it has a query or a fragment"));
        }
        let host = authority.host();
        let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host).to_ascii_lowercase();
        if host.is_empty() {
            return Err(error("it names no host"));
        }
        if host.contains(['[', ']']) {
            return Err(error("its host has brackets"));
        }
        let after_host = authority.as_str().rsplit(']').next().unwrap_or_default();
        let port = match after_host.split_once(':') {
            None => {
                if https {
                    443
                } else {
                    80
                }
            }
            Some((_, port)) => match port.parse() {
                Ok(port) if port != 0 => port,
                _ => return Err(error("its port is not from 1 to 65535")),
            },
        };
        let path = uri.path().trim_end_matches('/');
        let prefix = path.strip_suffix("/api").unwrap_or(path).trim_end_matches('/').to_owned();
        Ok(Self { https, host, port, prefix })
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A prefix that is called so itself would read back as none.
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
        for text in ["orc1:3000", "ftp://orc1", "http://", "http://u:p@orc1", "http://orc1/?x=1", "http://orc1/#x", ""]
        {
            let error = text.parse::<Endpoint>().unwrap_err().to_string();
            assert!(error.contains("expected http://host:3000"), "{error}");
        }
        for text in ["http://orc1:99999", "http://orc1:0", "http://orc1:", "http://[::1]:x"] {
            assert!(text.parse::<Endpoint>().is_err(), "{text} would be taken for port 80");
        }
    }
}
