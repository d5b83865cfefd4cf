//! Tables: as they are defined, and as they were before and after the recorded failover.

use std::collections::BTreeMap;

use lab::proxysql::{ProxySql, Records};

use crate::recordings::{Kind, NotCompared, of, read};
use crate::{statements, timeline};

/// Columns that count or tell the time: ProxySQL's connections since it was started, a LOAD's second, a checksum.
const VARY: [&str; 3] = ["ConnOK", "epoch", "checksum"];

/// What the folders of other versions of ProxySQL begin with.
const VERSIONS: &str = "27-proxysql-";

/// A definition with its blanks made equal: SHOW CREATE TABLE lays it out in lines.
fn plain(definition: &str) -> String {
    let words = definition.split_whitespace().collect::<Vec<_>>().join(" ");
    words.replace(" ,", ",").replace("( ", "(").replace(" )", ")").trim_end_matches(';').to_owned()
}

/// `SCHEMA: DEFINITION` a line.
fn recorded_definitions(text: &str) -> BTreeMap<(String, String), String> {
    let name = |definition: &str| definition.split(' ').nth(2).unwrap().to_owned();
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    let pairs = lines.map(|line| line.split_once(": ").unwrap_or_else(|| panic!("{line}")));
    pairs.map(|(schema, definition)| ((schema.to_owned(), name(definition)), plain(definition))).collect()
}

fn tables_of(proxy: &ProxySql, schema: &str) -> Vec<Vec<Option<String>>> {
    let sql = format!("SELECT name,sql FROM {schema}.sqlite_master WHERE type='table' AND name NOT LIKE 'sqlite_%'");
    proxy.query(&sql).unwrap().records
}

#[tokio::test]
async fn every_table_that_the_lab_has_is_defined_as_in_the_real_one() {
    let proxy = statements::lab("2.7.1").await;
    let real = recorded_definitions(&read("22-admin/tables.txt"));
    let mut compared = 0;
    for schema in ["main", "disk", "stats"] {
        for record in tables_of(&proxy, schema) {
            let [Some(name), Some(definition)] = &record[..] else { panic!("{record:?}") };
            let wanted = real.get(&(schema.to_owned(), name.clone())).unwrap_or_else(|| panic!("no {schema}.{name}"));
            assert_eq!(plain(definition), *wanted, "{schema}.{name}");
            compared += 1;
        }
    }
    for path in of(Kind::Tables).iter().filter(|path| path.ends_with("show_create.txt")) {
        let shown = read(path);
        let (_, definition) = shown.split_once("Create Table: ").unwrap();
        assert_eq!(plain(definition), real[&("main".to_owned(), "mysql_servers".to_owned())], "{path}");
        compared += 1;
    }
    println!("{compared} definitions of tables compared, of {} that the real ProxySQL has", real.len());
}

#[tokio::test]
async fn each_version_that_the_lab_plays_has_the_covered_tables_and_checksums_of_the_real_one() {
    let recorded: Vec<String> = of(Kind::Tables).into_iter().filter(|path| path.starts_with(VERSIONS)).collect();
    assert_eq!(recorded.len(), 4, "{recorded:?}");
    for path in recorded {
        let version = path[VERSIONS.len()..].split_once('/').unwrap().0;
        let (proxy, text) = (statements::lab(version).await, read(&path));
        let (checksums, definitions): (Vec<&str>, Vec<&str>) =
            text.lines().partition(|line| line.starts_with("checksum: "));
        let real = recorded_definitions(&definitions.join("\n"));
        let in_lab: BTreeMap<(String, String), String> = tables_of(&proxy, "main")
            .into_iter()
            .map(|record| (record[0].clone().unwrap(), record[1].clone().unwrap()))
            .filter(|(name, _)| real.contains_key(&("main".to_owned(), name.clone())) || name.contains("hostgroup"))
            .map(|(name, definition)| (("main".to_owned(), name), plain(&definition)))
            .collect();
        assert_eq!(in_lab.keys().collect::<Vec<_>>(), real.keys().collect::<Vec<_>>(), "{version}");
        for (table, definition) in &real {
            assert_eq!(in_lab[table], *definition, "{version}: {table:?}");
        }
        let rows = proxy.query("SELECT name FROM runtime_checksums_values ORDER BY name").unwrap().records;
        let names: Vec<String> = rows.into_iter().flatten().flatten().map(|name| format!("checksum: {name}")).collect();
        assert_eq!(names, checksums, "{version}");
    }
}

#[tokio::test]
async fn every_variable_that_the_lab_has_is_one_of_the_real_one() {
    let proxy = statements::lab("2.7.1").await;
    let real = read("22-admin/variables.txt");
    let lab =
        proxy.query("SELECT variable_name FROM global_variables").unwrap().records.into_iter().flatten().flatten();
    let names: Vec<String> = lab.collect();
    for name in &names {
        assert!(real.lines().any(|line| line.split('\t').next() == Some(name)), "{name}");
    }
    println!("{} variables of the lab, each one of the {} real ones", names.len(), real.lines().count());
}

/// `-- STATEMENT`, the names of columns, and records with tabs between.
fn dumps(text: &str) -> Vec<(&str, Vec<Vec<&str>>)> {
    let dump = |part| {
        let (sql, rest): (&str, &str) = str::split_once(part, '\n').unwrap();
        (sql, rest.lines().map(|line| line.split('\t').collect()).collect())
    };
    text.split("-- ").skip(1).map(dump).collect()
}

/// Records without what varies, sorted: not every statement says in which order they come.
fn shown(columns: &[String], records: &[Vec<Option<String>>]) -> Vec<String> {
    let keep: Vec<usize> = (0..columns.len()).filter(|at| !VARY.contains(&columns[*at].as_str())).collect();
    let text = |record: &Vec<Option<String>>| {
        keep.iter().map(|at| record[*at].as_deref().unwrap_or("NULL")).collect::<Vec<_>>().join(" ")
    };
    let mut shown: Vec<String> = records.iter().map(text).collect();
    shown.sort();
    shown
}

#[tokio::test(start_paused = true)]
async fn the_dumped_tables_are_the_labs() {
    let mut not_compared = NotCompared::of(Kind::Tables);
    let (mut compared, states) = (0, timeline::states_of_the_failover().await);
    let dumped: Vec<String> = of(Kind::Tables).into_iter().filter(|path| path.ends_with("proxysql.txt")).collect();
    assert_eq!(dumped, states.iter().map(|(path, _)| *path).collect::<Vec<_>>());
    for (path, proxy) in states {
        for (sql, rows) in dumps(&read(path)) {
            if not_compared.lists(path, sql) {
                continue;
            }
            let Records { columns, records } = proxy.query(sql).unwrap();
            assert_eq!(columns, rows[0], "{path}: {sql}");
            let value = |text: &&str| Some((*text).to_owned());
            let real: Vec<Vec<_>> = rows[1..].iter().map(|row| row.iter().map(value).collect()).collect();
            assert_eq!(shown(&columns, &records), shown(&columns, &real), "{path}: {sql}");
            compared += 1;
        }
    }
    not_compared.all_met();
    println!("{compared} dumped tables compared");
}
