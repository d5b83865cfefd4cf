//! What must hold after every step (design §4), judged by what is true and not by what an agent believes.

use std::collections::{BTreeMap, BTreeSet};

use stonith_core::apply::{Outcome, Place};
use stonith_core::barrier::LEADER_STALE_MS;
use stonith_core::decide::{Decision, Verdict};
use stonith_core::evidence::EvidenceKind;
use stonith_core::lease::LeaseState;
use stonith_core::node_fence::{ALLOWED, targets};
use stonith_core::observed::Observed;
use stonith_core::orchestrator::{
    Answer, AnswerPart, BARRIER, Backing, Downtime, LOST_IN_RECOVERY, LeaderView, Recovery, SkippedEntry,
};
use stonith_core::orders::Order;
use stonith_core::plan::Directive;
use stonith_core::policy::APPLY_MS;
use stonith_core::table::{Comment, Row, Status};

use super::agent::{Agent, Applying, in_service};
use super::event::{Hostgroups, NODES};
use super::orchestrator::{Cluster, OTHER_CLUSTER, Promotion, at, node, now_s, number};
use super::proxy::{CROWD, EXCLUDED, Edit, Proxy, WRITER, cut, operators_part};

/// The largest gap between ticks, an answer, and an apply: so long after an agent could know, no row is in service.
const BOUND_MS: u64 = 1_200 + 20 + APPLY_MS;
/// A lease, which counts anew from whatever stopped an agent.
const LEASE_MS: u64 = 10_000;
/// Orchestrator looks at the nodes so often.
const POLL_MS: u64 = 1_000;
/// A lock of an applier that died is honoured so long.
const LOCK_MS: u64 = 30_000;

#[derive(Debug, Clone, Default)]
struct OfProxy {
    /// By then these agents, by number, are to have these nodes out.
    due_ms: BTreeMap<(usize, usize), u64>,
    /// Nodes that an apply took out of service for evidence of a recovery.
    fenced: BTreeSet<usize>,
    /// Nodes that an operator ordered back, in whatever role is shown of them.
    ordered_back: BTreeSet<usize>,
    /// Nodes fenced for a recovery that take no writes before they are the primary again, where no monitor moves rows.
    waiting: BTreeSet<usize>,
    /// Nodes that a barrier holds out, whose successor is promoted.
    barred: BTreeMap<usize, Barred>,
}

/// What a proxy's fence rests on, where a barrier came before the promotion.
#[derive(Debug, Clone)]
struct Barred {
    /// Since when nothing may be in service, ms.
    since_ms: u64,
    /// Leases of its agents that must have run out, though none of them said so.
    by_lease: bool,
}

#[derive(Debug, Clone, Default)]
struct OfAgent {
    /// When it last heard what holds an isolation back (boot clock).
    held_ms: u64,
    /// Until when its lease was good for, less what isolation takes (boot clock).
    heard_ms: u64,
    last_ms: u64,
    isolated: bool,
    empty_plans: u32,
}

#[derive(Debug, Clone, Default)]
pub struct Rules {
    pub violations: Vec<String>,
    proxies: Vec<OfProxy>,
    agents: Vec<OfAgent>,
    /// Faults that came true.
    pub faults: u64,
    pub statements: u64,
    pub checks: u64,
    pub applies: u64,
    pub fences: u64,
    pub isolations: u64,
    pub returns: u64,
    /// What came true of the odd things that chance can draw.
    pub seen: BTreeSet<&'static str>,
}

impl Rules {
    pub fn new(agents: usize, proxies: usize) -> Self {
        Self { proxies: vec![OfProxy::default(); proxies], agents: vec![OfAgent::default(); agents], ..Self::default() }
    }

    pub fn fault(&mut self) {
        self.faults += 1;
    }

    pub fn saw(&mut self, what: &'static str) {
        self.seen.insert(what);
    }

