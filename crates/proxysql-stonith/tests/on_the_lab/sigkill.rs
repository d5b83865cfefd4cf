//! The program itself is killed with SIGKILL, again and again, while the lab goes through a failover, an isolation, its
//! end and a return (I10). After each chapter everything is as in a life without kills.
//!
//! A life has a seed, which is printed; `KILL_SEED=7` plays that one alone, `KILL_LIVES=200` so many. Where in the
//! program a kill lands is the machine's choice too: a seed replays a story, not each instruction.

use std::fs::File;
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use fastrand::Rng;
use futures_util::{StreamExt, stream};
use lab::proxysql::{ServerRow, Verdict};

use crate::stage::{Stage, TICK};

/// What a change runs; a night runs more.
const LIVES: u64 = 6;

/// How many at a time: each has its lab and its process.
const AT_A_TIME: usize = 6;

/// In each chapter.
const KILLS_MAX: usize = 4;

/// An isolation takes 6 s to begin, a return 4 s of proofs; the machine may be busy.
const PATIENCE: Duration = Duration::from_secs(60);

/// The shortest that both intervals below allow.
const ISOLATION_AFTER: &str = "--isolation-after=7500ms";

/// What happens to the world.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Chapter {
    Failover,
    Isolation,
    EndOfIsolation,
    Return,
}

const CHAPTERS: [Chapter; 4] = [Chapter::Failover, Chapter::Isolation, Chapter::EndOfIsolation, Chapter::Return];

/// When the program is killed.
#[derive(Debug, Clone, Copy)]
enum Moment {
    /// So long after its start.
    Time(Duration),
    /// At a statement, counted from its start.
    Statement(usize),
    /// At a statement of an apply.
    InApply(usize),
}

impl Moment {
    fn any(rng: &mut Rng) -> Self {
        match rng.u8(0..4) {
            0 => Self::Time(Duration::from_micros(rng.u64(0..150_000))),
            1 => Self::Statement(rng.usize(1..60)),
            _ => Self::InApply(rng.usize(0..100)),
        }
    }
}

/// What the lab sees of the process that runs, and how it ends it.
#[derive(Default)]
struct Eye {
    child: Option<Child>,
    moment: Option<Moment>,
    statements: usize,
    of_apply: Option<usize>,
    killed: bool,
    /// node01 is out, and must stay so.
    is_out: bool,
    may_return: bool,
    wrongs: Vec<String>,
}

impl Eye {
    fn kill(&mut self) {
        if let Some(child) = &mut self.child {
            let _ = child.kill();
            self.killed = true;
            self.moment = None;
        }
    }

    /// Before each statement.
    fn sees(&mut self, sql: &str, rows: &[ServerRow]) {
        self.statements += 1;
        if sql.contains("CREATE TABLE main.stonith_lock") {
            self.of_apply = Some(0);
        } else if let Some(count) = &mut self.of_apply {
            *count += 1;
        }
        self.looks(rows);
        let is_now = match self.moment {
            Some(Moment::Statement(nth)) => self.statements >= nth,
            Some(Moment::InApply(nth)) => self.of_apply.is_some_and(|count| count >= nth),
            Some(Moment::Time(_)) | None => false,
        };
        if is_now {
            self.kill();
        }
    }

    /// A node that was out comes back at its return only, and then not among the writers.
    fn looks(&mut self, rows: &[ServerRow]) {
        let in_service = |row: &&ServerRow| !row.status.starts_with("OFFLINE_");
        let node01 = || rows.iter().filter(|row| row.host == "node01");
        self.is_out |= node01().all(|row| row.status.starts_with("OFFLINE_"));
        let back = node01().filter(in_service).find(|row| self.is_out && (!self.may_return || row.hostgroup == 10));
        let live_edit = rows.iter().find(|row| row.host == "staged");
        self.wrongs.extend(back.or(live_edit).map(|row| row.text()));
    }
}

struct Life {
    stage: Stage,
    eye: Arc<Mutex<Eye>>,
    rng: Rng,
    kills: Kills,
}

/// How many, and how many of them in the middle of an apply.
#[derive(Debug, Clone, Copy, Default)]
struct Kills {
    all: usize,
    in_apply: usize,
}

