//! ProxySQL's tables as whole records. The tables that LOAD MYSQL SERVERS covers are compared and put back to the byte.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use crate::shared::Shared;
use crate::table::{Change, Hostgroup, Row, RowKey, Status};

/// A table of ProxySQL, by its name and the width of its primary key.
///
/// The name is held inline: a table that a new ProxySQL has is as cheap to pass around as a known one.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Table {
    /// The name in `main`, filled up with zeros.
    name: [u8; NAME_MAX_BYTES],
    /// The number of leading columns that make the primary key.
    pub key_columns: usize,
}

/// The longest name of a table, in bytes. ProxySQL's longest is 42.
const NAME_MAX_BYTES: usize = 64;

impl Table {
    /// A table of ProxySQL. `None`: its name is too long, or is no plain word that a statement can have as it is.
    pub const fn new(name: &str, key_columns: usize) -> Option<Self> {
        let (text, mut at) = (name.as_bytes(), 0);
        while at < text.len() {
            if !(text[at].is_ascii_alphanumeric() || text[at] == b'_') {
                return None;
            }
            at += 1;
        }
        if text.is_empty() || text.len() > NAME_MAX_BYTES { None } else { Some(Self::known(name, key_columns)) }
    }

    /// A table whose name is known to fit.
    pub(crate) const fn known(name: &str, key_columns: usize) -> Self {
        let (text, mut bytes, mut at) = (name.as_bytes(), [0; NAME_MAX_BYTES], 0);
        while at < text.len() {
            bytes[at] = text[at];
            at += 1;
        }
        Self { name: bytes, key_columns }
    }

    /// The table's name in `main`.
    pub fn name(&self) -> &str {
        let end = self.name.iter().position(|byte| *byte == 0).unwrap_or(NAME_MAX_BYTES);
        std::str::from_utf8(&self.name[..end]).unwrap_or_default()
    }
}

impl fmt::Debug for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The server table.
pub const SERVERS: Table = Table::known("mysql_servers", 3);

/// The scheduler's table. Nobody but operators and `install scheduler` writes it.
pub const SCHEDULER: Table = Table::known("scheduler", 1);

/// Every table that LOAD MYSQL SERVERS covers in 2.7.1 (facts §2). Older versions lack the later ones, and newer ones
/// have more. The list of one ProxySQL is read from it.
pub const COVERED: [Table; 7] = [
    SERVERS,
    Table::known("mysql_replication_hostgroups", 1),
    Table::known("mysql_group_replication_hostgroups", 1),
    Table::known("mysql_galera_hostgroups", 1),
    Table::known("mysql_aws_aurora_hostgroups", 1),
    Table::known("mysql_hostgroup_attributes", 1),
    Table::known("mysql_servers_ssl_params", 3),
];

/// One record, with a value per column. `None` is NULL.
pub type Record = Vec<Option<String>>;

/// A table's content, by key.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Content {
    /// The names of the columns, in order.
    pub columns: Vec<String>,
    /// The records by their key columns.
    pub records: BTreeMap<Record, Record>,
}

/// The most characters of a record in an error. A comment can be megabytes long.
const SHOWN_MAX_CHARS: usize = 200;

/// A `mysql_servers` record that does not parse into a [`Row`].
#[derive(Debug, Clone, PartialEq, Eq, Hash, thiserror::Error)]
#[error("mysql_servers has a record that cannot be read: {0}")]
pub struct Unreadable(pub String);

impl Unreadable {
    fn of(record: &Record) -> Self {
        Self(format!("{record:?}").chars().take(SHOWN_MAX_CHARS).collect())
    }
}

impl Content {
    /// The content with these records.
    pub fn new(table: Table, columns: Vec<String>, records: impl IntoIterator<Item = Record>) -> Self {
        let key = |record: &Record| record.iter().take(table.key_columns).cloned().collect();
        Self { columns, records: records.into_iter().map(|record| (key(&record), record)).collect() }
    }

