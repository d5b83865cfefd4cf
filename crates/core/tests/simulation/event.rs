//! What can happen, and a seed's list of it: drawn before the run, so that a run can be had again with less.

use super::rng::Rng;

/// How long things go wrong, ms; after it everything is repaired.
pub const TROUBLE_MS: u64 = 120_000;
pub const START_MS: u64 = 1_000_000;
/// A run has the first few of them.
pub const NODES: [&str; 6] = ["node01", "node02", "node03", "node04", "node05", "node06"];

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
    pub agents: usize,
    pub proxies: usize,
}

impl Topology {
    /// The alias of the other cluster.
    pub fn other_alias(&self) -> &'static str {
        if self.has_one_alias { "main" } else { "other" }
    }

    pub fn draw(rng: &mut Rng) -> Self {
        let (agents, proxies) = [(1, 1), (2, 1), (2, 2)][rng.below(3)];
        let nodes = 3 + rng.below(NODES.len() - 2);
        Self {
            nodes,
            is_chained: nodes > 3 && rng.one_in(3),
            has_rows_beside: rng.one_in(3),
            has_other_cluster: rng.one_in(2),
            has_one_alias: rng.one_in(2),
            promotes_without_reset: rng.one_in(4),
            agents,
            proxies,
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
    match rng.below(8) {
        0 => What::Dies(n),
        1 => What::Hangs(n),
        2 | 3 => What::PrimaryDies,
        4 => What::PrimaryHangs,
        5 => What::Repaired(n),
        6 => What::Writable(n),
        _ => What::Takeover(n),
    }
}

fn orchestrator(rng: &mut Rng, nodes: usize, failures: bool) -> What {
    let ms = rng.between(500, 4_500);
    match rng.below(if failures { 9 } else { 6 }) {
        0 => What::Election { ms },
        1 => What::LeaderKilled { ms },
        2 => What::LeaderDeposed { ms: ms.min(1_000) },
        3 => What::HistoryPurged,
        4 => What::RecordMissingOnFollower,
        5 => What::HistoryStalls { ms: rng.between(1_000, 30_000) },
        6 => What::Forgotten(rng.below(nodes)),
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
