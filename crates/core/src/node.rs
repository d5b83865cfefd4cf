//! A node: one MySQL server by host name and port, in one canonical spelling.
//!
//! Names are compared lower-cased and without a trailing dot (design §10). Nothing is resolved here.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// The longest host name that is accepted, in bytes (RFC 1035: 253, and two for brackets).
pub const HOST_MAX_BYTES: usize = 255;

/// A host name or address as ProxySQL and Orchestrator name it: lower case, no trailing dot. Copies share the text.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Host(Arc<str>);

impl Host {
    /// The canonical spelling.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The canonical spelling, with the text shared.
    pub(crate) fn shared(&self) -> Arc<str> {
        Arc::clone(&self.0)
    }
}

impl FromStr for Host {
    type Err = NodeError;

    fn from_str(text: &str) -> Result<Self, NodeError> {
        let name = text.strip_suffix('.').unwrap_or(text);
        let printable = |b: u8| b.is_ascii_graphic() && !matches!(b, b'[' | b']' | b'=' | b'\'' | b'"' | b'\\');
        // A name that ended with two dots would read back as another name.
        let ends_well = !name.is_empty() && !name.ends_with('.');
        if !ends_well || name.len() > HOST_MAX_BYTES || !name.bytes().all(printable) {
            return Err(NodeError::Host(text.chars().take(80).collect()));
        }
        Ok(Self(name.to_ascii_lowercase().into()))
    }
}

impl TryFrom<String> for Host {
    type Error = NodeError;
    fn try_from(text: String) -> Result<Self, NodeError> {
        text.parse()
    }
}

impl From<Host> for String {
    fn from(host: Host) -> Self {
        host.0.as_ref().to_owned()
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// One MySQL server, `host:port`; an IPv6 address is written in brackets.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Node {
    /// The host's canonical name.
    pub host: Host,
    /// The TCP port.
    pub port: u16,
}

impl Node {
    /// A node from a host and a port that are read separately, as in a row or a JSON key.
    ///
    /// # Errors
    /// [`NodeError::Host`] if the name is empty, too long, or has a character other than printable ASCII without
    /// quotes, brackets, `=` and `\`.
    pub fn new(host: &str, port: u16) -> Result<Self, NodeError> {
        Ok(Self { host: host.parse()?, port })
    }
}

impl FromStr for Node {
    type Err = NodeError;

    fn from_str(text: &str) -> Result<Self, NodeError> {
        let bad = || NodeError::Node(text.chars().take(80).collect());
        let (host, port) = text.rsplit_once(':').ok_or_else(bad)?;
        let host = match host.strip_prefix('[') {
            Some(inner) => inner.strip_suffix(']').ok_or_else(bad)?,
            None if host.contains(':') => return Err(bad()),
            None => host,
        };
        Self::new(host, port.parse().map_err(|_| bad())?)
    }
}

impl fmt::Display for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.0.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

impl TryFrom<String> for Node {
    type Error = NodeError;
    fn try_from(text: String) -> Result<Self, NodeError> {
        text.parse()
    }
}

impl From<Node> for String {
    fn from(node: Node) -> Self {
        node.to_string()
    }
}

/// A text that does not name a node.
#[derive(Debug, Clone, PartialEq, Eq, Hash, thiserror::Error)]
pub enum NodeError {
    /// The text is not a host name.
    #[error("{0:?} is not a host name (printable ASCII, at most {HOST_MAX_BYTES} bytes)")]
    Host(String),
    /// The text is not `host:port`.
    #[error("{0:?} is not host:port (an IPv6 address goes in brackets: [::1]:3306)")]
    Node(String),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_equal_in_any_case_and_with_a_trailing_dot() {
        assert_eq!(Node::new("Node01.Example.", 3306), Node::new("node01.example", 3306));
        assert_ne!(Node::new("node01", 3306), Node::new("node01", 3307));
    }

    #[test]
    fn a_host_has_one_spelling_and_a_longest_length() {
        let longest = "a".repeat(HOST_MAX_BYTES);
        let host: Host = longest.parse().unwrap();
        assert_eq!((host.as_str(), String::from(host.clone())), (longest.as_str(), longest.clone()));
        assert!(format!("{longest}a").parse::<Host>().is_err());
    }

    #[test]
    fn a_node_round_trips_through_its_text() {
        for text in ["node01:3306", "[fe80::1]:3307", "10.0.0.1:1"] {
            assert_eq!(text.parse::<Node>().unwrap().to_string(), text);
        }
        for text in ["node01", "fe80::1:3306", ":3306", "a b:1", "a:99999", "[::1:3306", "é:1", "a..:1", "..:1"] {
            assert!(text.parse::<Node>().is_err(), "{text}");
        }
    }
}
