//! Powers a fenced node off through fence agents (design §5). A machine without I/O, one for each node.
//!
//! ```text
//! targets   decision of a confirmed leader, history of the read-only level -> which nodes, by which evidence
//! Machine   target + replies -> the next step -> record
//!
//! wait for the read-only level -> lock -> the agent's delay -> a newer decision -> off -> status says off: done, for good
//!   -> what fails is tried again, then the next agent, then the first one after a pause
//! ```
//!
//! **Invariants:** No `off` is given for a node that is not fenced now by a kind that the config names, nor for a primary,
//! nor where nobody knows the primary in its place. None is given unless a decision of a confirmed leader came after the
//! last pause. Once `off` was confirmed, none is given for the same failover: an operator may have repaired the node.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::{NodeFenceFailure, NodeFenceRecord};
use crate::decide::{Decision, Verdict};
use crate::evidence::EvidenceKind;
use crate::node::{Host, Node};
use crate::orchestrator::LeaderView;

/// The pause before an agent is tried again, and before its status is asked again, ms.
const RETRY_MS: u64 = 1_000;

/// The pause after the last agent has failed, ms.
const ROUND_MS: u64 = 30_000;

/// The pause between two looks at a lock that is taken, ms.
const LOCK_AGAIN_MS: u64 = 1_000;

/// How often the status is asked until a node counts as still on: power takes a moment to go.
const STATUS_MAX: u32 = 4;

/// Facts of one failover begin within this time, s.
const ONE_FAILOVER_S: i64 = 600;

/// The evidence for which a node may be powered off. An order says nothing of when it was given, and the barrier's node is
/// the primary still.
pub const ALLOWED: [EvidenceKind; 3] =
    [EvidenceKind::Superseded, EvidenceKind::LostInRecovery, EvidenceKind::SecondWriter];

/// A node that must be powered off, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PowerTarget {
    /// The highest kind of evidence that the config names.
    pub kind: EvidenceKind,
    /// The evidence's lasting id; may be empty.
    pub id: String,
    /// The time of the evidence by its source's clock, s since 1970.
    pub at_s: i64,
    /// The time of the last fact of the same failover.
    pub latest_s: i64,
    /// Whether the node is read-only at the node itself, as the level before says.
    pub is_read_only: bool,
    /// Why it must be left on all the same.
    pub refusal: Option<Refusal>,
}

/// Why a fenced node must be left on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// Nobody knows who is the primary in its place.
    NoPrimary,
    /// Another node on its host is not fenced.
    SharesHost(Node),
    /// Only a note in ProxySQL is left of the evidence.
    Undated,
}

impl Refusal {
    fn failure(&self) -> (&'static str, String) {
        match self {
            Self::NoPrimary => ("no-primary", "nobody knows who is the primary in its place".to_owned()),
            Self::SharesHost(other) => ("shares-host", format!("{other} is on the same host, and is not fenced")),
            Self::Undated => ("undated", "nothing but a note in ProxySQL says why it is fenced".to_owned()),
        }
    }
}

/// The nodes that must be powered off now. `None` if a promotion may be unknown ([`Decision::primaries`]): then nothing is
/// done, and nothing is over. `records` are of the read-only level.
pub fn targets(
    leader: &LeaderView,
    decision: &Decision,
    kinds: &BTreeSet<EvidenceKind>,
    records: &BTreeMap<Node, NodeFenceRecord>,
) -> Option<BTreeMap<Node, PowerTarget>> {
    let kinds = kinds.iter().copied().filter(|kind| ALLOWED.contains(kind)).collect();
    let found = super::targets(leader, decision, &kinds)?;
    let target = |(node, of): (Node, super::Target)| {
        let Some(Verdict::Fence { evidence, .. }) = decision.verdicts.get(&node) else { return None };
        let at_s = evidence.iter().find(|fact| fact.kind == of.kind)?.at_s;
        let times = evidence.iter().map(|fact| fact.at_s);
        let latest_s = times.filter(|time| (at_s..at_s + ONE_FAILOVER_S).contains(time)).max().unwrap_or(at_s);
        let is_of = |record: &NodeFenceRecord| record.id.is_empty() || evidence.iter().any(|f| f.id == record.id);
        let is_done = |record: &NodeFenceRecord| record.verified_s.is_some() && record.ended_s.is_none();
        let is_read_only = records.get(&node).is_some_and(|record| is_done(record) && is_of(record));
        let refusal = match beside(&node, &of.primaries, decision) {
            _ if of.primaries.is_empty() => Some(Refusal::NoPrimary),
            Some(other) => Some(Refusal::SharesHost(other)),
            None => (at_s == 0).then_some(Refusal::Undated),
        };
        Some((node, PowerTarget { kind: of.kind, id: of.id, at_s, latest_s, is_read_only, refusal }))
    };
    Some(found.into_iter().filter_map(target).collect())
}

