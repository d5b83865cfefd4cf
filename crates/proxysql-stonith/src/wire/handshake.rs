//! The login: `mysql_native_password` to any server, and `caching_sha2_password` over TLS.
//!
//! ```text
//! in the clear   the proof of mysql_native_password, or nothing
//! over TLS       the same; to a server that greets with caching_sha2_password its proof, and if it asks for full
//!                authentication the password itself
//! ```
//!
//! ProxySQL 2.6 and later greets with `caching_sha2_password` by `mysql-default_authentication_plugin`. It switches a
//! client that names `mysql_native_password` to it, and checks a password that is stored as text or as `*...`. One
//! that is stored as `$A$...` needs full authentication.

use sha1::Sha1;
use sha2::{Digest, Sha256};
use tokio::io::{AsyncRead, AsyncWrite};
use zeroize::Zeroizing;

use super::WireError;
use super::packet::{Budget, Fields, Packets, refusal};
use crate::bytes;
use crate::secret::Credential;
use crate::untrusted_text::one_line;

const PROTOCOL_41: u32 = 0x200;
const TLS: u32 = 0x800;
const SECURE_CONNECTION: u32 = 0x8000;
const PLUGIN_AUTH: u32 = 0x8_0000;

/// The client's capabilities. LOCAL INFILE and second result sets are deliberately left out.
const CAPABILITIES: u32 = 0x1 // long password
    | 0x4 // long flag
    | PROTOCOL_41
    | 0x2000 // transactions: the status in each answer
    | SECURE_CONNECTION
    | PLUGIN_AUTH;

/// The capabilities that a server must have.
const NEEDED: u32 = PROTOCOL_41 | SECURE_CONNECTION | PLUGIN_AUTH;

/// The longest packet that the client accepts; a hint for the server.
const PACKET_MAX_BYTES: u32 = super::ANSWER_MAX_BYTES as u32;

/// The character set utf8mb4_general_ci.
const CHARSET: u8 = 45;

const SALT: usize = 20;

/// A way to prove the password.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Plugin {
    /// `mysql_native_password`.
    Native,
    /// `caching_sha2_password`, whose next step may be the password itself: over TLS only.
    CachingSha2,
}

impl Plugin {
    fn of(name: &[u8]) -> Option<Self> {
        [Self::Native, Self::CachingSha2].into_iter().find(|plugin| plugin.name() == name)
    }

    fn name(self) -> &'static [u8] {
        match self {
            Self::Native => b"mysql_native_password",
            Self::CachingSha2 => b"caching_sha2_password",
        }
    }

    /// The proof; empty for no password.
    fn proof(self, password: &[u8], salt: &[u8; SALT]) -> Vec<u8> {
        match self {
            _ if password.is_empty() => Vec::new(),
            Self::Native => native_proof(password, salt),
            Self::CachingSha2 => sha2_proof(password, salt),
        }
    }
}

/// The server's first packet.
#[derive(Debug, PartialEq, Eq)]
pub struct Greeting {
    capabilities: u32,
    /// The plugin that the server asks for, if it is known here.
    plugin: Option<Plugin>,
    /// The salt for that plugin.
    salt: [u8; SALT],
}

impl Greeting {
    /// Whether the server offers TLS.
    pub fn offers_tls(&self) -> bool {
        self.capabilities & TLS != 0
    }
}

/// Parses the greeting.
pub fn greeting(packet: &[u8]) -> Result<Greeting, WireError> {
    let mut fields = match packet {
        [10, rest @ ..] => Fields(rest),
        [0xff, rest @ ..] => return Err(refusal(rest)),
        _ => return Err(WireError::Senseless("it does not greet as MySQL does")),
    };
    fields.until_zero()?; // its version
    fields.bytes(4)?; // the connection's number
    let mut salt = fields.bytes(8)?.to_vec();
    fields.bytes(1)?;
    let [low_a, low_b] = fields.array()?;
    fields.bytes(3)?; // charset, status
    let [high_a, high_b] = fields.array()?;
    let capabilities = u32::from_le_bytes([low_a, low_b, high_a, high_b]);
    if capabilities & NEEDED != NEEDED {
        return Err(WireError::Senseless("it speaks a MySQL protocol older than 4.1 and its plugins"));
    }
    let [size] = fields.array()?;
    fields.bytes(10)?;
    salt.extend(&fields.bytes(usize::from(size).saturating_sub(8).max(13))?[..SALT - 8]);
    let salt = salt.try_into().map_err(|_| WireError::Senseless("its salt has another length"))?;
    Ok(Greeting { capabilities, plugin: Plugin::of(fields.until_zero().unwrap_or(fields.0)), salt })
}

/// Makes the packet that asks for TLS.
pub fn tls_request() -> Vec<u8> {
    head(CAPABILITIES | TLS)
}

fn head(capabilities: u32) -> Vec<u8> {
    let mut packet = capabilities.to_le_bytes().to_vec();
    packet.extend(PACKET_MAX_BYTES.to_le_bytes());
    packet.push(CHARSET);
    packet.extend([0; 23]);
    packet
}

