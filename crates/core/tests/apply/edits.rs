//! Other people at ProxySQL while an apply is under way: operators who edit, LOAD and SAVE, and the monitor (I5, I6).

use std::collections::HashSet;

use stonith_core::apply::{Place, Statement};
use stonith_core::plan::Plan;
use stonith_core::role::Role;
use stonith_core::table::{Comment, Hostgroup, Row, RowKey, SERVERS, Status};

use crate::apply_world::drive::{Point, Running, load_at, points};
use crate::apply_world::scene::*;
use crate::apply_world::{PAIRS, World};

/// Between the decision and the lock Orchestrator is asked, which can take seconds: time for another agent, or an
/// operator, to fence for another reason.
#[test]
fn i4_a_node_that_was_fenced_anew_since_the_decision_is_not_let_back() {
    for (scene, role) in [(SCENES[0], Role::Replica), (SCENES[1], Role::Primary), (SCENES[1], Role::AsBefore)] {
        let before = scene.fenced();
        let decided = plan(&before, &unfence(role));
        let mut world = before.clone();
        let manual = second_writer("node01", "node03");
        let anew = expected(&before, &manual);
        Running::new(plan(&world, &manual), "b").finish(&mut world);
        done(&Running::new(decided, "a").finish(&mut world));
        assert_same(&world, &anew, &format!("{scene:?} {role:?}"));
    }
}

type Edit = fn(&mut World);

fn pairs(world: &mut World, edit: impl Fn(&mut Vec<Vec<Option<String>>>)) {
    let content = world.content_mut(Place::Memory, PAIRS);
    let mut records: Vec<_> = content.records.values().cloned().collect();
    edit(&mut records);
    *content = stonith_core::table::Content::new(PAIRS, content.columns.clone(), records);
}

fn text(values: &[&str]) -> Vec<Option<String>> {
    values.iter().map(|value| Some((*value).to_owned())).collect()
}

/// What somebody may do in memory without a LOAD, each on its own column or row.
const EDITS: [(&str, Edit); 11] = [
    ("a new row", |world| {
        let row = world.row(Place::Memory, 20, "node03").unwrap();
        let new = Row { key: RowKey { hostname: "node11".into(), ..row.key.clone() }, ..row };
        world.edit(Place::Memory, 20, "node11", |_| Some(new.clone()));
        weigh(world, 20, "node11", "4");
    }),
    ("a weight", |world| weigh(world, 20, "node04", "70")),
    ("a weight that is staged already", |world| weigh(world, 20, "node03", "70")),
    ("a comment where a weight is staged", |world| comment(world, 20, "node03", "it's mine")),
    ("a weight of the fenced node", |world| weigh(world, 10, "node01", "70")),
    ("a row gone", |world| world.edit(Place::Memory, 20, "node04", |_| None)),
    ("a row gone where a weight is staged", |world| world.edit(Place::Memory, 20, "node03", |_| None)),
    ("a row taken out by hand", |world| state(world, 20, "node05", Status::OfflineSoft)),
    ("a row taken out hard", |world| state(world, 99, "node08", Status::OfflineHard)),
    ("a new pair", |world| pairs(world, |records| records.push(text(&["13", "23", "read_only", ""])))),
    ("a pair changed", |world| pairs(world, |records| records[0] = text(&["10", "20", "super_read_only", "main"]))),
];

fn edit_between_any_two_statements(scene: Scene, before: &World, edits: &[(&str, Edit)]) {
    let all = points(before, plan(before, &fence()), "a");
    for (what, edit) in edits {
        let mut want = expected(before, &fence());
        edit(&mut want);
        for point in &all {
            let at = format!("{scene:?}, {what} before {}: {:?}", point.k, point.running.asks());
            let (mut world, mut running) = (point.world.clone(), point.running.clone());
            edit(&mut world);
            let outcome = running.finish(&mut world);
            assert_eq!(done(&outcome).not_as_planned, Vec::<String>::new(), "{at}");
            assert_same(&world, &want, &at);
        }
    }
}

#[test]
fn i6_an_edit_between_any_two_statements_stays_staged_and_does_not_go_live() {
    edit_between_any_two_statements(SCENES[0], &SCENES[0].world().small(), &EDITS);
}

#[test]
fn i6_so_does_an_edit_where_writers_are_readers_and_memory_has_the_new_placement() {
    edit_between_any_two_statements(SCENES[2], &SCENES[2].world().small(), &EDITS);
}

