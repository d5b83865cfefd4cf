//! The machine that makes a fenced node read-only at the node itself, driven against a pretended server.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use stonith_core::evidence::EvidenceKind;
use stonith_core::node::Node;
use stonith_core::node_fence::{
    Looked, Machine, NodeFenceRecord, NodeFenceSettings, ReadOnly, Reply, ServerId, Session, Step, Target,
};

const TARGET_MAX_MS: u64 = 10_000;

fn node(name: &str) -> Node {
    format!("{name}:3306").parse().unwrap()
}

fn settings() -> NodeFenceSettings {
    NodeFenceSettings { spared: ["stonith", "backup"].map(str::to_owned).into(), target_max_ms: TARGET_MAX_MS }
}

fn target() -> Target {
    Target { kind: EvidenceKind::Superseded, id: "17:a".to_owned(), primaries: [node("node02")].into() }
}

fn server(id: u32) -> ServerId {
    ServerId { id: id.to_string(), hostname: format!("host{id}"), port: "3306".to_owned() }
}

/// A server as the machine sees it, and what was done to it.
struct World {
    machine: Machine,
    now_ms: u64,
    up: bool,
    id: u32,
    started_s: i64,
    read_only: ReadOnly,
    sessions: Vec<Session>,
    lacks: Vec<String>,
    lock_is_free: bool,
    primary: Option<ServerId>,
    /// How often a set is held up; a kill ends that.
    held_up: bool,
    done: Vec<Step>,
}

impl World {
    fn new(record: Option<NodeFenceRecord>) -> Self {
        let session =
            |id, user: &str, command: &str| Session { id, user: user.to_owned(), command: command.to_owned() };
        Self {
            machine: Machine::new(settings(), record),
            now_ms: 0,
            up: true,
            id: 1,
            started_s: 1_000,
            read_only: ReadOnly::No,
            sessions: vec![
                session(1, "system user", "Slave_SQL"),
                session(2, "repl", "Binlog Dump"),
                session(3, "event_scheduler", "Daemon"),
                session(7, "app", "Sleep"),
                session(8, "app", "Query"),
                session(9, "backup", "Query"),
                session(10, "stonith", "Query"),
            ],
            lacks: Vec::new(),
            lock_is_free: true,
            primary: Some(server(2)),
            held_up: false,
            done: Vec::new(),
        }
    }

    fn now_s(&self) -> i64 {
        i64::try_from(self.now_ms / 1_000).unwrap()
    }

    fn aim(&mut self, target: Option<Target>) -> &mut Self {
        self.machine.aim(target, self.now_ms, self.now_s());
        self
    }

    fn reply(&mut self, step: &Step) -> Option<Reply> {
        let lost = || Reply::Lost("refused".to_owned());
        Some(match step {
            Step::Rest => return None,
            Step::Wait { until_ms } => {
                self.now_ms = self.now_ms.max(*until_ms);
                return None;
            }
            Step::AskPrimaries(whom) => {
                Reply::Primaries(whom.iter().map(|one| (one.clone(), self.primary.clone())).collect())
            }
            _ if !self.up => lost(),
            Step::Connect { .. } => Reply::Connected,
            Step::Look => Reply::Looked(Looked {
                server: server(self.id),
                started_s: self.started_s,
                read_only: self.read_only,
                lacks: self.lacks.clone(),
                lacks_for_some: Vec::new(),
            }),
            Step::TakeLock => Reply::Locked(self.lock_is_free),
            Step::SetReadOnly if self.held_up => Reply::SetWaits,
            Step::SetReadOnly => {
                self.read_only = ReadOnly::Yes;
                Reply::Set
            }
            Step::ListSessions => Reply::Sessions(self.sessions.clone()),
            Step::Kill(ids) => {
                let before = self.sessions.len();
                let is_protected = |session: &Session| session.user == "root";
                self.sessions.retain(|session| !ids.contains(&session.id) || is_protected(session));
                self.held_up = false;
                let kept = self.sessions.iter().filter(|session| ids.contains(&session.id));
                let refused = kept.map(|session| (session.id, "access denied".to_owned())).collect();
                Reply::Killed { ended: (before - self.sessions.len()) as u64, refused }
            }
        })
    }

