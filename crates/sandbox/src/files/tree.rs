//! Names of the mounted file system: directories, links and files, as they are now.
//!
//! Numbers of nodes are never used twice. A node without a name stays for as long as the kernel knows it, so that an unlinked file can be
//! read and written by whoever has it open.

use super::layer::{Layer, Leaf, SavedLeaf};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::SystemTime;

/// The node of the mount itself.
pub(crate) const ROOT: u64 = 1;

pub(crate) type Found<T> = std::result::Result<T, Errno>;

/// What a node is.
#[derive(Debug, Clone)]
pub(crate) enum Content {
    Directory(BTreeMap<String, u64>),
    Link(String),
    File(Arc<Leaf>),
}

#[derive(Debug, Clone)]
pub(crate) struct Node {
    pub(crate) content: Content,
    /// Permission bits.
    pub(crate) mode: u32,
    pub(crate) modified: SystemTime,
    pub(crate) parent: u64,
    named: bool,
    /// How often the kernel was told of it.
    known: u64,
}

/// All nodes.
#[derive(Debug)]
pub(crate) struct Tree {
    nodes: HashMap<u64, Node>,
    next: u64,
}

/// A node that is kept when the tree is not served.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct SavedNode {
    number: u64,
    path: String,
    mode: u32,
    modified: SystemTime,
    content: SavedContent,
}

#[derive(Debug, Serialize, Deserialize)]
enum SavedContent {
    Directory,
    Link(String),
    File(SavedLeaf),
}

impl Tree {
    /// A root without anything in it. Numbers begin at `first`: PostgreSQL derives a key of shared memory from that of its data directory,
    /// which should not be every sandbox's.
    pub(crate) fn new(first: u64) -> Self {
        let root = Node::new(Content::Directory(BTreeMap::new()), 0o700, SystemTime::now(), ROOT);
        Self { nodes: HashMap::from([(ROOT, root)]), next: first.max(ROOT + 1) }
    }

    pub(crate) fn node(&self, number: u64) -> Found<&Node> {
        self.nodes.get(&number).ok_or(Errno::NOENT)
    }

    pub(crate) fn node_mut(&mut self, number: u64) -> Found<&mut Node> {
        self.nodes.get_mut(&number).ok_or(Errno::NOENT)
    }

    pub(crate) fn leaf(&self, number: u64) -> Found<Arc<Leaf>> {
        match &self.node(number)?.content {
            Content::File(leaf) => Ok(Arc::clone(leaf)),
            Content::Directory(_) => Err(Errno::ISDIR),
            Content::Link(_) => Err(Errno::INVAL),
        }
    }

    pub(crate) fn names(&self, number: u64) -> Found<&BTreeMap<String, u64>> {
        match &self.node(number)?.content {
            Content::Directory(names) => Ok(names),
            _ => Err(Errno::NOTDIR),
        }
    }

    fn names_mut(&mut self, number: u64) -> Found<&mut BTreeMap<String, u64>> {
        let node = self.node_mut(number)?;
        node.modified = SystemTime::now();
        match &mut node.content {
            Content::Directory(names) => Ok(names),
            _ => Err(Errno::NOTDIR),
        }
    }

    pub(crate) fn lookup(&self, parent: u64, name: &str) -> Found<u64> {
        self.names(parent)?.get(name).copied().ok_or(Errno::NOENT)
    }

    /// The node of a path below the root.
    pub(crate) fn at(&self, path: &str) -> Found<u64> {
        path.split('/').filter(|name| !name.is_empty()).try_fold(ROOT, |node, name| self.lookup(node, name))
    }

    /// The kernel was told of a node.
    pub(crate) fn tell(&mut self, number: u64) {
        if let Some(node) = self.nodes.get_mut(&number) {
            node.known += 1;
        }
    }

    /// The kernel has forgotten a node so many times.
    pub(crate) fn forget(&mut self, number: u64, times: u64) {
        if let Some(node) = self.nodes.get_mut(&number) {
            node.known = node.known.saturating_sub(times);
        }
        self.drop_if_unknown(number);
    }

    fn drop_if_unknown(&mut self, number: u64) {
        if self.nodes.get(&number).is_some_and(|node| !node.named && node.known == 0) {
            self.nodes.remove(&number);
        }
    }

    /// The number that the next node gets.
    pub(crate) fn next(&self) -> u64 {
        self.next
    }

    pub(crate) fn add(
        &mut self,
        parent: u64,
        name: &str,
        content: Content,
        mode: u32,
        modified: SystemTime,
    ) -> Found<u64> {
        if self.names(parent)?.contains_key(name) {
            return Err(Errno::EXIST);
        }
        let number = self.next;
        self.next += 1;
        self.names_mut(parent)?.insert(name.to_owned(), number);
        self.nodes.insert(number, Node::new(content, mode, modified, parent));
        Ok(number)
    }

