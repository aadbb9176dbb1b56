//! Reads pages of the running cluster and checks them.
//!
//! PostgreSQL writes while we read, so a page can be seen half old, half new. A page whose checksum fails is therefore read
//! again; one that keeps failing is *suspect*: only WAL of the backup's own time that restores it whole can acquit it
//! (`suspects.rs`), never its own LSN. Nothing is judged here beyond a page's own checksum.

use crate::error::BackupError;
use crate::plan::blocks_of;
use crate::scan::Entry;
use pgproof_pg::page;
use pgproof_pg::relfile::BLOCK_SIZE;
use pgproof_pg::{Fork, RelPath};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

/// How often a page is read again before it counts as suspect, and the pause before each time: a torn page is whole again as soon
/// as the one `write` that was seen half done has ended, a busy disk can make that take a while.
const REREAD_PAUSES_MS: [u64; 4] = [0, 1, 10, 100];

/// An open file of the cluster.
#[derive(Debug)]
pub(crate) struct Source {
    file: File,
    path: PathBuf,
    /// Number of this file's first block in its relation fork; `None` where pages carry no checksum.
    checked_from: Option<u32>,
}

/// What one read gave.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Pages {
    /// Whole pages in the buffer, the last one padded with zeroes where the file ended inside it.
    pub(crate) count: usize,
    /// Bytes that the file gave for them.
    pub(crate) bytes: u64,
    /// Blocks, counted from the file's begin, whose checksum failed every time.
    pub(crate) suspect: Vec<u32>,
}

impl Source {
    /// Takes an open file of the cluster.
    pub(crate) fn new((file, path): (File, PathBuf), entry: &Entry, checksums: bool) -> Self {
        let checked_from = entry
            .relation
            .as_ref()
            .filter(|relation| checksums && carries_checksums(relation))
            .map(|relation| relation.first_block());
        Self { file, path, checked_from }
    }

    /// Do its pages carry checksums that are verified?
    pub(crate) fn is_checked(&self) -> bool {
        self.checked_from.is_some()
    }

    /// Reads pages from block `first` (counted from the file's begin) into `buffer`, a whole number of pages long, and checks
    /// them. Fewer pages than asked for mean that the file has become shorter.
    pub(crate) fn read(&self, first: u32, buffer: &mut [u8]) -> Result<Pages, BackupError> {
        debug_assert!(buffer.len().is_multiple_of(BLOCK_SIZE));
        let filled = self.fill(first, buffer)?;
        let count = blocks_of(filled as u64) as usize;
        buffer[filled..count * BLOCK_SIZE].fill(0);
        let mut suspect = Vec::new();
        if let Some(base) = self.checked_from {
            let (pages, _) = buffer[..count * BLOCK_SIZE].as_chunks_mut::<BLOCK_SIZE>();
            for (index, page) in pages.iter_mut().enumerate() {
                let block = first + index as u32;
                if !page::verify(page, base + block).is_good() && !self.read_again(block, base, page)? {
                    suspect.push(block);
                }
            }
        }
        Ok(Pages { count, bytes: filled as u64, suspect })
    }

    fn read_again(&self, block: u32, base: u32, page: &mut [u8; BLOCK_SIZE]) -> Result<bool, BackupError> {
        for pause in REREAD_PAUSES_MS {
            thread::sleep(Duration::from_millis(pause));
            let filled = self.fill(block, page)?;
            if filled < BLOCK_SIZE {
                // The file was cut off here meanwhile: replay cuts it off again.
                page[filled..].fill(0);
                return Ok(true);
            }
            if page::verify(page, base + block).is_good() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Reads until `buffer` is full or the file ends; returns the bytes read.
    fn fill(&self, first: u32, buffer: &mut [u8]) -> Result<usize, BackupError> {
        let offset = u64::from(first) * BLOCK_SIZE as u64;
        let mut filled = 0;
        while filled < buffer.len() {
            match self.file.read_at(&mut buffer[filled..], offset + filled as u64) {
                Ok(0) => break,
                Ok(read) => filled += read,
                Err(source) if source.kind() == std::io::ErrorKind::Interrupted => {}
                Err(source) => return Err(BackupError::Unreadable { path: self.path.clone(), source }),
            }
        }
        Ok(filled)
    }
}

/// All forks of a permanent relation carry checksums; an init fork is copied over the main fork, so its blocks are numbered alike.
fn carries_checksums(relation: &RelPath) -> bool {
    matches!(relation.file.fork, Fork::Main | Fork::Fsm | Fork::Vm | Fork::Init)
}
