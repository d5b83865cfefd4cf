//! What differs between ProxySQL's versions (facts §12). The lab plays the version that its settings name.
//!
//! Above the newest known version it plays an invented one, which has what a version to come may have: columns that
//! only runtime has, and a table that LOAD covers and that nobody knows yet.

/// The numbers of a version.
pub(super) type Numbers = (u16, u16, u16);

/// The first version that is invented.
const INVENTED: Numbers = (4, 0, 0);

/// A table that LOAD MYSQL SERVERS covers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Covered {
    pub name: &'static str,
    /// Definitions of the columns that only its twin in runtime has, and their values.
    pub state: &'static [(&'static str, &'static str)],
}

/// A table that LOAD MYSQL SERVERS covers: name, first version, columns that only runtime has, and the first version that
/// has these.
type Since = (&'static str, Numbers, &'static [(&'static str, &'static str)], Numbers);

/// The tables that LOAD MYSQL SERVERS covers, in the order in which they came.
const COVERED: [Since; 9] = [
    ("mysql_servers", (0, 0, 0), &[("since INT NOT NULL DEFAULT 0", "7")], INVENTED),
    ("mysql_replication_hostgroups", (0, 0, 0), &[], INVENTED),
    ("mysql_group_replication_hostgroups", (0, 0, 0), &[], INVENTED),
    ("mysql_galera_hostgroups", (0, 0, 0), &[], INVENTED),
    ("mysql_aws_aurora_hostgroups", (0, 0, 0), &[("status VARCHAR", "'OK'")], INVENTED),
    ("mysql_hostgroup_attributes", (2, 5, 0), &[], INVENTED),
    ("mysql_servers_ssl_params", (2, 6, 0), &[], INVENTED),
    ("mysql_aws_rds_bgd_hostgroups", (3, 0, 10), &[("auto_generated INT", "0"), ("status VARCHAR", "''")], (3, 0, 10)),
    ("mysql_next_hostgroups", INVENTED, &[("status VARCHAR", "'OK'")], INVENTED),
];

/// Columns of `mysql_hostgroup_attributes`, by the beginning of their definition, and their first version.
const ATTRIBUTES: [(&str, Numbers); 2] = [("hostgroup_settings ", (2, 6, 0)), ("servers_defaults ", (2, 5, 2))];

/// Definitions of tables that 2.7.1 does not have.
const NEWER: &str = "
CREATE TABLE mysql_aws_rds_bgd_hostgroups (writer_hostgroup INT NOT NULL PRIMARY KEY , reader_hostgroup INT NOT NULL , green_writer_hostgroup INT NOT NULL , green_reader_hostgroup INT NOT NULL , active INT NOT NULL DEFAULT 1 , writer_is_also_reader INT NOT NULL DEFAULT 0 , check_interval_ms INT NOT NULL DEFAULT 1000 , check_timeout_ms INT NOT NULL DEFAULT 800 , comment VARCHAR NOT NULL DEFAULT '');
CREATE TABLE mysql_next_hostgroups (writer_hostgroup INT NOT NULL , cell VARCHAR NOT NULL , reader_hostgroup INT NOT NULL , comment VARCHAR NOT NULL DEFAULT '' , PRIMARY KEY (writer_hostgroup, cell));
";

/// What one version has.
#[derive(Debug, Clone)]
pub(super) struct Version {
    numbers: Numbers,
    /// The tables that LOAD MYSQL SERVERS covers, the server table first.
    pub covered: Vec<Covered>,
}

impl Version {
    /// The version of this name: the first three numbers count.
    pub fn named(name: &str) -> Self {
        let mut numbers = name.split(['.', '-']).map_while(|number| number.parse().ok());
        let mut next = || numbers.next().unwrap_or(0);
        let numbers = (next(), next(), next());
        let of = |(name, from, state, state_from): (&'static str, Numbers, &'static [_], Numbers)| {
            let state = if numbers >= state_from { state } else { &[] };
            (numbers >= from).then_some(Covered { name, state })
        };
        Self { numbers, covered: COVERED.into_iter().filter_map(of).collect() }
    }

    /// The names of the covered tables.
    pub fn names(&self) -> Vec<&'static str> {
        self.covered.iter().map(|covered| covered.name).collect()
    }

    /// The monitor writes memory and LOADs, and loses staged edits.
    pub fn monitor_writes_memory(&self) -> bool {
        self.numbers < (2, 5, 2)
    }

    /// A move of the monitor adds to the count of LOADs, and there is no `mysql_servers_v2` among the checksums.
    pub fn moves_count(&self) -> bool {
        self.numbers < (2, 6, 0)
    }

    /// It is a proxy for PostgreSQL too, and has checksums of that.
    pub fn has_postgres(&self) -> bool {
        self.numbers >= (3, 0, 0)
    }

    /// The definitions of memory's tables, one a line. `schema` has those of 2.7.1.
    pub fn definitions(&self, schema: &str) -> String {
        let lacks = |line: &&str| {
            let of = |(name, ..): &(&'static str, Numbers, _, _)| is_of(line, name) && !self.names().contains(name);
            !COVERED.iter().any(of)
        };
        let lines = schema.lines().chain(NEWER.lines()).filter(lacks);
        lines.map(|line| self.attributes(line) + "\n").collect()
    }

    /// A definition without the columns that came later.
    fn attributes(&self, line: &str) -> String {
        let came_later = |part: &&str| {
            ATTRIBUTES.iter().any(|(column, from)| self.numbers < *from && part.trim_start().starts_with(column))
        };
        if !is_of(line, "mysql_hostgroup_attributes") {
            return line.to_owned();
        }
        line.split(" ,").filter(|part| !came_later(part)).collect::<Vec<_>>().join(" ,")
    }

    /// The statements that give runtime's twins the columns that only they have.
    pub fn state_columns(&self) -> String {
        let of = |covered: &Covered| -> String {
            let add =
                |(column, _): &(&str, &str)| format!("ALTER TABLE main.runtime_{} ADD COLUMN {column};", covered.name);
            covered.state.iter().map(add).collect()
        };
        self.covered.iter().map(of).collect()
    }

    /// The values of the columns that only runtime's twin of a table has, each after a comma.
    pub fn state_values(&self, table: &str) -> String {
        let covered = self.covered.iter().filter(|covered| covered.name == table);
        covered.flat_map(|covered| covered.state).map(|(_, value)| format!(",{value}")).collect()
    }
}

fn is_of(definition: &str, table: &str) -> bool {
    definition.starts_with(&format!("CREATE TABLE {table} ("))
}
