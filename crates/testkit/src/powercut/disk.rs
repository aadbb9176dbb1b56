//! What a disk holds, and what of it would survive a power cut. Pure: no FUSE, no clock, no chance of its own.
//!
//! The rules are POSIX's, which are stricter than any one file system: syncing a file saves its content but not its name; syncing a
//! directory saves the names in it; renaming is atomic. Whatever was not synced may survive or not, each change by
//! itself, except that a change of a name cannot survive without the changes of the same names before it.

use super::Survivors;
use fuser::Errno;
use rand::{Rng, SeedableRng, rngs::StdRng};
use std::{
    collections::{BTreeMap, BTreeSet},
    time::SystemTime,
};

/// The number of the root, as FUSE has it.
pub(super) const ROOT: u64 = 1;

pub(super) type Result<T> = std::result::Result<T, Errno>;

#[derive(Debug)]
pub(super) struct Disk {
    nodes: BTreeMap<u64, Node>,
    next: u64,
    /// How many names each file has now.
    links: BTreeMap<u64, u32>,
    /// Changes of names that are not safe yet, oldest first.
    unsaved: Vec<Change>,
}

#[derive(Debug, Clone)]
pub(super) struct Node {
    pub(super) mode: u32,
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) modified: SystemTime,
    pub(super) content: Content,
}

#[derive(Debug, Clone)]
pub(super) enum Content {
    File(File),
    Dir(Dir),
}

#[derive(Debug, Clone, Default)]
pub(super) struct File {
    pub(super) now: Vec<u8>,
    safe: Vec<u8>,
    unsaved: Vec<Write>,
}

#[derive(Debug, Clone)]
enum Write {
    Bytes { offset: usize, bytes: Vec<u8> },
    Length(usize),
}

#[derive(Debug, Clone, Default)]
pub(super) struct Dir {
    pub(super) now: BTreeMap<String, u64>,
    safe: BTreeMap<String, u64>,
}

/// Names that change together: one for a creation or removal, two for a rename.
#[derive(Debug, Clone)]
struct Change(Vec<Edit>);

#[derive(Debug, Clone)]
struct Edit {
    dir: u64,
    name: String,
    node: Option<u64>,
}

impl Write {
    fn apply(&self, content: &mut Vec<u8>) {
        match self {
            Self::Bytes { offset, bytes } => {
                let end = offset + bytes.len();
                if content.len() < end {
                    content.resize(end, 0);
                }
                content[*offset..end].copy_from_slice(bytes);
            }
            Self::Length(length) => content.resize(*length, 0),
        }
    }
}

impl File {
    fn change(&mut self, write: Write) {
        write.apply(&mut self.now);
        self.unsaved.push(write);
    }

    fn sync(&mut self) {
        for write in self.unsaved.drain(..) {
            write.apply(&mut self.safe);
        }
    }

    /// Loses what chance does not keep. A write may survive in part.
    fn lose(&mut self, chance: &mut Option<StdRng>) {
        for write in self.unsaved.drain(..) {
            let Some(chance) = chance else { break };
            if !chance.random_bool(0.5) {
                continue;
            }
            match write {
                Write::Bytes { offset, bytes } if chance.random_bool(0.3) => {
                    let kept = chance.random_range(0..=bytes.len());
                    Write::Bytes { offset, bytes: bytes[..kept].to_vec() }.apply(&mut self.safe);
                }
                write => write.apply(&mut self.safe),
            }
        }
        self.now.clone_from(&self.safe);
    }
}

impl Disk {
    pub(super) fn new(root: Node) -> Self {
        let nodes = BTreeMap::from([(ROOT, root)]);
        Self { nodes, next: ROOT + 1, links: BTreeMap::new(), unsaved: Vec::new() }
    }

    pub(super) fn node(&self, id: u64) -> Result<&Node> {
        self.nodes.get(&id).ok_or(Errno::ESTALE)
    }

    pub(super) fn node_mut(&mut self, id: u64) -> Result<&mut Node> {
        self.nodes.get_mut(&id).ok_or(Errno::ESTALE)
    }

