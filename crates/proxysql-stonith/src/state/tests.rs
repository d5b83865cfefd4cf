//! The rules of the state directory.

use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::time::Duration;

use stonith_core::orders::Release;

use super::*;
use crate::clock::Now;

fn proxy() -> Node {
    "127.0.0.1:6032".parse().unwrap()
}

fn fresh() -> (tempfile::TempDir, StateDir) {
    let root = tempfile::tempdir().unwrap();
    let state = StateDir::new(&root.path().join("lib/stonith"), &proxy());
    drop(state.try_lock(1_000).unwrap());
    (root, state)
}

fn armed() -> State {
    let mut state = State::default();
    state.memory.boot_id = "boot".to_owned();
    state.memory.lease.armed = true;
    state.memory.nodes.known.insert("node01:3306".parse().unwrap());
    state.errors.error("orc1", "refused", 100);
    state
}

fn now(boot_ms: u64, wall_s: i64) -> Now {
    Now { boot_id: "boot".to_owned(), boot_ms, wall_s }
}

#[test]
fn a_first_start_is_fresh_and_what_is_saved_is_kept() {
    let (_root, mut state) = fresh();
    assert!(matches!(state.load(), Loaded::Fresh));
    assert!(state.save(&armed()).unwrap());
    let Loaded::Kept(kept) = state.again().load() else { panic!("not kept") };
    assert_eq!(*kept, armed());
}

#[test]
fn the_state_is_written_only_when_it_changed() {
    let (_root, mut state) = fresh();
    assert!(state.save(&armed()).unwrap());
    let inode = fs::metadata(state.state_path()).unwrap().ino();
    assert!(!state.save(&armed()).unwrap());
    let mut next = state.again();
    next.load();
    assert!(!next.save(&armed()).unwrap());
    assert_eq!(fs::metadata(state.state_path()).unwrap().ino(), inode);
    let mut changed = armed();
    changed.memory.lease.last_tick_ms = 7;
    assert!(next.save(&changed).unwrap(), "a tick");
    assert_eq!(fs::metadata(state.state_path()).unwrap().ino(), inode, "which costs no sync");
    changed.memory.lease.isolated = true;
    assert!(next.save(&changed).unwrap());
    assert_ne!(fs::metadata(state.state_path()).unwrap().ino(), inode);
}

#[test]
fn the_ticks_file_changes_places_with_the_one_of_the_tick_before() {
    let (_root, mut state) = fresh();
    let path = state.tick_path();
    let beside = state.dir.join("tick-127.0.0.1_6032.json.new");
    let mut inodes = Vec::new();
    for last_tick_ms in [1_000, 20, 3, 4_000] {
        let mut ticked = armed();
        ticked.memory.lease.last_tick_ms = last_tick_ms;
        state.save(&ticked).unwrap();
        let Loaded::Kept(kept) = state.again().load() else { panic!("not kept") };
        assert_eq!(kept.memory.lease.last_tick_ms, last_tick_ms, "a shorter one has nothing of a longer one");
        inodes.push(fs::metadata(&path).unwrap().ino());
    }
    assert_eq!((inodes[2], inodes[3]), (inodes[0], inodes[1]), "no file is made or removed");
    assert_ne!(inodes[0], inodes[1]);

    let another = state.dir.join("another's");
    fs::write(&another, "as it was").unwrap();
    fs::remove_file(&beside).unwrap();
    fs::hard_link(&another, &beside).unwrap();
    state.save(&armed()).unwrap();
    assert_eq!(fs::read_to_string(&another).unwrap(), "as it was", "a planted link is not written through");
    assert_eq!(state.again().peek().unwrap().unwrap().memory.lease.last_tick_ms, armed().memory.lease.last_tick_ms);
}

#[test]
fn times_count_only_beside_the_state_that_they_were_kept_with() {
    let (_root, mut state) = fresh();
    let mut ticked = armed();
    ticked.memory.lease.asked_ms = Some(5);
    state.save(&ticked).unwrap();
    let tick = fs::read(state.tick_path()).unwrap();
    assert_eq!(state.again().peek().unwrap().unwrap().memory.lease.asked_ms, Some(5));
    let mut next = ticked.clone();
    next.memory.lease.isolated = true;
    state.save(&next).unwrap();
    for stale in [&tick[..], b"", b"garbage", &tick[..tick.len() / 2]] {
        fs::write(state.tick_path(), stale).unwrap();
        let kept = state.again().peek().unwrap().unwrap().memory;
        assert_eq!((kept.lease.asked_ms, kept.lease.isolated, kept.lease.armed), (None, true, true));
    }
}

