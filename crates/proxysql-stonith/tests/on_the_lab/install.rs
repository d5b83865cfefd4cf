//! `install scheduler` and `install backstop` against the lab: what others have staged stays staged, nothing is done twice,
//! and what was done can be taken back.

use std::process::Command;
use std::sync::atomic::Ordering;

use futures_util::{StreamExt, stream};
use lab::proxysql::Verdict;

use crate::crash::{AT_A_TIME, ONE_STORY, cut_at, tries_all};
use crate::stage::{Stage, tick};

/// A config file that has everything, since the scheduler's programs have no environment.
fn config(stage: &Stage, more: &str) -> String {
    let _ = stage.command("status"); // it writes the password's file
    stage.config(&format!(
        "{more}[orchestrator]\nendpoints = [\"{}\"]\n[[proxysql]]\naddress = \"{}\"\ndefaults_file = {:?}\n",
        stage.orchestrator.endpoints().join("\",\""),
        stage.proxysql.address(),
        stage.dir.path().join("admin.cnf"),
    ))
}

async fn program(line: &str, env: &[(&str, &str)]) -> (String, i32) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_proxysql-stonith"));
    command.env_clear().args(line.split_whitespace()).envs(env.iter().copied());
    let done = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    let text = [done.stdout, done.stderr].map(|bytes| String::from_utf8(bytes).unwrap()).concat();
    (text, done.status.code().unwrap_or(-1))
}

async fn succeeds(line: &str) -> String {
    let (text, code) = program(line, &[]).await;
    assert_eq!(code, 0, "{line}: {text}");
    text
}

fn scheduler(stage: &Stage, layer: &str) -> String {
    stage.select(&format!("SELECT id,active,interval_ms,arg1,arg2,arg3,arg4,comment FROM {layer}scheduler ORDER BY 1"))
}

fn layers(stage: &Stage) -> [String; 3] {
    ["runtime_", "main.", "disk."].map(|layer| scheduler(stage, layer))
}

/// One entry is in force; a second is staged, and so is an edit of the first.
fn with_staged_entries(stage: &Stage) {
    stage.sql("INSERT INTO scheduler (id,interval_ms,filename,arg1) VALUES (1,1000,'/bin/true','-phunter2')");
    stage.sql("LOAD SCHEDULER TO RUNTIME");
    stage.sql("SAVE SCHEDULER TO DISK");
    stage.sql("UPDATE scheduler SET arg1='staged' WHERE id=1");
    stage.sql("INSERT INTO scheduler (id,interval_ms,filename) VALUES (2,9000,'/bin/false')");
}

#[tokio::test(flavor = "multi_thread")]
async fn i6_the_schedulers_entry_goes_live_alone_and_what_is_staged_stays_staged() {
    let stage = Stage::set().await;
    let config = config(&stage, "policy.mode = \"observe\"\n");
    with_staged_entries(&stage);
    let before = layers(&stage);
    let text = succeeds(&format!("install scheduler --dry-run {config}")).await;
    assert!(text.contains("would be installed, id 3, every 5s: ") && text.contains("only observes"), "{text}");
    assert_eq!(layers(&stage), before, "a dry run changes nothing");
    let text = succeeds(&format!("install scheduler {config}")).await;
    assert!(text.contains("what it would do now:") && text.contains("scheduler entry installed, id 3"), "{text}");
    let ours = format!("\n3|1|5000|run|--once|{config}|NULL|proxysql-stonith");
    let installed = layers(&stage);
    assert_eq!(installed, before.clone().map(|layer| layer + &ours));
    assert_eq!(stage.left_behind(), "");
    let loads = |stage: &Stage| stage.proxysql.statements().iter().filter(|sql| sql.starts_with("LOAD SCH")).count();
    let once = loads(&stage);
    let text = succeeds(&format!("install scheduler {config}")).await;
    assert!(text.contains("already installed"), "{text}");
    assert_eq!((layers(&stage), loads(&stage)), (installed, once), "a second install does nothing");
    let text = succeeds(&format!("install scheduler --remove {config}")).await;
    assert!(text.contains("scheduler entry: removed. Fences stay"), "{text}");
    assert_eq!((layers(&stage), loads(&stage)), (before, once + 1));
    assert!(!text.contains("hunter2") && !text.contains("radmin"), "i11: {text}");
    assert!(succeeds(&format!("install scheduler --remove {config}")).await.contains("there was none"));
}

