//! Where a value came from, and what was wrong with it.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The exit code for bad input: a wrong flag, environment or file.
pub const EXIT_BAD_INPUT: u8 = 2;

/// Where a value came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// Nobody said anything.
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

/// A value, and where it came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sourced<T> {
    /// The value.
    pub value: T,
    /// Where it came from.
    pub origin: Origin,
}

impl<T> Sourced<T> {
    /// Puts both together.
    pub fn new(value: T, origin: Origin) -> Self {
        Self { value, origin }
    }

    /// The same origin with another value.
    pub fn map<U>(self, read: impl FnOnce(T) -> U) -> Sourced<U> {
        Sourced { value: read(self.value), origin: self.origin }
    }

    /// The same origin with another value, or the error placed there.
    ///
    /// # Errors
    /// What `read` says, with key and place.
    pub fn read<U>(self, key: &str, read: impl FnOnce(T) -> Result<U, String>) -> Result<Sourced<U>, ConfigError> {
        match read(self.value) {
            Ok(value) => Ok(Sourced { value, origin: self.origin }),
            Err(problem) => Err(ConfigError::new(self.origin, key, problem)),
        }
    }
}

/// What is wrong with the config: where, which key, and what was expected. Never carries a secret (I11).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError {
    /// Where the wrong value was read.
    pub origin: Origin,
    /// The key as in the file (`isolation.after`); empty for what concerns a whole file.
    pub key: String,
    /// What is wrong, and what to write instead.
    pub problem: String,
    /// The file that couldn't be used at all.
    pub file: Option<PathBuf>,
}

impl ConfigError {
    /// A wrong value.
    pub fn new(origin: Origin, key: &str, problem: impl Into<String>) -> Self {
        Self { origin, key: key.to_owned(), problem: problem.into(), file: None }
    }

    /// A file that can't be used at all.
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