/// Another node on the node's host that is a primary, or is not fenced.
fn beside(node: &Node, primaries: &BTreeSet<Node>, decision: &Decision) -> Option<Node> {
    let identity = &decision.memory.nodes.identity;
    let hosts = |node: &Node| identity.names(identity.server(node)).map(|name| name.host.clone()).collect();
    let of_node: BTreeSet<Host> = hosts(node);
    let left = decision.verdicts.iter().filter(|(_, verdict)| !matches!(verdict, Verdict::Fence { .. }));
    let mut others = left.map(|(other, _)| other).chain(primaries);
    others.find(|other| !of_node.is_disjoint(&hosts(other))).cloned()
}

/// What an agent is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// What it is.
    Metadata,
    /// Whether its device answers.
    Monitor,
    /// Whether the node is on.
    Status,
    /// To power the node off.
    Off,
}

impl Action {
    /// Its word.
    pub fn word(self) -> &'static str {
        match self {
            Self::Metadata => "metadata",
            Self::Monitor => "monitor",
            Self::Status => "status",
            Self::Off => "off",
        }
    }
}

/// What came of a run of an agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ran {
    /// It ended.
    Exited {
        /// Its exit code; `None` if a signal ended it.
        code: Option<i32>,
        /// What it wrote.
        output: String,
        /// The last line of its errors.
        error: String,
    },
    /// It took too long, and was killed.
    TimedOut,
    /// It could not be started, and why.
    NotStarted(String),
}

/// What an agent says of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Power {
    /// It is on.
    On,
    /// It is off.
    Off,
    /// Neither, or both.
    Unclear,
}

impl Ran {
    /// What it says of the node: code 2 is off, code 0 is on. A line `Status: ON` or `Status: OFF` must not say otherwise.
    pub fn power(&self) -> Power {
        let Self::Exited { code, output, .. } = self else { return Power::Unclear };
        let says = |word: &str| output.lines().any(|line| line.trim().eq_ignore_ascii_case(word));
        match (code, says("status: on"), says("status: off")) {
            (Some(2), false, _) => Power::Off,
            (Some(0), _, false) => Power::On,
            _ => Power::Unclear,
        }
    }

    /// Why it did not do what it was asked; `None` if it did.
    pub fn failure(&self, action: Action) -> Option<(&'static str, String)> {
        let word = action.word();
        Some(match self {
            Self::Exited { code: Some(0), .. } => return None,
            Self::Exited { code, error, .. } => {
                let code = code.map_or("a signal ended it".to_owned(), |code| format!("exit code {code}"));
                ("refused", format!("{word} failed ({code}){}", after_colon(error)))
            }
            Self::TimedOut => ("timed-out", format!("{word} took too long, and was killed")),
            Self::NotStarted(why) => ("not-started", format!("it cannot be started: {why}")),
        })
    }

    /// Why its status proves nothing.
    fn unclear(&self) -> (&'static str, String) {
        match (self.failure(Action::Status), self) {
            (_, Self::Exited { code, error, .. }) => {
                let code = code.map_or("a signal".to_owned(), |code| code.to_string());
                ("status-unclear", format!("its status is neither on nor off (exit code {code}){}", after_colon(error)))
            }
            (failure, _) => failure.unwrap_or_default(),
        }
    }
}

