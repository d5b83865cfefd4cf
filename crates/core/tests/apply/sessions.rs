//! Which sessions a fence ends, and which it leaves alone (facts §4).

use std::collections::{BTreeMap, BTreeSet};

use stonith_core::apply::{Done, Outcome, Place, Reply, Statement};
use stonith_core::plan::{Directive, Plan};
use stonith_core::role::Role;
use stonith_core::table::Hostgroup;

use crate::apply_world::drive::{Running, points};
use crate::apply_world::scene::*;
use crate::apply_world::{Client, World};

fn client(id: u64, holds: &[(u32, &str)]) -> Client {
    let holds: Vec<_> = holds.iter().map(|(hostgroup, name)| (*hostgroup, node(name))).collect();
    Client::holding(id, &holds)
}

/// Of another cluster, whose hostgroups are 11 and 21.
fn of_another_cluster(id: u64) -> Client {
    Client { home: 11, ..client(id, &[(11, "node12"), (21, "node07")]) }
}

/// node01's one pinned session, now among the readers, where the processlist does not show what else it holds.
fn hidden(id: u64) -> Client {
    client(id, &[(10, "node01"), (20, "node03")])
}

/// Other people's: on the new primary, on a replica, idle on neither, of another cluster.
fn others() -> Vec<Client> {
    let idle = |id, hostgroup| Client { hostgroup, ..client(id, &[]) };
    vec![
        client(10, &[(10, "node02")]),
        client(11, &[(20, "node03"), (10, "node02")]),
        idle(12, 10),
        of_another_cluster(13),
    ]
}

fn world(clients: impl IntoIterator<Item = Client>, extended: bool) -> World {
    World { clients: clients.into_iter().collect(), extended: [extended; 2], ..SCENES[0].world() }
}

/// The sessions that a fence ended.
fn run(world: &mut World, plan: Plan) -> (Vec<u64>, Vec<Statement>, Done) {
    let (asked, outcome) = Running::new(plan, "a").finish_among(world, |_, _, _| None);
    let ended = asked.iter().filter_map(|statement| match statement {
        Statement::Kill(id) => Some(*id),
        _ => None,
    });
    let ended: BTreeSet<u64> = ended.collect();
    assert_eq!((world.extended_note, world.variables), (false, [world.variables[0], 0]), "nobody's variable went live");
    (ended.into_iter().collect(), asked, done(&outcome).clone())
}

fn fenced(world: &mut World) -> (Vec<u64>, Vec<Statement>, Done) {
    let plan = plan(world, &fence());
    run(world, plan)
}

#[test]
fn i4_only_sessions_that_hold_the_node_are_ended_whether_listed_or_hidden() {
    for extended in [false, true] {
        let mut world = world([client(1, &[(10, "node01")]), hidden(2)].into_iter().chain(others()), extended);
        let (ended, _, done) = fenced(&mut world);
        assert_eq!(ended, [1, 2], "extended {extended}");
        assert_eq!((done.sessions_ended, done.possible_ended, done.sessions_left), (2, 0, BTreeSet::new()));
        assert_eq!(world.clients.len(), others().len());
        assert_eq!(world.extended, [extended; 2], "the variable is as it was");
        assert_eq!(world.ended, None);
    }
}

#[test]
fn i4_a_listed_session_is_ended_without_a_look_at_the_extended_processlist() {
    let mut world = world([client(1, &[(10, "node01")])].into_iter().chain(others()), false);
    let (ended, asked, _) = fenced(&mut world);
    assert_eq!(ended, [1]);
    assert!(!asked.contains(&Statement::LoadVariables) && !asked.contains(&Statement::Variables));
}

/// Pinned sessions of the new primary live on (I5): the extended processlist names it by an address.
#[test]
fn i5_a_hidden_session_of_another_server_of_the_hostgroup_lives_on() {
    let new_primary = client(3, &[(10, "node02"), (20, "node03")]);
    let mut world = world([hidden(2), new_primary].into_iter().chain(others()), false);
    let (ended, ..) = fenced(&mut world);
    assert_eq!(ended, [2], "10 and 11 show which address node02 has");
}

#[test]
fn i6_a_staged_variable_is_not_loaded_and_the_last_resort_keeps_to_the_pair() {
    let busy = Client { busy: true, ..hidden(5) };
    let mut world = world([hidden(2), busy].into_iter().chain(others()), false);
    world.variables = [1, 0];
    let (ended, asked, done) = fenced(&mut world);
    // 12 is in hostgroup 10, where a connection would show; 10 and 11 are there too; 13 is of another pair.
    assert_eq!(ended, [2], "idle, among the readers of the pair");
    assert_eq!((done.possible_ended, done.sessions_left), (1, BTreeSet::from([node("node01")])));
    assert!(!asked.contains(&Statement::LoadVariables));
}

#[test]
fn the_last_resort_can_be_switched_off() {
    let mut world = world([hidden(2)].into_iter().chain(others()), false);
    world.variables = [1, 0];
    let plan = Plan { end_possible_holders: false, ..plan(&world, &fence()) };
    let (ended, _, done) = run(&mut world, plan);
    assert_eq!((ended, done.sessions_left), (vec![], BTreeSet::from([node("node01")])));
}

