//! An apply that is cut off after any statement, ProxySQL restarted or not, and whoever runs next (I10, I12).
//!
//! "The statement was carried out and its reply lost" is the same world as "cut off before the next one".

use std::collections::{BTreeMap, HashSet};

use stonith_core::apply::{Outcome, Place, Statement};
use stonith_core::role::Role;
use stonith_core::table::{Row, SERVERS};

use crate::apply_world::drive::{Point, Running, load_at, points};
use crate::apply_world::scene::*;
use crate::apply_world::{LAYERS, LOCK_TTL_MS, World};

/// Who runs after the crash, and what happened in between.
#[derive(Debug, Clone, Copy)]
struct After {
    other_owner: bool,
    restart: bool,
    operator_loads: bool,
}

fn afters() -> impl Iterator<Item = After> {
    (0..8).map(|bits| After { other_owner: bits & 1 > 0, restart: bits & 2 > 0, operator_loads: bits & 4 > 0 })
}

/// The world as the next run finds it.
fn crashed(point: &Point, after: After) -> World {
    let mut world = point.world.clone();
    if after.operator_loads {
        world.load();
    }
    if after.restart {
        world.restart();
    }
    if after.other_owner {
        world.now_ms += LOCK_TTL_MS + 1;
    }
    world
}

/// Runs the next tick's plan to its end, and looks after each statement.
fn run_next(world: &mut World, directives: &Directives, after: After, mut look: impl FnMut(&World)) -> Outcome {
    let mut running = Running::new(plan(world, directives), if after.other_owner { "b" } else { "a" });
    while running.outcome().is_none() {
        running.go(world);
        look(world);
    }
    running.outcome().expect("it ended").clone()
}

fn assert_finished(world: &World, directives: &Directives, want: &World, after: After, at: &str) {
    if after.operator_loads && !after.restart {
        // What was staged at that moment may have gone live, by the operator's hand; it still is in memory.
        assert_eq!(world.rows(Place::Memory), want.rows(Place::Memory), "{at}");
        assert_eq!(world.rows(Place::Disk), want.rows(Place::Disk), "{at}");
    } else {
        assert_same(world, want, at);
    }
    assert!(plan(world, directives).is_empty(), "{at}: the tick after has nothing to do");
}

fn first(points: &[Point], from: usize, wanted: impl Fn(&Statement) -> bool) -> usize {
    points.iter().skip(from).find(|point| point.running.asks().is_some_and(&wanted)).map_or(points.len(), |p| p.k)
}

fn writes_memory(statement: &Statement) -> bool {
    matches!(statement, Statement::Swap { .. } | Statement::Restate { .. }) && statement.place() == Some(Place::Memory)
}

#[test]
fn i10_a_fence_cut_off_anywhere_is_finished_by_the_next_run_and_never_undone() {
    fence_cut_off_anywhere(SCENES[..2].iter().map(|scene| (*scene, scene.world().small())));
}

#[test]
fn i10_so_is_one_where_memory_has_the_new_placement_or_runtime_has_a_ghost() {
    fence_cut_off_anywhere(SCENES[2..].iter().map(|scene| (*scene, scene.world().small())));
}

#[test]
fn i10_so_is_one_among_all_the_tables_that_a_load_covers() {
    fence_cut_off_anywhere([(SCENES[0], SCENES[0].world())]);
}

fn fence_cut_off_anywhere(worlds: impl IntoIterator<Item = (Scene, World)>) {
    for (scene, before) in worlds {
        let wants = [expected(&before, &fence()), expected(&restarted(&before), &fence())];
        let points = points(&before, plan(&before, &fence()), "a");
        let loaded = load_at(&points) + 1;
        let mut seen = HashSet::new();
        for point in &points {
            for after in afters().filter(|after| !(scene.ghost && after.operator_loads)) {
                let at = format!("{scene:?}, before {}: {:?}, {after:?}", point.k, point.running.asks());
                let mut world = crashed(point, after);
                if !seen.insert((world.clone(), point.k >= loaded, after.other_owner)) {
                    continue; // a read in between changes nothing
                }
                let fenced = point.k >= loaded;
                let look = |world: &World| {
                    assert!(!fenced || in_service(world, Place::Runtime).is_empty(), "{at}: back in service");
                };
                look(&world);
                if !plan(&world, &fence()).is_empty() {
                    let outcome = run_next(&mut world, &fence(), after, look);
                    assert_eq!(done(&outcome).not_as_planned, Vec::<String>::new(), "{at}");
                }
                assert_finished(&world, &fence(), &wants[usize::from(after.restart)], after, &at);
                for place in LAYERS {
                    assert_eq!(in_service(&world, place), vec![], "{at}: {place:?}");
                }
            }
        }
    }
}

