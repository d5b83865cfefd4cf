//! Timelines: after the same actions the lab's rows go through the same states, in the same order, and writes land on the
//! same nodes.

pub mod clients;
pub mod line;
mod looks;
mod player;
mod rows;
mod writes;

use lab::proxysql::ProxySql;
use line::{Line, What};
use player::Player;
use rows::States;
use writes::Writes;

use crate::recordings::{Kind, NotCompared, of, read};

/// Recordings of one and the same set-up, one after the other.
const GO_ON: [(&str, &str); 1] = [("2-failover/timeline.txt", "3a-return-no-tool/timeline.txt")];

/// From here on it is luck which of two sessions comes first.
const LUCK: &str = "concurrency: ";

/// Where ProxySQL pings as it does by default; elsewhere once a second.
const DEFAULT_PINGS: &str = "23-default-pings/timeline.txt";

/// Staged where it left no line: what the last statements of 17 show.
const STAGED_17: [&str; 1] = ["INSERT INTO mysql_replication_hostgroups VALUES (50,60,'read_only','staged pair')"];

/// When in a second the monitor looked, in ms: when it first moved a node among the writers, not a LOAD.
fn monitor_ms(lines: &[Line]) -> u64 {
    let mut writers: Option<Vec<String>> = None;
    let mut loaded_at = 0;
    for line in lines {
        match &line.what {
            What::Did(text) if text.contains("LOAD") => loaded_at = line.at,
            What::Runtime(state) => {
                let now: Vec<String> = player::rows(state)
                    .iter()
                    .map(|text| player::row(text))
                    .filter(|row| row.0 == "10")
                    .map(|row| row.1.to_owned())
                    .collect();
                if writers.as_ref().is_some_and(|before| now.iter().any(|name| !before.contains(name)))
                    && line.at > loaded_at + 60
                {
                    return line.at % 1_000;
                }
                writers = Some(now);
            }
            _ => {}
        }
    }
    500
}

/// Orchestrator's promotion leaves no line: it is put half a second before the monitor saw it.
fn with_promotions(lines: Vec<Line>) -> Vec<Line> {
    let mut writable: Vec<String> = vec!["node01".to_owned()];
    let mut all: Vec<Line> = Vec::new();
    for line in lines {
        if let What::Did(text) = &line.what
            && let Some((name, _)) = text.split_once(": ").filter(|(_, rest)| rest.contains("read_only=0"))
        {
            writable.push(name.to_owned());
        }
        if let What::Runtime(state) = &line.what {
            for (group, name, ..) in player::rows(state).into_iter().map(player::row) {
                if group == "10" && !writable.iter().any(|one| one == name) {
                    writable.push(name.to_owned());
                    let text = format!("{name}: stop slave; set global read_only=0");
                    let at = line.at - 500;
                    let place = all.iter().position(|before| before.at > at).unwrap_or(all.len());
                    all.insert(place, Line { at, what: What::Did(text.clone()), text });
                }
            }
        }
        all.push(line);
    }
    all
}

/// Where the recorder wrote down each turn instead: says it as it does elsewhere.
fn said_as_elsewhere(lines: &mut [Line]) {
    let mut writes = Writes::default();
    let turns: Vec<usize> = (0..lines.len()).filter(|at| matches!(lines[*at].what, What::Turned(..))).collect();
    for (n, at) in turns.iter().enumerate() {
        let What::Turned(outcome, _) = lines[*at].what.clone() else { continue };
        let (from, said) = (lines[*at].at, writes.landed.len());
        writes.ends(from, &outcome);
        // Until the next turn they landed there too.
        let next = turns.get(n + 1).map(|next| &lines[*next]);
        let (until, count) = match next.map(|line| (line.at, &line.what)) {
            Some((until, What::Turned(_, count))) => (until, *count),
            _ => (lines.last().unwrap().at, 100),
        };
        (1..count).for_each(|write| writes.ends(from + (until - from) * write / count, &outcome));
        let is_said = writes.landed.len() > said;
        lines[*at].what = if is_said { What::Landed(outcome) } else { What::Lately(writes.lately()) };
    }
}

/// What is recorded of one timeline.
#[derive(Default)]
struct Recorded {
    runtime: States,
    memory: States,
    landed: Vec<String>,
    lately: Vec<String>,
}

/// How many states and landings were compared.
#[derive(Default, Debug)]
struct Compared {
    timelines: usize,
    states: usize,
    landings: usize,
    actions: usize,
}

