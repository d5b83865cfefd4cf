//! Makes a fenced node read-only at the node itself (design §5). A machine without I/O, one for each node.
//!
//! ```text
//! targets   Orchestrator's answer, decision -> which nodes, by which evidence
//! Machine   target + replies -> the next step -> record
//!
//! connect until it answers -> ask the primaries who they are -> look -> lock -> set read-only -> list -> kill -> list
//!   -> look -> done: look each second. What fails waits a little, and begins again at the top
//! ```
//!
//! **Invariants:** No step is given for a node that is not fenced now by a kind that the config names, nor for a primary.
//! No step is given unless a confirmed leader told its whole history: a node that is promoted meanwhile would not be known.
//! No step sets read-only back: only an operator does, and a node that an operator made writable stays so until its
//! server restarts. The apply knows nothing of this.

pub mod power;

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::decide::{Decision, Verdict};
use crate::evidence::EvidenceKind;
use crate::node::Node;
use crate::orchestrator::{BARRIER, Downtime, LeaderView};

/// The pause between two tries to connect, ms: from the first to the longest. A node that returns is met within the
/// longest.
const CONNECT_EACH_MS: (u64, u64) = (100, 200);

/// The longest time for TCP to connect in most tries, ms. A host that was off answers the next SYN, not the last one.
const TCP_MS: u64 = 200;

/// One try in this many takes as long as the answer may take: a path may be slower than [`TCP_MS`].
const PATIENT_EACH: u32 = 8;

/// The pause until a primary that did not say who it is is asked again, ms.
const ASK_AGAIN_MS: u64 = 200;

/// The pause after a failure that a later try may not have, ms.
const RETRY_MS: u64 = 1_000;

/// The pause after a failure that takes an operator, ms.
const RETRY_SLOWLY_MS: u64 = 5_000;

/// How often a node that is read-only is looked at, ms.
const WATCH_MS: u64 = 1_000;

/// How long another agent's lock on the node is respected, ms. The steps are idempotent, so nothing breaks without it.
const LOCK_MAX_MS: u64 = 5_000;

/// The pause between two looks at sessions that are ending, and at a lock that is taken, ms.
const SOON_MS: u64 = 100;

/// How long killed sessions may take to end, ms.
const ENDING_MAX_MS: u64 = 10_000;

/// How far two readings of one server's start may differ, s. It is computed from two clocks in whole seconds.
const START_SLACK_S: i64 = 2;

/// How often the set may be held up in a row, a second each, before it counts as failed.
const SET_WAITS_MAX: u32 = 5;

/// One step kills at most this many sessions.
const KILLS_MAX: usize = 100;

/// Threads of the server itself, by what they do. A replica's connection for the binary log is one.
const OWN_COMMANDS: [&str; 8] = [
    "Binlog Dump",
    "Binlog Dump GTID",
    "Daemon",
    "Slave_IO",
    "Slave_SQL",
    "Slave_worker",
    "Register Slave",
    "Register Replica",
];

/// Threads of the server itself, by their user.
const OWN_USERS: [&str; 3] = ["system user", "event_scheduler", "unauthenticated user"];

/// The evidence for which a node may be made read-only. Isolation and a downtime speak against no node's data, and
/// `replica` against nothing.
pub const ALLOWED: [EvidenceKind; 5] = [
    EvidenceKind::Superseded,
    EvidenceKind::LostInRecovery,
    EvidenceKind::SecondWriter,
    EvidenceKind::Manual,
    EvidenceKind::Barrier,
];

/// A node that must be read-only, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// The highest kind of evidence that the config names.
    pub kind: EvidenceKind,
    /// The evidence's lasting id; may be empty.
    pub id: String,
    /// Servers that it must not be, by any name. Each is asked who it is.
    pub primaries: BTreeSet<Node>,
}