/// Whoever tried whether tables can be made died before the table was dropped.
#[test]
fn i10_a_scratch_table_that_somebody_left_is_dropped_by_the_next_run() {
    let mut world = World { scratch: true, lock: Some(("dead".to_owned(), 0)), ..SCENES[0].world().small() };
    let want = expected(&world, &BTreeMap::new());
    assert!(world.unfinished() && !plan(&world, &BTreeMap::new()).is_empty());
    let outcome = Running::new(plan(&world, &BTreeMap::new()), "b").finish(&mut world);
    assert!(done(&outcome).finished_earlier);
    assert_same(&world, &want, "dropped");
    assert!(plan(&world, &BTreeMap::new()).is_empty());
}

#[test]
fn i5_an_operators_load_at_any_moment_of_a_fence_leaves_the_new_primary_its_writer_row() {
    for scene in SCENES {
        let before = scene.world();
        let points = points(&before, plan(&before, &fence()), "a");
        let load = load_at(&points);
        let back = first(&points, load, writes_memory);
        for point in &points {
            let mut world = point.world.clone();
            world.load();
            // Where memory never had the new placement, an operator's LOAD demotes it as it would without us.
            if scene.placement_in_memory || (load..=back).contains(&point.k) {
                assert!(world.row(Place::Runtime, 10, "node02").is_some(), "{scene:?} before {}", point.k);
            }
            assert!(world.live().iter().any(|row| row.key.hostgroup.0 == 20), "{scene:?} before {}", point.k);
        }
    }
}

/// A return that was cut off: what disk says is what a restart brings, so disk comes last.
#[test]
fn i10_a_return_cut_off_anywhere_is_finished_and_a_restart_finds_the_node_fenced_or_returned() {
    return_cut_off_anywhere(&[(SCENES[0], Role::AsBefore), (SCENES[0], Role::Replica)]);
}

#[test]
fn i10_so_is_one_where_writers_are_readers() {
    return_cut_off_anywhere(&[(SCENES[1], Role::Primary), (SCENES[1], Role::Replica)]);
}

fn return_cut_off_anywhere(cases: &[(Scene, Role)]) {
    for (scene, role) in cases.iter().copied() {
        let before = scene.fenced().small();
        let directives = unfence(role);
        let wants = [expected(&before, &directives), expected(&restarted(&before), &directives)];
        let fenced = restarted(&before).rows(Place::Runtime);
        let returned = wants[1].rows(Place::Runtime);
        let mut seen = HashSet::new();
        for point in points(&before, plan(&before, &directives), "a") {
            for after in afters() {
                let at = format!("{scene:?}, {role:?}, before {}: {:?}, {after:?}", point.k, point.running.asks());
                let mut world = crashed(&point, after);
                if !seen.insert((world.clone(), after.other_owner)) {
                    continue; // a read in between changes nothing
                }
                if after.restart {
                    let proper = |row: &Row| fenced.contains(row) || returned.contains(row);
                    assert!(world.rows(Place::Runtime).iter().all(proper), "{at}: {:?}", world.rows(Place::Runtime));
                }
                if !plan(&world, &directives).is_empty() {
                    let outcome = run_next(&mut world, &directives, after, |_| {});
                    assert_eq!(done(&outcome).not_as_planned, Vec::<String>::new(), "{at}");
                }
                assert_finished(&world, &directives, &wants[usize::from(after.restart)], after, &at);
            }
        }
    }
}

/// A restart brings back what disk says (design §8.9).
#[test]
fn i10_a_return_is_written_to_disk_last() {
    for (scene, role) in [(SCENES[0], Role::AsBefore), (SCENES[0], Role::Replica), (SCENES[1], Role::Primary)] {
        let before = scene.fenced().small();
        let is_back = |point: &Point, place| !in_service(&point.world, place).is_empty();
        let mut live_alone = 0;
        for point in points(&before, plan(&before, &unfence(role)), "a") {
            let (live, saved) = (is_back(&point, Place::Runtime), is_back(&point, Place::Disk));
            assert!(live || !saved, "{scene:?}, {role:?}, before {}: {:?}", point.k, point.running.asks());
            live_alone += usize::from(live && !saved);
        }
        assert!(live_alone > 0 && !in_service(&expected(&before, &unfence(role)), Place::Disk).is_empty(), "{scene:?}");
    }
}

