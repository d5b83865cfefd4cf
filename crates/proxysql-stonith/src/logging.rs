//! Log lines go to stderr as text or JSON, coloured only on a terminal. A lasting error is not logged every tick.
//!
//! The output of commands goes to stdout and is not logging. If stderr is closed or nobody reads it, lines are lost,
//! but the program never stops.

use std::io::{self, IsTerminal};

use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::{Layer, Registry};

use crate::config::{LogConfig, LogFormat, LogLevel};

mod lines;
mod log_once;

use lines::Lines;
pub use log_once::LogOnce;

/// Logging until it is dropped. The drop waits a moment for the last lines.
#[derive(Debug)]
pub struct Logging(Lines);

impl Drop for Logging {
    fn drop(&mut self) {
        self.0.finish();
    }
}

/// Starts logging for this process. A second call changes nothing.
pub fn init(config: LogConfig) -> Logging {
    let ansi = io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let lines = Lines::to(io::stderr());
    // Only tests set a subscriber twice.
    let _ = tracing::subscriber::set_global_default(subscriber(config, ansi, lines.clone()));
    Logging(lines)
}

/// The subscriber that `init` sets, for any writer.
pub fn subscriber<W>(config: LogConfig, ansi: bool, writer: W) -> impl tracing::Subscriber + Send + Sync
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let lines = tracing_subscriber::fmt::layer().with_writer(writer).with_target(false).log_internal_errors(false);
    let lines = match config.format {
        LogFormat::Text => lines.with_ansi(ansi).boxed(),
        LogFormat::Json => lines.json().flatten_event(true).boxed(),
    };
    Registry::default().with(lines.with_filter(targets(config.level)))
}

/// Own crates log at the configured level, libraries at most `warn`: at `debug` they log headers with passwords (I11).
fn targets(level: LogLevel) -> Targets {
    let own = match level {
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Trace => LevelFilter::TRACE,
    };
    // A smaller level logs less.
    let others = own.min(LevelFilter::WARN);
    Targets::new().with_default(others).with_target("proxysql_stonith", own).with_target("stonith_core", own)
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Page(Arc<Mutex<Vec<u8>>>);

    impl Write for Page {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn logged(format: LogFormat, level: LogLevel, ansi: bool, log: impl FnOnce()) -> String {
        let page = Page::default();
        let writer = page.clone();
        let subscriber = subscriber(LogConfig { format, level }, ansi, move || writer.clone());
        tracing::subscriber::with_default(subscriber, log);
        String::from_utf8(page.0.lock().unwrap().clone()).unwrap()
    }

    #[test]
    fn text_has_colours_only_where_told_and_one_line_per_event() {
        let plain = logged(LogFormat::Text, LogLevel::Info, false, || tracing::warn!(node = "node01:3306", "fenced"));
        assert!(plain.contains("WARN") && plain.contains("fenced node=\"node01:3306\""), "{plain}");
        assert!(!plain.contains('\u{1b}') && plain.lines().count() == 1, "{plain}");
        let coloured = logged(LogFormat::Text, LogLevel::Info, true, || tracing::warn!("fenced"));
        assert!(coloured.contains('\u{1b}'), "{coloured}");
    }

    #[test]
    fn json_is_one_object_a_line_even_on_a_terminal() {
        let lines = logged(LogFormat::Json, LogLevel::Info, true, || tracing::info!(node = "n:1", "unfenced\nx"));
        let value: serde_json::Value = serde_json::from_str(lines.trim_end()).unwrap();
        assert_eq!((value["level"].as_str(), value["node"].as_str()), (Some("INFO"), Some("n:1")));
        assert_eq!(value["message"], "unfenced\nx");
    }

    #[test]
    fn a_level_hides_what_is_less_important() {
        let lines = logged(LogFormat::Text, LogLevel::Info, false, || tracing::debug!("quiet tick"));
        assert_eq!(lines, "");
        let lines = logged(LogFormat::Text, LogLevel::Debug, false, || tracing::debug!("quiet tick"));
        assert!(lines.contains("quiet tick"));
    }

    #[test]
    fn i11_libraries_log_at_most_warnings() {
        let lines = logged(LogFormat::Text, LogLevel::Trace, false, || {
            tracing::debug!(target: "hyper::proto", "authorization: Basic aHVudGVyMg==");
            tracing::warn!(target: "hyper::proto", "reset");
        });
        assert!(!lines.contains("Basic") && lines.contains("reset"), "{lines}");
    }
}
