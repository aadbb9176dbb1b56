//! One pack or manifest from one repository into another.

use crate::layout::{BackupId, Lineage, PackNumber};
use crate::manifest::{Manifest, ManifestInfo, ManifestWriter, PackTable};
use crate::pack::{PackInfo, PackPiece, PackReader, PackWriter};
use crate::repository::Repository;
use crate::{ContentId, Error, Malformed, Result};
use pgproof_store::{ObjectPath, PutMode};

/// Bytes of a manifest read at a time.
const READ_BYTES: u64 = 4 << 20;

/// Writes a pack of `source` as pack `to` of `target`: the same extents at the same places. A key is derived from a fresh salt, so it
/// never seals two contents, whatever lay by this name before.
///
/// # Errors
/// [`Error::Damaged`] and [`Error::Missing`] of what is read; [`Error::Store`], and a conflict when there is a pack of this name.
pub(crate) fn copy_pack(
    source: &Repository,
    target: &Repository,
    lineage: Lineage,
    from: &PackInfo,
    to: (BackupId, PackNumber),
    advance: &dyn Fn(u64),
) -> Result<PackInfo> {
    let reader = open_pack(source, lineage, from)?;
    let mut writer = PackWriter::create(target, lineage, &to.0, to.1)?;
    reader.read_payloads(&mut |entry, payload, pages| {
        let pieces: Vec<PackPiece<'_>> = entry
            .pieces
            .iter()
            .map(|piece| PackPiece { file: &piece.file, pages: piece.pages, blocks: &piece.blocks })
            .collect();
        let place = writer.append_payload(payload, pages, &pieces)?;
        if place != entry.place() {
            let reason = format!("extent {} of {} would lie elsewhere", entry.frame, reader.path());
            return Err(Error::Refused { operation: "copy a pack", reason });
        }
        advance(entry.stored.into());
        Ok(())
    })?;
    writer.finish()
}

/// Opens the very pack that a manifest describes.
///
/// # Errors
/// [`Error::Damaged`] when another one lies there.
pub(crate) fn open_pack(repository: &Repository, lineage: Lineage, info: &PackInfo) -> Result<PackReader> {
    let reader = PackReader::open(repository, lineage, &info.backup, info.number)?;
    match reader.info() == *info {
        true => Ok(reader),
        false => {
            let other = Malformed::new("it is another pack than the manifest describes");
            Err(other.in_object(reader.path().as_str()))
        }
    }
}

/// Whether two packs hold extents of the same pages at the same places, as a pack and its copy do. Identities of two repositories
/// cannot be compared.
pub(crate) fn same_layout(one: &PackReader, other: &PackReader) -> bool {
    let pairs = one.entries().iter().zip(other.entries());
    one.entries().len() == other.entries().len()
        && pairs.into_iter().all(|(one, other)| {
            let pieces = one.pieces.iter().zip(&other.pieces);
            one.place() == other.place()
                && one.pieces.len() == other.pieces.len()
                && pieces.into_iter().all(|(one, other)| {
                    (&one.file, one.pages, &one.blocks) == (&other.file, other.pages, &other.blocks)
                })
        })
}

/// Writes the manifest of a backup anew: its files and summary as `from` has them, over the packs of `table`, which uses the same
/// numbers.
///
/// # Errors
/// As [`ManifestWriter::finish`], and those of reading `from`.
pub(crate) fn write_manifest(
    from: &Manifest,
    target: &Repository,
    lineage: Lineage,
    table: &PackTable,
    mode: PutMode,
) -> Result<ManifestInfo> {
    let summary = from.summary();
    let mut writer = ManifestWriter::create(target, lineage, &summary.id)?;
    for entry in from.files() {
        writer.add(&entry?)?;
    }
    writer.finish_with(table, summary, mode)
}

/// The identity of a manifest's bytes, as an outcome states it.
///
/// # Errors
/// [`Error::Store`].
pub(crate) fn manifest_identity(repository: &Repository, path: &ObjectPath, bytes: u64) -> Result<ContentId> {
    let mut hasher = repository.identity_hasher();
    let mut at = 0;
    let mut part = Vec::new();
    while at < bytes {
        part.resize((bytes - at).min(READ_BYTES) as usize, 0);
        repository.store().get_range(path, at, &mut part).map_err(Error::store("read a manifest"))?;
        hasher.update(&part);
        at += part.len() as u64;
    }
    Ok(hasher.finish())
}
