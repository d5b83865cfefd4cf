//! A statement that ProxySQL refuses (I10).

use std::collections::BTreeMap;

use stonith_core::apply::{Outcome, Place, Reply, Statement};
use stonith_core::plan::Directive;
use stonith_core::role::Role;
use stonith_core::table::COVERED;

use crate::apply_world::drive::{Running, load_at, points};
use crate::apply_world::scene::*;
use crate::apply_world::{LOCK_TTL_MS, PAIRS, World};

#[test]
fn i10_a_refused_statement_leaves_the_fence_no_worse_and_memory_put_back() {
    for (before, directives) in
        [(SCENES[0].world().small(), fence()), (SCENES[1].fenced().small(), unfence(Role::AsBefore))]
    {
        let done_world = expected(&before, &directives);
        let all = points(&before, plan(&before, &directives), "a");
        let load = load_at(&all);
        for point in &all[..all.len() - 1] {
            let statement = point.running.asks().unwrap().clone();
            let at = format!("{directives:?}: refused {}: {statement:?}", point.k);
            let (mut world, mut running) = (point.world.clone(), point.running.clone());
            running.refuse("ProxySQL Admin Error: attempt to write a readonly database");
            let outcome = running.finish(&mut world);
            // Disk, a session that ended by itself, and ProxySQL's count of LOADs do not stop an apply.
            let version = matches!(&statement, Statement::Read { table, .. } if !COVERED.contains(table));
            let version = version || statement.is_about_saves();
            let disk = statement.place() == Some(Place::Disk);
            if disk || version || matches!(statement, Statement::Kill(_)) {
                assert_eq!(done(&outcome).disk_error.is_some(), disk, "{at}");
            } else {
                assert!(
                    matches!(&outcome, Outcome::Failed { error, .. } if error.contains("readonly")),
                    "{at}: {outcome:?}"
                );
            }
            assert_eq!(world.broken, Vec::<String>::new(), "{at}");
            if !matches!(statement, Statement::DropLock { .. }) {
                assert_eq!(world.lock, None, "{at}: the lock is left");
            }
            if point.k > load {
                assert_eq!(in_service(&world, Place::Runtime), in_service(&done_world, Place::Runtime), "{at}");
            }
            let staged = |world: &World| {
                let others = world.rows(Place::Memory).into_iter().filter(|row| row.node() != Some(node("node01")));
                (others.collect::<Vec<_>>(), world.content(Place::Memory, PAIRS).clone())
            };
            assert_eq!(staged(&world), staged(&before), "{at}: memory was not put back");
            // Where runtime still has the node fenced, neither a LOAD nor a restart brings it back.
            if directives != fence() && in_service(&world, Place::Runtime).is_empty() {
                assert_eq!(in_service(&world, Place::Memory), vec![], "{at}");
                assert_eq!(in_service(&world, Place::Disk), vec![], "{at}");
            }
            for _ in 0..2 {
                if !plan(&world, &directives).is_empty() {
                    world.now_ms += LOCK_TTL_MS + 1;
                    Running::new(plan(&world, &directives), "b").finish(&mut world);
                }
            }
            assert_same(&world, &done_world, &at);
        }
    }
}

/// From statement k on ProxySQL refuses everything: what is in the copies is put back by whoever comes next.
#[test]
fn i10_when_everything_is_refused_from_a_point_on_a_later_run_finishes() {
    for (before, directives) in
        [(SCENES[0].world().small(), fence()), (SCENES[1].fenced().small(), unfence(Role::Replica))]
    {
        let want = expected(&before, &directives);
        for point in points(&before, plan(&before, &directives), "a") {
            let (mut world, mut running) = (point.world.clone(), point.running.clone());
            let mut refusals = 0;
            while running.outcome().is_none() {
                running.refuse("database or disk is full");
                refusals += 1;
                assert!(refusals < 100, "goes on for ever");
            }
            world.now_ms += LOCK_TTL_MS + 1;
            for _ in 0..2 {
                if !plan(&world, &directives).is_empty() {
                    Running::new(plan(&world, &directives), "b").finish(&mut world);
                }
            }
            assert_same(&world, &want, &format!("{directives:?} from {}: {:?}", point.k, point.running.asks()));
        }
    }
}