/// The nodes that must be read-only now. `None` if a promotion may be unknown ([`Decision::primaries`]): then nothing is
/// done, and nothing is over.
///
/// A barrier counts while the leader lists its mark. After it the node may be the primary still, with nobody promoted.
pub fn targets(
    leader: &LeaderView,
    decision: &Decision,
    kinds: &BTreeSet<EvidenceKind>,
) -> Option<BTreeMap<Node, Target>> {
    let primaries_of = decision.primaries.as_ref()?;
    let mut found = BTreeMap::new();
    for (node, verdict) in &decision.verdicts {
        let Verdict::Fence { evidence, .. } = verdict else { continue };
        let counts = |kind: EvidenceKind| {
            let is_over = kind == EvidenceKind::Barrier && !is_at_barrier(leader, decision, node);
            kinds.contains(&kind) && ALLOWED.contains(&kind) && !is_over
        };
        let Some(fact) = evidence.iter().find(|fact| counts(fact.kind)) else { continue };
        let primaries = primaries_of.get(node).cloned().unwrap_or_default();
        if !primaries.contains(node) {
            found.insert(node.clone(), Target { kind: fact.kind, id: fact.id.clone(), primaries });
        }
    }
    Some(found)
}

/// Whether the leader lists a barrier's mark on this node, under any of its names.
fn is_at_barrier(leader: &LeaderView, decision: &Decision, node: &Node) -> bool {
    let LeaderView::Led(answer) = leader else { return false };
    let identity = &decision.memory.nodes.identity;
    let is_of_it = |mark: &Downtime| mark.reason == BARRIER && identity.server(&mark.node) == identity.server(node);
    answer.downtimes.iter().any(is_of_it)
}

/// Who a server is: two with the same are one.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct ServerId {
    /// `server_id`.
    pub id: String,
    /// The host's own name.
    pub hostname: String,
    /// The port that it listens on.
    pub port: String,
}

/// How read-only a server is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReadOnly {
    /// Somebody whom it should not lets write.
    No,
    /// As far as the server can be.
    Yes,
}

/// What a look at a server found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Looked {
    /// Who answered.
    pub server: ServerId,
    /// When it started, s since 1970 by its own clock.
    pub started_s: i64,
    /// Whether it takes writes.
    pub read_only: ReadOnly,
    /// The privileges without which the account can do nothing.
    pub lacks: Vec<String>,
    /// The privileges without which it cannot end every session.
    pub lacks_for_some: Vec<String>,
}

/// One thread of a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Session {
    /// Its number.
    pub id: u64,
    /// Its account, without the host.
    pub user: String,
    /// What it does, in the server's word.
    pub command: String,
}

impl Session {
    /// Whether it is a client's that must end.
    pub fn must_end(&self, spared: &BTreeSet<String>) -> bool {
        let is_own = OWN_COMMANDS.contains(&self.command.as_str()) || OWN_USERS.contains(&self.user.as_str());
        !is_own && !spared.contains(&self.user)
    }
}

/// What the caller must do next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Nothing: close the connection if there is one.
    Rest,
    /// Nothing before this time.
    Wait {
        /// When, ms.
        until_ms: u64,
    },
    /// Ask these servers who they are.
    AskPrimaries(BTreeSet<Node>),
    /// Connect anew.
    Connect {
        /// The longest time for TCP, ms; `None` is as long as an answer may take.
        tcp_ms: Option<u64>,
    },
    /// Look at the server.
    Look,
    /// Take the lock on the node, without waiting.
    TakeLock,
    /// Set it read-only, and wait for running statements a second at most.
    SetReadOnly,
    /// List its threads.
    ListSessions,
    /// End these sessions.
    Kill(Vec<u64>),
}

/// What came of a step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    /// Who the primaries are; `None` for one that did not say.
    Primaries(BTreeMap<Node, Option<ServerId>>),
    /// It is connected.
    Connected,
    /// Nobody answered, or the connection broke.
    Lost(String),
    /// It answered, and the account may not log in.
    Denied(String),
    /// A look.
    Looked(Looked),
    /// Whether the lock was taken.
    Locked(bool),
    /// It is set.
    Set,
    /// A running statement or a table lock holds it up.
    SetWaits,
    /// The threads.
    Sessions(Vec<Session>),
    /// The sessions were told to end.
    Killed {
        /// How many were there.
        ended: u64,
        /// Those that the account may not end, and the server's words.
        refused: BTreeMap<u64, String>,
    },
    /// The server refused the step.
    Refused(String),
}

