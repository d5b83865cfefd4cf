//! Recorded requests, with what was done to nodes and members in between: status codes, bodies, who refuses and who hangs.

use lab::nodes::Nodes;
use lab::orchestrator::{Orchestrator, Settings};
use serde_json::Value;

use crate::answers::{NODES, asked, body, with};
use crate::client::{ask, eventually, hangs};
use crate::compare::{differences, differences_to_another_build};
use crate::recordings::{Kind, NotCompared, of, read};

/// What a member answered.
#[derive(Debug)]
enum Said<'t> {
    /// A whole body.
    Whole(u16, &'t str),
    /// The beginning of one.
    Cut(&'t str),
    /// A status only.
    Status(u16),
    /// It refused.
    Nothing,
    /// It did not answer for two seconds.
    NothingForLong,
}

/// `TIME orcN PATH ANSWER`; `None`: another line.
fn parse(line: &str) -> Option<(usize, &str, Said<'_>)> {
    let (_time, rest) = line.split_once(' ')?;
    let (member, rest) = rest.strip_prefix("orc")?.split_once(' ')?;
    let member = member.parse::<usize>().ok()? - 1;
    let (path, rest) = rest.trim_start().split_once(' ')?;
    let rest = rest.trim().trim_end_matches("rc=0").trim_end_matches("rc=7").trim_end_matches(';').trim();
    if let Some((body, http)) = rest.rsplit_once("[http ") {
        let status = http.split([' ', ']']).next()?.parse().ok()?;
        return Some((member, path, if status == 0 { Said::Nothing } else { Said::Whole(status, body.trim()) }));
    }
    let (first, took) = rest.split_once(' ').unwrap_or((rest, "0"));
    let said = match first.parse().ok() {
        Some(0) if took.starts_with('2') => Said::NothingForLong,
        Some(0) => Said::Nothing,
        Some(status) => Said::Status(status),
        None => Said::Cut(rest),
    };
    Some((member, path, said))
}

/// A cut JSON text as far as it is whole.
fn closed(text: &str) -> Value {
    let (mut open, mut whole, mut in_string, mut escaped) = (Vec::new(), String::new(), false, false);
    for (at, letter) in text.char_indices() {
        match letter {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => in_string = !in_string,
            _ if in_string => {}
            '[' => open.push(']'),
            '{' => open.push('}'),
            ']' | '}' => drop(open.pop()),
            ',' => whole = text[..at].to_owned() + &open.iter().rev().collect::<String>(),
            _ => {}
        }
    }
    serde_json::from_str(&whole).unwrap_or_else(|error| panic!("{error}: {whole}"))
}

/// The paths of a recording's requests.
pub fn paths(text: &str) -> Vec<String> {
    text.lines().filter_map(parse).map(|(_, path, _)| path.to_owned()).collect()
}

struct Played {
    recording: String,
    nodes: Nodes,
    orchestrator: Orchestrator,
    wrong: String,
    answers: usize,
}

impl Played {
    /// Plays what was done; whether a line says so.
    async fn act(&self, line: &str) -> bool {
        let lab = &self.orchestrator;
        let member = |word: &str| {
            let number = line.split_once(word).and_then(|(_, rest)| rest.get(..1)?.parse::<usize>().ok());
            number.unwrap_or_else(|| panic!("which member: {line}")) - 1
        };
        match line.trim_start_matches("== ").trim_start_matches(|letter: char| !letter.is_ascii_alphabetic()) {
            "all up" => lab.set_leader(Some(0)),
            "discover" | "downtimes" | "forget" | "no history yet" | "end" | "back" => {}
            what if what.starts_with("all up, orc") || what.ends_with(" leads") => lab.set_leader(Some(member("orc"))),
            what if what.starts_with("new leader orc") => lab.set_leader(Some(member("leader orc"))),
            what if what.starts_with("orchestrator leader 127.0.0.1") => lab.set_leader(Some(member("127.0.0.1"))),
            "kill the second too: no quorum" => lab.kill(lab.leader().unwrap()),
            what if what.starts_with("kill leader orc") || what.starts_with("kill orc") => lab.kill(member("orc")),
            "SIGSTOP leader" => lab.hang(lab.leader().unwrap()),
            what if what.starts_with("orc") && what.contains(" up pid ") => {
                lab.start_member(member("orc"));
                let endpoint = &lab.endpoints()[member("orc")];
                eventually("it is up", async || ask(endpoint, "lb-check", "").await.is_ok()).await;
            }
            what if what.starts_with("orc") && (what.ends_with(" down") || what.ends_with(" already up")) => {}
            "found again" => (0..4).for_each(|_| lab.poll()),
            "kill node01, nothing is recovered" => {
                self.nodes.kill("node01");
                lab.poll();
            }
            "the database is stopped" => lab.stop_database(),
            "the database is started" => lab.start_database(),
            "failed over to node03" => lab.fail_over("node01", Some("node03")),
            "takeover node01 -> node02, then node01: start slave" => lab.take_over("node01", "node02"),
            "kill node02, nobody is promoted" => {
                self.nodes.kill("node02");
                lab.poll();
                lab.fail_over("node02", None);
            }
            _ => return false,
        }
        true
    }

    async fn compare(&mut self, member: usize, path: &str, said: Said<'_>) {
        self.answers += 1;
        let lab = &self.orchestrator;
        let found = match said {
            Said::NothingForLong if hangs(lab, member, path).await => Vec::new(),
            Said::Nothing if ask(&lab.endpoints()[member], path, "").await.is_err() => Vec::new(),
            Said::NothingForLong | Said::Nothing => vec!["it answers".to_owned()],
            Said::Whole(status, text) => {
                let (status_of_lab, body_of_lab) = self.asked(member, path).await;
                let real = body(&text.replace("127.0.1.1:", "node01:"));
                let mut found = differences_to_another_build(&real, &body_of_lab);
                found.extend((status != status_of_lab).then(|| format!(": {status}, lab {status_of_lab}")));
                found
            }
            Said::Status(status) => {
                let lab = self.asked(member, path).await.0;
                if status == lab { Vec::new() } else { vec![format!(": {status}, lab {lab}")] }
            }
            Said::Cut(text) => {
                let (real, (_, mut lab)) = (closed(text), self.asked(member, path).await);
                if let (Some(real), Some(lab)) = (real.as_array(), lab.as_array_mut()) {
                    lab.truncate(real.len());
                }
                let mut found = differences(&real, &lab);
                found.retain(|difference| !difference.contains("real has none, lab"));
                found
            }
        };
        for difference in found {
            self.wrong += &format!("{} {path} of orc{}{difference}\n", self.recording, member + 1);
        }
    }

    /// The lab's answer. A recovery that is asked for by its UID has another one here.
    async fn asked(&self, member: usize, path: &str) -> (u16, Value) {
        let path = match path.strip_prefix("audit-recovery/uid/") {
            Some(uid) if uid.len() > 20 => {
                let history = body(&asked(&self.orchestrator, member, "audit-recovery").await.body);
                format!("audit-recovery/uid/{}", history[0]["UID"].as_str().unwrap())
            }
            _ => path.to_owned(),
        };
        let answer = asked(&self.orchestrator, member, &path).await;
        (answer.status, body(&answer.body))
    }

    /// A line: what was done, or answers. One with several answers comes after a SIGCONT that left no line.
    async fn play(&mut self, line: &str, not_compared: &mut NotCompared) {
        if line.contains("; ") && parse(line).is_some() {
            (0..3).for_each(|member| self.orchestrator.resume(member));
        }
        for piece in line.split_inclusive("; ") {
            match parse(piece) {
                Some((member, path, said)) => self.compare(member, path, said).await,
                None if self.act(line).await || not_compared.lists(&self.recording, line) => return,
                None => panic!("{}: {line}", self.recording),
            }
        }
    }
}

/// Where the lab's answers are not the recorded ones, and how many were compared.
pub async fn compare_all() -> (String, usize) {
    let (mut wrong, mut answers, mut not_compared) = (String::new(), 0, NotCompared::of(Kind::Requests));
    for recording in of(Kind::Requests) {
        // These were recorded without any node.
        let is_empty = ["25-", "26-", "28-"].iter().any(|folder| recording.starts_with(folder));
        let nodes = Nodes::new(if is_empty { &[] } else { &NODES });
        let settings = match recording.starts_with("25-") {
            true => Settings { members: 2, raft: false, ..Settings::default() },
            false => Settings::default(),
        };
        let orchestrator = with(&nodes, 0, settings).await;
        let text = read(&recording).replace("\n [http", " [http");
        let mut played = Played { recording, nodes, orchestrator, wrong: String::new(), answers: 0 };
        for line in text.lines().filter(|line| !line.is_empty()) {
            played.play(line, &mut not_compared).await;
        }
        wrong += &played.wrong;
        answers += played.answers;
    }
    not_compared.all_met();
    (wrong, answers)
}
