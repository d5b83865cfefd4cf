//! `[[fence_agent]]`: the programs that power nodes off, and the nodes of each.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

use stonith_core::evidence::EvidenceKind;
use stonith_core::node::Node;
use stonith_core::node_fence::power::ALLOWED;

use super::definition::About;
use super::file::{RawFile, is_name};
use super::keys;
use super::layers::Layers;
use super::origin::ConfigError;
use super::secrets::read_whole_file;
use super::value::{Value, Written, Wrong, quoted};
use super::{ADDRESSES_MAX, aliases};

/// How the fenced node is powered off.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FenceAgentsConfig {
    /// The kinds of evidence for which agents run; none by default.
    pub kinds: Vec<EvidenceKind>,
    /// Whether they run though the read-only level may do.
    pub always: bool,
    /// How long the read-only level may take.
    pub read_only_wait: Duration,
    /// Whether all but `off` is done.
    pub dry_run: bool,
    /// The agents, in order.
    pub agents: Vec<FenceAgentConfig>,
}

/// One `[[fence_agent]]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FenceAgentConfig {
    /// Its name.
    pub name: String,
    /// The program.
    pub program: PathBuf,
    /// What each of its nodes is there.
    pub nodes: BTreeMap<Node, Parameters>,
    /// What is the same for every node.
    pub parameters: Parameters,
    /// The files with its secrets.
    pub secret_files: SecretFiles,
    /// The pause before its first try.
    pub delay: Duration,
    /// How often it is tried again.
    pub retries: u32,
    /// The longest run.
    pub timeout: Duration,
}

/// Parameters of an agent by their names.
pub type Parameters = BTreeMap<String, String>;

/// Files with secret parameters of an agent, by the parameters' names.
pub type SecretFiles = BTreeMap<String, PathBuf>;

/// Words in the name of a parameter that is a secret.
const SECRETS: [&str; 3] = ["passw", "secret", "token"];

/// The parameters of one agent may have this many bytes: a pipe takes them at once.
pub const INPUT_MAX_BYTES: usize = 4_096;

impl FenceAgentsConfig {
    /// The agents of a node, in order.
    pub fn of<'a>(&'a self, node: &'a Node) -> impl Iterator<Item = &'a FenceAgentConfig> {
        self.agents.iter().filter(move |agent| agent.nodes.contains_key(node))
    }
}

impl FenceAgentConfig {
    /// The parameters for a node, but the secret ones. What is set for the node wins.
    pub fn parameters_of(&self, node: &Node) -> Parameters {
        let own = self.nodes.get(node).into_iter().flatten();
        self.parameters.iter().chain(own).map(|(name, value)| (name.clone(), value.clone())).collect()
    }
}

/// Reads and checks the agents.
pub(super) fn resolve(at: &mut Layers<'_>, raw: &RawFile) -> Result<FenceAgentsConfig, ConfigError> {
    let mut agents: Vec<FenceAgentConfig> = Vec::new();
    let mut seen: BTreeMap<(PathBuf, Parameters), Node> = BTreeMap::new();
    for (index, table) in raw.repeated(keys::FENCE_AGENT_NAME.about.section).enumerate() {
        let mut of_agent = at.of_item(keys::FENCE_AGENT_NAME.about.section, index, Some(table));
        let agent = agent(&mut of_agent)?;
        let wrong = |key: &About, problem: String| ConfigError::new(of_agent.origin(key), &of_agent.name(key), problem);
        if agents.iter().any(|other| other.name == agent.name) {
            return Err(wrong(&keys::FENCE_AGENT_NAME.about, format!("two agents have the name {:?}", agent.name)));
        }
        for node in agent.nodes.keys() {
            let program = std::fs::canonicalize(&agent.program).unwrap_or_else(|_| agent.program.clone());
            match seen.insert((program, agent.parameters_of(node)), node.clone()) {
                Some(other) if other != *node => {
                    let problem = format!("{node} and {other} have the same parameters; one of them is another node");
                    return Err(wrong(&keys::FENCE_AGENT_NODES.about, problem));
                }
                _ => {}
            }
        }
        at.shown.append(&mut of_agent.shown);
        agents.push(agent);
    }
    let key = &keys::NODE_FENCE_FENCE_AGENT.about;
    let kinds = at.find(&keys::NODE_FENCE_FENCE_AGENT)?.unwrap_or_default();
    let wrong = |at: &Layers<'_>, problem: String| Err(ConfigError::new(at.origin(key), &key.full_name(), problem));
    if let Some(kind) = kinds.iter().find(|kind| !ALLOWED.contains(kind)) {
        let allowed = ALLOWED.map(|kind| format!("\"{kind}\"")).join(" or ");
        return wrong(at, format!("no node is powered off for \"{kind}\"; expected {allowed}"));
    }
    if !kinds.is_empty() && agents.is_empty() {
        return wrong(at, "expected a [[fence_agent]] with it".to_owned());
    }
    Ok(FenceAgentsConfig {
        kinds,
        always: at.get(&keys::NODE_FENCE_FENCE_AGENT_ALWAYS)?,
        read_only_wait: at.get(&keys::NODE_FENCE_READ_ONLY_WAIT)?,
        dry_run: at.get(&keys::NODE_FENCE_FENCE_AGENT_DRY_RUN)?,
        agents,
    })
}

