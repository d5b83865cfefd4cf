//! Rules broken on purpose, to see that the checks find it.

use stonith_core::apply::{Place, Reply, Statement};
use stonith_core::decide::{Decision, Verdict, decide};
use stonith_core::evidence::EvidenceKind;
use stonith_core::managed::Managed;
use stonith_core::memory::Memory;
use stonith_core::node::Node;
use stonith_core::observed::Observed;
use stonith_core::orchestrator::{BARRIER, LOST_IN_RECOVERY, LeaderView};
use stonith_core::orders::{Order, Orders};
use stonith_core::plan::{Directive, Plan};
use stonith_core::role::Role;
use stonith_core::table::{Change, Comment, Record, Row, SERVERS, Status};

use super::agent::Agent;
use super::orchestrator::node;
use super::proxy::Proxy;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sabotage {
    /// Nothing is written to disk.
    NoDisk,
    /// Who is not downtimed is let back, as the shell script of 2019 did (facts §11).
    AbsenceDischarges,
    /// A record is replaced whatever it is by now.
    NoCompare,
    /// What others edit meanwhile is never looked at.
    NoLook,
    /// Who comes back comes back as it was.
    NoRole,
    /// A lock that is there is no hindrance.
    NoLock,
    /// LOAD takes memory as it is, not runtime.
    PlainLoad,
    /// A fence ends no session, and says that it did.
    NoSessions,
    /// A lease that nobody renewed for one second is over.
    Hasty,
    /// What was kept from before the agent stopped counts as if it had watched all the while.
    NoGap,
    /// Two names are two servers, whatever their UUIDs.
    TwoServers,
    /// The hook waits for no lease.
    NoLeaseWait,
    /// A barrier's fence ends with its mark.
    EndsWithItsMark,
    /// The fence of a takeover that came to nothing stays.
    TakeoverStays,
    /// At the node itself every fenced node is fenced, since another one is taken for the primary.
    FencesThePrimary,
}

pub fn of_decision(sabotage: Sabotage, decision: &mut Decision, observed: &Observed, agent: &Agent, boot_ms: u64) {
    match sabotage {
        Sabotage::AbsenceDischarges => {
            let LeaderView::Led(answer) = &observed.leader else { return };
            let lost = |node| answer.downtimes.iter().any(|d| d.node == node && d.reason == LOST_IN_RECOVERY);
            let marked = observed.proxy.runtime.iter().filter(|row| Comment::parse(&row.comment) != Comment::Plain);
            if let Some(node) = marked.filter_map(|row| row.node()).find(|node| !lost(node.clone())) {
                let now = Some(Order::Unfence { node: node.clone(), without_lease: true, role: None });
                let orders = Orders { now, ..observed.orders.clone() };
                let mut memory = agent.memory.clone();
                memory.nodes.evidence.remove(&node);
                memory.history.records.clear();
                *decision = decide(&Observed { orders, ..observed.clone() }, &memory, &agent.policy, boot_ms);
            }
        }
        Sabotage::EndsWithItsMark => {
            let LeaderView::Led(answer) = &observed.leader else { return };
            let is_marked = |node: &Node| answer.downtimes.iter().any(|d| d.node == *node && d.reason == BARRIER);
            let of_barrier = |verdict: &Verdict| {
                matches!(verdict, Verdict::Fence { evidence, .. }
                    if evidence.iter().any(|fact| fact.kind == EvidenceKind::Barrier))
            };
            let over = decision.verdicts.iter().find(|(node, verdict)| of_barrier(verdict) && !is_marked(node));
            if let Some((node, _)) = over {
                let now = Some(Order::Unfence { node: node.clone(), without_lease: true, role: None });
                let orders = Orders { now, ..observed.orders.clone() };
                *decision = decide(&Observed { orders, ..observed.clone() }, &agent.memory, &agent.policy, boot_ms);
            }
        }
        Sabotage::TakeoverStays => {
            let mut directives = decision.plan.directives.clone();
            let marked = |node: &Node| {
                let of_takeover = |row: &Row| Comment::kind(&row.comment) == Some(EvidenceKind::Takeover);
                observed.proxy.runtime.iter().any(|row| row.node().as_ref() == Some(node) && of_takeover(row))
            };
            directives.retain(|node, directive| matches!(directive, Directive::Fence { .. }) || !marked(node));
            decision.plan = Plan::new(Managed::of(&observed.proxy, &agent.policy), directives, &observed.proxy);
        }
        Sabotage::FencesThePrimary => {
            for primaries in decision.primaries.iter_mut().flat_map(|of_each| of_each.values_mut()) {
                *primaries = [node("stranger")].into();
            }
        }
        Sabotage::NoRole => {
            let mut directives = decision.plan.directives.clone();
            for directive in directives.values_mut().filter(|d| matches!(d, Directive::Unfence(_))) {
                *directive = Directive::Unfence(Role::AsBefore);
            }
            decision.plan = Plan::new(Managed::of(&observed.proxy, &agent.policy), directives, &observed.proxy);
        }
        Sabotage::Hasty => {
            let mut policy = agent.policy.clone();
            policy.isolation_after_ms = policy.tick_ms + 2_000;
            *decision = decide(observed, &agent.memory, &policy, boot_ms);
        }
        Sabotage::NoGap => {
            let memory = Memory { watching_since_s: Some(0), ..agent.memory.clone() };
            *decision = decide(observed, &memory, &agent.policy, boot_ms);
        }
        Sabotage::TwoServers => {
            let mut shown = observed.clone();
            let LeaderView::Led(answer) = &mut shown.leader else { return };
            answer.instances.iter_mut().flatten().for_each(|instance| instance.uuid.clear());
            *decision = decide(&shown, &agent.memory, &agent.policy, boot_ms);
        }
        _ => {}
    }
}

