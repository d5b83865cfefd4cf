//! The types of settings: how each is parsed from flag, variable and file, and shown as in a config file.
//!
//! serde does not parse the file: its errors quote the value, and the value may be a password (I11).

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use stonith_core::evidence::EvidenceKind;
use stonith_core::node::Node;
use stonith_core::node_fence::ALLOWED;
use stonith_core::table::Hostgroup;
use toml::Spanned;
use toml::de::{DeString, DeValue};

use super::words::Word;
use super::{address, duration};
use crate::secret::Secret;

/// A type of settings.
pub trait Value: Sized + 'static {
    /// Its name in docs/config.md.
    const KIND: &'static str;

    /// The form that the config file must have.
    const EXPECTED: &'static str;

    /// Parses the text of a flag or variable.
    ///
    /// # Errors
    /// What was expected.
    fn from_text(text: &str) -> Result<Self, String>;

    /// Parses a value of the config file. A relative path counts from `folder`, which contains the file.
    ///
    /// # Errors
    /// The value has another type, or is not what was expected.
    fn from_file(written: &Written, _folder: &Path) -> Result<Self, Wrong> {
        Ok(Self::from_text(written.text()?)?)
    }

    /// The value as the config file has it; a secret is hidden.
    fn to_toml(&self) -> String;

    /// All values as words, if the type has only a few.
    fn words() -> Vec<&'static str> {
        Vec::new()
    }
}

/// A value in the config file, of any type. Every text is a [`Secret`] because it may be a password.
#[derive(Debug, Clone)]
pub enum Written {
    /// A string.
    Text(Secret),
    /// A whole number; `None` if it is too large.
    Number(Option<i64>),
    /// `true` or `false`.
    Boolean(bool),
    /// An array.
    List(Vec<Written>),
    /// A table.
    Table(Vec<(String, Written)>),
    /// A type that no setting has, by its TOML name.
    Other(&'static str),
}

/// Why a value in the config file cannot be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wrong {
    /// The value does not have the type that [`Value::EXPECTED`] names.
    Type,
    /// The value is wrong; the text says what was expected.
    Value(String),
}

impl From<String> for Wrong {
    fn from(problem: String) -> Self {
        Self::Value(problem)
    }
}

impl Written {
    pub(super) fn of(value: DeValue<'_>) -> Self {
        match value {
            DeValue::String(text) => Self::Text(Secret::new(text)),
            DeValue::Integer(number) => Self::Number(i64::from_str_radix(number.as_str(), number.radix()).ok()),
            DeValue::Boolean(value) => Self::Boolean(value),
            DeValue::Array(items) => Self::List(items.into_iter().map(|item| Self::of(item.into_inner())).collect()),
            DeValue::Table(items) => {
                let item = |(name, value): (Spanned<DeString<'_>>, Spanned<DeValue<'_>>)| {
                    (name.into_inner().into_owned(), Self::of(value.into_inner()))
                };
                Self::Table(items.into_iter().map(item).collect())
            }
            other => Self::Other(other.type_str()),
        }
    }

    /// The TOML name of its type.
    pub(super) fn type_name(&self) -> &'static str {
        match self {
            Self::Text(_) => "string",
            Self::Number(_) => "integer",
            Self::Boolean(_) => "boolean",
            Self::List(_) => "array",
            Self::Table(_) => "table",
            Self::Other(name) => name,
        }
    }

    fn text(&self) -> Result<&str, Wrong> {
        let Self::Text(text) = self else { return Err(Wrong::Type) };
        Ok(text.expose())
    }

    fn number(&self) -> Result<i64, Wrong> {
        let Self::Number(number) = self else { return Err(Wrong::Type) };
        Ok(number.ok_or_else(|| "is too large".to_owned())?)
    }

    pub(super) fn table(&self) -> Result<&[(String, Written)], Wrong> {
        let Self::Table(items) = self else { return Err(Wrong::Type) };
        Ok(items)
    }

    fn list(&self) -> Result<&[Written], Wrong> {
        let Self::List(items) = self else { return Err(Wrong::Type) };
        Ok(items)
    }
}

impl Value for String {
    const KIND: &'static str = "text";
    const EXPECTED: &'static str = "a string";

    fn from_text(text: &str) -> Result<Self, String> {
        Ok(text.to_owned())
    }

    fn to_toml(&self) -> String {
        quoted(self)
    }
}

impl Value for Secret {
    const KIND: &'static str = "secret text";
    const EXPECTED: &'static str = "a string in quotes";

    fn from_text(text: &str) -> Result<Self, String> {
        Ok(Secret::new(text))
    }

    fn to_toml(&self) -> String {
        quoted("***")
    }
}

impl Value for bool {
    const KIND: &'static str = "boolean";
    const EXPECTED: &'static str = "true or false";

    fn from_text(text: &str) -> Result<Self, String> {
        text.parse().map_err(|_| format!("{:?} is not known; expected true or false", start_of(text)))
    }

    fn from_file(written: &Written, _folder: &Path) -> Result<Self, Wrong> {
        let Written::Boolean(value) = written else { return Err(Wrong::Type) };
        Ok(*value)
    }

    fn to_toml(&self) -> String {
        self.to_string()
    }
}

impl Value for i64 {
    const KIND: &'static str = "number";
    const EXPECTED: &'static str = "a whole number";

    fn from_text(text: &str) -> Result<Self, String> {
        text.parse().map_err(|_| format!("{:?} is not a number; expected a whole number", start_of(text)))
    }

    fn from_file(written: &Written, _folder: &Path) -> Result<Self, Wrong> {
        written.number()
    }

    fn to_toml(&self) -> String {
        self.to_string()
    }
}

