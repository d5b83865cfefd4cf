//! A separate thread writes log lines. A reader that stops reading costs lines, never a tick.
//!
//! tracing-appender does the same, but prints to stdout if its queue is full at the end. That may be the same pipe.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Duration;

use tracing_subscriber::fmt::MakeWriter;

/// The largest number of lines that wait for a slow reader. Further lines are dropped and counted.
const WAITING_MAX: usize = 1_000;

/// How long the program waits at its end until the last lines are read.
const LAST_LINES: Duration = Duration::from_millis(500);

enum Message {
    Line(Vec<u8>),
    Written(SyncSender<()>),
}

/// Takes lines without waiting.
#[derive(Debug, Clone)]
pub struct Lines {
    queue: SyncSender<Message>,
    dropped: Arc<AtomicU64>,
}

impl Lines {
    /// Writes lines to this writer. Its errors only lose lines: ProxySQL may have closed the other end of the pipe.
    pub fn to(writer: impl Write + Send + 'static) -> Self {
        let (queue, lines) = sync_channel(WAITING_MAX);
        let dropped = Arc::new(AtomicU64::new(0));
        let counted = Arc::clone(&dropped);
        std::thread::spawn(move || write_all(&lines, writer, &counted));
        Self { queue, dropped }
    }

    /// Waits a moment for the earlier lines.
    pub fn finish(&self) {
        let (done, is_done) = sync_channel(1);
        if self.queue.try_send(Message::Written(done)).is_ok() {
            let _ = is_done.recv_timeout(LAST_LINES);
        }
    }
}

fn write_all(lines: &Receiver<Message>, mut writer: impl Write, dropped: &AtomicU64) {
    for message in lines {
        match message {
            // The whole line is written at once, so that lines of overlapping processes do not mix.
            Message::Line(line) => {
                let _ = writer.write_all(&line).and_then(|()| writer.flush());
            }
            Message::Written(done) => {
                let _ = done.try_send(());
            }
        }
        match dropped.swap(0, Ordering::Relaxed) {
            0 => {}
            lines => tracing::warn!(lines, "log lines were dropped because they were not read in time"),
        }
    }
}

impl<'w> MakeWriter<'w> for Lines {
    type Writer = &'w Self;

    fn make_writer(&'w self) -> &'w Self {
        self
    }
}

impl Write for &Lines {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if self.queue.try_send(Message::Line(line.to_vec())).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::sync::mpsc::{Sender, channel};

    use super::*;

    /// A reader that takes one line per signal.
    struct Reader {
        go_on: Receiver<()>,
        page: Arc<Mutex<String>>,
    }

    impl Write for Reader {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let _ = self.go_on.recv();
            self.page.lock().unwrap().push_str(std::str::from_utf8(bytes).unwrap());
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn stuck() -> (Lines, Sender<()>, Arc<Mutex<String>>) {
        let ((go, go_on), page) = (channel(), Arc::new(Mutex::new(String::new())));
        (Lines::to(Reader { go_on, page: Arc::clone(&page) }), go, page)
    }

    #[test]
    fn a_log_that_nobody_reads_stops_nobody_and_what_is_dropped_is_counted() {
        let (lines, go, page) = stuck();
        for n in 0..WAITING_MAX + 50 {
            (&lines).write_all(format!("line {n}\n").as_bytes()).unwrap();
        }
        let dropped = lines.dropped.load(Ordering::Relaxed);
        assert!(dropped >= 40, "{dropped}");
        lines.finish(); // the queue is full, so this does not wait
        drop(go); // now everything is read
        while lines.dropped.load(Ordering::Relaxed) > 0 {
            std::thread::yield_now();
        }
        lines.finish();
        let read = page.lock().unwrap().lines().count() as u64;
        assert_eq!(read + dropped, WAITING_MAX as u64 + 50);
    }

    #[test]
    fn the_end_waits_for_the_lines_of_before() {
        let (lines, go, page) = stuck();
        drop(go);
        for n in 0..100 {
            (&lines).write_all(format!("line {n}\n").as_bytes()).unwrap();
        }
        lines.finish();
        assert_eq!(page.lock().unwrap().lines().count(), 100);
    }

    #[test]
    fn a_closed_stderr_loses_lines_and_nothing_else() {
        struct Closed;
        impl Write for Closed {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(io::ErrorKind::BrokenPipe.into())
            }
            fn flush(&mut self) -> io::Result<()> {
                Err(io::ErrorKind::BrokenPipe.into())
            }
        }
        let lines = Lines::to(Closed);
        for _ in 0..2 * WAITING_MAX {
            (&lines).write_all(b"nobody reads it\n").unwrap();
            lines.finish();
        }
        assert_eq!(lines.dropped.load(Ordering::Relaxed), 0);
    }
}
