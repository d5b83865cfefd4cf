//! The clocks: milliseconds since boot, which nobody can set back, and the wall clock for times that outlive a boot.

use std::sync::OnceLock;
use std::time::{SystemTime, UNIX_EPOCH};

use rustix::time::{ClockId, clock_gettime};

/// Milliseconds since boot. It also counts while the machine sleeps (CLOCK_BOOTTIME), so a lease ends then too.
pub fn boot_ms() -> u64 {
    let now = clock_gettime(ClockId::Boottime);
    u64::try_from(now.tv_sec).unwrap_or(0) * 1_000 + u64::try_from(now.tv_nsec).unwrap_or(0) / 1_000_000
}

/// The id of this boot. No process outlives a boot, so it is read once.
///
/// # Errors
/// `/proc` is not mounted. Times of different boots cannot be told apart then, so isolation must stay unarmed.
pub fn boot_id() -> std::io::Result<String> {
    static READ: OnceLock<String> = OnceLock::new();
    if let Some(id) = READ.get() {
        return Ok(id.clone());
    }
    let id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id")?;
    Ok(READ.get_or_init(|| id.trim().to_owned()).clone())
}

/// Seconds since 1970 by the host's clock, which may be wrong.
pub fn wall_s() -> i64 {
    match SystemTime::now().duration_since(UNIX_EPOCH) {
        Ok(since) => i64::try_from(since.as_secs()).unwrap_or(i64::MAX),
        Err(_) => 0,
    }
}

/// One moment by both clocks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Now {
    /// The id of this boot; empty if unknown, and then it equals no other.
    pub boot_id: String,
    /// Milliseconds since boot.
    pub boot_ms: u64,
    /// Seconds since 1970 by the host's clock.
    pub wall_s: i64,
}

impl Now {
    /// Reads both clocks.
    pub fn read() -> Self {
        Self { boot_id: boot_id().unwrap_or_default(), boot_ms: boot_ms(), wall_s: wall_s() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_boot_clock_goes_on_and_the_boot_has_a_name() {
        let before = boot_ms();
        std::thread::sleep(std::time::Duration::from_millis(3));
        assert!(before > 0 && boot_ms() > before);
        assert_eq!(boot_id().unwrap().len(), 36);
        assert_eq!(boot_id().unwrap(), boot_id().unwrap());
        assert!(wall_s() > 1_700_000_000);
    }
}
