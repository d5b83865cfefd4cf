//! The core against chance: the real `decide` and `Apply` on virtual time, with faults from a seed.
//!
//! ```text
//! SIM_TICKS=1000000 cargo test --release -p proxysql-stonith-core --test simulation -- --nocapture
//! SIM_SEED=17 cargo test -p proxysql-stonith-core --test simulation -- --nocapture chance   # one run, and its story
//! ```

#![allow(clippy::needless_range_loop, reason = "nodes go by number")]

mod apply_world;
#[path = "simulation/mod.rs"]
mod simulation;

use std::time::Instant;

use simulation::Run;
use simulation::sabotage::Sabotage;

/// Ticks of agents that a plain `cargo test` runs.
const TICKS: u64 = 10_000;
/// Seeds in which a sabotage must be found.
const SEEDS: u64 = 200;

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().and_then(|text| text.parse().ok())
}

/// A failure told: its story, and the same with as few events as do.
fn tell(seed: u64) -> String {
    let mut text = format!("seed {seed}:\n");
    let shrunk = Run::new(seed, None).shrunk();
    for run in [Run::new(seed, None), shrunk] {
        let report = run.go();
        text += &format!("--- {} events ---\n{}\n", run.events.len(), report.story.join("\n"));
        text += &format!("=> {}\n", report.rules.violations.join("\n=> "));
    }
    text
}

#[test]
fn nothing_that_chance_does_breaks_a_rule() {
    if let Some(seed) = number("SIM_SEED") {
        println!("{}", tell(seed));
        assert!(Run::new(seed, None).violates().is_none(), "seed {seed} fails");
        return;
    }
    let (ticks_max, first) = (number("SIM_TICKS").unwrap_or(TICKS), number("SIM_FIRST").unwrap_or(1));
    let began = Instant::now();
    let (mut ticks, mut faults, mut statements, mut applies, mut isolations, mut returns) = (0, 0, 0, 0, 0, 0);
    let mut seed = first;
    let mut failed = vec![];
    while ticks < ticks_max {
        let report = Run::new(seed, None).go();
        ticks += report.ticks;
        faults += report.rules.faults;
        statements += report.rules.statements;
        applies += report.rules.applies;
        isolations += report.rules.isolations;
        returns += report.rules.returns;
        if let Some(what) = report.rules.violations.first() {
            failed.push(format!("seed {seed}: {what}"));
        }
        seed += 1;
    }
    let per_s = ticks as f64 / began.elapsed().as_secs_f64();
    println!(
        "{ticks} ticks, {} seeds, {faults} faults injected, {statements} steps, {applies} applies, {isolations} \
         isolations, {returns} returns, violations {}; {per_s:.0} ticks/s",
        seed - first,
        failed.len()
    );
    assert!(failed.is_empty(), "SIM_SEED=n tells one:\n{}", failed.join("\n"));
}

/// `from`: where the search begins, so that it is short where only few seeds find it.
#[track_caller]
fn is_found(sabotage: Sabotage, from: u64) {
    let found = (from..from + SEEDS).find_map(|seed| {
        let report = Run::new(seed, Some(sabotage)).go();
        report.rules.violations.first().map(|what| (seed, what.clone()))
    });
    let Some((seed, what)) = found else { panic!("{sabotage:?} is not found in {SEEDS} seeds") };
    println!("{sabotage:?}: seed {seed}: {what}");
    assert_eq!(Run::new(seed, None).violates(), None, "seed {seed} fails without the sabotage too");
}

#[test]
fn sabotage_is_found_a_fence_that_never_reaches_the_disk() {
    is_found(Sabotage::NoDisk, 1);
}

#[test]
fn sabotage_is_found_absence_taken_for_proof() {
    is_found(Sabotage::AbsenceDischarges, 1);
}

#[test]
fn sabotage_is_found_a_swap_that_compares_nothing() {
    is_found(Sabotage::NoCompare, 20);
}

#[test]
fn sabotage_is_found_edits_that_nobody_looks_for() {
    is_found(Sabotage::NoLook, 20);
}

#[test]
fn sabotage_is_found_a_return_that_ignores_the_role() {
    is_found(Sabotage::NoRole, 1);
}

#[test]
fn sabotage_is_found_a_lock_that_nobody_honours() {
    is_found(Sabotage::NoLock, 1);
}

#[test]
fn sabotage_is_found_a_load_of_memory_as_it_is() {
    is_found(Sabotage::PlainLoad, 1);
}

#[test]
fn sabotage_is_found_a_fence_that_ends_no_session() {
    is_found(Sabotage::NoSessions, 1);
}

#[test]
fn sabotage_is_found_isolation_after_three_seconds() {
    is_found(Sabotage::Hasty, 1);
}
