//! One worker: takes a batch, compares what is there, reads the extents that are needed, writes the pages.

use super::batch::{Batch, BatchFile, Share};
use super::output::{Opened, Output};
use crate::error::{RestoreError, Result};
use pgproof_pg::{RelPath, SystemIdentifier};
use pgproof_repo::map::PageUse;
use pgproof_repo::{ExtentReader, ExtentRef, PAGE_BYTES, PackIndex, PackTable, Repository};
use serde::Serialize;
use std::ops::ControlFlow;

/// What was done, counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Work {
    /// Bytes written to files.
    pub bytes_written: u64,
    /// Bytes of existing files that were read and compared.
    pub bytes_compared: u64,
    /// Extents read from the repository.
    pub extents_read: u64,
    /// Bytes of them as stored.
    pub stored_bytes_read: u64,
}

impl Work {
    /// Adds what another worker did.
    pub fn add(&mut self, other: &Self) {
        self.bytes_written += other.bytes_written;
        self.bytes_compared += other.bytes_compared;
        self.extents_read += other.extents_read;
        self.stored_bytes_read += other.stored_bytes_read;
    }
}

/// An extent that could not be read, and what it would have been.
#[derive(Debug)]
pub(crate) struct Damaged {
    pub(crate) what: String,
    pub(crate) source: pgproof_repo::Error,
}

/// What ends a worker.
#[derive(Debug)]
pub(crate) enum Failure {
    /// Anything but damage.
    Error(RestoreError),
    /// Damage; whoever knows the backup makes an error of it.
    Damaged(Box<Damaged>),
}

impl From<RestoreError> for Failure {
    fn from(error: RestoreError) -> Self {
        Self::Error(error)
    }
}

/// Keeps a decompression context and two buffers.
pub(crate) struct Worker<'a> {
    repository: &'a Repository,
    packs: &'a PackTable,
    reader: ExtentReader,
    present: Vec<u8>,
    pub(crate) work: Work,
}

impl<'a> Worker<'a> {
    pub(crate) fn new(
        repository: &'a Repository,
        system: SystemIdentifier,
        packs: &'a PackTable,
    ) -> Result<Self> {
        let reader =
            ExtentReader::new(repository, system).map_err(RestoreError::repository("read extents"))?;
        Ok(Self { repository, packs, reader, present: Vec::new(), work: Work::default() })
    }

    /// Does a batch; returns the bytes that are now in place.
    pub(crate) fn perform(&mut self, mut batch: Batch) -> Result<u64, Failure> {
        let placed = batch.placed_bytes();
        for file in batch.files.iter().flatten() {
            self.prepare(file)?;
        }
        self.pass_over_equal(&mut batch)?;
        let Batch { mut files, mut shares, .. } = batch;
        shares.sort_by_key(|share| (share.extent.pack, share.extent.frame));
        for group in shares.chunk_by(|one, next| one.extent.pack == next.extent.pack) {
            self.fetch(&mut files, group)?;
        }
        Ok(placed)
    }

    /// Opens files that no page would open, and clears holes of existing ones.
    fn prepare(&mut self, file: &BatchFile) -> Result<()> {
        if !file.all_hole && file.holes.is_empty() {
            return Ok(());
        }
        let opened = file.output.open()?;
        if opened.found.is_some() {
            for hole in &file.holes {
                self.clear(&file.output, opened, hole.start, hole.end)?;
            }
        }
        Ok(())
    }

    /// Clears the blocks that are not zero already.
    fn clear(&mut self, output: &Output, opened: &Opened, start: u32, end: u32) -> Result<()> {
        const STEP: u32 = 32;
        let mut block = start;
        while block < end {
            let blocks = STEP.min(end - block);
            self.present.resize(blocks as usize * PAGE_BYTES, 0);
            output.read(opened, block, &mut self.present)?;
            self.work.bytes_compared += self.present.len() as u64;
            if self.present.iter().any(|&byte| byte != 0) {
                output.clear(opened, block, blocks)?;
                self.work.bytes_written += self.present.len() as u64;
            }
            block += blocks;
        }
        Ok(())
    }

    /// Drops the shares whose content is in place already, as far as that can be told without reading the repository, and closes the
    /// files for which nothing is left to do. Then sets how many shares each file waits for.
    fn pass_over_equal(&mut self, batch: &mut Batch) -> Result<()> {
        let shares = std::mem::take(&mut batch.shares);
        let mut previous = None;
        for share in shares {
            if let Some(previous) = previous.replace(share.file).filter(|&previous| previous != share.file) {
                close_if_done(&mut batch.files[previous]);
            }
            let Some(file) = &mut batch.files[share.file] else { continue };
            if !self.is_in_place(file, &share)? {
                file.waits_for += 1;
                batch.shares.push(share);
            }
        }
        batch.files.iter_mut().for_each(close_if_done);
        Ok(())
    }

    fn is_in_place(&mut self, file: &BatchFile, share: &Share) -> Result<bool> {
        let Some(identity) = share.identity else { return Ok(false) };
        let opened = file.output.open()?;
        if opened.found.is_none() {
            return Ok(false);
        }
        self.read_present(&file.output, opened, &share.uses)?;
        Ok(self.repository.identity(&self.present) == identity)
    }

