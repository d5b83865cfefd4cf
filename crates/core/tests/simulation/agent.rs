//! An agent: the real `decide` and `Apply` on virtual time, one statement a step, and what may befall it.

use std::collections::BTreeSet;

use stonith_core::apply::{Apply, Outcome, Place, Reply, Statement, Step};
use stonith_core::decide::{Decision, ReturnBlocker, Verdict, decide, leader_query, release_by_order};
use stonith_core::evidence::Level;
use stonith_core::memory::Memory;
use stonith_core::observed::{Observed, ProxyView};
use stonith_core::orchestrator::{Addresses, Backing, LeaderView};
use stonith_core::orders::{Order, Orders};
use stonith_core::policy::Policy;
use stonith_core::table::{COVERED, Hostgroup, Row, SERVERS};

use super::event::{ADDRESSES, Act, Hostgroups, NODES, Topology};
use super::orchestrator::{Cluster, node, now_s, number};
use super::proxy::{EXCLUDED, Proxy, WRITER};
use super::rng::Rng;
use super::rules::Rules;
use super::sabotage::{self, Sabotage};

/// No statement is handed out later than this after an apply's first (design §8).
const APPLY_DEADLINE_MS: u64 = 20_000;

#[derive(Debug, Clone)]
#[allow(clippy::large_enum_variant, reason = "there are two of it")]
pub enum State {
    Idle,
    /// Orchestrator was asked; its answer is on the way.
    Asking {
        view: ProxyView,
        leader: LeaderView,
        starts: u64,
    },
    Applying(Box<Applying>),
    Down,
}

#[derive(Debug, Clone)]
pub struct Applying {
    apply: Apply,
    pub decision: Decision,
    owner: String,
    statement: Statement,
    began_ms: u64,
    pub asked_ms: u64,
    starts: u64,
    nth: u64,
    pub acts: Vec<(u64, Act)>,
    lose_reply: bool,
    twice: bool,
}

/// What one tick saw.
#[derive(Debug, Clone)]
pub struct Seen {
    pub began_ms: u64,
    /// The nodes with the verdict to fence and no row in service, and those without rows.
    pub fenced: BTreeSet<usize>,
    /// The tick's plan changes rows.
    pub writes: bool,
}

#[derive(Debug, Clone)]
pub struct Agent {
    pub id: usize,
    pub proxy: usize,
    pub memory: Memory,
    pub kept: Memory,
    /// Its boot clock is so far ahead of the world's.
    pub boot_ahead_ms: u64,
    pub wall_back_s: i64,
    pub wake_ms: u64,
    pub state: State,
    pub tick_ms: u64,
    pub silent_ms: u64,
    pub blind_ms: u64,
    pub conflict_ms: u64,
    pub no_majority_ms: u64,
    pub slow_ms: u64,
    /// One endpoint is all it knows.
    single: bool,
    /// What is to happen in its next apply, by statement.
    pub acts: Vec<(u64, Act)>,
    /// What its last tick saw, as it tells the hook.
    pub seen: Option<Seen>,
    pub orders: Orders,
    pub order: Option<Order>,
    /// Nodes that come back by an operator's word only, as `status` says.
    pub lacks_operator: BTreeSet<usize>,
    /// Nodes that an operator wants back, and asks for until they are.
    pub unfence: BTreeSet<usize>,
    pub policy: Policy,
    rng: Rng,
    pub ticks: u64,
    pub sabotage: Option<Sabotage>,
    pub story: Vec<String>,
}

