//! The shell around the broker: sockets, threads, the real disk, the clock, configuration files and main.