async fn play(path: &str, not_compared: &mut NotCompared, compared: &mut Compared) -> Vec<String> {
    let mut lines = line::read(&read(path), |line| assert!(not_compared.lists(path, line), "{path}: {line}"));
    for (_, next) in GO_ON.iter().filter(|(first, _)| *first == path) {
        lines.extend(line::read(&read(next), |line| assert!(not_compared.lists(next, line), "{next}: {line}")));
        compared.timelines += 1;
    }
    let mut lines = with_promotions(lines);
    said_as_elsewhere(&mut lines);
    let pairs: &[&str] = if path.starts_with("17-") { &STAGED_17 } else { &[] };
    let pings_s = if path == DEFAULT_PINGS { 8 } else { 1 };
    let mut player = Player::set_up(&lines, monitor_ms(&lines), pings_s, pairs).await;
    let mut recorded = Recorded::default();
    let (mut writes, mut acted) = (false, false);
    for line in &lines {
        player.go_on_until(line.at, writes).await;
        match &line.what {
            What::Runtime(state) => recorded.runtime.see(line.at, state),
            What::Memory(state) => {
                if !acted {
                    player.make_memory(state);
                }
                player.look_at_memory();
                recorded.memory.see(line.at, state);
            }
            What::Landed(outcome) => {
                writes = true;
                recorded.landed.push(outcome.clone());
            }
            What::Lately(outcomes) => recorded.lately.clone_from(outcomes),
            What::Writes | What::Turned(..) => {}
            What::WritesEnd => writes = false,
            What::Did(text) if text.starts_with(LUCK) => {
                assert!(not_compared.lists(path, text));
                break;
            }
            What::Did(text) => {
                acted = true;
                compared.actions += 1;
                settle(&mut player, &recorded, line);
                if !player.act(text) {
                    assert!(not_compared.lists(path, text), "{path}: {}", line.text);
                }
            }
        }
    }
    compared.timelines += 1;
    compare(player, recorded, compared)
}

/// ProxySQL as it was when its tables were dumped: before the recorded failover, after it, and after the return.
pub async fn states_of_the_failover() -> Vec<(&'static str, ProxySql)> {
    let (failover, ret) = GO_ON[0];
    let mut states = Vec::new();
    for (dump, files) in [
        ("1-healthy/proxysql.txt", &[failover][..0]),
        ("2-failover/proxysql.txt", &[failover][..]),
        ("3a-return-no-tool/proxysql.txt", &[failover, ret][..]),
    ] {
        let all = with_promotions(line::read(&read(failover), |_| {}));
        let mut player = Player::set_up(&all, monitor_ms(&all), 1, &[]).await;
        player.go_on_until(all[0].at, false).await;
        let text: String = files.iter().map(|file| read(file)).collect();
        for line in with_promotions(line::read(&text, |_| {})) {
            player.go_on_until(line.at, false).await;
            if let What::Did(text) = &line.what {
                player.act(text);
            }
        }
        states.push((dump, player.proxy));
    }
    states
}

/// Before something else is done, rows that have come to rest are the same to the letter.
fn settle(player: &mut Player, recorded: &Recorded, line: &Line) {
    if let (Some(real), Some(lab)) = (recorded.runtime.settled(line.at), player.runtime.settled(line.at))
        && real != lab
    {
        player.wrong.push(format!("before {}\n    real {real}\n    lab  {lab}", line.text));
    }
}

fn compare(player: Player, mut recorded: Recorded, compared: &mut Compared) -> Vec<String> {
    let mut wrong = player.wrong;
    for (layer, real, lab) in [
        ("runtime", recorded.runtime.way(), player.runtime.way()),
        ("memory", recorded.memory.way(), player.memory.way()),
        ("writes", recorded.landed, player.writes.landed.clone()),
    ] {
        compared.states += real.len();
        if real != lab {
            wrong.push(format!("{layer}\n    real {}\n    lab  {}", real.join("\n         "), lab.join("\n         ")));
        }
    }
    recorded.lately.sort();
    compared.landings += 1;
    if recorded.lately != player.writes.lately() {
        wrong.push(format!(
            "in the end writes land on {:?}, the lab's on {:?}",
            recorded.lately,
            player.writes.lately()
        ));
    }
    wrong
}

#[tokio::test(start_paused = true)]
async fn after_the_same_actions_rows_and_writes_go_the_recorded_way() {
    let (mut compared, mut wrong) = (Compared::default(), String::new());
    let mut not_compared = NotCompared::of(Kind::Timeline);
    for path in of(Kind::Timeline) {
        if GO_ON.iter().any(|(_, next)| *next == path) {
            continue;
        }
        for one in play(&path, &mut not_compared, &mut compared).await {
            wrong += &format!("{path}: {one}\n");
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
    let not = not_compared.all_met();
    println!("{compared:?}, {not} kinds of lines listed as not applicable");
}