/// The names of [`NodeFenceRecord::state`].
pub const STATES: [&str; 6] = ["waiting", "working", "failed", "read-only", "undone", "ended"];

/// Why a node is not read-only yet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeFenceFailure {
    /// A stable name for programs.
    pub label: String,
    /// The text for people.
    pub text: String,
    /// When it was seen last, s since 1970.
    pub at_s: i64,
}

/// What was done to a node, and when: s since 1970 by the agent's clock.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeFenceRecord {
    /// The evidence's kind.
    pub kind: EvidenceKind,
    /// The evidence's id; may be empty.
    pub id: String,
    /// When it was found that the node must be read-only.
    pub since_s: i64,
    /// When the node answered first.
    pub answered_s: Option<i64>,
    /// When it was set read-only.
    pub read_only_s: Option<i64>,
    /// When it was seen read-only, and no client session from before was left.
    pub verified_s: Option<i64>,
    /// Whether it was read-only already.
    pub found_read_only: bool,
    /// The client sessions that were ended.
    pub sessions_ended: u64,
    /// The client sessions that the account may not end.
    pub sessions_refused: u64,
    /// When the server started that this is about, by its own clock.
    pub server_started_s: Option<i64>,
    /// When it was found that somebody made it writable again. It stays so until its server restarts.
    pub undone_s: Option<i64>,
    /// Why it is not read-only yet.
    pub failure: Option<NodeFenceFailure>,
    /// When the node was fenced no longer. It stays read-only.
    pub ended_s: Option<i64>,
}

impl NodeFenceRecord {
    fn new(target: &Target, now_s: i64) -> Self {
        Self {
            kind: target.kind,
            id: target.id.clone(),
            since_s: now_s,
            answered_s: None,
            read_only_s: None,
            verified_s: None,
            found_read_only: false,
            sessions_ended: 0,
            sessions_refused: 0,
            server_started_s: None,
            undone_s: None,
            failure: None,
            ended_s: None,
        }
    }

    /// Whether it is about this evidence. A marker's has no id.
    fn is_about(&self, target: &Target) -> bool {
        self.ended_s.is_none() && (self.id.is_empty() || target.id.is_empty() || self.id == target.id)
    }

    /// A stable name of how far it is, for programs: one of [`STATES`].
    pub fn state(&self) -> &'static str {
        match self {
            Self { ended_s: Some(_), .. } => "ended",
            Self { undone_s: Some(_), .. } => "undone",
            Self { verified_s: Some(_), .. } => "read-only",
            Self { failure: Some(_), .. } => "failed",
            Self { answered_s: None, .. } => "waiting",
            _ => "working",
        }
    }

    fn is_of_start(&self, started_s: i64) -> bool {
        self.server_started_s.is_some_and(|known| (known - started_s).abs() <= START_SLACK_S)
    }
}

/// The settings of a machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeFenceSettings {
    /// Accounts whose sessions are left, the own one among them.
    pub spared: BTreeSet<String>,
    /// How long a target counts after it was given, ms.
    pub target_max_ms: u64,
}

/// Where a machine is.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Phase {
    Connect,
    Ask,
    Look,
    Lock,
    Set,
    /// Lists what must end: before the set that waits for it, or after the set.
    List,
    Kill(Vec<u64>),
    /// Waits for the end of what was told to end.
    Left(u64),
    Verify,
    Watch,
}

/// The fence of one node.
#[derive(Debug, Clone)]
pub struct Machine {
    settings: NodeFenceSettings,
    target: Option<(Target, u64)>,
    record: Option<NodeFenceRecord>,
    phase: Phase,
    not_before_ms: u64,
    /// Tries to connect since the last answer.
    tries: u32,
    primaries: BTreeMap<Node, Option<ServerId>>,
    lock_since_ms: Option<u64>,
    is_set: bool,
    /// How often the set was held up in a row.
    waits: u32,
    /// The client sessions from before the node was read-only that were told to end.
    ending: BTreeSet<u64>,
    /// Those that the account may not end, and the server's words.
    refused: BTreeMap<u64, String>,
}