    /// The rows of the server table.
    ///
    /// # Errors
    /// A record lacks a value or has too many, a column is missing or there twice, a number does not parse, or two
    /// records have the same row key.
    pub fn rows(&self) -> Result<Vec<Row>, Unreadable> {
        let (mut seen, mut settings_seen) = (BTreeSet::new(), BTreeSet::new());
        let mut rows = Vec::with_capacity(self.records.len());
        for record in self.records.values() {
            let mut row = self.row(record)?;
            match settings_seen.get(&row.settings) {
                Some(same) => row.settings = Shared::clone(same),
                None => drop(settings_seen.insert(row.settings.clone())),
            }
            if !seen.insert(row.key.clone()) {
                return Err(Unreadable::of(record)); // either of the two could be meant
            }
            rows.push(row);
        }
        Ok(rows)
    }

    fn row(&self, record: &Record) -> Result<Row, Unreadable> {
        let unreadable = || Unreadable::of(record);
        let mut values: BTreeMap<&str, &String> = BTreeMap::new();
        if self.columns.len() != record.len() {
            return Err(unreadable());
        }
        for (column, value) in self.columns.iter().zip(record) {
            if values.insert(column, value.as_ref().ok_or_else(unreadable)?).is_some() {
                return Err(unreadable()); // either of two columns with one name could be meant
            }
        }
        let mut take = |column: &str| values.remove(column).cloned().ok_or_else(unreadable);
        let key = RowKey {
            hostgroup: Hostgroup(take("hostgroup_id")?.parse().map_err(|_| unreadable())?),
            hostname: take("hostname")?.into(),
            port: take("port")?.parse().map_err(|_| unreadable())?,
        };
        let status = Status::parse(&take("status")?);
        let comment = take("comment")?;
        let settings = values.into_iter().map(|(column, value)| (column.to_owned(), value.clone())).collect();
        Ok(Row { key, status, comment, settings })
    }

    /// The content with these rows. An unchanged status keeps its spelling, since `online` may be an operator's.
    pub fn with_rows(&self, rows: &[Row]) -> Self {
        let record = |row: &Row| -> Record {
            let key = [row.key.hostgroup.to_string(), row.key.hostname.to_string(), row.key.port.to_string()].map(Some);
            let before = self.records.get(&key[..]);
            let status = |at: usize| {
                let before = before.and_then(|record| record.get(at)?.as_ref());
                let same = before.filter(|text| Status::parse(text) == row.status);
                same.cloned().unwrap_or_else(|| row.status.as_str().to_owned())
            };
            let [hostgroup, hostname, port] = &key;
            let value = |(at, column): (usize, &String)| match column.as_str() {
                "hostgroup_id" => hostgroup.clone(),
                "hostname" => hostname.clone(),
                "port" => port.clone(),
                "status" => Some(status(at)),
                "comment" => Some(row.comment.clone()),
                other => row.settings.get(other).cloned(),
            };
            self.columns.iter().enumerate().map(value).collect()
        };
        Self::new(SERVERS, self.columns.clone(), rows.iter().map(record))
    }

    /// The changes that turn this content into `to`. Rows go out of service first, missing ones come next, deletions
    /// last, so that a LOAD by another admin in between does no harm (design §8.4).
    pub fn changes_to(&self, to: &Self) -> Vec<Change<Record>> {
        let out_of_service = |record: &Record| {
            let status = self.columns.iter().position(|column| column == "status");
            let text = status.and_then(|at| record.get(at)?.as_ref());
            text.is_some_and(|text| !Status::parse(text).in_service())
        };
        let keys: BTreeSet<_> = self.records.keys().chain(to.records.keys()).collect();
        let change = |key| Change::between(self.records.get(key).cloned(), to.records.get(key).cloned());
        let mut changes: Vec<_> = keys.into_iter().filter_map(change).collect();
        changes.sort_by_key(|change| match change {
            Change::Replace { to, .. } if out_of_service(to) => 0,
            Change::Make(_) => 1,
            Change::Replace { .. } => 2,
            Change::Delete(_) => 3,
        });
        changes
    }
}

