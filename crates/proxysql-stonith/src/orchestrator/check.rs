//! Whether each endpoint answers, for `config check --connect`.

use futures_util::future::join_all;

use super::{Client, Probe, Settings, TlsError};

/// What an endpoint said: whether it leads, or why that is not known.
pub type Said = Result<bool, String>;

/// Asks every endpoint by itself, all at once, so that each is waited for as long as it may take.
///
/// # Errors
/// A certificate or key can't be read.
pub async fn check(settings: &Settings) -> Result<Vec<(String, Said)>, TlsError> {
    let alone = |endpoint| Client::new(Settings { endpoints: vec![endpoint], ..settings.clone() });
    let clients = settings.endpoints.iter().cloned().map(alone).collect::<Result<Vec<_>, _>>()?;
    let names = settings.endpoints.iter().map(ToString::to_string);
    let said = clients.into_iter().map(|mut client| async move {
        match client.probe().await.pop() {
            Some(Probe::Leads) => Ok(true),
            Some(Probe::Follows) => Ok(false),
            Some(Probe::Failed(error)) => Err(error.to_string()),
            Some(Probe::Pending) | None => Err("it did not answer in time".to_owned()),
        }
    });
    Ok(names.zip(join_all(said).await).collect())
}
