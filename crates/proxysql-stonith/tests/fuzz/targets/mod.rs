//! The fuzz targets: per parser that reads the outside a function over bytes, the same for both engines (`cargo test
//! --test fuzz` on stable, libFuzzer in `fuzz/`).
//!
//! Each holds what must be so whatever the bytes are: no panic; an error may be said (one line, bounded, no secret); what
//! is understood is what another reader reads, or reads back; and no decision that comes of it lets a fenced node back.
//! It says whether it understood the bytes, so that an engine sees when its inputs never get past the door.

mod admin_rows;
mod config;
pub mod decision;
pub mod orchestrator;
pub mod packets;
mod response;
mod server;
mod state;
mod words;

pub use admin_rows::admin_rows;
pub use config::{config, option_file};
pub use orchestrator::{all_instances, audit_recovery, downtimed, error_body, raft_leader, raft_peers, raft_status};
pub use packets::packets;
pub use response::response;
pub use state::{orders, state};
pub use words::{addresses, marker, names, words};

/// One parser's target.
#[derive(Clone, Copy)]
pub struct Target {
    /// Its name: of the function, of the libFuzzer program, and of the folder of its findings.
    pub name: &'static str,
    /// Panics if the bytes break a rule; says whether they were understood.
    pub run: fn(&[u8]) -> bool,
    /// Inputs to begin with: recordings of the real programs, and what this program writes itself.
    pub seeds: fn() -> Vec<Vec<u8>>,
}

/// Every target.
pub const TARGETS: [Target; 18] = [
    Target { name: "downtimed", run: downtimed, seeds: orchestrator::instance_seeds },
    Target { name: "all_instances", run: all_instances, seeds: orchestrator::instance_seeds },
    Target { name: "audit_recovery", run: audit_recovery, seeds: orchestrator::recovery_seeds },
    Target { name: "raft_status", run: raft_status, seeds: orchestrator::raft_seeds },
    Target { name: "raft_leader", run: raft_leader, seeds: orchestrator::raft_seeds },
    Target { name: "raft_peers", run: raft_peers, seeds: orchestrator::raft_seeds },
    Target { name: "error_body", run: error_body, seeds: orchestrator::error_seeds },
    Target { name: "response", run: response, seeds: response::seeds },
    Target { name: "packets", run: packets, seeds: packets::seeds },
    Target { name: "admin_rows", run: admin_rows, seeds: admin_rows::seeds },
    Target { name: "marker", run: marker, seeds: words::marker_seeds },
    Target { name: "names", run: names, seeds: words::name_seeds },
    Target { name: "addresses", run: addresses, seeds: words::address_seeds },
    Target { name: "words", run: words, seeds: words::word_seeds },
    Target { name: "config", run: config, seeds: config::config_seeds },
    Target { name: "option_file", run: option_file, seeds: config::option_file_seeds },
    Target { name: "state", run: state, seeds: state::state_seeds },
    Target { name: "orders", run: orders, seeds: state::orders_seeds },
];

/// The most bytes of a message: a few foreign texts of 200 letters, and our own words around them.
const SAID_MAX_BYTES: usize = 4_096;

/// Checks that a text may be said, to a log or a person: something, on one line, and not too much.
fn may_be_said(text: &str) {
    assert!(!text.trim().is_empty(), "an error that says nothing");
    assert!(text.len() <= SAID_MAX_BYTES, "{} bytes: {}...", text.len(), text.chars().take(400).collect::<String>());
    assert!(!text.contains(char::is_control), "more than one line: {text:?}");
}

fn owned(seeds: &[&[u8]]) -> Vec<Vec<u8>> {
    seeds.iter().map(|seed| seed.to_vec()).collect()
}
