//! What the simulated disk holds: a tree of inodes, each with the image that power loss leaves and the changes it may lose.
//!
//! The one tricky idea: an inode stores its *live* content, its *durable* content, and the ordered list of changes that lead from the
//! second to the first. A sync replays the list onto the durable content; a crash replays a random subset of it, with writes torn at
//! sector borders.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Component, Path, PathBuf};

/// Bytes that a disk writes or loses as one.
const SECTOR: u64 = 512;

/// A small deterministic generator (SplitMix64): the only dice of the simulated disk.
#[derive(Debug, Clone)]
pub(super) struct Dice(pub(super) u64);

impl Dice {
    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// A number below `bound` (which is not 0).
    pub(super) fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }
}

pub(super) type Ino = u64;

/// A change to a file that is not durable yet.
#[derive(Debug, Clone)]
pub(super) enum FileChange {
    Write { position: u64, bytes: Vec<u8> },
    SetLen(u64),
}

#[derive(Debug, Clone, Default)]
pub(super) struct FileNode {
    pub(super) live: Vec<u8>,
    /// When it was last written to.
    pub(super) modified: i64,
    durable: Vec<u8>,
    pending: Vec<FileChange>,
}

/// A change to a directory that is not durable yet.
#[derive(Debug, Clone)]
pub(super) enum DirChange {
    Link {
        name: String,
        ino: Ino,
    },
    Unlink {
        name: String,
        ino: Ino,
    },
    /// Within one directory: both halves happen or neither.
    Rename {
        from: String,
        to: String,
        ino: Ino,
    },
}

#[derive(Debug, Clone, Default)]
pub(super) struct DirNode {
    pub(super) live: BTreeMap<String, Ino>,
    durable: BTreeMap<String, Ino>,
    pending: Vec<DirChange>,
}

#[derive(Debug, Clone)]
pub(super) enum Node {
    File(FileNode),
    Dir(DirNode),
}

/// All inodes; 0 is the root directory.
#[derive(Debug, Clone)]
pub(super) struct Tree {
    nodes: BTreeMap<Ino, Node>,
    next_ino: Ino,
}

fn apply_file(content: &mut Vec<u8>, change: &FileChange) {
    match change {
        FileChange::Write { position, bytes } => {
            let start = *position as usize;
            if content.len() < start + bytes.len() {
                content.resize(start + bytes.len(), 0);
            }
            content[start..start + bytes.len()].copy_from_slice(bytes);
        }
        FileChange::SetLen(len) => content.resize(*len as usize, 0),
    }
}

fn apply_dir(entries: &mut BTreeMap<String, Ino>, change: &DirChange) {
    match change {
        DirChange::Link { name, ino } => {
            entries.insert(name.clone(), *ino);
        }
        DirChange::Unlink { name, ino } => {
            if entries.get(name) == Some(ino) {
                entries.remove(name);
            }
        }
        DirChange::Rename { from, to, ino } => {
            if entries.get(from) == Some(ino) {
                entries.remove(from);
            }
            entries.insert(to.clone(), *ino);
        }
    }
}

impl FileNode {
    pub(super) fn change(&mut self, change: FileChange) {
        apply_file(&mut self.live, &change);
        self.pending.push(change);
    }

    pub(super) fn sync(&mut self) {
        for change in self.pending.drain(..) {
            apply_file(&mut self.durable, &change);
        }
    }

    /// Every pending change is kept, lost, or (a write) torn: only a prefix up to a sector border arrives.
    fn crash(&mut self, dice: &mut Dice) {
        for change in self.pending.drain(..) {
            match (dice.below(3), change) {
                (0, _) => {}
                (1, FileChange::Write { position, mut bytes }) => {
                    let first_border = (position / SECTOR + 1) * SECTOR;
                    let end = position + bytes.len() as u64;
                    if first_border >= end {
                        continue; // within one sector: all or nothing, and this one is lost
                    }
                    let borders = (end - 1 - first_border) / SECTOR + 1;
                    let cut = first_border + dice.below(borders) * SECTOR;
                    bytes.truncate((cut - position) as usize);
                    apply_file(&mut self.durable, &FileChange::Write { position, bytes });
                }
                (_, change) => apply_file(&mut self.durable, &change),
            }
        }
        self.live.clone_from(&self.durable);
    }
}

impl DirNode {
    pub(super) fn change(&mut self, change: DirChange) {
        apply_dir(&mut self.live, &change);
        self.pending.push(change);
    }

    pub(super) fn sync(&mut self) {
        for change in self.pending.drain(..) {
            apply_dir(&mut self.durable, &change);
        }
    }

    fn crash(&mut self, dice: &mut Dice) {
        for change in self.pending.drain(..) {
            if dice.below(2) == 1 {
                apply_dir(&mut self.durable, &change);
            }
        }
        self.live.clone_from(&self.durable);
    }
}

fn not_found(path: &Path) -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, format!("no such file or directory: {}", path.display()))
}

/// The plain names of a path, from the root down.
fn names(path: &Path) -> Vec<String> {
    path.components()
        .filter_map(|component| match component {
            Component::Normal(name) => Some(name.to_string_lossy().into_owned()),
            _ => None,
        })
        .collect()
}

