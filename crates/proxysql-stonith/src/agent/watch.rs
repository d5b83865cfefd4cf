//! An agent that watches one ProxySQL: it ticks, keeps what it learned, and writes the log.
//!
//! ```text
//! orders -> agent.tick (keeps the memory before it changes anything) -> snapshot -> log, each thing once
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use stonith_core::apply::Outcome;
use stonith_core::barrier::lease_wait_ms;
use stonith_core::condition::{Condition, Severity, of_fence_agents, of_node_fences, of_outcome};
use stonith_core::decide::Decision;
use stonith_core::evidence::EvidenceKind;
use stonith_core::lease::out_in_ms;
use stonith_core::memory::Memory;
use stonith_core::node::Node;
use stonith_core::node_fence::power::{self, FenceAgentRecord, PowerTarget};
use stonith_core::node_fence::{NodeFenceRecord, Target, targets};
use stonith_core::observed::Observed;
use stonith_core::orchestrator::LeaderView;
use stonith_core::plan::Plan;
use stonith_core::policy::IsolationScope;
use stonith_core::table::Layer;

use super::snapshot::{NodeReports, Suspended};
use super::{Agent, AgentSettings, Kept, Tick, TickError};
use crate::clock::Now;
use crate::config::{Enforcement, Mode};
use crate::logging::LogOnce;
use crate::report;
use crate::snapshot::Snapshot;
use crate::state::{Book, Books, History, Record};

/// What one tick of a watch saw and did.
#[derive(Debug)]
pub struct Ticked {
    /// When it began.
    pub begun: Instant,
    /// How long it took.
    pub took: Duration,
    /// Whether a leader answered and the whole plan was applied.
    pub well: bool,
    /// The report.
    pub snapshot: Snapshot,
    /// The outcome of the apply; `None` if there was none, or if it broke off.
    pub outcome: Option<Outcome>,
    /// How long the apply took, successful or not.
    pub apply_took: Option<Duration>,
    /// The number of fences that another writer had undone.
    pub refences: usize,
    /// A node that the leader marks is out by itself this long after the mark, in ms; `None` if the agent does not isolate.
    pub out_within_ms: Option<u64>,
    /// Every node is out by itself this long after this tick, in ms, if no answer counts any more; `None` as above.
    pub out_in_ms: Option<u64>,
    /// The nodes that must be read-only at the node itself; `None` if nobody says now.
    pub targets: Option<BTreeMap<Node, Target>>,
    /// The nodes that must be powered off; `None` if no confirmed leader says now.
    pub power_targets: Option<BTreeMap<Node, PowerTarget>>,
}

impl Ticked {
    /// Whether ProxySQL was read and shows what was decided. An apply is verified by a later tick.
    pub fn verified(&self) -> bool {
        let nothing_to_do = self.snapshot.plan.empty || self.snapshot.mode == Enforcement::Observe;
        self.snapshot.reached && nothing_to_do
    }
}

/// By when this agent's lease takes its ProxySQL out of service, for a hook that waits.
fn out_within_ms(settings: &AgentSettings, snapshot: &Snapshot) -> Option<u64> {
    let AgentSettings { policy, observe_only, .. } = settings;
    let is_off = *observe_only || policy.isolation_scope == IsolationScope::Off || snapshot.suspended.is_some();
    let is_armed = snapshot.armed && snapshot.writers.iter().all(|writer| writer.armed);
    (is_armed && !is_off).then(|| lease_wait_ms(policy.isolation_after_ms, policy.tick_ms))
}

/// An agent that watches one ProxySQL.
#[derive(Debug)]
pub struct Watch {
    proxy: Node,
    agent: Agent,
    kept: Kept,
    /// The plan that was applied last, and until when the monitor may still undo it, ms of the boot clock.
    applied: Option<(Plan, u64)>,
    reports: NodeReports,
}

impl Watch {
    /// Makes a watch of an agent and what it continues from.
    pub fn new(proxy: Node, agent: Agent, kept: Kept) -> Self {
        Self { proxy, agent, kept, applied: None, reports: NodeReports::default() }
    }

