//! The files of the state directory: kept or set aside, never half believed, and a decision comes of what was kept.

use std::cell::RefCell;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::time::Duration;

use proxysql_stonith::clock::Now;
use proxysql_stonith::state::{Loaded, State, StateDir, VERSION};
use stonith_core::evidence::{Evidence, EvidenceKind, Source};
use stonith_core::memory::{FirstProof, Memory, SteadyLeader};
use stonith_core::node::Node;
use stonith_core::orchestrator::{Analysis, Downtime, LOST_IN_RECOVERY, Recovery};
use stonith_core::orders::Release;
use stonith_core::role::Role;
use tempfile::TempDir;

use super::decision::{DATE_S, NOW_MS, of_kept};
use super::may_be_said;

/// Stands between a state and the tick's file beside it: no JSON has it.
const BESIDE: u8 = 0;

thread_local! {
    /// This thread's state directory: one for all inputs.
    static DIR: RefCell<TempDir> = RefCell::new({
        let dir = tempfile::tempdir().unwrap();
        std::fs::set_permissions(dir.path(), PermissionsExt::from_mode(0o700)).unwrap();
        dir
    });
}

fn now() -> Now {
    Now { wall_s: DATE_S, boot_ms: NOW_MS, boot_id: "boot".to_owned() }
}

fn dir() -> StateDir {
    DIR.with_borrow(|dir| StateDir::new(dir.path(), &proxy()))
}

fn proxy() -> Node {
    Node::new("127.0.0.1", 6032).unwrap()
}

fn path(what: &str) -> PathBuf {
    DIR.with_borrow(|dir| dir.path().join(format!("{what}-127.0.0.1_6032.json")))
}

/// Nothing of an earlier input is left.
fn clear() {
    let dir = DIR.with_borrow(|dir| dir.path().to_owned());
    for entry in std::fs::read_dir(dir).unwrap() {
        let _ = std::fs::remove_file(entry.unwrap().path());
    }
}

fn node(name: &str) -> Node {
    Node::new(name, 3306).unwrap()
}

/// What this program writes itself, with something in every field.
pub fn state_seeds() -> Vec<Vec<u8>> {
    let mut memory = Memory::first_start("boot", NOW_MS - 60_000);
    memory.watching_since_s = Some(DATE_S - 3_600);
    memory.nodes.known = ["node01", "node02", "node03"].map(node).into_iter().collect();
    memory.lease.armed = true;
    memory.lease.asked_ms = Some(NOW_MS - 1_000);
    memory.lease.held_ms = Some(NOW_MS - 900);
    memory.lease.leader = Some(SteadyLeader { name: "http://orc1:3000".to_owned(), since_ms: NOW_MS - 60_000 });
    memory.nodes.instances_asked_ms = Some(NOW_MS - 800);
    memory.history.asked_ms = Some(NOW_MS - 700);
    memory.history.progress.leader = "http://orc1:3000".to_owned();
    let (reason, owner) = (LOST_IN_RECOVERY.to_owned(), "orchestrator".to_owned());
    let downtime = Downtime { node: node("node01"), reason, owner, begin_s: DATE_S - 24 };
    memory.history.downtimes = [(downtime.node.clone(), downtime)].into();
    let record = Recovery {
        at_ns: 1_795_414_811_497_811_603,
        uid: "1795414811497811603:811ae46c".to_owned(),
        end_s: Some(1_795_414_811),
        analysis: Analysis::DeadPrimary,
        successful: true,
        failed: node("node01"),
        successor: Some(node("node03")),
        alias: "labcluster".to_owned(),
    };
    let fact = |kind, id: &str| {
        let by = Some(node("node03"));
        (kind, Evidence { kind, by, source: Source::RecoveryHistory, id: id.to_owned(), at_s: DATE_S - 25 })
    };
    let facts = [
        fact(EvidenceKind::Superseded, &record.uid),
        fact(EvidenceKind::LostInRecovery, "x@1"),
        fact(EvidenceKind::Manual, ""),
    ];
    memory.nodes.evidence = [(node("node01"), facts.into())].into();
    memory.history.records = [(record.uid.clone(), record)].into_iter().collect();
    memory.history.promoted_nobody = [(node("node02"), 5)].into();
    memory.nodes.released = [(node("node01"), Release { recovery_ns: 1, downtime_s: 2, ordered_s: 3 })].into();
    memory.nodes.proofs = [(node("node01"), FirstProof { role: Role::Replica, at_ms: NOW_MS - 3_000 })].into();
    memory.nodes.up_throughout = [node("node01")].into();
    memory.nodes.second_writers = [(node("node03"), DATE_S - 3)].into();
    let mut state = State { memory, ..State::default() };
    state.errors.error("orchestrator http://orc1:3000", "refused", DATE_S - 100);
    let written = |state: &State| {
        clear();
        dir().save(state).unwrap();
        [std::fs::read(path("state")).unwrap(), std::fs::read(path("tick")).unwrap()]
    };
    let [first, [full, tick]] = [written(&State::default()), written(&state)];
    vec![first[0].clone(), full.clone(), [full, vec![BESIDE], tick].concat()]
}

