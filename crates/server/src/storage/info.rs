//! What the log directories of a configuration are.

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use ottla_metadata::config::BrokerConfig;
use ottla_storage::MetaProperties;

use crate::real_disk::RealDisk;

/// All directories of a configuration, each once, sorted.
pub fn directories(config: &BrokerConfig) -> Vec<PathBuf> {
    let mut all: Vec<PathBuf> =
        config.log_dirs.iter().chain([&config.metadata_log_dir]).map(PathBuf::from).collect();
    all.sort();
    all.dedup();
    all
}

/// The directories, their identity, and what is wrong with them.
pub fn describe(config: &BrokerConfig) -> (String, ExitCode) {
    let (mut found, mut problems) = (Vec::new(), Vec::new());
    let mut identity: Option<MetaProperties> = None;
    for dir in directories(config) {
        let shown = dir.display();
        if !dir.is_dir() {
            let what = if dir.exists() { "is not a directory" } else { "does not exist" };
            problems.push(format!("{shown} {what}"));
            continue;
        }
        found.push(shown.to_string());
        match read(&dir) {
            Err(problem) => problems.push(problem),
            Ok(None) => problems.push(format!("{shown} is not formatted.")),
            Ok(Some(meta)) => match &identity {
                None => identity = Some(meta),
                Some(first) if first.cluster_id != meta.cluster_id => {
                    problems.push("Mismatched cluster IDs between storage directories.".to_owned());
                }
                Some(first) if first.node_id != meta.node_id => {
                    problems.push("Mismatched node IDs between storage directories.".to_owned());
                }
                Some(_) => {}
            },
        }
    }
    let mut text = String::new();
    section(&mut text, ("Found log directory:", "Found log directories:"), &found);
    if let Some(meta) = identity {
        let directory = meta.directory_id.map(|id| format!("directory.id={id}, ")).unwrap_or_default();
        writeln!(
            text,
            "Found metadata: {{cluster.id={}, {directory}node.id={}, version=1}}\n",
            meta.cluster_id, meta.node_id
        )
        .expect("a string takes it");
    }
    section(&mut text, ("Found problem:", "Found problems:"), &problems);
    (text, if problems.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn read(dir: &Path) -> Result<Option<MetaProperties>, String> {
    match MetaProperties::read(&RealDisk, dir) {
        Ok(None) => Ok(None),
        Ok(Some(Ok(meta))) => Ok(Some(meta)),
        Ok(Some(Err(error))) => {
            Err(format!("Error loading {}: {error}", dir.join("meta.properties").display()))
        }
        Err(error) => Err(format!("Error loading {}: {error}", dir.join("meta.properties").display())),
    }
}

fn section(text: &mut String, (one, many): (&str, &str), lines: &[String]) {
    if lines.is_empty() {
        return;
    }
    text.push_str(if lines.len() == 1 { one } else { many });
    text.push('\n');
    lines.iter().for_each(|line| writeln!(text, "  {line}").expect("a string takes it"));
    text.push('\n');
}
