//! Looks at a data directory before anything is written into it, and says in one sentence why it can not be used.
//!
//! The tricky idea: an empty directory is formatted without being asked for, so a directory that holds something else must not be
//! taken for one: a flag that points to the wrong place would otherwise scatter logs over somebody's files.

use std::fmt;
use std::fs;
use std::io;
use std::path::Path;

use rustix::fs::{Access, access};

/// The file by which a formatted directory is known.
const META_PROPERTIES: &str = "meta.properties";
/// What an interrupted formatting, or the file system itself, may have left in a directory that counts as empty.
const AS_GOOD_AS_NOTHING: [&str; 3] = [".lock", "meta.properties.tmp", "lost+found"];
/// Names of foreign files that are told.
const NAMES_TOLD: usize = 3;

/// Why a directory can not be used, in a sentence.
#[derive(Debug, PartialEq, Eq)]
pub enum Unfit {
    /// It does not work: a node with other directories goes on without it.
    Broken(String),
    /// It is not a node's: whoever named it was mistaken.
    Foreign(String),
}

impl fmt::Display for Unfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Unfit::Broken(why) | Unfit::Foreign(why) => f.write_str(why),
        }
    }
}

/// Creates the directory if it is missing, and checks that it can be written and holds a node's data or nothing.
pub fn prepare(dir: &Path) -> Result<(), Unfit> {
    let shown = dir.display();
    let unusable =
        |error: io::Error| Unfit::Broken(format!("the data directory {shown} can not be used: {error}"));
    match fs::metadata(dir) {
        Ok(metadata) if !metadata.is_dir() => {
            return Err(Unfit::Foreign(format!("the data directory {shown} is a file; name a directory")));
        }
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return fs::create_dir_all(dir).map_err(|error| {
                Unfit::Broken(format!("the data directory {shown} can not be created: {error}"))
            });
        }
        Err(error) => return Err(unusable(error)),
    }
    access(dir, Access::WRITE_OK | Access::EXEC_OK).map_err(|error| {
        let error = io::Error::from(error);
        Unfit::Broken(format!(
            "the data directory {shown} can not be written: {error}; give it to this user or choose another with --data-dir"
        ))
    })?;
    let mut foreign = Vec::new();
    for entry in fs::read_dir(dir).map_err(unusable)? {
        let name = entry.map_err(unusable)?.file_name().to_string_lossy().into_owned();
        if name == META_PROPERTIES {
            return Ok(());
        }
        if !AS_GOOD_AS_NOTHING.contains(&name.as_str()) {
            foreign.push(name);
        }
    }
    if foreign.is_empty() {
        return Ok(());
    }
    foreign.sort_unstable();
    let more = if foreign.len() > NAMES_TOLD { ", ..." } else { "" };
    foreign.truncate(NAMES_TOLD);
    Err(Unfit::Foreign(format!(
        "the data directory {shown} holds something that is not a node's data ({}{more}) and no {META_PROPERTIES}; choose an empty or \
         a missing directory with --data-dir",
        foreign.join(", ")
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missing_empty_and_formatted_directories_are_fine() {
        let dir = tempfile::tempdir().expect("a directory");
        let missing = dir.path().join("a/b");
        prepare(&missing).expect("created");
        prepare(&missing).expect("empty");
        fs::write(missing.join(".lock"), "").expect("written");
        prepare(&missing).expect("as good as empty");
        fs::write(missing.join("topic-0"), "").expect("written");
        assert!(prepare(&missing).is_err());
        fs::write(missing.join(META_PROPERTIES), "").expect("written");
        prepare(&missing).expect("formatted");
    }

    #[test]
    fn others_are_refused() {
        let dir = tempfile::tempdir().expect("a directory");
        for name in ["d", "b", "a", "c"] {
            fs::write(dir.path().join(name), "").expect("written");
        }
        let error = prepare(dir.path()).expect_err("foreign");
        assert!(matches!(&error, Unfit::Foreign(why) if why.contains("(a, b, c, ...)")), "{error}");
        let error = prepare(&dir.path().join("a")).expect_err("a file");
        assert!(matches!(&error, Unfit::Foreign(why) if why.contains("is a file")), "{error}");
        assert!(prepare(&dir.path().join("a/b")).is_err(), "below a file");
        let error = prepare(Path::new("/proc/data")).expect_err("no place for it");
        assert!(matches!(&error, Unfit::Broken(why) if why.contains("/proc/data")), "{error}");
    }
}