/// A state file, and the tick's file beside it.
pub fn state(bytes: &[u8]) -> bool {
    clear();
    let mut files = bytes.splitn(2, |byte| *byte == BESIDE);
    for (what, bytes) in ["state", "tick"].into_iter().zip(&mut files) {
        std::fs::write(path(what), bytes).unwrap();
    }
    let mut state = dir();
    match state.load() {
        Loaded::Kept(kept) => {
            is_of_this_proxy_and_version(bytes);
            state.save(&kept).unwrap();
            assert_eq!(dir().peek().unwrap(), Some(kept.clone()), "what was kept is kept");
            let resumed = kept.memory.clone().resume(&now().boot_id, NOW_MS, 3_600);
            of_kept(&resumed, Default::default());
            true
        }
        Loaded::Unusable { set_aside, reason } => {
            may_be_said(&reason.to_string());
            assert!(set_aside.is_some_and(|path| path.exists()));
            assert!(matches!(dir().load(), Loaded::Fresh));
            false
        }
        Loaded::Untouchable(reason) => {
            may_be_said(&reason.to_string());
            assert!(state.save(&State::default()).is_err() && path("state").exists());
            false
        }
        Loaded::Fresh => panic!("a file is there"),
    }
}

/// By another reader, as far as that one takes it.
fn is_of_this_proxy_and_version(bytes: &[u8]) {
    let first = bytes.split(|byte| *byte == BESIDE).next().unwrap_or_default();
    if let Ok(json) = serde_json::from_slice::<serde_json::Value>(first)
        && json.is_object()
    {
        assert_eq!(json["version"], VERSION);
        assert_eq!(json["proxy"].as_str().and_then(|proxy| proxy.parse().ok()), Some(proxy()));
    }
}

pub fn orders_seeds() -> Vec<Vec<u8>> {
    clear();
    dir().suspend("a reason", "me", Duration::from_secs(60), &now()).unwrap();
    let suspended = std::fs::read(path("orders")).unwrap();
    dir().release(&node("node01"), Release { recovery_ns: 1, downtime_s: 2, ordered_s: 3 }).unwrap();
    vec![suspended, std::fs::read(path("orders")).unwrap()]
}

/// An orders file: what can't be read orders nothing, and the break-glass works all the same.
pub fn orders(bytes: &[u8]) -> bool {
    clear();
    std::fs::write(path("orders"), bytes).unwrap();
    let standing = dir().orders(&now());
    let understood = standing.problem.is_none();
    if let Some(problem) = &standing.problem {
        may_be_said(&problem.to_string());
        assert!(standing.suspension.is_none() && standing.orders == Default::default());
    }
    assert_eq!(standing.suspension.as_ref().map(|s| s.reason.clone()), standing.orders.suspended);
    let mut memory = Memory::first_start("boot", NOW_MS - 60_000);
    memory.watching_since_s = Some(DATE_S - 3_600);
    memory.nodes.known = ["node01", "node02", "node03"].map(node).into_iter().collect();
    of_kept(&memory, standing.orders.clone());
    let is_newer = standing.problem.as_ref().is_some_and(|problem| !problem.is_corrupt());
    match dir().suspend("at once", "me", Duration::from_secs(60), &now()) {
        Ok(_) => {
            let again = dir().orders(&now());
            assert_eq!(again.orders.suspended.as_deref(), Some("at once"));
            assert_eq!(again.orders.released, standing.orders.released, "what was released still is");
        }
        Err(error) => {
            may_be_said(&error.to_string());
            assert!(is_newer && std::fs::read(path("orders")).unwrap() == bytes, "{error}");
        }
    }
    understood
}
