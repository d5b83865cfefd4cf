//! The probe: what a ProxySQL can do, found in its tables and not by its version. Once per connection.
//!
//! ```text
//! columns, LOAD counter, variable -> Seen -> judge -> Probed { covered tables, lacks }
//! lock -> scratch table -> dropped -> lock dropped                (only where the agent may write)
//! ```
//!
//! **Invariant:** [`judge`] is pure. What a new version adds is found (tables, columns), and what it lacks is named.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use stonith_core::apply::Statement;
use stonith_core::condition::Condition;
use stonith_core::table::{COVERED, SERVERS, Table};

use super::admin::{Admin, AdminError};
use super::answers::{first_column, value};
use super::error::ObserveError;
use super::sql;
use super::version::{TRIED, Version};
use crate::untrusted_text::one_line;

/// One table: its columns in order, and how many of the leading ones are the primary key.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Columns {
    names: Vec<String>,
    /// `None` if the primary key is not made of the leading columns.
    key_columns: Option<usize>,
}

/// What was read from a ProxySQL.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Seen {
    version: String,
    /// By name. The disk layer's are named `disk.<table>`.
    tables: BTreeMap<String, Columns>,
    /// The names of the checksums.
    checksums: BTreeSet<String>,
    /// `admin-read_only` and `admin-checksum_mysql_servers` as they are in force.
    switches: BTreeMap<String, String>,
}

/// What a ProxySQL can do, and what it lacks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Probed {
    /// The version, as ProxySQL reports it.
    pub version: String,
    /// The tables that LOAD MYSQL SERVERS covers, the server table first.
    pub covered: Vec<Covered>,
    /// What tells that somebody LOADed.
    pub load_counter: LoadCounter,
    /// What keeps the program from changing this ProxySQL. Empty if nothing does.
    pub lacks: Vec<Lack>,
    /// Whether the version is above every version that was tried.
    pub is_ahead: bool,
    /// Whether tables can be made in `main`.
    pub writing: Writing,
}

/// A table that LOAD MYSQL SERVERS covers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Covered {
    /// The table.
    pub table: Table,
    /// The columns of memory, where runtime has more of them; empty where both have the same.
    pub columns: Vec<String>,
    /// Whether the program knows the table. The hostgroups of a table that it does not know are not ours.
    pub is_known: bool,
}

/// What tells that somebody LOADed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LoadCounter {
    /// The count of LOADs.
    Loads,
    /// A count of LOADs and of the monitor's moves, as up to 2.5.
    LoadsAndMoves,
    /// Nothing: `admin-checksum_mysql_servers` is off.
    Nothing,
}

/// Whether it was tried to make a table in `main`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Writing {
    /// It was not tried.
    Untried,
    /// A scratch table was made and dropped under the lock, or another agent's lock showed that it can be made.
    Works,
}

/// What a ProxySQL lacks, so that the program does not change it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Lack {
    /// A table.
    Table(&'static str),
    /// A column of a table.
    Column(&'static str, &'static str),
    /// A column that memory has, in runtime's twin of a covered table.
    RuntimeColumn(String, String),
    /// A primary key that tells the records of a covered table apart.
    Key(String),
    /// A version that can be read. Two versions crash, and nothing else tells them.
    Version(String),
    /// A monitor that does not crash.
    Crashes,
    /// A monitor that leaves memory alone.
    MonitorWritesMemory,
    /// An admin interface that can be written.
    Writable,
    /// A `main` in which a table can be made. ProxySQL's error.
    Scratch(String),
}

/// The most things that are named. A ProxySQL that lacks more of them is something else.
const LACKS_MAX: usize = 10;

impl Lack {
    /// A stable name for programs, with what is missing.
    pub fn label(&self) -> String {
        match self {
            Self::Table(table) => format!("table {table}"),
            Self::Column(table, column) => format!("column {table}.{column}"),
            Self::RuntimeColumn(table, column) => format!("column runtime_{table}.{column}"),
            Self::Key(table) => format!("key {table}"),
            Self::Version(_) => "version".to_owned(),
            Self::Crashes => "crashes".to_owned(),
            Self::MonitorWritesMemory => "monitor-writes-memory".to_owned(),
            Self::Writable => "read-only".to_owned(),
            Self::Scratch(_) => "scratch-table".to_owned(),
        }
    }