impl Value for Vec<String> {
    const KIND: &'static str = "list of texts";
    const EXPECTED: &'static str = "a list of strings, such as [\"http://orc1:3000\"]";

    fn from_text(text: &str) -> Result<Self, String> {
        Ok(address::split(text).map(str::to_owned).collect())
    }

    fn from_file(written: &Written, _folder: &Path) -> Result<Self, Wrong> {
        written.list()?.iter().map(|item| Ok(item.text()?.to_owned())).collect()
    }

    fn to_toml(&self) -> String {
        listed(self.iter().map(|text| quoted(text)))
    }
}

impl Value for Vec<EvidenceKind> {
    const KIND: &'static str = "list of words";
    const EXPECTED: &'static str = "a list of strings, such as [\"superseded\"]";

    fn from_text(text: &str) -> Result<Self, String> {
        kinds(address::split(text))
    }

    fn from_file(written: &Written, _folder: &Path) -> Result<Self, Wrong> {
        let words = written.list()?.iter().map(Written::text).collect::<Result<Vec<_>, _>>()?;
        Ok(kinds(words.into_iter())?)
    }

    fn to_toml(&self) -> String {
        listed(self.iter().map(|kind| quoted(&kind.to_string())))
    }
}

fn kinds<'t>(words: impl Iterator<Item = &'t str>) -> Result<Vec<EvidenceKind>, String> {
    let known = || ALLOWED.map(|kind| format!("\"{kind}\"")).join(" or ");
    let kind = |word: &str| EvidenceKind::parse(word).filter(|kind| ALLOWED.contains(kind));
    words
        .map(|word| kind(word).ok_or_else(|| format!("{:?} is not known; expected {}", start_of(word), known())))
        .collect()
}

impl Value for Vec<Hostgroup> {
    const KIND: &'static str = "list of numbers";
    const EXPECTED: &'static str = "a list of whole numbers, such as [30, 40]";

    fn from_text(text: &str) -> Result<Self, String> {
        hostgroups(address::split(text).map(i64::from_text).collect::<Result<_, _>>()?)
    }

    fn from_file(written: &Written, _folder: &Path) -> Result<Self, Wrong> {
        Ok(hostgroups(written.list()?.iter().map(Written::number).collect::<Result<_, _>>()?)?)
    }

    fn to_toml(&self) -> String {
        listed(self.iter().map(ToString::to_string))
    }
}

fn hostgroups(numbers: Vec<i64>) -> Result<Vec<Hostgroup>, String> {
    let mut seen = BTreeSet::new();
    for number in numbers {
        // ProxySQL's column is a signed 32-bit number, at least 0.
        let known = i32::try_from(number).ok().and_then(|number| u32::try_from(number).ok());
        let known = known.ok_or_else(|| format!("{number} is not a hostgroup; expected 0 to {}", i32::MAX))?;
        if !seen.insert(Hostgroup(known)) {
            return Err(format!("{number} is listed twice"));
        }
    }
    Ok(seen.into_iter().collect())
}

impl Value for Duration {
    const KIND: &'static str = "duration";
    const EXPECTED: &'static str = "a duration in quotes, such as \"10s\"";

    fn from_text(text: &str) -> Result<Self, String> {
        duration::parse(text)
    }

    fn to_toml(&self) -> String {
        quoted(&duration::show(*self))
    }
}

impl Value for PathBuf {
    const KIND: &'static str = "path";
    const EXPECTED: &'static str = "a path in quotes";

    /// Makes the path absolute, because the working directory may change. Under the scheduler it is ProxySQL's data
    /// directory.
    fn from_text(text: &str) -> Result<Self, String> {
        let path = path(text)?;
        Ok(std::path::absolute(&path).unwrap_or(path))
    }

    fn from_file(written: &Written, folder: &Path) -> Result<Self, Wrong> {
        Ok(folder.join(path(written.text()?)?))
    }

    fn to_toml(&self) -> String {
        quoted(&self.to_string_lossy())
    }
}

fn path(text: &str) -> Result<PathBuf, String> {
    if text.is_empty() { Err("is empty; expected a path".to_owned()) } else { Ok(text.into()) }
}

/// The address of an admin interface.
impl Value for Node {
    const KIND: &'static str = "host:port";
    const EXPECTED: &'static str = "a string";

    fn from_text(text: &str) -> Result<Self, String> {
        address::parse_proxy(text)
    }

    fn to_toml(&self) -> String {
        quoted(&self.to_string())
    }
}

impl<W: Word> Value for W {
    const KIND: &'static str = "word";
    const EXPECTED: &'static str = "a string";

    fn from_text(text: &str) -> Result<Self, String> {
        W::from_word(text)
    }

    fn to_toml(&self) -> String {
        quoted(self.word())
    }

    fn words() -> Vec<&'static str> {
        W::WORDS.iter().map(|(word, _)| *word).collect()
    }
}

/// The beginning of a text that an error shows.
fn start_of(text: &str) -> String {
    text.chars().take(40).collect()
}

pub(super) fn quoted(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}

fn listed(items: impl Iterator<Item = String>) -> String {
    format!("[{}]", items.collect::<Vec<_>>().join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_that_is_no_value_is_quoted_but_not_in_full() {
        assert_eq!(bool::from_text("yes").unwrap_err(), "\"yes\" is not known; expected true or false");
        let long = i64::from_text(&"x".repeat(1_000)).unwrap_err();
        assert_eq!(long, format!("\"{}\" is not a number; expected a whole number", "x".repeat(40)));
    }

    #[test]
    fn hostgroups_can_be_written_as_text_too() {
        let hostgroups = Vec::<Hostgroup>::from_text("30, 40").unwrap();
        assert_eq!(hostgroups.iter().map(ToString::to_string).collect::<Vec<_>>(), ["30", "40"]);
    }
}
