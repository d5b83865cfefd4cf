//! The hook's last resort: a thread that ends the process at the deadline.

use std::io::Write;
use std::thread;
use std::time::Duration;

/// The time for the last line. A standard error that nobody reads must not stop the end.
const LAST_WORDS: Duration = Duration::from_millis(50);

/// Ends the process with `code` after `deadline`, also if everything else hangs.
///
/// # Errors
/// The operating system refuses a thread.
pub fn watchdog(deadline: Duration, code: u8) -> std::io::Result<()> {
    let end = move || {
        thread::sleep(deadline.saturating_sub(LAST_WORDS));
        let words = move || {
            let text = format!("proxysql-stonith: the hook hung; it ends at its deadline with exit code {code}");
            let _ = writeln!(std::io::stderr(), "{text}");
        };
        let _ = thread::Builder::new().spawn(words);
        thread::sleep(LAST_WORDS);
        std::process::exit(code.into());
    };
    thread::Builder::new().name("watchdog".to_owned()).spawn(end).map(drop)
}