    /// Whether a look cannot read this ProxySQL without it.
    fn blinds(&self) -> bool {
        matches!(self, Self::Table(_) | Self::Column(..))
    }
}

/// What is missing, and what to do.
impl fmt::Display for Lack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Table(table) => write!(f, "has no table {table}, which this program needs. {OTHER_VERSION}"),
            Self::Column(table, column) => {
                write!(f, "has no column {column} in {table}, which this program needs. {OTHER_VERSION}")
            }
            Self::RuntimeColumn(table, column) => write!(
                f,
                "has no column {column} in runtime_{table}, although {table} has it, so what is in force cannot be \
                 copied. {OTHER_VERSION}"
            ),
            Self::Key(table) => write!(
                f,
                "has table {table}, which a LOAD covers, and its primary key is not its first columns, so what is \
                 staged in it cannot be kept. {OTHER_VERSION}"
            ),
            Self::Version(version) => write!(
                f,
                "reports the version {version:?}, which is no version number. 2.5.2 and 2.5.3 can crash at a failover, \
                 and nothing else tells them. Use a build that reports its version"
            ),
            Self::Crashes => f.write_str(
                "can crash when its monitor moves a server that still has connections, as at a failover. Upgrade it \
                 to 2.5.5 or later",
            ),
            Self::MonitorWritesMemory => f.write_str(
                "has a monitor that writes memory and LOADs. ProxySQL itself then loses what somebody has staged, also \
                 in the middle of an apply. Upgrade it to 2.5.5 or later, or set accept_lost_edits = true in its \
                 [[proxysql]] section",
            ),
            Self::Writable => f.write_str(
                "has a read-only admin interface, so no lock and no copies can be made there. Run PROXYSQL READWRITE, \
                 or set admin-read_only='false' and LOAD ADMIN VARIABLES TO RUNTIME",
            ),
            Self::Scratch(cause) => write!(
                f,
                "refuses to make and drop a table in main, where the lock and the copies of an apply are: {cause}. Use \
                 one of admin-admin_credentials, and an admin interface that is not read-only"
            ),
        }
    }
}

const OTHER_VERSION: &str = "Use a version that docs/compatibility.md lists, and please report this one";

/// What was found, in a line.
impl fmt::Display for Probed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unknown = self.covered.iter().filter(|covered| !covered.is_known);
        let unknown: Vec<&str> = unknown.map(|covered| covered.table.name()).collect();
        write!(f, "a LOAD covers {} tables", self.covered.len())?;
        if !unknown.is_empty() {
            write!(f, ", also {}, which this program does not know and leaves as they are", unknown.join(", "))?;
        }
        f.write_str(match self.load_counter {
            LoadCounter::Loads => "; it counts LOADs",
            LoadCounter::LoadsAndMoves => "; it counts LOADs together with the monitor's moves",
            LoadCounter::Nothing => "; it does not count LOADs",
        })?;
        f.write_str(match self.writing {
            Writing::Works => "; a scratch table was made and dropped",
            Writing::Untried => "; whether a table can be made in main was not tried",
        })
    }
}

impl Probed {
    /// What needs a person's attention.
    pub fn conditions(&self) -> impl Iterator<Item = Condition> {
        let unfit =
            self.lacks.iter().map(|lack| Condition::ProxyUnfit { what: lack.label(), text: self.sentence(lack) });
        let ahead = self.is_ahead.then(|| Condition::ProxyAhead {
            version: one_line(&self.version),
            tried: TRIED.last().map(ToString::to_string).unwrap_or_default(),
        });
        let uncounted = (self.load_counter == LoadCounter::Nothing).then_some(Condition::LoadsUncounted);
        unfit.chain(ahead).chain(uncounted)
    }

    /// Why the program does not change this ProxySQL: a sentence for each thing that is missing.
    pub fn refusal(&self) -> Option<String> {
        self.told(|_| true)
    }

    /// Why not even a look is possible.
    pub(super) fn blindness(&self) -> Option<String> {
        self.told(Lack::blinds)
    }

