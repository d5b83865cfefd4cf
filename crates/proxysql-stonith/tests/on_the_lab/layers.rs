//! Rows, layers and sessions: only what is ours is touched, and nothing else changes (I3, I4, I5, I6).

use lab::nodes::Nodes;
use lab::proxysql::{SessionError, Settings};
use lab::{orchestrator, proxysql};

use crate::stage::{Stage, TICK, eventually, tick};

async fn stage_with(settings: Settings) -> Stage {
    Stage::with(settings, orchestrator::Settings::default(), Nodes::new(&["node01", "node02", "node03"])).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fence_is_right_with_every_kind_of_monitor() {
    for monitor_writes_memory in [false, true] {
        for writer_is_also_reader in [false, true] {
            let stage =
                stage_with(Settings { monitor_writes_memory, writer_is_also_reader, ..Settings::default() }).await;
            stage.fail_over().await;
            tick(&mut stage.agent()).await.unwrap();
            assert!(stage.is_fenced("node01"), "{}", stage.everything());
            assert!(
                stage.runtime().contains("10/node01:OFFLINE_SOFT[rack 7 [stonith:1 superseded by=node02:3306 was=")
            );
            assert!(stage.runtime().contains("10/node02:ONLINE[]"), "I5");
            stage.nodes.start("node01");
            stage.checks(8).await;
            assert!(stage.is_fenced("node01"), "{}", stage.everything());
        }
    }
}

/// ProxySQL's monitor takes a dead primary out of the writers itself, after 4 s by default, and puts it back with the first
/// check after its return (23-default-pings).
#[tokio::test(flavor = "multi_thread")]
async fn a_dead_primary_that_the_monitor_took_out_is_fenced_in_every_layer_and_stays_out() {
    for writer_is_also_reader in [false, true] {
        let settings = Settings { writer_is_also_reader, ..Settings::default() };
        let nodes = Nodes::new(&["node01", "node02", "node03"]);
        let stage = Stage::with_monitor(settings, orchestrator::Settings::default(), nodes).await;
        stage.fail_over().await;
        eventually("the monitor has moved node01", || !stage.runtime().contains("10/node01")).await;
        tick(&mut stage.agent()).await.unwrap();
        assert!(stage.is_fenced("node01"), "{}", stage.everything());
        stage.nodes.start("node01");
        stage.checks(8).await;
        assert!(stage.is_fenced("node01"), "{}", stage.everything());
        assert!((0..6).all(|_| stage.proxysql.connect().write() == Ok("node02".to_owned())), "{}", stage.runtime());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn i3_rows_of_group_replication_galera_and_aurora_are_byte_identical_also_when_isolated() {
    let stage = Stage::set().await;
    for sql in [
        "INSERT INTO mysql_group_replication_hostgroups (writer_hostgroup,backup_writer_hostgroup,reader_hostgroup,offline_hostgroup) VALUES (100,101,102,103)",
        "INSERT INTO mysql_galera_hostgroups (writer_hostgroup,backup_writer_hostgroup,reader_hostgroup,offline_hostgroup) VALUES (110,111,112,113)",
        "INSERT INTO mysql_aws_aurora_hostgroups (writer_hostgroup,reader_hostgroup,domain_name) VALUES (120,121,'.x')",
        "INSERT INTO mysql_servers (hostgroup_id,hostname) VALUES (100,'node01'),(102,'node02'),(110,'node01'),(121,'node03')",
        "LOAD MYSQL SERVERS TO RUNTIME",
        "SAVE MYSQL SERVERS TO DISK",
    ] {
        stage.sql(sql);
    }
    let foreign = || {
        ["runtime_mysql_servers", "main.mysql_servers", "disk.mysql_servers"]
            .map(|table| stage.select(&format!("SELECT * FROM {table} WHERE hostgroup_id>=100 ORDER BY 1,2")))
    };
    let before = foreign();
    let mut agent = stage.agent();
    tick(&mut agent).await.unwrap();
    stage.fail_over().await;
    tick(&mut agent).await.unwrap();
    assert!(stage.runtime().contains("10/node01:OFFLINE_SOFT["));
    assert_eq!(foreign(), before);
    // Cut off for longer than the lease.
    stage.orchestrator.cut_off();
    agent.memory_mut().lease.asked_ms = agent.memory().lease.asked_ms.map(|asked| asked - 20_000);
    agent.memory_mut().lease.started_ms -= 20_000;
    tick(&mut agent).await.unwrap();
    assert!(
        stage.runtime().contains("10/node02:OFFLINE_SOFT[ [stonith:1 isolation was=ONLINE]]"),
        "{}",
        stage.runtime()
    );
    assert_eq!(foreign(), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn i3_what_an_operator_took_out_stays_out_through_fence_isolation_and_return() {
    let stage = Stage::set().await;
    stage.sql("UPDATE mysql_servers SET status='OFFLINE_SOFT', comment='by hand [x] it''s' WHERE hostname='node03'");
    stage.sql("LOAD MYSQL SERVERS TO RUNTIME");
    stage.sql("SAVE MYSQL SERVERS TO DISK");
    let row = "20/node03:OFFLINE_SOFT[by hand [x] it's]";
    let mut agent = stage.agent();
    tick(&mut agent).await.unwrap();
    let before = stage.everything();
    stage.orchestrator.cut_off();
    agent.memory_mut().lease.asked_ms = agent.memory().lease.asked_ms.map(|asked| asked - 20_000);
    agent.memory_mut().lease.started_ms -= 20_000;
    tick(&mut agent).await.unwrap();
    assert!(agent.memory().lease.isolated);
    assert!(stage.is_fenced("node01") && stage.runtime().contains(row), "{}", stage.runtime());
    stage.orchestrator.heal();
    for _ in 0..60 {
        tick(&mut agent).await.unwrap();
        tokio::time::sleep(TICK * 3).await;
        if stage.everything() == before {
            break;
        }
    }
    assert_eq!(stage.everything(), before, "rows exactly as before");
}

/// The variable is switched on for a look where none is staged; where one is, idle sessions of the pair are all that is
/// ended, and what was staged stays staged.
#[tokio::test(flavor = "multi_thread")]
async fn i4_sessions_of_every_kind_are_ended_and_of_nobody_else_also_one_that_another_server_hides() {
    for (on, staged) in [(true, false), (false, false), (false, true)] {
        let stage = Stage::with(
            proxysql::Settings::default(),
            orchestrator::Settings::default(),
            Nodes::new(&["node01", "node02", "node03"]).and(&["my01", "my02"]),
        )
        .await;
        if on {
            stage.sql("SET mysql-show_processlist_extended='1'");
            stage.sql("LOAD MYSQL VARIABLES TO RUNTIME");
        }
        if staged {
            stage.sql("SET mysql-shun_recovery_time_sec='77'");
        }
        let [plain, transaction, pinned, hidden] = [(); 4].map(|()| stage.proxysql.connect());
        transaction.begin();
        pinned.pin();
        hidden.pin();
        for session in [&plain, &transaction, &pinned, &hidden] {
            assert_eq!(session.write(), Ok("node01".to_owned()));
        }
        assert_ne!(hidden.read(), Ok("node01".to_owned()));
        // Other people's: a transaction on a reader, where nothing is fenced.
        let readers: Vec<_> = (0..20).map(|_| stage.proxysql.connect()).collect();
        for reader in &readers {
            reader.begin();
            assert_ne!(reader.read(), Ok("node01".to_owned()));
        }
        // It hangs, so that its connections stay.
        stage.nodes.stop("node01");
        stage.orchestrator.fail_over("node01", Some("node02"));
        eventually("the monitor has moved both", || stage.runtime().contains("10/node02:ONLINE")).await;
        let mut agent = stage.agent();
        tick(&mut agent).await.unwrap();
        assert!(stage.is_fenced("node01"));
        let at = format!("on {on}, staged {staged}");
        let used = "SELECT SUM(ConnUsed) FROM stats_mysql_connection_pool WHERE srv_host='node01'";
        assert_eq!(stage.select(used), "0", "{at}");
        stage.nodes.cont("node01");
        let writes = stage.nodes.get("node01").writes;
        for session in [&transaction, &pinned, &hidden] {
            assert_eq!(session.write(), Err(SessionError::Lost), "{at}");
        }
        assert_eq!(stage.nodes.get("node01").writes, writes);
        assert_eq!(plain.write(), Ok("node02".to_owned()), "{at}");
        // Where it can't be told who holds the node, those among the readers may (facts §4).
        let ended = readers.iter().filter(|reader| reader.read().is_err()).count();
        assert_eq!(ended, if staged { readers.len() } else { 0 }, "{at}");
        let variable = |layer: &str, name: &str| {
            stage.select(&format!("SELECT variable_value FROM {layer}global_variables WHERE variable_name='{name}'"))
        };
        for layer in ["main.", "runtime_"] {
            let is = variable(layer, "mysql-show_processlist_extended");
            assert_eq!(is, u8::from(on).to_string(), "{at}: as it was in {layer}");
        }
        assert_ne!(variable("runtime_", "mysql-shun_recovery_time_sec"), "77", "I6: {at}");
        assert_eq!(stage.left_behind(), "", "{at}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn i5_the_new_primarys_pinned_session_lives_on_through_a_fence() {
    let stage = Stage::set().await;
    stage.fail_over().await;
    let pinned = stage.proxysql.connect();
    pinned.pin();
    eventually("it writes to the new primary", || pinned.write() == Ok("node02".to_owned())).await;
    tick(&mut stage.agent()).await.unwrap();
    assert!(stage.is_fenced("node01"));
    assert_eq!(pinned.write(), Ok("node02".to_owned()));
}

#[tokio::test(flavor = "multi_thread")]
async fn i6_edits_staged_in_every_table_are_still_staged_and_not_live() {
    let stage = Stage::set().await;
    stage.fail_over().await;
    for sql in [
        // The pair itself is to get another number: its reader hostgroup is unique, and stays so.
        "UPDATE mysql_replication_hostgroups SET writer_hostgroup=11",
        "INSERT INTO mysql_group_replication_hostgroups (writer_hostgroup,backup_writer_hostgroup,reader_hostgroup,offline_hostgroup) VALUES (100,101,102,103)",
        "INSERT INTO mysql_galera_hostgroups (writer_hostgroup,backup_writer_hostgroup,reader_hostgroup,offline_hostgroup) VALUES (110,111,112,113)",
        "INSERT INTO mysql_aws_aurora_hostgroups (writer_hostgroup,reader_hostgroup,domain_name) VALUES (120,121,'.x')",
        "INSERT INTO mysql_hostgroup_attributes (hostgroup_id,max_num_online_servers) VALUES (10,1)",
        "INSERT INTO mysql_servers_ssl_params (hostname) VALUES ('node01')",
        "DELETE FROM mysql_servers WHERE hostname='node03'",
        "UPDATE mysql_servers SET weight=3, comment='half''done' WHERE hostname='node01'",
    ] {
        stage.sql(sql);
    }
    let tables = [
        "mysql_replication_hostgroups",
        "mysql_group_replication_hostgroups",
        "mysql_galera_hostgroups",
        "mysql_aws_aurora_hostgroups",
        "mysql_hostgroup_attributes",
        "mysql_servers_ssl_params",
    ];
    let of = |layer: &str| tables.map(|table| stage.select(&format!("SELECT * FROM {layer}{table}")));
    let (memory, runtime) = (of("main."), of("runtime_"));
    tick(&mut stage.agent()).await.unwrap();
    assert!(stage.is_fenced_in_runtime("node01"));
    assert_eq!(of("main."), memory);
    assert_eq!(of("runtime_"), runtime);
    let servers = stage.rows("main.mysql_servers");
    assert!(!servers.contains("node03"), "{servers}");
    assert!(servers.contains("10/node01:OFFLINE_SOFT[half'done [stonith:1 "), "{servers}");
    assert!(stage.runtime().contains("20/node03:ONLINE") && stage.runtime().contains("10/node01:OFFLINE_SOFT[rack 7 "));
    assert_eq!(stage.select("SELECT weight FROM main.mysql_servers WHERE hostname='node01'"), "3");
    assert_eq!(stage.select("SELECT weight FROM runtime_mysql_servers WHERE hostname='node01'"), "1");
}

#[tokio::test(flavor = "multi_thread")]
async fn two_clusters_behind_one_proxysql_are_fenced_apart() {
    let nodes = Nodes::new(&["node01", "node02", "node03"]).and(&["my01", "my02"]);
    let stage = Stage::with(proxysql::Settings::default(), orchestrator::Settings::default(), nodes).await;
    stage.sql("INSERT INTO mysql_replication_hostgroups VALUES (30,40,'read_only','')");
    stage.sql("INSERT INTO mysql_servers (hostgroup_id,hostname) VALUES (30,'my01'),(40,'my02')");
    stage.sql("LOAD MYSQL SERVERS TO RUNTIME");
    stage.sql("SAVE MYSQL SERVERS TO DISK");
    let mut agent = stage.agent();
    tick(&mut agent).await.unwrap();
    stage.nodes.kill("my01");
    stage.orchestrator.fail_over("my01", Some("my02"));
    eventually("the monitor has moved my02", || stage.runtime().contains("30/my02:ONLINE")).await;
    tick(&mut agent).await.unwrap();
    assert!(stage.is_fenced("my01"));
    assert!(stage.runtime().contains("10/node01:ONLINE[rack 7]") && stage.runtime().contains("30/my02:ONLINE[]"));
}
