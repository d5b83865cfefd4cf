//! The config file as written: every value with its line, without defaults.

use std::path::Path;
use std::sync::Arc;

use toml::de::{DeTable, DeValue};

use super::aliases::{self, Aliases};
use super::definition::{About, Key};
use super::keys::{self, Form, SECTIONS, Section};
use super::origin::{ConfigError, Origin, Sourced};
use super::value::{Value, Written, Wrong};
use super::words::ProxyTls;
use crate::files::{Links, NOT_SECRET, OTHERS_WRITE, Regular};

/// The largest config file that is read, in bytes.
pub const FILE_MAX_BYTES: u64 = 1024 * 1024;

/// The file's sections. Every key in them is known, and every value is of the key's type.
#[derive(Debug, Default)]
pub struct RawFile {
    tables: Vec<Table>,
    pub(super) aliases: Aliases,
}

/// One section that is in the file.
#[derive(Debug)]
pub struct Table {
    pub(super) section: &'static str,
    /// Where the section begins.
    pub(super) origin: Origin,
    /// How it is written: `[policy]`, `[[proxysql]]`, `[proxysql.policy]`.
    written: Header,
    folder: Arc<Path>,
    values: Vec<(&'static str, Sourced<Written>)>,
    /// The sections of this `[[proxysql]]` that are its own.
    pub(super) own: Vec<Table>,
    /// Its own aliases.
    pub(super) own_aliases: Aliases,
}

/// How a section is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Header {
    /// `[policy]`
    Single,
    /// `[[proxysql]]`
    Repeated,
    /// `[proxysql.policy]`
    OfProxy,
}

impl RawFile {
    /// Reads and parses a config file.
    ///
    /// # Errors
    /// The file can't be read, others can read the password in it, or a value is wrong. The error has the line.
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        let failed = |problem: String| ConfigError::of_file(path, problem);
        let unreadable = |error: std::io::Error| failed(format!("can't read the config file: {error}"));
        let file = Regular::open(path, Links::Follow).map_err(unreadable)?;
        let mode = file.mode;
        if mode & OTHERS_WRITE != 0 {
            let way_out = format!("other users can write it (mode {mode:04o}); do: chmod o-w {}", path.display());
            return Err(failed(way_out));
        }
        let text = file.read(FILE_MAX_BYTES).map_err(unreadable)?;
        let text = String::from_utf8(text).map_err(|_| failed("is not UTF-8: not a config file".to_owned()))?;
        let raw = Self::parse(path, &text)?;
        let passwords = [&keys::ORCHESTRATOR_PASSWORD.about, &keys::PROXYSQL_PASSWORD.about];
        let with_password = raw.tables.iter().find_map(|table| passwords.iter().find_map(|key| table.origin_of(key)));
        if let Some(origin) = with_password.filter(|_| mode & NOT_SECRET != 0) {
            let problem = format!(
                "other users can read the password in this file, or its group can change it (mode {mode:04o}); do: chmod \
                 g-w,o-rwx {}",
                path.display()
            );
            return Err(ConfigError::new(origin.clone(), "password", problem));
        }
        Ok(raw)
    }

    /// Parses a config file's text.
    ///
    /// # Errors
    /// The first problem, with its line.
    pub fn parse(path: &Path, text: &str) -> Result<Self, ConfigError> {
        let source = SourceText::new(path, text);
        let table = DeTable::parse(text).map_err(|error| {
            let at = error.span().map_or(text.len(), |span| span.start);
            match both_forms(text) {
                Some(problem) => ConfigError::new(source.at(at), "orchestrator", problem),
                None => ConfigError::new(source.at(at), "", format!("is not TOML: {}", error.message())),
            }
        })?;
        let mut root = table.into_inner();
        let (tables, aliases) = read_sections(&source, SECTIONS.iter(), &mut root, "")?;
        let names: Vec<&str> = SECTIONS.iter().map(|section| section.name).collect();
        refuse_unknown(&source, "", root, &names)?;
        Ok(Self { tables, aliases })
    }

    /// The sections of this name, in the file's order.
    pub fn all<'a>(&'a self, section: &'a str) -> impl Iterator<Item = &'a Table> {
        self.tables.iter().filter(move |table| table.section == section)
    }

    /// The sections that are written `[name]`.
    pub(super) fn single(&self) -> impl Iterator<Item = &Table> {
        self.tables.iter().filter(|table| table.written == Header::Single)
    }

    /// The sections that are written `[[section]]`, in the file's order.
    pub(super) fn repeated(&self, section: &'static str) -> impl Iterator<Item = &Table> {
        self.all(section).filter(|table| table.written == Header::Repeated)
    }

    /// A key's value in the first section that can have it.
    ///
    /// # Errors
    /// The value is not what the key expects.
    pub fn find<T: Value>(&self, key: &Key<T>) -> Result<Option<Sourced<T>>, ConfigError> {
        self.all(key.about.section).next().map_or(Ok(None), |table| table.find(key))
    }
}

