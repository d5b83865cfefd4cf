//! Rows that are not as a program would write them: a status in lower case, a value that no comparison finds.

use std::collections::BTreeSet;

use stonith_core::apply::{Place, Statement};
use stonith_core::plan::Plan;
use stonith_core::role::Role;
use stonith_core::table::{Content, SERVERS};

use crate::apply_world::drive::{Running, points};
use crate::apply_world::scene::*;
use crate::apply_world::{LAYERS, World};

const NAMES: [&str; 3] = ["node01", "node03", "node05"];

fn odd(scene: Scene, name: &str) -> World {
    World { odd: BTreeSet::from([name.to_owned()]), ..scene.world() }
}

fn loads(asked: &[Statement]) -> usize {
    asked.iter().filter(|statement| **statement == Statement::Load).count()
}

#[test]
fn i4_a_row_that_no_comparison_finds_is_fenced_by_its_key_and_nothing_is_left_behind() {
    for scene in SCENES {
        for name in NAMES {
            let before = odd(scene, name);
            let mut world = before.clone();
            let (asked, outcome) = Running::new(plan(&world, &fence()), "a").finish_among(&mut world, |_, _, _| None);
            let at = format!("{scene:?} {name}");
            assert_eq!((loads(&asked), done(&outcome).edits_kept), (1, 0), "{at}");
            assert_same(&world, &expected(&before, &fence()), &at);
            assert!(LAYERS.into_iter().all(|place| in_service(&world, place).is_empty()), "{at}");
            assert!(plan(&world, &fence()).is_empty(), "{at}: no second LOAD");
        }
    }
}

#[test]
fn i3_such_a_row_comes_back_as_it_was() {
    for scene in SCENES.into_iter().filter(|scene| !scene.ghost) {
        let before = odd(scene, "node01");
        let mut world = before.clone();
        for directives in [fence(), unfence(Role::AsBefore)] {
            Running::new(plan(&world, &directives), "a").finish(&mut world);
        }
        assert_same(&world, &before, &format!("{scene:?}"));
    }
}

#[test]
fn i10_a_crash_among_such_rows_leaves_the_node_out_of_service_for_the_next_run() {
    let before = odd(SCENES[0], "node01").small();
    for point in points(&before, plan(&before, &fence()), "a") {
        let mut world = point.world.clone();
        for _ in 0..2 {
            let next: Plan = plan(&world, &fence());
            if !next.is_empty() {
                done(&Running::new(next, "a").finish(&mut world));
            }
        }
        assert_same(&world, &expected(&before, &fence()), &format!("cut off before {:?}", point.running.asks()));
    }
}

/// A status as the operator typed it, of a row in service and of one that is not ours.
fn in_lower_case(world: &mut World) {
    for place in [Place::Memory, Place::Disk] {
        let content = world.content(place, SERVERS).clone();
        let status = content.columns.iter().position(|column| column == "status").unwrap();
        let records = content.records.into_values().map(|mut record| {
            record[status] = record[status].as_ref().map(|text| text.to_lowercase());
            record
        });
        world.tables.insert((place, SERVERS), Content::new(SERVERS, content.columns, records));
    }
}

#[test]
fn i6_a_status_in_lower_case_stays_as_the_operator_typed_it() {
    for scene in SCENES.into_iter().filter(|scene| !scene.ghost) {
        let mut before = scene.world();
        in_lower_case(&mut before);
        let mut world = before.clone();
        done(&Running::new(plan(&world, &fence()), "a").finish(&mut world));
        let typed = |world: &World, place| {
            let records = world.content(place, SERVERS).records.clone();
            records.into_values().filter(|record| record[1].as_deref() != Some("node01")).collect::<Vec<_>>()
        };
        for place in [Place::Memory, Place::Disk] {
            assert_eq!(typed(&world, place), typed(&before, place), "{scene:?} {place:?}");
        }
        assert!(LAYERS.into_iter().all(|place| in_service(&world, place).is_empty()), "{scene:?}");
    }
}
