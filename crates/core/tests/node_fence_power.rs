//! The machine that powers a fenced node off, driven against a pretended power switch.

use std::collections::BTreeSet;

use proptest::prelude::*;
use stonith_core::evidence::EvidenceKind;
use stonith_core::node_fence::power::{
    Action, AgentSettings, FenceAgentRecord, Machine, Power, PowerSettings, PowerTarget, Ran, Refusal, Reply, Settled,
    Step,
};

const TARGET_MAX_MS: u64 = 15_000;

fn settings(agents: &[(u64, u32)]) -> PowerSettings {
    let names = ["first", "second", "third"];
    let agent = |(name, (delay_ms, retries)): (&&str, &(u64, u32))| AgentSettings {
        name: (*name).to_owned(),
        delay_ms: *delay_ms,
        retries: *retries,
    };
    PowerSettings {
        agents: names.iter().zip(agents).map(agent).collect(),
        read_only_first: BTreeSet::new(),
        read_only_wait_ms: 30_000,
        dry_run: false,
        target_max_ms: TARGET_MAX_MS,
    }
}

fn target() -> PowerTarget {
    let (kind, id) = (EvidenceKind::Superseded, "17:a".to_owned());
    PowerTarget { kind, id, at_s: 17, latest_s: 20, is_read_only: false, refusal: None }
}

fn exits(code: i32) -> Ran {
    Ran::Exited { code: Some(code), output: String::new(), error: "its last words".to_owned() }
}

/// A node, its agents as the machine sees them, and what was done.
struct World {
    machine: Machine,
    now_ms: u64,
    target: Option<PowerTarget>,
    /// Whether ticks decide.
    ticks: bool,
    on: bool,
    /// What each agent's `off` does: its end, and whether the power goes.
    offs: Vec<(Ran, bool)>,
    /// What its status says in place of the truth.
    status: Option<Ran>,
    settled: Option<Settled>,
    lock_is_free: bool,
    done: Vec<(u64, Step)>,
}

impl World {
    fn new(settings: PowerSettings) -> Self {
        Self {
            offs: vec![(exits(0), true); settings.agents.len()],
            machine: Machine::new(settings, None),
            now_ms: 100_000,
            target: Some(target()),
            ticks: true,
            on: true,
            status: None,
            settled: None,
            lock_is_free: true,
            done: Vec::new(),
        }
    }

    fn now_s(&self) -> i64 {
        i64::try_from(self.now_ms / 1_000).unwrap()
    }

    fn reply(&mut self, step: &Step) -> Option<Reply> {
        Some(match step {
            Step::Rest | Step::Wait { .. } => return None,
            Step::TakeLock if self.lock_is_free => Reply::Locked(self.settled.clone()),
            Step::TakeLock => Reply::NotLocked(None),
            Step::Run { action: Action::Metadata | Action::Monitor, .. } => Reply::Ran(exits(0)),
            Step::Run { action: Action::Status, .. } => {
                Reply::Ran(self.status.clone().unwrap_or(exits(if self.on { 0 } else { 2 })))
            }
            Step::Run { agent, action: Action::Off } => {
                let (ran, works) = self.offs[*agent].clone();
                self.on &= !works;
                Reply::Ran(ran)
            }
        })
    }

    /// Runs in steps of 100 ms, with a tick each second.
    fn run_ms(&mut self, ms: u64) -> &mut Self {
        let until_ms = self.now_ms + ms;
        while self.now_ms < until_ms {
            if self.ticks && self.now_ms.is_multiple_of(1_000) {
                self.machine.aim(self.target.clone(), self.now_ms, self.now_ms, self.now_s());
            }
            let step = self.machine.next(self.now_ms);
            if let Some(reply) = self.reply(&step) {
                self.done.push((self.now_ms, step));
                self.machine.take(reply, self.now_ms, self.now_s());
            }
            self.now_ms += 100;
        }
        self
    }

    fn record(&self) -> &FenceAgentRecord {
        self.machine.record().unwrap()
    }

    /// When `off` was given, ms since the beginning, and to which agent.
    fn given(&self) -> Vec<(u64, usize)> {
        let off = |(at, step): &(u64, Step)| match step {
            Step::Run { agent, action: Action::Off } => Some((at - 100_000, *agent)),
            _ => None,
        };
        self.done.iter().filter_map(off).collect()
    }