impl Machine {
    /// A machine that goes on from what was recorded of its node.
    pub fn new(settings: NodeFenceSettings, record: Option<NodeFenceRecord>) -> Self {
        Self {
            settings,
            target: None,
            record,
            phase: Phase::Connect,
            not_before_ms: 0,
            tries: 0,
            primaries: BTreeMap::new(),
            lock_since_ms: None,
            is_set: false,
            waits: 0,
            ending: BTreeSet::new(),
            refused: BTreeMap::new(),
        }
    }

    /// What was done so far.
    pub fn record(&self) -> Option<&NodeFenceRecord> {
        self.record.as_ref()
    }

    /// Takes the node's target of the last tick; `None` if it need not be read-only, or not any more.
    pub fn aim(&mut self, target: Option<Target>, now_ms: u64, now_s: i64) {
        let Some(target) = target else {
            if let Some(record) = &mut self.record {
                record.ended_s.get_or_insert(now_s);
            }
            self.target = None;
            return self.restart();
        };
        if !self.record.as_ref().is_some_and(|record| record.is_about(&target)) {
            self.record = Some(NodeFenceRecord::new(&target, now_s));
            self.restart();
        }
        let has_asked = !matches!(self.phase, Phase::Connect | Phase::Ask);
        if has_asked && !target.primaries.iter().all(|primary| self.primaries.contains_key(primary)) {
            self.restart();
        }
        self.target = Some((target, now_ms));
    }

    fn restart(&mut self) {
        (self.phase, self.not_before_ms, self.lock_since_ms, self.waits) = (Phase::Connect, 0, None, 0);
    }

    /// The target, if it was given lately.
    fn current(&self, now_ms: u64) -> Option<&Target> {
        let (target, given_ms) = self.target.as_ref()?;
        (now_ms.saturating_sub(*given_ms) <= self.settings.target_max_ms).then_some(target)
    }

    /// The next step.
    pub fn next(&mut self, now_ms: u64) -> Step {
        let Some(target) = self.current(now_ms) else {
            self.restart();
            return Step::Rest;
        };
        if now_ms < self.not_before_ms {
            return Step::Wait { until_ms: self.not_before_ms };
        }
        match &self.phase {
            Phase::Ask => Step::AskPrimaries(target.primaries.clone()),
            Phase::Connect => {
                let is_patient = self.tries % PATIENT_EACH == PATIENT_EACH - 1;
                Step::Connect { tcp_ms: (!is_patient).then_some(TCP_MS) }
            }
            Phase::Look | Phase::Verify | Phase::Watch => Step::Look,
            Phase::Lock => Step::TakeLock,
            Phase::Set => Step::SetReadOnly,
            Phase::List | Phase::Left(_) => Step::ListSessions,
            Phase::Kill(ids) => Step::Kill(ids.iter().take(KILLS_MAX).copied().collect()),
        }
    }

