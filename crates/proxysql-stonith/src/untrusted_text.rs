//! Makes text from other programs safe to show in a message.

use std::error::Error as StdError;

use crate::bytes::byte_of;

/// The largest number of characters that are shown.
const SHOWN_MAX_CHARS: usize = 200;

/// The text as one bounded line. A byte that is not UTF-8 shows as `\xFC`.
pub fn one_line(text: &str) -> String {
    line_of(text, SHOWN_MAX_CHARS)
}

/// The text as one line of at most this many characters.
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

/// An error with all its sources, as one bounded line.
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

/// Text of several lines that is safe on a terminal: it moves no cursor, sets no colour, turns no writing direction.
pub fn plain(text: &str) -> String {
    text.chars().map(|c| if is_obeyed(c) && c != '\n' { ' ' } else { c }).collect()
}

/// Whether a terminal or log reader obeys the character instead of showing it.
///
/// These are control characters, line separators, and marks that turn the writing direction.
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
