//! What a drain lent of ProxySQL's variables, and an apply that finds it (I10).

use stonith_core::apply::{Reply, Statement};

use crate::apply_world::World;
use crate::apply_world::drive::Running;
use crate::apply_world::scene::*;

const STALE_MS: u64 = 3_001;

/// A world in which a drain has carried out so many of the statements that lend.
fn lent(statements: usize, extended: bool) -> World {
    let mut world = World { extended: [extended; 2], ..SCENES[0].world().small() };
    for statement in &Statement::LEND_FOR_DRAIN[..statements] {
        assert!(matches!(world.ask("the drain", statement), Reply::Changed(_)), "{statement:?}");
    }
    world
}

fn apply(world: &mut World) {
    let plan = plan(world, &fence());
    done(&Running::new(plan, "a").finish(world));
}

#[test]
fn i10_what_a_drain_lent_that_was_cut_off_at_any_statement_is_put_back_by_the_next_apply() {
    for statements in 1..=Statement::LEND_FOR_DRAIN.len() {
        for extended in [false, true] {
            let mut world = lent(statements, extended);
            world.now_ms += STALE_MS;
            assert!(world.unfinished(), "a tick sees it");
            apply(&mut world);
            let at = format!("after {statements} statements, extended {extended}");
            assert_eq!((world.drain_note, world.delay_lowered), (None, [false; 2]), "{at}");
            assert_eq!(world.extended, [extended; 2], "{at}");
        }
    }
}

#[test]
fn i6_nothing_that_was_staged_meanwhile_goes_live_and_the_lent_values_end_with_its_load() {
    let mut world = lent(4, false);
    world.now_ms += STALE_MS;
    world.variables[0] = 1;
    apply(&mut world);
    assert_eq!((world.variables, world.drain_note), ([1, 0], None));
    assert_eq!((world.delay_lowered, world.extended), ([true, false], [true, false]));
    world.ask("an operator", &Statement::LoadVariables);
    assert_eq!((world.delay_lowered, world.extended), ([false; 2], [false; 2]));
}

#[test]
fn a_drain_under_way_is_left_alone_by_an_apply() {
    let mut world = lent(4, false);
    world.now_ms += STALE_MS;
    world.ask("the drain", &Statement::RenewDrain);
    assert!(!world.unfinished());
    apply(&mut world);
    assert!(world.drain_note.is_some());
    assert_eq!((world.delay_lowered, world.extended), ([true, false], [true, false]));
}
