//! The parts of a runtime row that the lab itself uses.

use crate::nodes::{Nodes, PORT, Server};

/// A row of `runtime_mysql_servers`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerRow {
    /// `hostgroup_id`.
    pub hostgroup: u32,
    /// `hostname`.
    pub host: String,
    /// `port`.
    pub port: u16,
    /// `status`, upper case.
    pub status: String,
    /// `weight`: 0 takes no traffic.
    pub weight: u32,
    /// `comment`.
    pub comment: String,
}

impl ServerRow {
    /// `10/node01:ONLINE[comment]`, as the timelines in `captures/` write it; the port only if it is another.
    pub fn text(&self) -> String {
        let port = if self.port == PORT { String::new() } else { format!(":{}", self.port) };
        format!("{}/{}{port}:{}[{}]", self.hostgroup, self.host, self.status, self.comment)
    }

    pub(super) fn key(&self) -> RowKey {
        RowKey::new(self.hostgroup, &self.host, self.port)
    }
}

/// The key of a row.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct RowKey {
    pub(super) hostgroup: u32,
    pub(super) host: String,
    pub(super) port: u16,
}

impl RowKey {
    pub(super) fn new(hostgroup: u32, host: &str, port: u16) -> Self {
        Self { hostgroup, host: host.to_owned(), port }
    }

    /// The node of the row. A row may name a node that does not exist, or a port on which nothing listens.
    pub(super) fn server(&self, nodes: &Nodes) -> Option<Server> {
        nodes.lock().get(&self.host).filter(|_| self.port == PORT).cloned()
    }
}
