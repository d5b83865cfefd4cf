//! One run: agents, proxies, a cluster and Orchestrator on virtual time, step by step, from a seed's list of events.

pub mod agent;
pub mod event;
pub mod hook;
pub mod orchestrator;
pub mod proxy;
pub mod rng;
pub mod rules;
pub mod sabotage;

use std::collections::BTreeSet;

use stonith_core::apply::Place;
use stonith_core::evidence::EvidenceKind;
use stonith_core::policy::BARRIER_LAST_S;
use stonith_core::table::{Comment, Status};

use crate::apply_world;
use agent::{Agent, State};
use event::{Act, Event, Hostgroups, NODES, START_MS, TROUBLE_MS, Topology, What};
use hook::Hooks;
use orchestrator::{Cluster, Life, at, number};
use proxy::{CROWD, EXCLUDED, Proxy, READER, WRITER};
use rng::Rng;
use rules::Rules;
use sabotage::Sabotage;

/// So long after all is repaired everything must be in its role.
const SETTLE_MS: u64 = 60_000;
/// The same in addition where a barrier was: a recovery that nobody tells the end of holds it so long (design §6).
const BARRED_MS: u64 = BARRIER_LAST_S as u64 * 1_000;
const QUIET_TICKS: u32 = 8;

/// What is fixed by the seed besides its events.
pub struct Run {
    pub seed: u64,
    pub events: Vec<Event>,
    topology: Topology,
    sabotage: Option<Sabotage>,
}

/// What came of a run.
pub struct Report {
    pub ticks: u64,
    pub rules: Rules,
    pub story: Vec<String>,
}

struct Simulation {
    now_ms: u64,
    topology: Topology,
    cluster: Cluster,
    proxies: Vec<Proxy>,
    agents: Vec<Agent>,
    rules: Rules,
    story: Vec<String>,
}

impl Run {
    pub fn new(seed: u64, sabotage: Option<Sabotage>) -> Self {
        let mut rng = Rng::new(seed);
        let mut topology = Topology::draw(&mut rng);
        topology.hooks = Hooks::draw(&mut Rng::new(seed.wrapping_mul(17)), topology.agents);
        let events = event::draw(&mut rng, topology);
        Self { seed, events, topology, sabotage }
    }

    /// What is odd in this seed's world.
    pub fn worlds(&self) -> BTreeSet<String> {
        let switched = |stopped_ms: &u64| if *stopped_ms > 0 { "while agents are stopped" } else { "while agents run" };
        let of_event = |event: &Event| match &event.what {
            What::Switched { resets, stopped_ms, .. } => {
                let reset = if *resets { "with" } else { "without" };
                Some(format!("switched by hand {reset} RESET {}", switched(stopped_ms)))
            }
            What::Unreadable { part, .. } => Some(format!("{part:?} that can't be read")),
            What::HistoryStalls { .. } => Some("a history that stalls".to_owned()),
            _ => None,
        };
        let odd = self.topology.odd().into_iter().map(str::to_owned);
        odd.chain(self.events.iter().filter_map(of_event)).collect()
    }

    pub fn go(&self) -> Report {
        let mut rng = Rng::new(self.seed.wrapping_mul(31));
        let topology = self.topology;
        let Topology { agents, proxies, .. } = topology;
        let all_proxies = (0..proxies).map(|_| Proxy::new(&mut rng, topology, START_MS)).collect();
        let all_agents = (0..agents).map(|id| Agent::new(id, topology, &mut rng, START_MS, self.sabotage));
        let mut simulation = Simulation {
            now_ms: START_MS,
            topology,
            cluster: Cluster::new(topology),
            proxies: all_proxies,
            agents: all_agents.collect(),
            rules: Rules::new(agents, proxies),
            story: vec![at(START_MS, format!("{topology:?}"))],
        };
        simulation.cluster.sabotage = self.sabotage;
        simulation.run(&self.events);
        let mut story = simulation.story;
        story.extend(simulation.cluster.story);
        story.extend(simulation.agents.iter_mut().flat_map(|agent| std::mem::take(&mut agent.story)));
        story.sort();
        Report { ticks: simulation.agents.iter().map(|agent| agent.ticks).sum(), rules: simulation.rules, story }
    }

