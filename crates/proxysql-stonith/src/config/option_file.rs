//! Reads user and password from a MySQL option file (`.my.cnf`), as MySQL's own clients do.

use crate::secret::Secret;

/// User and password of one group in an option file.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct OptionGroup {
    /// The value of `user`.
    pub user: Option<String>,
    /// The value of `password`.
    pub password: Option<Secret>,
}

/// Reads a group, such as `[client]`. Later lines win; other groups and options are ignored.
///
/// `!include` is not followed: other users might read the included file.
pub fn read_group(text: &str, group: &str) -> OptionGroup {
    let mut found = OptionGroup::default();
    let mut here = false;
    for line in text.lines() {
        let line = line.trim();
        if let Some(rest) = line.strip_prefix('[') {
            here = rest.split(']').next().is_some_and(|name| name.trim() == group);
            continue;
        }
        if !here {
            continue;
        }
        let Some((key, value)) = without_comment(line).split_once('=') else { continue };
        match key.trim() {
            "user" => found.user = Some(unquote(value.trim())),
            "password" => found.password = Some(Secret::new(unquote(value.trim()))),
            _ => {}
        }
    }
    found
}

/// The line without its comment, which begins at a `#` outside of quotes.
fn without_comment(line: &str) -> &str {
    let mut quote = None;
    let mut escaped = false;
    for (at, letter) in line.char_indices() {
        if matches!(letter, '\'' | '"') && !escaped {
            quote = match quote {
                None => Some(letter),
                Some(open) if open == letter => None,
                open => open,
            };
        }
        if quote.is_none() && letter == '#' {
            return &line[..at];
        }
        escaped = quote.is_some() && letter == '\\' && !escaped;
    }
    line
}

/// Removes the quotes, and resolves escapes such as `\n`, `\t` and `\s`.
fn unquote(value: &str) -> String {
    let quoted = ['\'', '"'].into_iter().find_map(|quote| value.strip_prefix(quote)?.strip_suffix(quote));
    let mut text = String::new();
    let mut letters = quoted.unwrap_or(value).chars();
    while let Some(letter) = letters.next() {
        if letter != '\\' {
            text.push(letter);
            continue;
        }
        match letters.next() {
            Some('n') => text.push('\n'),
            Some('t') => text.push('\t'),
            Some('r') => text.push('\r'),
            Some('b') => text.push('\u{8}'),
            Some('s') => text.push(' '),
            Some(same @ ('\\' | '"' | '\'')) => text.push(same),
            Some(other) => text.extend(['\\', other]),
            None => text.push('\\'),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mysql_option_file_is_read_as_mysql_reads_it() {
        let password = |line: &str| {
            let text = format!("[mysqld]\npassword=wrong\n[client]\nuser = admin\n{line}\n[mysqldump]\npassword=no\n");
            let group = read_group(&text, "client");
            assert_eq!(group.user.as_deref(), Some("admin"), "{line}");
            group.password.map(|secret| secret.expose().to_owned())
        };
        for (line, expected) in [
            ("password=plain", "plain"),
            ("password = spaced # and a comment", "spaced"),
            ("password='a#b'", "a#b"),
            ("password=\"a b\" # comment", "a b"),
            ("password=\"ab\" # comment", "ab"),
            ("password='ab' # comment", "ab"),
            (r"password=a\sb\\c", r"a b\c"),
            ("password=a=b;c", "a=b;c"),
            ("password=first\npassword=second", "second"),
            ("password=", ""),
            (r#"password="say \"hi\"""#, "say \"hi\""),
        ] {
            assert_eq!(password(line).as_deref(), Some(expected), "{line}");
        }
        for line in ["#password=x", ";password=x", "password", "!include /etc/x"] {
            assert_eq!(password(line), None, "{line}");
        }
    }

    #[test]
    fn a_second_group_can_carry_orchestrators_credential() {
        let text = "[client]\nuser=a\npassword=b\n[orchestrator]\nuser=c\npassword=d\n";
        let group = read_group(text, "orchestrator");
        assert_eq!((group.user.as_deref(), group.password), (Some("c"), Some(Secret::new("d"))));
    }
}
