//! How much each part of the node writes down for its operator: loggers with levels, which can be changed while the node runs (resource
//! BROKER_LOGGER, KIP-412).
//!
//! The shell writes, and names what it has to say by the module that says it; here is only who wants to hear it. Nothing of this is kept:
//! after a restart all loggers are as they were configured.
//!
//! The tricky idea: loggers are a tree by their names. One without a level of its own has that of the nearest above it, and the root
//! always has one.

use std::sync::atomic::{AtomicU8, Ordering};

/// How much an event matters, in log4j's words; as the level of a logger, what it writes at least.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum LogLevel {
    /// The node can not go on.
    Fatal,
    /// Something is broken.
    Error,
    /// Something will be, or is not as it was meant.
    Warn,
    /// Something happened.
    Info,
    /// Something that matters to whoever hunts a mistake.
    Debug,
    /// Everything.
    Trace,
}

impl LogLevel {
    /// All levels, those that matter most first.
    pub const ALL: [LogLevel; 6] =
        [LogLevel::Fatal, LogLevel::Error, LogLevel::Warn, LogLevel::Info, LogLevel::Debug, LogLevel::Trace];

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            LogLevel::Fatal => "FATAL",
            LogLevel::Error => "ERROR",
            LogLevel::Warn => "WARN",
            LogLevel::Info => "INFO",
            LogLevel::Debug => "DEBUG",
            LogLevel::Trace => "TRACE",
        }
    }

    /// The level of that name, in capitals.
    pub fn from_name(name: &str) -> Option<LogLevel> {
        LogLevel::ALL.into_iter().find(|level| level.name() == name)
    }
}

/// The name of the logger above all others.
pub const ROOT: &str = "root";
/// No level of its own.
const INHERITED: u8 = u8::MAX;

/// The loggers of a process.
#[derive(Debug)]
pub struct Loggers {
    root: AtomicU8,
    /// Paths of modules, and levels.
    named: Vec<(&'static str, AtomicU8)>,
}

impl Default for Loggers {
    fn default() -> Loggers {
        Loggers::of(&[])
    }
}

impl Loggers {
    /// A logger for each of these modules (paths as `module_path!` has them), all of which write INFO and above.
    pub fn of(modules: &[&'static str]) -> Loggers {
        Loggers {
            root: AtomicU8::new(LogLevel::Info as u8),
            named: modules.iter().map(|module| (*module, AtomicU8::new(INHERITED))).collect(),
        }
    }

    /// Whether somebody wants to hear what a module has to say.
    pub fn wants(&self, module: &str, level: LogLevel) -> bool {
        level as u8 <= self.level_of(module) as u8
    }

    /// The level of all loggers that have none of their own.
    pub fn set_root(&self, level: LogLevel) {
        self.root.store(level as u8, Ordering::Relaxed);
    }

    /// Sets the level of a logger, or takes it away. False: there is no such logger, or it is the root, which needs one.
    pub fn set(&self, name: &str, level: Option<LogLevel>) -> bool {
        let stored = level.map_or(INHERITED, |level| level as u8);
        let place = match self.named.iter().find(|(module, _)| name_of(module) == name) {
            Some((_, place)) => place,
            None if name == ROOT && level.is_some() => &self.root,
            None => return false,
        };
        place.store(stored, Ordering::Relaxed);
        true
    }

    /// Names and levels in force, by name.
    pub fn list(&self) -> Vec<(String, LogLevel)> {
        let named = self.named.iter().map(|(module, _)| (name_of(module), self.level_of(module)));
        let mut all: Vec<_> =
            named.chain([(ROOT.to_owned(), decode(self.root.load(Ordering::Relaxed)))]).collect();
        all.sort();
        all
    }

    fn level_of(&self, module: &str) -> LogLevel {
        let is_above = |above: &str| {
            module.strip_prefix(above).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
        };
        let levels = self.named.iter().map(|(above, level)| (*above, level.load(Ordering::Relaxed)));
        let nearest = levels.filter(|(above, level)| *level != INHERITED && is_above(above));
        let nearest = nearest.max_by_key(|(above, _)| above.len());
        decode(nearest.map_or_else(|| self.root.load(Ordering::Relaxed), |(_, level)| level))
    }
}

fn decode(stored: u8) -> LogLevel {
    LogLevel::ALL[usize::from(stored)]
}

/// `ottla_server::shell` is called `ottla.server.shell`.
fn name_of(module: &str) -> String {
    let crate_and_rest = module.replacen('_', ".", 1);
    crate_and_rest.replace("::", ".")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_level_above_counts() {
        let loggers = Loggers::of(&["ottla_server", "ottla_server::shell", "ottla_server::shell::acceptor"]);
        let wants = |module: &str| {
            let heard = LogLevel::ALL.into_iter().filter(|level| loggers.wants(module, *level));
            heard.max().expect("at least what is fatal")
        };
        assert_eq!(wants("ottla_server::shell::acceptor"), LogLevel::Info);
        assert!(loggers.set("ottla.server", Some(LogLevel::Error)));
        assert!(loggers.set("ottla.server.shell.acceptor", Some(LogLevel::Trace)));
        assert_eq!(wants("ottla_server::shell::acceptor"), LogLevel::Trace);
        assert_eq!(wants("ottla_server::shell::connection"), LogLevel::Error, "it has no logger of its own");
        assert_eq!(wants("ottla_server::shelling"), LogLevel::Error);
        assert_eq!(wants("ottla_broker"), LogLevel::Info);
        assert!(loggers.set("ottla.server", None) && loggers.set(ROOT, Some(LogLevel::Fatal)));
        assert_eq!(wants("ottla_server::shell::connection"), LogLevel::Fatal);
        assert!(!loggers.set(ROOT, None), "the root needs one");
        assert!(!loggers.set("ottla.raft", Some(LogLevel::Info)));
        let names: Vec<_> =
            loggers.list().into_iter().map(|(name, level)| format!("{name}={}", level.name())).collect();
        let expected = [
            "ottla.server=FATAL",
            "ottla.server.shell=FATAL",
            "ottla.server.shell.acceptor=TRACE",
            "root=FATAL",
        ];
        assert_eq!(names, expected);
    }

    #[test]
    fn names_of_levels() {
        for level in LogLevel::ALL {
            assert_eq!(LogLevel::from_name(level.name()), Some(level));
        }
        assert_eq!(LogLevel::from_name("info"), None);
    }
}
