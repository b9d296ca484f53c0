//! What the operator reads on stderr: one line per event, with a time and a level.
//!
//! A broker logs little, and never per request; a mutex and a line are enough. The modules that have something to say are loggers, whose
//! levels may be changed over the wire.

use std::fmt;
use std::io::Write;
use std::sync::{Arc, LazyLock};
use std::time::{SystemTime, UNIX_EPOCH};

pub use ottla_broker::LogLevel;
use ottla_broker::Loggers;

use crate::clock::rfc3339;

/// What the deciding half reports goes by this name.
pub const BROKER: &str = "ottla_broker";
/// The modules that have a logger. What others say goes by the nearest above them.
const MODULES: &[&str] = &[
    BROKER,
    "ottla_server",
    "ottla_server::metrics_page",
    "ottla_server::shell",
    "ottla_server::shell::acceptor",
    "ottla_server::shell::census",
    "ottla_server::shell::connection",
    "ottla_server::shell::event_loop",
    "ottla_server::shell::node",
    "ottla_server::shell::peers",
    "ottla_server::start",
];

static LOGGERS: LazyLock<Arc<Loggers>> = LazyLock::new(|| Arc::new(Loggers::of(MODULES)));

/// The loggers of this process.
pub fn loggers() -> Arc<Loggers> {
    Arc::clone(&LOGGERS)
}

/// Sets how much is written, from a level's name in log4j's words. Returns false when there is no such level.
pub fn set_level(name: &str) -> bool {
    let level = match name.trim().to_ascii_uppercase().as_str() {
        "OFF" => Some(LogLevel::Fatal),
        "ALL" => Some(LogLevel::Trace),
        name => LogLevel::from_name(name),
    };
    if let Some(level) = level {
        LOGGERS.set_root(level);
    }
    level.is_some()
}

/// Writes a line, if the module's level is wanted.
pub fn log(module: &str, level: LogLevel, text: fmt::Arguments<'_>) {
    if !LOGGERS.wants(module, level) {
        return;
    }
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_millis());
    let time = rfc3339(i64::try_from(now).unwrap_or(0));
    // Nobody is left to be told that stderr is closed.
    let _ = writeln!(std::io::stderr().lock(), "{time} {:<5} {text}", level.name());
}

/// Something is broken.
#[macro_export]
macro_rules! error {
    ($($text:tt)*) => { $crate::logging::log(module_path!(), $crate::logging::LogLevel::Error, format_args!($($text)*)) };
}

/// Something will be broken, or is not as it was meant.
#[macro_export]
macro_rules! warn {
    ($($text:tt)*) => { $crate::logging::log(module_path!(), $crate::logging::LogLevel::Warn, format_args!($($text)*)) };
}

/// Something happened.
#[macro_export]
macro_rules! info {
    ($($text:tt)*) => { $crate::logging::log(module_path!(), $crate::logging::LogLevel::Info, format_args!($($text)*)) };
}

/// Something that matters to whoever hunts a mistake.
#[macro_export]
macro_rules! debug {
    ($($text:tt)*) => { $crate::logging::log(module_path!(), $crate::logging::LogLevel::Debug, format_args!($($text)*)) };
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    /// Every file that logs belongs to a module that has a logger of its own.
    #[test]
    fn every_module_that_logs_is_a_logger() {
        let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
        let mut folders = vec![(sources, "ottla_server".to_owned())];
        let mut seen = 0;
        while let Some((folder, module)) = folders.pop() {
            for file in std::fs::read_dir(folder).expect("our sources").flatten() {
                let path = file.path();
                let stem = path.file_stem().and_then(|stem| stem.to_str()).expect("a name").to_owned();
                let named = format!("{module}::{stem}");
                if path.is_dir() {
                    folders.push((path, named));
                    continue;
                }
                let text = std::fs::read_to_string(&path).expect("a source");
                let logs = ["error", "warn", "info", "debug"].map(|level| format!("crate::{level}!("));
                if logs.iter().any(|call| text.contains(call)) {
                    seen += 1;
                    assert!(MODULES.contains(&&*named), "{named} logs and has no logger");
                }
            }
        }
        assert!(seen + 3 >= MODULES.len(), "some loggers have nothing to say");
    }
}