    /// The first violation, as a kind: what comes before the colon.
    pub fn violates(&self) -> Option<String> {
        self.go().rules.violations.first().map(|what| kind(what))
    }

    /// Leaves out every event that the failure can do without.
    pub fn shrunk(mut self) -> Self {
        let Some(wanted) = self.violates() else { return self };
        let mut chunk = self.events.len().div_ceil(2).max(1);
        loop {
            let mut from = 0;
            while from < self.events.len() {
                let kept = self.events.clone();
                self.events.drain(from..(from + chunk).min(kept.len()));
                if self.violates().as_ref() != Some(&wanted) {
                    self.events = kept;
                    from += chunk;
                }
            }
            if chunk == 1 {
                return self;
            }
            chunk /= 2;
        }
    }
}

/// `I5` of "12.345 I5: a LOAD ...".
fn kind(violation: &str) -> String {
    violation.split_whitespace().nth(1).unwrap_or_default().to_owned()
}

impl Simulation {
    fn run(&mut self, events: &[Event]) {
        let mut events = events.iter().peekable();
        let mut poll_ms = START_MS;
        let mut monitor_ms = START_MS + 300;
        while self.now_ms < START_MS + TROUBLE_MS && self.rules.violations.is_empty() {
            self.step(&mut events, &mut poll_ms, &mut monitor_ms, START_MS + TROUBLE_MS);
        }
        if !self.rules.violations.is_empty() {
            return;
        }
        self.repair_everything();
        let barred_ms = if self.cluster.marked_ms.is_empty() { 0 } else { BARRED_MS };
        let end_ms = START_MS + TROUBLE_MS + SETTLE_MS + barred_ms;
        let mut none = [].iter().peekable();
        while self.now_ms < end_ms && self.rules.violations.is_empty() {
            self.step(&mut none, &mut poll_ms, &mut monitor_ms, end_ms);
            self.operators_let_go();
        }
        if self.rules.violations.is_empty() {
            self.settled();
        }
    }

