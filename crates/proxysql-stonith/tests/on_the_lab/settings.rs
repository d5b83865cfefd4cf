//! What is set counts in a run: the same situation once with it and once without.

use lab::orchestrator::Fault;

use crate::stage::{Daemon, Stage, TICK, eventually};

/// Nobody listens there.
const NOBODY: &str = "--orchestrator=http://127.0.0.1:9";

/// The nodes that are fenced, or isolated.
fn out(stage: &Stage) -> Vec<&'static str> {
    ["node01", "node02", "node03"].into_iter().filter(|node| stage.is_fenced(node)).collect()
}

/// A stage where a run has armed isolation, by these settings.
async fn armed(config: &str) -> (Stage, String) {
    let stage = Stage::set().await;
    let line = format!("run --once {}", stage.config(config));
    let (text, code) = stage.stonith(&line).await;
    assert_eq!(code, 0, "{text}");
    (stage, line)
}

/// What is out once an armed agent has heard nothing for 20 s.
async fn out_when_cut_off(config: &str, flags: &str) -> Vec<&'static str> {
    let (stage, line) = armed(config).await;
    stage.make_kept_lease_old();
    let (text, code) = stage.stonith(&format!("{line} {flags} {NOBODY}")).await;
    assert!(code == 1 && text.contains("was not reached"), "{text}");
    out(&stage)
}

#[tokio::test(flavor = "multi_thread")]
async fn isolation_scope_and_isolation_after_say_what_goes_out_and_when() {
    let all = ["node01", "node02", "node03"];
    assert_eq!(out_when_cut_off("", "").await, all);
    assert_eq!(out_when_cut_off("isolation.scope = \"writers\"", "").await, ["node01"]);
    assert_eq!(out_when_cut_off("isolation.scope = \"off\"", "").await, [""; 0]);
    assert_eq!(out_when_cut_off("isolation.scope = \"off\"", "--isolation-scope=all").await, all);
    assert_eq!(out_when_cut_off("isolation.after = \"1h\"", "").await, [""; 0]);
    assert_eq!(out_when_cut_off("isolation.after = \"1h\"", "--isolation-after=16s").await, all);
    assert_eq!(out_when_cut_off("run.scheduler_interval = \"20s\"", "").await, [""; 0], "its isolation is after 46 s");
}

