//! The origin of a value, and the error for a wrong one.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The exit code for bad input: a wrong flag, environment variable or file.
pub const EXIT_BAD_INPUT: u8 = 2;

/// Where a value came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// The value is given nowhere, so the default applies.
    Default,
    /// A line of the config file.
    File {
        /// The file.
        path: Arc<Path>,
        /// The line, from 1.
        line: usize,
    },
    /// An environment variable.
    Env(&'static str),
    /// A flag of the command line.
    Flag(&'static str),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File { path, line } => write!(f, "{}:{line}", path.display()),
            Self::Env(name) => write!(f, "environment {name}"),
            Self::Flag(name) => write!(f, "flag {name}"),
        }
    }
}

/// A value with its origin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sourced<T> {
    /// The value.
    pub value: T,
    /// Where it came from.
    pub origin: Origin,
}

impl<T> Sourced<T> {
    /// Joins a value and its origin.
    pub fn new(value: T, origin: Origin) -> Self {
        Self { value, origin }
    }

    /// Maps the value and keeps the origin.
    pub fn map<U>(self, read: impl FnOnce(T) -> U) -> Sourced<U> {
        Sourced { value: read(self.value), origin: self.origin }
    }

    /// Parses the value and keeps the origin.
    ///
    /// # Errors
    /// The error of `read`, with key and place.
    pub fn read<U>(self, key: &str, read: impl FnOnce(T) -> Result<U, String>) -> Result<Sourced<U>, ConfigError> {
        match read(self.value) {
            Ok(value) => Ok(Sourced { value, origin: self.origin }),
            Err(problem) => Err(ConfigError::new(self.origin, key, problem)),
        }
    }
}

/// A problem in the config: its place, the key, and what was expected. It contains no secret (I11).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError {
    /// Where the wrong value was read.
    pub origin: Origin,
    /// The key as in the file (`isolation.after`); empty if the problem is the whole file.
    pub key: String,
    /// The problem, and what to write instead.
    pub problem: String,
    /// The file that can't be used at all.
    pub file: Option<PathBuf>,
}

impl ConfigError {
    /// Makes the error for a wrong value.
    pub fn new(origin: Origin, key: &str, problem: impl Into<String>) -> Self {
        Self { origin, key: key.to_owned(), problem: problem.into(), file: None }
    }

    /// Makes the error for a file that can't be used at all.
    pub fn of_file(path: &Path, problem: impl Into<String>) -> Self {
        Self { origin: Origin::Default, key: String::new(), problem: problem.into(), file: Some(path.to_owned()) }
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.file, &self.origin) {
            (Some(path), _) => write!(f, "{}: ", path.display())?,
            (None, Origin::Default) => {}
            (None, origin) => write!(f, "{origin}: ")?,
        }
        if !self.key.is_empty() {
            write!(f, "{}: ", self.key)?;
        }
        f.write_str(&self.problem)
    }
}

impl std::error::Error for ConfigError {}