#[test]
fn files_are_closed_to_others_and_nothing_is_left_beside_them() {
    let (_root, mut state) = fresh();
    let _lock = state.try_lock(1_000).unwrap().unwrap();
    state.save(&armed()).unwrap();
    state.suspend("upgrade", "root", Duration::from_secs(60), &now(0, 0)).unwrap();
    assert_eq!(fs::metadata(&state.dir).unwrap().mode() & 0o777, 0o700);
    let mut names = Vec::new();
    for entry in fs::read_dir(&state.dir).unwrap() {
        let entry = entry.unwrap();
        assert_eq!(entry.metadata().unwrap().mode() & 0o777, 0o600, "{:?}", entry.file_name());
        names.push(entry.file_name().into_string().unwrap());
    }
    names.sort();
    assert_eq!(
        names,
        [
            "lock-127.0.0.1_6032",
            "orders-127.0.0.1_6032.json",
            "orders-127.0.0.1_6032.lock",
            "state-127.0.0.1_6032.json",
            "tick-127.0.0.1_6032.json"
        ]
    );
}

/// Kubernetes gives a volume's top to root and to a group that can write to it.
#[test]
fn a_directory_below_a_volume_that_a_group_can_write_to_is_closed() {
    let volume = tempfile::tempdir().unwrap();
    fs::set_permissions(volume.path(), Permissions::from_mode(0o2775)).unwrap();
    let top = StateDir::new(volume.path(), &proxy());
    assert!(matches!(top.try_lock(1_000), Err(StateError::OpenToOthers { .. })));
    let mut below = StateDir::new(&volume.path().join("state"), &proxy());
    let _lock = below.try_lock(1_000).unwrap().unwrap();
    assert!(below.save(&armed()).unwrap());
    assert_eq!(fs::metadata(&below.dir).unwrap().mode() & 0o777, 0o700);
}

#[test]
fn a_corrupt_state_is_set_aside_and_the_agent_starts_afresh() {
    let (_root, mut state) = fresh();
    state.save(&armed()).unwrap();
    let whole = fs::read(state.state_path()).unwrap();
    let wrong_type = br#"{"version":1,"proxy":"127.0.0.1:6032","memory":{"lease":{"armed":"yes"}}}"#;
    let zero = br#"{"version":0,"proxy":"127.0.0.1:6032","memory":{}}"#;
    for content in [&b""[..], b"garbage", &whole[..whole.len() / 2], b"[]", b"{}", wrong_type, zero] {
        fs::write(state.state_path(), content).unwrap();
        assert!(state.peek().is_err());
        let mut next = state.again();
        let Loaded::Unusable { reason, set_aside: Some(aside) } = next.load() else { panic!("not unusable") };
        assert!(reason.to_string().contains("makes no sense"), "{reason}");
        assert_eq!(fs::read(aside).unwrap(), content);
        assert!(next.save(&armed()).unwrap());
    }
    for _ in 0..20 {
        fs::write(state.state_path(), "garbage").unwrap();
        assert!(matches!(state.again().load(), Loaded::Unusable { set_aside: Some(_), .. }));
    }
    let aside =
        fs::read_dir(&state.dir).unwrap().filter(|e| e.as_ref().unwrap().path().to_string_lossy().contains(".bad-"));
    assert_eq!(aside.count(), 9);
}

#[test]
fn the_state_of_another_proxysql_is_not_used() {
    let (_root, mut state) = fresh();
    let mut other = StateDir::new(&state.dir, &"127.0.0.1:6033".parse().unwrap());
    other.save(&armed()).unwrap();
    fs::copy(other.state_path(), state.state_path()).unwrap();
    let Loaded::Unusable { reason, .. } = state.load() else { panic!("used") };
    assert!(reason.to_string().contains("another ProxySQL, 127.0.0.1:6033"), "{reason}");
}

#[test]
fn a_state_from_a_newer_version_is_never_overwritten() {
    let (_root, mut state) = fresh();
    let content = br#"{"version":2,"proxies":["127.0.0.1:6032"],"armed":true}"#;
    fs::write(state.state_path(), content).unwrap();
    let Loaded::Untouchable(reason) = state.load() else { panic!("touched") };
    assert!(reason.to_string().contains("newer version"), "{reason}");
    assert!(matches!(state.save(&armed()), Err(StateError::LeftAlone { .. })));
    assert_eq!(fs::read(state.state_path()).unwrap(), content);
}

