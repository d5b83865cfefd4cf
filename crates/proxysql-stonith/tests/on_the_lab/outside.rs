//! What the process meets outside ProxySQL and Orchestrator: whoever reads its log, and signals.

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
