//! Recorded statements of ProxySQL's admin interface, sent to the lab over a socket one after the other.

use lab::nodes::Nodes;
use lab::proxysql::{ProxySql, Settings};

use crate::admin_client::{Client, Said};
use crate::python::Value;
use crate::recordings::{Kind, NotCompared, of, read};

/// A statement and what the real ProxySQL answered.
pub struct Recorded {
    pub sql: String,
    pub real: Said,
}

/// The statements of a recording, and who sent them to which version.
pub struct Session {
    pub user: &'static str,
    pub version: &'static str,
    pub statements: Vec<Recorded>,
}

/// How many records of an answer are shown at most where Python printed them.
const SHOWN: usize = 6;

/// Reads a recording. Lines that are not about a statement go to `other`.
pub fn session(path: &str, mut other: impl FnMut(&str)) -> Session {
    if path.starts_with("5-admin/") {
        let statements = printed_by_python(&read(path), &mut other);
        return Session { user: "radmin", version: "2.7.1", statements };
    }
    Session { user: "admin", version: "2.7.1-16-g2726c27", statements: written(&read(path)) }
}

/// `STATEMENT => ANSWER [TIME]`; a statement may have several lines.
fn printed_by_python(text: &str, other: &mut impl FnMut(&str)) -> Vec<Recorded> {
    let mut statements = Vec::new();
    let mut begun = String::new();
    for line in text.lines() {
        if line.trim().is_empty() {
            begun = format!("{line}\n");
            continue;
        }
        let answer = line.rsplit_once("   [").map_or(line, |(line, _)| line).rsplit_once("=> ");
        match answer.and_then(|(sql, answer)| Some((sql, said(answer)?))) {
            Some((sql, real)) => statements.push(Recorded { sql: begun.clone() + sql.trim_end(), real }),
            None => other(line),
        }
        begun.clear();
    }
    statements
}

/// `('rows', COLUMNS, RECORDS)`, `('OK affected', N, ..., 'info', TEXT, ...)` or `EXC KIND (CODE, TEXT)`.
fn said(answer: &str) -> Option<Said> {
    if let Some((_, error)) = answer.split_once("EXC OperationalError ") {
        return Some(Said::Refused(Value::parse(error)?.list().get(1)?.text()?.to_owned()));
    }
    let answer = Value::parse(answer)?;
    match answer.list() {
        [kind, columns, records] if kind.text() == Some("rows") => {
            let columns = columns.record().into_iter().flatten().collect();
            Some(Said::Rows(columns, records.list().iter().map(Value::record).collect()))
        }
        [kind, affected, .., info, _, _, _, _] if kind.text() == Some("OK affected") => {
            // Python shows the byte before the text, which is its length.
            let info = if let Value::Bytes(bytes) = info { bytes.get(1..).unwrap_or_default() } else { &[] };
            Some(Said::Done(affected.text()?.parse().ok()?, String::from_utf8_lossy(info).into_owned()))
        }
        _ => None,
    }
}

/// A statement a line, and an indented one with its answer: `done AFFECTED [INFO]`, `rows COLUMNS / RECORD...`, `empty`,
/// `refused TEXT`.
fn written(text: &str) -> Vec<Recorded> {
    let lines: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
    let recorded = |pair: &[&str]| {
        let [sql, answer] = pair else { panic!("{pair:?}") };
        Recorded { sql: (*sql).to_owned(), real: said_in_words(answer.trim_start()) }
    };
    lines.chunks(2).map(recorded).collect()
}

fn said_in_words(answer: &str) -> Said {
    let (kind, rest) = answer.split_once(' ').unwrap_or((answer, ""));
    let value = |text: &str| if text == "NULL" { None } else { Some(text.to_owned()) };
    match kind {
        "done" => {
            let (affected, info) = rest.split_once(' ').unwrap_or((rest, ""));
            Said::Done(affected.parse().unwrap(), info.to_owned())
        }
        "refused" => Said::Refused(rest.to_owned()),
        "rows" => {
            let mut parts = rest.split(" / ").map(|part| part.split('|').map(value).collect::<Vec<_>>());
            Said::Rows(parts.next().unwrap().into_iter().flatten().collect(), parts.collect())
        }
        "empty" => Said::Rows(Vec::new(), Vec::new()),
        _ => panic!("{answer}"),
    }
}