#[test]
fn a_state_that_cannot_be_read_is_never_overwritten() {
    let (_root, mut state) = fresh();
    fs::create_dir(state.state_path()).unwrap();
    assert!(matches!(state.load(), Loaded::Untouchable(StateError::Io { action: "read", .. })));
    assert!(matches!(state.save(&armed()), Err(StateError::LeftAlone { .. })));
}

#[test]
fn a_state_too_large_to_be_right_is_not_read() {
    let (_root, mut state) = fresh();
    let file = File::create(state.state_path()).unwrap();
    file.set_len(STATE_MAX_BYTES + 1).unwrap();
    assert!(matches!(state.load(), Loaded::Unusable { reason: StateError::TooLarge { .. }, .. }));
}

#[test]
fn a_state_directory_that_cannot_be_written_is_said_with_the_way_out() {
    let root = tempfile::tempdir().unwrap();
    let file = root.path().join("file");
    fs::write(&file, "").unwrap();
    // As root, permissions stop nothing; these do.
    for dir in [file.join("state"), Path::new("/proc/sys").to_owned()] {
        let mut state = StateDir::new(&dir, &proxy());
        let problem = state.try_lock(1_000).unwrap_err().to_string();
        assert!(problem.contains(&*dir.to_string_lossy()), "{problem}");
        assert!(state.save(&armed()).is_err());
        assert!(state.try_out().is_err());
        assert!(state.suspend("x", "root", Duration::from_secs(1), &now(0, 0)).is_err());
    }
}

#[test]
fn a_state_directory_that_others_can_write_to_is_refused() {
    let (_root, state) = fresh();
    for mode in [0o1777, 0o770, 0o702] {
        fs::set_permissions(&state.dir, Permissions::from_mode(mode)).unwrap();
        let problem = state.try_lock(1_000).unwrap_err().to_string();
        assert!(problem.contains("chmod go-w"), "{problem}");
    }
    fs::set_permissions(&state.dir, Permissions::from_mode(0o750)).unwrap();
    assert!(state.try_lock(1_000).unwrap().is_some());
}

/// The owner of the directory plants links so that root gives the target away, reads it, or writes to it.
#[test]
fn a_symbolic_link_in_the_state_directory_is_never_followed() {
    let (root, mut state) = fresh();
    state.save(&armed()).unwrap();
    let target = root.path().join("shadow");
    fs::write(&target, "root:x:").unwrap();
    let is_root = rustix::process::geteuid().is_root();
    if is_root {
        std::os::unix::fs::chown(&state.dir, Some(65_534), Some(65_534)).unwrap();
    }
    let names: Vec<_> = fs::read_dir(&state.dir).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    let more = ["takeover-127.0.0.1_6032", "orders-127.0.0.1_6032.lock", "orders-127.0.0.1_6032.json"].map(Into::into);
    let beside = names.iter().map(|name| format!("{}.new", name.display()).into());
    for name in names.iter().cloned().chain(more).chain(beside) {
        let link = state.dir.join(&name);
        let _ = fs::remove_file(&link);
        std::os::unix::fs::symlink(&target, &link).unwrap();
    }
    let mut state = state.again();
    assert!(state.try_lock(1_000).is_err());
    assert!(state.try_take_over().is_err());
    assert!(matches!(state.load(), Loaded::Untouchable(_)));
    assert!(state.orders(&now(0, 0)).problem.is_some());
    assert!(state.suspend("x", "root", Duration::from_secs(1), &now(0, 0)).is_err());
    state.try_out().unwrap(); // what is written beside replaces the link
    let meta = fs::metadata(&target).unwrap();
    assert_eq!((fs::read_to_string(&target).unwrap().as_str(), meta.uid() == 65_534), ("root:x:", false));
    assert!(is_root || meta.uid() == fs::metadata(root.path()).unwrap().uid());
}

#[test]
fn a_pipe_in_a_files_place_hangs_nobody() {
    let (_root, mut state) = fresh();
    for name in ["state-127.0.0.1_6032.json", "orders-127.0.0.1_6032.json", "tick-127.0.0.1_6032.json"] {
        let mode = rustix::fs::Mode::RWXU;
        rustix::fs::mkfifoat(rustix::fs::CWD, state.dir.join(name), mode).unwrap();
    }
    assert!(matches!(state.load(), Loaded::Untouchable(_)));
    let problem = state.orders(&now(0, 0)).problem.unwrap().to_string();
    assert!(problem.contains("not a regular file"), "{problem}");
}

