//! The archived WAL of a lineage, by its listing.

use crate::layout::Lineage;
use crate::repository::Repository;
use crate::walobject::{SegmentReader, history, object_path};
use crate::walset::WalSet;
use crate::{Error, Result};
use pgproof_pg::{ArchiveName, SegmentName, WalSegmentSize};
use pgproof_store::ObjectMeta;

/// An archived segment as the listing shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WalObject {
    /// The segment.
    pub name: ArchiveName,
    /// Which one that is.
    pub segment: SegmentName,
    /// The object.
    pub meta: ObjectMeta,
}

/// The archived WAL of a lineage.
#[derive(Debug)]
pub struct WalListing {
    /// What can be reasoned about.
    pub set: WalSet,
    /// Segments and partial segments, in byte order of their paths.
    pub objects: Vec<WalObject>,
    /// History files, of timelines and backups.
    pub histories: Vec<ObjectMeta>,
    /// Timeline histories that cannot be read, with what is wrong. Their timelines are treated as having no ancestors.
    pub damaged_histories: Vec<(ObjectMeta, String)>,
    /// Objects that are none of these.
    pub strays: Vec<ObjectMeta>,
}

impl WalListing {
    /// Bytes of all segments as they lie there.
    pub fn stored_bytes(&self) -> u64 {
        self.objects.iter().map(|object| object.meta.size).sum()
    }
}

/// Lists the WAL of a lineage; `None` when there is nothing. The segment size is taken from a segment unless it is known.
///
/// # Errors
/// [`Error::Store`]. A timeline history that cannot be read is part of the listing.
pub fn list_wal(
    repository: &Repository,
    lineage: Lineage,
    segment_bytes: Option<u64>,
) -> Result<Option<WalListing>> {
    let objects = repository.store().list(Some(&lineage.wal_dir()), None);
    let objects = objects.map_err(Error::store("list the archived WAL"))?;
    if objects.is_empty() {
        return Ok(None);
    }
    let size = match segment_bytes.and_then(|bytes| WalSegmentSize::new(bytes).ok()) {
        Some(size) => size,
        None => find_size(repository, &objects)?,
    };
    let mut listing = WalListing {
        set: WalSet::new(size, []),
        objects: Vec::new(),
        histories: Vec::new(),
        damaged_histories: Vec::new(),
        strays: Vec::new(),
    };
    for object in objects {
        sort_object(lineage, size, object, &mut listing);
    }
    let of_kind = |partial: bool| {
        let wanted = move |object: &&WalObject| matches!(object.name, ArchiveName::Partial(_)) == partial;
        listing.objects.iter().filter(wanted).map(|object| object.segment)
    };
    let set = WalSet::new(size, of_kind(false)).with_partials(of_kind(true));
    let mut histories = Vec::new();
    for object in &listing.histories {
        match history::read_timeline(repository, lineage, object) {
            Ok(history) => histories.extend(history),
            Err(error) if error.is_unreadable() => {
                listing.damaged_histories.push((object.clone(), error.to_string()))
            }
            Err(error) => return Err(error),
        }
    }
    listing.set = set.with_histories(histories);
    Ok(Some(listing))
}

fn sort_object(lineage: Lineage, size: WalSegmentSize, object: ObjectMeta, listing: &mut WalListing) {
    let Ok(name) = ArchiveName::parse(object.path.name()) else {
        listing.strays.push(object);
        return;
    };
    let expected = match &name {
        ArchiveName::History(_) | ArchiveName::Backup { .. } => history::path(lineage, &name),
        _ => object_path(lineage, &name, size),
    };
    if expected.is_ok_and(|expected| expected == object.path) {
        match name.segment(size) {
            Ok(Some(segment)) if !matches!(name, ArchiveName::Backup { .. }) => {
                listing.objects.push(WalObject { name, segment, meta: object });
            }
            _ => listing.histories.push(object),
        }
    } else {
        listing.strays.push(object);
    }
}

/// The length of the last segment that can be read; the default when there is none.
fn find_size(repository: &Repository, objects: &[ObjectMeta]) -> Result<WalSegmentSize> {
    let is_segment = |object: &&ObjectMeta| {
        matches!(
            ArchiveName::parse(object.path.name()),
            Ok(ArchiveName::Segment(_) | ArchiveName::Partial(_))
        )
    };
    for object in objects.iter().rev().filter(is_segment).take(ATTEMPTS_MAX) {
        match SegmentReader::open(repository, &object.path) {
            Ok(reader) => {
                if let Ok(size) = WalSegmentSize::new(reader.index().raw_bytes) {
                    return Ok(size);
                }
            }
            Err(error) if error.is_unreadable() => {}
            Err(error) => return Err(error),
        }
    }
    Ok(WalSegmentSize::DEFAULT)
}

/// How many damaged segments are passed over before the default is assumed.
const ATTEMPTS_MAX: usize = 16;
