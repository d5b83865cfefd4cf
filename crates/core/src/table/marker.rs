//! The marker at the end of a row's comment: ` [stonith:1 superseded by=node02:3306 was=ONLINE]`.
//!
//! **Invariant:** a row goes back only if it has a marker (I3). A marker is made from the evidence alone, so every
//! agent writes the same bytes. Differing comments would make ProxySQL Cluster churn (facts §6). The rest of the
//! comment is the operator's, and survives byte for byte.
//!
//! ProxySQL's runtime cuts a comment at a NUL. The marker stands before the first NUL, where every layer has it.

use std::fmt;

use crate::evidence::EvidenceKind;
use crate::node::Node;
use crate::table::Status;

const OPEN: &str = " [stonith:";
const VERSION: &str = "1";

/// The reason why a row is out of service, and the row's status before.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Marker {
    /// The highest-ranking evidence.
    pub kind: EvidenceKind,
    /// The node that took over, if the evidence names one.
    pub by: Option<Node>,
    /// The status before the fence. SHUNNED is noted as ONLINE.
    pub was: Status,
}

impl fmt::Display for Marker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{OPEN}{VERSION} {}", self.kind)?;
        if let Some(by) = &self.by {
            write!(f, " by={by}")?;
        }
        write!(f, " was={}]", self.was)
    }
}

/// A comment, parsed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Comment<'a> {
    /// The comment has no marker.
    Plain,
    /// The operator's part before the marker, and the marker.
    Marked(&'a str, Marker),
    /// The operator's part before a marker that cannot be read: a newer version, or damaged. The node is held (I1).
    Unreadable(&'a str),
}

impl Comment<'_> {
    /// The kind of a comment's marker.
    pub fn kind(text: &str) -> Option<EvidenceKind> {
        match Self::parse(text) {
            Comment::Marked(_, marker) => Some(marker.kind),
            Comment::Plain | Comment::Unreadable(_) => None,
        }
    }

    /// Parses a comment. Only a marker at its end, or before its first NUL, counts. The operator may write anything
    /// before it.
    pub fn parse(text: &str) -> Comment<'_> {
        let (text, _) = cut_at_nul(text);
        // Most comments have no marker, and each tick parses all of them.
        let Some(at) = text.contains('[').then(|| text.rfind(OPEN)).flatten() else { return Comment::Plain };
        let (before, note) = text.split_at(at);
        let Some(inner) = note[OPEN.len()..].strip_suffix(']') else { return Comment::Unreadable(before) };
        match parse_inner(inner) {
            // Only the bytes that this program would write are its marker. Of two markers, either could be meant.
            Some(marker) if marker.to_string() == note && !before.contains(OPEN) => Comment::Marked(before, marker),
            _ => Comment::Unreadable(before),
        }
    }
}

fn parse_inner(inner: &str) -> Option<Marker> {
    let mut words = inner.split(' ');
    if words.next()? != VERSION {
        return None;
    }
    let kind = EvidenceKind::parse(words.next()?)?;
    let mut word = words.next()?;
    let by = match word.strip_prefix("by=") {
        Some(node) => {
            word = words.next()?;
            Some(node.parse().ok()?)
        }
        None => None,
    };
    let was = match Status::parse(word.strip_prefix("was=")?) {
        Status::Unknown(_) => return None,
        status => status,
    };
    words.next().is_none().then_some(Marker { kind, by, was })
}

/// The part of a comment that ProxySQL's runtime has, and the rest.
fn cut_at_nul(comment: &str) -> (&str, &str) {
    comment.split_at(comment.find('\0').unwrap_or(comment.len()))
}

/// The comment with this marker, which replaces a readable one.
pub fn mark(comment: &str, marker: &Marker) -> String {
    let (head, rest) = cut_at_nul(comment);
    let before = match Comment::parse(head) {
        Comment::Marked(before, _) => before,
        Comment::Plain | Comment::Unreadable(_) => head,
    };
    format!("{before}{marker}{rest}")
}

/// The comment without a readable marker: the operator's whole part.
pub fn unmarked(comment: &str) -> String {
    let (head, rest) = cut_at_nul(comment);
    match Comment::parse(head) {
        Comment::Marked(before, _) => format!("{before}{rest}"),
        Comment::Plain | Comment::Unreadable(_) => comment.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn superseded() -> Marker {
        Marker { kind: EvidenceKind::Superseded, by: Some("node02:3306".parse().unwrap()), was: Status::Online }
    }

    #[test]
    fn the_marker_is_the_text_that_the_design_names() {
        assert_eq!(mark("", &superseded()), " [stonith:1 superseded by=node02:3306 was=ONLINE]");
    }

    #[test]
    fn i3_an_operators_comment_survives_mark_and_parse_byte_for_byte() {
        for comment in ["", "rack 7", "it's \u{e9} [x]", "ends with space ", "was=ONLINE]", "[stonith: mine]"] {
            let marked = mark(comment, &superseded());
            assert_eq!(Comment::parse(&marked), Comment::Marked(comment, superseded()), "{comment:?}");
            assert_eq!(mark(&marked, &superseded()), marked, "one per row");
            assert_eq!((unmarked(&marked).as_str(), unmarked(comment).as_str()), (comment, comment));
        }
    }

    #[test]
    fn i3_a_note_stands_before_a_nul_where_proxysqls_runtime_cuts_the_comment() {
        let marked = mark("rack\0 7", &superseded());
        assert_eq!(marked, "rack [stonith:1 superseded by=node02:3306 was=ONLINE]\0 7");
        assert_eq!(Comment::parse(&marked), Comment::Marked("rack", superseded()));
        assert_eq!(mark(&marked, &superseded()), marked, "one per row");
        assert_eq!(unmarked(&marked), "rack\0 7");
    }

    #[test]
    fn i1_a_note_of_ours_that_cannot_be_read_is_neither_plain_nor_a_marker() {
        for text in [
            " [stonith:2 superseded was=ONLINE]",
            " [stonith:1 superseded was=SIDEWAYS]",
            " [stonith:1 dreamt was=ONLINE]",
            " [stonith:1 superseded by=node02 was=ONLINE]",
            " [stonith:1 superseded was=ONLINE",
            " [stonith:1 superseded  was=ONLINE]",
            " [stonith:1 superseded was=online]",
            " [stonith:1 superseded was=ONLINE] and more",
            " [stonith:1 superseded was=ONLINE] [stonith:1 isolation was=ONLINE]",
        ] {
            assert!(matches!(Comment::parse(text), Comment::Unreadable(_)), "{text}");
        }
    }
}
