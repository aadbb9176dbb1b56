//! Timeline history files and backup history files: small records beside the segments.
//!
//! A timeline history file tells where a timeline left its parent; PostgreSQL asks for it before every recovery, and two different ones of
//! one name mean that two servers were promoted to the same timeline. A backup history file (`.backup`) tells nothing that a
//! backup's manifest does not tell; it is kept because PostgreSQL archives it and goes on only when that succeeds.

use super::fetch::{Fetched, TemporaryFile};
use super::index::PushedBy;
use super::store::{Stored, conflict};
use crate::layout::Lineage;
use crate::record;
use crate::repository::Repository;
use crate::{ContentId, Error, Result};
use pgproof_pg::{ArchiveName, TimelineHistory};
use pgproof_store::{ObjectMeta, ObjectPath, PutMode};
use serde::{Deserialize, Serialize};
use std::path::Path;

/// Longest history file in bytes; PostgreSQL writes about 50 for each ancestor.
const HISTORY_BYTES_MAX: u64 = 8 << 20;

/// The record of a history file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HistoryRecord {
    /// The file's name.
    pub name: ArchiveName,
    /// Its content in hexadecimal digits: the reasons in it may be of any encoding.
    #[serde(with = "hexadecimal")]
    pub content: Vec<u8>,
    /// Identity of the content.
    pub identity: ContentId,
    /// Who archived it.
    pub pushed: PushedBy,
}

/// Where a history file lies.
///
/// # Errors
/// [`Error::NotA`] for the name of a segment.
pub fn path(lineage: Lineage, name: &ArchiveName) -> Result<ObjectPath> {
    match name {
        ArchiveName::History(timeline) => Ok(lineage.history(*timeline)),
        ArchiveName::Backup { .. } => {
            lineage.history_dir().join(name).map_err(Error::store("name a history file"))
        }
        _ => Err(Error::NotA { kind: "the name of a history file", text: name.to_string() }),
    }
}

/// Archives a history file. When it returns `Ok`, the content is durable in the store.
///
/// # Errors
/// [`Error::WalConflict`] when the archive holds another timeline history by this name, [`Error::File`], [`Error::Store`].
pub fn store(
    repository: &Repository,
    lineage: Lineage,
    file: &Path,
    name: &ArchiveName,
    pushed: PushedBy,
) -> Result<Stored> {
    let path = path(lineage, name)?;
    let fail = |source| Error::File { operation: "read", path: file.display().to_string(), source };
    let length = std::fs::metadata(file).map_err(fail)?.len();
    if length > HISTORY_BYTES_MAX {
        let reason = format!("{} has {length} bytes, and no history file is as long", file.display());
        return Err(Error::Refused { operation: "archive a history file", reason });
    }
    let content = std::fs::read(file).map_err(fail)?;
    let identity = repository.identity(&content);
    let record = HistoryRecord { name: name.clone(), content, identity, pushed };
    match record::write(repository, &path, &record, PutMode::IfAbsent) {
        Ok(meta) => Ok(Stored::New { stored_bytes: meta.size }),
        Err(error) if error.is_conflict() => compare(repository, &path, &record).unwrap_or(Err(error)),
        Err(error) => Err(error),
    }
}

/// `None` when nothing is there any more.
pub(super) fn compare(
    repository: &Repository,
    path: &ObjectPath,
    offered: &HistoryRecord,
) -> Option<Result<Stored>> {
    let present = match record::read::<HistoryRecord>(repository, path) {
        Ok(found) => found?.value,
        Err(error) => return Some(Err(error)),
    };
    // A second backup history file of one name says nothing that matters to a recovery; refusing it would stop the archiver for ever.
    let same = present.content == offered.content || matches!(offered.name, ArchiveName::Backup { .. });
    Some(match same {
        true => Ok(Stored::SameContent),
        false => {
            let archived = (present.identity, &present.pushed);
            Err(conflict(&offered.name, archived, (offered.identity, &offered.pushed)))
        }
    })
}

/// Reads an archived history file; `None` is proof that there is none.
///
/// # Errors
/// [`Error::Damaged`], [`Error::Store`].
pub fn read(repository: &Repository, lineage: Lineage, name: &ArchiveName) -> Result<Option<HistoryRecord>> {
    let path = path(lineage, name)?;
    let Some(found) = record::read::<HistoryRecord>(repository, &path)? else { return Ok(None) };
    let record = found.value;
    if record.name != *name || repository.identity(&record.content) != record.identity {
        let what = "it is another history file than its name says".to_owned();
        return Err(Error::Damaged { object: path.to_string(), what });
    }
    Ok(Some(record))
}

/// Writes an archived history file to `destination`, which appears only when it is complete.
///
/// # Errors
/// As [`read`], and [`Error::File`].
pub fn fetch(
    repository: &Repository,
    lineage: Lineage,
    name: &ArchiveName,
    destination: &Path,
) -> Result<Fetched> {
    let Some(record) = read(repository, lineage, name)? else { return Ok(Fetched::Absent) };
    let file = TemporaryFile::create(destination)?;
    file.write_at(0, &record.content)?;
    file.keep()?;
    Ok(Fetched::Delivered { bytes: record.content.len() as u64 })
}

/// The timeline history that a listed object holds; `None` for a backup history file, and when it is gone by now.
///
/// # Errors
/// [`Error::Damaged`], [`Error::Store`].
pub fn read_timeline(
    repository: &Repository,
    lineage: Lineage,
    object: &ObjectMeta,
) -> Result<Option<TimelineHistory>> {
    let Ok(name @ ArchiveName::History(timeline)) = ArchiveName::parse(object.path.name()) else {
        return Ok(None);
    };
    let Some(record) = read(repository, lineage, &name)? else { return Ok(None) };
    let history = TimelineHistory::parse(timeline, &record.content);
    let damaged = |what: String| Error::Damaged { object: object.path.to_string(), what };
    history.map(Some).map_err(|error| damaged(error.to_string()))
}

mod hexadecimal {
    use serde::{Deserialize, Deserializer, Serializer, de};

    pub(super) fn serialize<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        let digit = |nibble: u8| char::from(b"0123456789abcdef"[usize::from(nibble)]);
        let digits = bytes.iter().flat_map(|&byte| [digit(byte >> 4), digit(byte & 15)]);
        serializer.serialize_str(&digits.collect::<String>())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
        let text = String::deserialize(deserializer)?;
        let pairs = text.as_bytes().chunks(2);
        let byte = |pair: &[u8]| {
            let pair = std::str::from_utf8(pair)
                .ok()
                .filter(|pair| pair.len() == 2 && pair.bytes().all(|b| b.is_ascii_hexdigit()))?;
            u8::from_str_radix(pair, 16).ok()
        };
        pairs
            .map(byte)
            .collect::<Option<_>>()
            .ok_or_else(|| de::Error::custom("content is no hexadecimal text"))
    }
}
