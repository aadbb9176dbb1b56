//! Entries of a manifest, as bytes, and the rules for their paths.

use super::PackTable;
use crate::error::Malformed;
use crate::map::{FileMap, MapCoder, blocks_of};
use crate::wire::{Wire, put_text, put_varint, unzigzag, zigzag};
use std::collections::HashSet;
use std::sync::Arc;

/// Longest path and longest target of a link in bytes: Linux's `PATH_MAX`.
const PATH_BYTES_MAX: usize = 4096;

/// Bits of a mode that are kept: permissions, set-id and sticky.
const MODE_MAX: u64 = 0o7777;

const FILE: u8 = 0;
const DIRECTORY: u8 = 1;
const LINK: u8 = 2;

/// What an entry is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FileKind {
    /// A file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link.
    Link {
        /// What it points to, as it is.
        target: String,
    },
}

/// One file, directory or link of a backup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileEntry {
    /// Relative to the data directory. Files of a tablespace lie below `pg_tblspc/<oid>`.
    pub path: String,
    /// What it is.
    pub kind: FileKind,
    /// Permission bits.
    pub mode: u32,
    /// When it was modified, in seconds since 1970.
    pub modified: i64,
    /// Length in bytes; 0 for what is no file.
    pub length: u64,
    /// Where its blocks lie; empty for what is no file.
    pub map: FileMap,
}

/// Judges entries in the order in which they come: each path is safe to create below some directory, and comes after the one before.
#[derive(Debug, Default)]
pub(super) struct Admission {
    last: String,
    links: HashSet<String>,
}

impl Admission {
    /// Checks an entry against those before it.
    pub(super) fn admit(&mut self, entry: &FileEntry) -> Result<(), Malformed> {
        check_path(&entry.path)?;
        if !self.last.is_empty() && entry.path <= self.last {
            return Err(Malformed::new("paths are out of order"));
        }
        self.check_parents(&entry.path)?;
        if let FileKind::Link { target } = &entry.kind {
            if target.is_empty() || target.contains('\0') {
                return Err(Malformed::new("a symbolic link points to no name"));
            }
            if !is_tablespace_link(&entry.path) {
                self.links.insert(entry.path.clone());
            }
        }
        if entry.kind != FileKind::File && (entry.length != 0 || !entry.map.extents().is_empty()) {
            return Err(Malformed::new("what is no file has content"));
        }
        self.last.clear();
        self.last.push_str(&entry.path);
        Ok(())
    }

    /// Whoever creates files below a link writes wherever it points. Only tablespaces do, and restore places those itself.
    fn check_parents(&self, path: &str) -> Result<(), Malformed> {
        let below_a_link =
            !self.links.is_empty() && path.match_indices('/').any(|(at, _)| self.links.contains(&path[..at]));
        if below_a_link {
            return Err(Malformed::new("a path leads through a symbolic link"));
        }
        Ok(())
    }
}

/// `pg_tblspc/<oid>`.
fn is_tablespace_link(path: &str) -> bool {
    let oid = path.strip_prefix("pg_tblspc/");
    oid.is_some_and(|oid| !oid.is_empty() && oid.bytes().all(|byte| byte.is_ascii_digit()))
}

/// Refuses every path that could lead out of the directory that it is meant for.
fn check_path(path: &str) -> Result<(), Malformed> {
    if path.is_empty() || path.len() > PATH_BYTES_MAX || path.contains('\0') {
        return Err(Malformed::new("a path is empty, too long, or contains a zero byte"));
    }
    if path.split('/').any(|component| matches!(component, "" | "." | "..")) {
        return Err(Malformed::new("a path is absolute, or leads out of the data directory"));
    }
    Ok(())
}

/// Codes the entries of one chunk, in order.
#[derive(Debug, Default, Clone)]
pub(super) struct EntryCoder {
    maps: MapCoder,
    path: String,
    modified: i64,
}

impl EntryCoder {
    pub(super) fn encode(&mut self, entry: &FileEntry, out: &mut Vec<u8>) {
        let shared = shared_prefix(&self.path, &entry.path);
        put_varint(out, shared as u64);
        put_text(out, &entry.path[shared..]);
        out.push(match entry.kind {
            FileKind::File => FILE,
            FileKind::Directory => DIRECTORY,
            FileKind::Link { .. } => LINK,
        });
        put_varint(out, u64::from(entry.mode) & MODE_MAX);
        put_varint(out, zigzag(entry.modified.wrapping_sub(self.modified)));
        match &entry.kind {
            FileKind::File => {
                put_varint(out, entry.length);
                self.maps.encode(&entry.map, out);
            }
            FileKind::Directory => {}
            FileKind::Link { target } => put_text(out, target),
        }
        self.path.clear();
        self.path.push_str(&entry.path);
        self.modified = entry.modified;
    }

