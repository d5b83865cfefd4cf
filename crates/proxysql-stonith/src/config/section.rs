//! Reads one TOML table key by key, so that every error names file, line, key and what was expected.
//!
//! Not serde: its errors quote the value, and the value may be a password (I11).

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::duration;
use super::origin::{ConfigError, Origin, Sourced};
use super::words::Word;
use crate::secret::Secret;

type Read<T> = Result<Option<Sourced<T>>, ConfigError>;

/// The text of a config file, to turn places into lines.
pub(super) struct SourceText<'t> {
    pub(super) path: Arc<Path>,
    pub(super) text: &'t str,
}

impl SourceText<'_> {
    pub(super) fn at(&self, byte: usize) -> Origin {
        let before = self.text.as_bytes().get(..byte).unwrap_or(self.text.as_bytes());
        Origin::File { path: self.path.clone(), line: before.iter().filter(|b| **b == b'\n').count() + 1 }
    }
}

/// A table of the config file; every key is asked for, and [`Section::finish`] refuses the others.
pub(super) struct Section<'t> {
    source: &'t SourceText<'t>,
    name: String,
    at: usize,
    left: Vec<(Spanned<String>, Spanned<DeValue<'t>>)>,
    known: Vec<&'static str>,
}

impl<'t> Section<'t> {
    pub(super) fn new(source: &'t SourceText<'t>, name: &str, at: usize, table: DeTable<'t>) -> Self {
        let left = table.into_iter().map(|(key, value)| (Spanned::new(key.span(), key.get_ref().to_string()), value));
        Self { source, name: name.to_owned(), at, left: left.collect(), known: Vec::new() }
    }

    /// Where this table begins.
    pub(super) fn origin(&self) -> Origin {
        self.source.at(self.at)
    }

    /// The full name of a key, `isolation.after`.
    pub(super) fn key(&self, key: &str) -> String {
        if self.name.is_empty() { key.to_owned() } else { format!("{}.{key}", self.name) }
    }

    fn take(&mut self, key: &'static str) -> Option<(Origin, Spanned<DeValue<'t>>)> {
        self.known.push(key);
        let at = self.left.iter().position(|(name, _)| name.get_ref() == key)?;
        let (name, value) = self.left.swap_remove(at);
        Some((self.source.at(name.span().start), value))
    }

