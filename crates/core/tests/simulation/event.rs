//! What can happen, and a seed's list of it: drawn before the run, so that a run can be had again with less.

use stonith_core::orchestrator::AnswerPart;

use super::hook::Hooks;
use super::rng::Rng;

/// How long things go wrong, ms; after it everything is repaired.
pub const TROUBLE_MS: u64 = 120_000;
pub const START_MS: u64 = 1_000_000;
/// A run has the first few of them.
pub const NODES: [&str; 6] = ["node01", "node02", "node03", "node04", "node05", "node06"];
/// Their second names.
pub const ADDRESSES: [&str; 6] = ["10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.0.4", "10.0.0.5", "10.0.0.6"];
/// Rows of servers that Orchestrator knows nothing of, where there are many.
const CROWD: usize = 200;

/// How ProxySQL tells writers from readers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hostgroups {
    /// A pair, which the monitor looks after.
    Pair,
    /// All nodes are in one hostgroup, and nothing names it.
    One,
    /// The same, and the config names it as one that takes writes.
    OneForWrites,
}

/// What there is: drawn with the events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Topology {
    pub nodes: usize,
    /// The last node replicates from the second, not from the primary.
    pub is_chained: bool,
    /// The first and the third node have a row beside the pair, too.
    pub has_rows_beside: bool,
    /// Another cluster behind the same ProxySQL, in which nothing ever happens.
    pub has_other_cluster: bool,
    /// And Orchestrator gives both one alias.
    has_one_alias: bool,
    /// Whoever is promoted keeps its replica settings: its replication finds the old primary again.
    pub promotes_without_reset: bool,
    /// Orchestrator lists this node under its address, too, and tells of it by either name.
    pub two_names: Option<usize>,
    pub hostgroups: Hostgroups,
    /// No comparison finds the rows of this node.
    pub odd_rows: Option<usize>,
    /// The comments of this node's rows have a NUL and a byte that is no text.
    pub odd_comments: Option<usize>,
    /// So many rows of servers that Orchestrator does not list.
    pub crowd: usize,
    pub agents: usize,
    pub proxies: usize,
    /// The program's hooks are in Orchestrator's configuration.
    pub hooks: Option<Hooks>,
}

impl Topology {
    /// The alias of the other cluster.
    pub fn other_alias(&self) -> &'static str {
        if self.has_one_alias { "main" } else { "other" }
    }

    /// What is odd of it.
    pub fn odd(&self) -> Vec<&'static str> {
        let odd = [
            (self.is_chained, "a chain"),
            (self.has_rows_beside, "rows beside the pair"),
            (self.has_other_cluster, "another cluster"),
            (self.has_other_cluster && self.has_one_alias, "two clusters under one alias"),
            (self.promotes_without_reset, "promotions without RESET"),
            (self.two_names.is_some(), "two names of one server"),
            (self.hostgroups == Hostgroups::One, "no pairs, and no hostgroup is named"),
            (self.hostgroups == Hostgroups::OneForWrites, "no pairs, and a hostgroup that is named"),
            (self.odd_rows.is_some(), "rows that no comparison finds"),
            (self.odd_comments.is_some(), "comments with odd bytes"),
            (self.crowd > 0, "hundreds of rows"),
            (self.agents > self.proxies, "two agents of one ProxySQL"),
            (self.proxies > 1, "two ProxySQLs"),
        ];
        let odd = odd.into_iter().filter(|(is_there, _)| *is_there).map(|(_, name)| name);
        odd.chain(self.hooks.into_iter().flat_map(Hooks::odd)).collect()
    }

    pub fn draw(rng: &mut Rng) -> Self {
        let (agents, proxies) = [(1, 1), (2, 1), (2, 2)][rng.below(3)];
        let nodes = 3 + rng.below(NODES.len() - 2);
        let mut node_in = |one_in| rng.one_in(one_in).then(|| rng.below(nodes));
        let (two_names, odd_rows, odd_comments) = (node_in(6), node_in(8), node_in(8));
        let hostgroups = match rng.below(12) {
            0 => Hostgroups::One,
            1 => Hostgroups::OneForWrites,
            _ => Hostgroups::Pair,
        };
        let crowd = if rng.one_in(15) { CROWD } else { 0 };
        Self {
            two_names,
            hostgroups,
            odd_rows,
            odd_comments,
            crowd,
            nodes,
            is_chained: nodes > 3 && rng.one_in(3),
            has_rows_beside: rng.one_in(3),
            has_other_cluster: rng.one_in(2),
            has_one_alias: rng.one_in(2),
            promotes_without_reset: rng.one_in(4),
            agents,
            proxies,
            hooks: None,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    pub at_ms: u64,
    pub what: What,
}

/// Nodes, agents and proxies by number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum What {
    // MySQL
    Dies(usize),
    Hangs(usize),
    /// A hung one goes on where it was; a dead one comes back writable, replicating from nobody.
    Returns(usize),
    PrimaryDies,
    PrimaryHangs,
    Repaired(usize),
    /// Somebody sets read_only=0 on a replica.
    Writable(usize),
    Takeover(usize),
    /// Somebody makes another node the primary, and Orchestrator records nothing: this one, or the one that was it before.
    Switched {
        to: Option<usize>,
        /// `RESET SLAVE ALL` on the new primary; else it goes on replicating from the old one.
        resets: bool,
        /// The agents are stopped for this long around the switch; at 0 they run. While they are stopped, the operator puts
        /// the new primary's rows in.
        stopped_ms: u64,
    },
    // Orchestrator
    Election {
        ms: u64,
    },
    LeaderKilled {
        ms: u64,
    },
    /// It loses the lead and does not know: a recovery that it runs goes on, and agents hear it for a moment.
    LeaderDeposed {
        ms: u64,
    },
    HistoryPurged,
    /// It does not come for a while.
    HistoryStalls {
        ms: u64,
    },
    RecordMissingOnFollower,
    /// What it says of this node can't be read for a while.
    Unreadable {
        part: AnswerPart,
        node: usize,
        ms: u64,
    },
    Forgotten(usize),
    Downtimed(usize),
    DowntimeEnds(usize),
    // Between agent and Orchestrator
    /// Requests or replies are lost.
    Silent {
        agent: usize,
        ms: u64,
    },
    /// HTTP 500, wrong JSON, a reply that is cut short.
    Blind {
        agent: usize,
        ms: u64,
    },
    Conflict {
        agent: usize,
        ms: u64,
    },
    NoMajority {
        agent: usize,
        ms: u64,
    },
    Slow {
        agent: usize,
        ms: u64,
    },
    // The agent
    Crash {
        agent: usize,
        ms: u64,
    },
    Suspended {
        agent: usize,
        ms: u64,
    },
    WallBack {
        agent: usize,
        s: i64,
    },
    OrderFence {
        agent: usize,
        node: usize,
    },
    OrderUnfence {
        agent: usize,
        node: usize,
    },
    // ProxySQL
    At {
        proxy: usize,
        act: Act,
    },
    /// The same, before the `nth` statement of the agent's next apply.
    InApply {
        agent: usize,
        nth: u64,
        act: Act,
    },
}