impl Life {
    /// node01 is the primary, its agent is armed, an operator has edits staged.
    async fn begin(seed: u64) -> Self {
        let stage = Stage::set().await;
        stage.stage_edits();
        let (text, code) = stage.stonith("run --once").await;
        assert_eq!(code, 0, "{text}");
        let eye = Arc::new(Mutex::new(Eye::default()));
        let (seer, lab) = (eye.clone(), stage.proxysql.clone());
        stage.proxysql.before_statement(move |sql| {
            seer.lock().unwrap().sees(sql, &lab.rows());
            Verdict::Go
        });
        Self { stage, eye, rng: Rng::with_seed(seed), kills: Kills::default() }
    }

    async fn happens(&self, chapter: Chapter) {
        let Stage { nodes, orchestrator, .. } = &self.stage;
        match chapter {
            Chapter::Failover => self.stage.fail_over().await,
            Chapter::Isolation => orchestrator.cut_off(),
            Chapter::EndOfIsolation => orchestrator.heal(),
            Chapter::Return => {
                self.eye.lock().unwrap().may_return = true;
                nodes.start("node01");
                nodes.make_replica("node01", "node02");
                orchestrator.end_downtime("node01");
            }
        }
    }

    fn is_over(&self, chapter: Chapter) -> bool {
        let stage = &self.stage;
        let layers =
            ["runtime_mysql_servers", "main.mysql_servers", "disk.mysql_servers"].map(|table| stage.rows(table));
        let everywhere = |holds: &dyn Fn(&str) -> bool| layers.iter().all(|rows| holds(rows));
        let leads = layers[0].contains("10/node02:ONLINE[]");
        let is_over = match chapter {
            Chapter::Failover => leads && stage.is_fenced("node01"),
            Chapter::Isolation => ["node01", "node02", "node03"].iter().all(|node| stage.is_fenced(node)),
            Chapter::EndOfIsolation => {
                leads && stage.is_fenced("node01") && everywhere(&|rows| !rows.contains("isolation"))
            }
            Chapter::Return => {
                everywhere(&|rows| rows.contains("20/node01:ONLINE[rack 7]") && !rows.contains("10/node01:"))
            }
        };
        is_over && !self.leaves_something()
    }

    /// An apply's lock or copies are there.
    fn leaves_something(&self) -> bool {
        !self.stage.left_behind().is_empty()
    }

    fn log(&self) -> PathBuf {
        self.stage.dir.path().join("log")
    }

    /// Starts the program, as a daemon or as ProxySQL's scheduler does.
    fn start(&mut self, as_daemon: bool) {
        let line = if as_daemon { "run --interval=100ms" } else { "run --once --interval=500ms" };
        let log = || File::options().create(true).append(true).open(self.log()).unwrap();
        let mut command = self.stage.command(line);
        command.arg(ISOLATION_AFTER).stdin(Stdio::null()).stdout(log()).stderr(log());
        let mut eye = self.eye.lock().unwrap();
        (eye.statements, eye.of_apply, eye.killed) = (0, None, false);
        eye.child = Some(command.spawn().unwrap());
    }

    /// Runs the program until the moment comes, or until there is nothing more to do; then it is killed.
    async fn run_and_kill(&mut self, chapter: Chapter, moment: Moment, as_daemon: bool) {
        let began = Instant::now();
        self.eye.lock().unwrap().moment = Some(moment);
        self.start(as_daemon);
        let mut started = Instant::now();
        while !self.eye.lock().unwrap().killed && began.elapsed() < PATIENCE {
            let ended = self.eye.lock().unwrap().child.as_mut().unwrap().try_wait().unwrap().is_some();
            // An apply that was over sooner has no such statement any more.
            let too_late = matches!(moment, Moment::Time(after) if started.elapsed() >= after);
            if too_late || self.is_over(chapter) {
                self.eye.lock().unwrap().kill();
            } else if ended {
                self.start(as_daemon);
                started = Instant::now();
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let mut eye = self.eye.lock().unwrap();
        eye.kill();
        eye.child.take().unwrap().wait().unwrap();
        drop(eye);
        self.kills.all += 1;
        self.kills.in_apply += usize::from(self.leaves_something());
        self.eye.lock().unwrap().looks(&self.stage.proxysql.rows());
        self.files_are_whole();
    }

    /// Lets the program end the chapter, and gives everything as it is then.
    async fn finish(&mut self, chapter: Chapter) -> Result<String, String> {
        let as_daemon = self.rng.bool();
        let until = Instant::now() + PATIENCE;
        self.start(as_daemon);
        while !self.is_over(chapter) && Instant::now() < until {
            let ended = self.eye.lock().unwrap().child.as_mut().unwrap().try_wait().unwrap().is_some();
            if ended {
                self.start(as_daemon);
            }
            tokio::time::sleep(TICK).await;
        }
        let mut eye = self.eye.lock().unwrap();
        eye.kill();
        eye.child.take().unwrap().wait().unwrap();
        if let Some(wrong) = eye.wrongs.first() {
            return Err(format!("in service: {wrong}"));
        }
        drop(eye);
        let everything = self.stage.everything();
        if self.is_over(chapter) { Ok(everything) } else { Err(format!("not finished: {everything}")) }
    }

    /// The state directory has whole files; what a killed writer began has another name.
    fn files_are_whole(&self) {
        for entry in std::fs::read_dir(self.stage.dir.path().join("state")).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|extension| extension == "json") {
                let text = std::fs::read(&path).unwrap();
                assert!(serde_json::from_slice::<serde_json::Value>(&text).is_ok(), "{path:?}");
            }
        }
    }
}

