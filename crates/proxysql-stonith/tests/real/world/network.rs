//! Where the parts of a world are, and which of them reach each other.
//!
//! ```text
//!              proxies      nodes         Orchestrator
//! loopback     127.0.0.n    127.0.1.n     127.0.2.n
//! namespaces   198.18.x.n   198.18.x.1n   198.18.x.2n    each in a namespace of its own, behind the hub
//! ```

use std::ffi::OsStr;
use std::fmt;
use std::process::Command;

use super::namespaces::Namespaces;

/// Something that has an address of its own; numbered from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// A ProxySQL and its agent.
    Proxy(usize),
    /// A MariaDB.
    Node(usize),
    /// An Orchestrator.
    Raft(usize),
}

impl Part {
    fn kind_and_number(self) -> (usize, usize) {
        match self {
            Self::Proxy(n) => (0, n),
            Self::Node(n) => (1, n),
            Self::Raft(n) => (2, n),
        }
    }

    /// The last number of its address in a subnet that all share.
    pub fn host(self) -> usize {
        let (kind, n) = self.kind_and_number();
        10 * kind + n
    }
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Proxy(n) => write!(f, "proxy{n}"),
            Self::Node(n) => write!(f, "node{n}"),
            Self::Raft(n) => write!(f, "raft{n}"),
        }
    }
}

/// All that stands at one site.
pub fn site(n: usize) -> [Part; 3] {
    [Part::Proxy(n), Part::Node(n), Part::Raft(n)]
}

/// The addresses, and the way to run a program where a part is.
pub struct Network(Option<Namespaces>);

impl Network {
    /// All on this machine's loopback.
    pub fn loopback() -> Self {
        Self(None)
    }

    /// Each part on a machine of its own, as far as the network tells.
    pub fn namespaces(namespaces: Namespaces) -> Self {
        Self(Some(namespaces))
    }

    /// The address of a part.
    pub fn address(&self, part: Part) -> String {
        match (&self.0, part.kind_and_number()) {
            (None, (kind, n)) => format!("127.0.{kind}.{n}"),
            (Some(namespaces), _) => namespaces.address(part.host()),
        }
    }

    /// A program that runs where a part is.
    pub fn command(&self, part: Part, program: impl AsRef<OsStr>) -> Command {
        match &self.0 {
            None => Command::new(program),
            Some(namespaces) => namespaces.command(part, program.as_ref()),
        }
    }

    /// From now on nothing gets from one to the other, nor back, and nobody is told.
    pub fn cut(&self, one: &[Part], other: &[Part]) {
        self.lose(one, other);
        self.lose(other, one);
    }

    /// From now on nothing gets from these to those; what those send still arrives.
    pub fn lose(&self, from: &[Part], to: &[Part]) {
        self.0.as_ref().expect("namespaces").drop_between(self.pairs(from, to));
    }

    fn pairs(&self, from: &[Part], to: &[Part]) -> Vec<(String, String)> {
        let pairs = from.iter().flat_map(|from| to.iter().map(move |to| (*from, *to)));
        pairs.map(|(from, to)| (self.address(from), self.address(to))).collect()
    }

    /// What was cut between these is whole again.
    pub fn mend(&self, one: &[Part], other: &[Part]) {
        let namespaces = self.0.as_ref().expect("namespaces");
        namespaces.drop_no_more(self.pairs(one, other));
        namespaces.drop_no_more(self.pairs(other, one));
    }

    /// Everybody reaches everybody again.
    pub fn heal(&self) {
        self.0.as_ref().expect("namespaces").heal();
    }
}
