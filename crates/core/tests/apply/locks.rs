//! Several appliers at one ProxySQL: one works, the others leave (I12).

use std::collections::{BTreeSet, HashSet, VecDeque};

use stonith_core::apply::{LockSeen, Outcome, Place, Reply, Statement};

use crate::apply_world::drive::{Running, points};
use crate::apply_world::scene::*;
use crate::apply_world::{LOCK_TTL_MS, PAIRS};

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

/// How far each of these replies brings a run, and how it ends.
fn answered(replies: impl IntoIterator<Item = Reply>) -> (Vec<Statement>, Option<Outcome>) {
    let mut running = Running::new(plan(&SCENES[0].world().small(), &fence()), "a");
    let mut asked = Vec::new();
    for reply in replies {
        asked.extend(running.asks().cloned());
        running.answer(reply);
    }
    asked.extend(running.asks().cloned());
    (asked, running.outcome().cloned())
}

#[test]
fn i12_a_lock_that_is_held_is_looked_at_and_left_alone() {
    let held = Reply::Lock(Some(LockSeen { owner: "b".to_owned(), expired: false }));
    let (asked, outcome) = answered([Reply::Names(BTreeSet::new()), Reply::Exists, held]);
    assert_eq!(asked, [Statement::Names, Statement::TakeLock { owner: "a".to_owned() }, Statement::ReadLock]);
    assert_eq!(outcome, Some(Outcome::Busy { owner: "b".to_owned() }));
}

#[test]
fn i12_of_two_who_find_a_lock_expired_the_slower_leaves_without_a_write() {
    let mut world = SCENES[0].world().small();
    world.lock = Some(("dead".to_owned(), 0));
    let mut slow = Running::new(plan(&world, &fence()), "a");
    while !matches!(slow.asks(), Some(Statement::TakeOverLock { .. })) {
        slow.go(&mut world);
    }
    let mut quick = Running::new(plan(&world, &fence()), "b");
    while world.copies() == 0 {
        quick.go(&mut world);
    }
    let found = world.clone();
    slow.go(&mut world);
    assert_eq!(slow.outcome(), Some(&Outcome::Busy { owner: "dead".to_owned() }));
    assert_eq!(world, found);
}

#[test]
fn i12_a_lock_that_vanishes_while_we_look_is_tried_three_times() {
    let taken = Statement::TakeLock { owner: "a".to_owned() };
    let gone = || [Reply::Exists, Reply::Lock(None)];
    let names = || [Reply::Names(BTreeSet::new())];
    let (asked, outcome) = answered(names().into_iter().chain(gone()).chain(gone()));
    assert_eq!((asked.last(), outcome), (Some(&taken), None), "the third time");
    let (asked, outcome) = answered(names().into_iter().chain(gone()).chain(gone()).chain(gone()));
    assert_eq!(asked.iter().filter(|statement| **statement == taken).count(), 3);
    assert_eq!(outcome, Some(Outcome::Busy { owner: "unknown".to_owned() }));
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
    renewed_before(&|s| *s == Statement::NoteWatch, read);
    renewed_before(&|s| matches!(s, Statement::Copy { .. }), |s| {
        matches!(s, Statement::NoteWatch | Statement::MarkDisk | Statement::Read { .. })
    });
    renewed_before(&|s| *s == Statement::Load, read);
    renewed_before(&|s| matches!(s, Statement::Drop { .. }), |s| {
        matches!(s, Statement::WasSaved) || (s.names() > 0 && s.place() == Some(Place::Memory))
    });
}