    /// The directory of a path, made with those above it.
    pub(crate) fn directory(&mut self, path: &str) -> Found<u64> {
        let mut node = ROOT;
        for name in path.split('/').filter(|name| !name.is_empty()) {
            node = match self.lookup(node, name) {
                Ok(found) => found,
                Err(_) => {
                    let empty = Content::Directory(BTreeMap::new());
                    self.add(node, name, empty, 0o700, SystemTime::now())?
                }
            };
        }
        Ok(node)
    }

    pub(crate) fn unlink(&mut self, layer: &Layer, parent: u64, name: &str) -> Found<()> {
        let number = self.lookup(parent, name)?;
        if matches!(self.node(number)?.content, Content::Directory(_)) {
            return Err(Errno::ISDIR);
        }
        self.names_mut(parent)?.remove(name);
        self.unname(layer, number);
        Ok(())
    }

    pub(crate) fn remove_directory(&mut self, layer: &Layer, parent: u64, name: &str) -> Found<()> {
        let number = self.lookup(parent, name)?;
        if !self.names(number)?.is_empty() {
            return Err(Errno::NOTEMPTY);
        }
        self.names_mut(parent)?.remove(name);
        self.unname(layer, number);
        Ok(())
    }

    fn unname(&mut self, layer: &Layer, number: u64) {
        if let Some(node) = self.nodes.get_mut(&number) {
            node.named = false;
            if let Content::File(leaf) = &node.content {
                leaf.forget(layer);
            }
        }
        self.drop_if_unknown(number);
    }

    pub(crate) fn rename(
        &mut self,
        layer: &Layer,
        from: (u64, &str),
        to: (u64, &str),
        replace: bool,
    ) -> Found<()> {
        let number = self.lookup(from.0, from.1)?;
        let is_directory = matches!(self.node(number)?.content, Content::Directory(_));
        if let Ok(there) = self.lookup(to.0, to.1) {
            if there == number {
                return Ok(());
            }
            if !replace {
                return Err(Errno::EXIST);
            }
            match (&self.node(there)?.content, is_directory) {
                (Content::Directory(_), false) => return Err(Errno::ISDIR),
                (Content::Directory(_), true) => self.remove_directory(layer, to.0, to.1)?,
                (_, true) => return Err(Errno::NOTDIR),
                (_, false) => self.unlink(layer, to.0, to.1)?,
            }
        }
        self.names_mut(from.0)?.remove(from.1);
        self.names_mut(to.0)?.insert(to.1.to_owned(), number);
        self.node_mut(number)?.parent = to.0;
        Ok(())
    }

    /// Everything that has a name, parents first.
    pub(crate) fn save(&self) -> Vec<SavedNode> {
        let mut saved = Vec::new();
        let mut waiting = vec![(ROOT, String::new())];
        while let Some((number, path)) = waiting.pop() {
            let Some(node) = self.nodes.get(&number) else { continue };
            let content = match &node.content {
                Content::Directory(names) => {
                    waiting.extend(names.iter().map(|(name, child)| (*child, format!("{path}/{name}"))));
                    SavedContent::Directory
                }
                Content::Link(target) => SavedContent::Link(target.clone()),
                Content::File(leaf) => SavedContent::File(leaf.save()),
            };
            if number != ROOT {
                saved.push(SavedNode { number, path, mode: node.mode, modified: node.modified, content });
            }
        }
        saved
    }

    /// The tree as it was saved.
    pub(crate) fn restored(saved: Vec<SavedNode>, layer: &Layer) -> std::io::Result<Self> {
        let mut tree = Self::new(ROOT + 1);
        for SavedNode { number, path, mode, modified, content } in saved {
            let content = match content {
                SavedContent::Directory => Content::Directory(BTreeMap::new()),
                SavedContent::Link(target) => Content::Link(target),
                SavedContent::File(leaf) => Content::File(Arc::new(Leaf::restored(number, leaf, layer)?)),
            };
            let (parent, name) = path.rsplit_once('/').unwrap_or(("", &path));
            let parent = tree.at(parent)?;
            tree.next = number;
            tree.add(parent, name, content, mode, modified)?;
        }
        tree.next = tree.nodes.keys().max().map_or(ROOT + 1, |last| last + 1);
        Ok(tree)
    }
}

impl Node {
    fn new(content: Content, mode: u32, modified: SystemTime, parent: u64) -> Self {
        Self { content, mode, modified, parent, named: true, known: 0 }
    }
}
