//! Reading packs by their own index.

use super::extents::{read_merged, wrong_pages};
use super::index::{PackEntry, decode_index};
use super::{EXTENT_BYTES_MAX, INDEX_BYTES_MAX, PackInfo, TRAILER_BYTES, Trailer, header, sealer};
use crate::codec::Decoder;
use crate::error::Malformed;
use crate::framing::HEADER_BYTES;
use crate::layout::{BackupId, Lineage, PackNumber};
use crate::map::PAGE_BYTES;
use crate::repository::Repository;
use crate::seal::{Sealer, Section};
use crate::{Error, Result};
use pgproof_store::ObjectPath;
use std::ops::ControlFlow;

/// Asked for at once: the trailer and, for a pack of 64 MiB, its index too.
const TAIL_BYTES: u64 = 256 << 10;

/// A finished pack.
#[derive(Debug)]
pub struct PackReader {
    repository: Repository,
    path: ObjectPath,
    info: PackInfo,
    sealer: Sealer,
    entries: Vec<PackEntry>,
}

impl PackReader {
    /// The packs that a backup finished, in order.
    ///
    /// # Errors
    /// [`Error::Store`]. Objects with other names are passed over: `verify` reports those.
    pub fn list(
        repository: &Repository,
        lineage: impl Into<Lineage>,
        backup: &BackupId,
    ) -> Result<Vec<PackNumber>> {
        let dir = lineage.into().backup(*backup).packs_dir();
        let objects = repository.store().list(Some(&dir), None).map_err(Error::store("list packs"))?;
        let mut numbers: Vec<PackNumber> =
            objects.iter().filter_map(|object| object.path.name().parse().ok()).collect();
        numbers.sort_unstable();
        Ok(numbers)
    }

    /// Reads the index of a pack: one request, two where it is long.
    ///
    /// # Errors
    /// [`Error::Missing`] when there is no such pack, [`Error::Damaged`] when its index is not what was written.
    pub fn open(
        repository: &Repository,
        lineage: impl Into<Lineage>,
        backup: &BackupId,
        number: PackNumber,
    ) -> Result<Self> {
        let path = lineage.into().backup(*backup).pack(number);
        let damaged = |malformed: Malformed| malformed.in_object(path.as_str());
        let store = repository.store();
        let (mut tail, size) = store.get_tail(&path, TAIL_BYTES).map_err(|source| {
            if source.is_not_found() {
                Error::Missing { object: path.to_string() }
            } else {
                Error::Store { operation: "read the index of a pack", source }
            }
        })?;
        let trailer_start = tail
            .len()
            .checked_sub(TRAILER_BYTES)
            .ok_or_else(|| damaged(Malformed::new("it is too short")))?;
        let trailer = Trailer::parse(&tail[trailer_start..], size).map_err(damaged)?;
        if trailer.index_stored as usize > INDEX_BYTES_MAX {
            return Err(damaged(Malformed::new("its index is longer than any")));
        }
        let mut longer;
        let frame = match trailer_start.checked_sub(trailer.index_stored as usize) {
            Some(start) => &mut tail[start..trailer_start],
            None => {
                longer = vec![0; trailer.index_stored as usize];
                store
                    .get_range(&path, trailer.index_offset, &mut longer)
                    .map_err(Error::store("read the index of a pack"))?;
                &mut longer[..]
            }
        };
        let sealer = sealer(repository, &trailer.salt, &path);
        let payload = sealer.open(Section::Index, trailer.extents.into(), frame).map_err(damaged)?;
        let mut raw = Vec::new();
        Decoder::new()?.decode(payload, INDEX_BYTES_MAX, &mut raw).map_err(damaged)?;
        let entries = decode_index(&raw, trailer.extents, trailer.index_offset).map_err(damaged)?;
        let info = PackInfo { backup: *backup, number, salt: trailer.salt, size, extents: trailer.extents };
        Ok(Self { repository: repository.clone(), path, info, sealer, entries })
    }

    /// Where it lies.
    pub fn path(&self) -> &ObjectPath {
        &self.path
    }

    /// What a manifest keeps of it.
    pub fn info(&self) -> PackInfo {
        self.info
    }

    /// Its extents, in order.
    pub fn entries(&self) -> &[PackEntry] {
        &self.entries
    }

    /// Checks the header, which nothing else reads.
    ///
    /// # Errors
    /// [`Error::Damaged`], [`Error::UnknownFormat`].
    pub fn check_header(&self) -> Result<()> {
        let mut found = [0; HEADER_BYTES as usize];
        self.repository
            .store()
            .get_range(&self.path, 0, &mut found)
            .map_err(Error::store("read the header of a pack"))?;
        header(&self.repository, self.info.salt).check(&found, self.path.as_str())
    }

    /// Reads every extent again, in order and in few requests, and hands each to `each`: its pages, or what is wrong with it.
    /// A damaged extent does not keep the others from being read.
    ///
    /// # Errors
    /// Only what keeps the pack as a whole from being read.
    pub fn read_all(
        &self,
        each: &mut dyn FnMut(&PackEntry, Result<&[u8], Malformed>) -> ControlFlow<()>,
    ) -> Result<()> {
        let mut decoder = Decoder::new()?;
        let mut pages = Vec::new();
        self.frames(&mut |entry, frame| {
            let read = self.read_frame(entry, frame, &mut decoder, &mut pages);
            Ok(each(entry, read.map(|_| pages.as_slice())))
        })
    }

    /// Reads every extent in order and hands on its payload too, as it was made when the extent was written: for storing it elsewhere
    /// without compressing it again.
    ///
    /// # Errors
    /// [`Error::Damaged`] at the first extent that is not what was written; [`Error::Store`], and those of `each`.
    pub(crate) fn read_payloads(
        &self,
        each: &mut dyn FnMut(&PackEntry, &[u8], &[u8]) -> Result<()>,
    ) -> Result<()> {
        let mut decoder = Decoder::new()?;
        let mut pages = Vec::new();
        self.frames(&mut |entry, frame| {
            let payload = self
                .read_frame(entry, frame, &mut decoder, &mut pages)
                .map_err(|malformed| malformed.in_object(self.path.as_str()))?;
            each(entry, payload, &pages)?;
            Ok(ControlFlow::Continue(()))
        })
    }

    /// Every extent as it is stored, in order and in few requests.
    fn frames(&self, each: &mut dyn FnMut(&PackEntry, &mut [u8]) -> Result<ControlFlow<()>>) -> Result<()> {
        let places: Vec<_> = self.entries.iter().map(PackEntry::place).collect();
        let order: Vec<usize> = (0..places.len()).collect();
        read_merged(
            &**self.repository.store(),
            &self.path,
            &places,
            &order,
            &mut Vec::new(),
            &mut |at, frame| each(&self.entries[at], frame),
        )
    }

    fn read_frame<'a>(
        &self,
        entry: &PackEntry,
        frame: &'a mut [u8],
        decoder: &mut Decoder,
        pages: &mut Vec<u8>,
    ) -> Result<&'a [u8], Malformed> {
        let payload = self.sealer.open(Section::Content, entry.frame.into(), frame)?;
        decoder.decode(payload, EXTENT_BYTES_MAX, pages)?;
        if pages.len() != usize::from(entry.pages) * PAGE_BYTES {
            return Err(wrong_pages());
        }
        if self.repository.identity(pages) != entry.identity {
            return Err(Malformed::new("the pages of an extent are not those that its identity names"));
        }
        Ok(payload)
    }
}
