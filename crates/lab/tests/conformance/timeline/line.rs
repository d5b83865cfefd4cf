//! The lines of a timeline: when, and what.

use crate::python::Value;

/// What a line says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum What {
    /// The server table of runtime after a change, as `hostgroup/node:STATUS[comment]`.
    Runtime(String),
    /// The same of memory.
    Memory(String),
    /// The test writes landed elsewhere than before: a node, or the code of an error.
    Landed(String),
    /// A write landed elsewhere than the one before, of which there were so many with one outcome.
    Turned(String, u64),
    /// Where they landed lately.
    Lately(Vec<String>),
    /// They go on landing there, or they are over.
    Writes,
    /// They are over.
    WritesEnd,
    /// What was done, or looked at.
    Did(String),
}

/// A line of a timeline.
#[derive(Debug, Clone)]
pub struct Line {
    /// ms of the day.
    pub at: u64,
    pub what: What,
    /// What follows the time.
    pub text: String,
}

/// Reads a timeline; lines without a time go to `other`.
pub fn read(text: &str, mut other: impl FnMut(&str)) -> Vec<Line> {
    let mut lines = Vec::new();
    for line in text.lines() {
        match line.split_once(' ').and_then(|(time, text)| Some((ms_of_day(time)?, text))) {
            Some((at, text)) => lines.push(Line { at, what: what(text), text: text.to_owned() }),
            None => other(line),
        }
    }
    lines
}

fn ms_of_day(time: &str) -> Option<u64> {
    let number = |from: usize, to: usize| time.get(from..to)?.parse::<u64>().ok();
    (time.len() == 12).then_some(())?;
    Some(((number(0, 2)? * 60 + number(3, 5)?) * 60 + number(6, 8)?) * 1_000 + number(9, 12)?)
}

fn what(text: &str) -> What {
    let (word, rest) = text.split_once(' ').unwrap_or((text, ""));
    match word {
        "RUNTIME" => What::Runtime(rest.to_owned()),
        "MEMORY" => What::Memory(rest.trim_start().to_owned()),
        "INSERT" if rest.starts_with("first -> ") => What::Landed(outcome(&rest["first -> ".len()..])),
        "INSERT" if rest.starts_with("-> ") => {
            let count = rest.rsplit_once('x').and_then(|(_, count)| count.trim_end_matches(')').parse().ok());
            What::Turned(outcome(&rest["-> ".len()..]), count.unwrap_or_else(|| panic!("{text}")))
        }
        "INSERT" if rest.starts_with("last 0.5s: ") => What::Lately(outcomes(&rest["last 0.5s: ".len()..])),
        "INSERT" if rest.starts_with("end;") => What::WritesEnd,
        "INSERT" => What::Writes,
        _ => What::Did(text.trim_start_matches("***** ").to_owned()),
    }
}

/// A node, or the code of `ERR (CODE, TEXT)`.
fn outcome(text: &str) -> String {
    let word = text.strip_prefix("ERR (").unwrap_or(text);
    word.split([' ', ',']).next().unwrap_or_default().to_owned()
}

fn outcomes(text: &str) -> Vec<String> {
    let Some(Value::Named(counts)) = Value::parse(text) else { panic!("{text}") };
    counts.iter().filter_map(|(name, _)| name.text()).map(outcome).collect()
}
