//! An expectation of a scenario, as a sentence.

use std::fmt;

/// An expectation about the stage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Expectation {
    /// `20 writes went to node02`: the last writes, all of them.
    WritesWent(usize, String),
    /// `writes went to node01 and node02`: some to each.
    WritesWentToBoth(String, String),
    /// `5 writes failed`.
    WritesFailed(usize),
    /// `node01 took 0 writes since its return`.
    TookSinceReturn(String, u64),
    /// `the writer is node02`: the only ONLINE row of the writer hostgroup.
    Writer(String),
    /// `the writers are node01 and node02`.
    Writers(String, String),
    /// `node01 is fenced`: no row in service in any layer, and a fence note.
    Fenced(String),
    /// `node01 serves reads`.
    ServesReads(String),
    /// `node01 is no writer`: no row in the writer hostgroup.
    NoWriter(String),
    /// `no session uses node01`.
    NoSession(String),
    /// `nothing is in service`.
    NothingInService,
    /// `rows are as before`: before the site was cut off.
    RowsAsBefore,
    /// `Orchestrator lists nobody as downtimed`.
    NobodyDowntimed,
}

impl Expectation {
    /// Parses the sentence.
    pub fn read(text: &str) -> Option<Self> {
        let words: Vec<&str> = text.split_whitespace().collect();
        let name = |word: &str| word.to_owned();
        Some(match words[..] {
            [count, "writes", "went", "to", node] => Self::WritesWent(count.parse().ok()?, name(node)),
            ["writes", "went", "to", one, "and", other] => Self::WritesWentToBoth(name(one), name(other)),
            [count, "writes", "failed"] => Self::WritesFailed(count.parse().ok()?),
            [node, "took", count, "writes", "since", "its", "return"] => {
                Self::TookSinceReturn(name(node), count.parse().ok()?)
            }
            ["the", "writer", "is", node] => Self::Writer(name(node)),
            ["the", "writers", "are", one, "and", other] => Self::Writers(name(one), name(other)),
            [node, "is", "fenced"] => Self::Fenced(name(node)),
            [node, "serves", "reads"] => Self::ServesReads(name(node)),
            [node, "is", "no", "writer"] => Self::NoWriter(name(node)),
            ["no", "session", "uses", node] => Self::NoSession(name(node)),
            ["nothing", "is", "in", "service"] => Self::NothingInService,
            ["rows", "are", "as", "before"] => Self::RowsAsBefore,
            ["Orchestrator", "lists", "nobody", "as", "downtimed"] => Self::NobodyDowntimed,
            _ => return None,
        })
    }
}

impl fmt::Display for Expectation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::WritesWent(count, node) => write!(f, "{count} writes went to {node}"),
            Self::WritesWentToBoth(one, other) => write!(f, "writes went to {one} and {other}"),
            Self::WritesFailed(count) => write!(f, "{count} writes failed"),
            Self::TookSinceReturn(node, count) => write!(f, "{node} took {count} writes since its return"),
            Self::Writer(node) => write!(f, "the writer is {node}"),
            Self::Writers(one, other) => write!(f, "the writers are {one} and {other}"),
            Self::Fenced(node) => write!(f, "{node} is fenced"),
            Self::ServesReads(node) => write!(f, "{node} serves reads"),
            Self::NoWriter(node) => write!(f, "{node} is no writer"),
            Self::NoSession(node) => write!(f, "no session uses {node}"),
            Self::NothingInService => write!(f, "nothing is in service"),
            Self::RowsAsBefore => write!(f, "rows are as before"),
            Self::NobodyDowntimed => write!(f, "Orchestrator lists nobody as downtimed"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_sentence_reads_back() {
        for text in [
            "20 writes went to node02",
            "writes went to node01 and node02",
            "5 writes failed",
            "node01 took 0 writes since its return",
            "the writer is node02",
            "the writers are node01 and node02",
            "node01 is fenced",
            "node01 serves reads",
            "node01 is no writer",
            "no session uses node01",
            "nothing is in service",
            "rows are as before",
            "Orchestrator lists nobody as downtimed",
        ] {
            assert_eq!(Expectation::read(text).map(|e| e.to_string()).as_deref(), Some(text));
        }
        assert_eq!(Expectation::read("all is well"), None);
    }
}
