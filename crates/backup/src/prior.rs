//! The backup that a new one builds on: where each file lay and how long it was.

use crate::error::BackupError;
use crate::kinds::Kinds;
use crate::options::FRAGMENTS_MAX;
use crate::plan::{self, Decision, Read, Touched, blocks_of};
use crate::scan::Entry;
use crate::worker::Prior;
use pgproof_pg::Fork;
use pgproof_pg::page::{self, PageHeader};
use pgproof_pg::relfile::BLOCK_SIZE;
use pgproof_repo::access::Page;
use pgproof_repo::{ContentId, FileEntry, FileMap, Manifest, PageReader, PieceIdentities};

/// The earlier backup as the workers ask it.
#[derive(Debug)]
pub(crate) struct PriorBackup<'a> {
    /// Its manifest and its pages.
    pub(crate) pages: &'a PageReader,
    /// Where the identities of its extents are found.
    pub(crate) identities: PieceIdentities,
    /// How pages are compared.
    pub(crate) kinds: &'a Kinds,
}

impl Prior for PriorBackup<'_> {
    fn of(&self, path: &str) -> Result<Option<(FileMap, Vec<Option<ContentId>>)>, BackupError> {
        let manifest = self.pages.manifest();
        let Some(entry) = manifest.file(path).map_err(failed)? else { return Ok(None) };
        let identities = self.identities.of(manifest.packs(), &entry.map).map_err(failed)?;
        Ok(Some((entry.map, identities)))
    }

    fn holds(&self, entry: &Entry, block: u32, image: &Page) -> Result<bool, BackupError> {
        // Free space maps are hints throughout, and WAL names only part of what changes in them.
        let Some(relation) = entry.relation.filter(|relation| relation.file.fork != Fork::Fsm) else {
            return Ok(true);
        };
        let mut earlier: Page = [0; BLOCK_SIZE];
        self.pages.page(&entry.path, block, &mut earlier).map_err(failed)?;
        Ok(self.kinds.same_page(&relation, block, &earlier, image) || (is_blank(&earlier) && is_blank(image)))
    }
}

/// Does the page hold nothing? A relation grows by zeroed pages, and `RelationGetBufferForTuple` (`hio.c`) writes an empty header into
/// them, both without WAL.
fn is_blank(page: &Page) -> bool {
    let header = PageHeader::of(page);
    let empty = usize::from(header.lower) == page::PAGE_HEADER_SIZE
        && header.upper == header.special
        && usize::from(header.special) == BLOCK_SIZE;
    page::is_zero(page) || empty
}

/// Decides about every entry, walking the earlier manifest beside them. `check` says that everything is read; `touched` tells what WAL
/// did to a file.
pub(crate) fn decide_all(
    entries: &[Entry],
    prior: &Manifest,
    check: bool,
    mut touched: impl FnMut(&Entry) -> Touched,
) -> Result<Vec<Decision>, BackupError> {
    let mut earlier = prior.files().peekable();
    let mut decisions = Vec::with_capacity(entries.len());
    for entry in entries {
        let mut before: Option<FileEntry> = None;
        while let Some(next) =
            earlier.next_if(|next| next.as_ref().map_or(true, |next| next.path <= entry.path))
        {
            let next = next.map_err(failed)?;
            before = Some(next).filter(|next| next.path == entry.path);
        }
        let length = before.as_ref().map(|before| blocks_of(before.length));
        let decide = if check { plan::decide_checking } else { plan::decide };
        let mut decision = decide(entry, length, &touched(entry));
        if let (Read::Blocks(ranges), Some(before)) = (&mut decision.read, &before) {
            let now = blocks_of(entry.length);
            let widened = plan::widen(std::mem::take(ranges), now, FRAGMENTS_MAX, |region| {
                before.map.fragments(region)
            });
            *ranges = widened;
        }
        decisions.push(decision);
    }
    Ok(decisions)
}

fn failed(source: pgproof_repo::Error) -> BackupError {
    BackupError::Repo { operation: "read the earlier manifest", source }
}
