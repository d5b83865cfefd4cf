//! ProxySQL's server table: rows, their status, and the three layers.
//!
//! A row keeps every column, so that a change keeps the columns that it is not about.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

use super::Hostgroup;
use crate::node::{Host, Node};
use crate::shared::Shared;

/// A row's status. A text other than ProxySQL's four words has no way to become `Online` (I1).
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Status {
    /// The row takes traffic.
    Online,
    /// ProxySQL itself took the row out for errors or lag, and lets it back.
    Shunned,
    /// The row takes no new traffic. Sessions that hold a connection keep it.
    OfflineSoft,
    /// The row is out and its sessions are ended. In runtime it can also be the ghost of a removed row.
    OfflineHard,
    /// A text that this program does not know. The node is held.
    Unknown(String),
}

impl Status {
    /// Reads a status in upper or lower case, since ProxySQL stores it as it was given (facts §1).
    pub fn parse(text: &str) -> Self {
        [Self::Online, Self::Shunned, Self::OfflineSoft, Self::OfflineHard]
            .into_iter()
            .find(|status| status.as_str().eq_ignore_ascii_case(text))
            .unwrap_or_else(|| Self::Unknown(text.to_owned()))
    }

    /// ProxySQL's spelling.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Online => "ONLINE",
            Self::Shunned => "SHUNNED",
            Self::OfflineSoft => "OFFLINE_SOFT",
            Self::OfflineHard => "OFFLINE_HARD",
            Self::Unknown(text) => text,
        }
    }

    /// Whether ProxySQL may send traffic to the row, now or, if it is shunned, at any later time.
    pub fn in_service(&self) -> bool {
        matches!(self, Self::Online | Self::Shunned)
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A host as ProxySQL spells it, byte for byte. It is parsed once, since every tick asks for the host of every row.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Hostname {
    text: Arc<str>,
    /// Derived from the text, so equality is that of the texts.
    host: Option<Host>,
}

impl Hostname {
    /// The canonical host; `None` if the text cannot name a node, as a socket path.
    pub fn host(&self) -> Option<&Host> {
        self.host.as_ref()
    }
}

impl From<&str> for Hostname {
    fn from(text: &str) -> Self {
        let host: Option<Host> = text.parse().ok();
        let text = match &host {
            Some(host) if host.as_str() == text => host.shared(),
            _ => text.into(),
        };
        Self { text, host }
    }
}

impl From<String> for Hostname {
    fn from(text: String) -> Self {
        text.as_str().into()
    }
}

impl Deref for Hostname {
    type Target = str;
    fn deref(&self) -> &str {
        &self.text
    }
}

impl fmt::Display for Hostname {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self)
    }
}

impl PartialEq<str> for Hostname {
    fn eq(&self, other: &str) -> bool {
        **self == *other
    }
}

impl PartialEq<&str> for Hostname {
    fn eq(&self, other: &&str) -> bool {
        **self == **other
    }
}

impl PartialEq<String> for Hostname {
    fn eq(&self, other: &String) -> bool {
        **self == **other
    }
}

/// The primary key of a row.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RowKey {
    /// `hostgroup_id`.
    pub hostgroup: Hostgroup,
    /// `hostname`, as it is spelled.
    pub hostname: Hostname,
    /// `port`.
    pub port: u16,
}

impl RowKey {
    /// The node of this row; `None` if the host cannot name a node.
    pub fn node(&self) -> Option<Node> {
        self.hostname.host().map(|host| Node { host: host.clone(), port: self.port })
    }
}

impl fmt::Display for RowKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}:{}", self.hostgroup, self.hostname, self.port)
    }
}

/// One row of the server table.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Row {
    /// The primary key.
    pub key: RowKey,
    /// The status, parsed.
    pub status: Status,
    /// The comment, byte for byte.
    pub comment: String,
    /// The other columns (weight, max_connections, ...), by name. Most rows have the same.
    pub settings: Shared<BTreeMap<String, String>>,
}

impl Row {
    /// Whether it is a ghost: a removed row that runtime keeps until its last connection ends. Nothing changes a ghost,
    /// and its marker is from before the removal.
    pub fn is_ghost_in(&self, layer: Layer) -> bool {
        layer == Layer::Runtime && self.status == Status::OfflineHard
    }

    /// See [`RowKey::node`].
    pub fn node(&self) -> Option<Node> {
        self.key.node()
    }
}

/// One of ProxySQL's three copies of its configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Layer {
    /// The copy in force (`runtime_*`).
    Runtime,
    /// The copy that operators edit (`main.*`).
    Memory,
    /// The copy that a restart loads (`disk.*`).
    Disk,
}

impl Layer {
    /// All of them, the one in force first.
    pub const ALL: [Self; 3] = [Self::Runtime, Self::Memory, Self::Disk];
}

impl fmt::Display for Layer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Runtime => "runtime",
            Self::Memory => "memory",
            Self::Disk => "disk",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn i1_an_unknown_status_is_not_in_service_and_keeps_its_text() {
        let status = Status::parse("OFFLINE_MAYBE");
        assert_eq!(status, Status::Unknown("OFFLINE_MAYBE".into()));
        assert!(!status.in_service());
        assert_eq!(Status::parse("offline_soft"), Status::OfflineSoft);
    }
}