    fn told(&self, is_meant: impl Fn(&Lack) -> bool) -> Option<String> {
        let texts: Vec<String> =
            self.lacks.iter().filter(|lack| is_meant(lack)).map(|lack| self.sentence(lack)).collect();
        (!texts.is_empty()).then(|| texts.join(". "))
    }

    fn sentence(&self, lack: &Lack) -> String {
        format!("ProxySQL {} {lack}", one_line(&self.version))
    }

    /// The covered tables.
    pub fn tables(&self) -> Vec<Table> {
        self.covered.iter().map(|covered| covered.table).collect()
    }

    /// The columns of a table in runtime that memory has too; empty if these are all.
    pub fn runtime_columns(&self, table: Table) -> &[String] {
        let covered = self.covered.iter().find(|covered| covered.table == table);
        covered.map_or(&[], |covered| covered.columns.as_slice())
    }

    /// The tables that this program does not know, and that define hostgroups.
    pub(super) fn unknown_hostgroups(&self) -> impl Iterator<Item = Table> {
        let unknown = self.covered.iter().filter(|covered| !covered.is_known).map(|covered| covered.table);
        unknown.filter(|table| table.name().ends_with("_hostgroups"))
    }
}

/// Reads what a ProxySQL can do. Nothing is written.
///
/// # Errors
/// The connection failed, or the user sees statistics only.
pub async fn probe(admin: &mut Admin, accepts_lost_edits: bool) -> Result<Probed, ObserveError> {
    let version = admin.query(sql::VERSION).await?;
    let mut seen = Seen { version: value(&version).unwrap_or_default().to_owned(), ..Seen::default() };
    let columns = admin.query(sql::COLUMNS).await;
    if matches!(columns, Err(AdminError::Refused { .. }))
        && !first_column(&admin.query(sql::NAMES).await?).contains(SERVERS.name())
    {
        return Err(ObserveError::StatsOnly { address: admin.address().clone() }); // such a user has no disk layer
    }
    let columns = columns?.records;
    let (mut at, mut name) = (0, String::new());
    for record in &columns {
        let [Some(table), Some(column), Some(key), _] = record.as_slice() else { continue };
        if *table != name {
            (at, name) = (0, table.clone());
        }
        seen.note(table, column, key.parse().unwrap_or(0), at);
        at += 1;
    }
    if seen.tables.contains_key("runtime_checksums_values") {
        seen.checksums = first_column(&admin.query(sql::CHECKSUMS).await?);
    }
    if seen.tables.contains_key("runtime_global_variables") {
        for switch in admin.query(sql::SWITCHES).await?.records {
            if let [Some(name), Some(value)] = <[_; 2]>::try_from(switch).unwrap_or_default() {
                seen.switches.insert(name, value);
            }
        }
    }
    let probed = judge(seen, accepts_lost_edits);
    match probed.blindness() {
        Some(missing) => Err(ObserveError::Unfit(missing)),
        None => Ok(probed),
    }
}

/// Makes and drops a table in `main`, under the lock of an apply. What is left if this is cut off is dropped by the next
/// apply, of whichever agent (design §8.1).
///
/// # Errors
/// The connection failed.
pub async fn try_writing(admin: &mut Admin, probed: &mut Probed, owner: &str) -> Result<(), AdminError> {
    if !probed.lacks.is_empty() {
        return Ok(()); // nothing is written there anyway
    }
    let owner = owner.to_owned();
    let ours = |statement: Statement| sql::render(&statement, &[]);
    let cause = match admin.query(&ours(Statement::TakeLock { owner: owner.clone() })).await {
        // Another applier made this table: that is what was to be seen.
        Err(AdminError::Refused { cause, .. }) if cause.contains("already exists") => None,
        Err(AdminError::Refused { cause, .. }) => Some(cause),
        Err(error) => return Err(error),
        Ok(_) => {
            let mut refused = None;
            for statement in [ours(Statement::DropScratch), sql::make_scratch(), ours(Statement::DropScratch)] {
                match admin.query(&statement).await {
                    Ok(_) => {}
                    Err(AdminError::Refused { cause, .. }) => refused = refused.or(Some(cause)),
                    Err(error) => return Err(error),
                }
            }
            match admin.query(&ours(Statement::DropLock { owner })).await {
                Err(AdminError::Refused { cause, .. }) => refused.or(Some(cause)),
                Err(error) => return Err(error),
                Ok(_) => refused,
            }
        }
    };
    match cause {
        Some(cause) => probed.lacks.push(Lack::Scratch(cause)),
        None => probed.writing = Writing::Works,
    }
    Ok(())
}

