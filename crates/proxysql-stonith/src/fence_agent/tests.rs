//! Real programs as fence agents: honest ones, and each kind of liar.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use stonith_core::evidence::EvidenceKind;
use tokio::time::Instant;

use super::*;
use crate::state::StateDir;

/// An honest agent: its power is a file, and it keeps what it was told.
const HONEST: &str = r#"
case $action in
metadata) echo '<resource-agent name="x"></resource-agent>';;
monitor) ;;
status) if [ -e "$dir/off" ]; then echo 'Status: OFF'; exit 2; fi; echo 'Status: ON';;
off) echo off >> "$dir/offs"; : > "$dir/off"; echo 'Success: Powered OFF';;
*) exit 1;;
esac
"#;

struct Desk(tempfile::TempDir);

impl Desk {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Another process writes it: a file that this one has open for writing cannot be run.
    fn script(&self, body: &str) -> PathBuf {
        let path = self.path("agent");
        let dir = self.0.path().display();
        let text = format!(
            "#!/bin/sh\ndir='{dir}'\ncat > $dir/told.$$\naction=$(sed -n s/^action=//p $dir/told.$$)\nmv $dir/told.$$ $dir/told\n{body}"
        );
        let mut writer = Command::new("sh");
        writer.args(["-c", "cat > \"$1\" && chmod 700 \"$1\"", "sh"]).arg(&path).stdin(Stdio::piped());
        let mut writer = writer.spawn().unwrap();
        writer.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
        assert!(writer.wait().unwrap().success());
        path
    }

    fn agent(&self, program: PathBuf) -> FenceAgentConfig {
        let password = self.path("password");
        std::fs::write(&password, "hunter2\n").unwrap();
        std::fs::set_permissions(&password, std::fs::Permissions::from_mode(0o600)).unwrap();
        FenceAgentConfig {
            name: "tried".to_owned(),
            program,
            nodes: [(node(), [("plug".to_owned(), "3".to_owned())].into())].into(),
            parameters: [("plug", "0"), ("lanplus", "true")].map(|(n, v)| (n.to_owned(), v.to_owned())).into(),
            secret_files: [("password".to_owned(), password)].into(),
            delay: Duration::ZERO,
            retries: 0,
            timeout: Duration::from_secs(20),
        }
    }

    fn offs(&self) -> usize {
        std::fs::read_to_string(self.path("offs")).unwrap_or_default().lines().count()
    }
}

fn node() -> Node {
    "node01:3306".parse().unwrap()
}

fn target() -> PowerTarget {
    let (kind, id) = (EvidenceKind::Superseded, "17:a".to_owned());
    PowerTarget { kind, id, at_s: 17, latest_s: 17, is_read_only: false, refusal: None }
}

fn tasks(dir: &Path, agents: Vec<FenceAgentConfig>, dry_run: bool) -> Tasks {
    let chosen = FenceAgentsConfig {
        kinds: vec![EvidenceKind::Superseded],
        always: false,
        read_only_wait: Duration::from_secs(30),
        dry_run,
        agents,
    };
    let settings = PowerSettings {
        agents: Vec::new(),
        read_only_first: BTreeSet::new(),
        read_only_wait_ms: 0,
        dry_run,
        target_max_ms: 15_000,
    };
    let dir = StateDir::new(dir, &"127.0.0.1:6032".parse().unwrap());
    Tasks { chosen: Arc::new(chosen), settings, book: Arc::new(Book::open(dir)) }
}

/// Hands a node over each 50 ms until its record is as wanted.
async fn until(tasks: &Tasks, wanted: impl Fn(&FenceAgentRecord) -> bool) -> FenceAgentRecord {
    let (sender, receiver) = watch::channel(Handed::default());
    let task = tokio::spawn(tasks.clone().fence(node(), receiver));
    let begun = Instant::now();
    loop {
        assert!(begun.elapsed() < Duration::from_secs(60), "{:?}", tasks.book.read());
        sender.send_modify(|handed| {
            (handed.targets, handed.at_ms) = ([(node(), target())].into(), clock::boot_ms());
        });
        sleep(Duration::from_millis(50)).await;
        let record = tasks.book.record(&node());
        if let Some(record) = record.filter(|record| wanted(record)) {
            drop(sender);
            task.await.unwrap();
            return record;
        }
    }
}