    /// Takes what came of a step.
    pub fn take(&mut self, reply: Reply, now_ms: u64, now_s: i64) {
        if self.record.is_none() || self.current(now_ms).is_none() {
            return self.restart();
        }
        match (std::mem::replace(&mut self.phase, Phase::Connect), reply) {
            (_, Reply::Lost(_)) => self.reconnect(now_ms),
            (_, Reply::Denied(why)) => self.fail("access-denied", why, RETRY_SLOWLY_MS, now_ms, now_s),
            (_, Reply::Refused(why)) => self.fail("refused", why, RETRY_MS, now_ms, now_s),
            (Phase::Ask, Reply::Primaries(found)) => {
                (self.primaries, self.phase) = (found, Phase::Look);
            }
            (Phase::Connect, Reply::Connected) => (self.phase, self.tries) = (Phase::Ask, 0),
            (phase @ (Phase::Look | Phase::Verify | Phase::Watch), Reply::Looked(seen)) => {
                self.looked(&phase, &seen, now_ms, now_s);
            }
            (Phase::Lock, Reply::Locked(true)) => self.phase = self.set_or_list(),
            (Phase::Lock, Reply::Locked(false)) => {
                let since_ms = *self.lock_since_ms.get_or_insert(now_ms);
                let is_respected = now_ms.saturating_sub(since_ms) < LOCK_MAX_MS;
                self.phase = if is_respected { Phase::Look } else { self.set_or_list() };
                self.not_before_ms = now_ms + if is_respected { SOON_MS } else { 0 };
            }
            (Phase::Set, Reply::Set) => {
                self.update(|record| record.read_only_s = Some(now_s));
                (self.phase, self.is_set, self.waits) = (Phase::List, true, 0);
            }
            // Whoever holds it up is a client: it is ended, and the set is tried again.
            (Phase::Set, Reply::SetWaits) if self.waits < SET_WAITS_MAX => {
                (self.phase, self.waits) = (Phase::List, self.waits + 1);
            }
            (Phase::Set, Reply::SetWaits) => {
                let may_not = self.may_not_end().map(|text| format!("; {text}")).unwrap_or_default();
                let text = format!("a statement or a table lock holds it up, though clients were ended{may_not}");
                self.fail("set-waits", text, RETRY_MS, now_ms, now_s);
            }
            (phase @ (Phase::List | Phase::Left(_)), Reply::Sessions(all)) => {
                self.listed(&phase, &all, now_ms, now_s);
            }
            (Phase::Kill(ids), Reply::Killed { ended, refused }) => {
                self.ending.extend(ids.iter().take(KILLS_MAX).filter(|id| !refused.contains_key(id)));
                self.refused.extend(refused);
                let sessions_refused = self.refused.len() as u64;
                self.update(|record| {
                    record.sessions_ended += ended;
                    record.sessions_refused = sessions_refused;
                });
                let rest: Vec<u64> = ids.into_iter().skip(KILLS_MAX).collect();
                self.phase = match (rest.is_empty(), self.is_set) {
                    (false, _) => Phase::Kill(rest),
                    (true, true) => Phase::Left(now_ms),
                    (true, false) => Phase::Set,
                };
            }
            _ => self.reconnect(now_ms), // a reply to another step
        }
    }

    /// That sessions are left which the account may not end.
    fn may_not_end(&self) -> Option<String> {
        let (count, why) = (self.refused.len(), self.refused.values().next()?);
        Some(format!("{count} client sessions may not be ended by the account: {why}"))
    }

    fn update(&mut self, change: impl FnOnce(&mut NodeFenceRecord)) {
        if let Some(record) = &mut self.record {
            change(record);
        }
    }

    fn reconnect(&mut self, now_ms: u64) {
        let (first_ms, longest_ms) = CONNECT_EACH_MS;
        self.restart();
        self.not_before_ms = now_ms + (first_ms + u64::from(self.tries) * 10).min(longest_ms);
        self.tries = self.tries.saturating_add(1);
    }

    fn fail(&mut self, label: &str, text: String, retry_ms: u64, now_ms: u64, now_s: i64) {
        self.update(|record| {
            record.failure = Some(NodeFenceFailure { label: label.to_owned(), text, at_s: now_s });
        });
        self.restart();
        self.not_before_ms = now_ms + retry_ms;
    }

    /// Why the server that answered must be left alone.
    fn is_no_target(&self, seen: &Looked, now_ms: u64) -> Option<(&'static str, String)> {
        let target = self.current(now_ms)?;
        let needs_none = matches!(target.kind, EvidenceKind::Manual | EvidenceKind::Barrier);
        if target.primaries.is_empty() && !needs_none {
            return Some(("no-primary", "nobody knows who is the primary in its place".to_owned()));
        }
        for primary in &target.primaries {
            match self.primaries.get(primary) {
                Some(Some(other)) if *other == seen.server => {
                    let text = format!("the server that answers there is the primary {primary}; it is left as it is");
                    return Some(("is-the-primary", text));
                }
                Some(Some(_)) => {}
                _ => {
                    let text =
                        format!("the primary {primary} does not say who it is, so nothing proves that this is not it");
                    return Some(("primary-unreached", text));
                }
            }
        }
        None
    }