    /// Runs for this long, and is told its target all the time.
    fn run_ms(&mut self, ms: u64) -> &mut Self {
        let until_ms = self.now_ms + ms;
        let target = self.machine.record().is_some_and(|record| record.ended_s.is_none()).then(target);
        while self.now_ms < until_ms {
            if let Some(target) = target.clone() {
                self.aim(Some(target));
            }
            let step = self.machine.next(self.now_ms);
            match self.reply(&step) {
                Some(reply) => {
                    self.done.push(step);
                    self.now_ms += 1;
                    self.machine.take(reply, self.now_ms, self.now_s());
                }
                None if step == Step::Rest => self.now_ms = until_ms,
                None => {}
            }
        }
        self
    }

    fn record(&self) -> &NodeFenceRecord {
        self.machine.record().unwrap()
    }

    fn count(&self, step: &Step) -> usize {
        self.done.iter().filter(|done| *done == step).count()
    }
}

fn fenced(world: &mut World) -> &mut World {
    world.aim(Some(target()));
    world
}

#[test]
fn a_node_is_set_read_only_its_clients_are_ended_and_it_is_seen_to_be_so() {
    let mut world = World::new(None);
    fenced(&mut world).run_ms(50);
    let expected = [
        Step::Connect { tcp_ms: Some(200) },
        Step::AskPrimaries([node("node02")].into()),
        Step::Look,
        Step::TakeLock,
        Step::SetReadOnly,
        Step::ListSessions,
        Step::Kill(vec![7, 8]),
        Step::ListSessions,
        Step::Look,
    ];
    assert_eq!(world.done, expected);
    assert_eq!((world.record().state(), world.record().sessions_ended), ("read-only", 2));
    let left: Vec<u64> = world.sessions.iter().map(|session| session.id).collect();
    assert_eq!(left, [1, 2, 3, 9, 10], "replication, the server's own, the spared account and our own stay");
}

#[test]
fn a_node_that_is_down_is_tried_at_least_each_200_ms_for_an_hour_and_met_when_it_answers() {
    let mut world = World::new(None);
    world.up = false;
    fenced(&mut world).run_ms(3_600_000);
    let tries = world.done.iter().filter(|step| matches!(step, Step::Connect { .. })).count();
    assert!((3_600_000 / 202..=3_600_000 / 100).contains(&tries), "{tries}");
    let patient = world.count(&Step::Connect { tcp_ms: None });
    assert!(patient * 9 > tries && patient * 7 < tries, "{patient} of {tries}");
    assert_eq!(world.record().state(), "waiting");
    world.up = true;
    world.run_ms(210);
    assert_eq!((world.read_only, world.record().state()), (ReadOnly::Yes, "read-only"));
}

#[test]
fn what_holds_the_set_up_is_ended_and_the_set_is_tried_again() {
    let mut world = World::new(None);
    world.held_up = true;
    fenced(&mut world).run_ms(50);
    assert_eq!((world.count(&Step::SetReadOnly), world.record().state()), (2, "read-only"));
}

#[test]
fn a_set_that_a_spared_account_holds_up_fails_and_is_tried_again() {
    let mut world = World::new(None);
    (world.held_up, world.sessions) = (true, Vec::new());
    fenced(&mut world).run_ms(5_000);
    assert_eq!(world.record().failure.as_ref().unwrap().label, "set-waits");
    assert!(world.count(&Step::SetReadOnly) > 6);
}

#[test]
fn a_fence_that_ends_in_the_middle_stops_it_and_what_is_set_stays_set() {
    for steps in 1..9 {
        let mut world = World::new(None);
        fenced(&mut world).run_ms(steps);
        let (before, read_only) = (world.done.len(), world.read_only);
        world.aim(None).run_ms(60_000);
        assert_eq!((world.done.len(), world.read_only), (before, read_only), "after {steps} steps");
        assert_eq!(world.record().state(), "ended");
    }
}

