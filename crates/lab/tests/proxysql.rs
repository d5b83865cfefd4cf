//! The lab's ProxySQL does what the real one was measured to do; each test names the fact. What it answers, and the order
//! of what becomes of rows, is compared with the recordings in `conformance`.

#[path = "proxysql/client.rs"]
#[allow(dead_code, reason = "the comparison with recordings uses more of it")]
mod client;
#[path = "proxysql/layers.rs"]
mod layers;
#[path = "proxysql/sessions.rs"]
mod sessions;
#[path = "proxysql/wire.rs"]
mod wire;

use std::process::Command;
use std::time::Duration;

use lab::nodes::Nodes;
use lab::proxysql::{ProxySql, SessionError, Settings};

const TICK: Duration = Duration::from_millis(20);

async fn start(settings: Settings) -> (Nodes, ProxySql) {
    let nodes = Nodes::new(&["node01", "node02", "node03"]);
    let proxy = ProxySql::start(nodes.clone(), settings).await.unwrap();
    for sql in [
        "INSERT INTO mysql_servers (hostgroup_id,hostname) VALUES (10,'node01'),(20,'node02'),(20,'node03')",
        "LOAD MYSQL SERVERS TO RUNTIME",
        "SAVE MYSQL SERVERS TO DISK",
    ] {
        proxy.query(sql).unwrap();
    }
    (nodes, proxy)
}

fn quick() -> Settings {
    Settings { monitor_interval: TICK, shun_recovery: TICK * 5, ..Settings::default() }
}

fn rows(proxy: &ProxySql) -> String {
    proxy.rows().iter().map(|row| row.text()).collect::<Vec<_>>().join(" ")
}

/// Waits until the monitor has been through as many rounds of checks.
async fn checks(proxy: &ProxySql, count: u64) {
    let until = proxy.checks() + count;
    let soon = std::time::Instant::now() + Duration::from_secs(10);
    while proxy.checks() < until {
        assert!(std::time::Instant::now() < soon, "does it check at all?");
        tokio::time::sleep(TICK / 4).await;
    }
}

/// The old primary is dead, and node02 is promoted; the monitor has seen it.
async fn fail_over(nodes: &Nodes, proxy: &ProxySql) {
    nodes.kill("node01");
    nodes.make_primary("node02");
    checks(proxy, 2).await;
    assert!(rows(proxy).contains("10/node02:ONLINE"), "{}", rows(proxy));
}

#[tokio::test]
async fn the_monitor_moves_runtime_only_and_up_to_2_5_2_memory_too() {
    for old in [false, true] {
        let (nodes, proxy) = start(Settings { monitor_writes_memory: old, ..quick() }).await;
        proxy.query("UPDATE mysql_servers SET weight=7 WHERE hostname='node03'").unwrap();
        fail_over(&nodes, &proxy).await;
        let memory =
            proxy.query("SELECT * FROM main.mysql_servers WHERE hostgroup_id=10 AND hostname='node02'").unwrap();
        assert_eq!(!memory.records.is_empty(), old);
        let staged = proxy.query("SELECT * FROM main.mysql_servers WHERE weight=7").unwrap();
        assert_eq!(staged.records.is_empty(), old, "and lost what was staged");
    }
}

#[tokio::test]
async fn a_plain_load_takes_the_new_primary_out_of_the_writers_and_ends_its_sessions() {
    let (nodes, proxy) = start(Settings { monitor_interval: Duration::from_secs(3600), ..quick() }).await;
    nodes.kill("node01");
    nodes.make_primary("node02");
    proxy.query("INSERT INTO mysql_servers (hostgroup_id,hostname) VALUES (10,'node02')").unwrap();
    proxy.query("LOAD MYSQL SERVERS TO RUNTIME").unwrap();
    proxy.query("DELETE FROM mysql_servers WHERE hostgroup_id=10 AND hostname='node02'").unwrap();
    let pinned = proxy.connect();
    pinned.pin();
    while pinned.write() != Ok("node02".to_owned()) {}
    proxy.query("LOAD MYSQL SERVERS TO RUNTIME").unwrap();
    assert!(rows(&proxy).contains("10/node02:OFFLINE_HARD"));
    assert_eq!(pinned.write(), Err(SessionError::Lost));
}

