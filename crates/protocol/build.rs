//! Generates the Rust code of every message from its file of the notation in `schemas`.
//!
//! One output file for each message, so that an error of the compiler or a look into the build directory finds its
//! place; nothing generated is kept in the tree.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use ottla_schema::{Message, generate, parse};

#[allow(clippy::disallowed_methods)] // a build script lives among files
fn main() -> ExitCode {
    println!("cargo::rerun-if-changed=schemas");
    println!("cargo::rerun-if-changed=build.rs");
    let out = PathBuf::from(std::env::var("OUT_DIR").expect("cargo sets OUT_DIR"));
    match generate_all(Path::new("schemas"), &out) {
        Ok(()) => ExitCode::SUCCESS,
        Err(reason) => {
            println!("cargo::error={reason}");
            ExitCode::FAILURE
        }
    }
}

#[allow(clippy::disallowed_methods)] // a build script lives among files
fn generate_all(schemas: &Path, out: &Path) -> Result<(), String> {
    let mut messages: Vec<Message> = Vec::new();
    let mut metadata: Vec<Message> = Vec::new();
    for group in list(schemas)? {
        for file in list(&group)? {
            let place = |reason: String| format!("{}: {reason}", file.display());
            let text = fs::read_to_string(&file).map_err(|error| place(error.to_string()))?;
            let message = parse::parse(&text).map_err(|error| place(error.to_string()))?;
            if group.ends_with("metadata") {
                metadata.push(message.clone());
            }
            messages.push(message);
        }
    }
    messages.sort_by(|one, other| one.name.cmp(&other.name));
    let write = |name: &str, text: String| {
        let path = out.join(name);
        fs::write(&path, text).map_err(|error| format!("{}: {error}", path.display()))
    };
    for message in &messages {
        write(&format!("{}.rs", message.module()), generate::module(message)?)?;
    }
    write("messages.rs", generate::index(&messages))?;
    write("api_keys.rs", generate::api_keys(&messages)?)?;
    write("metadata_records.rs", generate::metadata_records(&metadata)?)?;
    write("testing.rs", generate::testing(&messages))
}

#[allow(clippy::disallowed_methods)] // a build script lives among files
fn list(dir: &Path) -> Result<Vec<PathBuf>, String> {
    let entries = fs::read_dir(dir).map_err(|error| format!("{}: {error}", dir.display()))?;
    let mut paths: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    paths.sort();
    Ok(paths)
}