    /// Reads the blocks of these uses, one behind the other.
    fn read_present(&mut self, output: &Output, opened: &Opened, uses: &[PageUse]) -> Result<()> {
        let pages: usize = uses.iter().map(|used| usize::from(used.pages)).sum();
        self.present.resize(pages * PAGE_BYTES, 0);
        let mut rest = &mut self.present[..];
        for used in uses {
            let (own, behind) = rest.split_at_mut(usize::from(used.pages) * PAGE_BYTES);
            output.read(opened, used.block, own)?;
            rest = behind;
        }
        self.work.bytes_compared += (pages * PAGE_BYTES) as u64;
        Ok(())
    }

    /// Reads extents of one pack and writes what they give. A file is closed when it has all it waited for.
    fn fetch(&mut self, files: &mut [Option<BatchFile>], group: &[Share]) -> Result<(), Failure> {
        let Some(first) = group.first() else { return Ok(()) };
        let pack = self.packs.get(first.extent.pack).map_err(RestoreError::repository("find a pack"))?;
        let extents: Vec<ExtentRef> = group.iter().map(|share| share.extent).collect();
        let Self { reader, present, work, .. } = self;
        let mut failed = None;
        let read = reader.read_many(pack, &extents, &mut |at, pages| {
            let share = &group[at];
            let Some(file) = &mut files[share.file] else { return ControlFlow::Continue(()) };
            if let Err(error) = place(&file.output, share, pages, present, work) {
                failed = Some(error);
                return ControlFlow::Break(());
            }
            file.waits_for -= 1;
            close_if_done(&mut files[share.file]);
            ControlFlow::Continue(())
        });
        if let Some(error) = failed {
            return Err(error.into());
        }
        if let Err(source) = read {
            return Err(self.judge(files, group, first.extent.pack, source));
        }
        for same in group.chunk_by(|one, next| one.extent.frame == next.extent.frame) {
            self.work.extents_read += 1;
            self.work.stored_bytes_read += u64::from(same[0].extent.stored);
        }
        Ok(())
    }

    /// Damage is told with the file and block that it hits, so the extent in question is found by reading one by one.
    fn judge(
        &mut self,
        files: &[Option<BatchFile>],
        group: &[Share],
        pack: PackIndex,
        source: pgproof_repo::Error,
    ) -> Failure {
        if !source.is_damage() {
            return Failure::Error(RestoreError::Repository { operation: "read extents", source });
        }
        let mut pages = Vec::new();
        let hit = self.packs.get(pack).ok().and_then(|pack| {
            group.iter().find(|share| self.reader.read(pack, &share.extent, &mut pages).is_err())
        });
        let file = hit.and_then(|share| Some((share, files[share.file].as_ref()?)));
        let what =
            file.map_or_else(|| "an extent".to_owned(), |(share, file)| describe(&file.output.name, share));
        Failure::Damaged(Box::new(Damaged { what, source }))
    }
}

fn close_if_done(file: &mut Option<BatchFile>) {
    drop(file.take_if(|file| file.waits_for == 0));
}

/// Writes the pages of a share; into an existing file only those that differ.
fn place(output: &Output, share: &Share, pages: &[u8], present: &mut Vec<u8>, work: &mut Work) -> Result<()> {
    let opened = output.open()?;
    let mut written = 0;
    for used in &share.uses {
        let from = usize::from(used.page) * PAGE_BYTES;
        let wanted = &pages[from..from + usize::from(used.pages) * PAGE_BYTES];
        if opened.found.is_none() {
            written += output.write(opened, used.block, wanted)?;
            continue;
        }
        present.resize(wanted.len(), 0);
        output.read(opened, used.block, present)?;
        work.bytes_compared += wanted.len() as u64;
        written += write_differing(output, opened, used.block, wanted, present)?;
    }
    work.bytes_written += written;
    Ok(())
}

/// Writes runs of pages that differ from what is there.
fn write_differing(
    output: &Output,
    opened: &Opened,
    block: u32,
    wanted: &[u8],
    present: &[u8],
) -> Result<u64> {
    let differs = |page: usize| {
        let range = page * PAGE_BYTES..(page + 1) * PAGE_BYTES;
        wanted[range.clone()] != present[range]
    };
    let pages = wanted.len() / PAGE_BYTES;
    let mut written = 0;
    let mut page = 0;
    while page < pages {
        let start = page;
        while page < pages && differs(page) {
            page += 1;
        }
        if page > start {
            let run = &wanted[start * PAGE_BYTES..page * PAGE_BYTES];
            written += output.write(opened, block + start as u32, run)?;
        } else {
            page += 1;
        }
    }
    Ok(written)
}

/// The file, relation and block that a share is.
fn describe(name: &str, share: &Share) -> String {
    let block = share.uses.first().map_or(0, |used| used.block);
    match RelPath::parse(name) {
        Some(relation) => {
            let number = u64::from(relation.first_block()) + u64::from(block);
            format!("block {number} of fork {} of relation file {name}", relation.file.fork.name())
        }
        None => format!("block {block} of file {name}"),
    }
}
