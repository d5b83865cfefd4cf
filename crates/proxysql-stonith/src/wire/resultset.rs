//! Parses the answer to a statement: done, refused, or columns and records. Every value is text.

use tokio::io::{AsyncRead, AsyncWrite};

use super::Answer;
use super::WireError;
use super::packet::{Budget, Fields, Packets, refusal};
use crate::bytes;

/// The largest number of columns. No table that is read in the admin interface has more than 20.
const COLUMNS_MAX: u64 = 256;

/// The memory of a value besides its bytes: its place in a record, and the allocator's overhead, in bytes.
///
/// A NULL is one byte on the wire. Without this cost, a million records of NULLs would count as a few megabytes.
const VALUE_BYTES: usize = 56;

/// Reads an answer.
pub async fn read<S>(packets: &mut Packets<S>, budget: &mut Budget) -> Result<Answer, WireError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut fields = match packets.read(budget).await? {
        [0, rest @ ..] => return done(Fields(rest)),
        [0xff, rest @ ..] => return Err(refusal(rest)),
        [0xfb, ..] => return Err(WireError::Senseless("it asks for a file of this host")),
        count => Fields(count),
    };
    let count = fields.number()?;
    fields.end()?;
    if count > COLUMNS_MAX {
        return Err(WireError::TooMuch);
    }
    let mut columns = Vec::new();
    for _ in 0..count {
        let mut fields = Fields(packets.read(budget).await?);
        for _ in ["catalog", "schema", "table", "original table"] {
            fields.text()?;
        }
        columns.push(String::from_utf8_lossy(fields.text()?).into_owned());
    }
    if !is_end(packets.read(budget).await?) {
        return Err(WireError::Senseless("the columns have no end"));
    }
    let mut records = Vec::new();
    loop {
        let mut fields = match packets.read(budget).await? {
            end if is_end(end) => return Ok(Answer { columns, records, affected: 0 }),
            [0xff, rest @ ..] => return Err(refusal(rest)),
            record => Fields(record),
        };
        budget.take(VALUE_BYTES * (columns.len() + 1))?;
        let mut record = Vec::with_capacity(columns.len());
        for _ in &columns {
            let value = fields.value()?;
            if let Some(value) = value.filter(|value| !value.is_ascii()) {
                budget.take(bytes::GROWTH_MAX * value.len())?;
            }
            record.push(value.map(|value| bytes::to_text(value.to_vec())));
        }
        fields.end()?;
        records.push(record);
    }
}

/// The status flag that another answer follows.
const MORE: u16 = 0x8;

fn done(mut fields: Fields<'_>) -> Result<Answer, WireError> {
    let affected = fields.number()?;
    fields.number()?; // the last id
    if u16::from_le_bytes(fields.array()?) & MORE != 0 {
        return Err(WireError::Senseless("a second answer would follow"));
    }
    Ok(Answer { affected, ..Answer::default() })
}

/// Whether a packet ends the result set. A record whose first value is longer than 16 MiB begins with the same byte.
fn is_end(packet: &[u8]) -> bool {
    packet.first() == Some(&0xfe) && packet.len() < 9
}