#[test]
fn a_target_that_no_tick_renews_counts_no_longer() {
    let mut world = World::new(None);
    fenced(&mut world);
    world.now_ms = TARGET_MAX_MS + 1;
    assert_eq!(world.machine.next(world.now_ms), Step::Rest);
    world.now_ms = TARGET_MAX_MS;
    assert_ne!(world.machine.next(world.now_ms), Step::Rest, "the control");
}

#[test]
fn an_operator_who_makes_it_writable_has_the_last_word_until_the_server_restarts() {
    let mut world = World::new(None);
    fenced(&mut world).run_ms(50);
    world.read_only = ReadOnly::No;
    world.run_ms(60_000);
    assert_eq!((world.count(&Step::SetReadOnly), world.record().state()), (1, "undone"));
    // The connection breaks, and the same server answers again.
    world.up = false;
    world.run_ms(1_100);
    world.up = true;
    world.run_ms(5_000);
    assert_eq!((world.count(&Step::SetReadOnly), world.record().state()), (1, "undone"));
    world.up = false;
    world.run_ms(1_100);
    (world.up, world.started_s) = (true, 2_000);
    world.run_ms(300);
    assert_eq!((world.count(&Step::SetReadOnly), world.record().state()), (2, "read-only"));
}

#[test]
fn a_newer_failover_away_from_a_node_that_an_operator_made_writable_counts() {
    let mut world = World::new(None);
    fenced(&mut world).run_ms(50);
    world.read_only = ReadOnly::No;
    world.run_ms(2_000);
    world.aim(Some(Target { id: "18:b".to_owned(), ..target() }));
    let step = world.machine.next(world.now_ms);
    assert_eq!(step, Step::Connect { tcp_ms: Some(200) });
    assert_eq!(world.record().state(), "waiting");
}

#[test]
fn an_agent_that_starts_anew_goes_on_where_the_last_one_was() {
    for steps in 1..9 {
        let mut first = World::new(None);
        fenced(&mut first).run_ms(steps);
        let mut second = World { machine: Machine::new(settings(), first.machine.record().cloned()), ..first };
        fenced(&mut second).run_ms(100);
        assert_eq!((second.read_only, second.record().state()), (ReadOnly::Yes, "read-only"), "after {steps}");
        assert!(!second.sessions.iter().any(|session| session.user == "app"), "after {steps}");
    }
    let mut done = World::new(None);
    fenced(&mut done).run_ms(50);
    let mut next = World { machine: Machine::new(settings(), done.machine.record().cloned()), done: vec![], ..done };
    fenced(&mut next).run_ms(5_000);
    assert_eq!(next.count(&Step::SetReadOnly) + next.count(&Step::ListSessions), 0, "{:?}", next.done);
}

/// Orchestrator tries to set a failed primary read-only too. A server that was stopped does it when it wakes.
#[test]
fn a_node_that_is_read_only_already_is_rid_of_its_clients_once() {
    let mut world = World::new(None);
    world.read_only = ReadOnly::Yes;
    fenced(&mut world).run_ms(50);
    assert_eq!((world.count(&Step::SetReadOnly), world.record().sessions_ended), (0, 2));
    assert!(world.record().found_read_only && world.record().state() == "read-only");
    world.sessions.push(Session { id: 90, user: "app".to_owned(), command: "Query".to_owned() });
    world.run_ms(5_000);
    assert_eq!(world.record().sessions_ended, 2, "whoever comes later writes nothing");
}

#[test]
fn the_primary_under_another_name_and_a_primary_that_does_not_say_who_it_is_are_left_alone() {
    for (primary, label) in [(Some(server(1)), "is-the-primary"), (None, "primary-unreached")] {
        let mut world = World::new(None);
        world.primary = primary;
        fenced(&mut world).run_ms(60_000);
        assert_eq!(world.record().failure.as_ref().unwrap().label, label);
        assert_eq!((world.read_only, world.sessions.len(), world.count(&Step::TakeLock)), (ReadOnly::No, 7, 0));
        // The control: the name leads to the old primary again, and the new one answers.
        world.primary = Some(server(2));
        world.run_ms(2_000);
        assert_eq!((world.read_only, world.record().state()), (ReadOnly::Yes, "read-only"));
    }
}