    pub fn violated(&mut self, now_ms: u64, what: String) {
        self.violations.push(at(now_ms, what));
    }

    // --- an agent decides -------------------------------------------------------------------------------------------

    pub fn decided(
        &mut self,
        agent: &Agent,
        observed: &Observed,
        decision: &Decision,
        cluster: &Cluster,
        proxy: &Proxy,
        now_ms: u64,
    ) {
        self.lease(agent, observed, decision, now_ms);
        self.at_the_node(agent, observed, decision, cluster, now_ms);
        let of_agent = &mut self.agents[agent.id];
        of_agent.empty_plans = if decision.plan.is_empty() { of_agent.empty_plans + 1 } else { 0 };
        for (fenced, directive) in &decision.plan.directives {
            let Some(n) = number(fenced) else {
                let is_known = OTHER_CLUSTER.iter().any(|name| node(name) == *fenced);
                let of_isolation =
                    matches!(directive, Directive::Unfence(_) | Directive::Fence { kind: EvidenceKind::Isolation, .. });
                if !is_known || !of_isolation {
                    self.violated(now_ms, format!("I9: {fenced}, which has nothing to do with it: {directive:?}"));
                }
                continue;
            };
            let Directive::Fence { kind, .. } = directive else {
                if matches!(&observed.orders.now, Some(Order::Unfence { node, .. }) if node == fenced) {
                    self.proxies[agent.proxy].fenced.remove(&n);
                    self.proxies[agent.proxy].due_ms.retain(|(_, due), _| *due != n);
                    self.proxies[agent.proxy].ordered_back.insert(n);
                    self.proxies[agent.proxy].waiting.remove(&n);
                    self.proxies[agent.proxy].barred.remove(&n);
                } else if let LeaderView::Led(answer) = &observed.leader {
                    let names_it = |s: &&SkippedEntry| s.nodes.iter().any(|node| number(node) == Some(n));
                    let was_fenced = self.proxies[agent.proxy].fenced.contains(&n);
                    let mut missed = answer.skipped.iter().filter(names_it);
                    if let Some(missed) = missed.find(|s| was_fenced || s.part != AnswerPart::Instances) {
                        let what = &missed.what;
                        self.violated(now_ms, format!("I2: {fenced} is let back, and {what} can't be read"));
                    }
                }
                continue;
            };
            if *kind == EvidenceKind::Downtime && proxy.hostgroups == Hostgroups::OneForWrites {
                // It is proven, and comes back as it was with the downtime's end: read-only beside the primary.
                self.proxies[agent.proxy].waiting.remove(&n);
            }
            // Where somebody made it the primary by hand, no record tells that the mark's recovery is over.
            let is_promoted = n == cluster.primary
                && cluster.marked_ms.get(&n) < Some(&cluster.promoted_at_ms)
                && cluster.switched.is_none_or(|(at_ms, _)| at_ms != cluster.promoted_at_ms);
            if matches!(kind, EvidenceKind::Barrier | EvidenceKind::Takeover)
                && is_promoted
                && cluster.promoted_at_ms + 5_000 < now_ms
                && in_service(&observed.proxy.runtime, n).next().is_some()
            {
                self.violated(now_ms, format!("I5: the promoted {fenced} is fenced as {kind}"));
            }
            let is_drained_alone = matches!(decision.verdicts.get(fenced), Some(Verdict::Fence { evidence, .. })
                if evidence.iter().all(|fact| fact.kind == EvidenceKind::Takeover));
            if is_drained_alone && matches!(directive, Directive::Fence { sessions: true, .. }) {
                self.violated(now_ms, format!("takeover: sessions of {fenced} are ended for its mark alone"));
            }
            let blamed = cluster.servers[n].blamed;
            if *kind != EvidenceKind::Isolation && !blamed {
                self.violated(now_ms, format!("I9: {fenced} is fenced as {kind}, and nothing ever befell it"));
            }
            let is_in = in_service(&observed.proxy.runtime, n).next().is_some();
            let of_recovery = matches!(kind, EvidenceKind::Superseded | EvidenceKind::LostInRecovery);
            if is_in && of_recovery && cluster.was_switched_unwatched(n) {
                self.violated(now_ms, format!("A10: {fenced}, made the primary unwatched, is fenced as {kind}"));
            }
            let since_ms = cluster.promoted_at_ms.max(cluster.servers[n].last_down_ms);
            let steady = n == cluster.primary && now_ms - since_ms > 5_000;
            let begins = observed.proxy.runtime.iter().any(|row| {
                row.key.hostgroup.0 == WRITER && row.node().as_ref() == Some(fenced) && row.status == Status::Online
            });
            if !steady || !begins || !matches!(kind, EvidenceKind::SecondWriter | EvidenceKind::Downtime) {
                continue;
            }
            self.violated(now_ms, format!("I5: the primary {fenced} is fenced as {kind}"));
        }
        let (LeaderView::Led(answer), LeaseState::Led { .. }) = (&observed.leader, decision.lease_state) else {
            return;
        };
        if let Some(n) = cluster.waits_for() {
            let failed = node(NODES[n]);
            let is_mark = |mark: &Downtime| mark.reason == BARRIER && number(&mark.node) == Some(n);
            let is_ordered = observed.orders.released.contains_key(&failed) || observed.orders.now.is_some();
            let is_excused = is_ordered || proxy.odd.contains(NODES[n]) || agent.sabotage.is_some();
            let is_fenced = matches!(decision.verdicts.get(&failed), None | Some(Verdict::Fence { .. }));
            if answer.downtimes.iter().any(is_mark) && !is_excused && !is_fenced {
                self.violated(now_ms, format!("B: the mark of {failed} is read, and the node is not fenced"));
            }
        }
        for n in 0..cluster.servers.len() {
            let is_odd = proxy.odd.contains(NODES[n]);
            let Some(at_s) = speaks_against(answer, n, cluster).filter(|_| !is_odd && !cluster.is_well(n)) else {
                continue;
            };
            let due_ms = &mut self.proxies[agent.proxy].due_ms;
            let is_old = decision.memory.watching_since_s.is_some_and(|since_s| at_s < since_s);
            let is_unread = answer.skipped.iter().any(|skipped| {
                skipped.part == AnswerPart::Instances && skipped.nodes.iter().any(|node| number(node) == Some(n))
            });
            if is_old && (is_unread || !cluster.shows_that_it_is_unwell(n)) {
                due_ms.remove(&(agent.id, n)); // it is held (design §5)
            } else {
                due_ms.entry((agent.id, n)).or_insert(now_ms + APPLY_MS);
            }
        }
    }

