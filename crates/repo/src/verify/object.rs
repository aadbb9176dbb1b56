//! Reads one object again and says what is wrong with it. Knows nothing of other objects.

use crate::catalog::{PackObject, WalObject};
use crate::error::Malformed;
use crate::layout::Lineage;
use crate::lease::{ExpiredMark, Outcome, PinRecord, ReaderRecord, WriterRecord};
use crate::map::ExtentPlace;
use crate::pack::{PackInfo, PackReader};
use crate::parallel::lock;
use crate::record;
use crate::repository::Repository;
use crate::verify::VerifiedRecord;
use crate::walobject::{SegmentReader, history};
use crate::writer::ArchiveWriter;
use crate::{ContentId, Error, Result};
use pgproof_pg::wal::{SegmentSummary, Summarizer};
use pgproof_pg::{ArchiveName, TimelineHistory, WalSegmentSize};
use pgproof_store::{ObjectMeta, ObjectPath};
use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::sync::Mutex;

/// How much of an object is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Depth {
    /// All of it.
    Content,
    /// Only what says where its parts are: its content was read recently.
    Index,
}

/// What is wrong with an object, as the rest of a sentence, or `None`.
pub(super) type Wrong = Option<String>;

/// Turns damage into an answer and leaves everything else an error.
fn answer<T>(result: Result<T>) -> Result<Result<T, String>> {
    match result {
        Ok(value) => Ok(Ok(value)),
        Err(error) if error.is_unreadable() => Ok(Err(what_is_wrong(&error))),
        Err(error) => Err(error),
    }
}

/// The error without the object's name, which the finding carries.
pub(super) fn what_is_wrong(error: &Error) -> String {
    match error {
        Error::Damaged { what, .. } => what.clone(),
        Error::Missing { .. } => "it is missing".to_owned(),
        Error::Store { source, .. } if source.is_not_found() => "it is missing".to_owned(),
        Error::Store { .. } => "it is shorter than its parts".to_owned(),
        other => other.to_string(),
    }
}

/// A pack as it was read.
#[derive(Debug)]
pub(super) struct ReadPack {
    pub(super) object: PackObject,
    /// What manifests must say of it; `None` when its index cannot be read.
    pub(super) info: Option<PackInfo>,
    /// Where its extents are, by the number of their frames.
    pub(super) frames: Vec<FrameSpot>,
    /// Frames of which the content is damaged.
    pub(super) damaged: BTreeSet<u32>,
    /// What is wrong with the pack as a whole.
    pub(super) wrong: Wrong,
}

/// Where an extent is, in few bytes: there are millions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct FrameSpot {
    /// `u32::MAX` stands for anything beyond.
    offset: u32,
    stored: u32,
    pages: u16,
}

impl FrameSpot {
    pub(super) fn of(place: &ExtentPlace) -> Self {
        let offset = u32::try_from(place.offset).unwrap_or(u32::MAX);
        Self { offset, stored: place.stored, pages: place.pages }
    }
}

impl ReadPack {
    /// Whether an extent lies there as a manifest says.
    pub(super) fn holds(&self, place: &ExtentPlace) -> bool {
        self.frames.get(place.frame as usize) == Some(&FrameSpot::of(place))
    }
}

/// Reads a pack.
pub(super) fn read_pack(
    repository: &Repository,
    lineage: Lineage,
    object: PackObject,
    depth: Depth,
    advance: &dyn Fn(u64),
) -> Result<ReadPack> {
    let mut read = ReadPack { object, info: None, frames: Vec::new(), damaged: BTreeSet::new(), wrong: None };
    let opened = answer(PackReader::open(repository, lineage, &object.backup, object.number))?;
    let reader = match opened {
        Ok(reader) => reader,
        Err(wrong) => {
            read.wrong = Some(wrong);
            return Ok(read);
        }
    };
    read.info = Some(reader.info());
    read.frames = reader.entries().iter().map(|entry| FrameSpot::of(&entry.place())).collect();
    if let Err(wrong) = answer(reader.check_header())? {
        read.wrong = Some(wrong);
    }
    if depth == Depth::Index {
        return Ok(read);
    }
    let damaged = &mut read.damaged;
    let content = reader.read_all(&mut |entry, pages| {
        advance(entry.stored.into());
        if pages.is_err() {
            damaged.insert(entry.frame);
        }
        ControlFlow::Continue(())
    });
    if let Err(wrong) = answer(content)? {
        read.wrong = Some(wrong);
    }
    Ok(read)
}

/// Bytes of a manifest read at a time.
const READ_BYTES: u64 = 4 << 20;

