//! Orders that are seen through: what was fenced or let back is what ProxySQL shows, on every ProxySQL and for the agents
//! of every host.

use std::time::{Duration, Instant};

use stonith_core::lease::LeaseState;

use crate::stage::{Stage, eventually, make_old, tick};

/// Nobody listens there.
const NOBODY: &str = "http://127.0.0.1:9";

/// node01 was failed over from, is up again and read-only, and its replication does not run.
async fn with_a_node_that_is_not_proven(stage: &Stage) {
    stage.fail_over().await;
    stage.nodes.start("node01");
    stage.nodes.make_replica("node01", "node02");
    stage.nodes.change("node01", |server| server.replicating = false);
    stage.orchestrator.poll();
}

/// The state directories of two hosts, each with an agent that has started.
async fn two_hosts(stage: &Stage) -> [String; 2] {
    let hosts = ["a", "b"].map(|host| format!("--state-dir={}", stage.dir.path().join(host).display()));
    for host in &hosts {
        stage.succeeds(&format!("run --once {host}")).await;
    }
    hosts
}

fn is_in_service(stage: &Stage, node: &str) -> bool {
    stage.runtime().lines().any(|row| row.contains(&format!("/{node}:ONLINE")))
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unfence_on_one_host_reaches_the_agent_on_another() {
    let stage = Stage::set().await;
    let [a, b] = two_hosts(&stage).await;
    with_a_node_that_is_not_proven(&stage).await;
    for host in [&a, &b] {
        stage.succeeds(&format!("run --once {host}")).await;
    }
    assert!(stage.is_fenced("node01"), "{}", stage.runtime());
    let (text, code) = stage.stonith(&format!("unfence node01:3306 --without-lease {a}")).await;
    assert!(code == 0 && text.contains("node01:3306 let back on 1 of 1"), "{text}");
    for host in [&b, &a, &b] {
        let (text, code) = stage.stonith(&format!("run --once {host}")).await;
        assert_eq!(code, 0, "{text}");
        assert!(is_in_service(&stage, "node01"), "{host}: {}\n{text}", stage.runtime());
    }
    stage.nodes.kill("node02");
    stage.orchestrator.fail_over("node02", Some("node03"));
    stage.succeeds(&format!("run --once {b}")).await;
    assert!(stage.is_fenced("node02"), "the control: what is new fences");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unfence_where_no_agent_runs_makes_no_state_and_reaches_the_agent_all_the_same() {
    let stage = Stage::set().await;
    let admin = stage.dir.path().join("admin");
    stage.succeeds("run --once").await;
    with_a_node_that_is_not_proven(&stage).await;
    stage.succeeds("run --once").await;
    let line = format!("unfence node01 --without-lease --orchestrator={NOBODY} --state-dir={}", admin.display());
    let (text, code) = stage.stonith(&line).await;
    assert_eq!(code, 0, "{text}");
    assert!(!admin.exists(), "nothing is made");
    for _ in 0..2 {
        stage.succeeds("run --once").await;
        assert!(is_in_service(&stage, "node01"), "{}", stage.runtime());
    }
}

/// What is on record in ProxySQL goes with it: the agent's own directory has it too.
#[tokio::test(flavor = "multi_thread")]
async fn an_unfence_outlives_a_restart_of_proxysql() {
    let stage = Stage::set().await;
    stage.succeeds("run --once").await;
    with_a_node_that_is_not_proven(&stage).await;
    stage.succeeds("run --once").await;
    assert!(stage.is_fenced("node01"), "{}", stage.runtime());
    stage.succeeds("unfence node01 --without-lease").await;
    let records = "SELECT name FROM main.sqlite_master WHERE name='stonith_released'";
    assert_eq!(stage.select(records), "stonith_released");
    stage.proxysql.restart().await.unwrap();
    assert_eq!(stage.select(records), "", "the control: nothing is on record there");
    stage.succeeds("run --once").await;
    assert!(is_in_service(&stage, "node01"), "{}", stage.runtime());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fence_on_one_host_stays_for_the_agent_on_another_until_it_is_let_back() {
    let stage = Stage::set().await;
    let [a, b] = two_hosts(&stage).await;
    let before = stage.everything();
    stage.succeeds(&format!("fence node03 {a}")).await;
    let fenced = stage.everything();
    stage.succeeds(&format!("run --once {b}")).await;
    assert!(stage.everything() == fenced && stage.is_fenced("node03"));
    stage.succeeds(&format!("unfence node03 {a}")).await;
    for host in [&b, &a] {
        stage.succeeds(&format!("run --once {host}")).await;
        assert_eq!(stage.everything(), before);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fence_that_can_not_read_the_note_of_a_row_fails_and_names_the_row_and_the_way_out() {
    let stage = Stage::set().await;
    stage.sql("UPDATE mysql_servers SET comment='rack 9 [stonith:9 from the future]' WHERE hostname='node03'");
    stage.sql("LOAD MYSQL SERVERS TO RUNTIME");
    let before = stage.runtime();
    let (text, code) = stage.stonith("fence node03 --wait 1s").await;
    assert!(code == 1 && !text.contains("no connections in use"), "{code}: {text}");
    assert!(text.contains("node03:3306 is not fenced") && text.contains("20/node03:3306 ONLINE"), "{text}");
    assert!(text.contains("LOAD MYSQL SERVERS TO RUNTIME") && text.contains("0 of 1 configured"), "{text}");
    assert_eq!(stage.runtime(), before);
    let (text, code) = stage.stonith("fence node02").await;
    assert_eq!(code, 0, "the control: {text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fence_is_claimed_only_where_runtime_shows_it() {
    let stage = Stage::set().await;
    // Somebody puts the row back at once, between the apply and the look after it.
    let proxysql = stage.proxysql.clone();
    let mut loads = 0;
    stage.proxysql.before_statement(move |sql| {
        loads += usize::from(sql.starts_with("LOAD MYSQL SERVERS"));
        if loads == 1 && sql.starts_with("DROP TABLE IF EXISTS main.stonith_lock") {
            loads += 1;
            let others = proxysql.clone();
            std::thread::spawn(move || {
                others.query("UPDATE mysql_servers SET status='ONLINE',comment='' WHERE hostname='node03'").unwrap();
                others.query("LOAD MYSQL SERVERS TO RUNTIME").unwrap();
            })
            .join()
            .unwrap();
        }
        lab::proxysql::Verdict::Go
    });
    let (text, code) = stage.stonith("fence node03").await;
    assert_eq!(code, 1, "{text}");
    assert!(text.contains("20/node03:3306 ONLINE is still in service") && text.contains("0 of 1"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn all_proxysqls_are_fenced_before_any_is_waited_for() {
    let (stage, other) = (Stage::set().await, Stage::set().await);
    let both = format!("--proxysql={},{}", stage.proxysql.address(), other.proxysql.address());
    let pinned = stage.proxysql.connect();
    pinned.pin();
    while pinned.read() != Ok("node03".to_owned()) {}
    let begun = Instant::now();
    let line = format!("fence node03 --wait 3s {both}");
    let (fence, seen) = tokio::join!(stage.stonith(&line), async {
        eventually("both are fenced", || stage.is_fenced("node03") && other.is_fenced("node03")).await;
        begun.elapsed()
    });
    assert!(seen < Duration::from_secs(3), "{seen:?}");
    let (text, code) = fence;
    assert_eq!(code, 1, "a session holds it: {text}");
    assert!(text.contains("1 connections to node03:3306 are still in use") && text.contains("2 of 2"), "{text}");
    assert!(!text.contains("no connections in use"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_is_not_fenced_is_not_said_to_be_let_back() {
    let stage = Stage::set().await;
    stage.succeeds("run --once").await;
    let (text, code) = stage.stonith("unfence node03").await;
    assert_eq!(code, 0, "{text}");
    assert!(text.contains("node03:3306 was not fenced on 1 of 1") && !text.contains("let back on"), "{text}");
    assert_eq!(stage.proxysql.writes(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_command_takes_an_isolation_back_once_the_agent_is_suspended() {
    let stage = Stage::set().await;
    stage.succeeds("run --once").await;
    let before = stage.everything();
    let mut agent = stage.agent();
    tick(&mut agent).await.unwrap();
    let mut cut_off = stage.agent_that_asks(&[NOBODY.to_owned()], agent.memory().clone());
    make_old(&mut cut_off);
    assert_eq!(tick(&mut cut_off).await.unwrap().decision.lease_state, LeaseState::Isolated);
    let isolated = stage.everything();
    assert!(["node01", "node02", "node03"].iter().all(|node| stage.is_fenced(node)));
    let all = format!("unfence --all --without-lease --orchestrator={NOBODY}");
    let (text, code) = stage.stonith(&format!("{all} --yes")).await;
    assert!(code == 2 && text.contains("Suspend the agent first"), "{text}");
    stage.succeeds("suspend --reason break-glass").await;
    let (text, code) = stage.stonith(&all).await;
    assert!(code == 2 && text.contains("node01:3306, node02:3306, node03:3306") && text.contains("--yes"), "{text}");
    assert_eq!(stage.everything(), isolated, "it only said so");
    let (text, code) = stage.stonith(&format!("{all} --yes")).await;
    assert!(code == 0 && text.contains("the isolation was ended on 1 of 1"), "{text}");
    assert_eq!(stage.everything(), before);
    assert_eq!(stage.stonith(&format!("run --once --orchestrator={NOBODY}")).await.1, 1);
    assert_eq!(stage.everything(), before, "the suspended agent leaves it");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_superseded_before_an_isolation_stays_out_when_that_is_taken_back() {
    let stage = Stage::set().await;
    stage.succeeds("run --once").await;
    stage.fail_over().await;
    let mut agent = stage.agent();
    tick(&mut agent).await.unwrap();
    stage.succeeds("run --once").await;
    let mut cut_off = stage.agent_that_asks(&[NOBODY.to_owned()], agent.memory().clone());
    make_old(&mut cut_off);
    tick(&mut cut_off).await.unwrap();
    assert!(stage.is_fenced("node02"));
    stage.succeeds("suspend --reason break-glass").await;
    let (text, code) = stage.stonith(&format!("unfence --all --without-lease --yes --orchestrator={NOBODY}")).await;
    assert!(code == 0 && text.contains("node01:3306 stays out: superseded by=node02:3306"), "{text}");
    assert!(stage.is_fenced("node01") && is_in_service(&stage, "node02"), "{}", stage.runtime());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_is_carried_out_where_the_node_has_rows_and_says_where_it_has_none() {
    let (stage, other) = (Stage::set().await, Stage::set().await);
    other.sql("DELETE FROM mysql_servers WHERE hostname='node03'");
    other.sql("LOAD MYSQL SERVERS TO RUNTIME");
    other.sql("SAVE MYSQL SERVERS TO DISK");
    let before = other.everything();
    let both = format!("--proxysql={},{}", stage.proxysql.address(), other.proxysql.address());
    let absent = format!("ProxySQL {}: node03:3306 has no managed row there", other.proxysql.address());
    for (order, says) in [("fence", "fenced(soft) on 1 of 2"), ("unfence", "let back on 1 of 2")] {
        let (text, code) = stage.stonith(&format!("{order} node03:3306 {both}")).await;
        assert!(code == 0 && text.contains(says) && text.contains(&absent), "{order}: {code}: {text}");
        assert_eq!(stage.is_fenced("node03"), order == "fence", "{}", stage.runtime());
    }
    assert_eq!((other.everything(), other.proxysql.writes()), (before, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unfence_that_can_not_read_the_note_of_a_row_fails_and_changes_nothing() {
    let stage = Stage::set().await;
    stage.sql("UPDATE mysql_servers SET status='OFFLINE_SOFT',comment='rack 9 [stonith:9 from the future]' WHERE hostname='node03'");
    stage.sql("LOAD MYSQL SERVERS TO RUNTIME");
    let (text, code) = stage.stonith("unfence node03").await;
    assert_eq!(code, 1, "{text}");
    assert!(text.contains("node03:3306 is not let back, nothing was changed"), "{text}");
    assert_eq!(stage.proxysql.writes(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unfence_of_a_node_that_is_held_and_not_fenced_has_nothing_to_let_back() {
    let stage = Stage::set().await;
    stage.succeeds("run --once").await;
    // Where a node is out, all instances are asked for; that of node03 can't be read.
    stage.fail_over().await;
    stage.nodes.make_replica("node03", "[2001:db8::5]");
    stage.orchestrator.poll();
    stage.succeeds("run --once").await;
    let (text, code) = stage.stonith("status").await;
    assert!(text.contains("hold") && code == 3, "the control: {code} {text}");
    let writes = stage.proxysql.writes();
    let (text, code) = stage.stonith("unfence node03").await;
    assert!(code == 0 && text.contains("node03:3306 was not fenced on 1 of 1"), "{code}: {text}");
    assert_eq!(stage.proxysql.writes(), writes);
}

/// Another agent or command has the lock in ProxySQL.
fn be_busy(stage: &Stage) {
    stage.sql(
        "CREATE TABLE main.stonith_lock AS \
         SELECT 'another' AS owner, CAST(strftime('%s','now') AS INTEGER)+30 AS expires",
    );
}

/// How often it was looked whether the lock is free.
fn tries(stage: &Stage) -> usize {
    stage.proxysql.statements().iter().filter(|sql| sql.starts_with("CREATE TABLE main.stonith_lock")).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_waits_for_another_applier_and_gives_up_after_a_while() {
    let (freed, held) = (Stage::set().await, Stage::set().await);
    [&freed, &held].into_iter().for_each(be_busy);
    let (fence, (), (text, code)) = tokio::join!(
        freed.stonith("fence node03"),
        async {
            eventually("it has tried twice", || tries(&freed) >= 2).await;
            assert!(!freed.is_fenced("node03"));
            freed.sql("DROP TABLE main.stonith_lock");
        },
        held.stonith("fence node03")
    );
    assert!(fence.1 == 0 && freed.is_fenced("node03"), "{fence:?}");
    assert_eq!(code, 1, "{text}");
    assert!(text.contains("another") && text.contains("20/node03:3306 ONLINE is still in service"), "{text}");
    assert!(tries(&held) > 10, "{}", tries(&held));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unfence_that_waits_sees_the_node_online_or_says_that_it_did_not() {
    for comes_online in [false, true] {
        let stage = Stage::set().await;
        stage.sql("UPDATE mysql_servers SET status='OFFLINE_SOFT' WHERE hostname='node03'");
        stage.sql("LOAD MYSQL SERVERS TO RUNTIME");
        stage.succeeds("fence node03").await;
        let line = format!("unfence node03 --wait {}", if comes_online { "60s" } else { "100ms" });
        let ((text, code), ()) = tokio::join!(stage.stonith(&line), async {
            let is_over = || stage.left_behind().is_empty() && stage.runtime().contains("20/node03:OFFLINE_SOFT[]");
            eventually("its note is gone, and the apply over", is_over).await;
            let of_runtime = |sql: &&String| *sql == "SELECT * FROM runtime_mysql_servers";
            let looks = || stage.proxysql.statements().iter().filter(of_runtime).count();
            let before = looks();
            eventually("it is looked at again", || !comes_online || looks() > before + 3).await;
            if comes_online {
                stage.sql("UPDATE mysql_servers SET status='ONLINE' WHERE hostname='node03'");
                stage.sql("LOAD MYSQL SERVERS TO RUNTIME");
            }
        });
        assert_eq!(code, i32::from(!comes_online), "{text}");
        let says = "is let back, but was not ONLINE in time: 20/node03:3306 OFFLINE_SOFT";
        assert_eq!(text.contains(says), !comes_online, "{text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unfence_that_waits_goes_on_while_proxysql_shuns_the_node() {
    for comes_back in [false, true] {
        let stage = Stage::set().await;
        stage.succeeds("fence node03").await;
        stage.nodes.kill("node03");
        // Clients find that the node is down between the LOAD and the look after it.
        let proxysql = stage.proxysql.clone();
        let is_shunned = move || proxysql.rows().iter().any(|row| row.host == "node03" && row.status == "SHUNNED");
        let (clients, mut loaded) = (stage.proxysql.clone(), false);
        let seen_by_clients = is_shunned.clone();
        stage.proxysql.before_statement(move |sql| {
            loaded |= sql.starts_with("LOAD MYSQL SERVERS");
            if loaded && sql.starts_with("DROP TABLE IF EXISTS main.stonith_lock") {
                (0..100).take_while(|_| !seen_by_clients()).for_each(|_| clients.touch(20));
            }
            lab::proxysql::Verdict::Go
        });
        let line = format!("unfence node03 --without-lease --wait {}", if comes_back { "60s" } else { "100ms" });
        let ((text, code), ()) = tokio::join!(stage.stonith(&line), async {
            let of_runtime = |sql: &&String| *sql == "SELECT * FROM runtime_mysql_servers";
            let looks = || stage.proxysql.statements().iter().filter(of_runtime).count();
            eventually("it is shunned", &is_shunned).await;
            let before = looks();
            eventually("it is looked at again", || !comes_back || looks() > before + 3).await;
            if comes_back {
                stage.nodes.start("node03");
                let is_online = || {
                    stage.proxysql.touch(20);
                    is_in_service(&stage, "node03")
                };
                eventually("it is back", is_online).await;
            }
        });
        assert_eq!(code, i32::from(!comes_back), "{text}");
        let says = "is let back, but was not ONLINE in time: 20/node03:3306 SHUNNED";
        assert_eq!(text.contains(says), !comes_back, "{text}");
        assert!(!stage.is_fenced_in_runtime("node03"), "{}", stage.runtime());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_that_is_not_carried_out_on_every_proxysql_fails() {
    let (stage, other) = (Stage::set().await, Stage::set().await);
    other.sql("UPDATE mysql_servers SET comment='rack 9 [stonith:9 from the future]' WHERE hostname='node03'");
    other.sql("LOAD MYSQL SERVERS TO RUNTIME");
    let [own, holds] = [&stage, &other].map(|stage| stage.proxysql.address().to_string());
    for (proxies, of, expected) in
        [(own.clone(), 1, 0), (format!("{own},{holds}"), 2, 1), (format!("{own},127.0.0.1:9"), 2, 1)]
    {
        for (order, says) in [("fence", "fenced(soft)"), ("unfence", "let back")] {
            let (text, code) = stage.stonith(&format!("{order} node03:3306 --proxysql={proxies}")).await;
            assert_eq!(code, expected, "{order} on {proxies}: {text}");
            assert!(text.contains(&format!("{says} on 1 of {of}")), "{order} on {proxies}: {text}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unfence_says_where_the_node_was_let_back_and_where_it_was_not_fenced() {
    let (stage, other) = (Stage::set().await, Stage::set().await);
    let both = format!("--proxysql={},{}", stage.proxysql.address(), other.proxysql.address());
    let text = stage.succeeds("fence node03").await;
    assert!(!text.contains("already"), "{text}");
    assert!(text.contains("row changed") && text.contains("verdict=\"fence(soft)\""), "{text}");
    let text = stage.succeeds(&format!("unfence node03 {both}")).await;
    assert!(text.contains("was not fenced on 1 of 2") && text.contains("let back on 1 of 2"), "{text}");
    stage.succeeds("fence node03").await;
    let text = stage.succeeds("unfence node03").await;
    assert!(text.contains("let back on 1 of 1") && !text.contains("was not fenced"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_changes_the_ordered_node_alone_and_says_where_it_adds_nothing() {
    let stage = Stage::set().await;
    stage.succeeds("run --once").await;
    stage.fail_over().await;
    stage.succeeds("fence node03").await;
    assert!(stage.is_fenced("node03") && !stage.is_fenced("node01"), "{}", stage.runtime());
    stage.succeeds("run --once").await;
    assert!(stage.is_fenced("node01"), "the control: the agent fences it");
    let text = stage.succeeds("fence node01").await;
    assert!(text.contains("node01:3306 is already fenced by superseded") && text.contains("adds nothing"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fence_that_waits_ends_well_once_the_last_transaction_is_over() {
    let stage = Stage::set().await;
    let session = stage.proxysql.connect();
    session.begin();
    while session.read() != Ok("node03".to_owned()) {
        session.commit().unwrap();
        session.begin();
    }
    let (text, ()) = tokio::join!(stage.succeeds("fence node03 --wait 60s"), async {
        let counts = || stage.proxysql.statements().iter().filter(|sql| sql.contains("ConnUsed")).count();
        eventually("it is fenced", || stage.is_fenced("node03")).await;
        let before = counts();
        eventually("it is waited for", || counts() > before + 2).await;
        session.commit().unwrap();
    });
    assert!(text.contains("fenced(soft) on 1 of 1") && text.contains("no connections in use"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fence_that_ends_sessions_fails_while_one_that_is_hidden_may_be_left() {
    let stage = Stage::set().await;
    let config = stage.config("policy.end_possible_holders = false");
    stage.sql("SET mysql-shun_recovery_time_sec='77'");
    let holder = stage.proxysql.connect();
    holder.pin();
    assert_eq!(holder.write(), Ok("node01".to_owned()));
    assert_ne!(holder.read(), Ok("node01".to_owned()), "which hides that it holds node01");
    let (text, code) = stage.stonith(&format!("fence node01 --yes --level sessions {config}")).await;
    assert!(code == 1 && text.contains("node01:3306 still has connections in use"), "{code}: {text}");
    assert!(stage.is_fenced("node01") && text.contains("0 of 1"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_return_is_claimed_only_where_runtime_shows_it() {
    let stage = Stage::set().await;
    stage.succeeds("fence node03").await;
    // Somebody fences the row again at once, between the apply and the look after it.
    let proxysql = stage.proxysql.clone();
    let mut loads = 0;
    stage.proxysql.before_statement(move |sql| {
        loads += usize::from(sql.starts_with("LOAD MYSQL SERVERS"));
        if loads == 1 && sql.starts_with("DROP TABLE IF EXISTS main.stonith_lock") {
            loads += 1;
            let others = proxysql.clone();
            std::thread::spawn(move || {
                let fence = "UPDATE mysql_servers SET status='OFFLINE_SOFT',comment=' [stonith:1 manual was=ONLINE]' \
                             WHERE hostname='node03'";
                others.query(fence).unwrap();
                others.query("LOAD MYSQL SERVERS TO RUNTIME").unwrap();
            })
            .join()
            .unwrap();
        }
        lab::proxysql::Verdict::Go
    });
    let (text, code) = stage.stonith("unfence node03").await;
    assert!(code == 1 && text.contains("is still fenced; the release is saved"), "{code}: {text}");
    assert!(text.contains("0 of 1"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_isolation_that_is_not_taken_back_on_every_proxysql_fails() {
    let stage = Stage::set().await;
    stage.succeeds("run --once").await;
    stage.succeeds("suspend --reason break-glass").await;
    let all = "unfence --all --without-lease --yes";
    for (more, expected, says) in [("", 0, "1 of 1"), (",127.0.0.1:9", 1, "1 of 2")] {
        let line = format!("{all} --proxysql={}{more}", stage.proxysql.address());
        let (text, code) = stage.stonith(&line).await;
        assert_eq!(code, expected, "{text}");
        assert!(
            text.contains("no node is out of service only because of an isolation") && text.contains(says),
            "{text}"
        );
        assert!(!text.contains("stays out"), "no node is out: {text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unfence_in_a_role_that_the_operator_vouches_for_needs_no_proof_of_it() {
    let stage = Stage::set().await;
    // Orchestrator does not report super_read_only.
    stage.sql("UPDATE mysql_replication_hostgroups SET check_type='super_read_only'");
    stage.sql("LOAD MYSQL SERVERS TO RUNTIME");
    stage.succeeds("run --once").await;
    with_a_node_that_is_not_proven(&stage).await;
    stage.succeeds("run --once").await;
    let (text, code) = stage.stonith("unfence node01").await;
    assert!(code == 1 && text.contains("see also --as"), "the control: {text}");
    let (text, code) = stage.stonith("unfence node01 --as replica").await;
    assert_eq!(code, 0, "{text}");
    assert!(stage.runtime().contains("20/node01:ONLINE"), "{}", stage.runtime());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fence_that_ends_sessions_ends_one_that_hides_that_it_holds_the_node() {
    let stage = Stage::set().await;
    stage.sql("SET mysql-shun_recovery_time_sec='77'");
    let holder = stage.proxysql.connect();
    holder.pin();
    assert_eq!(holder.write(), Ok("node01".to_owned()));
    assert_ne!(holder.read(), Ok("node01".to_owned()), "which hides that it holds node01");
    let text = stage.succeeds("fence node01 --yes --level sessions").await;
    assert!(text.contains("fenced(sessions) on 1 of 1"), "{text}");
    assert!(holder.read().is_err(), "it was ended");
}