    /// N: at the node itself nobody fences the primary, but by an order, or at a barrier that waits for its successor.
    fn at_the_node(&mut self, agent: &Agent, observed: &Observed, decision: &Decision, cluster: &Cluster, now_ms: u64) {
        let found = targets(&observed.leader, decision, &ALLOWED.into()).unwrap_or_default();
        if !found.is_empty() {
            self.saw("fenced at the node");
        }
        // Of a switch by hand Orchestrator has no record: its next look at the nodes tells.
        let by_hand = cluster.switched.is_some_and(|(at_ms, _)| at_ms == cluster.promoted_at_ms);
        let is_told_ms = cluster.promoted_at_ms + if by_hand { POLL_MS } else { 0 };
        let is_told = is_told_ms < agent.tick_ms; // when this tick asked
        for (name, target) in found.iter().filter(|(name, _)| is_told && number(name) == Some(cluster.primary)) {
            // The machine does nothing where nobody knows a primary in its place.
            let is_wanted = matches!(target.kind, EvidenceKind::Manual | EvidenceKind::Barrier);
            if !is_wanted && !target.primaries.is_empty() {
                self.violated(now_ms, format!("N: the primary {name} is fenced at the node itself: {target:?}"));
            }
        }
    }

    /// B: the failed node is out of service wherever the hook confirmed it, and stays out where a barrier's marker is.
    pub fn promoted(&mut self, promotion: &Promotion, agents: &[Agent], proxies: &[Proxy], now_ms: u64) {
        let Promotion { failed, confirmed } = promotion;
        for (p, proxy) in proxies.iter().enumerate() {
            let of_proxy = |agent: &&usize| agents[**agent].proxy == p;
            let by_lease: Vec<usize> = confirmed.by_lease.iter().filter(of_proxy).copied().collect();
            // The hook cannot know what holds back an agent that it never hears of ([`docs/barrier.md`]).
            let is_unknown = |agent: &usize| {
                let (agent, of) = (&agents[*agent], &self.agents[*agent]);
                let published_ms = agent.boot_ms(confirmed.published_ms);
                let heard = of.held_ms >= published_ms || of.heard_ms > published_ms + LEADER_STALE_MS;
                !agent.memory.lease.armed || agent.is_down() || (confirmed.unheard.contains(&agent.id) && heard)
            };
            let rows = proxy.rows(Place::Runtime);
            let is_barred = |row: &Row| {
                row.node().and_then(|node| number(&node)) == Some(*failed)
                    && Comment::kind(&row.comment) == Some(EvidenceKind::Barrier)
            };
            let is_out = in_service(&rows, *failed).next().is_none() && rows.iter().any(is_barred);
            if (confirmed.all && !by_lease.iter().any(is_unknown)) || is_out {
                let barred = Barred { since_ms: now_ms, by_lease: !by_lease.is_empty() && !is_out };
                self.proxies[p].barred.insert(*failed, barred);
            }
        }
    }