/// Compares all bytes of a manifest with the identity in its outcome.
pub(super) fn read_manifest_bytes(
    repository: &Repository,
    path: &ObjectPath,
    (bytes, identity): (u64, ContentId),
    advance: &dyn Fn(u64),
) -> Result<Wrong> {
    let mut hasher = repository.identity_hasher();
    let mut at = 0;
    while at < bytes {
        let mut part = vec![0; (bytes - at).min(READ_BYTES) as usize];
        let read = repository.store().get_range(path, at, &mut part).map_err(Error::store("read a manifest"));
        if let Err(wrong) = answer(read)? {
            return Ok(Some(wrong));
        }
        hasher.update(&part);
        at += part.len() as u64;
        advance(part.len() as u64);
    }
    let same = hasher.finish() == identity;
    Ok((!same).then(|| "its bytes are not those that were published".to_owned()))
}

/// Reads an archived segment: every frame, the whole against its identity, and its summary against a fresh one.
pub(super) fn read_segment(
    repository: &Repository,
    lineage: Lineage,
    object: &WalObject,
    size: WalSegmentSize,
    advance: &dyn Fn(u64),
) -> Result<Wrong> {
    let reader = match answer(SegmentReader::open(repository, &object.meta.path))? {
        Ok(reader) => reader,
        Err(wrong) => return Ok(Some(wrong)),
    };
    if reader.index().raw_bytes != u64::from(size.bytes()) {
        let found = reader.index().raw_bytes;
        return Ok(Some(format!(
            "it holds {found} bytes, and segments of this cluster have {}",
            size.bytes()
        )));
    }
    if let Err(wrong) = answer(reader.check_header())? {
        return Ok(Some(wrong));
    }
    // One thread reads chunks in order, which hashing needs; other threads read other segments.
    let state = Mutex::new((repository.identity_hasher(), Summarizer::new(object.segment, size)));
    let content = reader.read_chunks(1, &|_, chunk| {
        let mut state = lock(&state);
        state.0.update(chunk);
        state.1.push(chunk);
        Ok(())
    });
    if let Err(wrong) = answer(content)? {
        return Ok(Some(wrong));
    }
    advance(object.meta.size);
    let (hasher, summarizer) = state.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    if hasher.finish() != reader.index().identity {
        return Ok(Some("its content is not what its identity names".to_owned()));
    }
    let summary = match answer(reader.summary_bytes())? {
        Ok(summary) => summary,
        Err(wrong) => return Ok(Some(wrong)),
    };
    Ok(compare_summary(lineage, &summary, &summarizer.finish()))
}

/// A summary that this program reads must be the one it makes; one of a newer program is left alone.
fn compare_summary(lineage: Lineage, stored: &[u8], fresh: &SegmentSummary) -> Wrong {
    if let Some(system) = fresh.system_identifier.filter(|&system| system != lineage.system()) {
        return Some(format!("it belongs to the cluster with system identifier {system}"));
    }
    match SegmentSummary::decode(stored) {
        Ok(stored) if stored != *fresh => Some("its summary does not tell what is in it".to_owned()),
        _ => None,
    }
}

/// Reads a history file.
pub(super) fn read_history(repository: &Repository, lineage: Lineage, object: &ObjectMeta) -> Result<Wrong> {
    let Ok(name) = ArchiveName::parse(object.path.name()) else { return Ok(None) };
    let content = match answer(history::read(repository, lineage, &name))? {
        Ok(Some(record)) => record.content,
        Ok(None) => return Ok(Some("it is missing".to_owned())),
        Err(wrong) => return Ok(Some(wrong)),
    };
    Ok(match name {
        ArchiveName::History(timeline) => {
            TimelineHistory::parse(timeline, &content).err().map(|error| error.to_string())
        }
        _ => None,
    })
}

/// Reads a small record of the kind that its name says.
pub(super) fn read_record(repository: &Repository, path: &ObjectPath) -> Result<Wrong> {
    let name = path.as_str();
    let kind = match path.parent() {
        Some(parent) if ["reader", "verified"].contains(&parent.name()) => parent.name().to_owned(),
        _ => path.name().to_owned(),
    };
    let wrong = match kind.as_str() {
        "lease" => wrong_record::<WriterRecord>(repository, path),
        "outcome" => wrong_record::<Outcome>(repository, path),
        "expired" => wrong_record::<ExpiredMark>(repository, path),
        "pin" => wrong_record::<PinRecord>(repository, path),
        "reader" => wrong_record::<ReaderRecord>(repository, path),
        "writer" => wrong_record::<ArchiveWriter>(repository, path),
        "verified" => wrong_record::<VerifiedRecord>(repository, path),
        _ => Err(Malformed::new("no version of the format has such an object").in_object(name)),
    };
    Ok(answer(wrong)?.err())
}

/// A record that is gone by now was removed by its owner.
fn wrong_record<T: serde::de::DeserializeOwned>(repository: &Repository, path: &ObjectPath) -> Result<()> {
    record::read::<T>(repository, path).map(drop)
}
