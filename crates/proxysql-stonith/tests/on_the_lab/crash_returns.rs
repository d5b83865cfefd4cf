//! A return, an isolation and its end are cut off between any two statements, on a real socket (I10): the same agent or
//! another one finishes the job, ProxySQL restarted meanwhile or not.
//!
//! In one of four ways at every second statement; `CRASH_CASES=all` in all four at each.
//!
//! node01 was failed over to node02, and node02 to node03. node02 is not repaired: it is in service at no moment.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use futures_util::{StreamExt, stream};
use lab::proxysql::{ServerRow, Verdict};
use proxysql_stonith::agent::Agent;
use stonith_core::memory::Memory;

use crate::crash::{AT_A_TIME, ONE_STORY, tries_all};
use crate::stage::{Stage, TICK, eventually, tick};

/// A handful of ticks are enough; the machine may be busy.
const PATIENCE: Duration = Duration::from_secs(30);

/// Far more than the 2 s of a steady leader and of two proofs.
const LONG_AGO_MS: u64 = 20_000;

type Wrongs = Arc<Mutex<Vec<String>>>;

/// What is cut off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Story {
    /// node01 is a replica of node03, and goes back as one.
    Return,
    /// The proxy is cut off, and goes out of service.
    Isolation,
    /// It is led again; node01 and node02 are still superseded.
    EndOfIsolation,
}

/// Where it is cut off, and how it goes on.
#[derive(Debug, Clone, Copy)]
struct Case {
    nth: usize,
    restart: bool,
    another: bool,
}

/// A lab and its agent, right before the tick that is cut off.
async fn before(story: Story) -> (Stage, Agent) {
    let stage = Stage::set().await;
    stage.fail_over().await;
    stage.nodes.kill("node02");
    stage.orchestrator.fail_over("node02", Some("node03"));
    eventually("the monitor has moved node03", || stage.runtime().contains("10/node03:ONLINE")).await;
    stage.stage_edits();
    let mut agent = stage.agent();
    ticks_until(&mut agent, |_| stage.is_fenced("node01") && stage.is_fenced("node02")).await;
    match story {
        Story::Return => {
            stage.nodes.start("node01");
            stage.nodes.make_replica("node01", "node03");
            stage.orchestrator.end_downtime("node01");
            ticks_until(&mut agent, |memory| !memory.nodes.proofs.is_empty()).await;
        }
        Story::Isolation => lose_lease(&stage, &mut agent),
        Story::EndOfIsolation => {
            lose_lease(&stage, &mut agent);
            ticks_until(&mut agent, |memory| memory.lease.isolated && stage.is_fenced("node03")).await;
            stage.orchestrator.heal();
            ticks_until(&mut agent, |memory| memory.lease.leader.is_some()).await;
        }
    }
    (stage, agent)
}

/// Ticks with a long time between them, so that nothing has to wait for a leader that is steady, or a second proof.
async fn ticks_until(agent: &mut Agent, holds: impl Fn(&Memory) -> bool) {
    let until = Instant::now() + PATIENCE;
    while !holds(agent.memory()) {
        assert!(Instant::now() < until, "{:?}", agent.memory());
        long_tick(agent).await;
    }
}

async fn long_tick(agent: &mut Agent) {
    let _ = tick(agent).await;
    let memory = agent.memory_mut();
    memory.lease.leader.iter_mut().for_each(|leader| leader.since_ms = leader.since_ms.saturating_sub(LONG_AGO_MS));
    memory.nodes.proofs.values_mut().for_each(|proof| proof.at_ms = proof.at_ms.saturating_sub(LONG_AGO_MS));
    tokio::time::sleep(TICK * 2).await;
}

fn lose_lease(stage: &Stage, agent: &mut Agent) {
    stage.orchestrator.cut_off();
    agent.memory_mut().lease.asked_ms = agent.memory().lease.asked_ms.map(|asked| asked - LONG_AGO_MS);
    agent.memory_mut().lease.started_ms -= LONG_AGO_MS;
}

/// What must not be, at any moment.
fn wrong(story: Story, rows: &[ServerRow]) -> Option<String> {
    let must_be_out = |row: &&ServerRow| match row.host.as_str() {
        "node02" => true,
        // As a replica it has nothing to do among the writers.
        "node01" => story != Story::Return || row.hostgroup == 10,
        // An operator's half-done edit.
        "staged" => true,
        _ => false,
    };
    let is_out = |row: &ServerRow| row.host != "staged" && row.status.starts_with("OFFLINE_");
    rows.iter().filter(must_be_out).find(|row| !is_out(row)).map(ServerRow::text)
}

/// Cuts the connection once, after the nth statement of the apply, and looks at runtime before each statement.
fn cut_and_watch(stage: &Stage, story: Story, nth: usize) -> (Arc<AtomicUsize>, Wrongs) {
    let (seen, wrongs) = (Arc::new(AtomicUsize::new(0)), Wrongs::default());
    let (count, found, lab) = (seen.clone(), wrongs.clone(), stage.proxysql.clone());
    let mut applies = false;
    stage.proxysql.before_statement(move |sql| {
        found.lock().unwrap().extend(wrong(story, &lab.rows()));
        applies |= sql.contains("CREATE TABLE main.stonith_lock");
        if applies && count.fetch_add(1, Ordering::Relaxed) == nth { Verdict::CutAfter } else { Verdict::Go }
    });
    (seen, wrongs)
}