#[tokio::test]
async fn a_node_with_all_rows_offline_soft_is_never_probed_and_never_moved() {
    let (nodes, proxy) = start(quick()).await;
    fail_over(&nodes, &proxy).await;
    proxy.query("SAVE MYSQL SERVERS FROM RUNTIME").unwrap();
    proxy.query("UPDATE mysql_servers SET status='OFFLINE_SOFT' WHERE hostname='node01'").unwrap();
    proxy.query("LOAD MYSQL SERVERS TO RUNTIME").unwrap();
    nodes.start("node01");
    checks(&proxy, 8).await;
    for _ in 0..10 {
        assert_eq!(proxy.connect().write(), Ok("node02".to_owned()));
    }
}

#[tokio::test]
async fn without_a_fence_a_returned_primary_takes_writes_again() {
    let (nodes, proxy) = start(quick()).await;
    fail_over(&nodes, &proxy).await;
    while nodes.get("node02").writes < 3 {
        let _ = proxy.connect().write();
    }
    nodes.start("node01");
    checks(&proxy, 6).await;
    for _ in 0..20 {
        proxy.connect().write().unwrap();
    }
    assert!(nodes.get("node01").writes >= 8, "{}", rows(&proxy));
}

#[tokio::test]
async fn a_hung_writer_becomes_a_ghost_and_offline_soft_revives_its_sessions() {
    let (nodes, proxy) = start(quick()).await;
    let pinned = proxy.connect();
    pinned.pin();
    pinned.write().unwrap();
    nodes.stop("node01");
    checks(&proxy, 6).await;
    assert!(rows(&proxy).contains("10/node01:OFFLINE_HARD"), "{}", rows(&proxy));
    proxy.query("UPDATE mysql_servers SET status='OFFLINE_SOFT' WHERE hostname='node01'").unwrap();
    proxy.query("LOAD MYSQL SERVERS TO RUNTIME").unwrap();
    nodes.cont("node01");
    assert_eq!(pinned.write(), Ok("node01".to_owned()));
}

#[tokio::test]
async fn offline_soft_moves_plain_sessions_and_leaves_transactions_and_pinned_ones() {
    let (nodes, proxy) = start(Settings { monitor_interval: Duration::from_secs(3600), ..quick() }).await;
    nodes.make_primary("node02");
    let [plain, transaction, pinned] = [(); 3].map(|()| proxy.connect());
    transaction.begin();
    pinned.pin();
    for session in [&plain, &transaction, &pinned] {
        assert_eq!(session.write(), Ok("node01".to_owned()));
    }
    proxy.query("UPDATE mysql_servers SET status='OFFLINE_SOFT' WHERE hostname='node01'").unwrap();
    proxy.query("INSERT INTO mysql_servers (hostgroup_id,hostname) VALUES (10,'node02')").unwrap();
    proxy.query("LOAD MYSQL SERVERS TO RUNTIME").unwrap();
    assert_eq!(plain.write(), Ok("node02".to_owned()));
    assert_eq!(transaction.write(), Ok("node01".to_owned()));
    assert_eq!(pinned.write(), Ok("node01".to_owned()));
    transaction.commit().unwrap();
    assert_eq!(transaction.write(), Ok("node02".to_owned()));
    assert_eq!(pinned.write(), Ok("node01".to_owned()));
}

