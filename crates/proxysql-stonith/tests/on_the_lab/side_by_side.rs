//! Two ProxySQLs, one agent's process: neither loop waits for the other.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use lab::proxysql::{ProxySql, Settings, Verdict};

use crate::stage::{Daemon, Stage, TICK, eventually};

/// Another ProxySQL for the stage's nodes, with a row for each of two.
pub async fn another(stage: &Stage, monitor_interval: Duration) -> ProxySql {
    let settings = Settings { monitor_interval, shun_recovery: TICK * 5, ..Settings::default() };
    let proxysql = ProxySql::start(stage.nodes.clone(), settings).await.unwrap();
    proxysql.query("INSERT INTO mysql_servers (hostgroup_id,hostname) VALUES (10,'node01'),(20,'node02')").unwrap();
    proxysql.query("LOAD MYSQL SERVERS TO RUNTIME").unwrap();
    proxysql
}

/// Whether node01 has rows there, and none in service.
pub fn has_fenced_node01(proxysql: &ProxySql) -> bool {
    let rows = proxysql.rows();
    let mut of_node = rows.iter().filter(|row| row.host == "node01").peekable();
    of_node.peek().is_some() && of_node.all(|row| row.status == "OFFLINE_SOFT")
}

/// Counts the statements of a ProxySQL that it carries out. With a receiver each hangs until its sender is dropped.
pub fn count_statements(proxy: &ProxySql, hangs: Option<(Arc<AtomicBool>, mpsc::Receiver<()>)>) -> Arc<AtomicUsize> {
    let count = Arc::new(AtomicUsize::new(0));
    let counted = count.clone();
    proxy.before_statement(move |_| {
        if let Some((begun, release)) = &hangs {
            begun.store(true, Ordering::SeqCst);
            let _ = tokio::task::block_in_place(|| release.recv());
        }
        counted.fetch_add(1, Ordering::SeqCst);
        Verdict::Go
    });
    count
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_proxysql_that_hangs_on_every_statement_delays_neither_ticks_nor_a_fence_of_another() {
    let stage = Stage::set().await;
    let hanging = another(&stage, TICK).await;
    let (release, held) = mpsc::channel::<()>();
    let begun = Arc::new(AtomicBool::new(false));
    let carried_out = count_statements(&hanging, Some((begun.clone(), held)));
    let served = count_statements(&stage.proxysql, None);
    // The one that hangs comes first.
    let both = format!("--proxysql={},{}", hanging.address(), stage.proxysql.address());
    let daemon = Daemon::start(stage.command(&format!("run --interval 100ms {both}")));
    eventually("the first statement hangs", || begun.load(Ordering::SeqCst)).await;
    // More statements than one tick has.
    let at = served.load(Ordering::SeqCst);
    eventually("the other ticks on", || served.load(Ordering::SeqCst) > at + 25).await;
    stage.fail_over().await;
    eventually("the other fences", || stage.is_fenced("node01")).await;
    assert_eq!(carried_out.load(Ordering::SeqCst), 0, "all that while the first statement hung");
    drop(release);
    eventually("it is fenced once it answers", || has_fenced_node01(&hanging)).await;
    daemon.signal("-TERM");
    assert_eq!(daemon.ended().await, Some(0));
}
