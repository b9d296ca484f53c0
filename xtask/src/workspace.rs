//! Where things are: the repository, cargo's target directory, and the folders that chores keep there.

use std::path::PathBuf;

/// The root of the repository.
pub fn root() -> PathBuf {
    let xtask = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    xtask.parent().map(PathBuf::from).unwrap_or(xtask)
}

/// Cargo's target directory (`CARGO_TARGET_DIR`, or `target` in the repository).
pub fn target() -> PathBuf {
    match std::env::var_os("CARGO_TARGET_DIR") {
        Some(dir) => root().join(dir),
        None => root().join("target"),
    }
}

/// Sources of the suites, by client.
pub fn suites() -> PathBuf {
    root().join("tests/clients")
}

/// What was installed for the suites.
pub fn installed() -> PathBuf {
    target().join("clients")
}

/// Output of everything that chores ran, kept until the next run of the same chore.
pub fn logs(chore: &str) -> PathBuf {
    target().join("test-logs").join(chore)
}

/// Data directories of brokers under test.
pub fn scratch(chore: &str) -> PathBuf {
    target().join("test-data").join(chore)
}

/// The release build of the broker.
pub fn ottla() -> PathBuf {
    target().join("release/ottla")
}

/// The release build of the load generator.
pub fn load_generator() -> PathBuf {
    target().join("release/ottla-bench")
}
