//! `[aliases]`: the instance in Orchestrator of each row in ProxySQL that has another name.

use std::collections::BTreeMap;

use stonith_core::node::Node;
use toml::de::{DeTable, DeValue};

use super::origin::{ConfigError, Origin, Sourced};

/// The port of a name without one.
const MYSQL_PORT: u16 = 3306;

/// The instance of each row, with the place of the line.
pub(super) type Aliases = BTreeMap<Node, Sourced<Node>>;

/// Reads the section. `at` gives the place of a byte in the file.
pub(super) fn read(table: DeTable<'_>, at: impl Fn(usize) -> Origin) -> Result<Aliases, ConfigError> {
    let mut aliases = Aliases::new();
    let mut lines: Vec<_> = table.into_iter().collect();
    lines.sort_by_key(|(row, _)| row.span().start);
    for (row, instance) in lines {
        let origin = at(row.span().start);
        let wrong = |problem: String| ConfigError::new(origin.clone(), "aliases", problem);
        let DeValue::String(instance) = instance.get_ref() else {
            let problem =
                format!("expected an instance, such as \"db1:3306\"; found {}", instance.get_ref().type_str());
            return Err(wrong(problem));
        };
        let (row, instance) = (node(row.get_ref()).map_err(&wrong)?, node(instance).map_err(&wrong)?);
        let alias = Sourced::new(instance, origin.clone());
        if let Some(first) = aliases.insert(row.clone(), alias) {
            return Err(wrong(format!("{row} is listed twice; the first is at {}", first.origin)));
        }
    }
    Ok(aliases)
}

/// A node, on MySQL's port unless the text has one. An IPv6 address may be without brackets if it has no port.
pub(super) fn node(text: &str) -> Result<Node, String> {
    let is_address = text.parse::<std::net::Ipv6Addr>().is_ok();
    let without_port = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    let node = match is_address || without_port != text || !text.contains(':') {
        true => Node::new(without_port, MYSQL_PORT),
        false => text.parse(),
    };
    node.map_err(|error| error.to_string())
}

/// The lines of the section in a config file.
pub(super) fn lines(aliases: &Aliases) -> String {
    let line = |(row, instance): (&Node, &Sourced<Node>)| {
        let origin = instance.origin.to_string().replace(char::is_control, "?");
        format!("\"{row}\" = \"{}\" # {origin}\n", instance.value)
    };
    aliases.iter().map(line).collect()
}