#[test]
fn a_write_that_was_cut_off_leaves_the_old_state_whole() {
    let (_root, mut state) = fresh();
    state.save(&armed()).unwrap();
    let beside = state.dir.join("state-127.0.0.1_6032.json.new");
    fs::write(&beside, "{\"version\":1,\"pro").unwrap();
    assert!(matches!(state.again().load(), Loaded::Kept(_)));
    state.try_out().unwrap();
    assert!(!beside.exists());
    fs::create_dir(&beside).unwrap();
    let mut changed = armed();
    changed.memory.lease.isolated = true;
    assert!(state.save(&changed).unwrap_err().to_string().contains("directory"), "what is in the way is said");
    let Loaded::Kept(kept) = state.again().load() else { panic!("not kept") };
    assert_eq!(*kept, armed());
}

#[test]
fn i12_only_one_agent_works_on_a_proxysql_and_a_second_leaves() {
    let (_root, state) = fresh();
    let held = state.try_lock(1_000).unwrap();
    assert!(held.is_some());
    assert!(state.again().try_lock(1_000).unwrap().is_none());
    let other = StateDir::new(&state.dir, &"127.0.0.1:6033".parse().unwrap());
    assert!(other.try_lock(1_000).unwrap().is_some());
    drop(held);
    assert!(state.again().try_lock(1_000).unwrap().is_some());
}

/// One other agent at most does a hung agent's work. If the hung one wakes up, their files do not mix.
#[test]
fn i12_one_at_most_does_the_work_of_an_agent_that_hangs() {
    let (_root, mut hung) = fresh();
    let held = hung.try_lock(1_000).unwrap().unwrap();
    let mut other = hung.again();
    let taken_over = other.try_take_over().unwrap().unwrap();
    assert!(hung.again().try_take_over().unwrap().is_none());
    assert_ne!(taken_over.name().unwrap(), held.name().unwrap());
    let beside = hung.dir.join("state-127.0.0.1_6032.json.new");
    fs::write(&beside, "half of what the hung one was writing").unwrap();
    other.try_out().unwrap();
    other.save(&armed()).unwrap();
    assert!(beside.exists());
    hung.save(&State::default()).unwrap();
    assert!(matches!(hung.again().load(), Loaded::Kept(state) if *state == State::default()));
}

#[test]
fn a_lock_keeps_its_name_from_holder_to_holder_and_each_has_its_own() {
    let (_root, state) = fresh();
    let name = || state.try_lock(1_000).unwrap().unwrap().name().unwrap();
    assert_eq!(name(), name());
    let other = StateDir::new(&state.dir, &"127.0.0.1:6033".parse().unwrap());
    assert_ne!(other.try_lock(1_000).unwrap().unwrap().name().unwrap(), name());
}

#[test]
fn a_holder_is_alive_from_when_it_took_the_lock_and_with_each_tick() {
    let (_root, mut state) = fresh();
    assert_eq!(state.last_alive_ms("boot"), Some(1_000));
    let _held = state.try_lock(50_000).unwrap();
    assert_eq!(state.last_alive_ms("boot"), Some(50_000));
    let mut ticked = armed();
    (ticked.memory.boot_id, ticked.memory.lease.last_tick_ms) = ("boot".to_owned(), 60_000);
    state.save(&ticked).unwrap();
    assert_eq!(state.last_alive_ms("boot"), Some(60_000));
    // Beside a state that was just written, as it is for a moment in each tick that learns something.
    let path = state.state_path();
    fs::write(&path, fs::read_to_string(&path).unwrap().replace("\"armed\":true", "\"armed\":false")).unwrap();
    assert_eq!(state.again().last_alive_ms("boot"), Some(60_000));
    assert_eq!(state.last_alive_ms("another boot"), Some(50_000));
}

#[test]
fn a_file_made_by_root_belongs_to_the_directorys_owner() {
    let (_root, mut state) = fresh();
    if std::os::unix::fs::chown(&state.dir, Some(12345), Some(12345)).is_err() {
        return; // Not root: every file is ours anyway.
    }
    fs::remove_file(state.lock_path()).unwrap(); // of before
    state.save(&armed()).unwrap();
    state.suspend("x", "root", Duration::from_secs(1), &now(0, 0)).unwrap();
    let _lock = state.try_lock(1_000).unwrap();
    for entry in fs::read_dir(&state.dir).unwrap() {
        assert_eq!(entry.unwrap().metadata().unwrap().uid(), 12345);
    }
}

