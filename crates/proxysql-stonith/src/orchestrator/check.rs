//! Asks whether each endpoint answers, for `config check --connect`.

use futures_util::future::join_all;

use super::came_back::CameBack;
use super::{Client, Settings, TlsError};

/// Whether an endpoint leads, or why that is unknown.
pub type Said = Result<bool, String>;

/// Asks all endpoints at the same time. Each one may take its full timeout.
///
/// # Errors
/// A certificate or key can't be read.
pub async fn check(settings: &Settings) -> Result<Vec<(String, Said)>, TlsError> {
    let alone = |endpoint| Client::new(Settings { endpoints: vec![endpoint], ..settings.clone() });
    let clients = settings.endpoints.iter().cloned().map(alone).collect::<Result<Vec<_>, _>>()?;
    let names = settings.endpoints.iter().map(ToString::to_string);
    let said = clients.into_iter().map(|mut client| async move {
        let mut came_back = [CameBack::Pending];
        client.probe(&mut came_back).await;
        match came_back {
            [CameBack::Leads] => Ok(true),
            [one] if one.does_not_lead() => Ok(false),
            [CameBack::Failed(error)] => Err(error.to_string()),
            _ => Err("it did not answer in time".to_owned()),
        }
    });
    Ok(names.zip(join_all(said).await).collect())
}