impl Agent {
    pub fn new(id: usize, topology: Topology, rng: &mut Rng, now_ms: u64, sabotage: Option<Sabotage>) -> Self {
        let proxy = id.min(topology.proxies - 1);
        let writer_hostgroups = (topology.hostgroups == Hostgroups::OneForWrites).then_some(Hostgroup(WRITER));
        let policy = Policy {
            excluded_hostgroups: [Hostgroup(EXCLUDED)].into(),
            writer_hostgroups: writer_hostgroups.into_iter().collect(),
            fences_at_node: topology.nodes.is_multiple_of(2),
            ..Policy::default()
        };
        let memory = Memory::first_start("boot", now_ms);
        Self {
            id,
            proxy,
            kept: memory.clone(),
            memory,
            boot_ahead_ms: 0,
            wall_back_s: 0,
            wake_ms: now_ms + rng.between(1, 1_000),
            state: State::Idle,
            tick_ms: now_ms,
            silent_ms: 0,
            blind_ms: 0,
            conflict_ms: 0,
            no_majority_ms: 0,
            slow_ms: 0,
            single: rng.one_in(5),
            acts: vec![],
            seen: None,
            orders: Orders::default(),
            order: None,
            lacks_operator: BTreeSet::new(),
            unfence: BTreeSet::new(),
            policy,
            rng: Rng::new(rng.draw()),
            ticks: 0,
            sabotage,
            story: vec![],
        }
    }

    pub fn boot_ms(&self, now_ms: u64) -> u64 {
        now_ms + self.boot_ahead_ms
    }

    /// Kept with the memory: a new process takes its own lock over.
    fn owner(&self) -> String {
        format!("agent{}", self.id)
    }

    pub fn is_down(&self) -> bool {
        matches!(self.state, State::Down)
    }

    pub fn step(&mut self, cluster: &Cluster, proxy: &mut Proxy, rules: &mut Rules, now_ms: u64) {
        match std::mem::replace(&mut self.state, State::Idle) {
            State::Down => {
                let gap_ms = 2 * self.policy.tick_ms;
                self.memory = self.kept.clone().resume("boot", self.boot_ms(now_ms), gap_ms);
                self.wake_ms = now_ms + 1;
            }
            State::Idle => self.ask(cluster, proxy, now_ms),
            State::Asking { view, leader, starts } => self.decide(view, leader, starts, cluster, proxy, rules, now_ms),
            State::Applying(applying) => self.apply(applying, cluster, proxy, rules, now_ms),
        }
    }

    /// Somebody wants a tick at once.
    pub fn woken(&mut self, now_ms: u64) {
        if matches!(self.state, State::Idle) {
            self.wake_ms = self.wake_ms.min(now_ms + 1);
        }
    }

    /// An agent that is stopped already does not start any sooner.
    pub fn crashes(&mut self, now_ms: u64, for_ms: u64) {
        let down_until_ms = if self.is_down() { self.wake_ms } else { 0 };
        self.state = State::Down;
        self.seen = None;
        self.wake_ms = down_until_ms.max(now_ms + for_ms);
    }

    fn ask(&mut self, cluster: &Cluster, proxy: &mut Proxy, now_ms: u64) {
        self.tick_ms = now_ms;
        let view = proxy.view(&self.owner(), now_ms);
        let asked_ms = self.boot_ms(now_ms);
        let leader = if now_ms < self.silent_ms {
            LeaderView::Silent(Default::default())
        } else if now_ms < self.blind_ms {
            LeaderView::Blind(Default::default())
        } else if now_ms < self.conflict_ms {
            LeaderView::Conflict(stonith_core::orchestrator::ConflictCause::TwoLeaders {
                one: "orc1".to_owned(),
                other: "orc2".to_owned(),
            })
        } else {
            let backing = match now_ms < self.no_majority_ms {
                _ if self.single => Backing::Single,
                true => Backing::Unconfirmed,
                false => Backing::Majority,
            };
            cluster.answer(asked_ms, now_ms, backing, |leader, downtimes| {
                leader_query(&view, &self.memory, &Addresses::default(), leader, downtimes, &self.policy, asked_ms)
            })
        };
        self.state = State::Asking { view, leader, starts: proxy.starts };
        self.wake_ms = now_ms + self.rng.between(1, 20) + std::mem::take(&mut self.slow_ms);
    }

