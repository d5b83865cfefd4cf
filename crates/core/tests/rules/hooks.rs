//! What the ProxySQL hooks of the fork's Orchestrator leave behind at a failover, and what is taken over of it (facts §14).

use stonith_core::condition::{Condition, conditions};
use stonith_core::evidence::EvidenceKind;
use stonith_core::orchestrator::ProxyHooks;
use stonith_core::policy::{HOOKS_AGAIN_MS, HOOKS_EVERY_MS, HOOKS_LAST_S};
use stonith_core::table::{Comment, Layer, Status};

use crate::world::{Decided, LAYERS, Lab, node};

/// In service for a minute, with the hooks on.
fn hooked() -> Lab {
    let mut lab = Lab::new();
    lab.hooks = ProxyHooks::On;
    lab.run_s(60);
    assert!(lab.memory.lease.armed && lab.writes == 0, "a healthy lab is armed and quiet");
    lab
}

/// A failover of node01 to node02 with both hooks, as a program of that build does it.
fn fails_over(lab: &mut Lab) -> &mut Lab {
    lab.dies("node01").hook_before("node01").next();
    lab.failover("node01", "node02").hook_after("node01", "node02");
    lab
}

fn weight(lab: &Lab, layer: Layer, hostgroup: u32, name: &str) -> String {
    lab.row(layer, hostgroup, name).unwrap().settings["weight"].clone()
}

fn is_plain(lab: &Lab, name: &str) -> bool {
    lab.proxy.runtime.iter().all(|row| row.node() != Some(node(name)) || Comment::parse(&row.comment) == Comment::Plain)
}

#[test]
fn the_old_primary_that_the_hooks_took_out_is_taken_over_and_comes_back_on_proof() {
    let mut lab = hooked();
    fails_over(&mut lab).run_s(3);
    assert!(lab.is_fenced("node01"));
    let note = " [stonith:1 superseded by=node02:3306 was=ONLINE]";
    assert!(LAYERS.iter().all(|layer| lab.row(*layer, 20, "node01").unwrap().comment == note));
    lab.returns_writable("node01").run_s(10);
    assert_eq!(lab.rows("node01"), "20:OFFLINE_SOFT", "it needs the proof, as any other");
    lab.repaired("node01").run_s(5);
    assert!(LAYERS.iter().all(|layer| lab.rows_in(*layer, "node01") == "20:ONLINE"));
    assert_eq!(lab.rows("node02"), "10:ONLINE");
    assert!(is_plain(&lab, "node01"));
}

#[test]
fn without_the_word_that_the_hooks_are_on_nothing_is_taken_over_or_restored() {
    for hooks in [ProxyHooks::Absent, ProxyHooks::Off, ProxyHooks::Unclear] {
        let mut lab = Lab::new();
        lab.hooks = hooks;
        lab.run_s(60);
        fails_over(&mut lab).run_s(3);
        lab.repaired("node01").run_s(60);
        assert_eq!(lab.rows("node01"), "20:OFFLINE_SOFT", "{hooks:?}");
        assert!(is_plain(&lab, "node01"), "{hooks:?}");
        assert_eq!(weight(&lab, Layer::Runtime, 10, "node02"), "1", "{hooks:?}");
    }
}

#[test]
fn a_leader_that_has_no_hooks_or_does_not_say_takes_nothing_over_until_one_says_so() {
    let mut lab = hooked();
    lab.hooks = ProxyHooks::Unclear;
    fails_over(&mut lab);
    lab.led_by("orc2").run_s(10);
    assert!(is_plain(&lab, "node01"), "another leader, whose build nobody knows");
    lab.hooks = ProxyHooks::On;
    lab.run_s(HOOKS_AGAIN_MS / 1_000 + 2);
    assert!(lab.is_fenced("node01") && !is_plain(&lab, "node01"));
}