#[test]
fn i4_what_is_left_is_told_and_not_gone_through_again_but_who_shows_up_is_ended() {
    let mut world = world([Client { busy: true, ..hidden(5) }].into_iter().chain(others()), false);
    world.variables = [1, 0];
    fenced(&mut world);
    assert_eq!(world.ended, Some(BTreeSet::from([node("node01")])));
    let idle = |id| Client { hostgroup: 20, ..client(id, &[]) };
    world.clients.push(idle(20));
    for _ in 0..3 {
        let (ended, asked, done) = fenced(&mut world);
        assert_eq!((ended, done.possible_ended), (vec![], 0));
        assert_eq!(done.sessions_left, BTreeSet::from([node("node01")]));
        assert!(!asked.contains(&Statement::Variables) && !asked.contains(&Statement::Load), "{asked:?}");
        assert!(!asked.iter().any(|statement| matches!(statement, Statement::Wait(_))), "it does not wait either");
    }
    world.clients[0].hostgroup = 10; // it writes
    assert_eq!(fenced(&mut world).0, [5]);
    assert_eq!(world.ended, None, "nothing is left: forgotten");
}

#[test]
fn i4_a_node_that_is_fenced_anew_is_looked_after_anew() {
    let mut world = world([Client { busy: true, ..hidden(5) }], false);
    world.variables = [1, 0];
    fenced(&mut world);
    let plan = plan(&world, &unfence(Role::AsBefore));
    run(&mut world, plan);
    assert_eq!(world.ended, None);
    world.clients[0].busy = false;
    assert_eq!(fenced(&mut world).0, [5]);
}

/// Whatever the moment: the variable is off again, or its note is there for the next run, and nothing else went live.
#[test]
fn i10_cut_off_at_any_statement_the_variable_is_off_after_the_next_run() {
    let before = world([hidden(2)].into_iter().chain(others()), false).small();
    for point in points(&before, plan(&before, &fence()), "a") {
        for staged in [0, 1] {
            let mut world = point.world.clone();
            world.variables[0] = staged;
            let next = plan(&world, &fence());
            if !next.is_empty() {
                done(&Running::new(next, "a").finish(&mut world));
            }
            let at = format!("before {:?}, {staged} staged", point.running.asks());
            assert_eq!((world.extended_note, world.variables), (false, [staged, 0]), "{at}");
            // What somebody staged meanwhile goes live with their LOAD, and this one goes off with it.
            assert!(!world.extended[1] && (staged == 1 || !world.extended[0]), "{at}");
        }
    }
}

#[test]
fn i6_a_variable_that_is_staged_while_holders_are_shown_is_not_loaded_and_that_is_said() {
    let mut world = world([hidden(2)].into_iter().chain(others()), false);
    let plan = plan(&world, &fence());
    let (_, outcome) = Running::new(plan, "a").finish_among(&mut world, |world, asked, _| {
        if asked.last() == Some(&Statement::LoadVariables) {
            world.variables[0] = 1;
        }
        None
    });
    assert!(done(&outcome).extended_left);
    assert_eq!((world.variables, world.extended, world.extended_note), ([1, 0], [true, false], false));
}

/// Memory is an operator's again before sessions are waited for (C2).
#[test]
fn i6_memory_is_put_back_before_sessions_are_ended() {
    let mut world = world([client(1, &[(10, "node01")]), hidden(2)], false);
    let plan = plan(&world, &fence());
    let (_, outcome) = Running::new(plan, "a").finish_among(&mut world, |world, _, next| {
        if matches!(next, Statement::Used | Statement::Kill(_) | Statement::Wait(_)) {
            assert_eq!(world.copies(), 0, "{next:?}");
            assert!(world.row(Place::Memory, 20, "node10").is_some(), "what is staged is there");
        }
        None
    });
    done(&outcome);
}

#[test]
fn i4_sessions_that_are_left_are_ended_without_a_load_and_only_where_the_level_says_so() {
    let mut world = SCENES[0].fenced();
    world.clients.push(client(9, &[(10, "node01")]));
    let (ended, asked, _) = fenced(&mut world);
    assert_eq!(ended, [9]);
    assert!(!asked.iter().any(|s| matches!(
        s,
        Statement::Load | Statement::Swap { .. } | Statement::Copy { .. } | Statement::Drop { .. }
    )));

    let soft: Directives = fence()
        .into_iter()
        .map(|(node, directive)| match directive {
            Directive::Fence { kind, by, .. } => (node, Directive::Fence { kind, by, sessions: false }),
            other => (node, other),
        })
        .collect::<BTreeMap<_, _>>();
    let mut world = SCENES[0].world();
    let plan = plan(&world, &soft);
    assert_eq!(run(&mut world, plan).0, Vec::<u64>::new());
}

#[test]
fn i4_a_node_whose_count_of_connections_is_0_has_no_session_to_end() {
    let mut world = SCENES[0].world();
    let none_used = |_: &mut World, _: &[Statement], next: &Statement| {
        (*next == Statement::Used).then(|| Reply::Used(BTreeMap::from([((Hostgroup(10), node("node01")), 0)])))
    };
    let (asked, outcome) = Running::new(plan(&world, &fence()), "a").finish_among(&mut world, none_used);
    assert!(!asked.iter().any(|statement| matches!(statement, Statement::Kill(_))));
    assert!(matches!(outcome, Outcome::Applied(done) if done.sessions_left.is_empty()));
}
