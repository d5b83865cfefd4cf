//! A flag wins over the environment, the environment over the file, the file over the default.

use std::collections::BTreeMap;

use super::definition::{About, Key};
use super::environment::Environment;
use super::file::Table;
use super::flags::Flags;
use super::keys;
use super::origin::{ConfigError, Origin, Sourced};
use super::show::Shown;
use super::value::Value;

/// The sources of values, and the values that were taken.
pub(super) struct Layers<'a> {
    flags: &'a Flags,
    env: &'a Environment,
    /// The sections of the file that apply, the highest first.
    tables: Vec<&'a Table>,
    /// The repeated section that these values are for, by its name and its index.
    item: Option<(&'static str, usize)>,
    /// Every value that was taken, by its full name: `proxysql[0].address`.
    pub(super) shown: BTreeMap<String, Shown>,
}

impl<'a> Layers<'a> {
    pub(super) fn new(flags: &'a Flags, env: &'a Environment, tables: Vec<&'a Table>) -> Self {
        Self { flags, env, tables, item: None, shown: BTreeMap::new() }
    }

    /// The same flags and environment on top of one `[[section]]`, or of none, and its own sections. The file's other
    /// sections are below these.
    pub(super) fn of_item(&self, section: &'static str, index: usize, table: Option<&'a Table>) -> Self {
        let own = table.iter().flat_map(|table| &table.own);
        let tables = table.into_iter().chain(own).chain(self.tables.iter().copied()).collect();
        Self { item: Some((section, index)), ..Self::new(self.flags, self.env, tables) }
    }

    /// The flag's value.
    pub(super) fn flag<T: Value>(&self, key: &Key<T>) -> Result<Option<Sourced<T>>, ConfigError> {
        self.flags.text(&key.about).map(|text| read(key, text)).transpose()
    }

    /// The environment's value.
    pub(super) fn env<T: Value>(&self, key: &Key<T>) -> Result<Option<Sourced<T>>, ConfigError> {
        self.env.first(key.about.env.iter().copied())?.map(|text| read(key, text)).transpose()
    }

    /// The file's value.
    pub(super) fn file<T: Value>(&self, key: &Key<T>) -> Result<Option<Sourced<T>>, ConfigError> {
        debug_assert!(keys::all().any(|about| std::ptr::eq(about, &key.about)), "{} is in no section", key.about.name);
        self.tables.iter().find_map(|table| table.find(key).transpose()).transpose()
    }

    /// The text that flag or environment give for a key, not parsed.
    pub(super) fn text(&self, key: &About) -> Result<Option<Sourced<&'a str>>, ConfigError> {
        match self.flags.text(key) {
            None => self.env.first(key.env.iter().copied()),
            text => Ok(text),
        }
    }

    /// Finds the value of the highest layer that has one, and notes its origin.
    pub(super) fn find<T: Value>(&mut self, key: &Key<T>) -> Result<Option<T>, ConfigError> {
        // Every layer is read, so a wrong value is an error even if a higher layer wins.
        let given = self.flag(key)?.or(self.env(key)?).or(self.file(key)?).or(self.env_below(key)?);
        let given = match (given, key.about.default) {
            (None, Some(text)) => Some(read(key, Sourced::new(text, Origin::Default))?),
            (given, _) => given,
        };
        let Some(given) = given else { return Ok(None) };
        if let Some(limits @ (from, to)) = key.about.limits
            && !(key.is_within)(&given.value, limits)
        {
            let value = given.value.to_toml();
            let problem = format!("{} is out of range; expected {from} to {to}", value.trim_matches('"'));
            return Err(ConfigError::new(given.origin, &self.name(&key.about), problem));
        }
        self.note(&key.about, given.value.to_toml(), given.origin);
        Ok(Some(given.value))
    }

    /// The value of a key that has a default.
    pub(super) fn get<T: Value>(&mut self, key: &Key<T>) -> Result<T, ConfigError> {
        self.find(key)?.ok_or_else(|| ConfigError::new(Origin::Default, &key.about.full_name(), "missing"))
    }

    /// The value of a variable below the file, such as systemd's. Of several directories the first counts.
    fn env_below<T: Value>(&self, key: &Key<T>) -> Result<Option<Sourced<T>>, ConfigError> {
        let Some(text) = self.env.first(key.about.env_below)? else { return Ok(None) };
        let first = text.value.split(':').next().unwrap_or_default();
        read(key, Sourced::new(first, text.origin)).map(Some)
    }

    /// Notes the value of a key, for `config check`.
    pub(super) fn note(&mut self, key: &About, value: String, origin: Origin) {
        self.shown.insert(self.name(key), Shown { value, origin, is_comment: false });
    }

    /// Notes a value that a config file cannot have in this form; `config check` shows it as a comment.
    pub(super) fn remark(&mut self, key: &About, value: String, origin: Origin) {
        self.shown.insert(self.name(key), Shown { value, origin, is_comment: true });
    }

    /// The origin of a key's value.
    pub(super) fn origin(&self, key: &About) -> Origin {
        self.shown.get(&self.name(key)).map_or(Origin::Default, |shown| shown.origin.clone())
    }

    /// The full name of a key: `isolation.after`, `proxysql[0].address`, `proxysql[0].isolation.after`.
    pub(super) fn name(&self, key: &About) -> String {
        match self.item {
            Some((section, index)) if section == key.section => format!("{section}[{index}].{}", key.name),
            Some((section, index)) => format!("{section}[{index}].{}", key.full_name()),
            None => key.full_name(),
        }
    }
}

fn read<T: Value>(key: &Key<T>, text: Sourced<&str>) -> Result<Sourced<T>, ConfigError> {
    text.read(&key.about.full_name(), T::from_text)
}