#[test]
fn i3_a_row_that_was_out_before_the_failover_is_an_operators_whatever_the_hooks_make_of_it() {
    for status in [Status::OfflineSoft, Status::OfflineHard] {
        for staged in [false, true] {
            let mut lab = hooked();
            lab.edit(20, "node01", |row| row.status = status.clone());
            if staged {
                // Only memory has it, and the hooks' LOAD takes it live.
                for rows in [&mut lab.proxy.runtime, &mut lab.proxy.disk] {
                    rows.iter_mut().for_each(|row| row.status = Status::Online);
                }
            }
            lab.run_s(5);
            fails_over(&mut lab).run_s(3);
            lab.repaired("node01").run_s(30);
            assert_eq!(lab.rows("node01"), "20:OFFLINE_SOFT", "{status} {staged}");
            assert!(is_plain(&lab, "node01"), "{status} {staged}");
        }
    }
}

#[test]
fn i3_a_node_that_was_out_of_the_pair_before_the_failover_is_not_brought_in() {
    for how in ["deleted", "drained"] {
        let mut lab = hooked();
        match how {
            "deleted" => lab.delete(10, "node01").delete(20, "node01"),
            _ => lab.delete(20, "node01").edit(10, "node01", |row| row.status = Status::OfflineSoft),
        };
        lab.run_s(5);
        fails_over(&mut lab).run_s(3);
        lab.repaired("node01").run_s(30);
        assert_eq!(lab.rows("node01"), "20:OFFLINE_SOFT", "{how}");
        assert!(is_plain(&lab, "node01"), "{how}");
    }
}

#[test]
fn i3_a_row_that_an_operator_takes_out_after_the_hooks_had_their_time_is_the_operators() {
    for (after_s, is_ours) in [(5, true), (HOOKS_LAST_S + 5, false)] {
        let mut lab = hooked();
        // These hooks do nothing to the old primary's row: this program fences it.
        lab.failover("node01", "node02").run_s(u64::try_from(after_s).unwrap());
        lab.delete(10, "node01").edit(20, "node01", |row| {
            (row.status, row.comment) = (Status::OfflineSoft, String::new());
        });
        lab.run_s(3);
        assert_eq!(!is_plain(&lab, "node01"), is_ours, "{after_s}");
    }
}

#[test]
fn i3_an_operators_order_is_no_less_an_order_when_the_hooks_have_overwritten_its_note() {
    let mut lab = hooked();
    lab.order_fence("node01");
    lab.run_s(5);
    fails_over(&mut lab).run_s(3);
    lab.repaired("node01").run_s(30);
    assert_eq!(lab.rows("node01"), "20:OFFLINE_SOFT");
}

#[test]
fn a_row_that_was_out_when_the_rows_were_first_viewed_is_not_taken_over() {
    let mut lab = hooked();
    fails_over(&mut lab);
    lab.state_lost().run_s(10);
    lab.repaired("node01").run_s(30);
    assert_eq!(lab.rows("node01"), "20:OFFLINE_SOFT");
    assert!(is_plain(&lab, "node01"));
}

#[test]
fn an_agent_that_slept_through_the_failover_takes_over_what_it_saw_in_service_before() {
    let mut lab = hooked();
    // What it keeps goes through its file.
    lab.memory = serde_json::from_str(&serde_json::to_string(&lab.memory).unwrap()).unwrap();
    fails_over_unwatched(&mut lab);
    lab.agent_restarts(120).run_s(5);
    assert!(lab.is_fenced("node01"), "though its evidence is from before the watch: it is out already");
    lab.repaired("node01").run_s(5);
    assert_eq!(lab.rows("node01"), "20:ONLINE");
    assert_eq!(weight(&lab, Layer::Disk, 10, "node02"), "20");
}

/// The same failover, while no agent ticks.
fn fails_over_unwatched(lab: &mut Lab) {
    lab.hook_before("node01").failover("node01", "node02").hook_after("node01", "node02");
}

#[test]
fn what_an_agent_keeps_of_the_rows_changes_only_with_them() {
    let mut lab = hooked();
    let before = lab.memory.without_times();
    lab.run_s(20);
    assert_eq!(lab.memory.without_times().hooks, before.hooks);
    assert_eq!(before.hooks.views.values().map(|nodes| nodes.len()).sum::<usize>(), 3);
    lab.hooks = ProxyHooks::Off;
    lab.run_s(HOOKS_EVERY_MS / 1_000 + 1);
    assert!(lab.memory.hooks.views.is_empty(), "nothing is kept for hooks that are off");
}

