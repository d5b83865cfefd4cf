//! Renders the config in force as a file that [`super::RawFile`] reads back, with the origin of each value.

use super::keys::{SECTIONS, Section};
use super::{Config, Origin, aliases};

/// A value in force, as `config check` shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Shown {
    /// The value as the config file has it; a secret is hidden.
    pub(super) value: String,
    /// The value's origin.
    pub(super) origin: Origin,
    /// Whether it is shown as a comment, because a config file cannot have it in this form.
    pub(super) is_comment: bool,
}

/// Renders the file.
pub(super) fn to_toml(config: &Config) -> String {
    let mut parts = Vec::new();
    for section in SECTIONS {
        let name = section.name;
        if section.repeats {
            let each = 0..config.proxies.len();
            parts.extend(
                each.map(|index| format!("[[{name}]]\n{}", lines(config, section, &format!("{name}[{index}]")))),
            );
        } else {
            let own = if name == "aliases" { aliases::lines(&config.aliases) } else { String::new() };
            parts.push(format!("[{name}]\n{own}{}", lines(config, section, name)));
        }
    }
    parts.join("\n")
}

fn lines(config: &Config, section: &Section, label: &str) -> String {
    let line = |name: &str| {
        let Shown { value, origin, is_comment } = config.shown.get(&format!("{label}.{name}"))?;
        // A path may contain a line break; a comment must not.
        let origin = origin.to_string().replace(char::is_control, "?");
        Some(format!("{}{name} = {value} # {origin}\n", if *is_comment { "# " } else { "" }))
    };
    section.keys.iter().filter_map(|key| line(key.name)).collect()
}
