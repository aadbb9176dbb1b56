//! The backup that a new one builds on: where each file lay and how long it was.

use crate::error::BackupError;
use crate::options::FRAGMENTS_MAX;
use crate::plan::{self, Decision, Read, Touched, blocks_of};
use crate::scan::Entry;
use crate::worker::Prior;
use pgproof_repo::{ContentId, FileEntry, FileMap, Manifest, PieceIdentities};

/// The earlier backup as the workers ask it.
#[derive(Debug)]
pub(crate) struct PriorManifest<'a> {
    /// Its manifest.
    pub(crate) manifest: &'a Manifest,
    /// Where the identities of its extents are found.
    pub(crate) identities: PieceIdentities,
}

impl Prior for PriorManifest<'_> {
    fn of(&self, path: &str) -> Result<Option<(FileMap, Vec<Option<ContentId>>)>, BackupError> {
        let Some(entry) = self.manifest.file(path).map_err(failed)? else { return Ok(None) };
        let identities = self.identities.of(self.manifest.packs(), &entry.map).map_err(failed)?;
        Ok(Some((entry.map, identities)))
    }
}

/// Decides about every entry, walking the earlier manifest beside them. `touched` tells what WAL did to a file.
pub(crate) fn decide_all(
    entries: &[Entry],
    prior: &Manifest,
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
        let mut decision = plan::decide(entry, length, &touched(entry));
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