#[test]
fn the_new_writers_row_gets_back_what_the_hooks_reset_in_every_layer() {
    let mut lab = hooked();
    lab.edit(20, "node02", |row| row.comment = "rack 7".to_owned()).run_s(2);
    fails_over(&mut lab).run_s(3);
    for layer in LAYERS {
        let row = lab.row(layer, 10, "node02").unwrap();
        assert_eq!(
            (row.settings["weight"].as_str(), row.comment.as_str(), &row.status),
            ("20", "rack 7", &Status::Online)
        );
    }
    // The old primary's reader row was there before, too.
    assert_eq!(weight(&lab, Layer::Disk, 20, "node01"), "20");
    lab.repaired("node01").run_s(5);
    assert_eq!((lab.rows("node01").as_str(), weight(&lab, Layer::Runtime, 20, "node01").as_str()), ("20:ONLINE", "20"));
}

#[test]
fn the_monitors_move_before_the_hook_loses_no_settings() {
    let mut lab = hooked();
    lab.dies("node01").hook_before("node01").next();
    lab.failover("node01", "node02").run_s(3);
    assert!(lab.rows("node02").contains("10:ONLINE"), "{}", lab.rows("node02"));
    lab.hook_after("node01", "node02").run_s(3);
    assert_eq!(weight(&lab, Layer::Runtime, 10, "node02"), "20");
}

#[test]
fn i3_a_row_is_restored_once_and_never_over_somebodys_later_change() {
    for (what, theirs) in [("another value", "7"), ("the defaults", "1")] {
        let mut lab = hooked();
        fails_over(&mut lab).run_s(3);
        assert_eq!(weight(&lab, Layer::Runtime, 10, "node02"), "20");
        lab.edit(10, "node02", |row| _ = row.settings.insert("weight".to_owned(), theirs.to_owned())).run_s(30);
        assert_eq!(weight(&lab, Layer::Runtime, 10, "node02"), theirs, "{what}");
    }
    // A change that is staged stays staged, while runtime is restored.
    let mut lab = hooked();
    fails_over(&mut lab);
    let staged = lab.proxy.memory.iter_mut().find(|row| row.node() == Some(node("node02"))).unwrap();
    staged.settings.insert("weight".to_owned(), "7".to_owned());
    lab.run_s(3);
    assert_eq!(LAYERS.map(|layer| weight(&lab, layer, 10, "node02")), ["20", "7", "20"]);
}

#[test]
fn i3_settings_that_an_operator_resets_without_a_failover_or_long_after_it_stay_reset() {
    for after_s in [None, Some(HOOKS_LAST_S + 5)] {
        let mut lab = hooked();
        if let Some(after_s) = after_s {
            lab.failover("node01", "node02").run_s(u64::try_from(after_s).unwrap());
        }
        let hostgroup = if after_s.is_some() { 10 } else { 20 };
        lab.edit(hostgroup, "node02", |row| _ = row.settings.insert("weight".to_owned(), "1".to_owned())).run_s(30);
        assert_eq!(weight(&lab, Layer::Runtime, hostgroup, "node02"), "1", "{after_s:?}");
    }
}

#[test]
fn i3_nothing_is_taken_over_or_restored_while_an_operator_has_suspended_the_program() {
    let mut lab = hooked();
    lab.orders.suspended = Some("by me".to_owned());
    fails_over(&mut lab).run_s(10);
    assert!(is_plain(&lab, "node01"));
    assert_eq!(weight(&lab, Layer::Runtime, 10, "node02"), "1");
    lab.orders.suspended = None;
    lab.run_s(3);
    assert!(lab.is_fenced("node01") && !is_plain(&lab, "node01"));
    assert_eq!(weight(&lab, Layer::Runtime, 10, "node02"), "20");
}