fn agent(at: &mut Layers<'_>) -> Result<FenceAgentConfig, ConfigError> {
    let (name, program) = (at.find(&keys::FENCE_AGENT_NAME)?, at.find(&keys::FENCE_AGENT_PROGRAM)?);
    let nodes = at.find(&keys::FENCE_AGENT_NODES)?.unwrap_or_default();
    let missing = |key: &About| {
        let problem = "missing; expected name, program and nodes in each [[fence_agent]]";
        ConfigError::new(at.origin(&keys::FENCE_AGENT_NAME.about), &at.name(key), problem)
    };
    let name = name.ok_or_else(|| missing(&keys::FENCE_AGENT_NAME.about))?;
    let program = program.ok_or_else(|| missing(&keys::FENCE_AGENT_PROGRAM.about))?;
    if nodes.is_empty() {
        return Err(missing(&keys::FENCE_AGENT_NODES.about));
    }
    let agent = FenceAgentConfig {
        name,
        program,
        nodes,
        parameters: at.find(&keys::FENCE_AGENT_PARAMETERS)?.unwrap_or_default(),
        secret_files: at.find(&keys::FENCE_AGENT_SECRET_FILES)?.unwrap_or_default(),
        delay: at.find(&keys::FENCE_AGENT_DELAY)?.unwrap_or_default(),
        retries: u32::try_from(at.get(&keys::FENCE_AGENT_RETRIES)?).unwrap_or_default(),
        timeout: at.get(&keys::FENCE_AGENT_TIMEOUT)?,
    };
    let wrong = |key: &About, problem: String| Err(ConfigError::new(at.origin(key), &at.name(key), problem));
    if !is_name(&agent.name) {
        let problem = "is no name; expected 1 to 64 letters, digits, \"-\", \"_\" and \".\", such as \"ipmi\"";
        return wrong(&keys::FENCE_AGENT_NAME.about, problem.to_owned());
    }
    if let Err(problem) = executable(&agent.program) {
        return wrong(&keys::FENCE_AGENT_PROGRAM.about, problem);
    }
    let names: BTreeSet<&String> = agent.nodes.values().chain([&agent.parameters]).flat_map(BTreeMap::keys).collect();
    if let Some(name) = agent.secret_files.keys().find(|name| names.contains(name)) {
        return wrong(&keys::FENCE_AGENT_SECRET_FILES.about, format!("{name:?} is a plain parameter too"));
    }
    for path in agent.secret_files.values() {
        if let Err(error) = read_whole_file(path, "secret") {
            return wrong(&keys::FENCE_AGENT_SECRET_FILES.about, error.to_string());
        }
    }
    Ok(agent)
}

fn executable(program: &Path) -> Result<(), String> {
    let shown = program.display();
    match std::fs::metadata(program) {
        Err(error) => Err(format!("{shown}: {error}")),
        Ok(meta) if !meta.is_file() => Err(format!("{shown} is not a file")),
        Ok(_) => rustix::fs::access(program, rustix::fs::Access::EXEC_OK)
            .map_err(|_| format!("{shown} is not executable by this user")),
    }
}