#[test]
fn i6_so_does_an_edit_among_all_the_tables_that_a_load_covers() {
    edit_between_any_two_statements(SCENES[1], &SCENES[1].world(), &EDITS[EDITS.len() - 2..]);
}

#[test]
fn i6_so_does_a_comment_on_one_of_two_rows_that_are_staged_to_go_out_together() {
    edit_between_any_two_statements(SCENES[3], &two_staged_out(), &EDITS[3..4]);
}

#[test]
fn i6_a_row_of_another_fenced_node_that_is_put_back_by_hand_stays_as_they_wrote_it() {
    let before = expected(&SCENES[0].world().small(), &second_writer("node05", "node02"));
    let edit: (&str, Edit) = ("a fenced row in service", |world| state(world, 20, "node05", Status::Online));
    edit_between_any_two_statements(SCENES[0], &before, &[edit]);
}

/// While a return is under way memory shows the row without a marker, before it is decided that it stays so.
#[test]
fn i3_who_takes_a_returning_row_out_by_hand_makes_it_theirs() {
    let before = SCENES[0].fenced().small();
    let marked = |row: Option<Row>| row.is_some_and(|row| Comment::parse(&row.comment) != Comment::Plain);
    let returning = |world: &World| {
        let kept = world.tables.contains_key(&(Place::Kept, SERVERS)) && marked(world.row(Place::Kept, 10, "node01"));
        kept && !marked(world.row(Place::Memory, 10, "node01"))
    };
    let mut tried = 0;
    for point in points(&before, plan(&before, &unfence(Role::AsBefore)), "a") {
        if !returning(&point.world) {
            continue;
        }
        for words in [ODD_COMMENT, "mine"] {
            let (mut world, mut running) = (point.world.clone(), point.running.clone());
            state(&mut world, 10, "node01", Status::OfflineSoft);
            comment(&mut world, 10, "node01", words);
            done(&running.finish(&mut world));
            let row = world.row(Place::Memory, 10, "node01").unwrap();
            let at = format!("before {}: {:?}", point.k, point.running.asks());
            assert_eq!((row.status, row.comment.as_str()), (Status::OfflineSoft, words), "{at}");
        }
        tried += 1;
    }
    assert!(tried > 3, "{tried}");
}

#[test]
fn i6_a_comment_written_over_our_marker_is_kept_and_the_row_stays_fenced() {
    let before = SCENES[0].world();
    let points = points(&before, plan(&before, &fence()), "a");
    let look = Some(&Statement::Read { place: Place::Memory, table: SERVERS });
    let last_look = points.iter().filter(|point| point.running.asks() == look).map(|point| point.k).max().unwrap();
    for point in points {
        let at = format!("before {}: {:?}", point.k, point.running.asks());
        let (mut world, mut running) = (point.world.clone(), point.running.clone());
        comment(&mut world, 10, "node01", "new");
        running.finish(&mut world);
        let row = world.row(Place::Memory, 10, "node01").unwrap();
        assert_eq!(row.status, Status::OfflineSoft, "{at}");
        if point.k <= last_look {
            assert!(matches!(Comment::parse(&row.comment), Comment::Marked("new", _)), "{at}: {}", row.comment);
        } else {
            assert_eq!(row.comment, "new", "{at}: after us, it is theirs");
        }
        let runtime = world.row(Place::Runtime, 10, "node01").unwrap();
        assert!(matches!(Comment::parse(&runtime.comment), Comment::Marked(ODD_COMMENT, _)), "{at}");
    }
}