/// A life with so many kills in each chapter, and what everything was at the end of each.
async fn live(seed: u64, kills_max: usize) -> Result<(Kills, Vec<String>), String> {
    let mut life = Life::begin(seed).await;
    let mut ends = Vec::new();
    for chapter in CHAPTERS {
        life.happens(chapter).await;
        let kills = if kills_max == 0 { 0 } else { life.rng.usize(1..=kills_max) };
        for _ in 0..kills {
            let (moment, as_daemon) = (Moment::any(&mut life.rng), life.rng.bool());
            life.run_and_kill(chapter, moment, as_daemon).await;
        }
        let end = life.finish(chapter).await;
        ends.push(
            end.map_err(|error| format!("{chapter:?}: {error}\n{}", std::fs::read_to_string(life.log()).unwrap()))?,
        );
    }
    // The lab goes with its last owner, and the hook is one.
    life.stage.proxysql.before_statement(|_| Verdict::Go);
    let log = std::fs::read_to_string(life.log()).unwrap();
    if log.contains("starting with an empty state") {
        return Err(log);
    }
    Ok((life.kills, ends))
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().map(|text| text.parse().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn i10_killed_at_random_moments_again_and_again_each_start_finishes_the_job() {
    let began = Instant::now();
    let (_, wanted) = live(0, 0).await.unwrap();
    let seeds = match number("KILL_SEED") {
        Some(seed) => vec![seed],
        None => (0..number("KILL_LIVES").unwrap_or(LIVES)).map(|_| fastrand::u64(..)).collect(),
    };
    let lived = async |seed: u64| {
        let (kills, ends) = live(seed, KILLS_MAX).await.map_err(|error| format!("KILL_SEED={seed}: {error}"))?;
        println!("KILL_SEED={seed}: {} kills, {} of them in the middle of an apply", kills.all, kills.in_apply);
        let other = CHAPTERS.iter().zip(ends.iter().zip(&wanted)).find(|(_, (end, wanted))| end != wanted);
        match other {
            None => Ok(kills),
            Some((chapter, (end, wanted))) => {
                Err(format!("KILL_SEED={seed}: {chapter:?} ended with\n{end}\ninstead of\n{wanted}"))
            }
        }
    };
    let ends: Vec<_> = stream::iter(seeds).map(lived).buffer_unordered(AT_A_TIME).collect().await;
    let (kills, bad): (Vec<_>, Vec<_>) = ends.into_iter().partition(Result::is_ok);
    let in_apply: usize = kills.iter().flatten().map(|kills| kills.in_apply).sum();
    let all: usize = kills.iter().flatten().map(|kills| kills.all).sum();
    println!("{all} kills in {:.1?}, {in_apply} of them in the middle of an apply", began.elapsed());
    assert!(bad.is_empty(), "{} lives went wrong, the first: {}", bad.len(), bad[0].as_ref().unwrap_err());
    assert!(in_apply > 0 || number("KILL_SEED").is_some(), "none of {all} kills hit an apply");
}

#[tokio::test(flavor = "multi_thread")]
async fn i10_what_a_killed_process_left_is_finished_by_the_next_start_and_not_when_its_lock_runs_out() {
    let mut life = Life::begin(0).await;
    life.happens(Chapter::Failover).await;
    life.run_and_kill(Chapter::Failover, Moment::InApply(30), false).await;
    assert!(life.leaves_something() && !life.stage.is_fenced_in_runtime("node01"), "killed before the LOAD");
    let (text, code) = life.stage.stonith("run --once").await;
    assert!(code == 0 && life.is_over(Chapter::Failover), "{text}{}", life.stage.everything());
    life.stage.proxysql.before_statement(|_| Verdict::Go);
}