    fn failure(&self) -> (&str, &str) {
        let failure = self.record().failure.as_ref().unwrap();
        (&failure.label, &failure.text)
    }
}

#[test]
fn a_node_is_powered_off_once_under_the_lock_by_a_decision_from_after_it_and_its_status_confirms_it() {
    let mut world = World::new(settings(&[(0, 1)]));
    world.run_ms(600_000);
    let steps: Vec<Step> = world.done.iter().map(|(_, step)| step.clone()).collect();
    let run = |action| Step::Run { agent: 0, action };
    assert_eq!(steps, [Step::TakeLock, run(Action::Off), run(Action::Status)]);
    assert_eq!(world.given(), [(1_000, 0)], "the next tick's decision");
    assert_eq!((world.record().state(), world.record().tries), ("off-confirmed", 1));
    let settled = world.record().settled.as_ref().unwrap();
    assert_eq!((settled.agent.as_str(), settled.done_s, settled.is_dry), ("first", 101, false));
}

#[test]
fn each_way_to_fail_is_told_apart_and_the_agents_are_tried_in_turn() {
    let cases: [(Ran, Option<Ran>, &str, &str); 6] = [
        (Ran::TimedOut, None, "timed-out", "off took too long, and was killed"),
        (exits(0), None, "still-on", "off succeeded by its own word, and its status says that the node is on"),
        (
            exits(0),
            Some(exits(77)),
            "status-unclear",
            "its status is neither on nor off (exit code 77): its last words",
        ),
        (exits(0), Some(Ran::TimedOut), "timed-out", "status took too long, and was killed"),
        (exits(1), None, "refused", "off failed (exit code 1): its last words"),
        (Ran::NotStarted("no such file".to_owned()), None, "not-started", "it cannot be started: no such file"),
    ];
    for (off, status, label, text) in cases {
        let mut world = World::new(settings(&[(0, 1), (5_000, 0)]));
        (world.offs, world.status) = (vec![(off.clone(), false); 2], status);
        world.run_ms(30_000);
        assert_eq!(world.failure(), (label, format!("fence agent second: {text}").as_str()));
        assert_eq!(world.record().state(), "failed");
        let agents: Vec<usize> = world.given().iter().map(|(_, agent)| *agent).collect();
        assert_eq!(agents, [0, 0, 1], "{label}");
        // Repaired, the first one does it at the next round.
        (world.offs, world.status) = (vec![(exits(0), true); 2], None);
        world.run_ms(60_000);
        assert_eq!((world.record().state(), world.given().len()), ("off-confirmed", 4), "{label}");
        assert_eq!(world.record().failure, None);
    }
}

#[test]
fn the_second_agent_waits_its_delay_and_confirms_what_the_first_could_not() {
    let mut world = World::new(settings(&[(0, 0), (5_000, 0)]));
    world.offs[0] = (exits(1), false);
    world.run_ms(60_000);
    assert_eq!(world.given(), [(1_000, 0), (7_000, 1)]);
    assert_eq!(world.record().settled.as_ref().unwrap().agent, "second");
}

#[test]
fn a_status_whose_code_and_words_differ_proves_nothing() {
    let says = |code, words: &str| {
        let output = format!("some words\n{words}\n");
        Ran::Exited { code, output, error: String::new() }.power()
    };
    let cases = [
        (Some(2), "Status: OFF", Power::Off),
        (Some(2), "", Power::Off),
        (Some(2), "Status: ON", Power::Unclear),
        (Some(0), "Status: ON", Power::On),
        (Some(0), "", Power::On),
        (Some(0), "status: off", Power::Unclear),
        (Some(1), "Status: OFF", Power::Unclear),
        (None, "Status: OFF", Power::Unclear),
    ];
    for (code, words, power) in cases {
        assert_eq!(says(code, words), power, "{code:?} {words}");
    }
    assert_eq!((Ran::TimedOut.power(), Ran::NotStarted(String::new()).power()), (Power::Unclear, Power::Unclear));
}

