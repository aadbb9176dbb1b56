//! Reading extents by the positions that a manifest gives.

use super::{EXTENT_BYTES_MAX, PackInfo, sealer};
use crate::codec::Decoder;
use crate::error::Malformed;
use crate::layout::Lineage;
use crate::map::{ExtentPlace, ExtentRef, PAGE_BYTES};
use crate::repository::Repository;
use crate::seal::{Sealer, Section};
use crate::{Error, Result};
use pgproof_store::{ObjectPath, Store};
use std::ops::ControlFlow;

/// Most bytes that one request of [`ExtentReader::read_many`] asks for. Large enough that a request's latency is small
/// beside its transfer, small enough that many workers fit into memory.
const REQUEST_BYTES_MAX: u64 = 4 << 20;

/// Bytes between two wanted extents that are read along rather than asked around: at 100 MB/s less than a request's latency.
const GAP_BYTES_MAX: u64 = 64 << 10;

pub(super) fn wrong_pages() -> Malformed {
    Malformed::new("an extent has not as many pages as was said of it")
}

/// Reads extents. One for each thread: it keeps a decompression context, a buffer and the key of the last pack.
#[derive(Debug)]
pub struct ExtentReader {
    repository: Repository,
    lineage: Lineage,
    decoder: Decoder,
    buffer: Vec<u8>,
    /// The pack read last. Restores go pack by pack; deriving a key anew for a random read is far below the read itself.
    last: Option<OpenPack>,
}

#[derive(Debug)]
struct OpenPack {
    info: PackInfo,
    path: ObjectPath,
    sealer: Sealer,
}

impl ExtentReader {
    /// Prepares to read from the packs of one lineage.
    ///
    /// # Errors
    /// [`Error::Codec`].
    pub fn new(repository: &Repository, lineage: impl Into<Lineage>) -> Result<Self> {
        let decoder = Decoder::new()?;
        let (repository, lineage) = (repository.clone(), lineage.into());
        Ok(Self { repository, lineage, decoder, buffer: Vec::new(), last: None })
    }

    /// Replaces what is in `pages` with all pages of an extent: exactly one ranged request.
    ///
    /// # Errors
    /// [`Error::Damaged`] and [`Error::Missing`] when the pack does not hold it any more, [`Error::Store`].
    pub fn read(&mut self, pack: &PackInfo, extent: &ExtentRef, pages: &mut Vec<u8>) -> Result<()> {
        let place = extent.place();
        let open = self.open(pack);
        open.check_place(&place)?;
        self.buffer.resize(place.stored as usize, 0);
        get_range(&**self.repository.store(), &open.path, place.offset, &mut self.buffer)?;
        open.decode(&mut self.decoder, &place, &mut self.buffer, pages)?;
        self.last = Some(open);
        Ok(())
    }

    /// Reads many extents of one pack, neighbours together in one request of some MiB, and hands the pages of each to `each`
    /// with its position in `extents`. The order is that of the pack. `Break` ends it early.
    ///
    /// # Errors
    /// As [`ExtentReader::read`]; the extents before the failing one have been handed over.
    pub fn read_many(
        &mut self,
        pack: &PackInfo,
        extents: &[ExtentRef],
        each: &mut dyn FnMut(usize, &[u8]) -> ControlFlow<()>,
    ) -> Result<()> {
        let places: Vec<ExtentPlace> = extents.iter().map(ExtentRef::place).collect();
        let mut order: Vec<usize> = (0..places.len()).collect();
        order.sort_by_key(|&at| places[at]);
        let open = self.open(pack);
        places.iter().try_for_each(|place| open.check_place(place))?;
        let Self { repository, decoder, buffer, .. } = self;
        let mut pages = Vec::new();
        // A file may have several pieces in one extent: it is decoded once and handed over for each.
        let mut decoded: Option<ExtentPlace> = None;
        read_merged(&**repository.store(), &open.path, &places, &order, buffer, &mut |at, frame| {
            if decoded != Some(places[at]) {
                decoded = None;
                open.decode(decoder, &places[at], frame, &mut pages)?;
                decoded = Some(places[at]);
            }
            Ok(each(at, &pages))
        })?;
        self.last = Some(open);
        Ok(())
    }

    /// Takes the last pack if it is this one; whoever took it puts it back.
    fn open(&mut self, pack: &PackInfo) -> OpenPack {
        self.last.take().filter(|last| last.info == *pack).unwrap_or_else(|| {
            let path = pack.path(self.lineage);
            OpenPack { info: *pack, sealer: sealer(&self.repository, &pack.salt, &path), path }
        })
    }
}

impl OpenPack {
    fn check_place(&self, place: &ExtentPlace) -> Result<()> {
        if self.info.can_hold(place) {
            return Ok(());
        }
        let what = format!("extent {} is said to lie where none can", place.frame);
        Err(Error::Damaged { object: self.path.to_string(), what })
    }

    fn decode(
        &self,
        decoder: &mut Decoder,
        place: &ExtentPlace,
        frame: &mut [u8],
        pages: &mut Vec<u8>,
    ) -> Result<()> {
        let decoded = self
            .sealer
            .open(Section::Content, place.frame.into(), frame)
            .and_then(|payload| decoder.decode(payload, EXTENT_BYTES_MAX, pages))
            .and_then(|()| {
                let expected = usize::from(place.pages) * PAGE_BYTES;
                if pages.len() == expected { Ok(()) } else { Err(wrong_pages()) }
            });
        decoded.map_err(|malformed| Error::Damaged {
            object: self.path.to_string(),
            what: format!("extent {} at byte {}: {malformed}", place.frame, place.offset),
        })
    }
}

fn get_range(store: &dyn Store, path: &ObjectPath, offset: u64, buffer: &mut [u8]) -> Result<()> {
    store.get_range(path, offset, buffer).map_err(|source| {
        if source.is_not_found() {
            Error::Missing { object: path.to_string() }
        } else {
            Error::Store { operation: "read an extent", source }
        }
    })
}

/// Receives the number of a place and its frame.
type EachFrame<'a> = dyn FnMut(usize, &mut [u8]) -> Result<ControlFlow<()>> + 'a;

/// Reads frames of one object, in `order` (of offset), neighbours in one request.
pub(super) fn read_merged(
    store: &dyn Store,
    path: &ObjectPath,
    places: &[ExtentPlace],
    order: &[usize],
    buffer: &mut Vec<u8>,
    each: &mut EachFrame<'_>,
) -> Result<()> {
    let end_of = |at: usize| places[at].offset + u64::from(places[at].stored);
    let mut rest = order;
    while let Some((&first, _)) = rest.split_first() {
        let start = places[first].offset;
        let mut end = start;
        let together = rest.iter().take_while(|&&at| {
            let near = places[at].offset <= end.saturating_add(GAP_BYTES_MAX);
            let fits = end == start || end_of(at) - start <= REQUEST_BYTES_MAX;
            if near && fits {
                end = end.max(end_of(at));
            }
            near && fits
        });
        let (group, behind) = rest.split_at(together.count());
        buffer.resize((end - start) as usize, 0);
        get_range(store, path, start, buffer)?;
        for &at in group {
            let from = (places[at].offset - start) as usize;
            let frame = &mut buffer[from..from + places[at].stored as usize];
            if each(at, frame)?.is_break() {
                return Ok(());
            }
        }
        rest = behind;
    }
    Ok(())
}
