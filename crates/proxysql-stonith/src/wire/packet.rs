//! Packets: a length of three bytes, a number, a payload. A payload of 16 MiB - 1 continues in the next packet.

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};
use zeroize::Zeroizing;

use super::WireError;
use crate::bytes;

/// The longest payload of one packet, in bytes.
const PIECE_MAX_BYTES: usize = 0xff_ffff;

/// The buffer that is kept from one answer to the next, and the read-ahead, in bytes.
const KEPT_BYTES: usize = 8 << 10;

/// How many more bytes may be read.
#[derive(Debug)]
pub struct Budget(usize);

impl Budget {
    /// A budget of this many bytes.
    pub fn new(bytes: usize) -> Self {
        Self(bytes)
    }

    /// Takes bytes off the budget, before memory is allocated for them.
    pub fn take(&mut self, bytes: usize) -> Result<(), WireError> {
        self.0 = self.0.checked_sub(bytes).ok_or(WireError::TooMuch)?;
        Ok(())
    }
}

/// A stream of packets.
pub struct Packets<S> {
    stream: BufReader<S>,
    /// The number of the next packet, from either side.
    next: u8,
    payload: Vec<u8>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Packets<S> {
    /// Packets on a new stream.
    pub fn new(stream: S) -> Self {
        Self::carried_on(stream, 0)
    }

    /// Packets that continue with this number.
    pub fn carried_on(stream: S, next: u8) -> Self {
        Self { stream: BufReader::with_capacity(KEPT_BYTES, stream), next, payload: Vec::new() }
    }

    /// Returns the stream, to put TLS on it.
    ///
    /// # Errors
    /// Bytes were already received in plain text that would be taken for bytes over TLS.
    pub fn into_stream(self) -> Result<S, WireError> {
        if !self.stream.buffer().is_empty() {
            return Err(WireError::Senseless("it goes on in the clear where TLS begins"));
        }
        Ok(self.stream.into_inner())
    }

    /// Begins a new command.
    pub fn begin(&mut self) {
        self.next = 0;
        self.payload.clear();
        self.payload.shrink_to(KEPT_BYTES);
    }

    /// Reads the next payload.
    pub async fn read(&mut self, budget: &mut Budget) -> Result<&[u8], WireError> {
        self.payload.clear();
        loop {
            let mut head = [0; 4];
            self.stream.read_exact(&mut head).await?;
            let [a, b, c, number] = head;
            if number != self.next {
                return Err(WireError::Senseless("its number is not its turn"));
            }
            self.next = self.next.wrapping_add(1);
            let size = u32::from_le_bytes([a, b, c, 0]);
            budget.take(size as usize)?;
            let before = self.payload.len();
            (&mut self.stream).take(size.into()).read_to_end(&mut self.payload).await?;
            if self.payload.len() - before < size as usize {
                return Err(std::io::Error::from(std::io::ErrorKind::UnexpectedEof).into());
            }
            if (size as usize) < PIECE_MAX_BYTES {
                return Ok(&self.payload);
            }
        }
    }

    /// Sends a payload.
    pub async fn write(&mut self, payload: &[u8]) -> Result<(), WireError> {
        let mut packets = Zeroizing::new(Vec::with_capacity(payload.len() + 4)); // it may hold the password
        let mut rest = payload;
        loop {
            let (piece, after) = rest.split_at(rest.len().min(PIECE_MAX_BYTES));
            packets.extend(&(piece.len() as u32).to_le_bytes()[..3]);
            packets.push(self.next);
            packets.extend(piece);
            self.next = self.next.wrapping_add(1);
            rest = after;
            if piece.len() < PIECE_MAX_BYTES {
                break;
            }
        }
        self.stream.write_all(&packets).await?;
        Ok(self.stream.flush().await?)
    }
}

/// The rest of a payload.
#[derive(Debug, Clone, Copy)]
pub struct Fields<'p>(pub &'p [u8]);