/// An agent of another host finds the rest, and puts memory back. The entry itself is for the next install.
#[tokio::test(flavor = "multi_thread")]
async fn i10_cut_at_every_statement_the_next_tick_puts_memory_back_and_the_next_install_finishes() {
    let _one = ONE_STORY.lock().await;
    let stage = Stage::set().await;
    with_staged_entries(&stage);
    let statements = cut_at(&stage, usize::MAX, Verdict::Go);
    succeeds(&format!("install scheduler {}", config(&stage, "policy.mode = \"observe\"\n"))).await;
    let count = statements.load(Ordering::Relaxed);
    assert!(count > 25, "{count}");
    let play = async |nth| {
        let stage = Stage::set().await;
        with_staged_entries(&stage);
        let (before, config) = (layers(&stage), config(&stage, "policy.mode = \"observe\"\n"));
        cut_at(&stage, nth, if nth.is_multiple_of(8) { Verdict::CutBefore } else { Verdict::CutAfter });
        let _ = program(&format!("install scheduler {config}"), &[]).await;
        stage.proxysql.before_statement(|_| Verdict::Go);
        stage.expire_lock();
        tick(&mut stage.agent()).await.unwrap();
        assert_eq!(stage.left_behind(), "", "at {nth}");
        let ours = format!("\n3|1|5000|run|--once|{config}|NULL|proxysql-stonith");
        let without_ours = layers(&stage).map(|layer| layer.replace(&ours, ""));
        assert_eq!(without_ours, before, "at {nth}: what others have staged");
        succeeds(&format!("install scheduler {config}")).await;
        assert_eq!(layers(&stage), before.map(|layer| layer + &ours), "at {nth}");
    };
    let cases = (0..count).filter(|nth| tries_all() || nth.is_multiple_of(4));
    stream::iter(cases).map(play).buffer_unordered(AT_A_TIME).collect::<()>().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn it_begins_by_observing_where_nobody_says_a_mode_and_can_be_told_to_enforce() {
    let stage = Stage::set().await;
    let config = config(&stage, "");
    let text = succeeds(&format!("install scheduler --id 10 {config}")).await;
    assert!(text.contains("--mode=enforce") && text.contains("only observes"), "{text}");
    let entry = |mode: &str| format!("10|1|5000|run|--once|{config}|{mode}|proxysql-stonith");
    assert_eq!(scheduler(&stage, "runtime_"), entry("--mode=observe"));
    succeeds(&format!("install scheduler --mode=enforce {config}")).await;
    assert_eq!(scheduler(&stage, "runtime_"), entry("NULL"));
    succeeds(&format!("install scheduler {config}")).await;
    assert_eq!(layers(&stage), [(); 3].map(|()| entry("NULL")), "it is not turned back");
}

#[tokio::test(flavor = "multi_thread")]
async fn it_tells_whom_it_would_have_fenced_by_orchestrators_history() {
    let stage = Stage::set().await;
    let config = config(&stage, "policy.mode = \"observe\"\n");
    let none = succeeds(&format!("install scheduler --dry-run {config}")).await;
    assert!(none.contains("what it would have fenced, by Orchestrator's recovery history: no node"), "{none}");
    stage.fail_over().await;
    stage.orchestrator.record_old_failover("elsewhere", "node09", std::time::Duration::from_secs(60));
    let text = succeeds(&format!("install scheduler --dry-run {config}")).await;
    let line =
        |node: &str| text.lines().find(|line| line.starts_with("  2") && line.contains(node)).unwrap_or_default();
    assert!(line(" node01:3306, when").ends_with("Z node01:3306, when node02:3306 was promoted"), "{text}");
    let other = "Z elsewhere:3306, when node09:3306 was promoted. It has no managed row in this ProxySQL";
    assert!(line("elsewhere:3306").ends_with(other), "{text}");
}

/// The scheduler starts one program, which has one `--mode` for every ProxySQL of its config.
#[tokio::test(flavor = "multi_thread")]
async fn where_the_file_has_a_mode_for_one_proxysql_only_nothing_is_installed_without_a_word() {
    let stage = Stage::set().await;
    let more = format!(
        "[[proxysql]]\naddress = \"127.0.0.1:1\"\npolicy.mode = \"observe\"\ndefaults_file = {:?}\n",
        stage.dir.path().join("admin.cnf"),
    );
    let config = config(&stage, &more);
    let before = layers(&stage);
    let (text, code) = program(&format!("install scheduler {config}"), &[]).await;
    assert!(code == 2 && text.contains(&format!("none for {}", stage.proxysql.address())), "{code} {text}");
    assert_eq!(layers(&stage), before);
    let (text, _) = program(&format!("install scheduler --mode=observe {config}"), &[]).await;
    assert!(scheduler(&stage, "runtime_").contains("--mode=observe"), "one word for all: {text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_scheduler_could_not_start_is_refused_and_nothing_is_changed() {
    let stage = Stage::set().await;
    let config = config(&stage, "");
    stage.sql("INSERT INTO scheduler (id,interval_ms,filename) VALUES (7,9000,'/bin/true')");
    stage.sql("LOAD SCHEDULER TO RUNTIME");
    let before = layers(&stage);
    let secret = format!("--defaults-file={}", stage.dir.path().join("admin.cnf").display());
    for (flags, env, code, says) in [
        (&format!("--proxysql=192.0.2.1:6032 {secret}"), vec![], 2, "192.0.2.1:6032 is not on this host"),
        (&String::new(), vec![("PROXYSQL_STONITH_MODE", "observe")], 2, "PROXYSQL_STONITH_MODE gave a value"),
        (
            &"--orchestrator=http://127.0.0.1:9 --isolation-after=20s --log-level=info".to_owned(),
            vec![],
            2,
            "at most 5 arguments",
        ),
        (&"--id=7".to_owned(), vec![], 2, "id 7 of the scheduler's table is in use"),
    ] {
        let (text, seen) = program(&format!("install scheduler {config} {flags}"), &env).await;
        assert!(seen == code && text.contains(says), "{flags}: {seen} {text}");
        assert_eq!(layers(&stage), before, "{flags}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn another_script_is_told_and_an_entry_by_hand_is_kept() {
    let stage = Stage::set().await;
    let config = config(&stage, "");
    stage
        .sql("INSERT INTO scheduler (id,interval_ms,filename,arg1) VALUES (1,1000,'/opt/orchestrator.sh','-phunter2')");
    stage.sql("INSERT INTO scheduler (id,interval_ms,filename,arg1,arg2) VALUES (2,5000,'/x/proxysql-stonith','run','--once')");
    stage.sql("LOAD SCHEDULER TO RUNTIME");
    let before = layers(&stage);
    let text = succeeds(&format!("install scheduler {config}")).await;
    for says in [
        "warning: the scheduler starts /opt/orchestrator.sh (id 1)",
        "made by hand (id 2, every 5s: /x/",
        "delete id 2",
    ] {
        assert!(text.contains(says), "{says}: {text}");
    }
    assert_eq!(layers(&stage), before);
    assert!(!text.contains("hunter2"), "i11: {text}");
}

fn limits(stage: &Stage, layer: &str) -> String {
    stage.select(&format!(
        "SELECT hostgroup_id,max_num_online_servers,init_connect,comment FROM {layer}mysql_hostgroup_attributes ORDER BY 1"
    ))
}

#[tokio::test(flavor = "multi_thread")]
async fn i6_the_backstop_goes_live_alone_and_is_taken_back_to_the_byte() {
    let stage = Stage::set().await;
    let config = config(&stage, "");
    stage
        .sql("INSERT INTO mysql_hostgroup_attributes (hostgroup_id,init_connect,comment) VALUES (10,'SET a=1','rack')");
    stage.sql("LOAD MYSQL SERVERS TO RUNTIME");
    stage.stage_edits();
    stage.sql("UPDATE mysql_hostgroup_attributes SET init_connect='SET staged=1'");
    stage.sql("INSERT INTO mysql_hostgroup_attributes (hostgroup_id) VALUES (77)");
    let before = stage.everything();
    let text = succeeds(&format!("install backstop --dry-run {config}")).await;
    assert!(text.contains("hostgroup 10: max_num_online_servers would be set to 1"), "{text}");
    assert_eq!(stage.everything(), before);
    let text = succeeds(&format!("install backstop {config}")).await;
    assert!(text.contains("hostgroup 10: max_num_online_servers set to 1"), "{text}");
    assert_eq!(limits(&stage, "runtime_"), "10|1|SET a=1|rack [stonith-backstop was=1000000]");
    let memory = "10|1|SET staged=1|rack [stonith-backstop was=1000000]\n77|1000000||";
    assert_eq!(limits(&stage, "main."), memory);
    assert_eq!(limits(&stage, "disk."), "10|1||[stonith-backstop was=none]");
    let installed = stage.everything();
    let text = succeeds(&format!("install backstop {config}")).await;
    assert!(text.contains("is 1 already"), "{text}");
    assert_eq!(stage.everything(), installed);
    let text = succeeds(&format!("install backstop --remove {config}")).await;
    assert!(text.contains("hostgroup 10: max_num_online_servers restored"), "{text}");
    assert_eq!(stage.everything(), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hostgroup_that_may_have_several_primaries_gets_no_backstop() {
    let stage = Stage::set().await;
    let config = config(&stage, "");
    let refused = |text: String, says: &str| {
        assert!(text.contains("hostgroup 10 is left as it is: ") && text.contains(says), "{says}: {text}");
        assert_eq!(limits(&stage, "runtime_"), "", "{says}");
    };
    stage.sql("INSERT INTO mysql_hostgroup_attributes (hostgroup_id,max_num_online_servers) VALUES (10,2)");
    refused(succeeds(&format!("install backstop {config}")).await, "1000000 in runtime and 2 in memory");
    stage.sql("DELETE FROM mysql_hostgroup_attributes");
    stage.sql("INSERT INTO mysql_servers (hostgroup_id,hostname) VALUES (20,'unheard-of')");
    stage.sql("LOAD MYSQL SERVERS TO RUNTIME");
    refused(succeeds(&format!("install backstop {config}")).await, "Orchestrator does not know unheard-of:3306");
    stage.sql("DELETE FROM mysql_servers WHERE hostname='unheard-of'");
    stage.sql("LOAD MYSQL SERVERS TO RUNTIME");
    let observed = format!("install backstop --mode=observe {config}");
    let (text, code) = program(&observed, &[]).await;
    assert!(code == 2 && text.contains("add --mode=enforce"), "{text}");
    succeeds(&format!("install backstop {config}")).await;
    assert!(limits(&stage, "runtime_").starts_with("10|1|"), "the control");
}

#[tokio::test(flavor = "multi_thread")]
async fn no_unit_is_installed_where_no_systemd_runs() {
    let stage = Stage::set().await;
    let config = config(&stage, "");
    if std::path::Path::new("/run/systemd/system").exists() {
        return; // this host has one, which a test leaves alone
    }
    for flags in ["", "--remove", "--dry-run"] {
        let (text, code) = program(&format!("install systemd {flags} {config}"), &[]).await;
        assert!(code == 2 && text.contains("othing was changed"), "{flags}: {code} {text}");
    }
}