    /// What comes next, whatever it is.
    fn step<'a>(
        &mut self,
        events: &mut std::iter::Peekable<impl Iterator<Item = &'a Event>>,
        poll_ms: &mut u64,
        monitor_ms: &mut u64,
        end_ms: u64,
    ) {
        let (first, wake_ms) = self
            .agents
            .iter()
            .enumerate()
            .map(|(i, a)| (i, a.wake_ms))
            .min_by_key(|(_, wake)| *wake)
            .expect("an agent");
        let drawn_ms = events.peek().map_or(u64::MAX, |event| event.at_ms);
        let befalls_ms = self.cluster.befalls.as_ref().map_or(u64::MAX, |(at_ms, _)| *at_ms);
        let event_ms = drawn_ms.min(befalls_ms);
        let hook_ms = self.cluster.hook_ms();
        let next_ms = wake_ms.min(event_ms).min(*poll_ms).min(*monitor_ms).min(hook_ms).max(self.now_ms);
        if next_ms >= end_ms {
            self.now_ms = end_ms;
            return;
        }
        self.now_ms = next_ms;
        if *poll_ms <= next_ms {
            *poll_ms += 1_000;
            self.cluster.poll(next_ms);
        } else if *monitor_ms <= next_ms {
            *monitor_ms += 1_000;
            for proxy in &mut self.proxies {
                proxy.now_ms = next_ms;
                proxy.monitor(&self.cluster, next_ms);
            }
        } else if event_ms <= next_ms {
            let what = match self.cluster.befalls.take_if(|(at_ms, _)| *at_ms <= next_ms) {
                Some((_, what)) => what,
                None => events.next().expect("peeked").what.clone(),
            };
            self.happens(&what);
        } else if hook_ms <= next_ms {
            if let Some(late) = self.cluster.hook_steps(&mut self.agents, next_ms) {
                self.rules.violated(next_ms, late);
            }
        } else {
            let agent = &mut self.agents[first];
            let p = agent.proxy;
            let starts = self.proxies[p].starts;
            let before = matches!(agent.state, State::Applying(_))
                .then(|| (self.proxies[p].rows(Place::Runtime), self.proxies[p].disk_spoiled));
            agent.step(&self.cluster, &mut self.proxies[p], &mut self.rules, next_ms);
            self.rules.statements += 1;
            if let Some((before, spoiled)) = before
                && starts != self.proxies[p].starts
            {
                self.rules.restarted(p, &before, spoiled, &self.proxies[p], next_ms);
            }
        }
        self.cluster.look(next_ms);
        for promotion in std::mem::take(&mut self.cluster.promotions) {
            self.rules.promoted(&promotion, &self.agents, &self.proxies, next_ms);
        }
        self.rules.seen.append(&mut self.cluster.saw);
        for (p, proxy) in self.proxies.iter_mut().enumerate() {
            self.rules.check(p, proxy, &self.cluster, next_ms);
        }
        for agent in &self.agents {
            // Two agents of one ProxySQL may well be of two minds.
            if self.agents.iter().filter(|other| other.proxy == agent.proxy).count() == 1 {
                self.rules.isolated_in_time(agent, &self.proxies[agent.proxy], next_ms);
            }
        }
    }

    fn happens(&mut self, what: &What) {
        let now_ms = self.now_ms;
        self.story.push(at(now_ms, format!("{what:?}")));
        if !matches!(what, What::InApply { .. }) {
            self.rules.fault();
        }
        // Whatever it is: what has a deadline starts anew.
        let trouble = |proxies: &mut Vec<Proxy>, p: usize, ms: u64| {
            proxies[p].troubled_ms = proxies[p].troubled_ms.max(now_ms + ms);
        };
        match what {
            What::Dies(n) => self.dies(*n, Life::Dead),
            What::Hangs(n) => self.dies(*n, Life::Hung),
            What::PrimaryDies => self.dies(self.cluster.primary, Life::Dead),
            What::PrimaryHangs => self.dies(self.cluster.primary, Life::Hung),
            What::Returns(n) => self.cluster.returns(*n),
            What::Repaired(n) => self.cluster.repair(*n),
            What::Writable(n) => self.cluster.servers[*n].read_only = false,
            What::Takeover(n) => self.cluster.takeover(*n, now_ms),
            What::Switched { to, resets, stopped_ms } => self.switched(*to, *resets, *stopped_ms),
            What::Election { ms } => self.cluster.elects(now_ms, *ms),
            What::LeaderKilled { ms } => self.cluster.leader_killed(now_ms, *ms),
            What::LeaderDeposed { ms } => {
                self.cluster.deposed = self.cluster.leader.map(|leader| (leader, now_ms + ms));
                self.cluster.elects(now_ms, *ms);
            }
            What::HistoryPurged => self.cluster.purge(),
            What::HistoryStalls { ms } => self.cluster.history_stalls_ms = now_ms + ms,
            What::RecordMissingOnFollower => self.cluster.lacking = self.cluster.leader.map(|leader| (leader + 1) % 3),
            What::Unreadable { part, node, ms } => self.cluster.unreadable.push((*part, *node, now_ms + ms)),
            What::Forgotten(n) => self.cluster.forget(*n),
            What::Downtimed(n) => self.cluster.downtime(*n, now_ms),
            What::DowntimeEnds(n) => self.cluster.end_plain(*n),
            What::At { proxy, act } => self.acts(*proxy, act),
            What::InApply { agent, nth, act } => self.agents[*agent].acts.push((*nth, act.clone())),
            What::Silent { agent, ms } => self.agents[*agent].silent_ms = now_ms + ms,
            What::Blind { agent, ms } => self.agents[*agent].blind_ms = now_ms + ms,
            What::Conflict { agent, ms } => self.agents[*agent].conflict_ms = now_ms + ms,
            What::NoMajority { agent, ms } => self.agents[*agent].no_majority_ms = now_ms + ms,
            What::Slow { agent, ms } => {
                self.agents[*agent].slow_ms = *ms;
                trouble(&mut self.proxies, self.agents[*agent].proxy, *ms + 2_500);
            }
            What::Crash { agent, ms } => {
                let p = self.agents[*agent].proxy;
                if matches!(self.agents[*agent].state, State::Applying(_)) {
                    self.rules.broken_off(&mut self.proxies[p], now_ms);
                }
                self.agents[*agent].crashes(now_ms, *ms);
                trouble(&mut self.proxies, p, *ms);
            }
            What::Suspended { agent, ms } => {
                // The host sleeps, and its boot clock goes on; the world's time is the others'.
                trouble(&mut self.proxies, self.agents[*agent].proxy, 0);
                let agent = &mut self.agents[*agent];
                if !matches!(agent.state, State::Applying(_)) {
                    agent.boot_ahead_ms += ms;
                }
            }
            What::WallBack { agent, s } => self.agents[*agent].wall_back_s += s,
            What::OrderFence { agent, node } => {
                self.cluster.servers[*node].blamed = true;
                self.agents[*agent].order_fence(*node);
                for agent in &mut self.agents {
                    agent.unfence.remove(node);
                }
            }
            What::OrderUnfence { agent, node } => drop(self.agents[*agent].unfence.insert(*node)),
        }
    }

    fn switched(&mut self, to: Option<usize>, resets: bool, stopped_ms: u64) {
        let (now_ms, are_stopped) = (self.now_ms, stopped_ms > 0);
        let Some(to) = self.cluster.switch(to, resets, are_stopped, now_ms) else { return };
        self.rules.saw("switched by hand");
        if are_stopped {
            self.rules.saw("switched by hand while agents were stopped");
            for agent in &mut self.agents {
                if matches!(agent.state, State::Applying(_)) {
                    self.rules.broken_off(&mut self.proxies[agent.proxy], now_ms);
                }
                agent.crashes(now_ms, stopped_ms);
            }
            for (p, proxy) in self.proxies.iter_mut().enumerate() {
                proxy.troubled_ms = proxy.troubled_ms.max(now_ms + stopped_ms);
                if proxy.put_in(to) {
                    self.rules.back_by_hand(p, to);
                } else {
                    // The node is fenced there still, so its switch shows at the proxies only in part.
                    self.cluster.switched = Some((now_ms, false));
                }
            }
        }
    }

    fn dies(&mut self, n: usize, life: Life) {
        self.cluster.servers[n].life = life;
    }

    fn acts(&mut self, p: usize, act: &Act) {
        let before = self.proxies[p].rows(Place::Runtime);
        let (spoiled, starts) = (self.proxies[p].disk_spoiled, self.proxies[p].starts);
        let applying = self.agents.iter().any(|a| a.proxy == p && matches!(a.state, State::Applying(_)));
        self.proxies[p].act(act, &self.cluster, self.now_ms, applying);
        if let Act::BackByHand(n) = act {
            self.rules.back_by_hand(p, *n);
        }
        if starts != self.proxies[p].starts {
            self.rules.restarted(p, &before, spoiled, &self.proxies[p], self.now_ms);
        }
    }

    // --- the end ----------------------------------------------------------------------------------------------------

    fn repair_everything(&mut self) {
        self.story.push(at(self.now_ms, "everything is repaired".to_owned()));
        self.cluster.leader.get_or_insert(0);
        self.cluster.deposed = None;
        self.cluster.history_stalls_ms = 0;
        self.cluster.unreadable.clear();
        self.cluster.abandon();
        for n in 0..self.cluster.servers.len() {
            self.cluster.repair(n);
            self.cluster.end_downtime(n);
        }
        for proxy in &mut self.proxies {
            (proxy.load_refused_ms, proxy.disk_refused_ms) = (0, 0);
            proxy.status_known_again();
            proxy.troubled_ms = self.now_ms;
        }
        for agent in &mut self.agents {
            agent.silent_ms = 0;
            (agent.blind_ms, agent.conflict_ms, agent.no_majority_ms) = (0, 0, 0);
            agent.acts.clear();
            if matches!(agent.state, State::Down) {
                // Not at once: who was stopped for nodes to be switched by hand is stopped long enough for a gap.
                agent.wake_ms = agent.wake_ms.min(self.now_ms + 3_000);
                let troubled_ms = &mut self.proxies[agent.proxy].troubled_ms;
                *troubled_ms = agent.wake_ms.max(*troubled_ms);
            }
        }
    }

    /// What people took out they let back, once nobody is at work there.
    fn operators_let_go(&mut self) {
        for (p, proxy) in self.proxies.iter_mut().enumerate().filter(|(_, proxy)| !proxy.by_hand.is_empty()) {
            let by_hand: BTreeSet<String> = proxy.by_hand.iter().map(|(_, name)| name.clone()).collect();
            for (n, name) in NODES.iter().enumerate().filter(|(_, name)| by_hand.contains(**name)) {
                proxy.back_by_hand(name);
                self.rules.back_by_hand(p, n);
            }
            proxy.troubled_ms = proxy.troubled_ms.max(self.now_ms);
        }
        for agent in &mut self.agents {
            agent.unfence.extend(self.proxies[agent.proxy].ordered_out());
            agent.unfence.extend(agent.lacks_operator.clone());
        }
    }

    fn settled(&mut self) {
        for p in 0..self.proxies.len() {
            let proxy = &self.proxies[p];
            let mut found = vec![];
            if proxy.world.unfinished() {
                found.push(format!("a lock or copies are left: {:?}", proxy.world.lock));
            }
            for place in [Place::Runtime, Place::Memory, Place::Disk] {
                for row in proxy.world.rows(place) {
                    let is_primary = row.node().and_then(|node| number(&node)) == Some(self.cluster.primary);
                    let waits = proxy.hostgroups == Hostgroups::OneForWrites && !is_primary;
                    let may_be = match Comment::parse(&row.comment) {
                        Comment::Plain => true,
                        Comment::Marked(..) if row.status == Status::OfflineHard => place == Place::Runtime, // a ghost
                        Comment::Marked(_, marker) => waits && marker.kind == EvidenceKind::Replica,
                        Comment::Unreadable(_) => false,
                    };
                    if !may_be {
                        found.push(format!("{} in {place:?} has our marker still: {:?}", row.key, row.comment));
                    }
                }
            }
            let runtime = proxy.world.rows(Place::Runtime);
            for (n, name) in NODES.iter().enumerate().take(self.cluster.servers.len()) {
                let has = |hostgroup: u32| {
                    runtime.iter().any(|row| {
                        row.key.hostgroup.0 == hostgroup && row.key.hostname == *name && row.status == Status::Online
                    })
                };
                let is_primary = n == self.cluster.primary;
                let is_in_its_role = match proxy.hostgroups {
                    Hostgroups::Pair => has(WRITER) == is_primary && (is_primary || has(READER)),
                    Hostgroups::One => has(WRITER),
                    Hostgroups::OneForWrites => has(WRITER) || !is_primary, // or it waits, as its marker says
                };
                if !is_in_its_role {
                    found.push(format!("{name} is not back in its role (the primary: {is_primary})"));
                }
            }
            for place in [Place::Runtime, Place::Memory, Place::Disk] {
                let rows = proxy.world.rows(place);
                let of = |hostgroup| rows.iter().filter(move |row| row.key.hostgroup.0 == hostgroup);
                let is_as_it_was = of(CROWD).all(|row| row.status == Status::Online && row.comment.is_empty());
                if of(EXCLUDED).next().is_none() || of(CROWD).count() != self.topology.crowd || !is_as_it_was {
                    found.push(format!("rows that are not ours are not as they were in {place:?}"));
                }
            }
            for what in found {
                self.rules.violated(self.now_ms, format!("liveness: proxy {}: {what}", p + 1));
            }
        }
        for a in 0..self.agents.len() {
            if self.rules.empty_plans(a) < QUIET_TICKS {
                self.rules.violated(self.now_ms, format!("I7: agent{} is not quiet", a + 1));
            }
        }
    }
}