    /// Runs one tick and logs it.
    pub async fn tick(&mut self) -> Ticked {
        let (begun, now) = (Instant::now(), Now::read());
        let mut found: Vec<Condition> = Vec::new();
        let standing = self.kept.dir.orders(&now);
        if let Some(problem) = &standing.problem {
            let text = format!("{problem}. Its suspensions and releases are ignored");
            found.push(Condition::OrdersUnread(text));
        }
        let Kept { dir, state, keeps, .. } = &mut self.kept;
        let mut unkept = None;
        let keep = |memory: &Memory| {
            state.memory = memory.clone();
            if *keeps {
                unkept = dir.save(state).err();
            }
            *keeps && unkept.is_none()
        };
        let suspended = Suspended::by(&standing, &now);
        let ticked = self.agent.tick(standing.orders, keep).await;
        let unkept = unkept.map(|error| format!("{error}. What this process learned is lost when it ends"));
        found.extend(unkept.or_else(|| self.kept.unkept.clone()).map(Condition::StateUnkept));
        found.extend(self.found(&ticked));
        let well = self.is_well(&ticked);
        let seen = ticked.as_ref().ok().map(|tick| (&tick.observed, &tick.decision));
        let history = self.at_the_nodes(&mut found);
        let (targets, power_targets) = (self.targets(seen), self.power_targets(seen, &history));
        let mut snapshot = Snapshot::at(&Now::read(), &self.agent, &mut self.reports, seen, suspended, &found);
        snapshot.take_node_fences(&history.read_only.records, &history.power.records);
        if self.agent.settings.observe_only && !snapshot.plan.empty {
            let observing = Condition::Observing(first_lines(&report::text::plan(&snapshot)));
            snapshot.note(&observing);
            found.push(observing);
        }
        let clustered = seen.is_some_and(|(observed, _)| observed.proxy.clustered);
        let (mut outcome, mut apply_took, mut refences) = (None, None, 0);
        if let Ok(tick) = ticked {
            refences = self.report(&tick, &snapshot).await;
            self.agent.give_back(tick.observed.proxy);
            (outcome, apply_took) = (tick.outcome, tick.apply_took);
        }
        self.log_conditions(&found, now.wall_s);
        let out_within_ms = out_within_ms(&self.agent.settings, &snapshot);
        let out_in_ms = out_within_ms.map(|_| {
            let (policy, lease) = (&self.agent.settings.policy, &self.agent.memory.lease);
            out_in_ms(lease, policy, clustered, now.boot_ms)
        });
        Ticked {
            begun,
            took: begun.elapsed(),
            well,
            snapshot,
            outcome,
            apply_took,
            refences,
            out_within_ms,
            out_in_ms,
            targets,
            power_targets,
        }
    }

    /// What was done at the nodes themselves, and what of it needs attention.
    fn at_the_nodes(&self, found: &mut Vec<Condition>) -> AtTheNodes {
        found.extend(self.in_vain().then_some(Condition::NodeFenceNeedsDaemon));
        node_fences(&self.kept.books, &self.agent.settings, found)
    }

    /// The nodes that must be read-only at the node itself.
    fn targets(&self, seen: Option<(&Observed, &Decision)>) -> Option<BTreeMap<Node, Target>> {
        let settings = &self.agent.settings;
        match seen {
            _ if settings.observe_only => Some(BTreeMap::new()),
            Some((observed, decision)) => targets(&observed.leader, decision, &settings.read_only_for),
            None => None,
        }
    }

    /// The nodes that must be powered off. One that is only observed gets a dry run.
    fn power_targets(
        &self,
        seen: Option<(&Observed, &Decision)>,
        history: &AtTheNodes,
    ) -> Option<BTreeMap<Node, PowerTarget>> {
        let (observed, decision) = seen?;
        let kinds = &self.agent.settings.fence_agent_for;
        power::targets(&observed.leader, decision, kinds, &history.read_only.records)
    }

    /// Whether the config fences nodes themselves, and this process does not.
    fn in_vain(&self) -> bool {
        let AgentSettings { read_only_for, fence_agent_for, .. } = &self.agent.settings;
        self.kept.state.mode == Some(Mode::Once) && !(read_only_for.is_empty() && fence_agent_for.is_empty())
    }

    /// The conditions of a tick.
    fn found(&self, ticked: &Result<Tick, TickError>) -> Vec<Condition> {
        match ticked {
            Ok(tick) => {
                let mut found = self.agent.conditions(&tick.observed, &tick.decision);
                found.extend(tick.outcome.as_ref().map(of_outcome).unwrap_or_default());
                found.extend(tick.error.as_ref().map(|error| Condition::ApplyFailed(error.to_string())));
                found
            }
            Err(error) => vec![Condition::ProxyUnread(error.to_string())],
        }
    }