    /// I9, and the promise of design §7: isolation comes no sooner than a lease is over.
    fn lease(&mut self, agent: &Agent, observed: &Observed, decision: &Decision, now_ms: u64) {
        let boot_ms = agent.boot_ms(now_ms);
        let of_agent = &mut self.agents[agent.id];
        let gap = boot_ms - of_agent.last_ms.min(boot_ms);
        if agent.memory.lease.started_ms > of_agent.last_ms && gap > 2 * agent.policy.tick_ms {
            of_agent.heard_ms = of_agent.heard_ms.max(agent.memory.lease.started_ms);
        }
        of_agent.last_ms = boot_ms;
        let earliest = of_agent.heard_ms + agent.policy.isolation_after_ms - agent.policy.tick_ms - APPLY_MS;
        let isolated = decision.lease_state == LeaseState::Isolated;
        let too_soon = isolated && !of_agent.isolated && boot_ms < earliest;
        match &observed.leader {
            LeaderView::Led(answer) if !isolated && matches!(decision.lease_state, LeaseState::Led { .. }) => {
                of_agent.heard_ms = of_agent.heard_ms.max(answer.asked_ms);
            }
            // A majority names it: that is waited for.
            LeaderView::Led(a) if decision.lease_state == LeaseState::Unconfirmed && a.backing == Backing::Majority => {
                (of_agent.heard_ms, of_agent.held_ms) = (boot_ms, boot_ms);
            }
            LeaderView::Leaderless | LeaderView::Conflict(_) | LeaderView::Blind(_) if !isolated => {
                (of_agent.heard_ms, of_agent.held_ms) = (boot_ms, boot_ms);
            }
            _ => {}
        }
        let begins = isolated && !of_agent.isolated;
        of_agent.isolated = isolated;
        let heard_ms = of_agent.heard_ms;
        self.isolations += u64::from(begins);
        if too_soon {
            self.violated(now_ms, format!("I9: isolated at {boot_ms}, heard of a leader at {heard_ms}"));
        }
    }

