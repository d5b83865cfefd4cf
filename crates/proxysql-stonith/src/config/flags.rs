//! The flags that set config keys, made from the keys.

use std::collections::BTreeMap;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Arg, ArgAction, ArgMatches, Args, Command, FromArgMatches};

use super::definition::{About, Key};
use super::keys;
use super::origin::{Origin, Sourced};
use super::words::Word;

/// The heading over these flags in `--help`.
const HEADING: &str = "Config (a flag wins over the environment, the environment over the file)";

/// The flags that were typed, each with its text. No flag takes a password: other users would see it (I11).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Flags(BTreeMap<&'static str, String>);

impl Flags {
    /// Adds a flag as if it had been typed.
    #[must_use]
    pub fn with<T>(mut self, key: &Key<T>, text: impl Into<String>) -> Self {
        self.set(&key.about, text.into());
        self
    }

    fn set(&mut self, key: &About, text: String) {
        if let Some(name) = key.flag_name() {
            self.0.insert(name, text);
        }
    }

    /// The same without one flag.
    #[must_use]
    pub fn without<T>(mut self, key: &Key<T>) -> Self {
        if let Some(name) = key.about.flag_name() {
            self.0.remove(name);
        }
        self
    }

    /// Each flag that was typed, with the argument that says the same in another working directory.
    pub fn typed(&self) -> Vec<(&'static str, String)> {
        let argument = |name: &'static str, text: &String| match global().find(|key| key.flag_name() == Some(name)) {
            Some(key) if is_switch(key) => name.to_owned(),
            Some(key) if key.takes.kind == "path" => match std::path::absolute(text) {
                Ok(path) => format!("{name}={}", path.display()),
                Err(_) => format!("{name}={text}"),
            },
            _ => format!("{name}={text}"),
        };
        self.0.iter().map(|(name, text)| (*name, argument(name, text))).collect()
    }

    /// The text that was typed for a key.
    pub(super) fn text(&self, key: &About) -> Option<Sourced<&str>> {
        let name = key.flag_name()?;
        Some(Sourced::new(self.0.get(name)?, Origin::Flag(name)))
    }
}

/// The keys whose flag every command takes.
fn global() -> impl Iterator<Item = &'static About> {
    keys::all().filter(|key| key.flag.is_some_and(|flag| flag.starts_with("--")))
}

impl Args for Flags {
    fn augment_args(command: Command) -> Command {
        command.args(global().filter_map(argument))
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for Flags {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let mut flags = Self::default();
        flags.update_from_arg_matches(matches)?;
        Ok(flags)
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        for key in global() {
            let Some(name) = key.flag_name() else { continue };
            if is_switch(key) {
                if matches.get_flag(name) {
                    self.set(key, "true".to_owned());
                }
            } else if let Some(texts) = matches.get_many::<String>(name) {
                self.set(key, texts.cloned().collect::<Vec<_>>().join(","));
            }
        }
        Ok(())
    }
}

fn is_switch(key: &About) -> bool {
    key.flag.is_some_and(|flag| !flag.contains('='))
}

/// clap's argument for a key.
fn argument(key: &'static About) -> Option<Arg> {
    let name = key.flag_name()?;
    let argument =
        Arg::new(name).long(name.trim_start_matches('-')).help(key.help()).help_heading(HEADING).global(true);
    let Some((_, value_name)) = key.flag?.split_once('=') else { return Some(argument.action(ArgAction::SetTrue)) };
    let argument = argument.value_name(value_name);
    Some(if key.is_list {
        // clap does not check the value: its errors quote the text, and a URL may contain a password (I11).
        argument.action(ArgAction::Append)
    } else if (key.takes.words)().is_empty() {
        argument.value_parser(|text: &str| (key.takes.in_file)(text).map(|_| text.to_owned()))
    } else {
        argument.value_parser(PossibleValuesParser::new((key.takes.words)()))
    })
}

/// Lets clap parse a [`Word`] and list its words in the help.
pub fn word<T: Word>() -> impl TypedValueParser<Value = T> {
    PossibleValuesParser::new(T::WORDS.iter().map(|(word, _)| *word)).try_map(|text| T::from_word(&text))
}