    fn get<T>(
        &mut self,
        key: &'static str,
        expected: &str,
        read: impl FnOnce(DeValue<'t>) -> Result<T, Option<String>>,
    ) -> Read<T> {
        let Some((origin, value)) = self.take(key) else { return Ok(None) };
        let found = value.get_ref().type_str();
        match read(value.into_inner()) {
            Ok(value) => Ok(Some(Sourced::new(value, origin))),
            Err(problem) => {
                let problem = problem.unwrap_or_else(|| format!("expected {expected}, found {found}"));
                Err(ConfigError::new(origin, &self.key(key), problem))
            }
        }
    }

    pub(super) fn string(&mut self, key: &'static str) -> Read<String> {
        self.get(key, "a string", text)
    }

    pub(super) fn secret(&mut self, key: &'static str) -> Read<Secret> {
        self.get(key, "a string in quotes", |value| text(value).map(Secret::new))
    }

    pub(super) fn boolean(&mut self, key: &'static str) -> Read<bool> {
        self.get(key, "true or false", |value| value.as_bool().ok_or(None))
    }

    pub(super) fn integer(&mut self, key: &'static str) -> Read<i64> {
        self.get(key, "a whole number", |value| integer(&value))
    }

    pub(super) fn integers(&mut self, key: &'static str) -> Read<Vec<i64>> {
        self.get(key, "a list of whole numbers, such as [30, 40]", |value| {
            value.as_array().ok_or(None)?.iter().map(|item| integer(item.get_ref())).collect()
        })
    }

    pub(super) fn strings(&mut self, key: &'static str) -> Read<Vec<String>> {
        self.get(key, "a list of strings, such as [\"http://orc1:3000\"]", |value| match value {
            DeValue::Array(items) => items.into_iter().map(|item| text(item.into_inner())).collect(),
            _ => Err(None),
        })
    }

    pub(super) fn duration(&mut self, key: &'static str) -> Read<Duration> {
        self.get(key, "a duration in quotes, such as \"10s\"", |value| duration::parse(&text(value)?).map_err(Some))
    }

    pub(super) fn word<T: Word>(&mut self, key: &'static str) -> Read<T> {
        self.get(key, "a string", |value| T::from_word(&text(value)?).map_err(Some))
    }

    /// A path; a relative one counts from the config file's directory.
    pub(super) fn path(&mut self, key: &'static str) -> Read<PathBuf> {
        let base = self.source.path.parent().unwrap_or(Path::new("")).to_owned();
        self.get(key, "a path in quotes", |value| match text(value)? {
            empty if empty.is_empty() => Err(Some("is empty; expected a path".to_owned())),
            path => Ok(base.join(path)),
        })
    }

    /// A table `[key]`; an absent one is an empty one.
    pub(super) fn section(&mut self, key: &'static str) -> Result<Section<'t>, ConfigError> {
        let (at, table) = match self.take(key) {
            None => (self.at, DeTable::new()),
            Some((_, value)) => {
                let span = value.span();
                match value.into_inner() {
                    DeValue::Table(table) => (span.start, table),
                    other => return Err(self.misplaced(key, span.start, "a table", &format!("[{key}]"), &other)),
                }
            }
        };
        Ok(Section::new(self.source, key, at, table))
    }

    /// Tables `[[key]]`.
    pub(super) fn sections(&mut self, key: &'static str) -> Result<Vec<Section<'t>>, ConfigError> {
        let Some((_, value)) = self.take(key) else { return Ok(Vec::new()) };
        let start = value.span().start;
        let written = format!("[[{key}]]");
        let DeValue::Array(items) = value.get_ref() else {
            return Err(self.misplaced(key, start, "tables, one for each", &written, value.get_ref()));
        };
        items
            .clone()
            .into_iter()
            .map(|item| {
                let at = item.span().start;
                match item.into_inner() {
                    DeValue::Table(table) => Ok(Section::new(self.source, key, at, table)),
                    other => Err(self.misplaced(key, at, "tables, one for each", &written, &other)),
                }
            })
            .collect()
    }

    fn misplaced(&self, key: &str, at: usize, expected: &str, written: &str, found: &DeValue<'_>) -> ConfigError {
        let problem = format!("expected {expected}, written {written}; found {}", found.type_str());
        ConfigError::new(self.source.at(at), &self.key(key), problem)
    }

    /// Refuses every key that nobody asked for.
    pub(super) fn finish(self) -> Result<(), ConfigError> {
        let Some((unknown, _)) = self.left.iter().min_by_key(|(key, _)| key.span().start) else { return Ok(()) };
        let name: String = unknown.get_ref().chars().take(60).collect();
        let nearest = self.known.iter().map(|known| (distance(&name, known), known)).min();
        let problem = match nearest {
            Some((distance, near)) if distance <= 2 || distance * 3 <= near.len() => {
                format!("unknown key; did you mean {near:?}?")
            }
            _ => format!("unknown key; known here: {}", self.known.join(", ")),
        };
        Err(ConfigError::new(self.source.at(unknown.span().start), &self.key(&name), problem))
    }
}

fn text(value: DeValue<'_>) -> Result<String, Option<String>> {
    match value {
        DeValue::String(text) => Ok(text.into_owned()),
        _ => Err(None),
    }
}

fn integer(value: &DeValue<'_>) -> Result<i64, Option<String>> {
    let number = value.as_integer().ok_or(None)?;
    i64::from_str_radix(number.as_str(), number.radix()).map_err(|_| Some("is too large a number".to_owned()))
}

/// How many letters must be changed, added or dropped (Levenshtein); both are short.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, letter) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for j in 0..b.len() {
            let changed = diagonal + usize::from(letter != b[j]);
            diagonal = row[j + 1];
            row[j + 1] = changed.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}