/// Logs in over a stream, TCP or TLS. The caller has verified the server if `over_tls`.
pub async fn log_in<S: AsyncRead + AsyncWrite + Unpin>(
    packets: &mut Packets<S>,
    greeting: &Greeting,
    credential: &Credential,
    over_tls: bool,
    budget: &mut Budget,
) -> Result<(), WireError> {
    let (user, password) = (credential.user.as_bytes(), credential.password.expose().as_bytes());
    if user.contains(&0) {
        return Err(std::io::Error::other("the user's name has a zero byte in it").into());
    }
    let mut plugin = match greeting.plugin {
        Some(Plugin::CachingSha2) if over_tls => Plugin::CachingSha2,
        _ => Plugin::Native,
    };
    let proof = if greeting.plugin == Some(plugin) { plugin.proof(password, &greeting.salt) } else { Vec::new() };
    let mut login = head(CAPABILITIES | if over_tls { TLS } else { 0 });
    login.extend(user);
    login.push(0);
    login.push(proof.len() as u8); // 0, 20 or 32
    login.extend(proof);
    login.extend(plugin.name());
    login.push(0);
    packets.write(&login).await?;
    let (mut is_switched, mut is_told) = (false, false);
    loop {
        let mut fields = match packets.read(budget).await? {
            [0, ..] => return Ok(()),
            [0xff, rest @ ..] => return Err(refusal(rest)),
            [0xfe] => return Err(WireError::Asks("mysql_old_password".to_owned())),
            [0xfe, rest @ ..] => Fields(rest),
            [1, PROVED] if plugin == Plugin::CachingSha2 => continue,
            [1, FULL] if plugin == Plugin::CachingSha2 && !is_told => {
                is_told = true;
                packets.write(&Zeroizing::new([password, b"\0"].concat())).await?;
                continue;
            }
            [1, ..] => return Err(WireError::Asks("more, as caching_sha2_password does".to_owned())),
            _ => return Err(WireError::Senseless("it is no answer to a login")),
        };
        let name = fields.until_zero()?;
        if name != Plugin::Native.name() {
            return Err(WireError::Asks(one_line(&bytes::to_text(name.to_vec()))));
        }
        if is_switched {
            return Err(WireError::Senseless("it asks for the same again"));
        }
        (plugin, is_switched) = (Plugin::Native, true);
        let salt: [u8; SALT] = fields.array()?;
        packets.write(&plugin.proof(password, &salt)).await?;
    }
}

/// `caching_sha2_password`: the proof was right; the end of the login follows.
const PROVED: u8 = 3;

/// `caching_sha2_password`: the server knows a hash only, and asks for the password itself.
const FULL: u8 = 4;

/// `SHA1(password) XOR SHA1(salt + SHA1(SHA1(password)))`.
fn native_proof(password: &[u8], salt: &[u8; SALT]) -> Vec<u8> {
    let once = Sha1::digest(password);
    let salted = Sha1::new().chain_update(salt).chain_update(Sha1::digest(once)).finalize();
    once.iter().zip(salted).map(|(a, b)| a ^ b).collect()
}

/// `SHA256(password) XOR SHA256(SHA256(SHA256(password)) + salt)`.
fn sha2_proof(password: &[u8], salt: &[u8; SALT]) -> Vec<u8> {
    let once = Sha256::digest(password);
    let salted = Sha256::new().chain_update(Sha256::digest(once)).chain_update(salt).finalize();
    once.iter().zip(salted).map(|(a, b)| a ^ b).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_proof_is_the_one_that_proxysql_checks() {
        let salt = b"the-lab's-fixed-salt";
        assert!(Plugin::Native.proof(b"", salt).is_empty() && Plugin::CachingSha2.proof(b"", salt).is_empty());
        let given = Plugin::Native.proof(b"radmin", salt);
        assert_eq!(given[..4], [0xd0, 0x69, 0x29, 0x2d]); // by a client that logged in to ProxySQL 2.7.1
        let twice = Sha1::digest(Sha1::digest(b"radmin"));
        assert_eq!(twice[..4], [0xe1, 0xd3, 0x4e, 0x8f], "what ProxySQL stores as *E1D34E8F...");
        let salted = Sha1::new().chain_update(salt).chain_update(twice).finalize();
        let once: Vec<u8> = given.iter().zip(salted).map(|(a, b)| a ^ b).collect();
        assert_eq!(Sha1::digest(once), twice);
    }

    /// The greetings of ProxySQL 2.7.1, with TLS on and off, and with `mysql-default_authentication_plugin` set.
    #[test]
    fn a_greeting_says_whether_tls_can_be_had_and_which_proof_is_asked_for() {
        let recorded = |capabilities: u32, plugin: &[u8]| {
            let [a, b, c, d] = capabilities.to_le_bytes();
            let mut packet = b"\x0a8.0.11\0\x02\0\0\0ABCDEFGH\0".to_vec();
            packet.extend([a, b, 33, 2, 0, c, d, 21]);
            packet.extend(b"\0\0\0\0\0\0\0\0\0\0IJKLMNOPQRST\0");
            packet.extend([plugin, b"\0"].concat());
            packet
        };
        let plain = greeting(&recorded(0x808f_a22f, b"mysql_native_password")).unwrap();
        assert_eq!((plain.offers_tls(), plain.plugin), (false, Some(Plugin::Native)));
        assert_eq!(plain.salt, *b"ABCDEFGHIJKLMNOPQRST");
        let other = greeting(&recorded(0x808f_fa2f, b"caching_sha2_password")).unwrap();
        assert_eq!((other.offers_tls(), other.plugin), (true, Some(Plugin::CachingSha2)));
        let whole = recorded(0x808f_fa2f, b"");
        for end in 0..whole.len() - 1 {
            assert!(greeting(&whole[..end]).is_err(), "{end}");
        }
        assert!(
            greeting(&recorded(0x0000_fa2f, b"mysql_native_password")).is_err(),
            "no plugins: a server of before 5.5"
        );
    }
}
