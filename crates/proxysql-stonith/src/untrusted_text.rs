//! Text that somebody else wrote, as it may go into a message.

use std::error::Error as StdError;

use crate::bytes::byte_of;

/// The most characters of it.
const SHOWN_MAX_CHARS: usize = 200;

/// One line, bounded. A byte that is not UTF-8 shows as `\xFC`.
pub fn one_line(text: &str) -> String {
    line_of(text, SHOWN_MAX_CHARS)
}

/// One line of so many characters at most.
pub fn line_of(text: &str, most: usize) -> String {
    let mut line = String::new();
    for letter in text.chars().take(most) {
        match byte_of(letter) {
            Some(byte) => line.push_str(&format!("\\x{byte:02X}")),
            None => line.push(if is_obeyed(letter) { ' ' } else { letter }),
        }
    }
    line
}

/// An error with all that caused it, on one bounded line.
pub fn whole_cause(error: &(dyn StdError + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let also = error.to_string();
        if !text.ends_with(&also) {
            text = format!("{text}: {also}");
        }
        cause = error.source();
    }
    one_line(&text)
}

/// Text of several lines for a terminal: nothing in it moves the cursor, sets a colour or turns the direction of writing.
pub fn plain(text: &str) -> String {
    text.chars().map(|c| if is_obeyed(c) && c != '\n' { ' ' } else { c }).collect()
}

/// Whether a terminal or a reader of logs does something else with it than show it: control characters, separators of
/// lines, marks that turn the direction of writing.
pub fn is_obeyed(letter: char) -> bool {
    letter.is_control() || matches!(letter, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_goes_to_a_terminal_keeps_its_lines_and_nothing_that_a_terminal_obeys() {
        assert_eq!(plain("a\nb\u{1b}[31m\rc\u{202e}d\u{9b}2J é"), "a\nb [31m c d 2J é");
    }

    #[test]
    fn foreign_text_is_shown_on_one_line_and_no_more_than_is_of_use() {
        assert_eq!(one_line("a\r\nb\u{1b}[31m é\u{202e}"), "a  b [31m é ");
        assert_eq!(one_line(&"é".repeat(1_000)), "é".repeat(SHOWN_MAX_CHARS));
        assert_eq!(one_line(&crate::bytes::to_text(b"B\xFCro".to_vec())), r"B\xFCro");
    }
}
