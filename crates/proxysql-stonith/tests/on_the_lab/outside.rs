//! What the process meets outside: whoever reads its log or writes what goes into it, and signals.

use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use lab::proxysql::Verdict;

use crate::stage::{Daemon, Stage, eventually};

fn count_statements(stage: &Stage) -> Arc<AtomicUsize> {
    let count = Arc::new(AtomicUsize::new(0));
    let counted = count.clone();
    stage.proxysql.before_statement(move |_| {
        counted.fetch_add(1, Ordering::SeqCst);
        Verdict::Go
    });
    count
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_log_that_nobody_reads_stops_neither_ticks_nor_a_fence_nor_the_end() {
    let stage = Stage::set().await;
    let served = count_statements(&stage);
    let (nobody_reads, mut log) = std::io::pipe().unwrap();
    // Linux gives a pipe 64 KiB, in pages: it takes some lines, and then none any more.
    log.write_all(&[b'x'; 60 * 1024]).unwrap();
    let daemon = Daemon::with_log(stage.command("run --interval 100ms --log-level=trace"), log);
    let waiting = || rustix::io::ioctl_fionread(&nobody_reads).unwrap();
    eventually("the pipe is full", || waiting() > 63 * 1024).await;
    let at = served.load(Ordering::SeqCst);
    eventually("it ticks on", || served.load(Ordering::SeqCst) > at + 50).await;
    stage.fail_over().await;
    eventually("it fences", || stage.is_fenced("node01")).await;
    daemon.signal("-TERM");
    assert_eq!(daemon.ended().await, Some(0));
    assert!(waiting() > 63 * 1024, "nobody read it");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_hangup_ends_nothing() {
    let stage = Stage::set().await;
    let served = count_statements(&stage);
    let daemon = Daemon::start(stage.command("run --interval 100ms"));
    eventually("it ticks", || served.load(Ordering::SeqCst) > 0).await;
    daemon.signal("-HUP");
    let at = served.load(Ordering::SeqCst);
    eventually("it ticks on", || served.load(Ordering::SeqCst) > at + 25).await;
    daemon.signal("-TERM");
    assert_eq!(daemon.ended().await, Some(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_downtimes_reason_moves_no_terminal_and_forges_no_line() {
    let stage = Stage::set().await;
    let mut said = stage.succeeds("run --once").await;
    let forged = "\nERROR forged\r\u{1b}[2J\u{202e}";
    stage.orchestrator.begin_downtime("node03", &format!("disk{forged}{}", "x".repeat(1_000_000)));
    for line in ["plan", "run --once", "status", "status --json"] {
        let (text, code) = stage.stonith(line).await;
        assert_eq!(code, if line == "plan" { 10 } else { 0 }, "{text}");
        said.push_str(&text);
    }
    assert!(stage.is_fenced("node03") && said.contains("disk") && said.contains("forged"), "the control: it is told");
    assert!(!said.lines().any(|line| line.starts_with("ERROR forged")), "{said}");
    assert!(!said.contains(['\r', '\u{1b}', '\u{202e}']), "{said}");
    assert!(said.len() < 100_000, "{} bytes", said.len());
    let kept: u64 = std::fs::read_dir(stage.dir.path().join("state"))
        .unwrap()
        .map(|entry| entry.unwrap().metadata().unwrap().len())
        .sum();
    assert!(kept < 100_000, "{kept} bytes of state");
}