impl Tree {
    pub(super) fn new() -> Tree {
        Tree { nodes: BTreeMap::from([(0, Node::Dir(DirNode::default()))]), next_ino: 1 }
    }

    pub(super) fn find(&self, path: &Path) -> Option<Ino> {
        let mut ino = 0;
        for name in names(path) {
            match self.nodes.get(&ino) {
                Some(Node::Dir(dir)) => ino = *dir.live.get(&name)?,
                _ => return None,
            }
        }
        Some(ino)
    }

    pub(super) fn file(&mut self, ino: Ino) -> io::Result<&mut FileNode> {
        match self.nodes.get_mut(&ino) {
            Some(Node::File(file)) => Ok(file),
            _ => Err(io::Error::other("not a file")),
        }
    }

    pub(super) fn dir(&mut self, path: &Path) -> io::Result<&mut DirNode> {
        let ino = self.find(path).ok_or_else(|| not_found(path))?;
        match self.nodes.get_mut(&ino) {
            Some(Node::Dir(dir)) => Ok(dir),
            _ => Err(io::Error::new(io::ErrorKind::NotADirectory, format!("{}", path.display()))),
        }
    }

    /// Everything below a directory becomes durable.
    pub(super) fn sync(&mut self, path: &Path) -> io::Result<()> {
        let mut frontier = vec![self.find(path).ok_or_else(|| not_found(path))?];
        while let Some(ino) = frontier.pop() {
            match self.nodes.get_mut(&ino) {
                Some(Node::File(file)) => file.sync(),
                Some(Node::Dir(dir)) => {
                    dir.sync();
                    frontier.extend(dir.live.values().copied());
                }
                None => {}
            }
        }
        Ok(())
    }

    /// The directory that holds `path`, and the last name of it.
    fn parent(&mut self, path: &Path) -> io::Result<(PathBuf, String)> {
        let name = names(path).pop().ok_or_else(|| not_found(path))?;
        let parent = path.parent().unwrap_or(Path::new("/")).to_path_buf();
        self.dir(&parent)?;
        Ok((parent, name))
    }

    fn create(&mut self, path: &Path, node: Node) -> io::Result<Ino> {
        let (parent, name) = self.parent(path)?;
        let ino = self.next_ino;
        self.next_ino += 1;
        self.nodes.insert(ino, node);
        self.dir(&parent)?.change(DirChange::Link { name, ino });
        Ok(ino)
    }

    pub(super) fn create_file(&mut self, path: &Path) -> io::Result<Ino> {
        self.create(path, Node::File(FileNode::default()))
    }

    pub(super) fn create_dir(&mut self, path: &Path) -> io::Result<()> {
        match self.find(path).and_then(|ino| self.nodes.get(&ino)) {
            Some(Node::Dir(_)) => Ok(()),
            Some(Node::File(_)) => Err(io::Error::from(io::ErrorKind::AlreadyExists)),
            None => self.create(path, Node::Dir(DirNode::default())).map(|_| ()),
        }
    }

    pub(super) fn remove(&mut self, path: &Path, directory: bool) -> io::Result<()> {
        let ino = self.find(path).ok_or_else(|| not_found(path))?;
        if matches!(self.nodes.get(&ino), Some(Node::Dir(_))) != directory {
            return Err(io::Error::other("wrong kind of entry to remove"));
        }
        let (parent, name) = self.parent(path)?;
        self.dir(&parent)?.change(DirChange::Unlink { name, ino });
        Ok(())
    }

    pub(super) fn rename(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        let ino = self.find(from).ok_or_else(|| not_found(from))?;
        // As rename(2) has it: a file replaces a file, a directory an empty directory.
        if let Some(Node::Dir(there)) = self.find(to).and_then(|there| self.nodes.get(&there))
            && !there.live.is_empty()
        {
            return Err(io::Error::from(io::ErrorKind::DirectoryNotEmpty));
        }
        let (from_parent, from_name) = self.parent(from)?;
        let (to_parent, to_name) = self.parent(to)?;
        if self.find(&from_parent) == self.find(&to_parent) {
            self.dir(&from_parent)?.change(DirChange::Rename { from: from_name, to: to_name, ino });
        } else {
            self.dir(&to_parent)?.change(DirChange::Link { name: to_name, ino });
            self.dir(&from_parent)?.change(DirChange::Unlink { name: from_name, ino });
        }
        Ok(())
    }

    /// Power loss: every inode falls back to what its syncs promised plus some of what they did not; unreachable inodes vanish.
    pub(super) fn crash(&mut self, dice: &mut Dice) {
        for node in self.nodes.values_mut() {
            match node {
                Node::File(file) => file.crash(dice),
                Node::Dir(dir) => dir.crash(dice),
            }
        }
        let mut reachable = BTreeSet::from([0]);
        let mut frontier = vec![0];
        while let Some(ino) = frontier.pop() {
            if let Some(Node::Dir(dir)) = self.nodes.get(&ino) {
                frontier.extend(dir.live.values().copied().filter(|child| reachable.insert(*child)));
            }
        }
        self.nodes.retain(|ino, _| reachable.contains(ino));
    }
}
