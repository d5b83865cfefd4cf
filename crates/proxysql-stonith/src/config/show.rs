//! Renders the config in force as a file that [`super::RawFile`] reads back, with the origin of each value.

use std::sync::Arc;

use super::aliases::{self, Aliases};
use super::keys::{SECTIONS, Section};
use super::{Config, Origin};

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
        let item = |index: usize| format!("[[{name}]]\n{}", lines(config, section, &format!("{name}[{index}]")));
        match name {
            "orchestrator" if config.orchestrators.iter().all(|one| one.name.is_some()) => {
                parts.extend((0..config.orchestrators.len()).map(item));
            }
            "proxysql" => {
                for index in 0..config.proxies.len() {
                    parts.push(item(index));
                    parts.extend(own_sections(config, index));
                }
            }
            "fence_agent" => parts.extend((0..config.fence_agents.agents.len()).map(item)),
            "aliases" => parts.push(format!("[{name}]\n{}", aliases::lines(&config.aliases))),
            _ => parts.push(format!("[{name}]\n{}", lines(config, section, name))),
        }
    }
    parts.join("\n")
}

/// The sections that a ProxySQL has of its own, each with everything that is in force there.
fn own_sections(config: &Config, index: usize) -> Vec<String> {
    let own_aliases: Option<&Arc<Aliases>> = config.proxies.get(index).map(|proxy| &proxy.aliases);
    let own_aliases = own_aliases.filter(|own| !Arc::ptr_eq(own, &config.aliases));
    let text = |section: &Section| match section.name {
        "aliases" => own_aliases.map(|own| aliases::lines(own)).unwrap_or_default(),
        name => lines(config, section, &format!("proxysql[{index}].{name}")),
    };
    let own = SECTIONS.iter().filter(|section| section.per_proxy).map(|section| (section.name, text(section)));
    own.filter(|(_, text)| !text.is_empty()).map(|(name, text)| format!("[proxysql.{name}]\n{text}")).collect()
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
