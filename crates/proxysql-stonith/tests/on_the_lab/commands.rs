//! The commands, as an operator types them.

use std::time::{Duration, Instant};

use proxysql_stonith::clock::{self, Now};
use proxysql_stonith::state::StateDir;
use stonith_core::node::Node;

use crate::stage::{Daemon, Stage, eventually};

#[tokio::test(flavor = "multi_thread")]
async fn plan_says_what_the_next_tick_would_do_and_changes_nothing() {
    let stage = Stage::set().await;
    stage.succeeds("run --once").await;
    let (text, code) = stage.stonith("plan").await;
    assert_eq!(code, 0, "{text}");
    assert!(text.contains("nothing to do") && text.contains("1 of 1 configured"), "{text}");
    assert_eq!(looks(&stage), 2, "the run and the plan: it is plain at once");
    stage.fail_over().await;
    let before = stage.everything();
    let (text, code) = stage.stonith("plan").await;
    assert_eq!(code, 10, "{text}");
    assert!(text.contains("runtime 10/node01:3306") && text.contains("superseded by=node02:3306"), "{text}");
    assert_eq!(stage.everything(), before);
    assert_eq!(stage.proxysql.writes(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn status_shows_what_would_let_a_node_back_as_text_and_json() {
    let stage = Stage::set().await;
    stage.succeeds("run --once").await;
    stage.fail_over().await;
    stage.succeeds("run --once").await;
    stage.nodes.start("node01");
    stage.orchestrator.poll();
    let (text, code) = stage.stonith("status").await;
    assert_eq!(code, 0, "{text}");
    assert!(text.contains("fence(sessions)") && text.contains("armed"), "{text}");
    assert!(text.contains("stays out: "), "{text}");
    let text = stage.succeeds("status --json").await;
    let json: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(json["configured"], 1);
    let proxy = &json["proxies"][0];
    assert_eq!(proxy["armed"], true);
    assert_eq!(proxy["nodes"][0]["node"], "node01:3306");
    assert_eq!(proxy["nodes"][0]["rows"][0]["status"], "OFFLINE_SOFT");
    let node = &proxy["nodes"][0];
    assert_eq!((&node["verdict"], &node["level"]), (&"fence".into(), &"sessions".into()));
    assert_eq!(
        (&node["evidence"][0]["kind"], &node["evidence"][0]["by"]),
        (&"superseded".into(), &"node02:3306".into())
    );
    let blocker = node["blockers"][0]["label"].as_str().unwrap();
    assert!(["confirmed-leader", "stands-alone"].contains(&blocker), "in the leader's first 2 s, and after: {blocker}");
    assert_eq!((&proxy["lease_state"], &proxy["version"]), (&"led".into(), &"2.7.1-16-g2726c27".into()));
    assert_eq!((&proxy["plan"]["empty"], &proxy["plan"]["changes"]), (&true.into(), &serde_json::json!([])));
    assert_eq!((&json["schema"], &json["worst"]), (&1.into(), &"info".into()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_without_its_port_is_the_only_one_of_that_host_or_an_error_with_the_candidates() {
    let stage = Stage::set().await;
    stage.sql("INSERT INTO mysql_servers (hostgroup_id,hostname,port) VALUES (20,'node02',3307)");
    stage.sql("LOAD MYSQL SERVERS TO RUNTIME");
    for (name, candidate) in [("node02", "node02:3306, node02:3307"), ("node09:3306", "node01:3306")] {
        let (text, code) = stage.stonith(&format!("fence {name}")).await;
        assert_eq!(code, 2, "{text}");
        assert!(text.contains(candidate), "{text}");
    }
    assert_eq!(stage.proxysql.writes(), 0);
    let (text, code) = stage.stonith("fence node03").await;
    assert_eq!(code, 0, "{text}");
    assert!(text.contains("node03:3306 fenced(soft) on 1 of 1 configured") && stage.is_fenced("node03"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn fence_and_unfence_by_order_survive_the_agents_ticks() {
    let stage = Stage::set().await;
    stage.succeeds("run --once").await;
    let before = stage.everything();
    let pinned = stage.proxysql.connect();
    pinned.pin();
    while pinned.read() != Ok("node03".to_owned()) {}
    let (text, code) = stage.stonith("fence node03:3306 --level sessions --reason disk --wait 5s").await;
    assert_eq!(code, 0, "{text}");
    assert!(text.contains("node03:3306 fenced(sessions) on 1 of 1 configured"), "{text}");
    assert!(stage.runtime().contains("20/node03:OFFLINE_SOFT[ [stonith:1 manual was=ONLINE]]"));
    let fenced = stage.everything();
    stage.succeeds("run --once").await;
    assert_eq!(stage.everything(), fenced, "the agent leaves it");
    let (text, code) = stage.stonith("unfence node03:3306 --wait 5s").await;
    assert_eq!(code, 0, "{text}");
    assert_eq!(stage.everything(), before);
    stage.succeeds("run --once").await;
    assert_eq!(stage.everything(), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_online_writer_wants_a_yes() {
    let stage = Stage::set().await;
    let (text, code) = stage.stonith("fence node01:3306").await;
    assert_eq!(code, 2);
    assert!(text.contains("last ONLINE writer of hostgroup 10") && text.contains("--yes"), "{text}");
    assert_eq!(stage.proxysql.writes(), 0);
    stage.succeeds("fence node01:3306 --yes").await;
    assert!(stage.is_fenced("node01"));
}

#[tokio::test(flavor = "multi_thread")]
async fn unfence_makes_no_second_primary_and_without_a_lease_it_does_as_told() {
    let stage = Stage::set().await;
    stage.succeeds("run --once").await;
    stage.fail_over().await;
    stage.succeeds("run --once").await;
    stage.nodes.start("node01");
    stage.orchestrator.poll();
    let before = stage.everything();
    let (text, code) = stage.stonith("unfence node01:3306").await;
    assert_eq!(code, 1, "{text}");
    assert!(text.contains("make it a replica") && text.contains("0 of 1 configured"), "{text}");
    assert_eq!(stage.everything(), before);
    for member in 0..3 {
        stage.orchestrator.kill(member);
    }
    let (text, code) = stage.stonith("unfence node01:3306 --without-lease").await;
    assert_eq!(code, 0, "{text}");
    assert!(stage.runtime().contains("10/node01:ONLINE[rack 7]"), "{}", stage.runtime());
}

#[tokio::test(flavor = "multi_thread")]
async fn suspended_nothing_is_fenced_until_resume() {
    let stage = Stage::set().await;
    stage.succeeds("run --once").await;
    stage.succeeds("suspend --for 1h --reason upgrade").await;
    stage.fail_over().await;
    let before = stage.everything();
    let text = stage.succeeds("run --once").await;
    assert_eq!(stage.everything(), before);
    assert!(text.contains("nothing is fenced or let back: upgrade"), "{text}");
    let (text, code) = stage.stonith("status").await;
    assert_eq!(code, 3, "{text}");
    assert!(text.contains("suspended") && text.contains("upgrade"), "{text}");
    let (text, code) = stage.stonith("status --json").await;
    assert_eq!(code, 3, "{text}");
    let status: serde_json::Value = serde_json::from_str(&text).unwrap();
    let proxy = &status["proxies"][0];
    assert_eq!(proxy["suspended"], "upgrade", "{text}");
    assert!((3_500..=3_600).contains(&proxy["suspended_for_s"].as_u64().unwrap()), "{text}");
    stage.succeeds("resume").await;
    stage.succeeds("run --once").await;
    assert!(stage.is_fenced("node01"));
}

#[tokio::test(flavor = "multi_thread")]
async fn observe_mode_reports_and_never_writes() {
    let stage = Stage::set().await;
    stage.succeeds("run --once --mode=observe").await;
    stage.fail_over().await;
    let text = stage.succeeds("run --once --mode=observe").await;
    assert!(text.contains("nothing is changed") && text.contains("superseded by=node02:3306"), "{text}");
    assert_eq!(stage.proxysql.writes(), 0);
    assert_eq!(stage.stonith("fence node03:3306 --mode=observe").await.1, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_daemon_ends_with_sigterm_and_keeps_a_second_one_out() {
    let stage = Stage::set().await;
    let daemon = Daemon::start(stage.command("run --interval 200ms"));
    let reads = || stage.proxysql.statements().len();
    eventually("it ticks", || reads() > 0).await;
    let (text, code) = stage.stonith("run --once").await;
    assert_eq!((text.as_str(), code), ("", 0), "with a live daemon it leaves at once");
    stage.fail_over().await;
    eventually("it fences", || stage.is_fenced("node01")).await;
    daemon.signal("-TERM");
    assert_eq!(daemon.ended().await, Some(0));
}

/// The agent has shown no sign of life for so long, as far as its files tell.
fn make_last_tick_older(stage: &Stage, ms: u64) {
    let port = stage.proxysql.address().port();
    let file = |name: String| stage.dir.path().join("state").join(name);
    let tick = file(format!("tick-127.0.0.1_{port}.json"));
    let mut kept: serde_json::Value = serde_json::from_slice(&std::fs::read(&tick).unwrap()).unwrap();
    let last = kept["memory"]["lease"]["last_tick_ms"].as_u64().unwrap();
    kept["memory"]["lease"]["last_tick_ms"] = (last - ms).into();
    std::fs::write(&tick, kept.to_string()).unwrap();
    let lock = file(format!("lock-127.0.0.1_{port}"));
    let name = std::fs::read_to_string(&lock).unwrap()[..16].to_owned();
    std::fs::write(&lock, format!("{name}{:016x}", last - ms)).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_scheduler_does_the_work_of_a_daemon_that_hangs() {
    let stage = Stage::set().await;
    let daemon = Daemon::start(stage.command("run --interval 200ms"));
    eventually("it ticks", || stage.proxysql.statements().len() > 20).await;
    daemon.signal("-STOP");
    stage.fail_over().await;
    stage.succeeds("run --once").await;
    assert!(!stage.is_fenced("node01"), "it may only be slow");
    make_last_tick_older(&stage, 40_000); // by what it kept
    let (text, code) = stage.stonith("run --once").await;
    assert_eq!(code, 0, "{text}");
    assert!(text.contains("has not ticked for 30 s"), "{text}");
    assert!(stage.is_fenced("node01"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_password_that_was_changed_is_read_again_by_the_running_daemon() {
    let stage = Stage::set().await;
    let log = stage.dir.path().join("log");
    let _daemon = Daemon::with_log(stage.command("run --interval 200ms"), std::fs::File::create(&log).unwrap());
    let secret = stage.dir.path().join("admin.cnf");
    eventually("it ticks", || !stage.proxysql.statements().is_empty()).await;
    stage.proxysql.set_users(vec![("radmin".to_owned(), "changed".to_owned())]);
    stage.proxysql.restart().await.unwrap();
    eventually("its password is refused", || std::fs::read_to_string(&log).unwrap().contains("Access denied")).await;
    std::fs::write(&secret, "[client]\nuser=radmin\npassword=changed\n").unwrap();
    stage.fail_over().await;
    eventually("it fences", || stage.is_fenced("node01")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn i11_no_output_shows_a_password_at_any_log_level() {
    let stage = Stage::set().await;
    let secret = stage.dir.path().join("secret.cnf");
    std::fs::write(
        &secret,
        "[client]\nuser=radmin\npassword=sesame-sesame\n[orchestrator]\nuser=u\npassword=sesame-two\n",
    )
    .unwrap();
    std::fs::set_permissions(&secret, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    stage.proxysql.set_users(vec![("radmin".to_owned(), "sesame-sesame".to_owned())]);
    stage.fail_over().await;
    for command in ["run --once", "plan", "status --json", "config check", "fence node03:3306", "unfence node03:3306"] {
        let text = stage.succeeds(&format!("{command} --log-level=trace --defaults-file={}", secret.display())).await;
        assert!(!text.contains("sesame"), "{command}: {text}");
        assert!(!text.contains("c2VzYW1l"), "nor in base64: {command}: {text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn several_proxysqls_are_each_fenced_and_the_output_counts_them() {
    let stage = Stage::set().await;
    let other = Stage::set().await;
    let both = format!("--proxysql={},{}", stage.proxysql.address(), other.proxysql.address());
    stage.succeeds(&format!("run --once {both}")).await;
    let (text, code) = stage.stonith(&format!("fence node03:3306 {both}")).await;
    assert_eq!(code, 0, "{text}");
    assert!(text.contains("on 2 of 2 configured"), "{text}");
    assert!(stage.is_fenced("node03") && other.is_fenced("node03"));
    other.proxysql.kill();
    for order in ["fence", "unfence"] {
        let (text, code) = stage.stonith(&format!("{order} node03:3306 {both}")).await;
        assert_eq!(code, 1, "{text}");
        assert!(text.contains("on 1 of 2 configured"), "{text}");
        assert!(text.contains(&other.proxysql.address().to_string()), "{text}");
    }
    stage.fail_over().await;
    assert_eq!(stage.stonith(&format!("run --once {both}")).await.1, 1);
    assert!(stage.is_fenced("node01"), "the one that is there is fenced all the same");
}

#[tokio::test(flavor = "multi_thread")]
async fn config_check_connect_says_what_it_saw_and_what_can_not_protect_and_changes_nothing() {
    let stage = Stage::set().await;
    let before = stage.everything();
    let (text, code) = stage.stonith("config check --connect").await;
    assert_eq!(code, 0, "{text}");
    assert_eq!(text.matches("answers, is the leader").count(), 1, "{text}");
    assert_eq!(text.matches("answers, is not the leader").count(), 2, "{text}");
    assert!(text.contains("version 2.7.1-16-g2726c27; ") && text.contains("Orchestrator knows 3 of 3 nodes"), "{text}");
    assert!(text.contains("isolation armed") && !text.contains(" ! "), "{text}");
    assert!(text.contains("leader 127.0.0.1"), "{text}");
    stage.orchestrator.kill(2);
    let (text, code) = stage.stonith("config check --connect").await;
    assert!(code == 1 && text.contains("was not reached"), "one of three: {text}");
    stage.orchestrator.start_member(2);
    stage.sql("UPDATE mysql_servers SET hostname='10.0.0.'||substr(hostname,6)");
    stage.sql("LOAD MYSQL SERVERS TO RUNTIME");
    let (text, code) = stage.stonith("config check --connect").await;
    assert!(code == 1 && text.contains("nothing is protected here") && text.contains("0 of 3 nodes"), "{text}");
    stage.succeeds("config check").await;
    stage.sql("UPDATE mysql_servers SET hostname='node0'||substr(hostname,8)");
    stage.sql("LOAD MYSQL SERVERS TO RUNTIME");
    assert_eq!(stage.everything(), before, "a scratch table was made and dropped");
    assert!(!stage.dir.path().join("state").exists(), "and keeps nothing");
    stage.proxysql.kill();
    let (text, code) = stage.stonith("config check --connect").await;
    assert!(code == 1 && text.contains("refused"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn plan_before_a_start_waits_until_it_can_tell_or_says_that_it_can_not() {
    let stage = Stage::set().await;
    // Two writers: the one that is not the primary is fenced once the leader is confirmed.
    stage.sql("INSERT INTO mysql_servers (hostgroup_id,hostname) VALUES (10,'node02')");
    stage.sql("LOAD MYSQL SERVERS TO RUNTIME");
    stage.nodes.change("node02", |server| server.read_only = false);
    let (text, code) = stage.stonith("plan --wait 1ms").await;
    assert_eq!(code, 11, "{text}");
    assert!(text.contains("may be incomplete") && text.contains("not confirmed"), "{text}");
    let (text, code) = stage.stonith("plan").await;
    assert_eq!(code, 10, "{text}");
    assert!(text.contains("node02:3306: fence(sessions): second-writer"), "{text}");
    assert_eq!(stage.proxysql.writes(), 0);
    let (text, code) = stage.stonith("plan --orchestrator=http://127.0.0.1:9").await;
    assert_eq!(code, 11, "{text}");
    assert!(text.contains("leader did not answer"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_decide_by_the_interval_of_the_agent_that_runs_here() {
    let stage = Stage::set().await;
    let isolates_in_ms = |text: String| {
        let json: serde_json::Value = serde_json::from_str(&text).unwrap();
        json["proxies"][0]["isolates_in_ms"].as_u64().unwrap()
    };
    stage.succeeds("run --once").await;
    let by_scheduler = isolates_in_ms(stage.succeeds("status --json").await);
    // 16 s less a scheduler's interval of 5 s and an apply: a daemon's 10 s come to 7.8 s.
    assert!((8_000..=10_500).contains(&by_scheduler), "{by_scheduler}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_waits_for_another_agent_to_leave() {
    let stage = Stage::set().await;
    let state = StateDir::new(&stage.dir.path().join("state"), &stage.proxy_node());
    let lock = state.try_lock(clock::boot_ms()).unwrap().expect("the lock");
    let log = stage.dir.path().join("log");
    let daemon = Daemon::with_log(stage.command("run --interval 200ms"), std::fs::File::create(&log).unwrap());
    eventually("it is started", || std::fs::read_to_string(&log).unwrap().contains("started")).await;
    // It sleeps between its tries.
    let before = daemon.sleeps();
    eventually("it tries again and again", || daemon.sleeps() >= before + 5).await;
    assert_eq!(stage.proxysql.statements(), [""; 0], "while the other is at work");
    drop(lock);
    eventually("it ticks", || !stage.proxysql.statements().is_empty()).await;
    daemon.signal("-TERM");
    assert_eq!(daemon.ended().await, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_suspension_names_who_ordered_it() {
    for (env, by) in [
        (&[("SUDO_USER", "ann"), ("USER", "root")][..], "ann"),
        (&[("SUDO_USER", ""), ("USER", "bob")], "bob"),
        (&[], "unknown"),
    ] {
        let stage = Stage::set().await;
        stage.succeeds("run --once").await;
        let (text, code) = stage.program("suspend --reason upgrade", env).await;
        assert_eq!(code, 0, "{text}");
        let orders = StateDir::new(&stage.dir.path().join("state"), &stage.proxy_node()).orders(&Now::read());
        assert_eq!(orders.suspension.expect("a suspension").by, by);
    }
}

/// How many ticks and looks have asked Orchestrator.
fn looks(stage: &Stage) -> usize {
    stage.orchestrator.requests().iter().filter(|path| path.ends_with("downtimed")).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_once_that_changed_runtime_looks_again_after_the_monitors_round_and_another_does_not() {
    let stage = Stage::set().await;
    let run = async || {
        let (before, begun) = (looks(&stage), Instant::now());
        stage.succeeds("run --once").await;
        (looks(&stage) - before, begun.elapsed())
    };
    assert_eq!(run().await.0, 1, "nothing to do");
    stage.fail_over().await;
    let (looks, took) = run().await;
    assert!(looks == 2 && took >= Duration::from_millis(500), "{looks}: {took:?}");
    assert!(stage.is_fenced("node01"));
    stage.sql("UPDATE disk.mysql_servers SET status='ONLINE',comment='rack 7' WHERE hostname='node01'");
    assert_eq!(run().await.0, 1, "only the disk was brought in line");
    assert!(stage.is_fenced("node01"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fence_that_somebody_undoes_is_told_though_quiet_ticks_came_between_and_nothing_else_is() {
    let stage = Stage::set().await;
    // The monitor may undo it for as long as its round takes: 5 s at most.
    stage.sql("SET mysql-monitor_read_only_interval='4900'");
    let log = stage.dir.path().join("log");
    let daemon = Daemon::with_log(stage.command("run --interval 100ms"), std::fs::File::create(&log).unwrap());
    let quiet_ticks = async || {
        let before = looks(&stage);
        eventually("it ticks twice more", || looks(&stage) > before + 2).await;
    };
    let said = || std::fs::read_to_string(&log).unwrap();
    quiet_ticks().await;
    stage.fail_over().await;
    eventually("it fences", || stage.is_fenced("node01")).await;
    quiet_ticks().await;
    stage.sql("UPDATE disk.mysql_servers SET status='ONLINE',comment='rack 7' WHERE hostname='node01'");
    eventually("the disk is brought in line", || stage.is_fenced("node01")).await;
    stage.orchestrator.begin_downtime("node03", "disk");
    eventually("it fences another", || stage.is_fenced("node03")).await;
    quiet_ticks().await;
    assert!(!said().contains("did not hold"), "{}", said());
    stage.sql("UPDATE mysql_servers SET status='ONLINE',comment='' WHERE hostname='node03'");
    stage.sql("LOAD MYSQL SERVERS TO RUNTIME");
    eventually("it says so", || said().contains("the fence did not hold")).await;
    let told: Vec<String> = said().lines().filter(|line| line.contains("did not hold")).map(str::to_owned).collect();
    assert!(told.len() == 1 && told[0].contains("node=node03:3306"), "{told:?}");
    eventually("it fences it again", || stage.is_fenced("node03")).await;
    daemon.signal("-TERM");
    assert_eq!(daemon.ended().await, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_once_whose_second_look_goes_wrong_fails() {
    let stage = Stage::set().await;
    stage.succeeds("run --once").await;
    stage.sql("SET mysql-monitor_read_only_interval='3000'");
    stage.fail_over().await;
    let ((text, code), ()) = tokio::join!(stage.stonith("run --once"), async {
        eventually("it fences", || stage.is_fenced("node01") && stage.left_behind().is_empty()).await;
        (0..3).for_each(|member| stage.orchestrator.kill(member));
    });
    assert!(code == 1 && text.contains("was not reached"), "{code}: {text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn suspend_and_status_say_how_long_no_agent_has_ticked_here_if_that_is_long() {
    let stage = Stage::set().await;
    stage.succeeds("run --once").await;
    let says = async |command: &str, expected: i32, words: &str| {
        let (text, code) = stage.stonith(command).await;
        assert_eq!(code, expected, "{command}: {text}");
        (200..=300).any(|seconds| text.contains(&format!("{words} {seconds} s")))
    };
    for is_old in [false, true] {
        assert_eq!(says("suspend --reason x", 0, "no agent has ticked here for").await, is_old);
        assert_eq!(says("status", 3, "the agent on this host has not ticked for").await, is_old);
        if !is_old {
            make_last_tick_older(&stage, 200_000);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn status_as_json_has_the_mode_and_the_proxysqls_that_did_not_answer_and_plan_says_the_mode() {
    let stage = Stage::set().await;
    stage.succeeds("run --once").await;
    let both = format!("--proxysql={},127.0.0.1:9", stage.proxysql.address());
    for (flag, mode) in [("--mode=observe", "observe"), ("--mode=enforce", "enforce")] {
        let (text, code) = stage.stonith(&format!("status --json {both} {flag}")).await;
        let json: serde_json::Value = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"));
        assert_eq!((code, &json["proxies"][0]["mode"]), (3, &mode.into()), "{text}");
        assert_eq!((&json["configured"], &json["reached"]), (&2.into(), &1.into()), "{text}");
        assert_eq!(json["proxies"][1]["conditions"][1]["label"], "proxysql-unread", "{text}");
        let text = stage.succeeds(&format!("plan {flag}")).await;
        assert_eq!(text.contains("`run` reports this and changes nothing"), mode == "observe", "{text}");
    }
    stage.fail_over().await;
    let (text, code) = stage.stonith("status --json").await;
    let proxy = &serde_json::from_str::<serde_json::Value>(&text).unwrap()["proxies"][0];
    let changes = proxy["plan"]["changes"].as_array().unwrap();
    let fences = |change: &&serde_json::Value| change["node"] == "node01:3306" && change["layer"] == "runtime";
    let change = changes.iter().find(fences).unwrap_or_else(|| panic!("{code}: {text}"));
    assert_eq!((&change["hostgroup"], &change["to"]), (&10.into(), &"OFFLINE_SOFT".into()));
    assert!(proxy["leader"]["name"].as_str().unwrap().starts_with("127.0.0.1"), "{text}");
    assert!(["majority", "single", "unconfirmed"].map(Into::into).contains(&proxy["leader"]["backing"]), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fence_that_is_undone_after_the_monitors_round_is_a_change_like_any_other() {
    let stage = Stage::set().await;
    let log = stage.dir.path().join("log");
    let _daemon = Daemon::with_log(stage.command("run --interval 100ms"), std::fs::File::create(&log).unwrap());
    eventually("it ticks", || looks(&stage) > 0).await;
    stage.fail_over().await;
    eventually("it fences", || stage.is_fenced("node01")).await;
    // The round takes 0.5 s, and a tick comes each 0.08 s at most.
    let before = looks(&stage);
    eventually("the round is over", || looks(&stage) > before + 10).await;
    stage.sql("UPDATE mysql_servers SET status='ONLINE',comment='' WHERE hostname='node01'");
    stage.sql("LOAD MYSQL SERVERS TO RUNTIME");
    eventually("it fences again", || stage.is_fenced("node01")).await;
    let ticks = looks(&stage);
    eventually("it ticks on", || looks(&stage) > ticks + 1).await;
    let said = std::fs::read_to_string(&log).unwrap();
    assert!(said.matches("row changed").count() >= 2 && !said.contains("did not hold"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn plan_and_status_end_with_what_any_proxysql_needs_in_whichever_order() {
    let (stage, other) = (Stage::set().await, Stage::set().await);
    stage.succeeds(&format!("run --once --proxysql={},{}", stage.proxysql.address(), other.proxysql.address())).await;
    stage.fail_over().await;
    stage.succeeds("run --once").await;
    let (here, there) = (stage.proxysql.address(), other.proxysql.address());
    assert_eq!(stage.stonith("plan").await.1, 0, "the control");
    assert_eq!(stage.stonith("status").await.1, 0, "the control");
    for both in [format!("{there},{here}"), format!("{here},{there}")] {
        let (text, code) = stage.stonith(&format!("plan --proxysql={both}")).await;
        assert_eq!(code, 10, "{text}");
    }
    for both in [format!("127.0.0.1:9,{here}"), format!("{here},127.0.0.1:9")] {
        let (text, code) = stage.stonith(&format!("status --proxysql={both}")).await;
        assert!(code == 3 && text.contains("1 of 2 configured"), "{text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_online_writer_of_any_proxysql_wants_a_yes() {
    let (stage, other) = (Stage::set().await, Stage::set().await);
    stage.nodes.change("node02", |server| server.read_only = false);
    stage.sql("INSERT INTO mysql_servers (hostgroup_id,hostname) VALUES (10,'node02')");
    stage.sql("LOAD MYSQL SERVERS TO RUNTIME");
    let (here, there) = (stage.proxysql.address(), other.proxysql.address());
    for both in [format!("{here},{there}"), format!("{there},{here}")] {
        let (text, code) = stage.stonith(&format!("fence node01 --proxysql={both}")).await;
        let says = format!("last ONLINE writer of hostgroup 10 on ProxySQL {there}");
        assert!(code == 2 && text.contains(&says), "{text}");
    }
    assert_eq!((stage.proxysql.writes(), other.proxysql.writes()), (0, 0));
    stage.succeeds("fence node01").await;
    assert!(stage.is_fenced("node01"), "the control: where another can be written to");
}

#[tokio::test(flavor = "multi_thread")]
async fn status_does_not_miss_an_agent_that_was_silent_for_as_long_as_a_tick_may_take() {
    let stage = Stage::set().await;
    stage.succeeds("run --once").await;
    for (ms, is_missed) in [(20_000, false), (15_000, true)] {
        make_last_tick_older(&stage, ms); // than it was
        let (text, code) = stage.stonith("status").await;
        assert_eq!(code, if is_missed { 3 } else { 0 }, "{text}");
        assert_eq!(text.contains("the agent on this host has not ticked for"), is_missed, "{text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_decide_by_the_interval_of_a_daemon_that_runs_here() {
    let stage = Stage::set().await;
    let _daemon = Daemon::start(stage.command("run --interval 200ms"));
    let state = StateDir::new(&stage.dir.path().join("state"), &stage.proxy_node());
    let kept = || state.peek().ok().flatten().and_then(|state| state.mode);
    eventually("it keeps its state", || kept().is_some()).await;
    assert_eq!(kept(), Some(proxysql_stonith::config::Mode::Daemon));
}

/// It waits for 20 s, since a `run --once` is over by then.
#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_ends_on_all_proxysqls_if_another_agent_does_not_leave_one_of_them() {
    let stage = Stage::set().await;
    let busy = Node::new("127.0.0.1", 9).unwrap();
    let state = StateDir::new(&stage.dir.path().join("state"), &busy);
    let _lock = state.try_lock(clock::boot_ms()).unwrap().expect("the lock");
    let log = stage.dir.path().join("log");
    let line = format!("run --interval 200ms --proxysql={},{busy}", stage.proxysql.address());
    let daemon = Daemon::with_log(stage.command(&line), std::fs::File::create(&log).unwrap());
    eventually("it ticks", || !stage.proxysql.statements().is_empty()).await;
    for _ in 0..600 {
        if std::fs::read_to_string(&log).unwrap().contains("another agent watches") {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(daemon.ended().await, Some(1));
}
