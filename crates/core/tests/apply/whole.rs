//! What an apply leaves behind when nobody disturbs it (design §8).

use std::collections::BTreeMap;

use stonith_core::apply::{Outcome, Place, Statement, copy_name};
use stonith_core::lease::LeaseAction;
use stonith_core::orders::Release;
use stonith_core::plan::Plan;
use stonith_core::role::Role;
use stonith_core::table::{SERVERS, Status};

use crate::apply_world::drive::Running;
use crate::apply_world::scene::*;
use crate::apply_world::{LAYERS, World};

#[test]
fn i6_a_fence_reaches_all_layers_and_leaves_everything_else_to_the_byte() {
    for scene in SCENES {
        let before = scene.world();
        let mut world = before.clone();
        let outcome = Running::new(plan(&world, &fence()), "a").finish(&mut world);
        assert_eq!(done(&outcome).not_as_planned, Vec::<String>::new(), "{scene:?}");
        assert_same(&world, &expected(&before, &fence()), &format!("{scene:?}"));
        for place in LAYERS {
            assert_eq!(in_service(&world, place), vec![], "{scene:?} {place:?}");
        }
    }
}

/// Every statement that was asked, and how it ended.
fn all_asked(world: &mut World, directives: &Directives) -> (Vec<Statement>, Outcome) {
    Running::new(plan(world, directives), "a").finish_among(world, |_, _, _| None)
}

#[test]
fn i3_fence_and_return_give_back_every_byte_of_every_layer() {
    for scene in SCENES.into_iter().filter(|scene| !scene.ghost) {
        let before = scene.world();
        let mut world = before.clone();
        Running::new(plan(&world, &fence()), "a").finish(&mut world);
        for (hostgroup, comment) in [(10, ODD_COMMENT), (30, "listed")] {
            let row = world.row(Place::Runtime, hostgroup, "node01").unwrap();
            assert_eq!(row.status, Status::OfflineSoft);
            assert_eq!(row.comment, format!("{comment} [stonith:1 superseded by=node02:3306 was=ONLINE]"));
        }
        Running::new(plan(&world, &unfence(Role::AsBefore)), "a").finish(&mut world);
        assert_same(&world, &before, &format!("{scene:?}"));
        let untouched = |world: &World, place| {
            let rows = world.rows(place).into_iter();
            rows.filter(|row| !is_managed(row) || row.status == Status::OfflineSoft).collect::<Vec<_>>()
        };
        for place in LAYERS {
            assert_eq!(untouched(&world, place), untouched(&before, place), "{scene:?} {place:?}");
        }
    }
}

#[test]
fn i3_a_return_takes_the_role_that_the_node_has_now() {
    for scene in SCENES.into_iter().filter(|scene| !scene.ghost) {
        for role in [Role::Replica, Role::Primary, Role::AsBefore] {
            let before = scene.fenced();
            let mut world = before.clone();
            let outcome = Running::new(plan(&world, &unfence(role)), "a").finish(&mut world);
            assert_eq!(done(&outcome).not_as_planned, Vec::<String>::new());
            assert_same(&world, &expected(&before, &unfence(role)), &format!("{scene:?} {role:?}"));
            let writes = world.row(Place::Runtime, 10, "node01").is_some_and(|row| row.status == Status::Online);
            let reads = world.row(Place::Runtime, 20, "node01").is_some_and(|row| row.status == Status::Online);
            assert_eq!(writes, role != Role::Replica, "{scene:?} {role:?}");
            let read_before = scene.writer_is_also_reader;
            assert_eq!(reads, role == Role::Replica || read_before, "{scene:?} {role:?}");
        }
    }
}

#[test]
fn i4_a_ghost_is_dropped_before_the_load_and_what_is_shunned_is_never_written_so() {
    let mut world = Scene { ghost: true, ..Scene::default() }.world();
    assert_eq!(world.row(Place::Runtime, 10, "node01").unwrap().status, Status::OfflineHard);
    assert_eq!(world.row(Place::Runtime, 20, "node05").unwrap().status, Status::Shunned);
    let (asked, outcome) = all_asked(&mut world, &fence());
    done(&outcome);
    assert_eq!(world.broken, Vec::<String>::new());
    assert!(!asked.iter().any(|statement| {
        format!("{statement:?}").contains("to: Some([Some(\"20\"), Some(\"node05\"), Some(\"3306\"), Some(\"SHUNNED\")")
    }));
    assert_eq!(world.row(Place::Memory, 20, "node05").unwrap().status, Status::Online);
    assert!(world.row(Place::Memory, 21, "node09").is_none(), "no ghost becomes config");
}

#[test]
fn i7_an_empty_plan_asks_nothing() {
    let mut world = SCENES[0].fenced();
    let before = world.clone();
    assert!(plan(&world, &fence()).is_empty());
    let (asked, outcome) = all_asked(&mut world, &fence());
    assert_eq!((asked, world), (vec![], before));
    assert_eq!(outcome, Outcome::Applied(Default::default()));
}

#[test]
fn a_lease_that_is_shared_is_made_once_and_renewed_from_then_on() {
    let mut world = SCENES[0].world();
    let lease_action = Some(LeaseAction::Keep { good_ms: 9_000 });
    let plan = Plan { lease_action, ..plan(&world, &Directives::new()) };
    for after_ms in [0, 5_000] {
        world.now_ms += after_ms;
        let outcome = Running::new(plan.clone(), "a").finish(&mut world);
        assert!(matches!(outcome, Outcome::Applied(_)), "{outcome:?}");
        let (owner, until_ms, _) = world.lease.clone().unwrap();
        assert_eq!((owner.as_str(), until_ms), ("a", world.now_ms + 9_000));
    }
}

#[test]
fn i7_what_only_disk_or_memory_lacks_is_brought_in_line_without_a_load() {
    for place in [Place::Memory, Place::Disk] {
        for (directives, fenced) in [(fence(), true), (unfence(Role::AsBefore), false)] {
            let (is, other) =
                if fenced { (SCENES[0].fenced(), SCENES[0].world()) } else { (SCENES[0].world(), SCENES[0].fenced()) };
            let mut world = World { clients: Vec::new(), ..is.clone() };
            world.set_rows(place, &other.rows(place));
            let (asked, outcome) = all_asked(&mut world, &directives);
            done(&outcome);
            assert!(!asked.contains(&Statement::Load) && !asked.iter().any(|s| matches!(s, Statement::Copy { .. })));
            assert_same(&world, &is, &format!("{place:?}, fenced {fenced}"));
        }
    }
}

/// Another version's agent finds them by name.
#[test]
fn i10_the_copies_are_named_by_what_they_hold() {
    assert_eq!(copy_name(Place::Kept, SERVERS), "stonith_kept_mysql_servers");
    assert_eq!(copy_name(Place::Target, SERVERS), "stonith_target_mysql_servers");
}

/// Another agent may have kept what the node was fenced for.
#[test]
fn i4_a_return_says_what_it_discharged_where_there_is_something_to_say() {
    let release = Release { recovery_ns: 5, ..Release::default() };
    for releases in [BTreeMap::new(), BTreeMap::from([(node("node01"), release)])] {
        let mut world = SCENES[0].fenced();
        let plan = Plan { releases: releases.clone(), ..plan(&world, &unfence(Role::Replica)) };
        let (asked, outcome) = Running::new(plan, "a").finish_among(&mut world, |_, _, _| None);
        done(&outcome);
        let noted = asked.iter().any(|statement| matches!(statement, Statement::NoteReleases(_)));
        assert_eq!(noted, !releases.is_empty());
        assert_eq!(world.released, releases);
    }
}