#[test]
fn the_plan_says_what_is_taken_over_and_what_is_restored() {
    let mut lab = hooked();
    lab.observe_only = true;
    let decision = fails_over(&mut lab).run_s(3);
    assert_eq!(decision.kinds("node01")[0], EvidenceKind::Superseded);
    let mut said: Vec<String> = Vec::new();
    for change in decision.plan.changes.iter().filter(|change| change.layer == Layer::Runtime) {
        let reason = decision.plan.reason(change);
        said.push(format!("{change}: {}", reason.map(|reason| reason.to_string()).unwrap_or_default()));
    }
    assert_eq!(
        said,
        [
            "runtime 10/node02:3306 ONLINE -> ONLINE: restored, since Orchestrator's hooks reset it: weight=20",
            "runtime 20/node01:3306 OFFLINE_SOFT -> OFFLINE_SOFT: adopted: Orchestrator's hooks took it out",
        ]
    );
}

fn labels(lab: &mut Lab) -> Vec<String> {
    let observed = lab.observed();
    let decision = lab.next();
    conditions(&observed, &decision, &lab.policy).iter().map(|condition| condition.label().to_owned()).collect()
}

#[test]
fn the_hooks_are_said_for_as_long_as_the_leader_says_that_they_are_on() {
    let mut lab = hooked();
    assert_eq!(labels(&mut lab), ["orchestrator-hooks"]);
    lab.hooks = ProxyHooks::Off;
    lab.run_s(HOOKS_EVERY_MS / 1_000);
    assert_eq!(labels(&mut lab), Vec::<String>::new());
}

#[test]
fn a_failover_that_fails_after_its_first_hook_leaves_no_writer_and_that_is_said_with_the_way_out() {
    let mut lab = hooked();
    // Such a record never ends.
    lab.dies("node01").hook_before("node01").next();
    let record = lab.record(0, "node01", None);
    (record.successful, record.end_s) = (false, None);
    lab.run_s(10);
    assert_eq!(labels(&mut lab), ["orchestrator-hooks"], "the failover may be under way");
    lab.returns_writable("node01");
    for name in ["node02", "node03"] {
        lab.follows(name, "node01");
    }
    lab.run_s(60);
    assert_eq!(labels(&mut lab), ["orchestrator-hooks", "without-writer"]);
    let observed = lab.observed();
    let decision = lab.next();
    let said = conditions(&observed, &decision, &lab.policy);
    let said = said.iter().find(|one| matches!(one, Condition::WithoutWriter { .. })).unwrap();
    let way_out = "UPDATE mysql_servers SET status='ONLINE' WHERE hostgroup_id=10 AND hostname='node01' AND port=3306";
    assert!(said.to_string().contains(way_out), "{said}");
    assert_eq!(said.nodes(), [node("node01")]);
    // The operator does so.
    lab.edit(10, "node01", |row| row.status = Status::Online).run_s(3);
    assert_eq!(labels(&mut lab), ["orchestrator-hooks"]);
}

#[test]
fn a_writer_hostgroup_without_a_writer_is_not_said_beside_no_hooks_or_if_it_was_so_before() {
    for hooks in [ProxyHooks::Absent, ProxyHooks::On] {
        let mut lab = Lab::new();
        lab.hooks = hooks;
        lab.delete(20, "node01").edit(10, "node01", |row| row.status = Status::OfflineSoft).run_s(180);
        let said = labels(&mut lab);
        assert!(!said.contains(&"without-writer".to_owned()), "{hooks:?}: {said:?}");
    }
}

#[test]
fn the_leader_is_asked_for_its_hooks_once_and_again_after_a_change_of_the_leader_or_ten_minutes() {
    let mut lab = hooked();
    let asked = |lab: &mut Lab, seconds: u64| {
        let mut times = Vec::new();
        for _ in 0..seconds {
            let before = lab.memory.hooks.asked.clone();
            lab.next();
            times.extend((lab.memory.hooks.asked != before).then_some(lab.now_ms));
        }
        times.len()
    };
    assert_eq!(asked(&mut lab, 500), 0);
    lab.led_by("orc2");
    assert_eq!(asked(&mut lab, 599), 1);
    assert_eq!(asked(&mut lab, 600), 1);
    lab.hooks = ProxyHooks::Unclear;
    lab.led_by("orc3");
    assert_eq!(asked(&mut lab, 179), 3, "once a minute while nothing clear comes back");
}
