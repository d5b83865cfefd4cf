//! This program's entry in ProxySQL's scheduler: what it has to be, given what is there. No I/O.

use std::path::Path;
use std::time::Duration;

use stonith_core::lending::{Layers, OwnRecord};
use stonith_core::table::{Content, Record, SCHEDULER};

use crate::config::{Enforcement, Word, duration, mode_to_pass};
use crate::proxysql::SCHEDULER_COMMENT as OURS;
use crate::untrusted_text::one_line;

/// The file name of this program.
const PROGRAM: &str = "proxysql-stonith";

/// The most arguments of an entry.
pub const ARGUMENTS_MAX: usize = 5;

const COLUMNS: [&str; 10] =
    ["id", "active", "interval_ms", "filename", "arg1", "arg2", "arg3", "arg4", "arg5", "comment"];

/// The largest id that is given without being asked for.
const ID_MAX: u32 = 1_000_000;

/// What the entry has to start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// This program.
    pub program: String,
    /// The arguments but `--mode`.
    pub arguments: Vec<String>,
    /// How often it is started.
    pub interval: Duration,
    /// The id, if one was asked for.
    pub id: Option<u32>,
    /// The `--mode` that was typed.
    pub typed_mode: Option<Enforcement>,
    /// The mode that the config file says.
    pub written_mode: Option<Enforcement>,
}

/// Why there is no entry for that.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EntryError {
    /// Too many flags were typed.
    #[error(
        "ProxySQL's scheduler passes at most {ARGUMENTS_MAX} arguments, and this needs {0}: write the values into the config \
         file instead"
    )]
    TooManyArguments(usize),
    /// The id is somebody else's.
    #[error("id {0} of the scheduler's table is in use by another entry: choose another --id, or none")]
    IdTaken(u32),
    /// The table is not as in any version that was tried.
    #[error("this ProxySQL's scheduler has no column {0}")]
    NoColumn(&'static str),
}

/// What is to be done with the entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Entry {
    /// Somebody made one by hand. It is kept.
    ByHand {
        /// Its id.
        id: String,
        /// How it starts the program.
        line: String,
    },
    /// The entry of ours, and how it gets there.
    Ours {
        /// The line that the scheduler runs.
        line: String,
        /// The mode in which it runs, if the entry says it.
        mode: Option<Enforcement>,
        /// What has to be in the table.
        change: OwnRecord,
    },
}

/// What becomes of the entry. An entry of ours keeps the mode that an earlier install gave it, unless one is typed.
pub fn install(layers: &Layers, wanted: &Wanted) -> Result<Entry, EntryError> {
    check_columns(&layers.memory)?;
    let (ours, by_hand) = (ids(&layers.runtime, is_ours), ids(&layers.runtime, is_by_hand));
    let ours = [ours, ids(&layers.memory, is_ours), ids(&layers.disk, is_ours)].concat();
    if let (Some(id), true) = (by_hand.first(), ours.is_empty()) {
        let line = line(&layers.runtime, id);
        return Ok(Entry::ByHand { id: id.clone(), line });
    }
    let id = match (wanted.id, ours.first()) {
        (Some(id), _) if is_taken(layers, &id.to_string()) => return Err(EntryError::IdTaken(id)),
        (Some(id), _) => id.to_string(),
        (None, Some(id)) => id.clone(),
        (None, None) => free_id(layers),
    };
    let kept_mode = ours.first().map(|id| mode_of(layers, id));
    let mode = mode_to_pass(wanted.typed_mode, wanted.written_mode, kept_mode);
    let mut arguments = wanted.arguments.clone();
    arguments.extend(mode.map(|mode| format!("--mode={}", mode.word())));
    if arguments.len() > ARGUMENTS_MAX {
        return Err(EntryError::TooManyArguments(arguments.len()));
    }
    let value = |column: &str| match column {
        "id" => Some(id.clone()),
        "active" => Some("1".to_owned()),
        "interval_ms" => Some(duration::millis(wanted.interval).to_string()),
        "filename" => Some(wanted.program.clone()),
        "comment" => Some(OURS.to_owned()),
        argument => {
            let nth: usize = argument.strip_prefix("arg")?.parse().ok()?;
            arguments.get(nth.checked_sub(1)?).cloned()
        }
    };
    let record: Record = layers.memory.columns.iter().map(|column| value(column)).collect();
    let change = OwnRecord { record: Some(record.clone()), ..none() };
    let shown = Content::new(SCHEDULER, layers.memory.columns.clone(), [record]);
    Ok(Entry::Ours { line: line(&shown, &id), mode, change })
}

/// No entry of ours.
fn none() -> OwnRecord {
    OwnRecord { column: "comment", note: OURS, record: None }
}