#[test]
fn where_nobody_knows_a_primary_only_an_order_or_the_barrier_makes_a_node_read_only() {
    for (kind, is_set) in
        [(EvidenceKind::LostInRecovery, false), (EvidenceKind::Manual, true), (EvidenceKind::Barrier, true)]
    {
        let mut world = World::new(None);
        let target = Target { kind, id: String::new(), primaries: BTreeSet::new() };
        for _ in 0..20 {
            world.aim(Some(target.clone()));
            let step = world.machine.next(world.now_ms);
            if let Some(reply) = world.reply(&step) {
                world.machine.take(reply, world.now_ms, 1);
            }
        }
        assert_eq!(world.read_only == ReadOnly::Yes, is_set, "{kind}");
    }
}

#[test]
fn another_agents_lock_is_waited_for_and_one_that_hangs_only_so_long() {
    let mut world = World::new(None);
    world.lock_is_free = false;
    fenced(&mut world).run_ms(4_500);
    assert_eq!(world.read_only, ReadOnly::No);
    world.run_ms(1_000);
    assert_eq!(world.read_only, ReadOnly::Yes);
    let mut world = World::new(None);
    world.lock_is_free = false;
    fenced(&mut world).run_ms(500);
    (world.read_only, world.lock_is_free) = (ReadOnly::Yes, true); // by the other agent
    world.run_ms(500);
    assert_eq!((world.count(&Step::SetReadOnly), world.record().state()), (0, "read-only"));
}

#[test]
fn a_privilege_that_is_missing_is_said_and_tried_again_and_nothing_is_begun() {
    let mut world = World::new(None);
    world.lacks = vec!["READ_ONLY ADMIN".to_owned()];
    fenced(&mut world).run_ms(20_000);
    let failure = world.record().failure.clone().unwrap();
    assert_eq!(
        (failure.label.as_str(), failure.text.as_str()),
        ("lacks-privilege", "the account lacks READ_ONLY ADMIN")
    );
    assert_eq!(world.count(&Step::TakeLock), 0);
    world.lacks.clear();
    world.run_ms(6_000);
    assert_eq!((world.record().state(), world.record().failure.clone()), ("read-only", None));
}

#[test]
fn a_session_that_the_account_may_not_end_is_told_and_not_waited_for() {
    let mut world = World::new(None);
    world.sessions.push(Session { id: 11, user: "root".to_owned(), command: "Sleep".to_owned() });
    fenced(&mut world).run_ms(100);
    let record = world.record();
    assert_eq!((record.state(), record.sessions_ended, record.sessions_refused), ("read-only", 2, 1));
    let failure = record.failure.as_ref().unwrap();
    assert_eq!(failure.label, "sessions-refused");
    assert_eq!(failure.text, "1 client sessions may not be ended by the account: access denied");
    world.run_ms(60_000);
    assert_eq!(world.count(&Step::Kill(vec![7, 8, 11])), 1);
}

#[test]
fn sessions_that_do_not_end_are_a_failure_after_ten_seconds_and_not_before() {
    let mut world = World::new(None);
    let stuck = Session { id: 77, user: "app".to_owned(), command: "Killed".to_owned() };
    fenced(&mut world);
    for _ in 0..20_000 {
        world.aim(Some(target()));
        let step = world.machine.next(world.now_ms);
        let reply = match &step {
            Step::ListSessions => Some(Reply::Sessions(vec![stuck.clone()])),
            step => world.reply(step),
        };
        if let Some(reply) = reply {
            world.now_ms += 1;
            world.machine.take(reply, world.now_ms, world.now_s());
        }
        if world.record().failure.is_some() {
            break;
        }
    }
    assert!((10_000..11_000).contains(&world.now_ms), "{}", world.now_ms);
    assert_eq!(world.record().failure.as_ref().unwrap().label, "sessions-left");
    assert_eq!(world.read_only, ReadOnly::Yes);
}