/// The reply to a statement that is not carried out.
pub fn of_statement(sabotage: Sabotage, proxy: &mut Proxy, statement: &Statement) -> Option<Reply> {
    let writes = matches!(statement, Statement::Swap { .. } | Statement::Restate { .. });
    match sabotage {
        Sabotage::NoCompare => {
            let Statement::Restate { place, keys, to, .. } = statement else { return None };
            let mut rows = proxy.world.rows(*place);
            for row in rows.iter_mut().filter(|row| keys.contains(&row.key)) {
                (row.status, row.comment) = (Status::parse(&to.0), to.1.clone());
            }
            proxy.world.set_rows(*place, &rows);
            proxy.touched();
            Some(Reply::Changed(keys.len() as u64))
        }
        Sabotage::NoDisk if writes && statement.place() == Some(Place::Disk) => Some(Reply::Changed(1)),
        Sabotage::NoLock if matches!(statement, Statement::TakeLock { .. }) && proxy.world.lock.is_some() => {
            Some(Reply::Changed(0))
        }
        Sabotage::NoLock if matches!(statement, Statement::RenewLock { .. }) => Some(Reply::Changed(1)),
        Sabotage::NoSessions if matches!(statement, Statement::Used) => Some(Reply::Used([].into())),
        _ => None,
    }
}

/// The statement that is carried out instead.
pub fn statement(sabotage: Sabotage, proxy: &Proxy, statement: &Statement) -> Statement {
    match (sabotage, statement) {
        (Sabotage::NoCompare, Statement::Swap { place, table, change }) => {
            let is = |from: &Record| {
                let key: Vec<_> = from.iter().take(table.key_columns).cloned().collect();
                let is = proxy.world.tables.get(&(*place, *table)).and_then(|content| content.records.get(&key));
                is.unwrap_or(from).clone()
            };
            let change = match change {
                Change::Make(to) => Change::Make(to.clone()),
                Change::Replace { from, to } => Change::Replace { from: is(from), to: to.clone() },
                Change::Delete(from) => Change::Delete(is(from)),
            };
            Statement::Swap { place: *place, table: *table, change }
        }
        (Sabotage::NoLook, Statement::Read { place: Place::Memory, table })
            if proxy.world.tables.contains_key(&(Place::Target, *table)) =>
        {
            Statement::Read { place: Place::Target, table: *table }
        }
        (Sabotage::PlainLoad, Statement::Copy { from: Place::Runtime, to, table: SERVERS }) => {
            Statement::Copy { from: Place::Memory, to: *to, table: SERVERS }
        }
        (Sabotage::PlainLoad, Statement::Read { place: Place::Runtime, table: SERVERS }) => {
            Statement::Read { place: Place::Target, table: SERVERS }
        }
        _ => statement.clone(),
    }
}