/// The removal of the entries of ours, and the ids of entries by hand that stay.
pub fn remove(layers: &Layers) -> (OwnRecord, Vec<String>) {
    (none(), ids(&layers.runtime, is_by_hand))
}

fn check_columns(memory: &Content) -> Result<(), EntryError> {
    let lacks = COLUMNS.into_iter().find(|column| !memory.columns.iter().any(|name| name == column));
    lacks.map_or(Ok(()), |column| Err(EntryError::NoColumn(column)))
}

fn ids(content: &Content, is_meant: impl Fn(&Content, &Record) -> bool) -> Vec<String> {
    let meant = content.records.values().filter(|record| is_meant(content, record));
    meant.filter_map(|record| Some(value(content, record, "id")?.to_owned())).collect()
}

fn is_ours(content: &Content, record: &Record) -> bool {
    none().is_ours(&content.columns, record)
}

/// An active entry without our comment that starts this program.
fn is_by_hand(content: &Content, record: &Record) -> bool {
    let of_program = |text: &str| Path::new(text).file_name().is_some_and(|name| name == PROGRAM);
    let mut texts = COLUMNS[3..9].iter().filter_map(|column| value(content, record, column));
    !is_ours(content, record) && value(content, record, "active") == Some("1") && texts.any(of_program)
}

fn is_taken(layers: &Layers, id: &str) -> bool {
    let key = vec![Some(id.to_owned())];
    let others = [&layers.runtime, &layers.memory, &layers.disk];
    others.iter().any(|content| content.records.get(&key).is_some_and(|record| !is_ours(content, record)))
}

fn free_id(layers: &Layers) -> String {
    (1..ID_MAX).map(|id| id.to_string()).find(|id| !is_taken(layers, id)).unwrap_or_else(|| ID_MAX.to_string())
}

fn mode_of(layers: &Layers, id: &str) -> Option<Enforcement> {
    let key = vec![Some(id.to_owned())];
    let (content, record) = [&layers.runtime, &layers.memory, &layers.disk]
        .into_iter()
        .find_map(|content| Some((content, content.records.get(&key)?)))?;
    let mut arguments = COLUMNS[4..9].iter().filter_map(|column| value(content, record, column));
    arguments.find_map(|argument| Enforcement::from_word(argument.strip_prefix("--mode=")?).ok())
}

/// The line that an entry runs, for people. Of an entry by hand only what is no secret: its file.
fn line(content: &Content, id: &str) -> String {
    let Some(record) = content.records.get(&vec![Some(id.to_owned())]) else { return String::new() };
    let shown = |column: &str| value(content, record, column).unwrap_or_default();
    let interval = shown("interval_ms").parse().map(|ms| duration::show(Duration::from_millis(ms))).unwrap_or_default();
    let words = if is_ours(content, record) { &COLUMNS[3..9] } else { &COLUMNS[3..4] };
    let words = words.iter().filter_map(|column| value(content, record, column)).collect::<Vec<_>>().join(" ");
    format!("id {id}, every {interval}: {}", one_line(&words))
}