#[test]
fn a_suspension_holds_until_its_time_is_over() {
    let (_root, state) = fresh();
    let begun = now(1_000, 1_000_000);
    assert!(state.orders(&begun).orders.suspended.is_none());
    state.suspend("upgrade", "alice", Duration::from_secs(60), &begun).unwrap();
    let standing = state.orders(&now(60_999, 1_000_059));
    assert_eq!(standing.orders.suspended.as_deref(), Some("upgrade"));
    assert_eq!(standing.suspension.unwrap().by, "alice");
    assert!(state.orders(&now(61_000, 1_000_060)).orders.suspended.is_none());
    assert!(state.orders(&now(61_000, 1_000_060)).suspension.is_none());
}

#[test]
fn a_clock_that_is_set_back_makes_no_suspension_longer_and_a_boot_does_not_end_it() {
    let (_root, state) = fresh();
    state.suspend("upgrade", "alice", Duration::from_secs(60), &now(1_000, 1_000_000)).unwrap();
    let suspended = |now: &Now| state.orders(now).orders.suspended.is_some();
    assert!(!suspended(&now(61_000, 996_400)), "clock set back an hour");
    assert!(suspended(&now(30_000, 1_003_600)), "clock set forward an hour");
    for boot_id in ["next", ""] {
        assert!(suspended(&Now { boot_id: boot_id.into(), boot_ms: 5, wall_s: 1_000_059 }));
        assert!(!suspended(&Now { boot_id: boot_id.into(), boot_ms: 5, wall_s: 1_000_060 }));
    }
}

#[test]
fn resume_ends_a_suspension_and_says_which() {
    let (_root, state) = fresh();
    let begun = now(0, 0);
    assert_eq!(state.resume(&begun).unwrap(), None);
    let suspension = state.suspend("upgrade", "alice", Duration::from_secs(60), &begun).unwrap();
    assert_eq!(state.resume(&begun).unwrap(), Some(suspension));
    assert!(state.orders(&begun).orders.suspended.is_none());
}

#[test]
fn releases_add_up_and_survive_a_suspension() {
    let (_root, state) = fresh();
    let node: Node = "node01:3306".parse().unwrap();
    state.release(&node, Release { recovery_ns: 5, downtime_s: 9, ordered_s: 1 }).unwrap();
    state.suspend("x", "y", Duration::from_secs(1), &now(0, 0)).unwrap();
    state.release(&node, Release { recovery_ns: 7, downtime_s: 2, ordered_s: 3 }).unwrap();
    state.resume(&now(0, 0)).unwrap();
    let released = state.orders(&now(0, 0)).orders.released;
    assert_eq!(released[&node], Release { recovery_ns: 7, downtime_s: 9, ordered_s: 3 });
}

#[test]
fn orders_that_make_no_sense_are_no_orders_and_a_command_still_works() {
    let (_root, state) = fresh();
    state.suspend("upgrade", "alice", Duration::from_secs(60), &now(0, 0)).unwrap();
    fs::write(state.dir.join("orders-127.0.0.1_6032.json"), "{\"version\":1,").unwrap();
    let standing = state.orders(&now(0, 0));
    assert!(standing.problem.unwrap().to_string().contains("makes no sense"));
    assert!(standing.orders.suspended.is_none() && standing.orders.released.is_empty());
    state.suspend("again", "alice", Duration::from_secs(60), &now(0, 0)).unwrap();
    let standing = state.orders(&now(0, 0));
    assert!(standing.problem.is_none());
    assert_eq!(standing.orders.suspended.as_deref(), Some("again"));
    assert!(state.dir.join("orders-127.0.0.1_6032.json.bad-1").exists());
}

