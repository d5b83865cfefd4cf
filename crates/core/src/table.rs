//! ProxySQL's tables as records, whole: what LOAD MYSQL SERVERS covers must be compared and put back to the byte.

use std::collections::BTreeMap;

use crate::row::{Hostgroup, Row, RowKey, Status};

/// A table that LOAD MYSQL SERVERS covers (FACTS §2), and how many leading columns are its key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Table {
    /// Its name in `main`.
    pub name: &'static str,
    /// Leading columns that make the primary key.
    pub key_columns: usize,
}

/// The server table.
pub const SERVERS: Table = Table { name: "mysql_servers", key_columns: 3 };

/// Every table that LOAD covers in 2.7.1; older versions lack the later ones.
pub const COVERED: [Table; 7] = [
    SERVERS,
    Table { name: "mysql_replication_hostgroups", key_columns: 1 },
    Table { name: "mysql_group_replication_hostgroups", key_columns: 1 },
    Table { name: "mysql_galera_hostgroups", key_columns: 1 },
    Table { name: "mysql_aws_aurora_hostgroups", key_columns: 1 },
    Table { name: "mysql_hostgroup_attributes", key_columns: 1 },
    Table { name: "mysql_servers_ssl_params", key_columns: 3 },
];

/// One record: a value per column; `None` is NULL.
pub type Record = Vec<Option<String>>;

/// A table's content, by key.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Content {
    /// Column names, in order.
    pub columns: Vec<String>,
    /// Records by their key columns.
    pub records: BTreeMap<Record, Record>,
}

/// What a server row of this program's could not be read from.
#[derive(Debug, Clone, PartialEq, Eq, Hash, thiserror::Error)]
#[error("mysql_servers has a record that cannot be read: {0}")]
pub struct Unreadable(pub String);

impl Content {
    /// Takes records in by their key columns.
    pub fn new(table: Table, columns: Vec<String>, records: impl IntoIterator<Item = Record>) -> Self {
        let key = |record: &Record| record.iter().take(table.key_columns).cloned().collect();
        Self { columns, records: records.into_iter().map(|record| (key(&record), record)).collect() }
    }

    /// The rows of the server table.
    ///
    /// # Errors
    /// A record has not one value per column, a column is there twice or missing, or a number is none.
    pub fn rows(&self) -> Result<Vec<Row>, Unreadable> {
        self.records.values().map(|record| self.row(record)).collect()
    }

    fn row(&self, record: &Record) -> Result<Row, Unreadable> {
        let unreadable = || Unreadable(format!("{record:?}"));
        let mut values: BTreeMap<&str, &String> = BTreeMap::new();
        if self.columns.len() != record.len() {
            return Err(unreadable());
        }
        for (column, value) in self.columns.iter().zip(record) {
            if values.insert(column, value.as_ref().ok_or_else(unreadable)?).is_some() {
                return Err(unreadable()); // two columns of one name: which one is it?
            }
        }
        let mut take = |column: &str| values.remove(column).cloned().ok_or_else(unreadable);
        let key = RowKey {
            hostgroup: Hostgroup(take("hostgroup_id")?.parse().map_err(|_| unreadable())?),
            hostname: take("hostname")?,
            port: take("port")?.parse().map_err(|_| unreadable())?,
        };
        let status = Status::parse(&take("status")?);
        let comment = take("comment")?;
        let settings = values.into_iter().map(|(column, value)| (column.to_owned(), value.clone())).collect();
        Ok(Row { key, status, comment, settings })
    }

    /// The same columns with these rows.
    pub fn with_rows(&self, rows: &[Row]) -> Self {
        let record = |row: &Row| -> Record {
            let value = |column: &String| match column.as_str() {
                "hostgroup_id" => Some(row.key.hostgroup.to_string()),
                "hostname" => Some(row.key.hostname.clone()),
                "port" => Some(row.key.port.to_string()),
                "status" => Some(row.status.as_str().to_owned()),
                "comment" => Some(row.comment.clone()),
                other => row.settings.get(other).cloned(),
            };
            self.columns.iter().map(value).collect()
        };
        Self::new(SERVERS, self.columns.clone(), rows.iter().map(record))
    }

    /// The changes that turn this content into that: what takes rows out first, what is missing next, deletions
    /// last, so that a LOAD by another admin in between does no harm (DESIGN §8.4).
    pub fn changes_to(&self, to: &Self) -> Vec<(Option<Record>, Option<Record>)> {
        let out_of_service = |record: &Option<Record>| {
            let status = self.columns.iter().position(|column| column == "status");
            let text = status.and_then(|at| record.as_ref()?.get(at)?.as_ref());
            text.is_some_and(|text| !Status::parse(text).in_service())
        };
        let keys: std::collections::BTreeSet<_> = self.records.keys().chain(to.records.keys()).collect();
        let mut changes: Vec<_> = keys
            .into_iter()
            .map(|key| (self.records.get(key).cloned(), to.records.get(key).cloned()))
            .filter(|(from, to)| from != to)
            .collect();
        changes.sort_by_key(|(from, to)| match (from, to) {
            (_, None) => 3,
            (Some(_), to) if out_of_service(to) => 0,
            (None, Some(_)) => 1,
            (Some(_), Some(_)) => 2,
        });
        changes
    }
}