#[test]
fn power_that_takes_three_seconds_to_go_is_no_lie() {
    let mut world = World::new(settings(&[(0, 0)]));
    world.offs[0].1 = false;
    world.run_ms(3_500);
    world.on = false;
    world.run_ms(1_500);
    assert_eq!((world.record().state(), world.given().len()), ("off-confirmed", 1));
}

#[test]
fn a_node_that_an_operator_powered_on_stays_on_until_a_newer_failover_also_after_a_restart() {
    let mut world = World::new(settings(&[(0, 0)]));
    world.run_ms(10_000);
    world.on = true;
    // The mark of the same failover comes, the fence ends and begins again, and the process is another one.
    world.target =
        Some(PowerTarget { kind: EvidenceKind::LostInRecovery, id: "mark".to_owned(), at_s: 20, ..target() });
    world.run_ms(10_000).target = None;
    world.run_ms(10_000);
    assert_eq!(world.record().state(), "ended");
    world.target = Some(target());
    world.run_ms(10_000);
    let record = world.machine.record().cloned();
    world.machine = Machine::new(settings(&[(0, 0)]), record);
    world.run_ms(60_000);
    assert_eq!((world.given().len(), world.on, world.record().state()), (1, true, "off-confirmed"));
    world.target = Some(PowerTarget { id: "900:b".to_owned(), at_s: 900, latest_s: 900, ..target() });
    world.run_ms(10_000);
    assert_eq!((world.given().len(), world.on), (2, false));
}

#[test]
fn what_another_agent_of_this_host_has_settled_is_not_done_again() {
    let mut world = World::new(settings(&[(0, 0)]));
    let settled =
        |at_s, id: &str| Settled { id: id.to_owned(), at_s, done_s: 50, agent: "other".to_owned(), is_dry: false };
    world.settled = Some(settled(20, "17:a"));
    world.lock_is_free = false;
    world.run_ms(60_000);
    assert_eq!((world.record().state(), world.given().len()), ("pending", 0), "never without the lock");
    world.lock_is_free = true;
    world.run_ms(60_000);
    assert_eq!((world.record().state(), world.given().len()), ("off-confirmed", 0));
    let mut world = World::new(settings(&[(0, 0)]));
    world.settled = Some(settled(9, "9:z"));
    world.run_ms(10_000);
    assert_eq!(world.given().len(), 1, "an older failover's");
}

#[test]
fn the_agents_run_only_if_the_node_is_not_read_only_in_time() {
    let first = |settings| PowerSettings { read_only_first: [EvidenceKind::Superseded].into(), ..settings };
    let mut world = World::new(first(settings(&[(0, 0)])));
    world.run_ms(29_000).target = Some(PowerTarget { is_read_only: true, ..target() });
    world.run_ms(600_000);
    assert_eq!((world.record().state(), world.given().len()), ("not-needed", 0));
    // It is writable again, as a server that restarts is for a moment: the time counts from there.
    world.target = Some(target());
    world.run_ms(29_000);
    assert_eq!((world.record().state(), world.given().len()), ("pending", 0));
    world.run_ms(5_000);
    assert_eq!((world.record().state(), world.given().len()), ("off-confirmed", 1));
    let mut world = World::new(settings(&[(0, 0)]));
    world.target = Some(PowerTarget { is_read_only: true, ..target() });
    world.run_ms(5_000);
    assert_eq!(world.given().len(), 1, "where the read-only level need not come first");
}

#[test]
fn a_dry_run_asks_everything_but_off_once_and_a_later_config_leaves_that_failover_alone() {
    let mut world = World::new(PowerSettings { dry_run: true, ..settings(&[(0, 0)]) });
    world.run_ms(60_000);
    let actions: Vec<&Step> = world.done.iter().map(|(_, step)| step).collect();
    let run = |action| Step::Run { agent: 0, action };
    assert_eq!(actions, [&Step::TakeLock, &run(Action::Monitor), &run(Action::Status)]);
    assert_eq!((world.record().state(), world.record().tries), ("would-fence", 0));
    world.machine = Machine::new(settings(&[(0, 0)]), world.machine.record().cloned());
    world.run_ms(60_000);
    assert_eq!((world.given().len(), world.record().state()), (0, "would-fence"));
}