impl Seen {
    /// Notes a column. `key` is its place in the primary key from 1 on, 0 if it is in none, and `at` its place in the
    /// table.
    fn note(&mut self, table: &str, column: &str, key: usize, at: usize) {
        let columns = self.tables.entry(table.to_owned()).or_default();
        columns.key_columns = match columns.key_columns {
            _ if at == 0 => (key == 1).then_some(1),
            Some(before) if before == at && key == at + 1 => Some(key),
            before if key == 0 => before,
            _ => None,
        };
        columns.names.push(column.to_owned());
    }

    fn switch(&self, name: &str) -> Option<&str> {
        self.switches.get(name).map(String::as_str)
    }

    fn columns(&self, table: &str) -> &[String] {
        self.tables.get(table).map_or(&[], |columns| &columns.names)
    }
}

/// What the program reads or writes, whatever else is there.
const NEEDED: [(&str, &[&str]); 16] = [
    ("mysql_servers", &["hostgroup_id", "hostname", "port", "status", "comment"]),
    ("runtime_mysql_servers", &["hostgroup_id", "hostname", "port", "status", "comment"]),
    ("disk.mysql_servers", &["hostgroup_id", "hostname", "port", "status", "comment"]),
    ("mysql_replication_hostgroups", &["writer_hostgroup"]),
    ("runtime_mysql_replication_hostgroups", &["writer_hostgroup", "reader_hostgroup", "check_type"]),
    ("runtime_mysql_group_replication_hostgroups", &FOUR_HOSTGROUPS),
    ("runtime_mysql_galera_hostgroups", &FOUR_HOSTGROUPS),
    ("runtime_mysql_aws_aurora_hostgroups", &["writer_hostgroup", "reader_hostgroup"]),
    ("runtime_mysql_users", &["username", "frontend", "default_hostgroup"]),
    ("runtime_proxysql_servers", &[]),
    ("runtime_checksums_values", &["name", "version", "checksum"]),
    ("global_variables", &["variable_name", "variable_value"]),
    ("runtime_global_variables", &["variable_name", "variable_value"]),
    ("stats_mysql_connection_pool", &["hostgroup", "srv_host", "srv_port", "ConnUsed"]),
    ("stats_mysql_processlist", &["SessionID", "user", "hostgroup", "srv_host", "srv_port", "command"]),
    ("stats_mysql_processlist", &["extended_info"]),
];

const FOUR_HOSTGROUPS: [&str; 4] =
    ["writer_hostgroup", "backup_writer_hostgroup", "reader_hostgroup", "offline_hostgroup"];