    /// The promise of design §7: by ask + `isolation.after` nothing is in service.
    pub fn isolated_in_time(&mut self, agent: &Agent, proxy: &Proxy, now_ms: u64) {
        let of_agent = &self.agents[agent.id];
        let over_ms = of_agent.heard_ms + agent.policy.isolation_after_ms;
        let excused = now_ms <= proxy.troubled_ms + BOUND_MS || !agent.memory.lease.armed || agent.is_down();
        if excused || agent.boot_ms(now_ms) <= over_ms {
            return;
        }
        let rows = proxy.rows(Place::Runtime);
        let mut left = (0..NODES.len()).filter(|n| !proxy.odd.contains(NODES[*n])).flat_map(|n| in_service(&rows, n));
        if let Some(row) = left.next() {
            let what = format!("isolation: {} in service, and the lease is over", row.key);
            self.violated(now_ms, what);
        }
    }

    pub fn empty_plans(&self, agent: usize) -> u32 {
        self.agents[agent].empty_plans
    }

    // --- an agent's apply ---------------------------------------------------------------------------------------------

    /// I5 and the role rule, at each LOAD of an agent's. `raced`: runtime moved since the last look at it (facts §2).
    #[allow(clippy::too_many_arguments, reason = "a LOAD is judged by all that there is")]
    pub fn loaded(
        &mut self,
        agent_proxy: usize,
        before: &[Row],
        applying: &Applying,
        cluster: &Cluster,
        proxy: &Proxy,
        raced: bool,
        now_ms: u64,
    ) {
        let after = proxy.rows(Place::Runtime);
        let writes = |rows: &[Row], n: usize, status: fn(&Status) -> bool| {
            rows.iter().any(|row| row.key.hostgroup.0 == WRITER && row.key.hostname == NODES[n] && status(&row.status))
        };
        let directives = &applying.decision.plan.directives;
        for n in 0..cluster.servers.len() {
            let directive = directives.get(&node(NODES[n]));
            let had = writes(before, n, |status| *status == Status::Online);
            let has = writes(&after, n, Status::in_service);
            if n == cluster.primary && had && !has && !raced && !matches!(directive, Some(Directive::Fence { .. })) {
                self.violated(now_ms, format!("I5: a LOAD took the primary {} out of the writer hostgroup", NODES[n]));
            }
            let shown = writes(before, n, |status| status.in_service() || *status == Status::OfflineHard);
            let was_primary = cluster.servers[n].last_primary_ms + 3_000 >= applying.asked_ms;
            if has
                && !shown
                && proxy.hostgroups == Hostgroups::Pair
                && !raced
                && !was_primary
                && !self.proxies[agent_proxy].ordered_back.contains(&n)
                && !matches!(directive, Some(Directive::Fence { .. }))
            {
                self.violated(now_ms, format!("role: a LOAD made {} a writer, which it is not", NODES[n]));
            }
        }
        for row in after.iter() {
            let same = before.iter().any(|was| was.key == row.key && was.status == row.status);
            let planned = row.node().is_some_and(|node| directives.contains_key(&node));
            if row.key.hostgroup.0 == EXCLUDED && !same && row.status != Status::Online && !planned {
                self.violated(now_ms, format!("I5: a LOAD changed {}", row.key));
            }
        }
    }

    /// An apply broke off: what came while it was under way may be live until somebody stages it anew.
    pub fn broken_off(&mut self, proxy: &mut Proxy, now_ms: u64) {
        proxy.edits.iter_mut().for_each(|edit| edit.may_live |= edit.in_apply);
        proxy.edits.iter_mut().for_each(|edit| edit.in_apply = false);
        proxy.troubled_ms = proxy.troubled_ms.max(now_ms + LOCK_MS);
    }

