//! `schema import DIR`: Kafka's JSON schemas become files of our notation.
//!
//! DIR holds one folder for each of Kafka's modules (`clients`, `metadata`, …). The folders below
//! `crates/protocol/schemas` are written anew from it, so that what Kafka dropped disappears here too.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use clap::Subcommand;
use ottla_schema::{import, parse, print, tree::Tree};

#[derive(Subcommand)]
pub enum Verb {
    /// Convert a directory of Kafka's JSON schemas into `crates/protocol/schemas`.
    Import {
        /// Where the folders of JSON files are.
        dir: PathBuf,
    },
}

pub fn run(verb: &Verb) -> Result<String, String> {
    match verb {
        Verb::Import { dir } => import_all(dir, &schemas()),
    }
}

fn schemas() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../crates/protocol/schemas")
}

/// Everything is converted before anything is written: a release that we can not read leaves the tree as it was.
fn import_all(source: &Path, target: &Path) -> Result<String, String> {
    let mut texts: BTreeMap<PathBuf, String> = BTreeMap::new();
    let mut dead = 0;
    for file in files(source)? {
        let place = |reason: String| format!("{}: {reason}", file.display());
        let json = fs::read_to_string(&file).map_err(|error| place(error.to_string()))?;
        let Some(message) = import::import(&json).map_err(place)? else {
            dead += 1;
            continue;
        };
        Tree::new(&message).map_err(place)?;
        let text = print::print(&message);
        if parse::parse(&text).map_err(|error| place(error.to_string()))? != message {
            return Err(place("the notation does not say all of it".to_owned()));
        }
        let group = file.parent().and_then(Path::file_name).unwrap_or_default();
        texts.insert(target.join(group).join(message.file_name()), text);
    }
    if texts.is_empty() {
        return Err(format!("{}: no schemas in there", source.display()));
    }
    if target.exists() {
        fs::remove_dir_all(target).map_err(|error| format!("{}: {error}", target.display()))?;
    }
    for (path, text) in &texts {
        let write = || {
            fs::create_dir_all(path.parent().unwrap_or(target))?;
            fs::write(path, text)
        };
        write().map_err(|error| format!("{}: {error}", path.display()))?;
    }
    Ok(format!("{} messages, {dead} without live versions left out", texts.len()))
}

/// The JSON files one level down, sorted.
fn files(source: &Path) -> Result<Vec<PathBuf>, String> {
    let list = |dir: &Path| -> Result<Vec<PathBuf>, String> {
        let entries = fs::read_dir(dir).map_err(|error| format!("{}: {error}", dir.display()))?;
        entries.map(|entry| entry.map(|entry| entry.path()).map_err(|error| error.to_string())).collect()
    };
    let mut files = Vec::new();
    for group in list(source)?.into_iter().filter(|path| path.is_dir()) {
        files.extend(
            list(&group)?.into_iter().filter(|path| path.extension().is_some_and(|ext| ext == "json")),
        );
    }
    files.sort();
    Ok(files)
}