/// Judges what was read.
fn judge(seen: Seen, accepts_lost_edits: bool) -> Probed {
    let mut lacks = Vec::new();
    for (table, columns) in NEEDED {
        if !seen.tables.contains_key(table) {
            let lack = Lack::Table(table);
            lacks.extend((!lacks.contains(&lack)).then_some(lack));
            continue;
        }
        let missing = columns.iter().filter(|column| !seen.columns(table).iter().any(|has| has == *column));
        lacks.extend(missing.map(|column| Lack::Column(table, column)));
    }
    let mut covered = Vec::new();
    for name in covered_names(&seen) {
        let (memory, runtime) = (seen.columns(name), seen.columns(&format!("runtime_{name}")));
        if let Some(missing) = memory.iter().find(|column| !runtime.contains(column)) {
            lacks.push(Lack::RuntimeColumn(name.to_owned(), missing.clone()));
        }
        let known = COVERED.into_iter().find(|table| table.name() == name);
        let key_columns = seen.tables.get(name).and_then(|columns| columns.key_columns);
        let is_plain = memory.iter().all(|column| Table::new(column, 1).is_some());
        match key_columns.filter(|_| is_plain).and_then(|key_columns| Table::new(name, key_columns)) {
            Some(table) if known.is_none_or(|known| known == table) => {
                let columns = if memory == runtime { Vec::new() } else { memory.to_vec() };
                covered.push(Covered { table, columns, is_known: known.is_some() });
            }
            _ => lacks.push(Lack::Key(name.to_owned())),
        }
    }
    covered.sort_by_key(|covered| COVERED.iter().position(|known| *known == covered.table).unwrap_or(COVERED.len()));
    let version = seen.version.parse::<Version>();
    match version {
        Err(()) => lacks.push(Lack::Version(one_line(&seen.version))),
        Ok(version) if version.crashes() => lacks.push(Lack::Crashes),
        Ok(version) if version.monitor_writes_memory() && !accepts_lost_edits => lacks.push(Lack::MonitorWritesMemory),
        Ok(_) => {}
    }
    if seen.switch("admin-read_only") == Some("true") {
        lacks.push(Lack::Writable);
    }
    lacks.truncate(LACKS_MAX);
    let counts =
        seen.checksums.contains(SERVERS.name()) && seen.switch("admin-checksum_mysql_servers") != Some("false");
    let load_counter = match seen.checksums.contains("mysql_servers_v2") {
        _ if !counts => LoadCounter::Nothing,
        true => LoadCounter::Loads,
        false => LoadCounter::LoadsAndMoves,
    };
    let is_ahead = version.is_ok_and(Version::is_ahead);
    Probed { version: seen.version, covered, load_counter, lacks, is_ahead, writing: Writing::Untried }
}

/// The tables that LOAD MYSQL SERVERS covers: of the family of the server table, with a twin in runtime.
fn covered_names(seen: &Seen) -> impl Iterator<Item = &str> {
    let is_of_family = |name: &str| {
        name.strip_prefix("mysql_").is_some_and(|rest| rest.starts_with("servers") || rest.contains("hostgroup"))
    };
    let names = seen.tables.keys().map(String::as_str);
    names.filter(move |name| is_of_family(name) && seen.tables.contains_key(&format!("runtime_{name}")))
}