    fn looked(&mut self, phase: &Phase, seen: &Looked, now_ms: u64, now_s: i64) {
        self.update(|record| record.answered_s = record.answered_s.or(Some(now_s)));
        if let Some((label, why)) = self.is_no_target(seen, now_ms) {
            return self.fail(label, why, ASK_AGAIN_MS, now_ms, now_s);
        }
        let may_not_end = self.may_not_end();
        let Some(record) = &mut self.record else { return };
        if !record.is_of_start(seen.started_s) {
            // Another start of the server: nothing that was done before counts.
            let NodeFenceRecord { kind, id, since_s, answered_s, sessions_ended, .. } = record.clone();
            let fresh = NodeFenceRecord::new(&Target { kind, id, primaries: [].into() }, since_s);
            *record = NodeFenceRecord { answered_s, sessions_ended, server_started_s: Some(seen.started_s), ..fresh };
            (self.is_set, self.lock_since_ms) = (false, None);
            self.ending.clear();
            self.refused.clear();
        }
        let is_done = record.verified_s.is_some();
        match seen.read_only {
            ReadOnly::Yes => {
                if !is_done && *phase != Phase::Verify {
                    // Orchestrator may have set it, or an earlier agent. Sessions from before are there still.
                    return self.begin(seen, now_ms, now_s);
                }
                record.found_read_only |= record.read_only_s.is_none();
                let failure = |text| NodeFenceFailure { label: "sessions-refused".to_owned(), text, at_s: now_s };
                if record.verified_s.is_none() {
                    (record.verified_s, record.failure) = (Some(now_s), may_not_end.map(failure));
                }
                record.undone_s = None;
                self.watch(now_ms);
            }
            ReadOnly::No if is_done => {
                record.undone_s.get_or_insert(now_s);
                self.watch(now_ms);
            }
            ReadOnly::No if *phase == Phase::Verify => {
                let text = "it was set, and is writable again".to_owned();
                self.fail("does-not-stay", text, RETRY_MS, now_ms, now_s);
            }
            ReadOnly::No => self.begin(seen, now_ms, now_s),
        }
    }

    /// Begins to set it read-only if it is not, and to end its clients.
    fn begin(&mut self, seen: &Looked, now_ms: u64, now_s: i64) {
        if seen.lacks.is_empty() {
            (self.phase, self.is_set) = (Phase::Lock, seen.read_only == ReadOnly::Yes);
        } else {
            let text = format!("the account lacks {}", seen.lacks.join(", "));
            self.fail("lacks-privilege", text, RETRY_SLOWLY_MS, now_ms, now_s);
        }
    }

    /// After the lock.
    fn set_or_list(&self) -> Phase {
        if self.is_set { Phase::List } else { Phase::Set }
    }

    fn watch(&mut self, now_ms: u64) {
        (self.phase, self.not_before_ms) = (Phase::Watch, now_ms + WATCH_MS);
    }

    fn listed(&mut self, phase: &Phase, all: &[Session], now_ms: u64, now_s: i64) {
        let clients: Vec<u64> =
            all.iter().filter(|session| session.must_end(&self.settings.spared)).map(|session| session.id).collect();
        let Phase::Left(since_ms) = phase else {
            // Sessions that begin once it is read-only write nothing, and are left.
            self.ending.clear();
            self.refused.clear();
            self.phase = match (clients.is_empty(), self.is_set) {
                (false, _) => Phase::Kill(clients),
                (true, true) => Phase::Verify,
                (true, false) => Phase::Set,
            };
            return;
        };
        let left = clients.iter().filter(|id| self.ending.contains(id)).count();
        if left == 0 {
            self.phase = Phase::Verify;
        } else if now_ms.saturating_sub(*since_ms) < ENDING_MAX_MS {
            (self.phase, self.not_before_ms) = (Phase::Left(*since_ms), now_ms + SOON_MS);
        } else {
            let text =
                format!("it is read-only, and {left} killed sessions have not ended in {} s", ENDING_MAX_MS / 1_000);
            self.fail("sessions-left", text, RETRY_SLOWLY_MS, now_ms, now_s);
        }
    }
}