fn after_colon(text: &str) -> String {
    if text.is_empty() { String::new() } else { format!(": {text}") }
}

/// What the caller must do next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Nothing: give the lock back.
    Rest,
    /// Nothing before this time, or before a next target.
    Wait {
        /// When, ms.
        until_ms: u64,
    },
    /// Take the lock on the node, without waiting, and read what was settled under it.
    TakeLock,
    /// Ask an agent.
    Run {
        /// Its place in the settings.
        agent: usize,
        /// What to ask.
        action: Action,
    },
}

/// What came of a step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    /// The lock is taken, and this was settled of the node last.
    Locked(Option<Settled>),
    /// Somebody else has the lock; or why it cannot be taken.
    NotLocked(Option<String>),
    /// What came of the agent.
    Ran(Ran),
}

/// The failover for which a node was powered off. It outlasts the process: no restart powers a repaired node off.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settled {
    /// The evidence's id; may be empty.
    pub id: String,
    /// The time of the last fact of that failover, by its source's clock.
    pub at_s: i64,
    /// When an agent's status confirmed it, s since 1970 by this host's clock.
    pub done_s: i64,
    /// The agent.
    pub agent: String,
    /// Whether nothing was done, as the config says: `off` would have been next.
    pub is_dry: bool,
}

/// The names of [`FenceAgentRecord::state`].
pub const STATES: [&str; 6] = ["pending", "not-needed", "failed", "off-confirmed", "would-fence", "ended"];

/// What was done to power a node off, and when: s since 1970 by the agent's clock.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FenceAgentRecord {
    /// The evidence's kind.
    pub kind: EvidenceKind,
    /// The evidence's id; may be empty.
    pub id: String,
    /// The time of the last fact of this failover, by its source's clock.
    pub at_s: i64,
    /// When it was found that the node must be powered off.
    pub since_s: i64,
    /// Whether the read-only level does it.
    pub is_read_only: bool,
    /// How often `off` was given.
    pub tries: u32,
    /// That it is done.
    pub settled: Option<Settled>,
    /// Why it is not done yet.
    pub failure: Option<NodeFenceFailure>,
    /// When the node was fenced no longer. It stays as it is.
    pub ended_s: Option<i64>,
}

impl FenceAgentRecord {
    fn new(target: &PowerTarget, now_s: i64) -> Self {
        Self {
            kind: target.kind,
            id: target.id.clone(),
            at_s: target.latest_s,
            since_s: now_s,
            is_read_only: false,
            tries: 0,
            settled: None,
            failure: None,
            ended_s: None,
        }
    }

    /// A stable name of how far it is, for programs: one of [`STATES`].
    pub fn state(&self) -> &'static str {
        match self {
            Self { ended_s: Some(_), .. } => "ended",
            Self { settled: Some(Settled { is_dry: true, .. }), .. } => "would-fence",
            Self { settled: Some(_), .. } => "off-confirmed",
            Self { is_read_only: true, .. } => "not-needed",
            Self { failure: Some(_), .. } => "failed",
            _ => "pending",
        }
    }
}

/// Whether a target is of this failover, and not of a newer one.
fn is_about((id, at_s): (&str, i64), target: &PowerTarget) -> bool {
    (!id.is_empty() && id == target.id) || target.at_s <= at_s
}

/// One agent for a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AgentSettings {
    /// Its name.
    pub name: String,
    /// The pause before its first try, ms.
    pub delay_ms: u64,
    /// How often it is tried again.
    pub retries: u32,
}

/// The settings of a machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PowerSettings {
    /// The agents for the node, in order.
    pub agents: Vec<AgentSettings>,
    /// The kinds for which the read-only level comes first.
    pub read_only_first: BTreeSet<EvidenceKind>,
    /// How long it may take, ms.
    pub read_only_wait_ms: u64,
    /// Whether all but `off` is done.
    pub dry_run: bool,
    /// How long a target counts after it was given, ms.
    pub target_max_ms: u64,
}

/// Where a machine is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Lock,
    /// Begins once a target was given after this time.
    Begin(u64),
    /// The status was asked this often after `off`, or in place of it.
    Status(u32),
}

