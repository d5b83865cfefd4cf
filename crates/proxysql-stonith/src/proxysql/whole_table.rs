//! A whole table in its three layers, and one record of it changed without a word of what others have staged (I6).

use stonith_core::apply::Place;
use stonith_core::lending::{Layers, Lending, changes};
use stonith_core::table::{Change, Content, Record, Table};

use super::admin::{Admin, AdminError};
use super::answers::{NotUnderstood, content};
use super::sql;

/// The scheduler's table.
pub const SCHEDULER: Table = match Table::new("scheduler", 1) {
    Some(table) => table,
    None => panic!("a plain word"),
};

/// Why a table was not read or not changed.
#[derive(Debug, thiserror::Error)]
pub enum TableError {
    /// ProxySQL refused a statement, or was not reached.
    #[error(transparent)]
    Admin(#[from] AdminError),
    /// A table has an odd record.
    #[error(transparent)]
    NotUnderstood(#[from] NotUnderstood),
    /// Somebody edited the table meanwhile. Their edits are as they made them.
    #[error("somebody edits {0} at this moment; nothing was loaded and their edits are kept: try again")]
    Edited(&'static str),
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

/// Reads the scheduler's layers. What an install that was cut off had lent is put back first.
///
/// # Errors
/// ProxySQL was not read.
pub async fn read_scheduler(admin: &mut Admin) -> Result<Layers, TableError> {
    let names = admin.query(sql::NAMES).await?;
    let is_kept = names.records.iter().any(|name| name[0].as_deref() == Some(sql::SCHEDULER_KEPT));
    let mut layers = read_layers(admin, SCHEDULER).await?;
    if is_kept {
        let kept = content(SCHEDULER, admin.query(sql::READ_SCHEDULER_KEPT).await?)?;
        let memory = unlent(&layers, &kept);
        for change in changes(&layers.memory, &memory) {
            swap(admin, Place::Memory, &memory.columns, &change).await?;
        }
        admin.query(sql::DROP_SCHEDULER_KEPT).await?;
        layers.memory = read(admin, Place::Memory, SCHEDULER, &[]).await?;
    }
    Ok(layers)
}

/// Memory as it was before it was lent. A record that is not as runtime has it is somebody's edit since.
fn unlent(layers: &Layers, kept: &Content) -> Content {
    let mut memory = layers.memory.clone();
    let keys = [&layers.memory, kept].into_iter().flat_map(|content| content.records.keys());
    for key in keys.cloned().collect::<Vec<Record>>() {
        if layers.memory.records.get(&key) == layers.runtime.records.get(&key) {
            match kept.records.get(&key) {
                Some(record) => drop(memory.records.insert(key, record.clone())),
                None => drop(memory.records.remove(&key)),
            }
        }
    }
    memory
}

/// Carries out a change of the scheduler.
///
/// # Errors
/// ProxySQL refused a statement, or somebody edited the table meanwhile.
pub async fn write_scheduler(admin: &mut Admin, lending: &Lending) -> Result<(), TableError> {
    let columns = &lending.lent.columns;
    let is_lent = !lending.lend.is_empty();
    if is_lent {
        admin.query(sql::KEEP_SCHEDULER).await?;
        for change in &lending.lend {
            swap(admin, Place::Memory, columns, change).await?;
        }
    }
    let is_edited = read(admin, Place::Memory, SCHEDULER, &[]).await? != lending.lent;
    let loaded = match (lending.load, is_edited) {
        (_, true) => Err(TableError::Edited("the scheduler's table")),
        (true, false) => admin.query(sql::LOAD_SCHEDULER_NOW).await.map(drop).map_err(TableError::from),
        (false, false) => Ok(()),
    };
    if loaded.is_ok() {
        for change in &lending.put_back {
            swap(admin, Place::Memory, columns, change).await?;
        }
    } else {
        for change in lending.lend.iter().rev().cloned() {
            swap(admin, Place::Memory, columns, &change.reversed()).await?;
        }
    }
    if is_lent {
        admin.query(sql::DROP_SCHEDULER_KEPT).await?;
    }
    loaded?;
    for change in &lending.disk {
        swap(admin, Place::Disk, columns, change).await?;
    }
    Ok(())
}

/// Changes a record that is still as it was read. A record that somebody changed meanwhile stays as they set it.
async fn swap(admin: &mut Admin, place: Place, columns: &[String], change: &Change<Record>) -> Result<(), AdminError> {
    admin.query(&sql::swap_record(place, SCHEDULER, columns, change)).await.map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(records: &[[&str; 2]]) -> Content {
        let records = records.iter().map(|record| record.iter().map(|value| Some((*value).to_owned())).collect());
        Content::new(SCHEDULER, vec!["id".to_owned(), "filename".to_owned()], records)
    }

    #[test]
    fn i6_what_was_lent_is_put_back_and_what_somebody_edited_since_stays() {
        let layers = Layers {
            runtime: table(&[["1", "live"], ["9", "ours"]]),
            memory: table(&[["1", "live"], ["9", "ours"], ["4", "new since"]]),
            disk: table(&[]),
        };
        let kept = table(&[["1", "staged"], ["2", "staged"]]);
        assert_eq!(unlent(&layers, &kept), table(&[["1", "staged"], ["2", "staged"], ["4", "new since"]]));
    }
}