    /// Whether a leader answered and the whole plan was applied.
    fn is_well(&self, ticked: &Result<Tick, TickError>) -> bool {
        let Ok(tick) = ticked else { return false };
        let undone = tick.outcome.as_ref().map(of_outcome).unwrap_or_default();
        let is_done = undone.iter().all(|condition| condition.severity() == Severity::Info);
        let can_act = !self.agent.is_refused();
        is_done && can_act && tick.error.is_none() && matches!(tick.observed.leader, LeaderView::Led(_))
    }

    /// How long to wait for a second look (design §8.8).
    ///
    /// `None` unless rows were changed so recently that ProxySQL's monitor may still undo the change.
    pub fn second_look_in(&self) -> Option<Duration> {
        let (_, until_ms) = self.applied.as_ref()?;
        Some(Duration::from_millis(until_ms.saturating_sub(Now::read().boot_ms)))
    }

    /// Waits for the look-up of names that is under way. Returns whether a next tick may match more rows by address.
    pub async fn names_settled(&mut self) -> bool {
        self.agent.names_settled().await
    }

    /// Closes the connection to ProxySQL. Returns what a next watch of it continues from.
    pub async fn close(self) -> Kept {
        self.agent.close().await;
        self.kept
    }

    /// Logs the apply. Returns the number of fences that another writer had undone.
    async fn report(&mut self, tick: &Tick, snapshot: &Snapshot) -> usize {
        let plan = &tick.decision.plan;
        let mut refences = 0;
        if let Some((applied, until_ms)) = self.applied.take() {
            for node in undone(&applied, plan) {
                refences += 1;
                tracing::error!(proxy = %self.proxy, %node, "the fence did not hold: another writer changed its rows; applied again");
            }
            if tick.outcome.is_none() && Now::read().boot_ms < until_ms {
                self.applied = Some((applied, until_ms));
            }
        }
        let Some(outcome) = &tick.outcome else {
            tracing::debug!(proxy = %self.proxy, lease_state = %tick.decision.lease_state, "quiet tick");
            return refences;
        };
        report::log::changes(snapshot, outcome);
        let was_applied = matches!(outcome, Outcome::Applied(_));
        if was_applied && plan.changes.iter().any(|change| change.layer == Layer::Runtime) {
            let round = self.agent.monitor_round().await.unwrap_or(Duration::from_secs(2));
            let until = Now::read().boot_ms.saturating_add(u64::try_from(round.as_millis()).unwrap_or(0));
            self.applied = Some((plan.clone(), until));
        }
        refences
    }

    /// Logs new and recovered conditions, and keeps which ones were logged.
    fn log_conditions(&mut self, found: &[Condition], now_s: i64) {
        let said = self.kept.state.errors.clone();
        let identity = &self.agent.memory.nodes.identity;
        for (severity, text) in lines_to_log(&mut self.kept.state.errors, found, now_s) {
            let text = identity.with_instances(&text);
            match severity {
                Severity::Info => tracing::info!(proxy = %self.proxy, "{text}"),
                Severity::Warning => tracing::warn!(proxy = %self.proxy, "{text}"),
                Severity::Failure | Severity::Unprotected => tracing::error!(proxy = %self.proxy, "{text}"),
            }
        }
        if self.kept.keeps && self.kept.state.errors != said {
            // A failed save is reported by this tick or the next one.
            let _ = self.kept.dir.save(&self.kept.state);
        }
    }
}

/// What was done at the nodes themselves, by level.
#[derive(Debug)]
pub(super) struct AtTheNodes {
    pub(super) read_only: History<NodeFenceRecord>,
    pub(super) power: History<FenceAgentRecord>,
}

/// What was done at the nodes themselves, and what of it needs attention.
pub(super) fn node_fences(books: &Books, settings: &AgentSettings, found: &mut Vec<Condition>) -> AtTheNodes {
    let read_only = known(&books.read_only, &settings.read_only_for, found);
    let history = AtTheNodes { read_only, power: known(&books.power, &settings.fence_agent_for, found) };
    let mut unready = history.read_only.unready.clone();
    for (node, why) in &history.power.unready {
        unready.entry(node.clone()).and_modify(|text| *text = format!("{text}; {why}")).or_insert_with(|| why.clone());
    }
    found.extend(of_node_fences(&history.read_only.records, &unready));
    found.extend(of_fence_agents(&history.power.records));
    history
}

