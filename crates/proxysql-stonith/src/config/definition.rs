//! What one config key is. The keys themselves are in [`super::keys`].

use std::path::Path;

use super::value::{Value, Written, Wrong};

/// [`About::unset`] of a key that nothing works without.
const REQUIRED: &str = "required";

/// A config key whose values are of type `T`.
pub struct Key<T> {
    /// All that is known of it but its type.
    pub about: About,
    /// Whether a value lies within [`About::limits`].
    pub(super) is_within: fn(&T, (&str, &str)) -> bool,
}

/// All that file, environment, flags, `--help` and docs/config.md say of one key.
pub struct About {
    /// The section of the config file; empty for a flag that the file cannot set.
    pub section: &'static str,
    /// The key in that section.
    pub name: &'static str,
    /// What it does, and what it costs. The first sentence is its line in `--help`.
    pub doc: &'static str,
    /// The flag as it is typed: `--mode=MODE`; `run --interval=DURATION` is a flag of one command.
    pub flag: Option<&'static str>,
    /// The environment variables, the highest first.
    pub env: &'static [&'static str],
    /// A variable that counts only if nothing else is given, not even in the file.
    pub env_below: Option<&'static str>,
    /// The value if nothing is given, as a flag would have it.
    pub default: Option<&'static str>,
    /// What holds if nothing is given and there is no `default`.
    pub unset: &'static str,
    /// The smallest and the largest value.
    pub limits: Option<(&'static str, &'static str)>,
    /// Whether flag and variables take several values, with commas between.
    pub is_list: bool,
    /// What its values look like.
    pub takes: Takes,
}

/// A type of values, for those who need no value.
pub struct Takes {
    /// [`Value::KIND`].
    pub kind: &'static str,
    /// [`Value::EXPECTED`].
    pub expected: &'static str,
    /// A text that [`Value::from_text`] reads, as the config file has it.
    pub in_file: fn(&str) -> Result<String, String>,
    /// [`Value::words`].
    pub words: fn() -> Vec<&'static str>,
    /// Whether [`Value::from_file`] reads a value.
    pub(super) check_written: fn(&Written, &Path) -> Result<(), Wrong>,
}

impl<T: Value> Key<T> {
    /// A key of the config file, without flag, variable and default.
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

    /// The flag, as it is typed.
    pub(super) const fn flag(mut self, flag: &'static str) -> Self {
        self.about.flag = Some(flag);
        self
    }

    /// The environment variables, the highest first.
    pub(super) const fn env(mut self, names: &'static [&'static str]) -> Self {
        self.about.env = names;
        self
    }

    /// A variable that counts only if nothing else is given.
    pub(super) const fn env_below(mut self, name: &'static str) -> Self {
        self.about.env_below = Some(name);
        self
    }

    /// The value if nothing is given.
    pub(super) const fn default(mut self, text: &'static str) -> Self {
        self.about.default = Some(text);
        self
    }

    /// Nothing works without it.
    pub(super) const fn required(mut self) -> Self {
        self.about.unset = REQUIRED;
        self
    }

    /// What holds if nothing is given, where that is no value.
    pub(super) const fn unset(mut self, meaning: &'static str) -> Self {
        self.about.unset = meaning;
        self
    }

    /// Flag and variables take several values, with commas between.
    pub(super) const fn list(mut self) -> Self {
        self.about.is_list = true;
        self
    }
}

impl<T: Value + PartialOrd> Key<T> {
    /// The smallest and the largest value.
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

    /// What its values look like, in a few words.
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