/// The end without a cut: how many statements the apply takes, and everything afterwards.
async fn uncut(story: Story) -> (usize, String) {
    let (stage, mut agent) = before(story).await;
    let (statements, _) = cut_and_watch(&stage, story, usize::MAX);
    tick(&mut agent).await.unwrap();
    stage.proxysql.before_statement(|_| Verdict::Go);
    assert!(is_over(&stage, story), "{}", stage.everything());
    (statements.load(Ordering::Relaxed), stage.everything())
}

/// The job is done in every layer, and nothing of it is left.
fn is_over(stage: &Stage, story: Story) -> bool {
    let layers = ["runtime_mysql_servers", "main.mysql_servers", "disk.mysql_servers"].map(|table| stage.rows(table));
    let everywhere = |holds: &dyn Fn(&str) -> bool| layers.iter().all(|rows| holds(rows));
    let leads = layers[0].contains("10/node03:ONLINE[]") && layers[0].contains("20/node03:ONLINE[]");
    let is_over = match story {
        Story::Return => {
            leads
                && stage.is_fenced("node02")
                && everywhere(&|rows| rows.contains("20/node01:ONLINE[rack 7]") && !rows.contains("10/node01:"))
        }
        Story::Isolation => ["node01", "node02", "node03"].iter().all(|node| stage.is_fenced(node)),
        Story::EndOfIsolation => {
            leads
                && ["node01", "node02"].iter().all(|node| stage.is_fenced(node))
                && everywhere(&|rows| !rows.contains("isolation"))
        }
    };
    is_over && stage.left_behind().is_empty()
}

/// Plays a case; says what went wrong.
async fn play(story: Story, case: Case, wanted: &str) -> Result<(), String> {
    let (stage, mut first) = before(story).await;
    let mut another = match story {
        // It has lost its lease too: one that never had any would leave all as it is.
        Story::Isolation => stage.agent_with(first.memory().clone()),
        Story::Return | Story::EndOfIsolation => stage.agent(),
    };
    let (_, wrongs) = cut_and_watch(&stage, story, case.nth);
    let _ = tick(&mut first).await;
    if case.restart {
        stage.proxysql.restart().await.unwrap();
    }
    if case.another {
        stage.expire_lock();
    }
    let agent = if case.another { &mut another } else { &mut first };
    let until = Instant::now() + PATIENCE;
    while !is_over(&stage, story) && Instant::now() < until {
        wrongs.lock().unwrap().extend(wrong(story, &stage.proxysql.rows()));
        long_tick(agent).await;
    }
    // The lab goes with its last owner, and the hook is one.
    stage.proxysql.before_statement(|_| Verdict::Go);
    let end = stage.everything();
    if let Some(first) = wrongs.lock().unwrap().first() {
        return Err(format!("{first} in service"));
    }
    // A restart takes what was staged, and the monitor's placements, with it.
    let is_as_wanted = if case.restart { is_over(&stage, story) } else { end == wanted };
    if is_as_wanted { Ok(()) } else { Err(format!("not finished:\n{end}\ninstead of\n{wanted}")) }
}

async fn is_finished_wherever_it_is_cut_off(story: Story) {
    let _one = ONE_STORY.lock().await;
    let began = Instant::now();
    let (count, wanted) = uncut(story).await;
    assert!(count > 20, "{count}");
    let mut cases = Vec::new();
    for nth in 0..count {
        for another in [false, true] {
            cases.extend([false, true].map(|restart| Case { nth, restart, another }));
        }
    }
    if !tries_all() {
        cases.retain(|case| (case.nth + usize::from(case.restart) + 2 * usize::from(case.another)).is_multiple_of(8));
    }
    let number = cases.len();
    let play = async |case: Case| play(story, case, &wanted).await.map_err(|error| format!("{case:?}: {error}"));
    let mut ends = std::pin::pin!(stream::iter(cases).map(play).buffer_unordered(AT_A_TIME));
    while let Some(end) = ends.next().await {
        end.unwrap_or_else(|error| panic!("{error}"));
    }
    println!("{story:?}: {count} statements, {number} cases in {:.1?}", began.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn i10_a_return_cut_off_at_every_statement_is_finished_and_nothing_superseded_is_in_service() {
    is_finished_wherever_it_is_cut_off(Story::Return).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn i10_an_isolation_cut_off_at_every_statement_is_finished() {
    is_finished_wherever_it_is_cut_off(Story::Isolation).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn i10_the_end_of_an_isolation_cut_off_at_every_statement_is_finished_and_the_superseded_stay_out() {
    is_finished_wherever_it_is_cut_off(Story::EndOfIsolation).await;
}
