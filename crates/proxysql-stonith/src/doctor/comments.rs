//! Whether rows have comments that a marker could be taken for, or that are not text.

use stonith_core::table::{Comment, Layer, Row};

use super::{Area, Check, Facts, Finding, Fix, Level, Need, few};
use crate::bytes::byte_of;

pub const CHECK: Check = Check {
    name: "comments",
    area: Area::ProxySql,
    needs: Need::Tables,
    labels: &["comment-like-marker", "comment-not-text"],
    run,
};

const LIKE_MARKER: &str = "Only a marker at the end of a comment counts. One that somebody has moved or copied is a note of \
                           nothing: the row is not let back by it";

const NOT_TEXT: &str = "The program keeps every byte of it. Runtime cuts a comment at a NUL (facts §2), and other tools may \
                        change what is not UTF-8";

fn run(facts: &Facts) -> Vec<Finding> {
    let mut found = Vec::new();
    for proxy in &facts.proxies {
        let Some(view) = &proxy.view else { continue };
        let rows = |is_odd: fn(&str) -> bool| {
            let layers = Layer::ALL.into_iter().flat_map(|layer| view.layer(layer));
            let mut keys: Vec<String> =
                layers.filter(|row: &&Row| is_odd(&row.comment)).map(|row| row.key.to_string()).collect();
            keys.sort();
            keys.dedup();
            keys
        };
        for (level, label, rows, words, why) in [
            (
                Level::Warning,
                "comment-like-marker",
                rows(is_like_a_marker),
                "have a marker that does not count",
                LIKE_MARKER,
            ),
            (Level::Note, "comment-not-text", rows(is_no_text), "have bytes that are not text", NOT_TEXT),
        ] {
            if !rows.is_empty() {
                let what = format!("the comments of these rows {words}: {}", few(&rows));
                let fix =
                    Fix::Shell("proxysql-stonith status   # then correct the comment in mysql_servers".to_owned());
                found.push(Finding::new(level, label, what).why(why).fix(fix).at(proxy));
            }
        }
    }
    found
}

fn is_like_a_marker(comment: &str) -> bool {
    comment.contains("[stonith:") && Comment::parse(comment) == Comment::Plain
}

fn is_no_text(comment: &str) -> bool {
    comment.chars().any(|letter| letter.is_control() || byte_of(letter).is_some())
}

#[cfg(test)]
mod tests {
    use super::super::facts::healthy;
    use super::*;

    fn found(comment: &str) -> Vec<&'static str> {
        let mut facts = healthy();
        facts.proxies[0].view.as_mut().unwrap().memory[1].comment = comment.to_owned();
        run(&facts).into_iter().map(|finding| finding.label).collect()
    }

    #[test]
    fn text_and_a_marker_at_its_end_are_well() {
        for comment in ["rack 7", "B\u{fc}ro 3", "rack 7 [stonith:1 superseded by=node02:3306 was=ONLINE]"] {
            assert_eq!(found(comment), [""; 0], "{comment}");
        }
    }

    #[test]
    fn a_marker_that_does_not_count_and_bytes_that_are_no_text_are_found() {
        assert_eq!(found("[stonith:1 manual was=ONLINE]"), ["comment-like-marker"]);
        assert_eq!(found("rack\0 7"), ["comment-not-text"]);
        assert_eq!(found(&crate::bytes::to_text(b"B\xFCro".to_vec())), ["comment-not-text"]);
    }
}