impl Table {
    /// The name of its section, without brackets.
    pub fn section(&self) -> &'static str {
        self.section
    }

    /// The sections of this `[[proxysql]]` that are its own.
    pub fn own(&self) -> impl Iterator<Item = &Self> {
        self.own.iter()
    }

    /// A key's value.
    ///
    /// # Errors
    /// The value is not what the key expects.
    pub fn find<T: Value>(&self, key: &Key<T>) -> Result<Option<Sourced<T>>, ConfigError> {
        let about = &key.about;
        let found = self.values.iter().find(|(name, _)| self.section == about.section && *name == about.name);
        let Some((_, written)) = found else { return Ok(None) };
        let value = T::from_file(&written.value, &self.folder);
        let value = value.map_err(|wrong| unusable(&self.name_of(about), about, written, wrong))?;
        Ok(Some(Sourced::new(value, written.origin.clone())))
    }

    /// The name of its key in an error: `policy.mode`, `proxysql.policy.mode`.
    fn name_of(&self, key: &About) -> String {
        match self.written {
            Header::OfProxy => format!("proxysql.{}", key.full_name()),
            Header::Single | Header::Repeated => key.full_name(),
        }
    }

    /// The origin of a key.
    fn origin_of(&self, key: &About) -> Option<&Origin> {
        let found = self.values.iter().find(|(name, _)| self.section == key.section && *name == key.name);
        found.map(|(_, written)| &written.origin)
    }
}

fn unusable(name: &str, about: &About, written: &Sourced<Written>, wrong: Wrong) -> ConfigError {
    let problem = match wrong {
        Wrong::Value(problem) => problem,
        Wrong::Type => format!("expected {}, found {}", about.takes.expected, written.value.type_name()),
    };
    ConfigError::new(written.origin.clone(), name, problem)
}

/// The problem of a file that has both forms of `orchestrator`, which are no TOML together.
fn both_forms(text: &str) -> Option<String> {
    let has = |header: &str| text.lines().any(|line| line.split('#').next().is_some_and(|line| line.trim() == header));
    (has("[orchestrator]") && has("[[orchestrator]]")).then(|| {
        "the file has both [orchestrator] and [[orchestrator]]; expected one Orchestrator as [orchestrator], or each as \
         [[orchestrator]] with a name"
            .to_owned()
    })
}

/// Reads these sections, and removes them from the table that they are in. `within` is that table's name with a dot.
fn read_sections(
    source: &SourceText,
    sections: impl Iterator<Item = &'static Section>,
    outer: &mut DeTable<'_>,
    within: &str,
) -> Result<(Vec<Table>, Aliases), ConfigError> {
    let (mut tables, mut aliases) = (Vec::new(), Aliases::new());
    for section in sections {
        let Some(value) = outer.remove(section.name) else { continue };
        let name = format!("{within}{}", section.name);
        for (written, at, table) in tables_of(source, section, &name, value.span().start, value.into_inner())? {
            if section.name == "aliases" {
                aliases = aliases::read(table, |byte| source.at(byte))?;
                continue;
            }
            let written = if within.is_empty() { written } else { Header::OfProxy };
            let table = read_table(source, section, &name, (written, at), table)?;
            check(&table)?;
            tables.push(table);
        }
    }
    Ok((tables, aliases))
}

/// The lines of a config file, to turn byte offsets into them.
struct SourceText {
    path: Arc<Path>,
    /// The offset of each line's end.
    line_ends: Vec<usize>,
}

impl SourceText {
    fn new(path: &Path, text: &str) -> Self {
        let line_ends = text.match_indices('\n').map(|(at, _)| at).collect();
        Self { path: Arc::from(path), line_ends }
    }

    fn at(&self, byte: usize) -> Origin {
        Origin::File { path: self.path.clone(), line: self.line_ends.partition_point(|end| *end < byte) + 1 }
    }
}

/// The tables of a section, each with the place where it begins.
fn tables_of<'t>(
    source: &SourceText,
    section: &Section,
    name: &str,
    at: usize,
    value: DeValue<'t>,
) -> Result<Vec<(Header, usize, DeTable<'t>)>, ConfigError> {
    let misplaced = |at: usize, found: &DeValue<'_>| {
        let expected = match section.form {
            Form::Single => format!("expected a table, written [{name}]"),
            Form::Repeated => format!("expected tables, one for each, written [[{name}]]"),
            Form::SingleOrNamed => format!("expected a table, written [{name}], or several, written [[{name}]]"),
        };
        ConfigError::new(source.at(at), name, format!("{expected}; found {}", found.type_str()))
    };
    match value {
        DeValue::Table(table) if section.form != Form::Repeated => Ok(vec![(Header::Single, at, table)]),
        DeValue::Array(items) if section.form != Form::Single => items
            .into_iter()
            .map(|item| match (item.span().start, item.into_inner()) {
                (at, DeValue::Table(table)) => Ok((Header::Repeated, at, table)),
                (at, other) => Err(misplaced(at, &other)),
            })
            .collect(),
        other => Err(misplaced(at, &other)),
    }
}