#[cfg(test)]
impl Probed {
    /// Of a ProxySQL of this version that has all that is needed.
    pub fn without_lacks(version: &str) -> Self {
        Self {
            version: version.to_owned(),
            covered: Vec::new(),
            load_counter: LoadCounter::Loads,
            lacks: Vec::new(),
            is_ahead: false,
            writing: Writing::Untried,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A ProxySQL that has what is needed, and these tables with a twin in runtime.
    fn seen(version: &str, covered: &[(&str, &[&str], usize)]) -> Seen {
        let mut seen = Seen { version: version.to_owned(), ..Seen::default() };
        let servers = ("mysql_servers", NEEDED[0].1, 3);
        let pairs = ("mysql_replication_hostgroups", NEEDED[4].1, 1);
        let groups = ["group_replication", "galera"].map(|kind| format!("mysql_{kind}_hostgroups"));
        let aurora = ("mysql_aws_aurora_hostgroups", NEEDED[7].1, 1);
        let known =
            [servers, pairs, (groups[0].as_str(), &FOUR_HOSTGROUPS, 1), (&groups[1], &FOUR_HOSTGROUPS, 1), aurora];
        for (name, columns, keys) in known.iter().chain(covered) {
            for name in [(*name).to_owned(), format!("runtime_{name}")] {
                note(&mut seen, &name, columns, *keys);
            }
        }
        for (name, columns) in NEEDED {
            let has = seen.columns(name).to_vec();
            for (at, column) in columns.iter().filter(|column| !has.contains(&(**column).to_owned())).enumerate() {
                seen.note(name, column, 0, has.len() + at);
            }
            seen.tables.entry(name.to_owned()).or_default();
        }
        seen.checksums = ["mysql_servers", "mysql_servers_v2"].map(str::to_owned).into();
        seen
    }

    fn note(seen: &mut Seen, table: &str, columns: &[&str], keys: usize) {
        for (at, column) in columns.iter().enumerate() {
            seen.note(table, column, if at < keys { at + 1 } else { 0 }, at);
        }
    }

    fn lacks(seen: Seen) -> Vec<Lack> {
        judge(seen, false).lacks
    }

    fn names(probed: &Probed) -> Vec<&str> {
        probed.covered.iter().map(|covered| covered.table.name()).collect()
    }

    #[test]
    fn what_has_all_that_is_needed_lacks_nothing() {
        let probed = judge(seen("2.7.1-16-g2726c27", &[]), false);
        assert_eq!((probed.lacks.as_slice(), probed.is_ahead), ([].as_slice(), false));
        assert_eq!(names(&probed)[0], "mysql_servers", "the server table is first");
        assert!(probed.covered.iter().all(|covered| covered.is_known && covered.columns.is_empty()));
        assert_eq!(probed.load_counter, LoadCounter::Loads);
        assert_eq!(probed.conditions().count(), 0);
    }

    #[test]
    fn each_table_and_column_that_is_needed_is_missed_by_its_name_and_blinds() {
        for (table, columns) in NEEDED {
            let mut without = seen("2.7.1", &[]);
            without.tables.remove(table);
            let probed = judge(without, false);
            assert!(probed.lacks.contains(&Lack::Table(table)), "{:?}", probed.lacks);
            assert!(probed.blindness().unwrap().contains(table));
            for column in columns {
                let mut without = seen("2.7.1", &[]);
                without.tables.get_mut(table).unwrap().names.retain(|name| name != column);
                let probed = judge(without, false);
                assert!(probed.lacks.contains(&Lack::Column(table, column)), "{table}.{column}: {:?}", probed.lacks);
                let text = probed.blindness().unwrap();
                assert!(text.contains(&format!("no column {column} in {table}")), "{text}");
            }
        }
    }

    #[test]
    fn a_column_that_only_runtime_has_is_left_out_and_one_that_it_lacks_is_missed() {
        let covered: &[(&str, &[&str], usize)] = &[("mysql_servers_ssl_params", &["hostname", "port", "username"], 3)];
        let mut more = seen("2.7.1", covered);
        more.note("runtime_mysql_servers_ssl_params", "since", 0, 3);
        let probed = judge(more, false);
        let table = COVERED[6];
        assert_eq!(
            (probed.lacks.len(), probed.runtime_columns(table)),
            (0, ["hostname", "port", "username"].map(str::to_owned).as_slice())
        );
        assert!(probed.runtime_columns(SERVERS).is_empty(), "the same in both: all columns");
        let mut less = seen("2.7.1", covered);
        less.note("mysql_servers_ssl_params", "new", 0, 3);
        let lack = Lack::RuntimeColumn("mysql_servers_ssl_params".into(), "new".into());
        assert_eq!(lacks(less), [lack]);
    }

    #[test]
    fn a_table_of_the_family_with_a_twin_in_runtime_is_covered_whoever_knows_it() {
        let covered: &[(&str, &[&str], usize)] = &[
            ("mysql_next_hostgroups", &["writer_hostgroup", "cell", "comment"], 2),
            ("mysql_servers_limits", &["hostname", "weight"], 1),
            ("mysql_users", &["username"], 1),
            ("mysql_query_rules", &["rule_id"], 1),
        ];
        let mut seen = seen("2.7.1", covered);
        note(&mut seen, "mysql_servers_untwinned", &["hostname"], 1);
        let probed = judge(seen, false);
        let unknown = probed.covered.iter().filter(|covered| !covered.is_known).map(|covered| covered.table);
        let unknown: Vec<Table> = unknown.collect();
        assert_eq!(
            unknown,
            [Table::new("mysql_next_hostgroups", 2), Table::new("mysql_servers_limits", 1)].map(Option::unwrap)
        );
        let hostgroups: Vec<Table> = probed.unknown_hostgroups().collect();
        assert_eq!(hostgroups, unknown[..1], "the other one defines no hostgroups");
        assert!(probed.lacks.is_empty());
    }

    #[test]
    fn a_covered_table_whose_key_does_not_come_first_or_differs_from_what_is_known_is_refused() {
        let key = |name: &str| vec![Lack::Key(name.to_owned())];
        let mut second = seen("2.7.1", &[]);
        for name in ["mysql_next_hostgroups", "runtime_mysql_next_hostgroups"] {
            second.note(name, "comment", 0, 0);
            second.note(name, "writer_hostgroup", 1, 1);
        }
        assert_eq!(lacks(second), key("mysql_next_hostgroups"));
        let none: &[(&str, &[&str], usize)] = &[("mysql_next_hostgroups", &["writer_hostgroup"], 0)];
        assert_eq!(lacks(seen("2.7.1", none)), key("mysql_next_hostgroups"));
        let other: &[(&str, &[&str], usize)] = &[("mysql_servers_ssl_params", &["hostname", "port", "username"], 2)];
        assert_eq!(lacks(seen("2.7.1", other)), key("mysql_servers_ssl_params"));
        let odd: &[(&str, &[&str], usize)] = &[("mysql_next_hostgroups", &["writer_hostgroup", "a b"], 1)];
        assert_eq!(
            lacks(seen("2.7.1", odd)),
            key("mysql_next_hostgroups"),
            "a name that no statement can have as it is"
        );
    }

    #[test]
    fn what_no_probe_can_tell_goes_by_version() {
        let judged = |version: &str, accepts| judge(seen(version, &[]), accepts).lacks;
        for version in ["2.5.2", "2.5.3-7-gabc"] {
            assert_eq!(judged(version, true), [Lack::Crashes], "no acknowledgement helps");
        }
        for version in ["2.4.8", "2.5.1"] {
            assert_eq!((judged(version, false), judged(version, true)), (vec![Lack::MonitorWritesMemory], vec![]));
        }
        for version in ["2.5.4", "2.5.5", "2.6.0", "3.0.1"] {
            assert_eq!(judged(version, false), [], "{version}");
        }
        assert_eq!(judged("ProxySQL", false), [Lack::Version("ProxySQL".into())]);
    }

    #[test]
    fn a_version_above_every_tried_one_that_lacks_nothing_runs_and_that_is_said() {
        let probed = judge(seen("99.0.0", &[]), false);
        assert!(probed.lacks.is_empty());
        let said: Vec<String> = probed.conditions().map(|condition| condition.to_string()).collect();
        assert!(matches!(said.as_slice(), [text] if text.starts_with("ProxySQL 99.0.0 is newer than")), "{said:?}");
    }

    #[test]
    fn what_counts_loads_is_told_by_the_checksums() {
        let counter = |names: &[&str], switch: &str| {
            let mut seen = seen("2.7.1", &[]);
            seen.checksums = names.iter().map(|name| (*name).to_owned()).collect();
            seen.switches.insert("admin-checksum_mysql_servers".to_owned(), switch.to_owned());
            judge(seen, false).load_counter
        };
        let both = ["mysql_servers", "mysql_servers_v2"];
        assert_eq!(counter(&both, "true"), LoadCounter::Loads);
        assert_eq!(counter(&both[..1], "true"), LoadCounter::LoadsAndMoves);
        assert_eq!(counter(&both, "false"), LoadCounter::Nothing);
        assert_eq!(counter(&["admin_variables"], "true"), LoadCounter::Nothing);
    }

    #[test]
    fn each_lack_says_what_is_missing_where_and_what_to_do() {
        let mut read_only = seen("2.5.3", &[]);
        read_only.switches.insert("admin-read_only".to_owned(), "true".to_owned());
        let probed = judge(read_only, false);
        let said: Vec<(String, String)> =
            probed.lacks.iter().map(|lack| (lack.label(), probed.sentence(lack))).collect();
        assert_eq!(said.iter().map(|(what, _)| what.as_str()).collect::<Vec<_>>(), ["crashes", "read-only"]);
        assert!(said[0].1.starts_with("ProxySQL 2.5.3 can crash") && said[0].1.contains("2.5.5"), "{said:?}");
        assert!(said[1].1.contains("PROXYSQL READWRITE"), "{said:?}");
        assert_eq!(probed.blindness(), None, "it can be looked at");
        let keys: BTreeSet<String> = probed.conditions().map(|condition| condition.key()).collect();
        assert_eq!(keys.len(), 2, "each is logged for itself");
    }

    #[test]
    fn what_lacks_everything_names_a_few_things() {
        let probed = judge(Seen { version: "x".repeat(1_000_000), ..Seen::default() }, false);
        assert_eq!(probed.lacks.len(), LACKS_MAX);
        assert!(probed.blindness().unwrap().len() < 10_000);
    }
}