#[tokio::test(flavor = "multi_thread")]
async fn on_blind_says_whether_answers_that_can_not_be_read_isolate() {
    for (config, isolated) in [("", 0), ("policy.on_blind = \"isolate\"", 3)] {
        let (stage, line) = armed(config).await;
        (0..3).for_each(|member| stage.orchestrator.fault(member, Some(Fault::InternalError)));
        stage.make_kept_lease_old();
        let (text, code) = stage.stonith(&line).await;
        assert_eq!((code, out(&stage).len()), (1, isolated), "{config}: {text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn fence_on_max_downtime_fences_and_exclude_hostgroups_say_what_fences() {
    for (config, for_downtime, for_failover) in [
        ("", true, true),
        ("policy.fence_on = \"lost-in-recovery\"", false, true),
        ("policy.max_downtime_fences = 0", false, true),
        ("policy.exclude_hostgroups = [20]", false, false),
        ("policy.exclude_hostgroups = [21]", true, true),
    ] {
        let (stage, line) = armed(config).await;
        stage.orchestrator.begin_downtime("node03", "disk");
        let (text, code) = stage.stonith(&line).await;
        assert_eq!((code, stage.is_fenced("node03")), (0, for_downtime), "{config}: {text}");
        stage.fail_over().await;
        let (text, code) = stage.stonith(&line).await;
        assert_eq!((code, stage.is_fenced("node01")), (0, for_failover), "{config}: {text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn writer_hostgroups_count_as_writers_though_they_are_in_no_pair() {
    for (more, isolated) in [("", &["node01"][..]), ("policy.writer_hostgroups = [30]", &["node01", "node03"])] {
        let (stage, line) = armed(&format!("isolation.scope = \"writers\"\n{more}")).await;
        stage.sql("INSERT INTO mysql_servers (hostgroup_id,hostname) VALUES (30,'node03')");
        stage.sql("LOAD MYSQL SERVERS TO RUNTIME");
        stage.sql("SAVE MYSQL SERVERS TO DISK");
        stage.make_kept_lease_old();
        let (text, code) = stage.stonith(&format!("{line} {NOBODY}")).await;
        assert_eq!((code, &out(&stage)[..]), (1, isolated), "{more}: {text}");
    }
}

/// A staged variable hides who holds which node (facts §4).
#[tokio::test(flavor = "multi_thread")]
async fn end_possible_holders_says_whether_a_session_that_may_hold_the_node_is_ended() {
    for (config, ended) in [("", true), ("policy.end_possible_holders = false", false)] {
        let (stage, line) = armed(config).await;
        stage.sql("SET mysql-shun_recovery_time_sec='77'");
        let (holder, reader) = (stage.proxysql.connect(), stage.proxysql.connect());
        holder.pin();
        assert_eq!(holder.write(), Ok("node01".to_owned()));
        assert_ne!(holder.read(), Ok("node01".to_owned()), "which hides that it holds node01");
        reader.begin();
        assert_ne!(reader.read(), Ok("node01".to_owned()));
        stage.nodes.stop("node01");
        stage.orchestrator.fail_over("node01", Some("node02"));
        eventually("the monitor has moved both", || stage.runtime().contains("10/node02:ONLINE")).await;
        let (text, code) = stage.stonith(&line).await;
        assert_eq!((code, stage.is_fenced("node01")), (i32::from(!ended), true), "a node still in use is said: {text}");
        assert_eq!(reader.read().is_err(), ended, "{config}: {text}");
        if !ended {
            // It was gone through once, and is only said from then on.
            let asked =
                || stage.proxysql.statements().iter().filter(|sql| sql.contains("main.global_variables")).count();
            let before = asked();
            let (text, code) = stage.stonith(&line).await;
            assert_eq!((code, asked(), before > 0), (1, before, true), "{text}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_mode_of_the_environment_writes_nothing_and_without_it_the_same_run_fences() {
    let (stage, line) = armed("").await;
    stage.fail_over().await;
    let before = stage.everything();
    let (text, code) = stage.program(&line, &[("PROXYSQL_STONITH_MODE", "observe")]).await;
    assert!(code == 0 && text.contains("nothing is changed") && text.contains("superseded by=node02:3306"), "{text}");
    assert_eq!((stage.everything(), stage.proxysql.writes()), (before, 0));
    let (text, code) = stage.stonith(&line).await;
    assert_eq!(code, 0, "{text}");
    assert!(stage.is_fenced("node01") && stage.proxysql.writes() > 0, "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_has_the_format_and_the_level_that_are_set() {
    let (stage, line) = armed("").await;
    let says = async |flags: &str| {
        let (text, code) = stage.stonith(&format!("{line} {flags}")).await;
        assert_eq!(code, 0, "{text}");
        text
    };
    assert_eq!(says("").await, "", "a quiet tick says nothing by default");
    let text = says("--log-level=debug").await;
    assert!(text.contains("quiet tick") && !text.starts_with('{'), "{text}");
    let json = says("--log-level=debug --log-format=json").await;
    let lines: Result<Vec<serde_json::Value>, _> = json.lines().map(serde_json::from_str).collect();
    assert!(!lines.unwrap().is_empty(), "{json}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_timeouts_of_orchestrator_are_those_that_are_set() {
    let stage = Stage::set().await;
    (0..3).for_each(|member| stage.orchestrator.hang(member));
    // Nobody accepts what the kernel connects, so TLS never begins.
    let deaf = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let deaf = format!("--orchestrator=https://127.0.0.1:{}", deaf.local_addr().unwrap().port());
    for (set, flags, says) in [
        ("read_timeout = \"123ms\"", "", "within 123ms"),
        ("tick_timeout = \"217ms\"", "", "within orchestrator.tick_timeout (217ms)"),
        ("connect_timeout = \"321ms\"\ntls_verify = false", &deaf, "did not take a connection within 321ms"),
    ] {
        let config = stage.config(&format!("[orchestrator]\n{set}\n"));
        let (text, code) = stage.stonith(&format!("run --once {config} {flags}")).await;
        assert!(code == 1 && text.contains(says), "{set}: {code}: {text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn errant_gtid_says_whether_a_replica_with_transactions_of_its_own_comes_back() {
    for (config, is_held) in [("", true), ("policy.errant_gtid = \"warn\"", false)] {
        let stage = Stage::set().await;
        let config = stage.config(&format!("run.interval = \"100ms\"\n{config}"));
        let _daemon = Daemon::start(stage.command(&format!("run {config}")));
        eventually("it ticks", || stage.orchestrator.requests().iter().any(|path| path.ends_with("downtimed"))).await;
        stage.fail_over().await;
        eventually("it fences", || stage.is_fenced("node01")).await;
        stage.nodes.start("node01");
        stage.nodes.make_replica("node01", "node02");
        stage.nodes.change("node01", |server| server.errant = "8f94d3b6-0000-0000-0000-000000000001:7".to_owned());
        stage.orchestrator.end_downtime("node01");
        let is_back = || stage.runtime().contains("20/node01:ONLINE[rack 7]");
        if is_held {
            // Nothing but that keeps it out.
            let mut blockers = Vec::new();
            for _ in 0..50 {
                let json: serde_json::Value =
                    serde_json::from_str(&stage.succeeds(&format!("status --json {config}")).await).unwrap();
                let nodes = json["proxies"][0]["nodes"].as_array().unwrap();
                let node = nodes.iter().find(|node| node["node"] == "node01:3306").unwrap();
                blockers = node["blockers"].as_array().unwrap().iter().map(|b| b["label"].clone()).collect();
                if blockers == ["errant-gtid"] {
                    break;
                }
                tokio::time::sleep(TICK).await;
            }
            assert_eq!(blockers, ["errant-gtid"]);
            assert!(!is_back(), "{}", stage.runtime());
            stage.nodes.change("node01", |server| server.errant.clear());
        }
        eventually("it is back", is_back).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_interval_and_the_state_directory_are_those_that_are_set() {
    let stage = Stage::set().await;
    let elsewhere = stage.dir.path().join("elsewhere");
    let config = stage.config(&format!("[run]\ninterval = \"100ms\"\nstate_dir = {elsewhere:?}\n"));
    let asked = || stage.orchestrator.requests().iter().filter(|path| path.ends_with("downtimed")).count();
    let daemon = Daemon::start(stage.command(&format!("run {config}")));
    // A tick a second, as it is by default, would need twice the time that is waited here.
    eventually("it ticks ten times", || asked() >= 10).await;
    daemon.signal("-TERM");
    assert_eq!(daemon.ended().await, Some(0));
    let kept = format!("state-127.0.0.1_{}.json", stage.proxysql.address().port());
    assert!(elsewhere.join(kept).exists() && !stage.dir.path().join("state").exists());
}

/// A fence agent that keeps what it was told, in the directory that its parameter `dir` names.
const AGENT: &str = r#"#!/bin/sh
while IFS='=' read -r name value; do
    case $name in action) action=$value;; plug) plug=$value;; dir) dir=$value;; esac
done
case $action in
metadata) echo '<resource-agent name="lab"></resource-agent>';;
off) echo "$plug" >> "$dir/offs"; : > "$dir/$plug.off";;
status) if [ -e "$dir/$plug.off" ]; then echo 'Status: OFF'; exit 2; fi; echo 'Status: ON';;
esac
"#;

#[tokio::test(flavor = "multi_thread")]
async fn node_fence_fence_agent_powers_the_old_primary_off_and_never_the_new_one() {
    let dry = "fence_agent_dry_run = true\n";
    let modes =
        [("", "", "off-confirmed"), ("", dry, "would-fence"), ("policy.mode = \"observe\"\n", "", "would-fence")];
    for (mode, dry, state) in modes {
        let stage = Stage::set().await;
        let program = stage.script("agent", AGENT);
        let dir = stage.dir.path();
        let config = stage.config(&format!(
            "{mode}run.interval = \"100ms\"\n[node_fence]\nfence_agent = [\"superseded\"]\n{dry}[[fence_agent]]\nname = \"lab\"\n\
             program = {program:?}\nparameters = {{ dir = {dir:?} }}\n\
             nodes = {{ node01 = {{ plug = 1 }}, node02 = {{ plug = 2 }}, node03 = {{ plug = 3 }} }}\n"
        ));
        let (checked, _) = stage.stonith(&format!("config check --connect {config}")).await;
        assert!(checked.contains("node node01:3306: could be powered off"), "{checked}");
        let _daemon = Daemon::start(stage.command(&format!("run {config}")));
        eventually("it ticks", || stage.orchestrator.requests().iter().any(|path| path.ends_with("downtimed"))).await;
        stage.fail_over().await;
        let mut text = String::new();
        for _ in 0..200 {
            text = stage.stonith(&format!("status {config}")).await.0;
            if text.contains(&format!("power of node01:3306: {state} for superseded by fence agent lab")) {
                break;
            }
            tokio::time::sleep(TICK).await;
        }
        assert!(text.contains(&format!("power of node01:3306: {state}")), "{text}");
        let ticks = || stage.orchestrator.requests().iter().filter(|path| path.ends_with("downtimed")).count();
        let before = ticks();
        eventually("it ticks on", || ticks() > before + 5).await;
        let offs = std::fs::read_to_string(dir.join("offs")).unwrap_or_default();
        assert_eq!(offs, if state == "off-confirmed" { "1\n" } else { "" }, "{text}");
        let (once, _) = stage.stonith(&format!("run --once {config}")).await;
        assert!(!once.contains("being powered off"), "{once}");
    }
}

/// Nobody answers at the nodes of the lab, so the fence of the node itself waits.
#[tokio::test(flavor = "multi_thread")]
async fn node_fence_read_only_says_for_which_evidence_a_node_is_fenced_at_the_node_itself() {
    for (kinds, is_fenced) in [("\"superseded\"", true), ("\"second-writer\"", false)] {
        let stage = Stage::set().await;
        let password = stage.dir.path().join("node.password");
        std::fs::write(&password, "node-secret\n").unwrap();
        std::fs::set_permissions(&password, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
        let config = stage.config(&format!(
            "run.interval = \"100ms\"\n[node_fence]\nread_only = [{kinds}]\nuser = \"stonith\"\npassword_file = {password:?}\n"
        ));
        let log = stage.dir.path().join("log");
        let command = stage.command(&format!("run --log-level=debug {config}"));
        let _daemon = Daemon::with_log(command, std::fs::File::create(&log).unwrap());
        eventually("it ticks", || stage.orchestrator.requests().iter().any(|path| path.ends_with("downtimed"))).await;
        stage.fail_over().await;
        eventually("it fences", || stage.is_fenced("node01")).await;
        // The only endpoint is confirmed once it has led for 5 s.
        for _ in 0..100 {
            if !stage.stonith(&format!("status {config}")).await.0.contains("not confirmed yet") {
                break;
            }
            tokio::time::sleep(10 * TICK).await;
        }
        let ticks = || stage.orchestrator.requests().iter().filter(|path| path.ends_with("downtimed")).count();
        let before = ticks();
        eventually("it ticks on", || ticks() > before + 5).await;
        let (text, _) = stage.stonith(&format!("status {config}")).await;
        let (json, _) = stage.stonith(&format!("status --json {config}")).await;
        assert_eq!(text.contains("at node01:3306 itself: waiting for superseded"), is_fenced, "{kinds}: {text}");
        let (once, _) = stage.stonith(&format!("config check --connect {config}")).await;
        assert!(once.contains("could not be made read-only"), "{once}");
        for shown in [text, json, once, std::fs::read_to_string(&log).unwrap()] {
            assert!(!shown.contains("node-secret"), "i11: {shown}");
        }
    }
}
