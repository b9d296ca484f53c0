//! The real binary as a process: what it prints, how it is reached, how it ends. Everything listens on ports that the system picks.

mod cluster;
mod dev;
mod loggers;
mod metrics;
mod node;
mod quotas;
mod refusals;
mod roles;
mod serving;
mod site;
mod storage;
mod talk;
mod voters;