/// What happens at a ProxySQL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Act {
    Restart,
    LoadRefused {
        ms: u64,
    },
    DiskRefused {
        ms: u64,
    },
    StageWeight(usize),
    StageComment(usize),
    StageRow,
    EditAndLoad(usize),
    Load,
    SaveToDisk,
    SoftByHand(usize),
    BackByHand(usize),
    UnknownStatus(usize),
    Monitor,
    // These only in an apply.
    AgentCrashes {
        ms: u64,
    },
    Cut,
    ReplyLost,
    /// The statement is carried out twice.
    Twice,
    Delay {
        ms: u64,
    },
}

/// Which families of trouble a run has.
#[derive(Debug, Clone, Copy)]
pub struct Mood {
    pub failures: bool,
    pub orchestrator: bool,
    pub network: bool,
    pub agent: bool,
    pub proxy: bool,
    pub operator: bool,
}

pub fn mood(rng: &mut Rng) -> Mood {
    let mut draw = |n| !rng.one_in(n);
    Mood {
        failures: draw(4),
        orchestrator: draw(3),
        network: draw(2),
        agent: draw(2),
        proxy: draw(2),
        operator: draw(3),
    }
}

/// A seed's events, in order of time.
pub fn draw(rng: &mut Rng, topology: Topology) -> Vec<Event> {
    let mood = mood(rng);
    let Topology { nodes, agents, .. } = topology;
    let mut events = Vec::new();
    let at = |events: &mut Vec<Event>, at_ms: u64, what: What| events.push(Event { at_ms: START_MS + at_ms, what });
    let count = rng.between(3, 24);
    for _ in 0..count {
        let t = rng.between(15_000, TROUBLE_MS);
        let what = match rng.below(6) {
            0 if mood.failures => failure(rng, nodes),
            1 if mood.orchestrator => orchestrator(rng, nodes, mood.failures),
            2 if mood.network => network(rng, agents),
            3 if mood.agent => agent(rng, agents, nodes, mood.failures),
            4 if mood.proxy => proxy(rng, agents),
            5 if mood.operator => operator(rng, topology, mood.failures),
            _ => continue,
        };
        // What is taken away comes back, in some way or another.
        match what {
            What::Dies(n) | What::Hangs(n) => {
                let back = t + rng.between(300, 30_000);
                at(&mut events, back, What::Returns(n));
                if rng.one_in(2) {
                    at(&mut events, back + rng.between(3_000, 20_000), What::Repaired(n));
                }
            }
            What::PrimaryDies | What::PrimaryHangs => {
                for n in 0..nodes {
                    let back = t + rng.between(1_000, 30_000);
                    at(&mut events, back, What::Returns(n));
                    if rng.one_in(2) {
                        at(&mut events, back + rng.between(3_000, 20_000), What::Repaired(n));
                    }
                }
                if rng.one_in(3) {
                    let (resets, stopped_ms) = (rng.one_in(2), stopped_ms(rng));
                    at(&mut events, t + rng.between(8_000, 40_000), What::Switched { to: None, resets, stopped_ms });
                }
            }
            What::Downtimed(n) => at(&mut events, t + rng.between(1_000, 30_000), What::DowntimeEnds(n)),
            What::Writable(n) => at(&mut events, t + rng.between(1_000, 20_000), What::Repaired(n)),
            _ => {}
        }
        at(&mut events, t, what);
    }
    events.retain(|event| event.at_ms < START_MS + TROUBLE_MS);
    events.sort_by_key(|event| event.at_ms);
    events
}