/// The power of one node.
#[derive(Debug, Clone)]
pub struct Machine {
    settings: PowerSettings,
    target: Option<(PowerTarget, u64)>,
    record: Option<FenceAgentRecord>,
    phase: Phase,
    not_before_ms: u64,
    /// Since when the read-only level is not confirmed.
    writable_since_ms: Option<u64>,
    agent: usize,
    tried: u32,
}

impl Machine {
    /// A machine that goes on from what was recorded of its node.
    pub fn new(settings: PowerSettings, record: Option<FenceAgentRecord>) -> Self {
        let (phase, not_before_ms, agent, tried) = (Phase::Lock, 0, 0, 0);
        Self { settings, target: None, record, phase, not_before_ms, writable_since_ms: None, agent, tried }
    }

    /// What was done so far.
    pub fn record(&self) -> Option<&FenceAgentRecord> {
        self.record.as_ref()
    }

    /// Takes the node's target of the tick that ended at `given_ms`; `None` if it need not be off, or not any more.
    pub fn aim(&mut self, target: Option<PowerTarget>, given_ms: u64, now_ms: u64, now_s: i64) {
        let Some(target) = target else {
            if let Some(record) = &mut self.record {
                record.ended_s.get_or_insert(now_s);
            }
            (self.target, self.writable_since_ms) = (None, None);
            return self.restart();
        };
        match &mut self.record {
            Some(record) if is_about((&record.id, record.at_s), &target) => {
                record.at_s = record.at_s.max(target.latest_s);
                record.ended_s = None;
            }
            _ => {
                (self.record, self.writable_since_ms) = (Some(FenceAgentRecord::new(&target, now_s)), None);
                self.restart();
            }
        }
        let waits = self.settings.read_only_first.contains(&target.kind);
        if target.is_read_only || self.writable_since_ms.is_none() {
            self.writable_since_ms = Some(now_ms);
        }
        if let Some(record) = &mut self.record {
            record.is_read_only = waits && target.is_read_only;
        }
        if self.settings.agents.is_empty() {
            self.note_failure("no-agent", "no [[fence_agent]] names it".to_owned(), now_s);
        } else if let Some(refusal) = &target.refusal {
            let (label, text) = refusal.failure();
            self.note_failure(label, text, now_s);
        }
        self.target = Some((target, given_ms));
    }

    fn note_failure(&mut self, label: &str, text: String, now_s: i64) {
        if let Some(record) = self.record.as_mut().filter(|record| record.settled.is_none()) {
            record.failure = Some(NodeFenceFailure { label: label.to_owned(), text, at_s: now_s });
        }
    }

    fn restart(&mut self) {
        (self.phase, self.not_before_ms, self.agent, self.tried) = (Phase::Lock, 0, 0, 0);
    }

    /// The target and when it was given, if that was lately and it may be powered off.
    fn current(&self, now_ms: u64) -> Option<(&PowerTarget, u64)> {
        let (target, given_ms) = self.target.as_ref()?;
        let is_open = self.record.as_ref().is_some_and(|record| record.settled.is_none() && !record.is_read_only);
        let is_current = now_ms.saturating_sub(*given_ms) <= self.settings.target_max_ms;
        (is_open && is_current && target.refusal.is_none()).then_some((target, *given_ms))
    }

    /// The next step.
    pub fn next(&mut self, now_ms: u64) -> Step {
        let Some((target, given_ms)) = self.current(now_ms).filter(|_| !self.settings.agents.is_empty()) else {
            self.restart();
            return Step::Rest;
        };
        let patience_ms = match self.settings.read_only_first.contains(&target.kind) {
            true => self.writable_since_ms.unwrap_or(now_ms) + self.settings.read_only_wait_ms,
            false => 0,
        };
        let until_ms = self.not_before_ms.max(patience_ms);
        if now_ms < until_ms {
            return Step::Wait { until_ms };
        }
        let run = |action| Step::Run { agent: self.agent, action };
        match self.phase {
            Phase::Lock => Step::TakeLock,
            Phase::Begin(since_ms) if given_ms <= since_ms => {
                Step::Wait { until_ms: given_ms + self.settings.target_max_ms + 1 }
            }
            Phase::Begin(_) => run(if self.settings.dry_run { Action::Monitor } else { Action::Off }),
            Phase::Status(_) => run(Action::Status),
        }
    }