fn label(record: &FenceAgentRecord) -> &str {
    record.failure.as_ref().map_or("", |failure| &failure.label)
}

#[tokio::test]
async fn an_honest_agent_powers_a_node_off_once_and_a_restart_leaves_what_an_operator_powered_on() {
    let desk = Desk::new();
    let agent = desk.agent(desk.script(HONEST));
    let first = tasks(&desk.path("state"), vec![agent.clone()], false);
    let record = until(&first, |record| record.settled.is_some()).await;
    assert_eq!((record.state(), record.tries, desk.offs()), ("off-confirmed", 1, 1));
    let told = std::fs::read_to_string(desk.path("told")).unwrap();
    assert_eq!(told, "action=status\nlanplus=true\nplug=3\npassword=hunter2\n");
    std::fs::remove_file(desk.path("off")).unwrap();
    // Another process; then one whose history is lost; then one that guards another ProxySQL of this host.
    until(&tasks(&desk.path("state"), vec![agent.clone()], false), |record| record.settled.is_some()).await;
    std::fs::remove_file(desk.path("state/fence-agents-127.0.0.1_6032.json")).unwrap();
    let again = until(&tasks(&desk.path("state"), vec![agent], false), |record| record.settled.is_some()).await;
    assert_eq!((again.state(), desk.offs()), ("off-confirmed", 1));
}

