//! Archived WAL from one repository into another: the same content under other keys.
//!
//! Compressed bytes and summary stay as they were made; each chunk is authenticated and decompressed on the way, because the identity of
//! the content is another one under the other repository's key. So nothing damaged is ever passed on. Every object that is written
//! draws a salt of its own, also in place of a damaged one: a key is never used for two contents.

use super::history::{self, HistoryRecord};
use super::index::SegmentIndex;
use super::store::{Stored, conflict, seal_end};
use super::{SegmentReader, header, sealer};
use crate::layout::Lineage;
use crate::record;
use crate::repository::Repository;
use crate::seal::{Salt, Section};
use crate::{ContentId, Error, Malformed, Result};
use pgproof_pg::ArchiveName;
use pgproof_store::{ObjectPath, PutMode};

/// Stores an archived segment in another repository, unless the same is there already.
///
/// # Errors
/// [`Error::WalConflict`] when other content is there by this name, [`Error::Damaged`] and [`Error::Missing`] of what is read on either
/// side, [`Error::Store`].
pub(crate) fn copy_segment(
    source: &Repository,
    target: &Repository,
    path: &ObjectPath,
    name: &ArchiveName,
) -> Result<Stored> {
    let reader = SegmentReader::open(source, path)?;
    match SegmentReader::open(target, path) {
        Ok(present) => compare(&reader, target, &present, name),
        Err(Error::Missing { .. }) => match write(&reader, target, path, PutMode::IfAbsent) {
            Err(error) if error.is_conflict() => {
                compare(&reader, target, &SegmentReader::open(target, path)?, name)
            }
            written => written,
        },
        Err(error) => Err(error),
    }
}

/// Writes an archived segment where it is missing or damaged: `mode` says which, so that nothing good is ever replaced.
///
/// # Errors
/// As [`copy_segment`]; [`Error::is_conflict`] when it was archived meanwhile.
pub(crate) fn restore_segment(
    source: &Repository,
    target: &Repository,
    path: &ObjectPath,
    mode: PutMode,
) -> Result<Stored> {
    write(&SegmentReader::open(source, path)?, target, path, mode)
}

fn write(reader: &SegmentReader, target: &Repository, path: &ObjectPath, mode: PutMode) -> Result<Stored> {
    let operation = "copy a segment";
    let salt = Salt::random();
    let sealer = sealer(target, &salt, path);
    let mut object = target.store().writer(path).map_err(Error::store(operation))?;
    object.write_all(&header(target, salt).bytes()).map_err(Error::store(operation))?;
    let mut frames: Vec<u32> = Vec::with_capacity(reader.index().frames.len());
    let mut identities = Identities::new(reader, target);
    let mut frame = Vec::new();
    reader.read_payloads(&mut |payload, raw| {
        identities.update(raw);
        frame.clear();
        frame.extend_from_slice(payload);
        sealer.seal(Section::Content, frames.len() as u64, &mut frame, 0);
        frames.push(frame.len() as u32);
        object.write_all(&frame).map_err(Error::store(operation))
    })?;
    let identity = identities.finish(reader)?;
    let index = SegmentIndex { identity, frames, ..reader.index().clone() };
    let end = seal_end(&sealer, salt, &index, &reader.summary_bytes()?)?;
    object.write_all(&end).map_err(Error::store(operation))?;
    let meta = object.finish(mode).map_err(Error::store(operation))?;
    Ok(Stored::New { stored_bytes: meta.size })
}

/// The identities of one content in both repositories.
struct Identities {
    here: crate::IdentityHasher,
    there: crate::IdentityHasher,
}

impl Identities {
    fn new(reader: &SegmentReader, target: &Repository) -> Self {
        Self { here: reader.repository().identity_hasher(), there: target.identity_hasher() }
    }

    fn update(&mut self, raw: &[u8]) {
        self.here.update(raw);
        self.there.update(raw);
    }

    /// That of the other repository, once the content was found to be what was archived.
    fn finish(self, reader: &SegmentReader) -> Result<ContentId> {
        if self.here.finish() != reader.index().identity {
            let wrong = Malformed::new("its content is not the one that its identity names");
            return Err(wrong.in_object(reader.path().as_str()));
        }
        Ok(self.there.finish())
    }
}

/// What is there already is the same, or somebody else's.
fn compare(
    offered: &SegmentReader,
    target: &Repository,
    present: &SegmentReader,
    name: &ArchiveName,
) -> Result<Stored> {
    if is_copy(offered.index(), present.index()) {
        return Ok(Stored::SameContent);
    }
    let mut identities = Identities::new(offered, target);
    offered.read_payloads(&mut |_, raw| {
        identities.update(raw);
        Ok(())
    })?;
    let identity = identities.finish(offered)?;
    if identity == present.index().identity {
        return Ok(Stored::SameContent);
    }
    let archived = (present.index().identity, &present.index().pushed);
    Err(conflict(name, archived, (identity, &offered.index().pushed)))
}

/// Whether both were made by one push, which makes reading the content superfluous: the same instant, host and compressed lengths.
fn is_copy(one: &SegmentIndex, other: &SegmentIndex) -> bool {
    one.raw_bytes == other.raw_bytes && one.frames == other.frames && one.pushed == other.pushed
}

/// Stores a history file in another repository, unless the same is there already.
///
/// # Errors
/// As [`copy_segment`].
pub(crate) fn copy_history(
    source: &Repository,
    target: &Repository,
    lineage: Lineage,
    name: &ArchiveName,
) -> Result<Stored> {
    match restore_history(source, target, lineage, name, PutMode::IfAbsent) {
        Err(error) if error.is_conflict() => {
            let record = offered(source, target, lineage, name)?;
            history::compare(target, &history::path(lineage, name)?, &record).unwrap_or(Err(error))
        }
        written => written,
    }
}

/// Writes a history file where it is missing or damaged, as `mode` says.
///
/// # Errors
/// As [`restore_segment`].
pub(crate) fn restore_history(
    source: &Repository,
    target: &Repository,
    lineage: Lineage,
    name: &ArchiveName,
    mode: PutMode,
) -> Result<Stored> {
    let record = offered(source, target, lineage, name)?;
    let meta = record::write(target, &history::path(lineage, name)?, &record, mode)?;
    Ok(Stored::New { stored_bytes: meta.size })
}

fn offered(
    source: &Repository,
    target: &Repository,
    lineage: Lineage,
    name: &ArchiveName,
) -> Result<HistoryRecord> {
    let found = history::read(source, lineage, name)?;
    let missing = || Error::Missing { object: name.to_string() };
    let record = found.ok_or_else(missing)?;
    Ok(HistoryRecord { identity: target.identity(&record.content), ..record })
}