    pub fn ended(
        &mut self,
        agent: &Agent,
        decision: &Decision,
        outcome: &Outcome,
        proxy: &mut Proxy,
        began_ms: u64,
        now_ms: u64,
    ) {
        let Outcome::Applied(done) = outcome else {
            let wait = if matches!(outcome, Outcome::Busy { .. }) { 0 } else { BOUND_MS };
            self.broken_off_by(proxy, now_ms, wait);
            return;
        };
        self.applies += 1;
        // Without ProxySQL's count of LOADs nobody can tell whose LOAD took it live. A LOAD that is made up for takes along
        // what was staged between it and the apply's end. An edit between a LOAD by hand and the apply's own LOAD may go
        // live with the latter, and the apply says so.
        let made_up = done.load_made_up == Some(true);
        let by_hand = proxy.loaded_ms >= began_ms;
        let told = |edit: &Edit| {
            let row = format!(" {}/{}/", edit.hostgroup, edit.name);
            by_hand && done.not_as_planned.iter().any(|what| what.contains(&row))
        };
        let may_live = !proxy.world.checksums || made_up;
        for edit in proxy.edits.iter_mut().filter(|edit| edit.in_apply) {
            (edit.in_apply, edit.may_live) = (false, may_live || told(edit));
        }
        let runtime = proxy.rows(Place::Runtime);
        if made_up {
            // What they had staged is live, as their LOAD asked.
            let (loaded, staged) = std::mem::take(&mut proxy.edits).into_iter().partition(|edit| edit.loaded);
            proxy.edits = staged;
            let loaded: Vec<Edit> = loaded;
            for edit in loaded.iter().filter(|edit| edit.found(&runtime) == Some(false)) {
                let row = format!("{} of {}/{}", edit.column, edit.hostgroup, edit.name);
                self.violated(now_ms, format!("I6: the {row} was LOADed and is not live"));
            }
        }
        let others = proxy.applied.iter().any(|(id, ms)| *id != agent.id && *ms >= agent.tick_ms);
        let troubled = proxy.troubled_ms >= began_ms || !done.not_as_planned.is_empty() || others;
        proxy.applied.insert(agent.id, now_ms);
        let used = proxy.world.used();
        for (fenced, directive) in &decision.plan.directives {
            let Some(n) = number(fenced) else { continue };
            let Directive::Fence { kind, sessions, .. } = directive else {
                self.returns += 1;
                continue;
            };
            self.fences += 1;
            let left: Vec<String> = in_service(&runtime, n).map(|row| row.key.to_string()).collect();
            if !left.is_empty() && !troubled && !proxy.odd.contains(NODES[n]) {
                self.violated(now_ms, format!("I4: an apply left {left:?} of a fenced node in service"));
            }
            let sessions_left = *sessions && used.contains_key(fenced) && !done.sessions_left.contains(fenced);
            if sessions_left && !troubled && left.is_empty() {
                self.violated(now_ms, format!("I4: an apply left a session on {fenced}, and does not say so"));
            }
            if left.is_empty()
                && matches!(kind, EvidenceKind::Superseded | EvidenceKind::LostInRecovery | EvidenceKind::SecondWriter)
            {
                self.proxies[agent.proxy].fenced.insert(n);
                self.proxies[agent.proxy].waiting.insert(n);
                let disk = proxy.rows(Place::Disk);
                let on_disk = in_service(&disk, n).next().is_some();
                if on_disk && done.disk_error.is_none() && !troubled && !proxy.disk_spoiled {
                    self.violated(now_ms, format!("I4: {fenced} is fenced, and in service on disk"));
                }
            }
        }
    }

    fn broken_off_by(&mut self, proxy: &mut Proxy, now_ms: u64, wait_ms: u64) {
        let until = proxy.troubled_ms.max(now_ms + wait_ms);
        self.broken_off(proxy, now_ms);
        proxy.troubled_ms = until;
    }

    // --- anything at all ------------------------------------------------------------------------------------------------