#[tokio::test]
async fn nothing_is_done_where_nothing_tells_what_was_done_before() {
    let desk = Desk::new();
    let agent = desk.agent(desk.script(HONEST));
    let tasks = tasks(&desk.path("state"), vec![agent], false);
    drop(tasks.book.dir().lock_power(&node()).unwrap());
    std::fs::write(desk.path("state/power-node01_3306.json"), "garbage").unwrap();
    let record = until(&tasks, |record| record.failure.is_some()).await;
    assert_eq!((label(&record), desk.offs()), ("no-lock", 0));
    std::fs::remove_file(desk.path("state/power-node01_3306.json")).unwrap();
    let held = tasks.book.dir().lock_power(&node()).unwrap();
    assert!(held.is_some(), "the control");
    let (sender, receiver) = watch::channel(Handed::default());
    let task = tokio::spawn(tasks.clone().fence(node(), receiver));
    for _ in 0..40 {
        sender.send_modify(|handed| {
            (handed.targets, handed.at_ms) = ([(node(), target())].into(), clock::boot_ms());
        });
        sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(desk.offs(), 0, "somebody else has the lock");
    drop(sender);
    task.await.unwrap();
}

#[tokio::test]
async fn a_dry_run_asks_and_does_nothing() {
    let desk = Desk::new();
    let tasks = tasks(&desk.path("state"), vec![desk.agent(desk.script(HONEST))], true);
    let record = until(&tasks, |record| record.settled.is_some()).await;
    assert_eq!((record.state(), desk.offs(), desk.path("off").exists()), ("would-fence", 0, false));
    assert!(std::fs::read_to_string(desk.path("told")).unwrap().starts_with("action=status\n"), "it was asked");
}

#[tokio::test]
async fn a_liar_a_babbler_one_that_refuses_and_one_that_is_no_program_are_told_apart() {
    let lie = "[ $action = off ] && exit 0\n[ $action = status ] && echo 'Status: ON'\nexit 0\n";
    let garbage = "[ $action = off ] && exit 0\nyes \"$(printf '\\033[31m garbage')\" | head -c 300000\nexit 42\n";
    let refuses = "echo 'login denied for hunter2' >&2\nprintf '\\033[31m \\n' >&2\nexit 1\n";
    for (body, wanted, text) in [
        (lie, "still-on", "fence agent tried: off succeeded by its own word, and its status says that the node is on"),
        (garbage, "status-unclear", "exit code 42"),
        (refuses, "refused", "off failed (exit code 1)"),
    ] {
        let desk = Desk::new();
        let tasks = tasks(&desk.path("state"), vec![desk.agent(desk.script(body))], false);
        let record = until(&tasks, |record| record.failure.is_some()).await;
        assert_eq!(label(&record), wanted, "{record:?}");
        let shown = format!("{record:?}");
        assert!(shown.contains(text) && !shown.contains("hunter2") && !shown.contains("\\u{1b}"), "i11: {shown}");
        assert!(shown.len() < 1_000, "{shown}");
    }
    let desk = Desk::new();
    let no_program = desk.script(HONEST);
    std::fs::write(&no_program, "#!/no/such/interpreter\n").unwrap();
    let tasks = tasks(&desk.path("state"), vec![desk.agent(no_program)], false);
    let record = until(&tasks, |record| record.failure.is_some()).await;
    assert_eq!(label(&record), "not-started", "{record:?}");
}

#[tokio::test]
async fn one_that_hangs_is_killed_with_its_children_and_the_next_agent_does_it_though_it_is_slow() {
    let desk = Desk::new();
    let hangs = "trap '' TERM\nsleep 1000 &\necho $! > $dir/child\nwait\n";
    let mut first = desk.agent(desk.script(hangs));
    first.timeout = Duration::from_secs(1);
    let slow_desk = Desk::new();
    // It takes three seconds for `off`, which is thirty in the field.
    let slow = slow_desk.agent(slow_desk.script(&format!("[ $action = off ] && sleep 3\n{HONEST}")));
    let tasks = tasks(&desk.path("state"), vec![first, FenceAgentConfig { name: "slow".to_owned(), ..slow }], false);
    let failed = until(&tasks, |record| record.failure.is_some()).await;
    assert_eq!(label(&failed), "timed-out");
    let child: i32 = std::fs::read_to_string(desk.path("child")).unwrap().trim().parse().unwrap();
    let is_gone = |pid: i32| {
        let state = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        state.is_empty() || state.contains(") Z ")
    };
    let begun = Instant::now();
    while !is_gone(child) {
        assert!(begun.elapsed() < Duration::from_secs(10), "its child lives on");
        sleep(Duration::from_millis(20)).await;
    }
    let record = until(&tasks, |record| record.settled.is_some()).await;
    assert_eq!((record.settled.unwrap().agent.as_str(), slow_desk.offs()), ("slow", 1));
}

/// The node was repaired and promoted while its agent ran.
#[tokio::test]
async fn an_agent_whose_node_is_a_target_no_more_is_killed_in_the_middle() {
    let desk = Desk::new();
    let slow = format!("[ $action = off ] && : > $dir/begun && sleep 5\n{HONEST}");
    let tasks = tasks(&desk.path("state"), vec![desk.agent(desk.script(&slow))], false);
    let (sender, receiver) = watch::channel(Handed::default());
    let task = tokio::spawn(tasks.clone().fence(node(), receiver));
    while !desk.path("begun").exists() {
        let at_ms = clock::boot_ms();
        sender.send_modify(|handed| (handed.targets, handed.at_ms) = ([(node(), target())].into(), at_ms));
        sleep(Duration::from_millis(20)).await;
    }
    sender.send_modify(|handed| (handed.targets, handed.at_ms) = (BTreeMap::new(), clock::boot_ms()));
    sleep(Duration::from_secs(7)).await;
    assert!(!desk.path("off").exists() && desk.offs() == 0);
    assert_eq!(tasks.book.record(&node()).unwrap().state(), "ended");
    drop(sender);
    task.await.unwrap();
}

#[tokio::test]
async fn an_agent_that_cannot_work_is_told_at_the_start() {
    let desk = Desk::new();
    let config = |agents| FenceAgentsConfig {
        kinds: vec![EvidenceKind::Superseded],
        always: false,
        read_only_wait: Duration::ZERO,
        dry_run: false,
        agents,
    };
    let ready = async |agent: FenceAgentConfig| readiness(&config(vec![agent]), [node()]).await[&node()].clone();
    assert_eq!(ready(desk.agent(desk.script(HONEST))).await, Readiness::Ready);
    assert_eq!(desk.offs(), 0);
    for (action, says) in [
        ("metadata", "metadata failed (exit code 1): no device"),
        ("monitor", "monitor failed (exit code 1): no device"),
        ("status", "status failed (exit code 1): no device"),
    ] {
        let fails = format!("[ $action = {action} ] && echo 'no device' >&2 && exit 1\n{HONEST}");
        let found = ready(desk.agent(desk.script(&fails))).await;
        assert_eq!(found, Readiness::Unready(format!("fence agent tried: {says}")));
    }
    let found = ready(desk.agent(PathBuf::from("/bin/true"))).await;
    assert_eq!(found, Readiness::Unready("fence agent tried: its metadata is not that of a fence agent".to_owned()));
    let found = readiness(&config(Vec::new()), [node()]).await;
    assert_eq!(found[&node()], Readiness::Unready("no [[fence_agent]] names it".to_owned()));
}

/// An agent of Debian's `fence-agents`, with ClusterLabs' own library below it.
#[tokio::test]
async fn fence_dummy_of_debian_powers_a_file_off() {
    let program = PathBuf::from("/usr/sbin/fence_dummy");
    if !program.exists() {
        println!("skipped: {} is not installed (Debian: fence-agents)", program.display());
        return;
    }
    let desk = Desk::new();
    let status = desk.path("power");
    std::fs::write(&status, "on").unwrap();
    let file = ("status_file".to_owned(), status.display().to_string());
    let agent = FenceAgentConfig {
        parameters: BTreeMap::new(),
        secret_files: BTreeMap::new(),
        nodes: [(node(), [file].into())].into(),
        ..desk.agent(program)
    };
    let tasks = tasks(&desk.path("state"), vec![agent], false);
    assert_eq!(readiness(&tasks.chosen, [node()]).await[&node()], Readiness::Ready);
    let record = until(&tasks, |record| record.settled.is_some() || record.failure.is_some()).await;
    assert_eq!((record.state(), std::fs::read_to_string(status).unwrap().as_str()), ("off-confirmed", "off"));
}

/// The same agent with power that does not go: the library waits for it, and says that it did not.
#[tokio::test]
async fn fence_dummy_of_debian_whose_power_does_not_go_fails() {
    let program = PathBuf::from("/usr/sbin/fence_dummy");
    if !program.exists() {
        println!("skipped: {} is not installed (Debian: fence-agents)", program.display());
        return;
    }
    let desk = Desk::new();
    let parameters =
        [("type", "fail"), ("power_timeout", "1")].map(|(name, value)| (name.to_owned(), value.to_owned()));
    let agent =
        FenceAgentConfig { parameters: parameters.into(), secret_files: BTreeMap::new(), ..desk.agent(program) };
    let tasks = tasks(&desk.path("state"), vec![agent], false);
    let record = until(&tasks, |record| record.settled.is_some() || record.failure.is_some()).await;
    assert_eq!((label(&record), record.settled.is_none()), ("refused", true), "{record:?}");
}

#[tokio::test]
async fn a_record_that_was_forgotten_stays_so() {
    let desk = Desk::new();
    let tasks = tasks(&desk.path("state"), vec![desk.agent(desk.script(HONEST))], false);
    let record = until(&tasks, |record| record.settled.is_some()).await;
    tasks.book.change(|history| history.records.clear());
    let worker = Worker { node: node(), agents: Vec::new(), book: tasks.book.clone(), lock: None };
    worker.tell(Some(&FenceAgentRecord { ended_s: Some(20), ..record.clone() }));
    assert_eq!(tasks.book.record(&node()), None);
    worker.tell(Some(&record));
    assert_eq!(tasks.book.record(&node()), Some(record), "the control");
}
