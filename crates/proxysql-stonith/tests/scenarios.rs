//! The scenarios, played on the lab with the program at work: every claim holds, and the output is the golden one.
//!
//! `BLESS=1 cargo test --test scenarios` writes the golden files anew.

#![cfg(feature = "demo")]

use std::path::Path;

use proxysql_stonith::scenario::{Line, Scenario, play};

/// Everything but the rows in passing: those depend on which tick saw what first.
fn text(line: &Line) -> Option<String> {
    Some(match line {
        Line::Title(text) => format!("== {text}"),
        Line::Said(text) => format!("   {text}"),
        Line::Did(text) => format!(" > {text}"),
        Line::Held(text) => format!(" + {text}"),
        Line::Failed(text, instead) => format!(" ! {text}, but: {instead}"),
        Line::Rows(_) => return None,
    })
}

fn check(name: &str) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios");
    let scenario = std::fs::read_to_string(folder.join(format!("{name}.txt"))).unwrap();
    let scenario = Scenario::read(&scenario).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let mut lines = Vec::new();
    let held =
        tokio::task::LocalSet::new().block_on(&runtime, play(&scenario, |line| lines.extend(text(&line)))).unwrap();
    let played = lines.join("\n") + "\n";
    assert!(held, "{played}");
    let golden = folder.join(format!("golden/{name}.txt"));
    if std::env::var_os("BLESS").is_some() {
        std::fs::write(&golden, &played).unwrap();
    }
    assert_eq!(played, std::fs::read_to_string(&golden).unwrap_or_default(), "BLESS=1 writes it anew");
}

#[test]
fn a_claim_that_does_not_come_true_fails_the_scenario() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    for text in
        ["write 5\nexpect 5 writes went to node02", "expect node01 is fenced", "write 5\nexpect 5 writes failed"]
    {
        let scenario = Scenario::read(text).unwrap();
        let mut lines = Vec::new();
        let held = tokio::task::LocalSet::new().block_on(&runtime, play(&scenario, |line| lines.push(line))).unwrap();
        assert!(!held && matches!(lines.last(), Some(Line::Failed(..))), "{text}: {lines:?}");
    }
}

macro_rules! scenarios {
    ($($test:ident: $name:literal,)*) => {
        $(
            #[test]
            fn $test() {
                check($name);
            }
        )*

        #[test]
        fn every_scenario_file_is_played() {
            let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios");
            let mut files: Vec<String> = std::fs::read_dir(folder)
                .unwrap()
                .filter_map(|entry| entry.unwrap().file_name().into_string().unwrap().strip_suffix(".txt").map(str::to_owned))
                .collect();
            files.sort();
            let mut played = vec![$($name.to_owned()),*];
            played.sort();
            assert_eq!(files, played);
        }
    };
}

scenarios! {
    without_the_program_two_nodes_take_writes: "without",
    with_it_none_goes_to_the_old_primary: "with",
    a_repaired_node_comes_back_as_what_it_is_now: "repair",
    a_new_leader_with_an_empty_list_lets_nothing_back: "leader",
    a_cut_off_proxy_takes_no_write: "cut-off",
    a_woken_primary_gets_no_write: "woken",
    after_a_failover_of_a_failover_both_are_fenced: "twice",
    a_planned_takeover_leaves_the_old_primary_as_a_reader: "takeover",
    downtime_of_a_replica_takes_it_out_and_its_end_lets_it_back: "downtime",
    an_election_takes_nothing_away: "election",
}
