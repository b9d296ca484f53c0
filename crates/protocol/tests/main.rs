//! Messages from outside: their bytes against the schemas, against another implementation, against known examples.

mod common;
#[path = "main/differential.rs"]
mod differential;
#[path = "main/examples.rs"]
mod examples;
mod golden;
#[path = "main/tables.rs"]
mod tables;
#[path = "main/versions.rs"]
mod versions;
