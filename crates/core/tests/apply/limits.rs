//! How often an apply tries again before it goes on, or leaves: nobody keeps it busy for ever.

use stonith_core::apply::{Outcome, Place, Statement};
use stonith_core::plan::Plan;
use stonith_core::role::Role;
use stonith_core::table::{SERVERS, Status};

use crate::apply_world::drive::{Running, points};
use crate::apply_world::scene::*;
use crate::apply_world::{PAIRS, World};

const LOOK: Statement = Statement::Read { place: Place::Memory, table: SERVERS };

/// Runs a plan to its end; somebody acts at each statement that `at` picks, before it is carried out. How often that
/// was, what was asked, and how it ended.
fn disturbed(
    world: &mut World,
    plan: Plan,
    at: impl Fn(&World, &[Statement], &Statement) -> bool,
    act: impl Fn(&mut World, usize),
) -> (usize, Vec<Statement>, Outcome) {
    let mut times = 0;
    let (asked, outcome) = Running::new(plan, "a").finish_among(world, |world, asked, next| {
        if at(world, asked, next) {
            times += 1;
            act(world, times);
        }
        None
    });
    (times, asked, outcome)
}

fn loads(asked: &[Statement]) -> usize {
    asked.iter().filter(|statement| **statement == Statement::Load).count()
}

#[test]
fn i6_memory_that_is_edited_at_each_look_holds_a_fence_up_three_times_and_puts_a_return_off() {
    for (before, directives) in
        [(SCENES[0].world().small(), fence()), (SCENES[0].fenced().small(), unfence(Role::AsBefore))]
    {
        let mut world = before.clone();
        let edits = |world: &mut World, n: usize| weigh(world, 20, "node04", &(10 + n).to_string());
        let before_load = |_: &World, asked: &[Statement], next: &Statement| *next == LOOK && loads(asked) == 0;
        let (looks, asked, outcome) = disturbed(&mut world, plan(&before, &directives), before_load, edits);
        let mut want = before.clone();
        edits(&mut want, looks);
        if directives == fence() {
            assert_eq!((looks, loads(&asked)), (4, 1));
            assert_eq!(done(&outcome).edits_kept, 4);
            assert_same(&world, &expected(&want, &fence()), "a fence goes on");
        } else {
            assert_eq!((looks, loads(&asked), outcome), (4, 0, Outcome::PutOff));
            assert_same(&world, &want, "a return can wait");
        }
    }
}

#[test]
fn i5_a_monitor_that_moves_a_row_at_each_look_holds_a_fence_up_three_times() {
    let before = SCENES[0].world().small();
    let mut world = before.clone();
    let runtime = Statement::Read { place: Place::Runtime, table: SERVERS };
    let before_load = |world: &World, asked: &[Statement], next: &Statement| {
        *next == runtime && asked.last() == Some(&LOOK) && loads(asked) == 0 && world.copies() > 0
    };
    let flaps = |world: &mut World, n: usize| match n % 2 {
        1 => world.monitor_moves("node03", 20, 10),
        _ => world.monitor_moves("node03", 10, 20),
    };
    let (moves, asked, outcome) = disturbed(&mut world, plan(&before, &fence()), before_load, flaps);
    assert_eq!((moves, loads(&asked)), (4, 1));
    done(&outcome);
    assert_same(&world, &expected(&before, &fence()), "the fourth move brought it back to the readers");
}

#[test]
fn i4_somebody_who_loads_the_node_back_after_each_of_our_loads_is_told_of_after_four() {
    let before = SCENES[0].world().small();
    let mut world = before.clone();
    let loaded = |_: &World, asked: &[Statement], _: &Statement| asked.last() == Some(&Statement::Load);
    let puts_back = |world: &mut World, _| {
        state(world, 10, "node01", Status::Online);
        world.load();
    };
    let (_, asked, outcome) = disturbed(&mut world, plan(&before, &fence()), loaded, puts_back);
    assert_eq!(loads(&asked), 4);
    assert!(done(&outcome).not_as_planned.contains(&"10/node01:3306 should be OFFLINE_SOFT".to_owned()), "{outcome:?}");
}

/// Three edits of one record within the milliseconds of three tries: the third try is the last, and what was staged in
/// that record before us is theirs to stage again.
#[test]
fn i6_a_record_that_is_edited_at_each_try_to_put_it_back_stays_as_they_left_it() {
    let before = SCENES[0].world().small();
    let mut world = before.clone();
    let puts_back = |_: &World, asked: &[Statement], next: &Statement| {
        let writes_memory = matches!(next, Statement::Swap { place: Place::Memory, .. });
        loads(asked) > 0 && writes_memory && format!("{next:?}").contains("node03")
    };
    let edits = |world: &mut World, n: usize| comment(world, 20, "node03", &format!("edit {n}"));
    let (tries, asked, outcome) = disturbed(&mut world, plan(&before, &fence()), puts_back, edits);
    assert_eq!((tries, loads(&asked)), (3, 1));
    done(&outcome);
    let mut want = before.clone();
    edits(&mut want, tries);
    weigh(&mut want, 20, "node03", "1");
    assert_same(&world, &expected(&want, &fence()), "as they left it");
}

#[test]
fn i12_copies_that_come_in_the_way_again_and_again_are_finished_three_times() {
    let before = SCENES[0].world().small();
    let pairs = |place| (place, PAIRS);
    for (most, applied) in [(3, true), (usize::MAX, false)] {
        let mut world = before.clone();
        let copies = |_: &World, asked: &[Statement], next: &Statement| {
            let before = asked.iter().filter(|statement| *statement == next).count();
            matches!(next, Statement::Copy { to: Place::Target, table, .. } if *table == PAIRS) && before < most
        };
        let late = |world: &mut World, _| {
            let content = world.tables[&pairs(Place::Runtime)].clone();
            world.tables.insert(pairs(Place::Target), content);
        };
        let (times, _, outcome) = disturbed(&mut world, plan(&before, &fence()), copies, late);
        if applied {
            assert_eq!(times, 3);
            done(&outcome);
            assert_same(&world, &expected(&before, &fence()), "finished");
        } else {
            assert_eq!((times, outcome), (4, Outcome::LostLock));
            assert_eq!(layers(&world).len(), layers(&before).len());
        }
    }
}

#[test]
fn an_apply_that_nobody_disturbs_looks_at_memory_twice() {
    let scenes = SCENES.iter().flat_map(|scene| [(scene.world(), fence()), (scene.fenced(), unfence(Role::Replica))]);
    for (before, directives) in scenes.chain([(two_staged_out(), fence())]) {
        let all = points(&before, plan(&before, &directives), "a");
        let looks = all.iter().filter(|point| point.running.asks() == Some(&LOOK)).count();
        assert_eq!(looks, 2, "before the LOAD and after it: {directives:?}");
    }
}