    pub(super) fn dir(&self, id: u64) -> Result<&Dir> {
        match &self.node(id)?.content {
            Content::Dir(dir) => Ok(dir),
            Content::File(_) => Err(Errno::ENOTDIR),
        }
    }

    pub(super) fn file(&self, id: u64) -> Result<&File> {
        match &self.node(id)?.content {
            Content::File(file) => Ok(file),
            Content::Dir(_) => Err(Errno::EISDIR),
        }
    }

    fn file_mut(&mut self, id: u64) -> Result<&mut File> {
        match &mut self.node_mut(id)?.content {
            Content::File(file) => Ok(file),
            Content::Dir(_) => Err(Errno::EISDIR),
        }
    }

    pub(super) fn lookup(&self, dir: u64, name: &str) -> Result<u64> {
        self.dir(dir)?.now.get(name).copied().ok_or(Errno::ENOENT)
    }

    /// What all files with a name hold.
    pub(super) fn bytes(&self) -> u64 {
        let named = self.links.iter().filter(|(_, links)| **links > 0);
        named.filter_map(|(id, _)| self.file(*id).ok()).map(|file| file.now.len() as u64).sum()
    }

    /// How many names a node has; a directory counts as two.
    pub(super) fn links(&self, id: u64) -> u32 {
        if self.dir(id).is_ok() { 2 } else { self.links.get(&id).copied().unwrap_or(0) }
    }

    fn count_links(&mut self) {
        self.links.clear();
        for node in self.nodes.values() {
            if let Content::Dir(dir) = &node.content {
                for id in dir.now.values() {
                    *self.links.entry(*id).or_default() += 1;
                }
            }
        }
    }

    /// Makes a file or directory.
    pub(super) fn create(&mut self, dir: u64, name: &str, node: Node) -> Result<u64> {
        if self.dir(dir)?.now.contains_key(name) {
            return Err(Errno::EEXIST);
        }
        let id = self.next;
        self.next += 1;
        self.nodes.insert(id, node);
        self.change(vec![Edit { dir, name: name.to_owned(), node: Some(id) }])?;
        Ok(id)
    }

    pub(super) fn link(&mut self, node: u64, dir: u64, name: &str) -> Result<()> {
        if self.dir(dir)?.now.contains_key(name) {
            return Err(Errno::EEXIST);
        }
        self.file(node)?;
        self.change(vec![Edit { dir, name: name.to_owned(), node: Some(node) }])
    }

    pub(super) fn unlink(&mut self, dir: u64, name: &str) -> Result<()> {
        let node = self.lookup(dir, name)?;
        self.file(node)?;
        self.change(vec![Edit { dir, name: name.to_owned(), node: None }])
    }

    pub(super) fn rmdir(&mut self, dir: u64, name: &str) -> Result<()> {
        let node = self.lookup(dir, name)?;
        if !self.dir(node)?.now.is_empty() {
            return Err(Errno::ENOTEMPTY);
        }
        self.change(vec![Edit { dir, name: name.to_owned(), node: None }])
    }

    pub(super) fn rename(&mut self, from: (u64, &str), to: (u64, &str), replace: bool) -> Result<()> {
        let node = self.lookup(from.0, from.1)?;
        if let Ok(replaced) = self.lookup(to.0, to.1) {
            if !replace {
                return Err(Errno::EEXIST);
            }
            if replaced == node {
                return Ok(());
            }
            if self.dir(replaced).is_ok_and(|dir| !dir.now.is_empty()) {
                return Err(Errno::ENOTEMPTY);
            }
            match (self.dir(node).is_ok(), self.dir(replaced).is_ok()) {
                (false, true) => return Err(Errno::EISDIR),
                (true, false) => return Err(Errno::ENOTDIR),
                _ => {}
            }
        }
        self.change(vec![
            Edit { dir: from.0, name: from.1.to_owned(), node: None },
            Edit { dir: to.0, name: to.1.to_owned(), node: Some(node) },
        ])
    }