fn value<'r>(content: &Content, record: &'r Record, column: &str) -> Option<&'r str> {
    record.get(content.columns.iter().position(|name| name == column)?)?.as_deref()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(records: &[&[&str]]) -> Content {
        let record = |values: &&[&str]| {
            let values = values.iter().map(|value| (!value.is_empty()).then(|| (*value).to_owned()));
            values.chain(std::iter::repeat(None)).take(9).collect::<Vec<_>>()
        };
        let records = records.iter().map(|values| {
            let comment = if values[0].starts_with('*') { OURS } else { "" };
            let mut record = record(values);
            record[0] = Some(values[0].trim_start_matches('*').to_owned());
            record.push(Some(comment.to_owned()));
            record
        });
        Content::new(SCHEDULER, COLUMNS.iter().map(ToString::to_string).collect(), records)
    }

    fn all(records: &[&[&str]]) -> Layers {
        Layers { runtime: table(records), memory: table(records), disk: table(records) }
    }

    fn wanted() -> Wanted {
        Wanted {
            program: "/usr/bin/proxysql-stonith".to_owned(),
            arguments: vec!["run".to_owned(), "--once".to_owned()],
            interval: Duration::from_secs(5),
            id: None,
            typed_mode: None,
            written_mode: Some(Enforcement::Observe),
        }
    }

    fn ours(layers: &Layers, wanted: &Wanted) -> (String, Option<Enforcement>, OwnRecord) {
        match install(layers, wanted).unwrap() {
            Entry::Ours { line, mode, change } => (line, mode, change),
            by_hand => panic!("{by_hand:?}"),
        }
    }

    fn after(layers: &Layers, change: &OwnRecord) -> Layers {
        let [runtime, memory, disk] =
            [&layers.runtime, &layers.memory, &layers.disk].map(|content| change.carry_out(content).unwrap());
        Layers { runtime, memory, disk }
    }

    #[test]
    fn it_takes_a_free_id_and_a_second_install_has_nothing_to_do() {
        let before = all(&[&["1", "1", "1000", "/bin/true"]]);
        let (line, mode, change) = ours(&before, &wanted());
        assert_eq!(line, "id 2, every 5s: /usr/bin/proxysql-stonith run --once");
        assert_eq!(mode, None, "the file says it");
        let installed = after(&before, &change);
        assert!(!change.is_carried_out(&before) && ours(&installed, &wanted()).2.is_carried_out(&installed));
        let (removed, by_hand) = remove(&installed);
        assert_eq!((after(&installed, &removed), by_hand), (before.clone(), vec![]));
        assert!(remove(&before).0.is_carried_out(&before));
    }

    #[test]
    fn an_entry_of_ours_is_updated_in_place_or_moved_and_never_doubled() {
        let before = all(&[&["*7", "0", "1000", "/old/proxysql-stonith", "run"]]);
        let (line, _, change) = ours(&before, &wanted());
        assert_eq!(line, "id 7, every 5s: /usr/bin/proxysql-stonith run --once");
        assert_eq!(after(&before, &change).runtime.records.len(), 1);
        let (line, _, change) = ours(&before, &Wanted { id: Some(9), ..wanted() });
        assert!(line.starts_with("id 9,") && after(&before, &change).disk.records.len() == 1, "{line}");
        let taken = all(&[&["9", "1", "1000", "/bin/true"]]);
        assert_eq!(install(&taken, &Wanted { id: Some(9), ..wanted() }), Err(EntryError::IdTaken(9)));
    }

    #[test]
    fn i11_an_entry_by_hand_is_kept_and_its_arguments_are_not_shown() {
        let by_hand = all(&[&["3", "1", "2000", "/opt/proxysql-stonith", "run", "--once", "http://u:hunter2@orc"]]);
        let Entry::ByHand { id, line } = install(&by_hand, &wanted()).unwrap() else { panic!() };
        assert_eq!((id.as_str(), line.as_str()), ("3", "id 3, every 2s: /opt/proxysql-stonith"));
        assert_eq!(remove(&by_hand).1, ["3"]);
        assert!(remove(&by_hand).0.is_carried_out(&by_hand), "it is not ours to remove");
        let off = all(&[&["3", "0", "2000", "/opt/proxysql-stonith", "run", "--once"]]);
        assert!(ours(&off, &wanted()).0.starts_with("id 1,"), "an entry that is off starts nothing");
    }

    #[test]
    fn it_begins_by_observing_unless_told_otherwise_and_the_file_stays_the_place_to_change_it() {
        use Enforcement::{Enforce, Observe};
        for (typed, written, kept, passed) in [
            (None, None, None, Some(Observe)),
            (None, Some(Enforce), None, None),
            (None, Some(Observe), None, None),
            (Some(Enforce), None, None, None),
            (Some(Enforce), None, Some(Some(Observe)), None),
            (Some(Enforce), Some(Observe), None, Some(Enforce)),
            (Some(Observe), Some(Observe), None, None),
            (Some(Observe), None, Some(None), Some(Observe)),
            (None, None, Some(None), None),
            (None, None, Some(Some(Observe)), Some(Observe)),
        ] {
            assert_eq!(mode_to_pass(typed, written, kept), passed, "{typed:?} {written:?} {kept:?}");
        }
        let begun = Wanted { written_mode: None, ..wanted() };
        let (line, mode, change) = ours(&all(&[]), &begun);
        assert!(line.ends_with("run --once --mode=observe") && mode == Some(Observe), "{line}");
        let observing = after(&all(&[]), &change);
        assert!(ours(&observing, &begun).2.is_carried_out(&observing));
        let (line, _, change) = ours(&observing, &Wanted { typed_mode: Some(Enforce), ..begun.clone() });
        assert!(line.ends_with("run --once"), "{line}");
        let enforcing = after(&observing, &change);
        assert!(ours(&enforcing, &begun).2.is_carried_out(&enforcing), "and a plain install does not turn it back");
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let many = Wanted { arguments: vec![String::new(); 6], ..wanted() };
        assert_eq!(install(&all(&[]), &many), Err(EntryError::TooManyArguments(6)));
        let mut old = all(&[]);
        old.memory.columns.pop();
        assert_eq!(install(&old, &wanted()), Err(EntryError::NoColumn("comment")));
    }
}