/// Runs while the disk takes no write.
fn run_on_a_full_disk(world: &mut World, directives: &Directives) {
    let refuses = |_: &mut World, _: &[Statement], next: &Statement| {
        let writes = matches!(next, Statement::Swap { .. } | Statement::Restate { .. });
        (writes && next.place() == Some(Place::Disk)).then(|| Reply::Refused("database or disk is full".to_owned()))
    };
    let (_, outcome) = Running::new(plan(world, directives), "a").finish_among(world, refuses);
    assert_eq!(done(&outcome).disk_error.as_deref(), Some("database or disk is full"));
}

/// ProxySQL's disk is full: a return stands, its note stays, and every run tries again until there is room. A fence of
/// that node meanwhile is a fence: its note goes.
#[test]
fn i10_a_return_that_the_disk_refuses_stands_and_reaches_the_disk_once_it_can() {
    let before = SCENES[1].fenced().small();
    let want = expected(&before, &unfence(Role::Replica));
    let mut world = before.clone();
    run_on_a_full_disk(&mut world, &unfence(Role::Replica));
    for _ in 0..3 {
        assert!(!in_service(&world, Place::Runtime).is_empty());
        assert_eq!(world.rows(Place::Disk), before.rows(Place::Disk));
        run_on_a_full_disk(&mut world, &BTreeMap::new());
    }
    let mut roomy = world.clone();
    Running::new(plan(&roomy, &BTreeMap::new()), "b").finish(&mut roomy);
    assert_same(&roomy, &want, "once there is room");

    run_on_a_full_disk(&mut world, &fence());
    assert_eq!((in_service(&world, Place::Runtime), world.returns.clone()), (vec![], None));
}

#[test]
fn i10_a_second_return_on_a_full_disk_is_noted_beside_the_first() {
    let fenced = SCENES[1].fenced().small();
    let before = expected(&fenced, &second_writer("node03", "node02"));
    let second = BTreeMap::from([(node("node03"), Directive::Unfence(Role::AsBefore))]);
    let mut world = before.clone();
    run_on_a_full_disk(&mut world, &unfence(Role::Replica));
    run_on_a_full_disk(&mut world, &second);
    let noted = BTreeMap::from([(node("node01"), Role::Replica), (node("node03"), Role::AsBefore)]);
    assert_eq!(world.returns, Some(noted));
    Running::new(plan(&world, &BTreeMap::new()), "b").finish(&mut world);
    assert_same(&world, &expected(&expected(&before, &unfence(Role::Replica)), &second), "once there is room");
}

/// The same while an earlier apply is being finished: its copies are all that is left of the staged edits.
#[test]
fn i10_a_run_that_fails_while_it_finishes_an_earlier_one_leaves_the_copies_until_memory_is_put_back() {
    let before = SCENES[0].world().small();
    let want = expected(&before, &fence());
    let all = points(&before, plan(&before, &fence()), "a");
    let mut cut_off = all[load_at(&all)].world.clone();
    cut_off.now_ms += LOCK_TTL_MS + 1;
    for point in points(&cut_off, plan(&cut_off, &fence()), "b") {
        let (mut world, mut running) = (point.world.clone(), point.running.clone());
        if running.outcome().is_none() {
            running.refuse("ProxySQL Admin Error: attempt to write a readonly database");
            running.finish(&mut world);
        }
        world.now_ms += LOCK_TTL_MS + 1;
        for _ in 0..2 {
            if !plan(&world, &fence()).is_empty() {
                Running::new(plan(&world, &fence()), "c").finish(&mut world);
            }
        }
        assert_same(&world, &want, &format!("refused {}: {:?}", point.k, point.running.asks()));
    }
}