    #[allow(clippy::too_many_arguments, reason = "a tick is what it takes in")]
    fn decide(
        &mut self,
        view: ProxyView,
        leader: LeaderView,
        starts: u64,
        cluster: &Cluster,
        proxy: &mut Proxy,
        rules: &mut Rules,
        now_ms: u64,
    ) {
        self.ticks += 1;
        // An answer that does not come takes its time: without one ProxySQL is looked at anew.
        let view = if matches!(leader, LeaderView::Led(_)) { view } else { proxy.view(&self.owner(), now_ms) };
        self.give_order(&leader, cluster, now_ms);
        let mut orders = self.orders.clone();
        orders.now = self.order.take();
        let observed = Observed { proxy: view, leader, orders, addresses: Addresses::default() };
        let boot_ms = self.boot_ms(now_ms);
        let mut decision = decide(&observed, &self.memory, &self.policy, boot_ms);
        if let Some(sabotage) = self.sabotage {
            sabotage::of_decision(sabotage, &mut decision, &observed, self, boot_ms);
        }
        if let Some(Order::Unfence { node, .. }) = &observed.orders.now
            && let Some(n) = number(node)
            && matches!(decision.verdicts.get(node), Some(Verdict::Keep) | None)
        {
            self.unfence.remove(&n);
        }
        let lacks_operator = |name: &&str| {
            let verdict = decision.verdicts.get(&super::orchestrator::node(name));
            matches!(verdict, Some(Verdict::Fence { blocker: ReturnBlocker::Operator, .. }))
        };
        self.lacks_operator =
            NODES.iter().enumerate().filter(|(_, name)| lacks_operator(name)).map(|(n, _)| n).collect();
        let is_fenced = |n: &usize| {
            let has_it = |name: &str| {
                let verdict = decision.verdicts.get(&super::orchestrator::node(name));
                matches!(verdict, None | Some(Verdict::Fence { .. }))
            };
            has_it(NODES[*n]) && has_it(ADDRESSES[*n]) && in_service(&observed.proxy.runtime, *n).next().is_none()
        };
        self.seen = Some(Seen {
            began_ms: self.tick_ms,
            fenced: (0..cluster.servers.len()).filter(is_fenced).collect(),
            writes: !decision.plan.is_empty(),
        });
        rules.decided(self, &observed, &decision, cluster, proxy, now_ms);
        self.memory = decision.memory.clone();
        self.kept = self.memory.clone();
        let next_ms = self.tick_ms + self.rng.between(800, 1_200);
        self.wake_ms = next_ms.max(now_ms + 1);
        // ProxySQL was started anew meanwhile: the connection is lost.
        if decision.plan.is_empty() || starts != proxy.starts {
            return;
        }
        self.story.push(super::orchestrator::at(
            now_ms,
            format!(
                "agent{} ({}) applies: {}",
                self.id + 1,
                decision.lease_state,
                decision.plan.changes.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
            ),
        ));
        let owner = self.owner();
        let mut apply = Apply::new(decision.plan.clone(), owner.clone(), COVERED.to_vec());
        if let Step::Ask(statement) = apply.next(None) {
            let asked_ms = self.tick_ms;
            self.state = State::Applying(Box::new(Applying {
                apply,
                decision,
                owner,
                statement,
                began_ms: now_ms,
                asked_ms,
                starts,
                nth: 0,
                acts: std::mem::take(&mut self.acts),
                lose_reply: false,
                twice: false,
            }));
            self.wake_ms = now_ms + 1;
        }
    }

    /// An operator who wants a node back asks only for one that is well.
    fn give_order(&mut self, leader: &LeaderView, cluster: &Cluster, now_ms: u64) {
        if self.order.is_some() {
            return;
        }
        // The operator asks for each node in turn, so a node that has to wait delays no other.
        let well: Vec<usize> = self.unfence.iter().copied().filter(|n| cluster.is_well(*n)).collect();
        let turn = usize::try_from(self.ticks).expect("few ticks");
        if let Some(&n) = well.get(turn % well.len().max(1)) {
            let node = node(NODES[n]);
            let now_s = now_s(now_ms) - self.wall_back_s;
            let release = release_by_order(&self.memory, leader, &node, now_s);
            if matches!(leader, LeaderView::Led(_)) {
                self.orders.released.insert(node.clone(), release);
            }
            self.order = Some(Order::Unfence { node, without_lease: false, role: None });
        }
    }

    pub fn order_fence(&mut self, n: usize) {
        self.order = Some(Order::Fence { node: node(NODES[n]), level: Level::Soft });
    }