/// Reads every known key of a section, and refuses the others.
fn read_table(
    source: &SourceText,
    section: &Section,
    name: &str,
    (written, at): (Header, usize),
    mut table: DeTable<'_>,
) -> Result<Table, ConfigError> {
    let folder: Arc<Path> = source.path.parent().unwrap_or(Path::new("")).into();
    let mut values = Vec::new();
    for about in section.keys {
        let Some((key, value)) = table.remove_entry(about.name) else { continue };
        let value = Sourced::new(Written::of(value.into_inner()), source.at(key.span().start));
        let wrong = |wrong| unusable(&format!("{name}.{}", about.name), about, &value, wrong);
        (about.takes.check_written)(&value.value, &folder).map_err(wrong)?;
        values.push((about.name, value));
    }
    let own = SECTIONS.iter().filter(|own| own.per_proxy && section.name == keys::ADDRESS.about.section);
    let known: Vec<&str> = section.keys.iter().map(|about| about.name).chain(own.clone().map(|own| own.name)).collect();
    let (own, own_aliases) = read_sections(source, own, &mut table, "proxysql.")?;
    refuse_unknown(source, name, table, &known)?;
    Ok(Table { section: section.name, origin: source.at(at), written, folder, values, own, own_aliases })
}

/// Refuses the first unknown key, and names the known key that is most similar.
fn refuse_unknown(source: &SourceText, section: &str, left: DeTable<'_>, known: &[&str]) -> Result<(), ConfigError> {
    let Some(unknown) = left.keys().min_by_key(|key| key.span().start) else { return Ok(()) };
    let name: String = unknown.get_ref().chars().take(60).collect();
    let removed = keys::REMOVED.iter().find(|(of, removed, _)| (*of, *removed) == (section, name.as_str()));
    let nearest = known.iter().map(|known| (distance(&name, known), known)).min();
    let problem = match (removed, nearest) {
        (Some((_, _, instead)), _) => (*instead).to_owned(),
        (None, Some((distance, near))) if distance <= 2 || distance * 3 <= near.len() => {
            format!("unknown key; did you mean {near:?}?")
        }
        _ => format!("unknown key; known here: {}", known.join(", ")),
    };
    let key = if section.is_empty() { name } else { format!("{section}.{name}") };
    Err(ConfigError::new(source.at(unknown.span().start), &key, problem))
}

/// Checks the rules between the keys of one section.
fn check(table: &Table) -> Result<(), ConfigError> {
    let sources: &[&About] = match table.section {
        "orchestrator" => {
            check_name(table)?;
            &[&keys::ORCHESTRATOR_PASSWORD.about, &keys::ORCHESTRATOR_PASSWORD_FILE.about]
        }
        "proxysql" => {
            check_tls(table)?;
            &[&keys::PROXYSQL_PASSWORD.about, &keys::PROXYSQL_PASSWORD_FILE.about, &keys::DEFAULTS_FILE.about]
        }
        _ => return Ok(()),
    };
    let mut given = sources.iter().filter_map(|key| Some((key, table.origin_of(key)?)));
    if let (Some(_), Some((second, origin))) = (given.next(), given.next()) {
        let names: Vec<&str> = sources.iter().map(|key| key.name).collect();
        let problem = format!("more than one source of the password; expected one of {}", names.join(", "));
        return Err(ConfigError::new(origin.clone(), &second.full_name(), problem));
    }
    Ok(())
}

fn check_name(table: &Table) -> Result<(), ConfigError> {
    let name = table.find(&keys::ORCHESTRATOR_NAME)?;
    let problem = match (&name, table.written) {
        (None, Header::Repeated) => "missing; expected a name in each [[orchestrator]], such as name = \"east\"",
        (Some(_), Header::Single) => {
            "[orchestrator] has no name. Delete this line, or write [[orchestrator]] to have several"
        }
        (Some(name), _) if !is_name(&name.value) => {
            "is no name; expected 1 to 64 letters, digits, \"-\", \"_\" and \".\", such as \"east\""
        }
        _ => return Ok(()),
    };
    let origin = name.map_or(table.origin.clone(), |name| name.origin);
    Err(ConfigError::new(origin, &keys::ORCHESTRATOR_NAME.about.full_name(), problem))
}

pub(super) fn is_name(text: &str) -> bool {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    (1..=64).contains(&text.len()) && text.chars().all(is_plain)
}

fn check_tls(table: &Table) -> Result<(), ConfigError> {
    let tls = table.find(&keys::PROXYSQL_TLS)?;
    match (tls, table.origin_of(&keys::PROXYSQL_CA_FILE.about)) {
        (Some(tls), None) if tls.value == ProxyTls::VerifyCa => {
            let problem = "any public CA's certificate would be accepted; expected ca_file with it";
            Err(ConfigError::new(tls.origin, &keys::PROXYSQL_TLS.about.full_name(), problem))
        }
        (tls, Some(origin)) if tls.as_ref().is_none_or(|tls| tls.value == ProxyTls::Off) => {
            let problem = "TLS is off; expected tls = \"verify-ca\" or tls = \"verify-identity\" with it";
            Err(ConfigError::new(origin.clone(), &keys::PROXYSQL_CA_FILE.about.full_name(), problem))
        }
        _ => Ok(()),
    }
}

/// The Levenshtein distance of two short names.
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