/// A level's history, if the level is configured.
fn known<R: Record>(book: &Book<R>, kinds: &BTreeSet<EvidenceKind>, found: &mut Vec<Condition>) -> History<R> {
    if kinds.is_empty() {
        return History::default();
    }
    let (history, problem) = book.read();
    found.extend(problem.map(Condition::StateUnkept));
    history
}

/// The fenced nodes whose runtime rows must be changed again.
fn undone(applied: &Plan, plan: &Plan) -> Vec<Node> {
    let changed = |plan: &Plan, node: &Node| {
        plan.changes.iter().any(|change| change.layer == Layer::Runtime && change.key().node().as_ref() == Some(node))
    };
    let fenced = applied.directives.iter().filter(|(node, directive)| plan.directives.get(*node) == Some(directive));
    fenced.map(|(node, _)| node.clone()).filter(|node| changed(applied, node) && changed(plan, node)).collect()
}

/// The largest number of plan lines that one log line quotes.
const PLAN_LINES_MAX: usize = 20;

fn first_lines(text: &str) -> String {
    let more = text.lines().count().saturating_sub(PLAN_LINES_MAX);
    let mut lines: Vec<&str> = text.lines().take(PLAN_LINES_MAX).collect();
    let rest = format!("  ... and {more} more lines");
    lines.extend((more > 0).then_some(rest.as_str()));
    lines.join("\n")
}

/// The lines to log: recovered conditions, and those that are new or were last logged an hour ago.
fn lines_to_log(errors: &mut LogOnce, found: &[Condition], now_s: i64) -> Vec<(Severity, String)> {
    let texts: BTreeMap<String, &Condition> = found.iter().map(|condition| (condition.key(), condition)).collect();
    let over: Vec<String> =
        errors.present().map(|(key, _)| key.to_owned()).filter(|key| !texts.contains_key(key)).collect();
    let over = over.iter().filter_map(|key| errors.recovered(key)).map(|text| (Severity::Info, text));
    let mut lines: Vec<_> = over.collect();
    for (key, condition) in texts {
        let (text, severity) = (condition.to_string(), condition.severity());
        if severity == Severity::Info && errors.present().any(|said| said == (key.as_str(), text.as_str())) {
            continue; // nobody needs to do anything, so once is enough
        }
        lines.extend(errors.error(&key, &text, now_s).map(|text| (severity, text)));
    }
    lines
}

#[cfg(test)]
mod tests {
    use stonith_core::orchestrator::{CameBackKind, EndpointAnswer, SilentCause};

    use super::*;

    #[test]
    fn a_condition_is_logged_once_and_its_end_once() {
        let mut errors = LogOnce::default();
        let unreached = [Condition::LeaderUnreached(SilentCause::Answers(vec![EndpointAnswer {
            kind: CameBackKind::Unreached,
            text: "refused".to_owned(),
        }]))];
        let text = "Orchestrator's leader was not reached: refused";
        assert_eq!(lines_to_log(&mut errors, &unreached, 1), [(Severity::Failure, text.to_owned())]);
        assert_eq!(lines_to_log(&mut errors, &unreached, 2), []);
        let lines = lines_to_log(&mut errors, &[Condition::OrdersUnread("garbage".to_owned())], 3);
        let over = format!("recovered: leader-unreached (was: {text})");
        assert_eq!(lines, [(Severity::Info, over), (Severity::Failure, "garbage".to_owned())]);
    }

    #[test]
    fn what_needs_nobody_is_logged_once_for_good_and_anything_else_once_an_hour() {
        let mut errors = LogOnce::default();
        let ahead = Condition::ProxyAhead { version: "9.9.9".to_owned(), tried: "2.7.1".to_owned() };
        let found = [ahead, Condition::LoadsUncounted];
        assert_eq!(lines_to_log(&mut errors, &found, 1).len(), 2);
        let lines = lines_to_log(&mut errors, &found, 1 + 3_600);
        assert!(matches!(lines.as_slice(), [(Severity::Warning, _)]), "{lines:?}");
    }

    #[test]
    fn a_long_plan_is_quoted_in_a_few_lines() {
        let long: String = (0..100).map(|n| format!("line {n}\n")).collect();
        let quoted = first_lines(&long);
        assert_eq!(quoted.lines().count(), PLAN_LINES_MAX + 1);
        assert!(quoted.ends_with("... and 80 more lines"), "{quoted}");
        assert_eq!(first_lines("one\ntwo\n"), "one\ntwo");
    }
}
