//! The tidy test: what a reviewer should not have to look for. It reads text, is fast, and says what to do instead.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// Which crates of the house a crate may name in its `[dependencies]` (ARCHITECTURE.md, "The rooms").
const EDGES: &[(&str, &[&str])] = &[
    ("guard", &[]),
    ("schema", &[]),
    ("protocol", &["schema"]),
    ("storage", &["protocol"]),
    ("raft", &["guard"]),
    ("metadata", &["protocol"]),
    ("controller", &["guard", "metadata", "protocol"]),
    ("coordinator", &["guard", "metadata", "protocol"]),
    ("broker", &["guard", "protocol", "storage", "raft", "metadata", "controller", "coordinator"]),
    ("server", &["broker", "storage", "metadata", "protocol"]),
    ("sim", &["broker", "controller", "coordinator", "storage", "metadata", "protocol"]),
    ("bench", &["protocol"]),
    ("checker", &[]),
];

/// A file above this many lines needs an entry in the ratchet.
const LINES_MAX: usize = 800;
/// Tracked files above this size are blobs.
const BYTES_MAX: u64 = 512 * 1024;
/// `path lines`: files that are too long already. They may shrink, not grow.
const RATCHET: &str = "xtask/tidy.ratchet";

/// Words that do not stay: (word, what to do instead).
const WORDS: &[(&str, &str)] = &[
    (concat!("dbg", "!("), "remove it"),
    (concat!("TO", "DO"), "do it, or write it into an issue"),
    (concat!("FIX", "ME"), "fix it, or write it into an issue"),
    (concat!("#[ign", "ore"), "assert today's behaviour, with a note"),
    (concat!("todo", "!("), "write it"),
    (concat!("unimplemented", "!("), "write it"),
];

/// Prints everything that is wrong; whether nothing is.
pub fn run() -> bool {
    let wrong = check(&crate::workspace::root());
    wrong.iter().for_each(|line| println!("{line}"));
    wrong.is_empty()
}

/// Everything that is wrong below `root`, one sentence each.
pub fn check(root: &Path) -> Vec<String> {
    let mut wrong = Vec::new();
    check_edges(root, &mut wrong);
    let ratchet = read_ratchet(root);
    let mut over = BTreeSet::new();
    for path in files(root) {
        let name = path.strip_prefix(root).unwrap_or(&path).display().to_string();
        if fs::metadata(&path).is_ok_and(|meta| meta.len() > BYTES_MAX) && !name.ends_with("Cargo.lock") {
            wrong.push(format!("{name}: larger than {BYTES_MAX} bytes; generate it, or keep it small"));
        }
        if path.extension().is_some_and(|extension| extension == "rs") {
            check_source(&path, &name, &ratchet, &mut over, &mut wrong);
        }
    }
    for name in ratchet.keys().filter(|name| !over.contains(*name)) {
        wrong.push(format!("{RATCHET}: {name} is no longer too long; remove its line"));
    }
    wrong
}

fn check_source(
    path: &Path,
    name: &str,
    ratchet: &BTreeMap<String, usize>,
    over: &mut BTreeSet<String>,
    wrong: &mut Vec<String>,
) {
    let Ok(text) = fs::read_to_string(path) else {
        wrong.push(format!("{name}: not text"));
        return;
    };
    if !text.starts_with("//!") {
        wrong.push(format!("{name}: begin with `//!`: what it is, who owns it, its one tricky idea"));
    }
    for (word, instead) in WORDS {
        if let Some(line) = text.lines().position(|line| line.contains(word)) {
            wrong.push(format!("{name}:{}: `{word}`: {instead}", line + 1));
        }
    }
    let lines = text.lines().count();
    if lines > LINES_MAX {
        over.insert(name.to_owned());
        match ratchet.get(name) {
            None => wrong.push(format!("{name}: {lines} lines; which noun wants its own file?")),
            Some(&max) if lines > max => {
                wrong.push(format!("{name}: grew from {max} to {lines} lines; it may only shrink"))
            }
            Some(_) => {}
        }
    }
    if !is_referenced(path) {
        wrong.push(format!("{name}: no `mod` names it"));
    }
}