#[cfg(test)]
pub(crate) mod shown {
    use super::*;

    /// A server table of these columns.
    pub fn servers<'a, const N: usize>(columns: [&str; N], rows: impl IntoIterator<Item = [&'a str; N]>) -> Content {
        let record = |row: [&str; N]| row.map(|text| Some(text.to_owned())).to_vec();
        Content::new(SERVERS, columns.map(str::to_owned).to_vec(), rows.into_iter().map(record))
    }
}

#[cfg(test)]
mod tests {
    use super::shown::servers;
    use super::*;

    fn content(ports: [&str; 2]) -> Content {
        let columns = ["status", "comment", "weight", "hostgroup_id", "hostname", "port"];
        let row = |(weight, port)| ["ONLINE", "", weight, "10", "node01", port];
        servers(columns, ["1", "2"].into_iter().zip(ports).map(row))
    }

    #[test]
    fn i1_two_records_of_one_row_are_refused() {
        assert_eq!(content(["3306", "3307"]).rows().unwrap().len(), 2);
        assert!(content(["3306", "3306"]).rows().is_err());
        assert!(content(["3306", "03306"]).rows().is_err());
    }

    #[test]
    fn rows_with_the_same_settings_share_them() {
        let columns = ["hostgroup_id", "hostname", "port", "status", "comment", "weight"];
        let row = |(name, weight)| ["10", name, "3306", "ONLINE", "", weight];
        let rows = servers(columns, [("a", "1"), ("b", "2"), ("c", "1")].map(row)).rows().unwrap();
        let share = |a: &Row, b: &Row| std::sync::Arc::ptr_eq(a.settings.arc(), b.settings.arc());
        assert!(share(&rows[0], &rows[2]) && !share(&rows[0], &rows[1]));
        assert_eq!(rows[1].settings["weight"], "2");
    }

    /// So that another admin's LOAD in between finds nobody in service who must not be, and nobody missing.
    #[test]
    fn i5_what_goes_out_of_service_comes_first_and_deletions_last() {
        let content = |rows: [[&'static str; 3]; 4]| {
            let row = |[name, status, comment]: [&'static str; 3]| ["10", name, "3306", status, comment];
            servers(["hostgroup_id", "hostname", "port", "status", "comment"], rows.map(row))
        };
        let from = content([["a", "ONLINE", ""], ["b", "ONLINE", ""], ["d", "ONLINE", ""], ["e", "ONLINE", ""]]);
        let to = content([["b", "ONLINE", "b"], ["c", "ONLINE", ""], ["d", "OFFLINE_SOFT", ""], ["e", "ONLINE", ""]]);
        let changes = from.changes_to(&to);
        let names = changes.iter().map(|change| change.either()[1].as_deref().unwrap());
        assert_eq!(names.collect::<Vec<_>>(), ["d", "c", "b", "a"]);
    }

    #[test]
    fn a_table_of_another_version_has_a_name_that_a_statement_can_have_as_it_is() {
        let name = "mysql_servers_of_the_next_version";
        assert_eq!(
            Table::new(name, 2).map(|table| (table.name().to_owned(), table.key_columns)),
            Some((name.into(), 2))
        );
        assert_eq!(Table::new("mysql_servers", 3), Some(SERVERS));
        for name in ["", "mysql servers", "mysql_servers;", "mysql_\u{e9}", &"m".repeat(NAME_MAX_BYTES + 1)] {
            assert_eq!(Table::new(name, 1), None, "{name:?}");
        }
    }

    #[test]
    fn a_record_that_cannot_be_read_is_shown_in_part() {
        let error = content(["3306", &"9".repeat(1_000)]).rows().unwrap_err();
        assert!(error.0.chars().count() == SHOWN_MAX_CHARS, "{error}");
    }
}