    pub(super) fn write(&mut self, id: u64, offset: usize, bytes: &[u8]) -> Result<()> {
        self.file_mut(id)?.change(Write::Bytes { offset, bytes: bytes.to_vec() });
        Ok(())
    }

    pub(super) fn truncate(&mut self, id: u64, length: usize) -> Result<()> {
        self.file_mut(id)?.change(Write::Length(length));
        Ok(())
    }

    pub(super) fn sync_file(&mut self, id: u64) -> Result<()> {
        self.file_mut(id)?.sync();
        Ok(())
    }

    pub(super) fn sync_dir(&mut self, id: u64) -> Result<()> {
        self.dir(id)?;
        self.save(|change| change.0.iter().any(|edit| edit.dir == id));
        Ok(())
    }

    /// The power fails: what was not synced is lost, or left to chance. What has no name any more is gone.
    pub(super) fn cut(&mut self, survivors: Survivors) {
        let mut chance = match survivors {
            // It still is in the system's memory, and may be lost by the next cut.
            Survivors::Everything => return,
            Survivors::OnlySynced => None,
            Survivors::Random(seed) => Some(StdRng::seed_from_u64(seed)),
        };
        if let Some(chance) = &mut chance {
            // Few, some or most survive: one coin for all would make the extremes too rare.
            let share = chance.random_range(0.0..1.0);
            let kept: Vec<bool> = self.unsaved.iter().map(|_| chance.random_bool(share)).collect();
            let mut kept = kept.into_iter();
            self.save(|_| kept.next_back().unwrap_or(false));
        }
        self.unsaved.clear();
        for node in self.nodes.values_mut() {
            match &mut node.content {
                Content::File(file) => file.lose(&mut chance),
                Content::Dir(dir) => dir.now.clone_from(&dir.safe),
            }
        }
        let mut named = BTreeSet::from([ROOT]);
        let mut rest = vec![ROOT];
        while let Some(Ok(dir)) = rest.pop().map(|id| self.dir(id).cloned()) {
            let ids = dir.now.values().copied().filter(|id| named.insert(*id));
            let found: Vec<u64> = ids.collect();
            rest.extend(found.into_iter().filter(|id| self.dir(*id).is_ok()));
        }
        self.nodes.retain(|id, _| named.contains(id));
        self.count_links();
    }

    /// Makes a change of names, for now.
    fn change(&mut self, edits: Vec<Edit>) -> Result<()> {
        for edit in &edits {
            let Content::Dir(dir) = &mut self.node_mut(edit.dir)?.content else {
                return Err(Errno::ENOTDIR);
            };
            let lost = edit.apply(&mut dir.now);
            if let Some(gained) = edit.node {
                *self.links.entry(gained).or_default() += 1;
            }
            if let Some(left) = lost.and_then(|lost| self.links.get_mut(&lost)) {
                *left -= 1;
            }
        }
        self.unsaved.push(Change(edits));
        Ok(())
    }

    /// Saves the changes that `wanted` names, asked from the newest to the oldest, and all that they build upon.
    fn save(&mut self, mut wanted: impl FnMut(&Change) -> bool) {
        let mut touched = BTreeSet::new();
        let mut saved = Vec::new();
        let mut left = Vec::new();
        for change in self.unsaved.drain(..).rev() {
            let needed = change.0.iter().any(|edit| touched.contains(&(edit.dir, edit.name.clone())));
            if wanted(&change) || needed {
                touched.extend(change.0.iter().map(|edit| (edit.dir, edit.name.clone())));
                saved.push(change);
            } else {
                left.push(change);
            }
        }
        left.reverse();
        self.unsaved = left;
        for edit in saved.iter().rev().flat_map(|change| &change.0) {
            if let Some(Node { content: Content::Dir(dir), .. }) = self.nodes.get_mut(&edit.dir) {
                edit.apply(&mut dir.safe);
            }
        }
    }
}