/// An answer as recordings write it.
pub fn in_words(said: &Said) -> String {
    let record = |record: &Vec<Option<String>>| {
        record.iter().map(|value| value.as_deref().unwrap_or("NULL")).collect::<Vec<_>>().join("|")
    };
    match said {
        Said::Done(affected, info) => format!("done {affected} {info}").trim_end().to_owned(),
        Said::Refused(text) => format!("refused {text}"),
        Said::Rows(columns, records) => {
            let records: String = records.iter().map(|one| format!(" / {}", record(one))).collect();
            format!("rows {}{records}", columns.join("|"))
        }
        Said::Gone => "gone".to_owned(),
    }
}

/// An answer where one version is called another.
pub fn with_version(said: Said, version: &str, called: &str) -> Said {
    let other = |text: &String| text.replace(version, called);
    match said {
        Said::Rows(columns, records) => {
            let records = records.iter().map(|record| record.iter().map(|value| value.as_ref().map(other)).collect());
            Said::Rows(columns, records.collect())
        }
        said => said,
    }
}

/// Whether two answers are the same, as far as the recording goes.
pub fn is_same(real: &Said, other: &Said) -> bool {
    match (real, other) {
        // The stock client does not show the columns of no records.
        (Said::Rows(columns, none), Said::Rows(_, records)) if columns.is_empty() && none.is_empty() => {
            records.is_empty()
        }
        (Said::Rows(columns, some), Said::Rows(other, records)) => {
            let shown = if some.len() == SHOWN { records.len().min(SHOWN) } else { records.len() };
            columns == other && *some == records[..shown]
        }
        (real, other) => real == other,
    }
}

/// What ProxySQL had when the statements were recorded.
pub const SET_UP: [&str; 3] = [
    "INSERT INTO mysql_servers (hostgroup_id,hostname) VALUES (10,'node01'),(20,'node01'),(20,'node02'),(20,'node03'),(30,'my01')",
    "LOAD MYSQL SERVERS TO RUNTIME",
    "SAVE MYSQL SERVERS TO DISK",
];

/// A lab's ProxySQL as it was when the statements were recorded.
pub async fn lab(version: &str) -> ProxySql {
    let nodes = Nodes::new(&["node01", "node02", "node03"]);
    let proxy = ProxySql::start(nodes, Settings { version: version.to_owned(), ..Settings::default() }).await.unwrap();
    for sql in SET_UP {
        proxy.query(sql).unwrap();
    }
    proxy.restart().await.unwrap();
    proxy
}

#[tokio::test]
async fn recorded_statements_are_answered_as_the_real_one_did() {
    let (mut compared, mut wrong, mut not_compared) = (0, String::new(), NotCompared::of(Kind::Statements));
    for path in of(Kind::Statements) {
        let session = session(&path, |line| assert!(not_compared.lists(&path, line), "{path}: {line}"));
        let proxy = lab(session.version).await;
        let mut client = Client::log_in(proxy.address(), session.user, session.user).await;
        for Recorded { sql, real } in session.statements {
            let said = client.query(&sql).await;
            if is_same(&real, &said) {
                compared += 1;
            } else if !not_compared.lists(&path, &sql) {
                wrong += &format!("{path}: {sql}\n  real {}\n  lab  {}\n", in_words(&real), in_words(&said));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
    let not = not_compared.all_met();
    println!("{compared} statements compared with what the real ProxySQL answered, {not} listed as not applicable");
}

#[test]
fn every_kind_of_statement_that_the_lab_knows_is_recorded() {
    let recorded: Vec<String> = of(Kind::Statements)
        .iter()
        .flat_map(|path| session(path, |_| {}).statements)
        .filter(|recorded| !in_words(&recorded.real).contains("syntax error"))
        .map(|recorded| recorded.sql.trim().to_ascii_uppercase())
        .collect();
    let heads: Vec<&str> = ProxySql::knows().collect();
    for head in &heads {
        assert!(recorded.iter().any(|sql| sql.starts_with(head)), "{head} is not recorded");
    }
    println!("{} kinds of statements that the lab knows, each recorded", heads.len());
}
