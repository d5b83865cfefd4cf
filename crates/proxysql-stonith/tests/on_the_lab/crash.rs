//! The agent dies between any two statements, on a real socket (I10), or two are at work at once (I12).

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use futures_util::{StreamExt, stream};
use lab::proxysql::Verdict;
use proxysql_stonith::proxysql::{Admin, DriveError, drive, probe};
use tokio::sync::Mutex;

use crate::stage::{Stage, eventually, tick};

/// How many labs at a time: more, and a busy machine lets their answers come too late.
pub const AT_A_TIME: usize = 2;

/// One story of crashes at a time, for the same reason.
pub static ONE_STORY: Mutex<()> = Mutex::const_new(());

/// Whether every way is tried at every statement, as at night (`CRASH_CASES=all`); by day some are, in turn.
pub fn tries_all() -> bool {
    std::env::var_os("CRASH_CASES").is_some_and(|which| which == "all")
}

/// A stage on which node01 was failed over away from, with edits staged by an operator.
async fn failed_over() -> Stage {
    let stage = Stage::set().await;
    stage.fail_over().await;
    stage.stage_edits();
    stage
}

/// Cuts the connection at the nth statement that is not the look before the decision.
pub fn cut_at(stage: &Stage, nth: usize, cut: Verdict) -> Arc<AtomicUsize> {
    let seen = Arc::new(AtomicUsize::new(0));
    let count = seen.clone();
    let mut applies = false;
    stage.proxysql.before_statement(move |sql| {
        applies |= sql.contains("CREATE TABLE main.stonith_lock");
        if applies && count.fetch_add(1, Ordering::Relaxed) == nth { cut } else { Verdict::Go }
    });
    seen
}

