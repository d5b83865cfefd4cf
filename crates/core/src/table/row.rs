//! ProxySQL's server table: rows, their status, and the three layers they live in.
//!
//! A row keeps every column, so that "others as before" can be compared whole.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

use super::Hostgroup;
use crate::node::{Host, Node};

/// A row's status. What is not one of ProxySQL's four has no way to become `Online` (I1).
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Status {
    /// Takes traffic.
    Online,
    /// Taken out by ProxySQL itself, for errors or lag; comes back by itself.
    Shunned,
    /// Takes no new traffic; what holds a connection keeps it.
    OfflineSoft,
    /// Out, its sessions ended. In runtime also the ghost of a removed row.
    OfflineHard,
    /// Something this program doesn't know: held, never changed.
    Unknown(String),
}

impl Status {
    /// Reads a status in any case: ProxySQL stores it as it was given (facts §1).
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

    /// Whether ProxySQL may send traffic there, now or (shunned) when it pleases.
    pub fn in_service(&self) -> bool {
        matches!(self, Self::Online | Self::Shunned)
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A host as ProxySQL spells it, byte for byte. What it names is read once: every tick asks for it, of every row.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Hostname {
    text: Arc<str>,
    /// Follows from the text, so that two are the same where their texts are.
    host: Option<Host>,
}

impl Hostname {
    /// The canonical host; `None` where the text cannot name a node (a socket path, say).
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

/// What identifies a row: the table's primary key.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RowKey {
    /// The hostgroup.
    pub hostgroup: Hostgroup,
    /// The host.
    pub hostname: Hostname,
    /// The port.
    pub port: u16,
}

impl RowKey {
    /// The node that this row stands for; `None` where the host cannot name a node.
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
    /// Primary key.
    pub key: RowKey,
    /// Status, as read.
    pub status: Status,
    /// Comment, byte for byte.
    pub comment: String,
    /// Every other column (weight, max_connections, ...), by name.
    pub settings: BTreeMap<String, String>,
}

impl Row {
    /// Whether it is what runtime keeps of a row that is gone, until its last connection ends. Nothing changes it, and its
    /// note is of before.
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
    /// In force.
    Runtime,
    /// Being edited (`main.*`).
    Memory,
    /// What a restart loads.
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