#[test]
fn a_node_that_must_be_left_on_is_left_on_and_the_reason_is_told() {
    let other = "node01:3307".parse().unwrap();
    let refusals = [
        (Refusal::NoPrimary, "no-primary"),
        (Refusal::SharesHost(other), "shares-host"),
        (Refusal::Undated, "undated"),
    ];
    for (refusal, label) in refusals {
        let mut world = World::new(settings(&[(0, 0)]));
        world.target = Some(PowerTarget { refusal: Some(refusal), ..target() });
        world.run_ms(60_000);
        assert_eq!((world.failure().0, world.done.len()), (label, 0));
    }
    let mut world = World::new(settings(&[]));
    world.run_ms(60_000);
    assert_eq!((world.failure().0, world.done.len()), ("no-agent", 0));
}

#[test]
fn no_off_is_given_after_the_last_decision_and_none_while_nobody_decides() {
    let mut world = World::new(settings(&[(0, 5)]));
    world.offs[0] = (exits(1), false);
    world.run_ms(900).ticks = false;
    world.run_ms(60_000);
    assert_eq!(world.given(), [], "the lock was taken after the last decision");
    world.ticks = true;
    world.run_ms(2_500);
    let before = world.given().len();
    world.ticks = false;
    world.run_ms(60_000);
    assert_eq!((before, world.given().len()), (1, 1));
}

fn reply() -> impl Strategy<Value = Reply> {
    let settled = (any::<bool>(), 0..30i64).prop_map(|(is_dry, at_s)| Settled {
        id: String::new(),
        at_s,
        done_s: 1,
        agent: "other".to_owned(),
        is_dry,
    });
    let ran = prop_oneof![(0..3i32).prop_map(exits), Just(Ran::TimedOut), Just(Ran::NotStarted(String::new()))];
    prop_oneof![
        3 => prop::option::weighted(0.2, settled).prop_map(Reply::Locked),
        1 => Just(Reply::NotLocked(None)),
        6 => ran.prop_map(Reply::Ran),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    /// Whatever comes back, in whatever order: `off` is given only for a target that was given after the lock was taken
    /// and after the last failure, that may be powered off, and whose failover is not settled.
    #[test]
    fn no_off_is_given_that_is_not_allowed_now(events in prop::collection::vec(
        (reply(), 0..4u8, prop::option::weighted(0.7, (0..30i64, 0..3u8))), 1..80
    ), dry_run in prop::bool::weighted(0.2)) {
        let mut machine = Machine::new(PowerSettings { dry_run, ..settings(&[(0, 1), (3_000, 0)]) }, None);
        let (mut now_ms, mut given, mut waits_since_ms) = (1, None, 0);
        for (reply, gap, aims) in events {
            now_ms += [1, 150, 1_100, 16_000][usize::from(gap)];
            if let Some((at_s, kind)) = aims {
                let refusal = (kind == 1).then_some(Refusal::NoPrimary);
                let aimed = PowerTarget { id: format!("{at_s}:x"), at_s, latest_s: at_s, refusal, ..target() };
                let target = (kind != 2).then_some(aimed);
                machine.aim(target.clone(), now_ms, now_ms, 1);
                given = target.map(|target| (target, now_ms));
            }
            let step = machine.next(now_ms);
            if let Step::Run { action: Action::Off, .. } = step {
                prop_assert!(!dry_run);
                let (target, given_ms) = given.clone().expect("a target");
                prop_assert!(target.refusal.is_none() && now_ms - given_ms <= TARGET_MAX_MS && given_ms > waits_since_ms);
                prop_assert!(machine.record().unwrap().settled.is_none());
            }
            let failed_before = machine.record().and_then(|record| record.failure.clone());
            if !matches!(step, Step::Rest | Step::Wait { .. }) {
                machine.take(reply.clone(), now_ms, i64::try_from(now_ms).unwrap());
                let failed = machine.record().and_then(|record| record.failure.clone());
                if (step == Step::TakeLock && matches!(reply, Reply::Locked(_))) || failed != failed_before {
                    waits_since_ms = now_ms;
                }
            }
        }
    }
}