#[tokio::test(flavor = "multi_thread")]
async fn i10_cut_at_every_statement_the_next_agent_finishes_and_nothing_is_lost() {
    let _one = ONE_STORY.lock().await;
    let stage = failed_over().await;
    let statements = cut_at(&stage, usize::MAX, Verdict::Go);
    tick(&mut stage.agent()).await.unwrap();
    let wanted = stage.everything();
    assert!(stage.is_fenced("node01"));
    let count = statements.load(Ordering::Relaxed);
    assert!(count > 20, "{count}");
    let ways = [Verdict::CutBefore, Verdict::CutAfter];
    let all = (0..count).flat_map(|nth| [0, 1].map(|way| (nth, way)));
    let cases =
        all.filter(|(nth, way)| tries_all() || (nth + way).is_multiple_of(3)).map(|(nth, way)| (nth, ways[way]));
    let play = async |(nth, cut)| {
        let stage = failed_over().await;
        cut_at(&stage, nth, cut);
        let mut first = stage.agent();
        let _ = tick(&mut first).await;
        assert!(!stage.runtime().contains("staged"), "{cut:?} at {nth}: an edit went live");
        assert!(stage.runtime().contains("10/node02:ONLINE[]"), "{cut:?} at {nth}: the new primary");
        // Another agent finds the lock held until its time is over, so the time is set back to when it ends.
        stage.proxysql.before_statement(|_| Verdict::Go);
        stage.expire_lock();
        tick(&mut stage.agent()).await.unwrap();
        assert_eq!(stage.everything(), wanted, "{cut:?} at {nth}");
    };
    stream::iter(cases).map(play).buffer_unordered(AT_A_TIME).collect::<()>().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn i10_cut_at_every_statement_and_proxysql_restarted_the_node_is_not_in_service() {
    let _one = ONE_STORY.lock().await;
    let stage = failed_over().await;
    let statements = cut_at(&stage, usize::MAX, Verdict::Go);
    tick(&mut stage.agent()).await.unwrap();
    let count = statements.load(Ordering::Relaxed);
    let play = async |nth| {
        let stage = failed_over().await;
        cut_at(&stage, nth, Verdict::CutAfter);
        let _ = tick(&mut stage.agent()).await;
        let was_fenced = stage.is_fenced_in_runtime("node01");
        stage.proxysql.before_statement(|_| Verdict::Go);
        stage.proxysql.restart().await.unwrap();
        if was_fenced {
            assert!(stage.is_fenced_in_runtime("node01"), "at {nth}: {}", stage.runtime());
        }
        eventually("the monitor has moved node02 again", || stage.runtime().contains("10/node02:ONLINE")).await;
        tick(&mut stage.agent()).await.unwrap();
        assert!(stage.is_fenced("node01"), "at {nth}: {}", stage.everything());
        assert_eq!(stage.left_behind(), "");
    };
    stream::iter(0..count).map(play).buffer_unordered(AT_A_TIME).collect::<()>().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn i12_two_agents_at_once_come_to_the_same_end() {
    let stage = failed_over().await;
    tick(&mut stage.agent()).await.unwrap();
    let wanted = stage.everything();
    for _ in 0..10 {
        let stage = failed_over().await;
        let (mut one, mut other) = (stage.agent(), stage.agent());
        let (first, second) = tokio::join!(tick(&mut one), tick(&mut other));
        for seen in [first.unwrap(), second.unwrap()] {
            assert!(seen.error.is_none(), "{:?}", seen.error);
        }
        assert_eq!(stage.everything(), wanted);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn i12_overlapping_starts_of_the_scheduler_leave_one_at_work() {
    let stage = failed_over().await;
    stage.succeeds("run --once").await;
    let wanted = stage.everything();
    let stage = failed_over().await;
    let runs = tokio::join!(
        stage.stonith("run --once"),
        stage.stonith("run --once"),
        stage.stonith("run --once"),
        stage.stonith("run --once")
    );
    for (text, code) in [runs.0, runs.1, runs.2, runs.3] {
        assert_eq!(code, 0, "{text}");
    }
    assert_eq!(stage.everything(), wanted);
}

#[tokio::test(flavor = "multi_thread")]
async fn i10_a_journal_that_fits_nothing_here_changes_nothing_and_goes() {
    let stage = failed_over().await;
    tick(&mut stage.agent()).await.unwrap();
    let wanted = stage.everything();
    let stage = failed_over().await;
    // That of another ProxySQL, with other rows; and one of another version, with other columns.
    for sql in [
        "CREATE TABLE main.stonith_kept_mysql_servers AS SELECT * FROM main.mysql_servers",
        "UPDATE main.stonith_kept_mysql_servers SET hostname='elsewhere'||hostname",
        "CREATE TABLE main.stonith_target_mysql_servers AS SELECT * FROM main.stonith_kept_mysql_servers",
        "UPDATE main.stonith_target_mysql_servers SET status='OFFLINE_SOFT'",
        "CREATE TABLE main.stonith_kept_mysql_hostgroup_attributes AS SELECT 1 AS a",
        "CREATE TABLE main.stonith_target_mysql_hostgroup_attributes AS SELECT 1 AS a",
    ] {
        stage.sql(sql);
    }
    tick(&mut stage.agent()).await.unwrap();
    assert!(!stage.rows("main.mysql_servers").contains("elsewhere"), "{}", stage.rows("main.mysql_servers"));
    assert_eq!(stage.everything(), wanted);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_lost_its_connection_takes_its_own_lock_over_at_once() {
    let stage = failed_over().await;
    cut_at(&stage, 30, Verdict::CutAfter);
    let mut agent = stage.agent();
    assert!(tick(&mut agent).await.unwrap().error.is_some());
    stage.proxysql.before_statement(|_| Verdict::Go);
    tick(&mut agent).await.unwrap();
    assert!(stage.is_fenced("node01"));
    assert_eq!(stage.left_behind(), "");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fence_that_another_applier_is_left_to_is_not_said_to_have_been_undone() {
    let stage = failed_over().await;
    cut_at(&stage, 30, Verdict::CutAfter);
    let _ = tick(&mut stage.agent()).await;
    let text = stage.succeeds("run --once").await;
    assert!(text.contains("left to it"), "{text}");
    assert!(!text.contains("did not hold"), "{text}");
}

/// The machine is suspended in the middle of an apply: its lock in ProxySQL runs out meanwhile, so that somebody else may
/// be at work when it wakes. The clock is the test's; no time passes by any other.
#[tokio::test(flavor = "multi_thread")]
async fn i12_an_apply_hands_out_no_statement_after_a_suspension_that_outlasts_it() {
    for (asleep_ms, lets_go) in [(25_000, true), (15_000, false)] {
        let stage = failed_over().await;
        let mut agent = stage.agent();
        let mut decided = stage.agent();
        decided.settings_mut().observe_only = true;
        let decision = tick(&mut decided).await.unwrap().decision;
        let settings = &agent.settings().proxy;
        let mut admin = Admin::connect(settings).await.unwrap();
        let probed = probe(&mut admin, false).await.unwrap();
        let boot_ms = Arc::new(AtomicU64::new(1_000_000));
        let (clock, after) = (boot_ms.clone(), Arc::new(AtomicUsize::new(0)));
        let (mut nth, since) = (0, after.clone());
        stage.proxysql.before_statement(move |_| {
            nth += 1;
            since.fetch_add(usize::from(nth > 30), Ordering::Relaxed);
            if nth == 30 {
                clock.fetch_add(asleep_ms, Ordering::Relaxed);
            }
            Verdict::Go
        });
        let now = || boot_ms.load(Ordering::Relaxed);
        let outcome = drive(&mut admin, &probed, decision.plan, "a:1".to_owned(), now, &mut |_| {}).await;
        assert_eq!(matches!(outcome, Err(DriveError::Deadline)), lets_go, "{asleep_ms} ms: {outcome:?}");
        assert_eq!(after.load(Ordering::Relaxed) == 0, lets_go, "{asleep_ms} ms: statements since");
        stage.proxysql.before_statement(|_| Verdict::Go);
        stage.expire_lock();
        tick(&mut agent).await.unwrap();
        assert!(stage.is_fenced("node01"), "{asleep_ms} ms: {}", stage.everything());
        assert_eq!(stage.left_behind(), "", "{asleep_ms} ms");
    }
}