impl<'p> Fields<'p> {
    /// Takes this many bytes.
    pub fn bytes(&mut self, size: usize) -> Result<&'p [u8], WireError> {
        let (bytes, rest) = self.0.split_at_checked(size).ok_or(WireError::Senseless("it ends too early"))?;
        self.0 = rest;
        Ok(bytes)
    }

    /// Takes a fixed number of bytes.
    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], WireError> {
        let mut array = [0; N];
        array.copy_from_slice(self.bytes(N)?);
        Ok(array)
    }

    /// Takes all bytes up to the next zero byte, and drops that.
    pub fn until_zero(&mut self) -> Result<&'p [u8], WireError> {
        let end = self.0.iter().position(|byte| *byte == 0).ok_or(WireError::Senseless("a text in it has no end"))?;
        let text = self.bytes(end)?;
        self.bytes(1)?;
        Ok(text)
    }

    /// Takes a length-encoded integer: one byte, or two, three or eight bytes after a byte that says so.
    pub fn number(&mut self) -> Result<u64, WireError> {
        let mut wide = [0; 8];
        let size = match self.array()? {
            [small @ ..=0xfa] => return Ok(small.into()),
            [0xfc] => 2,
            [0xfd] => 3,
            [0xfe] => 8,
            _ => return Err(WireError::Senseless("a number in it is none")),
        };
        wide[..size].copy_from_slice(self.bytes(size)?);
        Ok(u64::from_le_bytes(wide))
    }

    /// Takes length-encoded bytes.
    pub fn text(&mut self) -> Result<&'p [u8], WireError> {
        let size = self.number()?;
        self.bytes(usize::try_from(size).unwrap_or(usize::MAX))
    }

    /// Takes length-encoded bytes, or NULL.
    pub fn value(&mut self) -> Result<Option<&'p [u8]>, WireError> {
        match self.0 {
            [0xfb, rest @ ..] => {
                self.0 = rest;
                Ok(None)
            }
            _ => self.text().map(Some),
        }
    }

    /// Checks that nothing is left.
    pub fn end(self) -> Result<(), WireError> {
        if self.0.is_empty() { Ok(()) } else { Err(WireError::Senseless("it goes on behind its end")) }
    }
}

/// The largest part of a refusal that is kept, in bytes.
const REFUSAL_MAX_BYTES: usize = 1_024;

/// Parses an error packet after its first byte.
pub fn refusal(packet: &[u8]) -> WireError {
    let code = packet.first_chunk().map_or(0, |code| u16::from_le_bytes(*code));
    let text = packet.get(2..).unwrap_or_default();
    let text = if text.first() == Some(&b'#') { text.get(6..).unwrap_or_default() } else { text };
    WireError::Refused { code, text: bytes::to_text(text[..text.len().min(REFUSAL_MAX_BYTES)].to_vec()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_payload_whose_second_packet_is_cut_off_is_not_taken_for_whole() {
        let first = [&[0xff, 0xff, 0xff, 0][..], &vec![b'x'; PIECE_MAX_BYTES]].concat();
        for (second, is_whole) in [(&[2, 0, 0, 1, b'y', b'z'][..], true), (&[2, 0, 0, 1, b'y'], false)] {
            let stream = tokio::io::join(std::io::Cursor::new([&first, second].concat()), tokio::io::sink());
            let mut packets = Packets::new(stream);
            let read = packets.read(&mut Budget::new(64 << 20)).await;
            assert_eq!(read.map(<[u8]>::len).ok(), is_whole.then_some(PIECE_MAX_BYTES + 2));
        }
    }

    #[test]
    fn a_refusal_is_what_the_server_says_without_its_codes() {
        for packet in [&b"\x15\x04#28000Access denied"[..], b"\x15\x04Access denied"] {
            assert!(
                matches!(refusal(packet), WireError::Refused { text, .. } if text == "Access denied"),
                "{packet:?}"
            );
        }
    }
}
