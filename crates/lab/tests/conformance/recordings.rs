//! Which recordings there are, what compares each, and which are not compared.

use std::fs;
use std::path::{Path, PathBuf};

/// What compares a recording.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// A body, its head, or status codes of Orchestrator's API: `answers`.
    Answer,
    /// Requests with their answers, and what was done in between: `requests`.
    Requests,
    /// Statements and answers of ProxySQL's admin interface: `statements`.
    Statements,
    /// The same, byte by byte: `bytes`.
    Bytes,
    /// Tables as they were and as they are defined: `tables`.
    Tables,
    /// What was done and what became of the rows: `timeline`.
    Timeline,
    /// What became of sessions: `sessions`.
    Sessions,
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/recordings")
}

/// A recording's text, by its path below the folder.
pub fn read(path: &str) -> String {
    fs::read_to_string(folder().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// All recordings of a kind that are not listed.
pub fn of(kind: Kind) -> Vec<String> {
    let listed = listed();
    all().into_iter().filter(|path| kind_of(path) == Some(kind) && !listed.iter().any(|one| one.covers(path))).collect()
}

/// All files but those that describe the others.
fn all() -> Vec<String> {
    let mut found = Vec::new();
    let mut folders = vec![folder()];
    while let Some(at) = folders.pop() {
        for entry in fs::read_dir(&at).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                found.push(path.strip_prefix(folder()).unwrap().to_str().unwrap().to_owned());
            }
        }
    }
    found.retain(|path| path.contains('/'));
    found.sort();
    found
}

fn kind_of(path: &str) -> Option<Kind> {
    let (folder, name) = path.split_once('/')?;
    let extension = name.rsplit_once('.').map_or("", |(_, extension)| extension);
    Some(match (folder, name, extension) {
        ("4-sessions", "timeline.txt", _) => Kind::Sessions,
        (_, "timeline.txt", _) => Kind::Timeline,
        ("9-raft" | "18-commands" | "19-takeover" | "25-shared-database" | "26-relays" | "28-tags", "log.txt", _) => {
            Kind::Requests
        }
        (_, _, "json" | "headers" | "codes") => Kind::Answer,
        (_, "proxysql.txt" | "show_create.txt" | "tables.txt" | "variables.txt", _) => Kind::Tables,
        ("5-admin", "protocol.txt", _) | ("22-admin", ..) => Kind::Statements,
        ("5-admin", "raw.txt", _) => Kind::Bytes,
        _ => return None,
    })
}

/// A line of not-compared.txt: a recording (`*` stands for anything), perhaps a colon and how lines of it begin, a bar
/// and the reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    recording: String,
    line: Option<String>,
    pub reason: String,
}

impl Listed {
    fn covers(&self, path: &str) -> bool {
        self.line.is_none() && is_like(path, &self.recording)
    }
}

fn listed() -> Vec<Listed> {
    let text = read("not-compared.txt");
    let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    let listed = |line: &str| {
        let (place, reason) = line.split_once(" | ").unwrap_or_else(|| panic!("no reason: {line}"));
        let (recording, line) = place.split_once(": ").map_or((place, None), |(path, line)| (path, Some(line)));
        Listed { recording: recording.to_owned(), line: line.map(str::to_owned), reason: reason.to_owned() }
    };
    lines.map(listed).collect()
}

/// Lines that are not compared, of the recordings of a kind, and whether each was met.
pub struct NotCompared(Vec<(Listed, bool)>);

impl NotCompared {
    pub fn of(kind: Kind) -> Self {
        let recordings = of(kind);
        let is_of = |one: &Listed| one.line.is_some() && recordings.iter().any(|path| is_like(path, &one.recording));
        Self(listed().into_iter().filter(is_of).map(|one| (one, false)).collect())
    }

    /// Whether a line of a recording is listed.
    pub fn lists(&mut self, path: &str, line: &str) -> bool {
        let is_it = |one: &Listed| {
            is_like(path, &one.recording) && one.line.as_ref().is_some_and(|start| line.starts_with(start.as_str()))
        };
        let found = self.0.iter_mut().find(|(one, _)| is_it(one));
        found.is_some_and(|(_, met)| {
            *met = true;
            true
        })
    }

    /// Checks that all were met, and says how many there are.
    pub fn all_met(self) -> usize {
        let unmet: Vec<_> = self.0.iter().filter(|(_, met)| !met).map(|(one, _)| one).collect();
        assert!(unmet.is_empty(), "there are no such lines, or they are equal: {unmet:?}");
        self.0.len()
    }
}

/// `*` stands for anything.
fn is_like(text: &str, pattern: &str) -> bool {
    match pattern.split_once('*') {
        None => text == pattern,
        Some((start, rest)) => text
            .strip_prefix(start)
            .is_some_and(|text| (0..=text.len()).any(|at| text.is_char_boundary(at) && is_like(&text[at..], rest))),
    }
}

#[test]
fn every_recording_is_compared_or_listed_with_its_reason() {
    let listed = listed();
    let (mut compared, mut not) = (0, 0);
    for path in all() {
        let by = listed.iter().filter(|one| one.covers(&path)).count();
        match (kind_of(&path), by) {
            (Some(_), 0) => compared += 1,
            (_, 1) => not += 1,
            (None, 0) => panic!("{path} is neither compared nor listed in not-compared.txt"),
            _ => panic!("{path} is listed {by} times"),
        }
    }
    for one in &listed {
        assert!(all().iter().any(|path| is_like(path, &one.recording)), "there is no {}", one.recording);
        assert!(!one.reason.trim().is_empty());
    }
    println!("{} recordings: {compared} compared, {not} listed as not applicable", compared + not);
}
