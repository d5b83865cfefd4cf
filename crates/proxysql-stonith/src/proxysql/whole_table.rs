//! A whole table in its three layers.

use stonith_core::apply::Place;
use stonith_core::lending::Layers;
use stonith_core::table::{Content, Table};

use super::admin::{Admin, AdminError};
use super::answers::{NotUnderstood, content};
use super::sql;

/// Why a table was not read.
#[derive(Debug, thiserror::Error)]
pub enum TableError {
    /// ProxySQL refused a statement, or was not reached.
    #[error(transparent)]
    Admin(#[from] AdminError),
    /// A table has an odd record.
    #[error(transparent)]
    NotUnderstood(#[from] NotUnderstood),
}

/// Reads the three layers of a table. Columns that only runtime has are left out.
///
/// # Errors
/// ProxySQL was not read, or does not have the table.
pub async fn read_layers(admin: &mut Admin, table: Table) -> Result<Layers, TableError> {
    let memory = read(admin, Place::Memory, table, &[]).await?;
    Ok(Layers {
        runtime: read(admin, Place::Runtime, table, &memory.columns).await?,
        disk: read(admin, Place::Disk, table, &memory.columns).await?,
        memory,
    })
}

async fn read(admin: &mut Admin, place: Place, table: Table, columns: &[String]) -> Result<Content, TableError> {
    let answer = admin.query(&sql::whole(place, table, columns)).await?;
    Ok(content(table, answer)?)
}

/// Reads the default of each column of a table in memory.
///
/// # Errors
/// ProxySQL was not read.
pub async fn column_defaults(
    admin: &mut Admin,
    table: Table,
) -> Result<impl Iterator<Item = (String, Option<String>)> + use<>, TableError> {
    let records = admin.query(&sql::column_defaults(table)).await?.records;
    Ok(records.into_iter().filter_map(|record| {
        let [Some(name), default] = record.as_slice() else { return None };
        // SQLite gives the default as it stands in the definition: a text has its quotes.
        let default = default.as_ref().map(|text| {
            let quoted = text.strip_prefix('\'').and_then(|text| text.strip_suffix('\''));
            quoted.map_or_else(|| text.clone(), |text| text.replace("''", "'"))
        });
        Some((name.clone(), default))
    }))
}
