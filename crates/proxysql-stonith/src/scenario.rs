//! Scenarios: short texts that a DBA can read, and that the lab plays. They drive the demo and the end-to-end tests.
//!
//! ```text
//! text -> Scenario::read -> [Step] -> stage::play -> lines, and whether every expectation held
//! ```
//!
//! Scenarios have no rules of their own: the program on the stage is the real one.

mod expectation;
mod stage;

use std::time::Duration;

pub use expectation::Expectation;
pub use stage::{Line, play};

use crate::config::duration;

/// A scenario.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scenario {
    /// What the scenario shows.
    pub title: String,
    /// The steps, in order.
    pub steps: Vec<Step>,
}

/// One line of a scenario.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// A text for the reader.
    Say(String),
    /// The program begins to watch.
    Program,
    /// A client session of this kind is opened, and writes together with the others from then on.
    Open(SessionKind),
    /// This many writes, one after the other, over all sessions.
    Write(usize),
    /// A node is killed.
    Kill(String),
    /// A node hangs.
    Stop(String),
    /// A hanging node continues.
    Cont(String),
    /// A killed node starts, writable.
    Start(String),
    /// An operator makes a node a replica of another, and ends its downtime.
    Repair(String, String),
    /// A planned takeover.
    TakeOver(String, String),
    /// An operator begins a downtime.
    Downtime(String),
    /// An operator ends a downtime.
    EndDowntime(String),
    /// Orchestrator's leader dies, another is elected, and the dead member returns as a follower.
    LeaderDies,
    /// No Orchestrator node leads for a while.
    Leaderless(Duration),
    /// No Orchestrator node can be reached.
    CutOff,
    /// The Orchestrator nodes can be reached again.
    Heal,
    /// Time passes.
    Rest(Duration),
    /// Waits until an expectation holds.
    Until(Expectation),
    /// An expectation must hold now.
    Expect(Expectation),
}

/// Kinds of client sessions (facts §4).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SessionKind {
    /// A session in autocommit.
    Plain,
    /// A session in a transaction.
    Transaction,
    /// A session with a temporary table.
    Pinned,
}

/// A mistake in a scenario's text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {problem}")]
pub struct ScenarioError {
    line: usize,
    problem: String,
}

impl Scenario {
    /// Parses a scenario: each line is a verb and its words; `#` begins a comment.
    ///
    /// # Errors
    /// The first line that is not understood.
    pub fn read(text: &str) -> Result<Self, ScenarioError> {
        let mut scenario = Self { title: String::new(), steps: Vec::new() };
        for (index, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let (verb, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
            let rest = rest.trim();
            if verb == "title" {
                scenario.title = rest.to_owned();
                continue;
            }
            let step = step(verb, rest)
                .ok_or_else(|| ScenarioError { line: index + 1, problem: format!("{line:?} is not understood") })?;
            scenario.steps.push(step);
        }
        Ok(scenario)
    }
}

fn step(verb: &str, rest: &str) -> Option<Step> {
    let words: Vec<&str> = rest.split_whitespace().collect();
    let node = || match words[..] {
        [node] => Some(node.to_owned()),
        _ => None,
    };
    Some(match (verb, &words[..]) {
        ("say", _) => Step::Say(rest.to_owned()),
        ("program", ["on"]) => Step::Program,
        ("open", ["plain"]) => Step::Open(SessionKind::Plain),
        ("open", ["transaction"]) => Step::Open(SessionKind::Transaction),
        ("open", ["pinned"]) => Step::Open(SessionKind::Pinned),
        ("write", [count]) => Step::Write(count.parse().ok()?),
        ("kill", _) => Step::Kill(node()?),
        ("stop", _) => Step::Stop(node()?),
        ("cont", _) => Step::Cont(node()?),
        ("start", _) => Step::Start(node()?),
        ("repair", [node, "from", primary]) => Step::Repair((*node).to_owned(), (*primary).to_owned()),
        ("takeover", ["from", old, "to", new]) => Step::TakeOver((*old).to_owned(), (*new).to_owned()),
        ("downtime", _) => Step::Downtime(node()?),
        ("end-downtime", _) => Step::EndDowntime(node()?),
        ("leader", ["dies"]) => Step::LeaderDies,
        ("leader", ["lost", "for", time]) => Step::Leaderless(duration::parse(time).ok()?),
        ("site", ["cut", "off"]) => Step::CutOff,
        ("site", ["healed"]) => Step::Heal,
        ("rest", [time]) => Step::Rest(duration::parse(time).ok()?),
        ("until", _) => Step::Until(Expectation::read(rest)?),
        ("expect", _) => Step::Expect(Expectation::read(rest)?),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_that_is_not_understood_is_named() {
        for wrong in ["fly node01", "write many", "repair node01", "expect the best", "kill node01 node02", "site gone"]
        {
            let error = Scenario::read(&format!("title x\n\n# fine\nsay hello\n{wrong}\n")).unwrap_err();
            assert_eq!(error.to_string(), format!("line 5: {wrong:?} is not understood"));
        }
    }
}
