//! What a tick has to say to people and to programs: the same data, as log lines, as text, as JSON.
//!
//! Nothing is decided here. Secrets never get here (I11).

pub mod json;
pub mod log;
pub mod text;

use stonith_core::condition::Condition;
use stonith_core::decide::{Decision, ReturnBlocker, Verdict};
use stonith_core::evidence::{Evidence, Level};
use stonith_core::node::Node;
use stonith_core::observed::Observed;
use stonith_core::policy::Policy;

use crate::config::Word;

/// One ProxySQL at one moment.
#[derive(Debug, Clone, Copy)]
pub struct Snapshot<'a> {
    /// Which.
    pub proxy: &'a Node,
    /// Its version.
    pub version: Option<&'a str>,
    /// What was seen.
    pub observed: &'a Observed,
    /// What was decided.
    pub decision: &'a Decision,
    /// What was chosen.
    pub policy: &'a Policy,
    /// What needs attention.
    pub conditions: &'a [Condition],
    /// The moment, ms of the boot clock.
    pub now_ms: u64,
}

/// What still keeps a node out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Obstacle {
    /// A stable name for programs.
    pub label: &'static str,
    /// What it is, and what to do.
    pub text: String,
}

/// Everything that keeps a fenced node out.
pub fn obstacles(verdict: &Verdict) -> Vec<Obstacle> {
    match verdict {
        Verdict::Fence { blocker: ReturnBlocker::Proof(gaps), .. } => {
            gaps.iter().map(|gap| Obstacle { label: gap.label(), text: gap.to_string() }).collect()
        }
        Verdict::Fence { blocker, .. } => vec![Obstacle { label: blocker.label(), text: blocker.to_string() }],
        _ => Vec::new(),
    }
}

/// Why a verdict is what it is, in one line.
pub fn reason(verdict: &Verdict) -> String {
    let list = |evidence: &[Evidence]| evidence.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ");
    match verdict {
        Verdict::Keep => "nothing speaks against it".to_owned(),
        Verdict::Fence { evidence, .. } | Verdict::Unfence { evidence, .. } => list(evidence),
        Verdict::Hold(why) | Verdict::Ignore(why) => why.to_string(),
    }
}

/// The verdict in a word or two.
pub fn word(verdict: &Verdict) -> String {
    match verdict {
        Verdict::Fence { level, .. } => format!("{}({})", verdict.label(), Level::word(*level)),
        Verdict::Unfence { role, .. } => format!("{}({role})", verdict.label()),
        Verdict::Keep | Verdict::Hold(_) | Verdict::Ignore(_) => verdict.label().to_owned(),
    }
}