type Move = (&'static str, u32, u32);

/// The monitor's moves: of the new primary, late; of a replica whose `read_only` flaps; of both.
const MOVES: [(&str, &[Move]); 4] = [
    ("the new primary goes to the writers", &[("node02", 20, 10)]),
    ("a replica flaps", &[("node03", 20, 10), ("node03", 10, 20)]),
    ("a replica with a staged weight becomes a writer", &[("node03", 20, 10)]),
    ("both, one of them staged to go", &[("node02", 20, 10), ("node07", 21, 11)]),
];

#[test]
fn i5_the_monitors_move_between_any_two_statements_stands() {
    for [old_monitor, moves_count] in [[false, false], [true, false], [false, true]] {
        let mut before = World { old_monitor, moves_count, ..SCENES[0].world().small() };
        before.edit(Place::Runtime, 10, "node02", |_| None);
        let reader = before.row(Place::Memory, 20, "node02");
        before.edit(Place::Runtime, 20, "node02", |_| reader.clone());
        // The old monitor copies runtime over memory and loses the staged weight by itself (facts §2).
        for (what, moves) in MOVES.into_iter().filter(|(what, _)| !old_monitor || !what.contains("staged")) {
            let mut want = expected(&before, &fence());
            moves.iter().for_each(|(name, from, to)| want.monitor_moves(name, *from, *to));
            for point in points(&before, plan(&before, &fence()), "a") {
                let at = format!(
                    "{what}, old {old_monitor}, counts {moves_count}, before {}: {:?}",
                    point.k,
                    point.running.asks()
                );
                let (mut world, mut running) = (point.world.clone(), point.running.clone());
                moves.iter().for_each(|(name, from, to)| world.monitor_moves(name, *from, *to));
                let now_loads = point.running.asks() == Some(&Statement::Load);
                let outcome = running.finish(&mut world);
                if now_loads && !old_monitor {
                    // The one gap that nobody can see into: the monitor sees to it at its next check (design §8.8).
                    moves.iter().for_each(|(name, from, to)| world.monitor_moves(name, *from, *to));
                }
                done(&outcome);
                assert_same(&world, &want, &at);
            }
        }
    }
}

/// What the monitor does at any failover is nobody's doing: told is only what somebody LOADed.
#[test]
fn a_move_of_the_monitor_right_after_our_load_is_no_change_by_somebody_else() {
    for moves_count in [false, true] {
        let before = World { moves_count, ..SCENES[0].world().small() };
        let all = points(&before, plan(&before, &fence()), "a");
        let Point { mut world, mut running, .. } = all[load_at(&all) + 1].clone();
        world.monitor_moves("node03", 20, 10);
        assert_eq!(done(&running.finish(&mut world)).not_as_planned, Vec::<String>::new());
        let Point { mut world, mut running, .. } = all[load_at(&all) + 1].clone();
        weigh(&mut world, 20, "node04", "70");
        world.load();
        let outcome = running.finish(&mut world);
        if moves_count {
            let told = "mysql_servers 20/node04/3306 was changed by somebody else during the apply".to_owned();
            assert_eq!(done(&outcome).not_as_planned, [told], "somebody's LOAD is told");
        } else {
            assert_eq!(done(&outcome).load_made_up, Some(true), "somebody's LOAD is told");
        }
    }
}

/// The edit falls between the last look and the LOAD, and the move between the LOAD and the look after it.
#[test]
fn i6_an_edit_that_a_load_took_live_is_taken_out_again_also_where_a_move_counts_as_a_load() {
    let before = World { moves_count: true, ..SCENES[0].world().small() };
    let all = points(&before, plan(&before, &fence()), "a");
    for moves in [false, true] {
        let Point { mut world, mut running, .. } = all[load_at(&all)].clone();
        weigh(&mut world, 99, "node08", "70");
        running.go(&mut world);
        assert_eq!(
            world.row(Place::Runtime, 99, "node08").unwrap().settings["weight"],
            "70",
            "it is live for a moment"
        );
        if moves {
            world.monitor_moves("node03", 20, 10);
        }
        done(&running.finish(&mut world));
        assert_ne!(world.row(Place::Runtime, 99, "node08").unwrap().settings["weight"], "70", "moves: {moves}");
        assert_eq!(world.row(Place::Memory, 99, "node08").unwrap().settings["weight"], "70", "it stays staged");
    }
}

/// Where the monitor moved rows while memory was lent, a crash must not turn that into an edit.
#[test]
fn i10_a_crash_after_a_monitors_move_loses_nothing_that_is_staged() {
    let before = SCENES[0].world().small();
    let mut want = expected(&before, &fence());
    want.monitor_moves("node03", 20, 10);
    let all = points(&before, plan(&before, &fence()), "a");
    let lent = all.iter().find(|p| matches!(p.running.asks(), Some(Statement::Copy { .. }))).unwrap().k;
    let load = load_at(&all);
    let mut seen = HashSet::new();
    for point in &all[lent..load] {
        let (mut world, mut running) = (point.world.clone(), point.running.clone());
        world.monitor_moves("node03", 20, 10);
        while running.outcome().is_none() {
            if !seen.insert(world.clone()) {
                running.go(&mut world);
                continue;
            }
            let at = format!("moved before {}, cut off before {:?}", point.k, running.asks());
            let mut next = world.clone();
            Running::new(plan(&next, &fence()), "a").finish(&mut next);
            assert_same(&next, &want, &at);
            running.go(&mut world);
        }
    }
}

#[test]
fn i10_a_crash_after_an_edit_loses_neither_the_edit_nor_what_was_staged_before() {
    let before = SCENES[0].world().small();
    let all = points(&before, plan(&before, &fence()), "a");
    for (what, edit) in [EDITS[0], EDITS[3], EDITS[10]] {
        let mut want = expected(&before, &fence());
        edit(&mut want);
        let mut seen = HashSet::new();
        for point in &all {
            let (mut world, mut running) = (point.world.clone(), point.running.clone());
            edit(&mut world);
            while running.outcome().is_none() {
                if seen.insert(world.clone()) {
                    let at = format!("{what} before {}, cut off before {:?}", point.k, running.asks());
                    let mut next = world.clone();
                    Running::new(plan(&next, &fence()), "a").finish(&mut next);
                    assert_eq!(next.rows(Place::Memory), want.rows(Place::Memory), "{at}");
                    assert_eq!(next.content(Place::Memory, PAIRS), want.content(Place::Memory, PAIRS), "{at}");
                }
                running.go(&mut world);
            }
        }
    }
}

/// An operator's own LOAD: what they put live stays live, but for the node that is fenced.
#[test]
fn i4_an_operators_edit_and_load_at_any_moment_stands_and_the_fence_stands_too() {
    let before = SCENES[2].world().small();
    for point in points(&before, plan(&before, &fence()), "a") {
        let at = format!("before {}: {:?}", point.k, point.running.asks());
        let (mut world, mut running) = (point.world.clone(), point.running.clone());
        state(&mut world, 20, "node05", Status::OfflineSoft);
        state(&mut world, 10, "node01", Status::Online);
        world.load();
        if running.outcome().is_some() {
            continue; // that is the next tick's
        }
        running.finish(&mut world);
        let soft = |place| world.row(place, 20, "node05").map(|row| row.status);
        assert_eq!(soft(Place::Memory), Some(Status::OfflineSoft), "{at}");
        assert_eq!(soft(Place::Runtime), Some(Status::OfflineSoft), "{at}");
        assert!(world.row(Place::Runtime, 10, "node02").is_some(), "{at}");
        let next = plan(&world, &fence());
        if !next.is_empty() {
            Running::new(next, "a").finish(&mut world);
        }
        assert_eq!(in_service(&world, Place::Runtime), vec![], "{at}");
    }
}

#[test]
fn i10_an_operators_save_to_disk_during_a_fence_does_not_save_the_node_back() {
    let before = SCENES[0].world().small();
    let all = points(&before, plan(&before, &fence()), "a");
    let disk = Some(&Statement::Read { place: Place::Disk, table: SERVERS });
    let last_look = all.iter().filter(|point| point.running.asks() == disk).map(|point| point.k).max().unwrap();
    for point in all {
        let (mut world, mut running) = (point.world.clone(), point.running.clone());
        world.save_to_disk();
        running.finish(&mut world);
        let fenced = in_service(&world, Place::Disk).is_empty();
        assert!(fenced, "saved before {}: {:?}; looked last at {last_look}", point.k, point.running.asks());
    }
}

/// What ProxySQL said was loaded is loaded (C2): a LOAD of what an operator had staged before, at each moment.
#[test]
fn i6_an_operators_load_of_what_he_staged_takes_effect_at_any_moment_and_is_told() {
    for scene in [SCENES[0], SCENES[2]] {
        let before = scene.world().small();
        let mut made_up = 0;
        for point in points(&before, plan(&before, &fence()), "a") {
            let at = format!("{scene:?} before {}: {:?}", point.k, point.running.asks());
            let (mut world, mut running) = (point.world.clone(), point.running.clone());
            world.load();
            if running.outcome().is_some() {
                continue;
            }
            let outcome = running.finish(&mut world);
            made_up += usize::from(done(&outcome).load_made_up == Some(true));
            if !plan(&world, &fence()).is_empty() {
                Running::new(plan(&world, &fence()), "a").finish(&mut world);
            }
            let weight = |name: &str| world.row(Place::Runtime, 20, name).map(|row| row.settings["weight"].clone());
            assert_eq!((weight("node03").as_deref(), weight("node10").as_deref()), (Some("5"), Some("9")), "{at}");
            assert_eq!(world.content(Place::Runtime, PAIRS), before.content(Place::Memory, PAIRS), "{at}");
            assert!(
                world.row(Place::Runtime, 21, "node07").is_none_or(|row| row.status == Status::OfflineHard),
                "{at}"
            );
            assert_eq!(in_service(&world, Place::Runtime), vec![], "{at}");
            assert_eq!(world.rows(Place::Memory), expected(&before, &fence()).rows(Place::Memory), "{at}");
            assert_eq!((world.copies(), world.lock.clone()), (0, None), "{at}");
        }
        assert!(made_up > 20, "{made_up}");
    }
}

/// What ProxySQL said was saved is saved (C2): what an operator had staged before, at each moment of a fence or a return.
#[test]
fn i6_an_operators_save_of_what_he_staged_takes_effect_at_any_moment_and_is_told() {
    for (before, directives) in [
        (SCENES[0].world().small(), fence()),
        (SCENES[2].world().small(), fence()),
        (SCENES[0].fenced().small(), unfence(Role::Replica)),
        (SCENES[1].fenced().small(), unfence(Role::AsBefore)),
    ] {
        let want = expected(&before, &directives);
        let [mut made_up, mut lent] = [0, 0];
        for point in points(&before, plan(&before, &directives), "a") {
            let at = format!("{directives:?} before {}: {:?}", point.k, point.running.asks());
            let (mut world, mut running) = (point.world.clone(), point.running.clone());
            let is_lent = world.rows(Place::Memory) != before.rows(Place::Memory)
                && world.rows(Place::Memory) != want.rows(Place::Memory);
            world.save_to_disk();
            let outcome = running.finish(&mut world);
            let told = done(&outcome).save_made_up;
            assert!(told == Some(true) || (told.is_none() && !is_lent), "{at}: {told:?}");
            made_up += usize::from(told.is_some());
            lent += usize::from(is_lent);
            assert_eq!(world.rows(Place::Disk), want.rows(Place::Memory), "{at}");
            assert_eq!(world.content(Place::Disk, PAIRS), before.content(Place::Memory, PAIRS), "{at}");
            assert_eq!(world.rows(Place::Memory), want.rows(Place::Memory), "{at}");
            assert_eq!(
                live(world.rows(Place::Runtime)),
                live(want.rows(Place::Runtime)),
                "{at}: nothing staged went live"
            );
            assert_eq!((world.copies(), world.lock.clone(), world.watched), (0, None, None), "{at}");
        }
        assert!(lent > 10 && made_up >= lent, "{made_up} of {lent}");
    }
}

/// The agent dies after the operator's SAVE: whoever finishes its work makes up for it.
#[test]
fn i10_an_operators_save_is_made_up_for_by_who_finishes_an_apply_that_was_cut_off() {
    let before = SCENES[0].world().small();
    let want = expected(&before, &fence());
    let mut made_up = 0;
    for point in points(&before, plan(&before, &fence()), "a") {
        let at = format!("before {}: {:?}", point.k, point.running.asks());
        let mut world = point.world.clone();
        world.save_to_disk();
        if point.running.outcome().is_some() {
            continue;
        }
        let next = plan(&world, &fence());
        let outcome = Running::new(next, "a").finish(&mut world);
        made_up += usize::from(done(&outcome).save_made_up == Some(true));
        assert_eq!(world.rows(Place::Disk), want.rows(Place::Memory), "{at}");
        assert_eq!(world.content(Place::Disk, PAIRS), before.content(Place::Memory, PAIRS), "{at}");
    }
    assert!(made_up > 10, "{made_up}");
}

#[test]
fn who_saves_nothing_finds_on_disk_what_was_there_and_the_fence() {
    for empty in [false, true] {
        let mut before = SCENES[0].world().small();
        if empty {
            before.set_rows(Place::Disk, &[]);
        }
        let mut world = before.clone();
        let outcome = Running::new(plan(&before, &fence()), "a").finish(&mut world);
        assert_eq!(done(&outcome).save_made_up, None);
        assert_same(&world, &expected(&before, &fence()), "undisturbed");
    }
}

/// A ProxySQL of the same cluster saves what it spreads: that is nobody's here.
#[test]
fn a_save_in_a_cluster_of_proxysqls_is_told_and_not_made_up_for() {
    let before = SCENES[0].world().small();
    let clustered = Plan { loads_are_operators: false, ..plan(&before, &fence()) };
    let all = points(&before, clustered, "a");
    let Point { mut world, mut running, .. } = all[load_at(&all) + 1].clone();
    world.save_to_disk();
    assert_eq!(done(&running.finish(&mut world)).save_made_up, Some(false));
    assert_eq!(in_service(&world, Place::Disk), vec![], "the fence is on disk all the same");
}

/// The new primary is in the writer hostgroup by the monitor's word, and memory does not know (I5).
#[test]
fn i5_a_load_that_is_made_up_for_leaves_the_new_primary_where_the_monitor_put_it() {
    let before = SCENES[0].world().small();
    let all = points(&before, plan(&before, &fence()), "a");
    let mut tried = 0;
    for point in &all[load_at(&all) + 1..all.len() - 1] {
        let (mut world, mut running) = (point.world.clone(), point.running.clone());
        if world.copies() < 4 {
            continue;
        }
        world.load();
        if world.row(Place::Runtime, 10, "node02").is_none_or(|row| row.status != Status::Online) {
            continue; // half put back, or not even lent: that is what a LOAD of what is staged does without us
        }
        let outcome = running.finish(&mut world);
        tried += 1;
        assert_eq!(done(&outcome).load_made_up, Some(true), "before {:?}", point.running.asks());
        let primary = world.row(Place::Runtime, 10, "node02").map(|row| row.status);
        assert_eq!(primary, Some(Status::Online), "before {:?}", point.running.asks());
    }
    assert!(tried > 5, "{tried}");
}

/// A ProxySQL of the same cluster spreads its tables by a LOAD too: that is nobody's here.
#[test]
fn a_load_in_a_cluster_of_proxysqls_is_told_and_not_made_up_for() {
    let before = SCENES[0].world().small();
    let clustered = Plan { loads_are_operators: false, ..plan(&before, &fence()) };
    let all = points(&before, clustered, "a");
    let Point { mut world, mut running, .. } = all[load_at(&all) + 1].clone();
    world.load();
    assert_eq!(done(&running.finish(&mut world)).load_made_up, Some(false));
    assert_same(&world, &expected(&before, &fence()), "what is staged stays staged");
}

/// design §8.8: after the LOAD planned rows are as planned, or loaded again; what somebody else LOADed is told.
#[test]
fn i4_what_somebody_loads_right_after_us_is_told_and_the_node_is_fenced_again_at_once() {
    let before = SCENES[0].world().small();
    for checksums in [true, false] {
        let before = World { checksums, ..before.clone() };
        let all = points(&before, plan(&before, &fence()), "a");
        let load = load_at(&all);
        let Point { mut world, mut running, .. } = all[load + 1].clone();
        weigh(&mut world, 99, "node08", "70");
        state(&mut world, 10, "node01", Status::Online);
        world.load();
        let outcome = running.finish(&mut world);
        assert_eq!(in_service(&world, Place::Runtime), vec![]);
        assert_eq!(world.row(Place::Runtime, 99, "node08").unwrap().settings["weight"], "70", "their LOAD stands");
        assert_eq!(done(&outcome).not_as_planned, Vec::<String>::new(), "all as the last LOAD left it");

        let Point { mut world, mut running, .. } = all[load + 1].clone();
        let new = before.row(Place::Memory, 10, "node01").unwrap();
        world.edit(Place::Memory, 20, "node01", |_| Some(in_hostgroup(20, &new)));
        world.load();
        done(&running.finish(&mut world));
        assert_eq!(in_service(&world, Place::Runtime), vec![], "a row that the node had not");

        let Point { mut world, mut running, .. } = all[load + 2].clone();
        weigh(&mut world, 99, "node08", "70");
        state(&mut world, 20, "node04", Status::Online);
        world.edit(Place::Memory, 98, "node08", |_| {
            Some(in_hostgroup(98, &before.row(Place::Memory, 99, "node08").unwrap()))
        });
        world.load();
        let outcome = running.finish(&mut world);
        if checksums {
            assert_eq!(done(&outcome).load_made_up, Some(true));
        } else {
            let rows = ["20/node04", "98/node08", "99/node08"];
            let told =
                rows.map(|row| format!("mysql_servers {row}/3306 was changed by somebody else during the apply"));
            assert_eq!(done(&outcome).not_as_planned, told);
        }
        assert_eq!(world.row(Place::Runtime, 99, "node08").unwrap().settings["weight"], "70", "their LOAD stands");
        assert_eq!(in_service(&world, Place::Runtime), vec![]);
    }
}

fn in_hostgroup(hostgroup: u32, row: &Row) -> Row {
    let key = RowKey { hostgroup: Hostgroup(hostgroup), ..row.key.clone() };
    Row { key, ..row.clone() }
}
