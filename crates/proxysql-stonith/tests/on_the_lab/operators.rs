//! Operators who LOAD or SAVE what they have staged while an apply lends memory (C2): it takes effect, or is made up for
//! and said.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use futures_util::{StreamExt, stream};
use lab::proxysql::Verdict;
use stonith_core::apply::{Done, Outcome};

use crate::crash::{AT_A_TIME, ONE_STORY, tries_all};
use crate::stage::{Stage, eventually, tick};

const LOAD: &str = "LOAD MYSQL SERVERS TO RUNTIME";
const SAVE: &str = "SAVE MYSQL SERVERS TO DISK";

/// node01 was failed over away from, and an operator has edits staged.
async fn failed_over() -> Stage {
    let stage = Stage::set().await;
    stage.fail_over().await;
    stage.stage_edits();
    stage
}

/// An operator sends `sql` just before the apply's nth statement. How many statements there were, and whether memory was
/// lent when the operator's came.
fn operator_at(stage: &Stage, nth: usize, sql: &'static str) -> (Arc<AtomicUsize>, Arc<Mutex<bool>>) {
    let (count, lent) = (Arc::new(AtomicUsize::new(0)), Arc::new(Mutex::new(false)));
    let (seen, was_lent) = (count.clone(), lent.clone());
    let (proxy, mut applies) = (stage.proxysql.clone(), false);
    stage.proxysql.before_statement(move |statement| {
        applies |= statement.contains("CREATE TABLE main.stonith_lock");
        if applies && seen.fetch_add(1, Ordering::Relaxed) == nth {
            let copied = "SELECT name FROM main.sqlite_master WHERE name='stonith_kept_mysql_servers'";
            let target = "SELECT weight FROM main.mysql_servers WHERE hostname='node03' AND weight<>7";
            let is_there = |sql| !proxy.query(sql).unwrap().records.is_empty();
            *was_lent.lock().unwrap() = is_there(copied) && is_there(target);
            proxy.query(sql).unwrap();
        }
        Verdict::Go
    });
    (count, lent)
}

/// Plays one apply per statement; the check is given what the apply had to say, and whether memory was lent.
async fn at_each_statement(sql: &'static str, check: impl Fn(&Stage, &Done, bool, &str)) {
    let _one = ONE_STORY.lock().await;
    let stage = failed_over().await;
    let (statements, _) = operator_at(&stage, usize::MAX, sql);
    tick(&mut stage.agent()).await.unwrap();
    let count = statements.load(Ordering::Relaxed);
    let lent_times = AtomicUsize::new(0);
    let play = async |nth| {
        let stage = failed_over().await;
        let (_, lent) = operator_at(&stage, nth, sql);
        let mut agent = stage.agent();
        let seen = tick(&mut agent).await.unwrap();
        let Some(Outcome::Applied(done)) = seen.outcome else {
            panic!("at {nth}: {:?}, {:?}", seen.outcome, seen.error)
        };
        let lent = *lent.lock().unwrap();
        lent_times.fetch_add(usize::from(lent), Ordering::Relaxed);
        tick(&mut agent).await.unwrap();
        assert!(stage.is_fenced("node01"), "at {nth}: {}", stage.everything());
        assert_eq!(stage.left_behind(), "", "at {nth}");
        eventually("the new primary is a writer", || stage.runtime().contains("10/node02:ONLINE[]")).await;
        check(&stage, &done, lent, &format!("{sql} before statement {nth} of {count}"));
    };
    let cases = (0..count).filter(|nth| tries_all() || nth.is_multiple_of(3));
    stream::iter(cases).map(play).buffer_unordered(AT_A_TIME).collect::<()>().await;
    assert!(lent_times.into_inner() > 3, "memory was lent at some of {count} statements");
}

/// What was staged, as a layer has it.
fn staged_in(stage: &Stage, layer: &str) -> String {
    let staged = stage.select(&format!("SELECT weight FROM {layer}mysql_servers WHERE hostname='node03' LIMIT 1"));
    let row = stage.select(&format!("SELECT comment FROM {layer}mysql_servers WHERE hostname='staged'"));
    let pair =
        stage.select(&format!("SELECT comment FROM {layer}mysql_replication_hostgroups WHERE writer_hostgroup=50"));
    [staged, row, pair].join("|")
}

const STAGED: &str = "7|an operator's|staged";
const NOT_STAGED: &str = "1||";

#[tokio::test(flavor = "multi_thread")]
async fn an_operators_load_at_any_statement_takes_effect_or_is_made_up_for_and_told() {
    at_each_statement(LOAD, |stage, done, lent, at| {
        assert!(done.load_made_up == Some(true) || (done.load_made_up.is_none() && !lent), "{at}: {done:?}");
        assert_eq!(staged_in(stage, "runtime_"), STAGED, "{at}");
        assert_eq!(staged_in(stage, "main."), STAGED, "{at}");
        assert_eq!(staged_in(stage, "disk."), NOT_STAGED, "{at}: nobody saved");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operators_save_at_any_statement_takes_effect_or_is_made_up_for_and_told() {
    at_each_statement(SAVE, |stage, done, lent, at| {
        assert!(done.save_made_up == Some(true) || (done.save_made_up.is_none() && !lent), "{at}: {done:?}");
        assert_eq!(staged_in(stage, "disk."), STAGED, "{at}");
        assert_eq!(staged_in(stage, "main."), STAGED, "{at}");
        assert_eq!(staged_in(stage, "runtime_"), NOT_STAGED, "{at}: nobody loaded");
    })
    .await;
}

/// And where nobody does either, nothing is said and nothing staged goes anywhere.
#[tokio::test(flavor = "multi_thread")]
async fn the_log_says_what_was_made_up_for() {
    for (sql, says) in [
        (
            Some(LOAD),
            "another client loaded mysql_servers during this apply; the edits that were staged are loaded now",
        ),
        (
            Some(SAVE),
            "another client saved mysql_servers to disk during this apply; the edits that were staged are saved now",
        ),
        (None, "another client"),
    ] {
        let stage = Stage::set().await;
        stage.succeeds("run --once").await;
        stage.fail_over().await;
        stage.stage_edits();
        let (proxy, mut once) = (stage.proxysql.clone(), sql);
        stage.proxysql.before_statement(move |statement| {
            if statement == LOAD
                && let Some(sql) = once.take()
            {
                proxy.query(sql).unwrap();
            }
            Verdict::Go
        });
        let (text, code) = stage.stonith("run --once").await;
        assert_eq!((code, text.contains(says)), (0, sql.is_some()), "{text}");
        assert!(stage.is_fenced("node01"), "{text}");
    }
}
