//! Puts the manifest together: the earlier backup's map of each file under the pieces stored now.
//!
//! Walks the files of the plan and those of the earlier manifest side by side, both in order of path, so that neither is held in
//! memory as a whole. Pure but for reading the earlier manifest and writing the new one.

use crate::error::BackupError;
use crate::plan::{Decision, Read, blocks_of};
use crate::scan::{Entry, EntryKind};
use crate::worker::{Output, Placed};
use pgproof_repo::{FileEntry, FileKind, FileMap, Manifest, ManifestWriter};
use std::collections::{HashMap, HashSet};

/// What the workers did, sorted by file.
#[derive(Debug, Default)]
pub(crate) struct Results {
    placed: Vec<Placed>,
    shortened: HashMap<usize, u32>,
    vanished: HashSet<usize>,
}

impl Results {
    /// Joins the outputs of all workers.
    pub(crate) fn join(outputs: &mut [Output]) -> Self {
        let mut results = Self::default();
        for output in outputs {
            results.placed.append(&mut output.placed);
            results.vanished.extend(output.vanished.drain(..));
            for (file, blocks) in output.shortened.drain(..) {
                results
                    .shortened
                    .entry(file)
                    .and_modify(|known| *known = blocks.min(*known))
                    .or_insert(blocks);
            }
        }
        results.placed.sort_by_key(|placed| placed.file);
        results
    }

    /// Pages stored anew.
    pub(crate) fn pages(&self) -> u64 {
        self.placed.iter().map(|placed| u64::from(placed.extent.piece_pages)).sum()
    }

    fn of(&self, file: usize) -> &[Placed] {
        let start = self.placed.partition_point(|placed| placed.file < file);
        let end = start + self.placed[start..].partition_point(|placed| placed.file == file);
        &self.placed[start..end]
    }

    /// Length of a file as it was read. A part that was read before the file was cut off stays: replay cuts it off again.
    fn length(&self, file: usize, planned: u64) -> u64 {
        let Some(&shortened) = self.shortened.get(&file) else { return planned };
        let read =
            self.of(file).iter().flat_map(|placed| &placed.blocks).map(|run| run.end).max().unwrap_or(0);
        planned.min(u64::from(shortened.max(read)) * pgproof_pg::relfile::BLOCK_SIZE as u64)
    }
}

/// Totals of a manifest.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Totals {
    /// Files in it.
    pub(crate) files: u64,
    /// Their bytes.
    pub(crate) bytes: u64,
    /// Files whose map could be carried over unchanged.
    pub(crate) files_reused: u64,
}

/// Writes every entry.
pub(crate) fn assemble(
    entries: &[Entry],
    decisions: &[Decision],
    results: &Results,
    prior: Option<&Manifest>,
    writer: &mut ManifestWriter,
) -> Result<Totals, BackupError> {
    let mut earlier = prior.map(Manifest::files).into_iter().flatten().peekable();
    let mut totals = Totals::default();
    for (file, (entry, decision)) in entries.iter().zip(decisions).enumerate() {
        let mut before = None;
        while let Some(next) =
            earlier.next_if(|next| next.as_ref().map_or(true, |next| next.path <= entry.path))
        {
            let next =
                next.map_err(|source| BackupError::Repo { operation: "read the earlier manifest", source })?;
            before = Some(next).filter(|next: &FileEntry| next.path == entry.path);
        }
        if results.vanished.contains(&file) {
            continue;
        }
        let written = file_entry(entry, decision, before, results, file)?;
        if written.kind == FileKind::File {
            totals.files += 1;
            totals.bytes += written.length;
            totals.files_reused += u64::from(decision.read == Read::Nothing);
        }
        writer
            .add(&written)
            .map_err(|source| BackupError::Repo { operation: "write the manifest", source })?;
    }
    Ok(totals)
}

fn file_entry(
    entry: &Entry,
    decision: &Decision,
    before: Option<FileEntry>,
    results: &Results,
    file: usize,
) -> Result<FileEntry, BackupError> {
    let kind = match &entry.kind {
        EntryKind::File => FileKind::File,
        EntryKind::Directory => FileKind::Directory,
        EntryKind::Link(target) => FileKind::Link { target: target.clone() },
    };
    let mut written = FileEntry {
        path: entry.path.clone(),
        kind,
        mode: entry.mode,
        modified: entry.modified,
        length: 0,
        map: FileMap::new(),
    };
    if entry.kind != EntryKind::File {
        return Ok(written);
    }
    let map = before.map(|before| before.map).unwrap_or_default();
    written.length = results.length(file, entry.length);
    if decision.read == Read::Nothing {
        written.map = map;
        return Ok(written);
    }
    let pieces = results.of(file).iter().map(|placed| (placed.extent, placed.blocks.as_slice()));
    written.map = map
        .overlay(pieces, blocks_of(written.length))
        .map_err(|source| BackupError::Repo { operation: "write the manifest", source })?;
    Ok(written)
}