/// Whoever comes next may hold no proof: what the leader said is gone with the agent. The journal tells a return that
/// is live from a fence that was cut off, so the node stays where it is.
#[test]
fn i10_a_return_that_is_live_is_finished_by_a_run_that_knows_nothing_of_it() {
    for (scene, role) in [(SCENES[0], Role::Replica), (SCENES[1], Role::Primary), (SCENES[1], Role::AsBefore)] {
        let before = scene.fenced().small();
        let want = expected(&before, &unfence(role));
        let (mut finished, mut left_fenced) = (0, 0);
        for point in points(&before, plan(&before, &unfence(role)), "a") {
            let at = format!("{scene:?}, {role:?}, before {}: {:?}", point.k, point.running.asks());
            let mut world = point.world.clone();
            world.now_ms += LOCK_TTL_MS + 1;
            let is_back = !in_service(&world, Place::Runtime).is_empty();
            // What a tick plans for it: nothing where it is back, the fence where it is not.
            let directives = if is_back { BTreeMap::new() } else { fence() };
            if !plan(&world, &directives).is_empty() {
                let mut running = Running::new(plan(&world, &directives), "b");
                while running.outcome().is_none() {
                    running.go(&mut world);
                    assert_eq!(!in_service(&world, Place::Runtime).is_empty(), is_back, "{at}");
                }
                done(running.outcome().unwrap());
            }
            finished += usize::from(is_back);
            left_fenced += usize::from(!is_back);
            assert_same(&world, if is_back { &want } else { &before }, &at);
            assert!(plan(&world, &directives).is_empty(), "{at}: the tick after has nothing to do");
        }
        assert!(finished > 5 && left_fenced > 5, "{finished} {left_fenced}");
    }
}

/// Record by record they can't be compared: memory stays as it was found.
#[test]
fn i10_copies_with_other_columns_than_memory_are_not_put_back() {
    let before = SCENES[0].world().small();
    let all = points(&before, plan(&before, &fence()), "a");
    let cut_off = &all[load_at(&all)].world;
    for place in [Place::Kept, Place::Target] {
        let mut world = cut_off.clone();
        world.content_mut(place, SERVERS).columns[4] = "load_balancing_weight".to_owned();
        world.now_ms += LOCK_TTL_MS + 1;
        done(&Running::new(plan(&world, &fence()), "b").finish(&mut world));
        assert_eq!(world.rows(Place::Memory), cut_off.rows(Place::Memory), "{place:?}");
        assert_eq!((in_service(&world, Place::Runtime), world.copies()), (vec![], 0), "{place:?}");
    }
}

fn restarted(world: &World) -> World {
    let mut world = world.clone();
    world.restart();
    world
}

/// ProxySQL did not answer our LOAD in time and carries it out later, at any statement of the next apply or after it (C11):
/// it loads what memory is then.
#[test]
fn i10_a_load_that_runs_after_it_was_given_up_leaves_the_fence_in_force() {
    let by_fence = (SCENES[0].world().small(), fence());
    let by_return = (SCENES[0].fenced().small(), unfence(Role::AsBefore));
    for (before, directives) in [by_fence, by_return] {
        let first = points(&before, plan(&before, &directives), "a");
        let given_up = first[load_at(&first)].world.clone();
        let want = expected(&before, &fence());
        let next = points(&given_up, plan(&given_up, &fence()), "a");
        let mut took_staged_live = 0;
        for point in next {
            let at = format!("{directives:?}, the LOAD runs before {}: {:?}", point.k, point.running.asks());
            let (mut world, mut running) = (point.world.clone(), point.running.clone());
            world.load();
            done(&running.finish(&mut world));
            let weight = world.row(Place::Runtime, 20, "node03").map(|row| row.settings["weight"].clone());
            took_staged_live += usize::from(weight.as_deref() == Some("5"));
            let left = plan(&world, &fence());
            if !left.is_empty() {
                done(&Running::new(left, "a").finish(&mut world));
            }
            assert_eq!(in_service(&world, Place::Runtime), vec![], "{at}");
            assert_eq!(world.rows(Place::Memory), want.rows(Place::Memory), "{at}");
            assert_eq!(in_service(&world, Place::Disk), vec![], "{at}");
            assert_eq!((world.copies(), world.lock.clone()), (0, None), "{at}");
        }
        assert!(took_staged_live > 0, "once memory is put back it takes what is staged along (docs/correctness.md)");
    }
}
