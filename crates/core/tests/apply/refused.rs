//! A statement that ProxySQL refuses, and two appliers at once (I10, I12).

use std::collections::{BTreeMap, HashSet, VecDeque};

use stonith_core::apply::{Outcome, Place, Statement};
use stonith_core::proof::Role;
use stonith_core::table::COVERED;

use crate::apply_world::drive::{Running, points};
use crate::apply_world::scene::*;
use crate::apply_world::{LOCK_TTL_MS, PAIRS, World};

#[test]
fn i10_a_refused_statement_leaves_the_fence_no_worse_and_memory_put_back() {
    for (before, directives) in
        [(SCENES[0].world().small(), fence()), (SCENES[1].fenced().small(), unfence(Role::AsBefore))]
    {
        let done_world = expected(&before, &directives);
        let all = points(&before, plan(&before, &directives), "a");
        let load = all.iter().find(|point| point.running.asks() == Some(&Statement::Load)).unwrap().k;
        for point in &all[..all.len() - 1] {
            let statement = point.running.asks().unwrap().clone();
            let at = format!("{directives:?}: refused {}: {statement:?}", point.k);
            let (mut world, mut running) = (point.world.clone(), point.running.clone());
            running.refuse("ProxySQL Admin Error: attempt to write a readonly database");
            let outcome = running.finish(&mut world);
            match &outcome {
                Outcome::Failed { error, .. } => assert!(error.contains("readonly"), "{at}"),
                // Disk, a session that ended by itself, and ProxySQL's count of LOADs do not stop an apply.
                Outcome::Applied(_) => {
                    let version = matches!(&statement, Statement::Read { table, .. } if !COVERED.contains(table));
                    let disk = statement.place() == Some(Place::Disk);
                    assert!(disk || version || matches!(statement, Statement::Kill(_)), "{at}");
                    assert_eq!(done(&outcome).disk_error.is_some(), disk, "{at}");
                }
                other => panic!("{at}: {other:?}"),
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

/// ProxySQL's disk is full: a return stands, its note stays, and every run tries again until there is room. A fence of
/// that node meanwhile is a fence: its note goes.
#[test]
fn i10_a_return_that_the_disk_refuses_stands_and_reaches_the_disk_once_it_can() {
    let refuses_disk = |world: &mut World, directives: &Directives| {
        let mut running = Running::new(plan(world, directives), "a");
        while let Some(statement) = running.asks() {
            let writes = matches!(statement, Statement::Swap { .. } | Statement::Restate { .. });
            match writes && statement.place() == Some(Place::Disk) {
                true => running.refuse("database or disk is full"),
                false => running.go(world),
            }
        }
        assert_eq!(done(running.outcome().unwrap()).disk_error.as_deref(), Some("database or disk is full"));
    };
    let before = SCENES[1].fenced().small();
    let want = expected(&before, &unfence(Role::Replica));
    let mut world = before.clone();
    refuses_disk(&mut world, &unfence(Role::Replica));
    for _ in 0..3 {
        assert!(!in_service(&world, Place::Runtime).is_empty());
        assert_eq!(world.rows(Place::Disk), before.rows(Place::Disk));
        refuses_disk(&mut world, &BTreeMap::new());
    }
    let mut roomy = world.clone();
    Running::new(plan(&roomy, &BTreeMap::new()), "b").finish(&mut roomy);
    assert_same(&roomy, &want, "once there is room");

    refuses_disk(&mut world, &fence());
    assert_eq!((in_service(&world, Place::Runtime), world.returns.clone()), (vec![], None));
}

/// The same while an earlier apply is being finished: its copies are all that is left of the staged edits.
#[test]
fn i10_a_run_that_fails_while_it_finishes_an_earlier_one_leaves_the_copies_until_memory_is_put_back() {
    let before = SCENES[0].world().small();
    let want = expected(&before, &fence());
    let all = points(&before, plan(&before, &fence()), "a");
    let load = all.iter().find(|point| point.running.asks() == Some(&Statement::Load)).unwrap();
    let mut cut_off = load.world.clone();
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

/// Every interleaving of two appliers, to the end: the states are few, since one of them waits.
#[test]
fn i12_of_two_appliers_in_any_interleaving_one_works_and_the_other_leaves() {
    let before = SCENES[0].world().small();
    let want = expected(&before, &fence());
    let start = |owner| Running::new(plan(&before, &fence()), owner);
    let mut todo = VecDeque::from([(before.clone(), start("a"), start("b"))]);
    let mut seen = HashSet::new();
    let (mut ends, mut left) = (0, 0);
    while let Some((world, a, b)) = todo.pop_back() {
        if !seen.insert((world.clone(), a.clone(), b.clone())) {
            continue;
        }
        assert_eq!(world.broken, Vec::<String>::new(), "{:?} {:?}", a.asks(), b.asks());
        if let (Some(of_a), Some(of_b)) = (a.outcome(), b.outcome()) {
            assert_same(&world, &want, "both ended");
            ends += 1;
            left += usize::from([of_a, of_b].iter().any(|outcome| matches!(outcome, Outcome::Busy { .. })));
            assert!([of_a, of_b].iter().any(|outcome| matches!(outcome, Outcome::Applied(_))));
            continue;
        }
        if a.outcome().is_none() {
            let (mut world, mut a) = (world.clone(), a.clone());
            a.go(&mut world);
            todo.push_back((world, a, b.clone()));
        }
        if b.outcome().is_none() {
            let (mut world, mut b) = (world.clone(), b.clone());
            b.go(&mut world);
            todo.push_back((world, a, b));
        }
    }
    assert!(ends > 0 && left > 0 && seen.len() > 200, "{ends} {left} {}", seen.len());
}

/// A copy that was on its way when A lost its lock arrives after B has looked: B takes it for an earlier apply's.
#[test]
fn i12_a_copy_that_another_made_meanwhile_is_finished_like_an_earlier_applys() {
    let before = SCENES[0].world().small();
    let all = points(&before, plan(&before, &fence()), "a");
    let copies = |running: &Running| matches!(running.asks(), Some(Statement::Copy { .. }));
    for point in all.iter().filter(|point| copies(&point.running)) {
        let (mut world, mut a) = (point.world.clone(), point.running.clone());
        world.now_ms += LOCK_TTL_MS + 1;
        let mut b = Running::new(plan(&world, &fence()), "b");
        while !copies(&b) && b.outcome().is_none() {
            b.go(&mut world);
        }
        a.go(&mut world);
        world.broken.clear(); // it was sent while the lock was A's
        let outcome = b.finish(&mut world);
        assert!(matches!(outcome, Outcome::Applied(_)), "at {}: {outcome:?}", point.k);
        assert_same(&world, &expected(&before, &fence()), &format!("at {}", point.k));
    }
}

/// A stalls for longer than its lock is honoured, B does the work, A goes on to its next renewal. (In between the
/// driver keeps A from writing: it hands out nothing later than 20 s after the start, 10 s before a lock runs out.)
#[test]
fn i12_one_that_stalled_past_its_lock_sees_that_it_lost_it_and_touches_nothing() {
    let before = SCENES[0].world().small();
    let want = expected(&before, &fence());
    let all = points(&before, plan(&before, &fence()), "a");
    let mut lost = 0;
    for point in &all {
        let asks = all[point.k..].iter().filter_map(|point| point.running.asks());
        let next = asks.clone().find(|s| !matches!(s, Statement::Read { .. } | Statement::Names));
        if !matches!(next, Some(Statement::RenewLock { .. })) {
            continue;
        }
        let at = format!("stalled before {}: {:?}", point.k, point.running.asks());
        let (mut world, mut a) = (point.world.clone(), point.running.clone());
        world.now_ms += LOCK_TTL_MS + 1;
        done(&Running::new(plan(&world, &fence()), "b").finish(&mut world));
        // In the midst of B's next apply, so that B's lock and copies are there for A to spoil.
        let mut c = Running::new(plan(&before, &fence()), "c");
        while world.copies() < 4 {
            c.go(&mut world);
        }
        let found = world.clone();
        assert_eq!(a.finish(&mut world), Outcome::LostLock, "{at}");
        assert_eq!(world, found, "{at}");
        c.finish(&mut world);
        assert_same(&world, &want, &at);
        lost += 1;
    }
    assert!(lost >= 3, "{lost}");
}

/// Copies that somebody who lost the lock made late are in the way of ours: they are finished, not waited for.
#[test]
fn i12_late_copies_of_another_are_finished_and_do_not_stop_a_fence() {
    let before = SCENES[0].world().small();
    let want = expected(&before, &fence());
    let copies = [(Place::Runtime, Place::Target), (Place::Memory, Place::Kept)];
    for (point, (from, to)) in
        points(&before, plan(&before, &fence()), "a").into_iter().flat_map(|p| copies.map(|c| (p.clone(), c)))
    {
        let at = format!("{to:?} before {}: {:?}", point.k, point.running.asks());
        let (mut world, mut running) = (point.world, point.running);
        if !matches!(running.asks(), Some(Statement::Copy { .. })) {
            continue;
        }
        let late = world.content(from, PAIRS).clone();
        if world.tables.contains_key(&(to, PAIRS)) {
            continue;
        }
        world.tables.insert((to, PAIRS), late);
        done(&running.finish(&mut world));
        assert_same(&world, &want, &at);
    }
}

#[test]
fn i12_the_lock_is_renewed_before_each_batch_of_writes() {
    let before = SCENES[0].world();
    let asked: Vec<Statement> = points(&before, plan(&before, &fence()), "a")
        .iter()
        .filter_map(|point| point.running.asks().cloned())
        .collect();
    let renewed_before = |wanted: &dyn Fn(&Statement) -> bool, within: fn(&Statement) -> bool| {
        let at = asked.iter().position(wanted).expect("it is asked");
        let since = asked[..at].iter().rev().take_while(|s| !matches!(s, Statement::RenewLock { .. }));
        assert!(since.clone().count() < at, "never renewed before {at}");
        assert!(since.clone().all(within), "{:?}", since.collect::<Vec<_>>());
    };
    let read = |s: &Statement| matches!(s, Statement::Read { .. });
    renewed_before(&|s| matches!(s, Statement::Copy { .. }), read);
    renewed_before(&|s| *s == Statement::Load, read);
    renewed_before(&|s| matches!(s, Statement::Drop { .. }), |s| {
        matches!(s, Statement::Swap { place: Place::Memory, .. } | Statement::Restate { place: Place::Memory, .. })
    });
}
