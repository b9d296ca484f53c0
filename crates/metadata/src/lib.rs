//! Cluster facts: the immutable Image, its Delta, feature levels and configuration definitions.

pub mod config;