    /// Takes what came of a step.
    pub fn take(&mut self, reply: Reply, now_ms: u64, now_s: i64) {
        if self.current(now_ms).is_none() {
            return self.restart();
        }
        match (self.phase, reply) {
            (Phase::Lock, Reply::Locked(settled)) => self.locked(settled, now_ms),
            (Phase::Lock, Reply::NotLocked(why)) => {
                self.not_before_ms = now_ms + LOCK_AGAIN_MS;
                if let Some(why) = why {
                    self.note_failure("no-lock", why, now_s);
                }
            }
            (Phase::Begin(_), Reply::Ran(ran)) => {
                let action = if self.settings.dry_run { Action::Monitor } else { Action::Off };
                if let Some(record) = self.record.as_mut().filter(|_| action == Action::Off) {
                    record.tries += 1;
                }
                match ran.failure(action) {
                    None => self.phase = Phase::Status(1),
                    Some(why) => self.fail(why, now_ms, now_s),
                }
            }
            (Phase::Status(asked), Reply::Ran(ran)) => match ran.power() {
                Power::Off => self.settle(now_s),
                Power::On if self.settings.dry_run => self.settle(now_s),
                Power::On if asked < STATUS_MAX => {
                    (self.phase, self.not_before_ms) = (Phase::Status(asked + 1), now_ms + RETRY_MS);
                }
                Power::On => {
                    let text = "off succeeded by its own word, and its status says that the node is on".to_owned();
                    self.fail(("still-on", text), now_ms, now_s);
                }
                Power::Unclear => self.fail(ran.unclear(), now_ms, now_s),
            },
            _ => self.restart(), // a reply to another step
        }
    }

    fn locked(&mut self, settled: Option<Settled>, now_ms: u64) {
        let Some((target, _)) = &self.target else { return };
        match settled.filter(|settled| is_about((&settled.id, settled.at_s), target)) {
            Some(settled) => self.done(settled),
            None => self.begin(now_ms),
        }
    }

    /// Begins with the agent, after its delay.
    fn begin(&mut self, now_ms: u64) {
        let delay_ms = self.settings.agents.get(self.agent).map_or(0, |agent| agent.delay_ms);
        (self.phase, self.not_before_ms) = (Phase::Begin(now_ms + delay_ms), now_ms + delay_ms);
    }

    fn settle(&mut self, now_s: i64) {
        let Some(record) = &self.record else { return };
        let agent = self.settings.agents.get(self.agent).map(|agent| agent.name.clone()).unwrap_or_default();
        let (id, at_s, is_dry) = (record.id.clone(), record.at_s, self.settings.dry_run);
        self.done(Settled { id, at_s, done_s: now_s, agent, is_dry });
    }

    fn done(&mut self, settled: Settled) {
        if let Some(record) = &mut self.record {
            (record.settled, record.failure) = (Some(settled), None);
        }
        self.restart();
    }

    /// Notes why an agent failed, and goes to its next try, to the next agent, or to the first one after a pause.
    fn fail(&mut self, (label, text): (&str, String), now_ms: u64, now_s: i64) {
        let Some(agent) = self.settings.agents.get(self.agent) else { return self.restart() };
        let (text, retries) = (format!("fence agent {}: {text}", agent.name), agent.retries);
        self.note_failure(label, text, now_s);
        if self.tried < retries {
            self.tried += 1;
            let since_ms = now_ms + RETRY_MS;
            (self.phase, self.not_before_ms) = (Phase::Begin(since_ms), since_ms);
        } else if self.agent + 1 < self.settings.agents.len() {
            (self.agent, self.tried) = (self.agent + 1, 0);
            self.begin(now_ms);
        } else {
            self.restart();
            self.not_before_ms = now_ms + ROUND_MS;
        }
    }
}