    /// Somebody puts back what they had taken out, whatever else speaks against it: from here on it is to be fenced.
    pub fn back_by_hand(&mut self, p: usize, n: usize) {
        self.proxies[p].fenced.remove(&n);
        self.proxies[p].waiting.remove(&n);
        self.proxies[p].barred.remove(&n);
    }

    /// A ProxySQL starts anew: what is fenced in runtime comes back so (I10).
    pub fn restarted(&mut self, p: usize, before: &[Row], spoiled: bool, proxy: &Proxy, now_ms: u64) {
        let after = proxy.rows(Place::Runtime);
        for n in self.proxies[p].fenced.clone() {
            let was = in_service(before, n).next().is_some();
            let is = in_service(&after, n).next().is_some();
            if is && !was && !spoiled {
                self.violated(now_ms, format!("I10: a restart brought {} back into service", NODES[n]));
            }
            if is {
                self.proxies[p].fenced.remove(&n);
            }
        }
        if spoiled {
            self.proxies[p].waiting.clear();
        }
    }

    pub fn check(&mut self, p: usize, proxy: &mut Proxy, cluster: &Cluster, now_ms: u64) {
        self.checks += 1;
        for broken in std::mem::take(&mut proxy.world.broken) {
            self.violated(now_ms, format!("I12 or LOAD: {broken}"));
        }
        let runtime = proxy.rows(Place::Runtime);
        let of = &mut self.proxies[p];
        of.due_ms.retain(|(_, n), _| !cluster.is_well(*n) && !proxy.odd.contains(NODES[*n]));
        of.fenced.retain(|n| !cluster.is_well(*n) && !proxy.odd.contains(NODES[*n]));
        of.waiting.retain(|n| *n != cluster.primary && !proxy.odd.contains(NODES[*n]));
        let mut found = vec![];
        let waiting = of.waiting.iter().filter(|_| proxy.hostgroups == Hostgroups::OneForWrites);
        for n in waiting {
            if let Some(row) = in_service(&runtime, *n).find(|row| row.key.hostgroup.0 == WRITER) {
                found.push(format!("role: {} takes writes, and is not the primary", row.key));
            }
        }
        for n in &of.fenced {
            if let Some(row) = in_service(&runtime, *n).next() {
                found.push(format!("I2: {} of a fenced node came back, and it is not proven well", row.key));
            }
        }
        of.fenced.retain(|n| in_service(&runtime, *n).next().is_none());
        let excused_ms = proxy.troubled_ms + BOUND_MS;
        of.barred.retain(|n, _| !cluster.is_well(*n) && !proxy.odd.contains(NODES[*n]));
        of.barred.retain(|n, barred| {
            let lease_ms = if barred.by_lease { LEASE_MS } else { 0 };
            let row = in_service(&runtime, *n).next().filter(|_| now_ms > excused_ms + lease_ms);
            if let Some(row) = row {
                let since = at(barred.since_ms, String::new());
                found.push(format!("B: {} in service, and its successor is promoted since {since}", row.key));
            }
            row.is_none()
        });
        for ((_, n), due_ms) in &mut of.due_ms {
            let late = now_ms > (*due_ms).max(excused_ms) && *due_ms != u64::MAX;
            if let Some(row) = in_service(&runtime, *n).next().filter(|_| late) {
                found.push(format!("late: {} in service, an agent knew by {}", row.key, at(*due_ms, String::new())));
                *due_ms = u64::MAX;
            }
        }
        if !std::mem::replace(&mut proxy.judged, true) {
            found.extend(operators(proxy));
        }
        if !proxy.world.unfinished() {
            found.extend(staged(proxy, &runtime));
        }
        for what in found {
            self.violated(now_ms, what);
        }
    }
}