/// Checks the name of a parameter.
fn check_name(name: &str, is_secret: bool) -> Result<(), String> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_".contains(c);
    if name.is_empty() || name.len() > 64 || !name.chars().all(is_plain) {
        let shown: String = name.chars().take(40).collect();
        return Err(format!("{shown:?} is no name of a parameter; expected letters, digits, \"-\" and \"_\""));
    }
    if name == "action" {
        return Err("the program itself says the action; delete it".to_owned());
    }
    let names_a_file = ["_file", "_script"].iter().any(|end| name.ends_with(end));
    let is_like_one = SECRETS.iter().any(|word| name.to_ascii_lowercase().contains(word));
    match is_like_one && !names_a_file && !is_secret {
        true => Err(format!("{name:?} is a secret; expected it in secret_files, such as {{ {name} = \"/path\" }}")),
        false => Ok(()),
    }
}

impl Value for Parameters {
    const KIND: &'static str = "table of texts";
    const EXPECTED: &'static str = "a table, such as { plug = \"3\", lanplus = true }";

    fn from_text(_: &str) -> Result<Self, String> {
        Err("expected a table in the config file".to_owned())
    }

    fn from_file(written: &Written, _folder: &Path) -> Result<Self, Wrong> {
        let mut all = Self::new();
        for (name, value) in written.table()? {
            check_name(name, false)?;
            let value = match value {
                Written::Text(text) => text.expose().to_owned(),
                Written::Number(Some(number)) => number.to_string(),
                Written::Boolean(value) => value.to_string(),
                other => return Err(format!("{name}: expected a text, found {}", other.type_name()).into()),
            };
            if value.contains(char::is_control) {
                return Err(format!("{name}: expected a text of one line").into());
            }
            all.insert(name.clone(), value);
        }
        match all.iter().map(|(name, value)| name.len() + value.len() + 2).sum::<usize>() > INPUT_MAX_BYTES / 4 {
            true => Err(format!("the parameters have more than {} bytes", INPUT_MAX_BYTES / 4).into()),
            false => Ok(all),
        }
    }

    fn to_toml(&self) -> String {
        table(self.iter().map(|(name, value)| (name.clone(), quoted(value))))
    }
}

impl Value for SecretFiles {
    const KIND: &'static str = "table of paths";
    const EXPECTED: &'static str = "a table, such as { password = \"/etc/ipmi.password\" }";

    fn from_text(_: &str) -> Result<Self, String> {
        Err("expected a table in the config file".to_owned())
    }

    fn from_file(written: &Written, folder: &Path) -> Result<Self, Wrong> {
        let mut all = Self::new();
        for (name, value) in written.table()? {
            check_name(name, true)?;
            all.insert(name.clone(), PathBuf::from_file(value, folder)?);
        }
        Ok(all)
    }

    fn to_toml(&self) -> String {
        table(self.iter().map(|(name, path)| (name.clone(), path.to_toml())))
    }
}

impl Value for BTreeMap<Node, Parameters> {
    const KIND: &'static str = "table of tables";
    const EXPECTED: &'static str = "a table, such as { \"db1:3306\" = { plug = \"3\" } }";

    fn from_text(_: &str) -> Result<Self, String> {
        Err("expected a table in the config file".to_owned())
    }

    fn from_file(written: &Written, folder: &Path) -> Result<Self, Wrong> {
        let mut all = Self::new();
        for (name, value) in written.table()? {
            let node = aliases::node(name)?;
            if all.insert(node.clone(), Parameters::from_file(value, folder)?).is_some() {
                return Err(format!("{node} is listed twice").into());
            }
        }
        match all.len() > ADDRESSES_MAX {
            true => Err(format!("more than {ADDRESSES_MAX} nodes").into()),
            false => Ok(all),
        }
    }

    fn to_toml(&self) -> String {
        table(self.iter().map(|(node, parameters)| (quoted(&node.to_string()), parameters.to_toml())))
    }
}

fn table(items: impl Iterator<Item = (String, String)>) -> String {
    let items: Vec<String> = items.map(|(name, value)| format!("{name} = {value}")).collect();
    if items.is_empty() { "{}".to_owned() } else { format!("{{ {} }}", items.join(", ")) }
}