#[test]
fn orders_from_a_newer_version_are_never_set_aside_or_overwritten() {
    let (_root, state) = fresh();
    let path = state.dir.join("orders-127.0.0.1_6032.json");
    fs::write(&path, r#"{"version":7,"future":true}"#).unwrap();
    assert!(state.suspend("x", "alice", Duration::from_secs(60), &now(0, 0)).is_err());
    assert!(state.orders(&now(0, 0)).problem.unwrap().to_string().contains("newer version"));
    assert_eq!(fs::read_to_string(&path).unwrap(), r#"{"version":7,"future":true}"#);
}

#[test]
fn a_directory_tells_whose_states_it_has_by_a_state_or_a_lock_alone() {
    let (_root, state) = fresh();
    let [by_lock, by_state, absent] = ["10.0.0.1:6032", "10.0.0.2:6032", "10.0.0.3:6032"]
        .map(|name| StateDir::new(&state.dir, &name.parse().unwrap()));
    drop(by_lock.try_lock(1_000).unwrap());
    drop(by_state.try_lock(1_000).unwrap());
    let mut kept = StateDir::new(&state.dir, by_state.proxy());
    kept.save(&armed()).unwrap();
    fs::remove_file(by_state.lock_path()).unwrap();
    // None of them is a file that this program would make.
    for name in ["lock-Proxy1_6032", "lock-proxy1", "state-x.json"] {
        fs::write(state.dir.join(name), "").unwrap();
    }
    assert_eq!([&by_lock, &by_state, &absent].map(StateDir::is_kept), [true, true, false]);
    let found: Vec<String> =
        StateDir::all_in(&state.dir).unwrap().iter().map(|found| found.proxy().to_string()).collect();
    assert_eq!(found, ["10.0.0.1:6032", "10.0.0.2:6032", "127.0.0.1:6032"]);
}

#[test]
fn a_state_that_would_be_too_large_to_read_is_not_written() {
    let (_root, mut state) = fresh();
    state.save(&armed()).unwrap();
    let kept = fs::read(state.state_path()).unwrap();
    let mut huge = armed();
    huge.memory.boot_id = "b".repeat(usize::try_from(STATE_MAX_BYTES).unwrap());
    assert!(matches!(state.save(&huge), Err(StateError::TooLarge { .. })));
    assert_eq!(fs::read(state.state_path()).unwrap(), kept, "the old one is whole");
}

#[test]
fn commands_at_once_lose_none_of_their_orders() {
    let (_root, state) = fresh();
    std::thread::scope(|scope| {
        for i in 0..8 {
            let state = state.again();
            scope.spawn(move || {
                let node = Node::new(&format!("node{i}"), 3306).unwrap();
                state.release(&node, Release { ordered_s: i, ..Release::default() }).unwrap();
            });
        }
    });
    assert_eq!(state.orders(&now(0, 0)).orders.released.len(), 8);
}

#[test]
fn any_proxys_name_makes_a_file_name() {
    let long = format!("{}:6032", "a".repeat(255));
    for (name, expected) in [("[::1]:6032", "::1_6032"), ("../../etc/x:1", "..%..%etc%x_1"), (&*long, "aaa")] {
        let state = StateDir::new(Path::new("/x"), &name.parse().unwrap());
        assert!(state.stem.starts_with(expected), "{}", state.stem);
        assert!(state.stem.len() < 200 && !state.stem.contains('/'));
    }
}

#[test]
fn of_too_many_releases_the_one_ordered_longest_ago_is_dropped_and_never_the_new_one() {
    let (_root, state) = fresh();
    let node = |n: usize| -> Node { format!("node{n:04}:3306").parse().unwrap() };
    let full: BTreeMap<Node, Release> = (0..1_000)
        .map(|n| (node(n), Release { recovery_ns: 1, downtime_s: 1, ordered_s: 10_000 - i64::try_from(n).unwrap() }))
        .collect();
    let file = serde_json::json!({"version": 1, "proxy": proxy(), "released": full});
    fs::write(state.dir.join("orders-127.0.0.1_6032.json"), file.to_string()).unwrap();
    // The new one is of before all the others: a clock that was set back.
    state.release(&node(5_000), Release { recovery_ns: 7, downtime_s: 7, ordered_s: 1 }).unwrap();
    let released = state.orders(&now(1, 1)).orders.released;
    assert_eq!(released.len(), 1_000);
    assert_eq!(released[&node(5_000)].recovery_ns, 7);
    assert!(!released.contains_key(&node(999)) && released.contains_key(&node(998)), "the oldest of the others");
}

#[test]
fn a_state_that_could_not_be_written_is_written_with_the_next_tick() {
    let (_root, mut state) = fresh();
    let beside = state.dir.join("state-127.0.0.1_6032.json.new");
    fs::create_dir(&beside).unwrap();
    assert!(state.save(&armed()).is_err(), "something is in the way");
    fs::remove_dir(&beside).unwrap();
    assert!(state.save(&armed()).unwrap());
    let Loaded::Kept(kept) = state.again().load() else { panic!("not kept") };
    assert_eq!(*kept, armed());
}
