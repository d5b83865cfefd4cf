//! Every statement that the program sends in these tests was sent to the real ProxySQL too, other values apart: what that
//! one answered is recorded, and the lab answers the same (crates/lab/tests/conformance).

use std::collections::BTreeSet;
use std::sync::OnceLock;

/// A statement without its values.
fn shape(sql: &str) -> String {
    let (mut shape, mut letters) = (String::new(), sql.chars().peekable());
    while let Some(letter) = letters.next() {
        let in_word = shape.ends_with(|before: char| before.is_ascii_alphanumeric() || before == '_');
        if letter == '\'' {
            // Up to the quote that is not doubled.
            while letters.next() != Some('\'') || letters.next_if_eq(&'\'').is_some() {}
            shape.push('?');
        } else if letter.is_ascii_digit() && !in_word {
            while letters.next_if(char::is_ascii_digit).is_some() {}
            shape.push('?');
        } else {
            shape.push(letter);
        }
    }
    // A value that is no text goes by its bytes; which columns change is a value too.
    shape = shape.replace("CAST(x? AS TEXT)", "?").replace("NULL", "?");
    // One row or many: 22-admin/bytes.txt has both.
    shape =
        shape.replace("hostgroup_id=? AND hostname=? AND port=?", "(hostgroup_id,hostname,port) IN (VALUES (?,?,?))");
    if let Some((head, (_, tail))) =
        shape.split_once(" SET ").and_then(|(head, rest)| Some((head, rest.split_once(" WHERE ")?)))
        && head.starts_with("UPDATE OR REPLACE")
    {
        shape = format!("{head} SET ? WHERE {tail}");
    }
    for row in ["(?,?,?)", "(?,?)"] {
        while shape.contains(&format!("{row},{row}")) {
            shape = shape.replace(&format!("{row},{row}"), row);
        }
    }
    shape
}

/// The shapes of all recorded statements.
fn recorded() -> &'static BTreeSet<String> {
    static SHAPES: OnceLock<BTreeSet<String>> = OnceLock::new();
    SHAPES.get_or_init(|| {
        let folder = format!("{}/../lab/tests/recordings/22-admin", env!("CARGO_MANIFEST_DIR"));
        let text = [
            "program.txt",
            "probe.txt",
            "doctor.txt",
            "return.txt",
            "shared.txt",
            "pause.txt",
            "bytes.txt",
            "sessions.txt",
            "drain.txt",
            "operators.txt",
            "restore.txt",
            "install.txt",
        ]
        .map(|file| std::fs::read_to_string(format!("{folder}/{file}")).unwrap())
        .concat();
        text.lines().filter(|line| !line.starts_with(['#', ' '])).map(shape).collect()
    })
}

/// Fails for a statement that is not recorded.
pub fn all_are_recorded(statements: &[String]) {
    for sql in statements {
        assert!(recorded().contains(&shape(sql)), "not recorded: {sql}");
    }
}

#[test]
fn values_make_no_other_statement() {
    assert_eq!(
        shape("UPDATE t1 SET a='it''s',b=NULL WHERE c IN (VALUES (1,'x',2),(3,'y',4))"),
        shape("UPDATE t1 SET a='',b='b' WHERE c IN (VALUES (5,'z',6))")
    );
    assert_eq!(
        shape("UPDATE OR REPLACE t SET a='x' WHERE b IS '1'"),
        shape("UPDATE OR REPLACE t SET a=CAST(x'FF' AS TEXT),b='2' WHERE b IS NULL")
    );
    assert_ne!(shape("DROP TABLE main.stonith_lock"), shape("DROP TABLE main.stonith_kept"));
}
