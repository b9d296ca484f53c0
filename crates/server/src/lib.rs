//! The shell around the broker: sockets, threads, the real disk, the clock, configuration files and `main`.
//!
//! The tricky idea: everything that waits is here, and nothing that decides. See [`shell`] for the way of a request.

mod cli;
mod clock;
mod config;
mod crew;
mod data_dir;
mod dev;
mod listeners;
mod logging;
mod metrics_page;
mod real_disk;
mod shell;
mod start;
mod storage;

pub use cli::main;
