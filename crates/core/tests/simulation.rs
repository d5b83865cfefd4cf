//! The core against chance: the real `decide` and `Apply` on virtual time, with faults from a seed.
//!
//! ```text
//! SIM_TICKS=1000000 cargo test --release -p proxysql-stonith-core --test simulation -- --nocapture
//! SIM_SEED=17 cargo test -p proxysql-stonith-core --test simulation -- --nocapture chance   # one run, and its story
//! ```
//!
//! `SIM_FROM` and `SIM_SEEDS` are where a sabotage is looked for. `SIM_FIRST` is the first seed. Each run without it draws another one and prints it. A seed that fails is kept in the target
//! folder, and each later run without `SIM_FIRST` tries it first.

#![allow(clippy::needless_range_loop, reason = "nodes go by number")]

mod apply_world;
#[path = "simulation/mod.rs"]
mod simulation;

use std::collections::BTreeMap;
use std::fs;
use std::hash::{BuildHasher, RandomState};
use std::path::{Path, PathBuf};
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

/// A seed that nobody chose. It has a few digits only, for people.
fn any_seed() -> u64 {
    RandomState::new().hash_one(()) % 1_000_000_000
}

/// The seeds that failed on this machine, one a line.
fn failed_seeds() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join("simulation-failed-seeds")
}

#[test]
fn nothing_that_chance_does_breaks_a_rule() {
    if let Some(seed) = number("SIM_SEED") {
        println!("{}", tell(seed));
        assert!(Run::new(seed, None).violates().is_none(), "seed {seed} fails");
        return;
    }
    let given = number("SIM_FIRST");
    let draws = given.is_none();
    let first = given.unwrap_or_else(any_seed);
    let ticks_max = number("SIM_TICKS").unwrap_or(TICKS);
    let kept = if draws { fs::read_to_string(failed_seeds()).unwrap_or_default() } else { String::new() };
    for seed in kept.lines().filter_map(|line| line.parse().ok()) {
        assert!(Run::new(seed, None).violates().is_none(), "SIM_SEED={seed}, which failed before, fails");
    }
    let began = Instant::now();
    let (mut ticks, mut faults, mut statements, mut applies, mut isolations, mut returns) = (0, 0, 0, 0, 0, 0);
    let mut seed = first;
    let mut failed = vec![];
    let mut seen: BTreeMap<&str, u64> = BTreeMap::new();
    while ticks < ticks_max {
        let report = Run::new(seed, None).go();
        ticks += report.ticks;
        faults += report.rules.faults;
        statements += report.rules.statements;
        applies += report.rules.applies;
        isolations += report.rules.isolations;
        returns += report.rules.returns;
        report.rules.seen.iter().for_each(|what| *seen.entry(what).or_default() += 1);
        if let Some(what) = report.rules.violations.first() {
            failed.push((seed, what.clone()));
        }
        seed += 1;
    }
    let per_s = ticks as f64 / began.elapsed().as_secs_f64();
    println!(
        "from SIM_FIRST={first} on: {ticks} ticks, {} seeds, {faults} faults injected, {statements} steps, {applies} applies, {isolations} \
         isolations, {returns} returns, violations {}; {per_s:.0} ticks/s",
        seed - first,
        failed.len()
    );
    println!("seeds with {seen:?}");
    if draws && !failed.is_empty() {
        let seeds = failed.iter().map(|(seed, _)| format!("{seed}\n"));
        let all: String = std::iter::once(kept).chain(seeds).collect();
        fs::write(failed_seeds(), all).unwrap();
    }
    let failed: Vec<String> = failed.iter().map(|(seed, what)| format!("seed {seed}: {what}")).collect();
    assert!(failed.is_empty(), "SIM_SEED=n tells one:\n{}", failed.join("\n"));
}

/// Seeds of which each odd world must be in one of twenty.
const DRAWS: u64 = 2_000;

#[test]
fn each_odd_world_is_drawn_in_a_twentieth_of_the_seeds() {
    let mut drawn: BTreeMap<String, u64> = BTreeMap::new();
    let worlds = (1..=DRAWS).flat_map(|seed| Run::new(seed, None).worlds());
    worlds.for_each(|world| *drawn.entry(world).or_default() += 1);
    println!("of {DRAWS} seeds: {drawn:#?}");
    // Thirteen of the topology, six of the hooks, four switches, three parts of an answer, one history.
    assert_eq!(drawn.len(), 13 + 6 + 4 + 3 + 1);
    assert!(drawn.values().all(|seeds| seeds * 20 >= DRAWS), "{drawn:?}");
}

/// `from`: where the search begins, so that it is short where only few seeds find it.
#[track_caller]
fn is_found(sabotage: Sabotage, from: u64) {
    let (from, seeds) = (number("SIM_FROM").unwrap_or(from), number("SIM_SEEDS").unwrap_or(SEEDS));
    let found = (from..from + seeds).find_map(|seed| {
        let report = Run::new(seed, Some(sabotage)).go();
        report.rules.violations.first().map(|what| (seed, what.clone()))
    });
    let Some((seed, what)) = found else { panic!("{sabotage:?} is not found in {seeds} seeds") };
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
    is_found(Sabotage::NoCompare, 300);
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

#[test]
fn sabotage_is_found_a_memory_that_counts_after_a_gap() {
    is_found(Sabotage::NoGap, 1);
}

#[test]
fn sabotage_is_found_two_names_taken_for_two_servers() {
    is_found(Sabotage::TwoServers, 1);
}

#[test]
fn sabotage_is_found_a_hook_that_waits_for_no_lease() {
    is_found(Sabotage::NoLeaseWait, 1);
}

#[test]
fn sabotage_is_found_a_barrier_that_ends_with_its_mark() {
    is_found(Sabotage::EndsWithItsMark, 1);
}

#[test]
fn sabotage_is_found_a_takeover_in_vain_that_never_ends() {
    is_found(Sabotage::TakeoverStays, 1);
}

#[test]
fn sabotage_is_found_a_primary_that_is_fenced_at_the_node_itself() {
    is_found(Sabotage::FencesThePrimary, 1);
}