impl Edit {
    /// Changes the name, and gives the node that had it before.
    fn apply(&self, names: &mut BTreeMap<String, u64>) -> Option<u64> {
        match self.node {
            Some(node) => names.insert(self.name.clone(), node),
            None => names.remove(&self.name),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(content: Content) -> Node {
        Node { mode: 0o700, uid: 0, gid: 0, modified: SystemTime::UNIX_EPOCH, content }
    }

    fn file() -> Node {
        node(Content::File(File::default()))
    }

    fn dir() -> Node {
        node(Content::Dir(Dir::default()))
    }

    fn names(disk: &Disk, id: u64) -> Vec<String> {
        disk.dir(id).unwrap().now.keys().cloned().collect()
    }

    #[test]
    fn a_synced_file_without_a_synced_name_is_lost() {
        let mut disk = Disk::new(dir());
        let id = disk.create(ROOT, "file", file()).unwrap();
        disk.write(id, 0, b"content").unwrap();
        disk.sync_file(id).unwrap();
        disk.cut(Survivors::OnlySynced);
        assert!(names(&disk, ROOT).is_empty());
    }

    #[test]
    fn a_synced_name_without_synced_content_is_an_empty_file() {
        let mut disk = Disk::new(dir());
        let id = disk.create(ROOT, "file", file()).unwrap();
        disk.write(id, 0, b"content").unwrap();
        disk.sync_dir(ROOT).unwrap();
        disk.cut(Survivors::OnlySynced);
        assert_eq!(disk.file(id).unwrap().now, b"");
    }

    #[test]
    fn what_a_killed_program_did_is_there_until_the_power_is_cut() {
        let mut disk = Disk::new(dir());
        disk.create(ROOT, "file", file()).unwrap();
        disk.cut(Survivors::Everything);
        assert_eq!(names(&disk, ROOT), ["file"]);
        disk.cut(Survivors::OnlySynced);
        assert!(names(&disk, ROOT).is_empty());
    }

    #[test]
    fn names_in_a_directory_whose_own_name_is_lost_are_lost() {
        let mut disk = Disk::new(dir());
        let below = disk.create(ROOT, "dir", dir()).unwrap();
        disk.create(below, "file", file()).unwrap();
        disk.sync_dir(below).unwrap();
        disk.cut(Survivors::OnlySynced);
        assert!(names(&disk, ROOT).is_empty());
    }

    #[test]
    fn a_rename_survives_whole_or_not_at_all() {
        for seed in 0..200 {
            let mut disk = Disk::new(dir());
            let one = disk.create(ROOT, "one", dir()).unwrap();
            let two = disk.create(ROOT, "two", dir()).unwrap();
            disk.create(one, "old", file()).unwrap();
            disk.sync_dir(ROOT).unwrap();
            disk.sync_dir(one).unwrap();
            disk.rename((one, "old"), (two, "new"), true).unwrap();
            disk.cut(Survivors::Random(seed));
            assert_eq!(names(&disk, one).len() + names(&disk, two).len(), 1, "seed {seed}");
        }
    }

    #[test]
    fn a_file_is_never_found_under_a_name_it_was_moved_from_before_the_surviving_move() {
        for seed in 0..500 {
            let mut disk = Disk::new(dir());
            disk.create(ROOT, "a", file()).unwrap();
            disk.rename((ROOT, "a"), (ROOT, "b"), true).unwrap();
            disk.rename((ROOT, "b"), (ROOT, "c"), true).unwrap();
            disk.cut(Survivors::Random(seed));
            assert!(names(&disk, ROOT).len() <= 1, "seed {seed}: {:?}", names(&disk, ROOT));
        }
    }

    #[test]
    fn what_was_synced_always_survives() {
        for seed in 0..200 {
            let mut disk = Disk::new(dir());
            let id = disk.create(ROOT, "file", file()).unwrap();
            disk.write(id, 0, b"safe").unwrap();
            disk.sync_file(id).unwrap();
            disk.sync_dir(ROOT).unwrap();
            disk.create(ROOT, "other", file()).unwrap();
            disk.cut(Survivors::Random(seed));
            assert_eq!(disk.file(disk.lookup(ROOT, "file").unwrap()).unwrap().now, b"safe");
        }
    }
}