#[tokio::test]
async fn a_session_pinned_with_another_current_server_is_missed_by_the_filter_and_ended_by_its_id() {
    let (_nodes, proxy) = start(quick()).await;
    let pinned = proxy.connect();
    pinned.pin();
    pinned.write().unwrap();
    assert_ne!(pinned.read(), Ok("node01".to_owned()));
    let listed = proxy.query("SELECT SessionID FROM stats_mysql_processlist WHERE srv_host='node01'").unwrap();
    assert!(listed.records.is_empty());
    let used = "SELECT ConnUsed FROM stats_mysql_connection_pool WHERE srv_host='node01'";
    assert_eq!(proxy.query(used).unwrap().records, [[Some("1".to_owned())]]);
    proxy.query("SET mysql-show_processlist_extended=1").unwrap();
    proxy.query("LOAD MYSQL VARIABLES TO RUNTIME").unwrap();
    let all = proxy.query("SELECT SessionID,extended_info FROM stats_mysql_processlist").unwrap();
    assert!(all.records[0][1].as_ref().unwrap().contains("127.0.1.1"), "the address of node01");
    proxy.query(&format!("KILL CONNECTION {}", all.records[0][0].as_ref().unwrap())).unwrap();
    assert_eq!(proxy.query(used).unwrap().records, [[Some("0".to_owned())]]);
    assert_eq!(pinned.write(), Err(SessionError::Lost));
}

#[tokio::test]
async fn of_several_statements_one_runs_and_a_table_can_be_a_lock() {
    let (_nodes, proxy) = start(quick()).await;
    proxy.query("CREATE TABLE main.stonith_lock AS SELECT 'a' AS owner; DROP TABLE main.stonith_lock").unwrap();
    let again = proxy.query("CREATE TABLE main.stonith_lock AS SELECT 'b' AS owner").unwrap_err();
    assert!(again.starts_with("ProxySQL Admin Error: ") && again.contains("already exists"), "{again}");
    proxy.query("UPDATE runtime_mysql_servers SET status='OFFLINE_SOFT'").unwrap();
    assert!(!rows(&proxy).contains("SOFT"), "writing to a runtime table does nothing");
    assert!(proxy.query("SELECT @@version, @@version").is_err());
    proxy.restart().await.unwrap();
    assert!(proxy.query("SELECT * FROM main.stonith_lock").is_err(), "gone with a restart");
}

#[tokio::test]
async fn a_monitor_move_changes_the_checksum_and_a_load_the_version_too() {
    let (nodes, proxy) = start(quick()).await;
    let sum = || {
        proxy.query("SELECT version,checksum FROM runtime_checksums_values WHERE name='mysql_servers'").unwrap().records
    };
    let before = sum();
    fail_over(&nodes, &proxy).await;
    let moved = sum();
    assert_eq!(moved[0][0], before[0][0]);
    assert_ne!(moved[0][1], before[0][1]);
    proxy.query("LOAD MYSQL SERVERS TO RUNTIME").unwrap();
    assert_ne!(sum()[0][0], moved[0][0]);
}

#[tokio::test]
async fn paused_it_takes_no_clients_and_its_admin_works() {
    let (_nodes, proxy) = start(quick()).await;
    let old = proxy.connect();
    proxy.query("PROXYSQL PAUSE").unwrap();
    assert_eq!(proxy.connect().write(), Err(SessionError::NoProxy));
    assert_eq!(old.write(), Ok("node01".to_owned()));
    proxy.query("PROXYSQL RESUME").unwrap();
    assert!(proxy.connect().write().is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_stock_client_can_use_the_admin_port() {
    let (_nodes, proxy) = start(quick()).await;
    let port = format!("-P{}", proxy.address().port());
    let client = |password: &str, sql: &str| {
        let password = format!("-p{password}");
        let args = ["--no-defaults", "-h127.0.0.1", &port, "-uadmin", &password, "-N", "-e", sql];
        let done =
            Command::new("mariadb").args(args).output().expect("the stock client: .ci/run installs mariadb-client");
        [done.stdout, done.stderr].map(|bytes| String::from_utf8(bytes).unwrap()).concat()
    };
    assert_eq!(client("admin", "SELECT hostname FROM runtime_mysql_servers ORDER BY 1"), "node01\nnode02\nnode03\n");
    assert!(
        client("admin", "nonsense").contains("ERROR 1045 (28000) at line 1: ProxySQL Admin Error: near \"nonsense\"")
    );
    assert!(
        client("wrong", "SELECT 1")
            .contains("ProxySQL Error: Access denied for user 'admin'@'127.0.0.1' (using password: YES)")
    );
    assert_eq!(proxy.unknown(), ["nonsense"]);
}
