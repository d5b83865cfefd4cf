//! Finds the user and the password of a credential in flag, environment and file.

use std::path::{Path, PathBuf};

use super::definition::Key;
use super::keys;
use super::layers::Layers;
use super::origin::{ConfigError, Origin, Sourced};
use super::secrets::{CredentialSource, PasswordOf, SecretSource};
use super::value::Value;
use crate::secret::Secret;

/// The keys of one credential.
pub(super) struct Login {
    user: &'static Key<String>,
    password: &'static Key<Secret>,
    password_file: &'static Key<PathBuf>,
    /// The credential's group in a MySQL option file.
    group: &'static str,
    /// Whether the option file may lack the group.
    group_is_optional: bool,
}

/// The keys of ProxySQL's admin credential.
pub(super) static ADMIN: Login = Login {
    user: &keys::PROXYSQL_USER,
    password: &keys::PROXYSQL_PASSWORD,
    password_file: &keys::PROXYSQL_PASSWORD_FILE,
    group: "client",
    group_is_optional: false,
};

/// The keys of Orchestrator's basic auth.
pub(super) static ORCHESTRATOR: Login = Login {
    user: &keys::ORCHESTRATOR_USER,
    password: &keys::ORCHESTRATOR_PASSWORD,
    password_file: &keys::ORCHESTRATOR_PASSWORD_FILE,
    group: "orchestrator",
    group_is_optional: true,
};

/// Finds the credential in force and notes its origins; `file` is the config file.
///
/// # Errors
/// One layer has two sources of the password, the user or the password is missing, or the source can't be read.
pub(super) fn find(
    at: &mut Layers<'_>,
    login: &Login,
    file: Option<&Path>,
) -> Result<Option<CredentialSource>, ConfigError> {
    let option_file = |path: Sourced<PathBuf>| {
        let is_there = !login.group_is_optional || has_password(&path.value, login.group);
        is_there.then(|| path.map(|path| SecretSource::OptionFile { path, group: login.group }))
    };
    let in_env = at.env(&keys::DEFAULTS_FILE)?;
    let given = at.env(login.password)?.map(|secret| secret.map(SecretSource::Given));
    if let (Some(_), Some(named), false) = (&given, &in_env, login.group_is_optional) {
        let problem = format!("{} is set too; expected one of them", login.password.about.env.join(" or "));
        return Err(ConfigError::new(named.origin.clone(), &keys::DEFAULTS_FILE.about.full_name(), problem));
    }
    let written = match (at.file(login.password)?, file) {
        (Some(secret), Some(file)) => {
            // The address as the file spells it: a flag may spell it differently.
            let section = match at.file(&keys::ADDRESS)? {
                Some(address) => PasswordOf::ProxySql(address.value),
                None => PasswordOf::Orchestrator(at.file(&keys::ORCHESTRATOR_NAME)?.map(|name| name.value)),
            };
            Some(secret.map(|_| SecretSource::ConfigFile { path: file.to_owned(), section }))
        }
        _ => match at.file(login.password_file)? {
            Some(path) => Some(path.map(SecretSource::File)),
            None => at.file(&keys::DEFAULTS_FILE)?.and_then(option_file),
        },
    };
    let layers = [
        Layer { user: None, password: at.flag(&keys::DEFAULTS_FILE)?.and_then(option_file) },
        Layer { user: at.env(login.user)?, password: given.or(in_env.and_then(option_file)) },
        Layer { user: at.file(login.user)?, password: written },
    ];
    let names = [at.name(&login.user.about), at.name(&login.password.about)];
    let Some(chosen) = choose(layers, names)? else { return Ok(None) };
    note(at, login, &chosen);
    Ok(Some(chosen.credential))
}

/// The place that gives a user or password of Orchestrator above the config file.
pub(super) fn option_file_of_orchestrator(at: &Layers<'_>) -> Result<Option<Origin>, ConfigError> {
    let named = at.flag(&keys::DEFAULTS_FILE)?.or(at.env(&keys::DEFAULTS_FILE)?);
    Ok(named.filter(|path| has_password(&path.value, ORCHESTRATOR.group)).map(|path| path.origin))
}

/// Notes the origin of user and password.
fn note(at: &mut Layers<'_>, login: &Login, chosen: &Chosen) {
    let Chosen { credential, user, password } = chosen;
    let name = credential.user.as_ref().or(credential.fallback_user.as_ref());
    if let (Some(name), Some(origin)) = (name, user) {
        at.note(&login.user.about, name.to_toml(), origin.clone());
    }
    let origin = password.clone();
    match &credential.password {
        SecretSource::Given(secret) => at.note(&login.password.about, secret.to_toml(), origin),
        SecretSource::ConfigFile { .. } => at.note(&login.password.about, Secret::new("").to_toml(), origin),
        SecretSource::File(path) => at.note(&login.password_file.about, path.to_toml(), origin),
        SecretSource::OptionFile { path, .. } if !login.group_is_optional => {
            at.note(&keys::DEFAULTS_FILE.about, path.to_toml(), origin);
        }
        SecretSource::OptionFile { path, group } => {
            at.remark(&login.password.about, format!("\"***\", in [{group}] of {}", path.to_toml()), origin);
        }
    }
}

/// The user and the password of one layer.
struct Layer {
    user: Option<Sourced<String>>,
    password: Option<Sourced<SecretSource>>,
}

/// A credential with the origins of its parts.
struct Chosen {
    credential: CredentialSource,
    user: Option<Origin>,
    password: Origin,
}

/// Takes the password and the user of the highest layer that has one.
///
/// A user in an option file wins over users of lower layers.
///
/// # Errors
/// The user or the password is missing, or the source can't be read.
fn choose(layers: [Layer; 3], [user_key, password_key]: [String; 2]) -> Result<Option<Chosen>, ConfigError> {
    let Some(at) = layers.iter().position(|layer| layer.password.is_some()) else {
        return match layers.into_iter().find_map(|layer| layer.user) {
            None => Ok(None),
            Some(user) => Err(ConfigError::new(user.origin, &user_key, "there is no password for this user")),
        };
    };
    let in_option_file = matches!(&layers[at].password, Some(Sourced { value: SecretSource::OptionFile { .. }, .. }));
    let mut users = [None, None];
    let mut chosen = None;
    for (index, layer) in layers.into_iter().enumerate() {
        let below = usize::from(in_option_file && index > at);
        users[below] = users[below].take().or(layer.user);
        chosen = chosen.or(layer.password);
    }
    let [user, fallback] = users;
    let Some(password) = chosen else { return Ok(None) };
    let origin = user.as_ref().or(fallback.as_ref()).map(|user| user.origin.clone());
    let credential = CredentialSource {
        user: user.map(|user| user.value),
        fallback_user: fallback.map(|user| user.value),
        password: password.value,
    };
    check(&credential).map_err(|problem| ConfigError::new(password.origin.clone(), &password_key, problem))?;
    Ok(Some(Chosen { credential, user: origin, password: password.origin }))
}

fn check(credential: &CredentialSource) -> Result<(), String> {
    match &credential.password {
        // The config file was read already, so only the user can be missing.
        SecretSource::ConfigFile { .. } if credential.user.is_some() => Ok(()),
        _ => credential.read().map(drop).map_err(|error| error.to_string()),
    }
}

/// Whether an option file has a readable password in the group. An unreadable file is an error only where it is needed.
fn has_password(path: &Path, group: &'static str) -> bool {
    let password = SecretSource::OptionFile { path: path.to_owned(), group };
    CredentialSource { user: Some(String::new()), fallback_user: None, password }.read().is_ok()
}
