//! The backstop of a writer hostgroup, set by the same LOAD as a fence and beside the same people.

use stonith_core::apply::{Outcome, Place};
use stonith_core::online_limit::{ATTRIBUTES, LimitChange, LimitChanges};
use stonith_core::plan::Plan;
use stonith_core::table::{Content, Hostgroup};

use crate::apply_world::drive::{Running, load_at, points};
use crate::apply_world::scene::*;
use crate::apply_world::{LAYERS, LOCK_TTL_MS, World};

const COLUMNS: [&str; 4] = ["hostgroup_id", "max_num_online_servers", "init_connect", "comment"];

fn attributes(records: &[[&str; 4]]) -> Content {
    let records = records.iter().map(|record| record.iter().map(|value| Some((*value).to_owned())).collect());
    Content::new(ATTRIBUTES, COLUMNS.iter().map(ToString::to_string).collect(), records)
}

/// Servers, pairs and attributes, with edits staged in each.
fn world() -> World {
    let mut world = SCENES[0].world();
    let small = world.clone().small();
    world.tables.retain(|(place, table), _| *table == ATTRIBUTES || small.tables.contains_key(&(*place, *table)));
    world.tables.insert((Place::Runtime, ATTRIBUTES), attributes(&[["10", "1000000", "", "rack 9"]]));
    world.tables.insert(
        (Place::Memory, ATTRIBUTES),
        attributes(&[["10", "1000000", "SET staged=1", "rack 9"], ["77", "5", "", "staged"]]),
    );
    world.tables.insert((Place::Disk, ATTRIBUTES), attributes(&[]));
    world
}

fn limits(change: LimitChange) -> LimitChanges {
    let defaults = [("max_num_online_servers", "1000000"), ("init_connect", ""), ("comment", "")];
    LimitChanges {
        changes: [(Hostgroup(10), change), (Hostgroup(11), change)].into(),
        defaults: defaults.map(|(name, value)| (name.to_owned(), Some(value.to_owned()))).into(),
    }
}

fn plan_of(world: &World, change: LimitChange) -> Plan {
    Plan { limits: limits(change), ..plan(world, &Directives::new()) }
}

fn with(world: &World, change: LimitChange) -> World {
    let mut after = expected(world, &Directives::new());
    for place in LAYERS {
        let changed = limits(change).carry_out(after.content(place, ATTRIBUTES));
        *after.content_mut(place, ATTRIBUTES) = changed;
    }
    after
}

#[test]
fn i6_the_backstop_goes_live_alone_and_is_taken_back_to_the_byte() {
    let before = world();
    let mut world = before.clone();
    done(&Running::new(plan_of(&world, LimitChange::Set), "a").finish(&mut world));
    assert_same(&world, &with(&before, LimitChange::Set), "set");
    let limit = |place| world.content(place, ATTRIBUTES).records[&vec![Some("10".to_owned())]][1].clone();
    assert_eq!(LAYERS.map(limit), [(); 3].map(|()| Some("1".to_owned())));
    done(&Running::new(plan_of(&world, LimitChange::Restore), "a").finish(&mut world));
    assert_same(&world, &expected(&before, &Directives::new()), "restored");
}

type Edit = fn(&mut World);

fn edit(world: &mut World, key: &str, record: [&str; 4]) {
    let content = world.content_mut(Place::Memory, ATTRIBUTES);
    content.records.extend(attributes(&[record]).records);
    assert!(content.records.contains_key(&vec![Some(key.to_owned())]));
}

fn set_column(world: &mut World, column: usize, value: &str) {
    let content = world.content_mut(Place::Memory, ATTRIBUTES);
    content.records.get_mut(&vec![Some("10".to_owned())]).unwrap()[column] = Some(value.to_owned());
}

/// What an operator may do meanwhile, each in memory alone.
const EDITS: [(&str, Edit); 3] = [
    ("another hostgroup", |world| edit(world, "12", ["12", "4", "", "new"])),
    ("another column", |world| set_column(world, 2, "SET now=1")),
    ("a server", |world| weigh(world, 20, "node04", "70")),
];

#[test]
fn i6_an_edit_between_any_two_statements_of_it_stays_staged_and_does_not_go_live() {
    let before = world();
    for (what, edit) in EDITS {
        let mut want = with(&before, LimitChange::Set);
        edit(&mut want);
        for point in points(&before, plan_of(&before, LimitChange::Set), "a") {
            let at = format!("{what} before {}: {:?}", point.k, point.running.asks());
            let (mut world, mut running) = (point.world.clone(), point.running.clone());
            edit(&mut world);
            match running.finish(&mut world) {
                // It can wait, as a return can: nothing was changed.
                Outcome::PutOff => {
                    let mut unchanged = expected(&before, &Directives::new());
                    edit(&mut unchanged);
                    assert_same(&world, &unchanged, &at);
                    done(&Running::new(plan_of(&world, LimitChange::Set), "a").finish(&mut world));
                }
                outcome => drop(done(&outcome).clone()),
            }
            assert_same(&world, &want, &at);
        }
    }
}

#[test]
fn i10_cut_off_anywhere_the_next_order_finishes_it_and_what_was_staged_still_is() {
    let before = world();
    let want = with(&before, LimitChange::Set);
    let points = points(&before, plan_of(&before, LimitChange::Set), "a");
    assert!(load_at(&points) < points.len(), "control: it is loaded");
    for point in &points {
        let at = format!("before {}: {:?}", point.k, point.running.asks());
        let mut world = point.world.clone();
        world.now_ms += LOCK_TTL_MS + 1;
        done(&Running::new(plan_of(&world, LimitChange::Set), "b").finish(&mut world));
        assert_same(&world, &want, &at);
    }
}