fn failure(rng: &mut Rng, nodes: usize) -> What {
    let n = rng.below(nodes);
    match rng.below(10) {
        0 => What::Dies(n),
        1 => What::Hangs(n),
        2 | 3 => What::PrimaryDies,
        4 => What::PrimaryHangs,
        5 => What::Repaired(n),
        6 => What::Writable(n),
        7 | 8 => What::Switched { to: Some(n), resets: rng.one_in(2), stopped_ms: stopped_ms(rng) },
        _ => What::Takeover(n),
    }
}

/// Long enough that it is a gap in an agent's watch, or not at all.
fn stopped_ms(rng: &mut Rng) -> u64 {
    if rng.one_in(2) { 0 } else { rng.between(3_000, 30_000) }
}

fn orchestrator(rng: &mut Rng, nodes: usize, failures: bool) -> What {
    let ms = rng.between(500, 4_500);
    match rng.below(if failures { 12 } else { 6 }) {
        0 => What::Election { ms },
        1 => What::LeaderKilled { ms },
        2 => What::LeaderDeposed { ms: ms.min(1_000) },
        3 => What::HistoryPurged,
        4 => What::RecordMissingOnFollower,
        5 => What::HistoryStalls { ms: rng.between(1_000, 30_000) },
        6 => What::Forgotten(rng.below(nodes)),
        7..=9 => {
            let part = [AnswerPart::Marks, AnswerPart::Instances, AnswerPart::History][rng.below(3)];
            What::Unreadable { part, node: rng.below(nodes), ms: rng.between(1_000, 40_000) }
        }
        _ => What::Downtimed(rng.below(nodes)),
    }
}

fn network(rng: &mut Rng, agents: usize) -> What {
    let agent = rng.below(agents);
    let most = if rng.one_in(3) { 25_000 } else { 6_000 };
    let ms = rng.between(200, most);
    match rng.below(6) {
        0 | 1 => What::Silent { agent, ms },
        2 => What::Blind { agent, ms },
        3 => What::Conflict { agent, ms },
        4 => What::NoMajority { agent, ms },
        _ => What::Slow { agent, ms: ms.min(1_500) },
    }
}

fn agent(rng: &mut Rng, agents: usize, nodes: usize, failures: bool) -> What {
    let agent = rng.below(agents);
    let node = rng.below(nodes);
    let most = if rng.one_in(3) { 30_000 } else { 3_000 };
    let ms = rng.between(10, most);
    match rng.below(if failures { 8 } else { 5 }) {
        0 => What::Crash { agent, ms },
        1 => What::Suspended { agent, ms },
        2 => What::WallBack { agent, s: rng.between(1, 7_200) as i64 },
        5 => What::OrderFence { agent, node },
        6 => What::OrderUnfence { agent, node },
        _ => {
            let act = match rng.below(5) {
                0 | 1 => Act::AgentCrashes { ms },
                2 => Act::Cut,
                3 => Act::Twice,
                _ => Act::ReplyLost,
            };
            What::InApply { agent, nth: rng.between(0, 60), act }
        }
    }
}

fn proxy(rng: &mut Rng, agents: usize) -> What {
    let agent = rng.below(agents);
    let ms = rng.between(100, 5_000);
    let act = match rng.below(6) {
        0 | 1 => Act::Restart,
        2 => Act::LoadRefused { ms },
        3 => Act::DiskRefused { ms },
        4 => Act::Monitor,
        _ => Act::Delay { ms: ms.min(2_000) },
    };
    What::InApply { agent, nth: rng.between(0, 60), act }
}

fn operator(rng: &mut Rng, topology: Topology, failures: bool) -> What {
    let Topology { nodes, agents, proxies, .. } = topology;
    let n = rng.below(nodes);
    let act = match rng.below(if failures { 9 } else { 6 }) {
        0 => Act::StageWeight(n),
        1 => Act::StageComment(n),
        2 => Act::StageRow,
        3 => Act::EditAndLoad(n),
        4 => Act::Load,
        5 => Act::SaveToDisk,
        6 => Act::SoftByHand(n),
        7 => Act::BackByHand(n),
        _ => Act::UnknownStatus(n),
    };
    if rng.one_in(2) && !matches!(act, Act::SoftByHand(_) | Act::BackByHand(_) | Act::UnknownStatus(_)) {
        What::InApply { agent: rng.below(agents), nth: rng.between(0, 60), act }
    } else {
        What::At { proxy: rng.below(proxies), act }
    }
}