/// When the recovery was, in s, that this answer tells of and that speaks against a node that has not been well since.
fn speaks_against(answer: &Answer, n: usize, cluster: &Cluster) -> Option<i64> {
    let well_ms = cluster.servers[n].last_well_ms;
    let is_it = |of: &stonith_core::node::Node| number(of) == Some(n);
    let is_mark = |mark: &&Downtime| is_it(&mark.node) && mark.reason == LOST_IN_RECOVERY;
    let marks = answer.downtimes.iter().filter(is_mark).map(|mark| mark.begin_s);
    let marked = marks.filter(|begin_s| *begin_s > now_s(well_ms)).max();
    let concerns = |record: &&Recovery| {
        record.successful && (is_it(&record.failed) || record.successor.as_ref().is_some_and(is_it))
    };
    let newest =
        answer.history.iter().flat_map(|history| &history.records).filter(concerns).max_by_key(|record| record.at_ns);
    let superseded = newest.filter(|record| {
        is_it(&record.failed) && cluster.promoted_ms.get(&record.uid).is_some_and(|at_ms| *at_ms > well_ms)
    });
    // Beside a record that can't be read, one that can may not be the newest.
    let mut unreadable = answer.skipped.iter().filter(|skipped| skipped.part == AnswerPart::History);
    let is_unsure = unreadable.any(|skipped| skipped.nodes.iter().any(is_it));
    marked.max(superseded.filter(|_| !is_unsure).map(Recovery::at_s))
}

/// I1 and I3: what is not ours is as its people left it.
fn operators(proxy: &Proxy) -> Vec<String> {
    let mut found = vec![];
    for place in [Place::Runtime, Place::Memory, Place::Disk] {
        for row in proxy.rows(place).iter() {
            let name: &str = &row.key.hostname;
            if row.key.hostgroup.0 == CROWD {
                continue; // looked at in the end
            }
            let part = operators_part(&row.comment);
            let may_be_cut = place == Place::Runtime || proxy.world.unfinished() || proxy.world.old_monitor;
            let is_known = proxy.comments.get(name).is_some_and(|known| {
                known.contains(part.as_ref()) || (may_be_cut && known.iter().any(|known| cut(known) == part))
            });
            if !is_known {
                found.push(format!("I3: the comment of {} in {place:?} is nobody's: {:?}", row.key, row.comment));
            }
            let marked = Comment::parse(&row.comment) != Comment::Plain;
            let by_hand = proxy.by_hand.contains(&(row.key.hostgroup.0, name.to_owned()));
            if by_hand && (marked || row.status.in_service()) {
                found.push(format!("I3: {} in {place:?}, taken out by hand, is {}", row.key, row.status));
            }
            if marked && row.key.hostgroup.0 == EXCLUDED {
                found.push(format!("I3: {} in {place:?} is not ours and has our marker", row.key));
            }
            if row.status == Status::OfflineSoft && !marked && !by_hand && place == Place::Runtime {
                found.push(format!("I3: {} is OFFLINE_SOFT without a marker", row.key));
            }
            if proxy.odd.contains(name) && marked && row.status == Status::Online {
                found.push(format!("I1: {} in {place:?} has a status that nobody knows elsewhere", row.key));
            }
        }
    }
    found
}

/// I6: what is staged is in memory still, and not live.
fn staged(proxy: &mut Proxy, runtime: &[Row]) -> Vec<String> {
    let mut found = vec![];
    if proxy.edits.is_empty() {
        return found;
    }
    let memory = proxy.rows(Place::Memory);
    let mut edits = std::mem::take(&mut proxy.edits);
    edits.retain(|edit| {
        let row = format!("{} of {}/{}", edit.column, edit.hostgroup, edit.name);
        if edit.found(&memory) == Some(false) {
            if !edit.may_be_lost {
                found.push(format!("I6: the staged {row} is lost"));
            }
            return false;
        }
        if edit.found(runtime) == Some(true) && !edit.may_live && !edit.in_apply {
            found.push(format!("I6: the staged {row} went live"));
            return false;
        }
        true
    });
    proxy.edits = edits;
    found
}
