//! Everything that reads the outside, against inputs that are nearly right: no panic, no hang, and errors are errors.
//!
//! `targets` says what must hold. This engine needs nothing but stable Rust: it takes a few seconds' worth of inputs, the
//! same every time. `FUZZ_SEED=<n> FUZZ_RUNS=1 cargo test --test fuzz <target>` replays what a failure names. The other
//! engine is libFuzzer, led by coverage: `fuzz/README.md`. What either found stays in `findings` and is tried every time.

mod engine;
mod targets;

use std::collections::BTreeSet;
use std::path::Path;

use proxysql_stonith::orchestrator::answers;
use proxysql_stonith::proxysql::{AdminError, ObserveError};
use stonith_core::orchestrator::{Answer, RecoveryHistory};
use targets::decision::{DATE_S, answer, of_answer};
use targets::orchestrator::{HISTORY, INSTANCES, repaired};
use targets::packets::{play, turns};
use targets::{TARGETS, Target};

macro_rules! fuzzed {
    ($($name:ident $runs:literal)*) => {
        /// What this engine runs.
        const FUZZED: &[&str] = &[$(stringify!($name)),*];
        $(#[test] fn $name() { engine::fuzz(target(stringify!($name)), $runs) })*
    };
}

fuzzed! {
    downtimed 3_000
    all_instances 1_500
    audit_recovery 3_000
    raft_status 10_000
    raft_leader 10_000
    raft_peers 10_000
    error_body 10_000
    response 800
    packets 800
    admin_rows 3_000
    marker 20_000
    names 20_000
    addresses 5_000
    words 10_000
    config 1_000
    option_file 1_000
    state 600
    orders 600
}

fn target(name: &str) -> &'static Target {
    TARGETS.iter().find(|target| target.name == name).unwrap_or_else(|| panic!("{name} is no target"))
}

/// The names of what is in a folder, up to their first dot.
fn entries(folder: &str) -> BTreeSet<String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
    let entries = std::fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let name = |path: std::path::PathBuf| path.file_stem().unwrap().to_string_lossy().into_owned();
    entries.map(|entry| name(entry.unwrap().path())).collect()
}

#[test]
fn both_engines_run_every_target_and_every_finding_is_of_one() {
    let all: BTreeSet<String> = TARGETS.iter().map(|target| target.name.to_owned()).collect();
    assert_eq!(all.len(), TARGETS.len());
    assert_eq!(FUZZED.iter().map(|name| (*name).to_owned()).collect::<BTreeSet<_>>(), all, "this engine's");
    assert_eq!(entries("../../fuzz/fuzz_targets"), all, "libFuzzer's");
    let manifest =
        std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/Cargo.toml")).unwrap();
    let manifest: toml::Table = manifest.parse().unwrap();
    let built = manifest["bin"].as_array().unwrap().iter().map(|bin| bin["name"].as_str().unwrap().to_owned());
    assert_eq!(built.collect::<BTreeSet<_>>(), all, "those that cargo-fuzz builds");
    assert!(entries("tests/fuzz/findings").is_subset(&all), "a finding that nobody tries");
}

/// So that "no look lets it back at once" is said of something that can come back.
#[test]
fn the_repaired_node_of_the_seeds_comes_back_at_the_third_look_and_the_recorded_one_does_not() {
    let history = answers::recoveries(HISTORY, DATE_S).unwrap().read;
    let comes_back = |instances: &[u8]| {
        let instances = Some(answers::instances(instances, DATE_S).unwrap().read);
        of_answer(Answer { instances, history: Some(RecoveryHistory::whole("orc1", history.clone())), ..answer() })
    };
    assert!(comes_back(&repaired()) && !comes_back(INSTANCES));
}

/// An empty packet, and more columns than there is room for: a stock driver panics on both, or ends the process.
#[test]
fn a_conversation_that_nobody_touched_is_understood_and_one_gone_mad_is_an_error() {
    engine::hear_every_panic();
    assert_eq!(play(turns().to_vec(), None).unwrap().runtime.len(), 2);
    let empty = [0, 0, 0, 1].to_vec();
    let columns = [&[9, 0, 0, 1, 0xfe][..], &[0xff; 8]].concat();
    for packet in [empty, columns] {
        for at in 2..turns().len() {
            let mut changed = turns().to_vec();
            changed[at] = packet.clone();
            let error = play(changed, Some(at)).expect_err("it makes no sense");
            assert!(
                matches!(error, ObserveError::Admin(AdminError::Lost { .. } | AdminError::TooMuch { .. })),
                "turn {at}: {error}"
            );
        }
    }
}