/// Whether some neighbour declares the file as its module.
fn is_referenced(path: &Path) -> bool {
    let stem = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
    let (Some(dir), false) = (path.parent(), matches!(stem, "lib" | "main" | "build")) else { return true };
    let in_dir = |name: &str| dir.file_name().is_some_and(|dir| dir == name);
    if in_dir("tests") || in_dir("benches") || in_dir("examples") || in_dir("bin") {
        return true;
    }
    let (module, home) = if stem == "mod" {
        let module = dir.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        (module.to_owned(), dir.parent().unwrap_or(dir))
    } else {
        (stem.to_owned(), dir)
    };
    let declared = format!("mod {module};");
    let mut candidates: Vec<PathBuf> =
        ["lib.rs", "main.rs", "mod.rs"].iter().map(|file| home.join(file)).collect();
    candidates.push(home.with_extension("rs"));
    candidates.extend(sources(home));
    let declares = |file: &PathBuf| fs::read_to_string(file).is_ok_and(|text| text.contains(&declared));
    // `#[path = "…"]`, from the same folder or the one above.
    let quoted = format!("{stem}.rs\"");
    let points_at = |file: PathBuf| fs::read_to_string(file).is_ok_and(|text| text.contains(&quoted));
    candidates.iter().any(declares)
        || sources(home).into_iter().any(points_at)
        || home.parent().is_some_and(|above| sources(above).into_iter().any(points_at))
}

/// The source files in a folder.
fn sources(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path());
    entries.filter(|path| path.extension().is_some_and(|e| e == "rs")).collect()
}

fn check_edges(root: &Path, wrong: &mut Vec<String>) {
    let crates = root.join("crates");
    let mut names: Vec<String> = fs::read_dir(&crates)
        .map(|entries| {
            entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
        })
        .unwrap_or_default();
    names.sort();
    if names.is_empty() {
        wrong.push(format!("{}: no crates found", crates.display()));
    }
    for name in names {
        let Ok(manifest) = fs::read_to_string(crates.join(&name).join("Cargo.toml")) else { continue };
        let Some((_, allowed)) = EDGES.iter().find(|(of, _)| *of == name) else {
            wrong.push(format!("crates/{name}: a new room; say in xtask/src/tidy.rs what it may use"));
            continue;
        };
        for used in house_dependencies(&manifest) {
            if !allowed.contains(&used.as_str()) {
                wrong.push(format!(
                    "crates/{name} uses {used}; it may use {allowed:?} only (ARCHITECTURE.md)"
                ));
            }
        }
    }
}

/// Crates of the house that a manifest names outside its dev-dependencies.
fn house_dependencies(manifest: &str) -> Vec<String> {
    let mut section = "";
    let mut found = Vec::new();
    for line in manifest.lines() {
        if let Some(name) = line.strip_prefix('[') {
            section = name.trim_end_matches(']');
        } else if section.ends_with("dependencies")
            && section != "dev-dependencies"
            && let Some(rest) = line.strip_prefix("ottla-")
        {
            let name = rest.split(['.', ' ', '=']).next().unwrap_or_default();
            found.push(name.to_owned());
        }
    }
    found
}

fn read_ratchet(root: &Path) -> BTreeMap<String, usize> {
    let text = fs::read_to_string(root.join(RATCHET)).unwrap_or_default();
    text.lines()
        .filter_map(|line| {
            let (name, lines) = line.rsplit_once(' ')?;
            Some((name.to_owned(), lines.parse().ok()?))
        })
        .collect()
}

/// All files below `root` that are part of the project.
fn files(root: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut dirs = vec![root.to_path_buf()];
    while let Some(dir) = dirs.pop() {
        let Ok(entries) = fs::read_dir(&dir) else { continue };
        for entry in entries.flatten() {
            let path = entry.path();
            let name = entry.file_name();
            let skipped = ["target", ".git", "node_modules", "ottla-data", "__pycache__"];
            if skipped.iter().any(|skip| name == *skip) {
                continue;
            }
            if path.is_dir() { dirs.push(path) } else { found.push(path) }
        }
    }
    found.sort();
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_house_is_tidy() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("xtask lies in the root");
        let wrong = check(root);
        assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
    }

    #[test]
    fn edges_are_read_from_manifests() {
        let manifest = "[dependencies]\nbytes = \"1\"\nottla-raft.workspace = true\n[dev-dependencies]\nottla-sim = {}\n";
        assert_eq!(house_dependencies(manifest), ["raft"]);
    }
}
