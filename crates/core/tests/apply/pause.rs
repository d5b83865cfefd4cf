//! A ProxySQL Cluster member is paused and resumed: who did it, and in which order (design §10).

use stonith_core::apply::{Done, Outcome, Reply, Statement};
use stonith_core::plan::{PauseAction, Plan};

use crate::apply_world::drive::{Running, load_at, points};
use crate::apply_world::scene::*;
use crate::apply_world::{Client, World};

fn world(clients: u64) -> World {
    let clients = (1..=clients).map(|id| Client::holding(id, &[(10, node("node01"))])).collect();
    World { clients, ..SCENES[0].world() }
}

/// What a tick of an isolated agent would plan now.
fn pausing(world: &World) -> Plan {
    Plan { pause: Some(PauseAction::Pause(world.pause_seen())), ..Plan::default() }
}

fn resuming() -> Plan {
    Plan { pause: Some(PauseAction::Resume), ..Plan::default() }
}

fn pause(world: &mut World, agent: &str) -> Done {
    let plan = pausing(world);
    done(&Running::new(plan, agent).finish(world)).clone()
}

fn noted(world: &World) -> Vec<&str> {
    world.pause_note.iter().flatten().map(String::as_str).collect()
}

#[test]
fn no_client_is_left_and_no_table_is_touched() {
    let mut world = world(3);
    let tables = world.tables.clone();
    let done = pause(&mut world, "a");
    assert_eq!((done.paused, done.clients_ended, done.clients_left), (true, 3, 0));
    assert_eq!((world.paused, world.clients.len(), noted(&world)), (true, 0, vec!["a"]));
    assert_eq!((world.tables, world.broken), (tables, Vec::<String>::new()));
}

#[test]
fn a_session_that_cannot_be_ended_is_said() {
    let mut world = world(2);
    let plan = pausing(&world);
    let stuck = |_: &mut World, _: &[Statement], statement: &Statement| {
        (*statement == Statement::Kill(2)).then(|| Reply::Refused("Unknown thread id: 2".to_owned()))
    };
    let outcome = Running::new(plan, "a").finish_among(&mut world, stuck).1;
    assert_eq!((world.clients.len(), done(&outcome).clients_left), (1, 1));
}

#[test]
fn i3_a_pause_by_an_operator_is_not_taken_for_the_agents() {
    let mut world = World { paused: true, ..world(2) };
    let done = pause(&mut world, "a");
    assert_eq!((done.paused, world.clients.len(), noted(&world).len()), (false, 0, 0));
    // An operator may be faster than the agent, at any of its statements before PAUSE.
    let before = self::world(2);
    let all = points(&before, pausing(&before), "a");
    let paused_at = all.iter().position(|point| point.running.asks() == Some(&Statement::PauseProxy)).unwrap();
    for mut point in all.into_iter().take(paused_at + 1) {
        point.world.paused = true;
        point.running.finish(&mut point.world);
        assert_eq!((point.world.clients.len(), noted(&point.world).len()), (0, 0), "at {}", point.k);
    }
}

#[test]
fn i10_cut_off_anywhere_the_next_tick_pauses_and_the_pause_is_known_as_the_agents() {
    let before = world(2);
    for mut point in points(&before, pausing(&before), "a") {
        // Another process of the agent has another name.
        pause(&mut point.world, "a2");
        assert!(point.world.paused && point.world.clients.is_empty(), "at {}", point.k);
        assert!(!noted(&point.world).is_empty(), "at {}", point.k);
        let outcome = Running::new(resuming(), "a2").finish(&mut point.world);
        assert!(done(&outcome).resumed && !point.world.paused && point.world.pause_note.is_none(), "at {}", point.k);
    }
}

#[test]
fn i10_a_resume_that_is_cut_off_is_finished_by_the_next_tick() {
    let mut before = world(0);
    pause(&mut before, "a");
    for mut point in points(&before, resuming(), "a") {
        if point.world.pause_seen().noted {
            Running::new(resuming(), "b").finish(&mut point.world);
        }
        assert!(!point.world.paused && point.world.pause_note.is_none(), "at {}", point.k);
    }
}

#[test]
fn two_agents_at_once_leave_one_pause_that_both_know_as_theirs() {
    let before = world(1);
    // Every order in which the second agent runs as a whole between two statements of the first.
    for mut point in points(&before, pausing(&before), "a") {
        let outcome = Running::new(pausing(&before), "b").finish(&mut point.world);
        assert!(matches!(outcome, Outcome::Applied(_)));
        point.running.finish(&mut point.world);
        assert!(point.world.paused && !noted(&point.world).is_empty(), "at {}: {:?}", point.k, point.world.pause_note);
    }
}

#[test]
fn i4_rows_are_fenced_before_clients_are_back() {
    let mut world = world(0);
    pause(&mut world, "a");
    let plan = Plan { pause: Some(PauseAction::Resume), ..plan(&world, &fence()) };
    let all = points(&world, plan.clone(), "a");
    assert!(all[..=load_at(&all)].iter().all(|point| point.world.paused));
    let end = all.last().unwrap();
    assert!(!end.world.paused && in_service(&end.world, stonith_core::apply::Place::Runtime).is_empty());
    // A fence that is refused leaves it paused.
    let refused = |_: &mut World, _: &[Statement], statement: &Statement| {
        (*statement == Statement::Load).then(|| Reply::Refused("no".to_owned()))
    };
    let outcome = Running::new(plan, "a").finish_among(&mut world, refused).1;
    assert!(matches!(outcome, Outcome::Failed { .. }) && world.paused, "{outcome:?}");
}

#[test]
fn a_pause_that_is_refused_is_said_and_sessions_end_and_rows_change_all_the_same() {
    let mut world = world(2);
    let plan = Plan { pause: Some(PauseAction::Pause(world.pause_seen())), ..plan(&world, &fence()) };
    let refused = |_: &mut World, _: &[Statement], statement: &Statement| {
        (*statement == Statement::PauseProxy).then(|| Reply::Refused("MySQL module not running".to_owned()))
    };
    let outcome = Running::new(plan, "a").finish_among(&mut world, refused).1;
    assert!(done(&outcome).pause_error.as_ref().is_some_and(|error| error.contains("not running")), "{outcome:?}");
    assert!(in_service(&world, stonith_core::apply::Place::Runtime).is_empty() && world.clients.is_empty());
}

#[test]
fn a_pause_waits_for_no_lock() {
    let mut world = World { lock: Some(("another".to_owned(), u64::MAX)), ..world(1) };
    let plan = Plan { pause: Some(PauseAction::Pause(world.pause_seen())), ..plan(&world, &fence()) };
    let outcome = Running::new(plan, "a").finish(&mut world);
    assert_eq!((outcome, world.paused), (Outcome::Busy { owner: "another".to_owned() }, true));
}
