//! Text that somebody else wrote, as it may go into a message.

/// The most characters of it.
const SHOWN_MAX_CHARS: usize = 200;

/// One line, bounded.
pub fn shown(text: &str) -> String {
    text.chars().take(SHOWN_MAX_CHARS).map(|c| if c.is_control() { ' ' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn foreign_text_is_shown_on_one_line_and_no_more_than_is_of_use() {
        assert_eq!(shown("a\r\nb\u{1b}[31m é"), "a  b [31m é");
        assert_eq!(shown(&"é".repeat(1_000)), "é".repeat(SHOWN_MAX_CHARS));
    }
}