    pub(super) fn decode(&mut self, wire: &mut Wire<'_>) -> Result<FileEntry, Malformed> {
        const BAD_PATH: &str = "a path is too long or not UTF-8";
        let shared = wire.varint_up_to(self.path.len() as u64, BAD_PATH)? as usize;
        let rest = wire.text(PATH_BYTES_MAX, BAD_PATH)?;
        let start = self.path.get(..shared).ok_or(Malformed::new(BAD_PATH))?;
        let path = [start, rest].concat();
        let kind = wire.byte()?;
        let mode = wire.varint_up_to(MODE_MAX, "a mode has unknown bits")? as u32;
        let modified = self.modified.wrapping_add(unzigzag(wire.varint()?));
        let mut entry =
            FileEntry { path, kind: FileKind::File, mode, modified, length: 0, map: FileMap::new() };
        match kind {
            FILE => {
                entry.length = wire.varint()?;
                let blocks = blocks_of(entry.length)
                    .ok_or(Malformed::new("a file is longer than blocks can be numbered"))?;
                entry.map = self.maps.decode(wire, blocks)?;
            }
            DIRECTORY => entry.kind = FileKind::Directory,
            LINK => {
                let target = wire.text(PATH_BYTES_MAX, "the target of a link is too long or not UTF-8")?;
                entry.kind = FileKind::Link { target: target.to_owned() };
            }
            _ => return Err(Malformed::new("an entry is of an unknown kind")),
        }
        self.path.clone_from(&entry.path);
        self.modified = modified;
        Ok(entry)
    }
}

/// How many bytes two paths have in common, as whole characters.
fn shared_prefix(one: &str, other: &str) -> usize {
    let mut shared = one.bytes().zip(other.bytes()).take_while(|(a, b)| a == b).count();
    while !other.is_char_boundary(shared) {
        shared -= 1;
    }
    shared
}

/// The entries of a raw chunk, decoded one by one: all maps of a big chunk at once would be many times its size.
#[derive(Debug, Clone)]
pub(super) struct ChunkEntries {
    raw: Arc<Vec<u8>>,
    position: usize,
    coder: EntryCoder,
}

impl ChunkEntries {
    pub(super) fn new(raw: Vec<u8>) -> Self {
        Self { raw: Arc::new(raw), position: 0, coder: EntryCoder::default() }
    }

    /// The next entry, whose extents lie in packs of the table; `None` at the end.
    pub(super) fn next(&mut self, packs: &PackTable) -> Option<Result<FileEntry, Malformed>> {
        let mut wire = Wire::new(&self.raw[self.position..]);
        if wire.remaining() == 0 {
            return None;
        }
        let entry = self.coder.decode(&mut wire);
        self.position = self.raw.len() - wire.remaining();
        Some(entry.and_then(|entry| packs.check(&entry.map).map(|()| entry)))
    }
}

/// Entries between two places of a chunk where decoding can begin.
const MARK_EVERY: usize = 32;

/// A raw chunk in which a file is found by its path. Entries can only be decoded in order; the places remembered on the first walk
/// spare later ones most of it.
#[derive(Debug)]
pub(super) struct ChunkLookup {
    /// Path of an entry, and the walk before it; in order.
    marks: Vec<(String, ChunkEntries)>,
}

impl ChunkLookup {
    pub(super) fn new(raw: Vec<u8>, packs: &PackTable) -> Result<Self, Malformed> {
        let mut entries = ChunkEntries::new(raw);
        let mut marks = Vec::new();
        for number in 0_usize.. {
            let before = number.is_multiple_of(MARK_EVERY).then(|| entries.clone());
            let Some(entry) = entries.next(packs).transpose()? else { break };
            if let Some(before) = before {
                marks.push((entry.path, before));
            }
        }
        Ok(Self { marks })
    }

    pub(super) fn find(&self, path: &str, packs: &PackTable) -> Result<Option<FileEntry>, Malformed> {
        let after = self.marks.partition_point(|(first, _)| first.as_str() <= path);
        let Some((_, walk)) = after.checked_sub(1).and_then(|mark| self.marks.get(mark)) else {
            return Ok(None);
        };
        let mut walk = walk.clone();
        while let Some(entry) = walk.next(packs).transpose()? {
            if entry.path.as_str() >= path {
                return Ok(Some(entry).filter(|entry| entry.path == path));
            }
        }
        Ok(None)
    }
}

/// Reads a raw file chunk. Pure, for fuzzing.
///
/// # Errors
/// [`Malformed`] when it is not one, a path is unsafe or out of order, or a map names what is in no pack of the table.
pub fn decode_chunk(raw: &[u8], packs: &PackTable) -> Result<Vec<FileEntry>, Malformed> {
    let mut entries = ChunkEntries::new(raw.to_vec());
    let mut admission = Admission::default();
    let mut read = Vec::new();
    while let Some(entry) = entries.next(packs) {
        let entry = entry?;
        admission.admit(&entry)?;
        read.push(entry);
    }
    Ok(read)
}
