//! Which user and which password, out of the layers flag, environment, file.

use std::path::Path;

use super::origin::{ConfigError, Origin, Sourced};
use super::secrets::{CredentialSource, SecretSource};

/// What one layer says.
#[derive(Default)]
pub(super) struct Layer {
    pub(super) user: Option<Sourced<String>>,
    pub(super) password: Option<Sourced<SecretSource>>,
}

/// A credential, and where its parts came from.
pub(super) struct Chosen {
    pub(super) credential: CredentialSource,
    pub(super) user: Option<Origin>,
    pub(super) password: Origin,
}

/// Takes the password of the highest layer that has one, and the highest user. An option file's own user wins over
/// users of lower layers.
///
/// # Errors
/// A user without a password, a password without a user, or one that can't be read.
pub(super) fn choose(layers: [Layer; 3], key: &str) -> Result<Option<Chosen>, ConfigError> {
    let Some(at) = layers.iter().position(|layer| layer.password.is_some()) else {
        return match layers.into_iter().find_map(|layer| layer.user) {
            None => Ok(None),
            Some(user) => {
                Err(ConfigError::new(user.origin, &format!("{key}.user"), "there is no password for this user"))
            }
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
    check(&credential)
        .map_err(|problem| ConfigError::new(password.origin.clone(), &format!("{key}.password"), problem))?;
    Ok(Some(Chosen { credential, user: origin, password: password.origin }))
}

fn check(credential: &CredentialSource) -> Result<(), String> {
    match &credential.password {
        // Just read; only the user can be missing.
        SecretSource::ConfigFile { .. } if credential.user.is_some() => Ok(()),
        SecretSource::ConfigFile { .. } => Err("no user is given with the password".to_owned()),
        _ => credential.read().map(drop).map_err(|error| error.to_string()),
    }
}

/// Whether an option file has a group with a password; an unreadable one is an error where it is needed.
pub(super) fn has_password(path: &Path, group: &'static str) -> bool {
    let password = SecretSource::OptionFile { path: path.to_owned(), group };
    CredentialSource { user: Some(String::new()), fallback_user: None, password }.read().is_ok()
}