    fn apply(&mut self, mut now: Box<Applying>, cluster: &Cluster, proxy: &mut Proxy, rules: &mut Rules, now_ms: u64) {
        let acts: Vec<Act> = now.acts.iter().filter(|(nth, _)| *nth == now.nth).map(|(_, act)| act.clone()).collect();
        now.acts.retain(|(nth, _)| *nth != now.nth);
        for act in acts {
            rules.fault();
            self.story.push(super::orchestrator::at(now_ms, format!("before {:?}: {act:?}", short(&now.statement))));
            proxy.act(&act, cluster, now_ms, true);
            match act {
                Act::AgentCrashes { ms } => {
                    rules.broken_off(proxy, now_ms);
                    return self.crashes(now_ms, ms);
                }
                Act::Cut => return rules.broken_off(proxy, now_ms),
                Act::ReplyLost => now.lose_reply = true,
                Act::Twice => now.twice = true,
                Act::Delay { ms } => {
                    self.wake_ms = now_ms + ms;
                    self.state = State::Applying(now);
                    return;
                }
                _ => {}
            }
        }
        if now.starts != proxy.starts || now_ms - now.began_ms > APPLY_DEADLINE_MS {
            return rules.broken_off(proxy, now_ms);
        }
        let before = matches!(now.statement, Statement::Load).then(|| proxy.rows(Place::Runtime));
        let raced = proxy.moved;
        let reply = match self.sabotage.and_then(|sabotage| sabotage::of_statement(sabotage, proxy, &now.statement)) {
            Some(reply) => reply,
            None => {
                let owner = now.owner.clone();
                let statement = self.sabotage.map_or_else(
                    || now.statement.clone(),
                    |sabotage| sabotage::statement(sabotage, proxy, &now.statement),
                );
                if std::mem::take(&mut now.twice) {
                    proxy.ask(&owner, &statement, now_ms);
                }
                proxy.ask(&owner, &statement, now_ms)
            }
        };
        if let Some(before) = before
            && !matches!(reply, Reply::Refused(_))
        {
            rules.loaded(self.proxy, &before, &now, cluster, proxy, raced, now_ms);
        }
        if std::mem::take(&mut now.lose_reply) {
            return rules.broken_off(proxy, now_ms);
        }
        let wait_ms = if let Statement::Wait(ms) = now.statement { ms } else { 0 };
        now.nth += 1;
        match now.apply.next(Some(reply)) {
            Step::Ask(statement) => {
                now.statement = statement;
                self.wake_ms = now_ms + wait_ms + self.rng.between(0, 2);
                self.state = State::Applying(now);
            }
            Step::Done(outcome) => {
                if !matches!(outcome, Outcome::Applied(_)) {
                    self.story.push(super::orchestrator::at(now_ms, format!("agent{}: {outcome:?}", self.id + 1)));
                }
                self.wake_ms = self.wake_ms.max(self.tick_ms + self.rng.between(800, 1_200)).max(now_ms + 1);
                // What came too late for this apply does not come in another.
                rules.ended(self, &now.decision, &outcome, proxy, now.began_ms, now_ms);
            }
        }
    }
}

fn short(statement: &Statement) -> String {
    match statement {
        Statement::Swap { place, table, .. } => format!("Swap {place:?} {}", table.name()),
        Statement::Restate { place, to, .. } => format!("Restate {place:?} {} {}", SERVERS.name(), to.0),
        Statement::Read { place, table } => format!("Read {place:?} {}", table.name()),
        Statement::Copy { to, table, .. } => format!("Copy to {to:?} {}", table.name()),
        other => format!("{other:?}"),
    }
}

/// The rows in service of a node, of the managed hostgroups, by its name or its address.
pub fn in_service(rows: &[Row], n: usize) -> impl Iterator<Item = &Row> {
    rows.iter().filter(move |row| {
        [NODES[n], ADDRESSES[n]].contains(&&*row.key.hostname)
            && row.key.hostgroup.0 != super::proxy::EXCLUDED
            && row.status.in_service()
    })
}