fn reply() -> impl Strategy<Value = Reply> {
    let looked = (1..4u32, 0..3i64, any::<bool>(), any::<bool>()).prop_map(|(id, start, read_only, lacks)| {
        Reply::Looked(Looked {
            server: server(id),
            started_s: start * 1_000,
            read_only: if read_only { ReadOnly::Yes } else { ReadOnly::No },
            lacks: if lacks { vec!["SUPER".to_owned()] } else { Vec::new() },
            lacks_for_some: Vec::new(),
        })
    });
    let primaries = prop::option::of((1..4u32).prop_map(server));
    prop_oneof![
        2 => primaries.prop_map(|id| Reply::Primaries(BTreeMap::from([(node("node02"), id)]))),
        4 => Just(Reply::Connected),
        1 => Just(Reply::Lost(String::new())),
        1 => Just(Reply::Denied(String::new())),
        6 => looked,
        4 => any::<bool>().prop_map(Reply::Locked),
        4 => Just(Reply::Set),
        1 => Just(Reply::SetWaits),
        4 => prop::collection::vec((0..9u64, "(app|stonith|system user)"), 0..5).prop_map(|all| {
            let session = |(id, user)| Session { id, user, command: "Query".to_owned() };
            Reply::Sessions(all.into_iter().map(session).collect())
        }),
        3 => (0..3u64, any::<bool>()).prop_map(|(ended, refuses)| {
            let refused = refuses.then(|| (7, "no".to_owned())).into_iter().collect();
            Reply::Killed { ended, refused }
        }),
        1 => Just(Reply::Refused(String::new())),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    /// Whatever comes back, in whatever order: no step without a target of late, none that changes a server which is the
    /// primary or whose lock was not asked for, and no session of a spared account is ended.
    #[test]
    fn no_step_is_given_that_is_not_allowed_now(events in prop::collection::vec(
        prop_oneof![4 => reply().prop_map(Some), 1 => Just(None)], 1..80
    ), gaps in prop::collection::vec((0..3u8, any::<bool>()), 80)) {
        let mut machine = Machine::new(settings(), None);
        let (mut now_ms, mut aimed): (u64, Option<u64>) = (0, None);
        let (mut server_now, mut primary): (Option<ServerId>, Option<ServerId>) = (None, None);
        for (event, (gap, aims)) in events.into_iter().zip(gaps) {
            now_ms += [1, 150, 11_000][usize::from(gap)];
            if matches!(machine.next(now_ms), Step::Connect { .. }) {
                (server_now, primary) = (None, None); // what an earlier connection said counts no longer
            }
            if aims {
                machine.aim(Some(target()), now_ms, 1);
                aimed = Some(now_ms);
            }
            let step = machine.next(now_ms);
            let is_current = aimed.is_some_and(|at| now_ms - at <= TARGET_MAX_MS);
            prop_assert!(is_current || step == Step::Rest, "{step:?}");
            if let Step::SetReadOnly | Step::Kill(_) | Step::TakeLock = step {
                prop_assert!(server_now.is_some() && primary.is_some() && server_now != primary, "{step:?}");
            }
            match event {
                None => {
                    machine.aim(None, now_ms, 1);
                    aimed = None;
                }
                // A reply that fits the step is taken for one to it; any other is garbage that must do no harm.
                Some(reply) => {
                    match (&step, &reply) {
                        (Step::AskPrimaries(_), Reply::Primaries(found)) => primary = found[&node("node02")].clone(),
                        (Step::Look, Reply::Looked(seen)) => server_now = Some(seen.server.clone()),
                        _ => {}
                    }
                    if !matches!(step, Step::Rest | Step::Wait { .. }) {
                        machine.take(reply, now_ms, 1);
                    }
                }
            }
        }
    }
}
