//! The definition of a config key. The keys themselves are in [`super::keys`].

use std::path::Path;

use super::value::{Value, Written, Wrong};

/// [`About::unset`] of a required key.
const REQUIRED: &str = "required";

/// A config key whose values are of type `T`.
pub struct Key<T> {
    /// The key's definition without its type.
    pub about: About,
    /// Whether a value lies within [`About::limits`].
    pub(super) is_within: fn(&T, (&str, &str)) -> bool,
}

/// The definition of one key, for file, environment, flags, `--help` and docs/config.md.
pub struct About {
    /// The section in the config file; empty for a flag that the file cannot set.
    pub section: &'static str,
    /// The name in that section.
    pub name: &'static str,
    /// What the key does, and what it costs. The first sentence is its line in `--help`.
    pub doc: &'static str,
    /// The flag as it is typed: `--mode=MODE`; `run --interval=DURATION` is a flag of one command.
    pub flag: Option<&'static str>,
    /// The environment variables, the highest first.
    pub env: &'static [&'static str],
    /// A variable that counts only if the value is given nowhere else, not even in the file.
    pub env_below: Option<&'static str>,
    /// The default, as a flag would give it.
    pub default: Option<&'static str>,
    /// What applies if no value is given and there is no `default`.
    pub unset: &'static str,
    /// The smallest and the largest value.
    pub limits: Option<(&'static str, &'static str)>,
    /// Whether flag and variables take several values, with commas between.
    pub is_list: bool,
    /// The type of its values.
    pub takes: Takes,
}

/// A type of values without the Rust type.
pub struct Takes {
    /// [`Value::KIND`].
    pub kind: &'static str,
    /// [`Value::EXPECTED`].
    pub expected: &'static str,
    /// Turns a text that [`Value::from_text`] reads into its form in the config file.
    pub in_file: fn(&str) -> Result<String, String>,
    /// [`Value::words`].
    pub words: fn() -> Vec<&'static str>,
    /// Checks that [`Value::from_file`] reads a value.
    pub(super) check_written: fn(&Written, &Path) -> Result<(), Wrong>,
}

impl<T: Value> Key<T> {
    /// Defines a key of the config file, without flag, variable and default.
    pub(super) const fn new(section: &'static str, name: &'static str, doc: &'static str) -> Self {
        let takes = Takes {
            kind: T::KIND,
            expected: T::EXPECTED,
            in_file: |text| T::from_text(text).map(|value| value.to_toml()),
            words: T::words,
            check_written: |written, folder| T::from_file(written, folder).map(drop),
        };
        let about = About {
            section,
            name,
            doc,
            flag: None,
            env: &[],
            env_below: None,
            default: None,
            unset: "",
            limits: None,
            is_list: false,
            takes,
        };
        Self { about, is_within: |_, _| true }
    }

    /// Adds the flag, as it is typed.
    pub(super) const fn flag(mut self, flag: &'static str) -> Self {
        self.about.flag = Some(flag);
        self
    }

    /// Adds the environment variables, the highest first.
    pub(super) const fn env(mut self, names: &'static [&'static str]) -> Self {
        self.about.env = names;
        self
    }

    /// Adds a variable that counts only if the value is given nowhere else.
    pub(super) const fn env_below(mut self, name: &'static str) -> Self {
        self.about.env_below = Some(name);
        self
    }

    /// Sets the default.
    pub(super) const fn default(mut self, text: &'static str) -> Self {
        self.about.default = Some(text);
        self
    }

    /// Makes the key required.
    pub(super) const fn required(mut self) -> Self {
        self.about.unset = REQUIRED;
        self
    }

    /// Sets what applies if no value is given, if that is not a value.
    pub(super) const fn unset(mut self, meaning: &'static str) -> Self {
        self.about.unset = meaning;
        self
    }

    /// Lets flag and variables take several values, with commas between.
    pub(super) const fn list(mut self) -> Self {
        self.about.is_list = true;
        self
    }
}

impl<T: Value + PartialOrd> Key<T> {
    /// Sets the smallest and the largest value.
    pub(super) const fn limits(mut self, from: &'static str, to: &'static str) -> Self {
        self.about.limits = Some((from, to));
        self.is_within = |value, (from, to)| {
            T::from_text(from).is_ok_and(|from| *value >= from) && T::from_text(to).is_ok_and(|to| *value <= to)
        };
        self
    }
}

impl About {
    /// The full name: `isolation.after`.
    pub fn full_name(&self) -> String {
        format!("{}.{}", self.section, self.name)
    }

    /// A short description of its values.
    pub fn values(&self) -> String {
        let words: Vec<String> = (self.takes.words)().iter().map(|word| format!("`\"{word}\"`")).collect();
        match self.limits {
            _ if !words.is_empty() => words.join(", "),
            Some((from, to)) => format!("{}, {from} to {to}", self.takes.kind),
            None => self.takes.kind.to_owned(),
        }
    }

    /// The flag without its value: `--mode`.
    pub fn flag_name(&self) -> Option<&'static str> {
        self.flag?.split('=').next()
    }

    /// The flag's line in `--help`.
    pub fn help(&self) -> String {
        let sentence = self.doc.split_once(". ").map_or(self.doc, |(first, _)| first);
        let mut help = sentence.trim_end_matches('.').replace('`', "");
        let default = self.default.unwrap_or(self.unset);
        if !["", REQUIRED].contains(&default) && self.flag.is_some_and(|flag| flag.contains('=')) {
            let below = self.env_below.map_or(String::new(), |name| format!("${name} or "));
            help.push_str(&format!(" [default: {below}{default}]"));
        }
        if !self.env.is_empty() {
            help.push_str(&format!(" [env: {}]", self.env.join(", ")));
        }
        help
    }
}
