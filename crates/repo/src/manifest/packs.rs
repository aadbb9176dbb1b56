//! The pack table of a manifest.
//!
//! Maps name packs by number. A backup that builds on another one keeps its numbers and adds its own behind them, so maps of files
//! that did not change are carried over as they are; packs that nothing refers to any more leave holes in the numbering, and
//! nothing else.

use crate::Result;
use crate::error::{Error, Malformed};
use crate::layout::PackNumber;
use crate::map::{ExtentPlace, ExtentRef, FileMap, PackIndex};
use crate::pack::PackInfo;
use crate::seal::Salt;
use crate::wire::{Wire, put_text, put_varint};
use std::collections::BTreeMap;

/// A pack, and how much of it the manifest uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PackUse {
    /// The pack.
    pub info: PackInfo,
    /// About how many stored bytes of it the manifest refers to: an extent that files share counts by their pages.
    pub bytes_live: u64,
}

/// Packs by the numbers that maps use.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PackTable {
    packs: BTreeMap<PackIndex, PackUse>,
}

impl PackTable {
    /// A table without packs.
    pub fn new() -> Self {
        Self::default()
    }

    /// The lowest number above all in use: where a backup that builds on this one begins.
    ///
    /// # Errors
    /// [`Error::Refused`] after four thousand million packs.
    pub fn next_index(&self) -> Result<PackIndex> {
        match self.packs.last_key_value() {
            None => Ok(PackIndex(0)),
            Some((last, _)) => last.0.checked_add(1).map(PackIndex).ok_or_else(|| Error::Refused {
                operation: "number a pack",
                reason: "all numbers are in use; take a full backup".to_owned(),
            }),
        }
    }

    /// Adds a pack under a number, or replaces the one that had it.
    pub fn insert(&mut self, index: PackIndex, info: PackInfo) {
        self.packs.insert(index, PackUse { info, bytes_live: 0 });
    }

    /// The pack of a number.
    ///
    /// # Errors
    /// [`Error::Refused`] when there is none. Maps read from a manifest name only packs of its table.
    pub fn get(&self, index: PackIndex) -> Result<&PackInfo> {
        let found = self.packs.get(&index).map(|used| &used.info);
        found.ok_or_else(|| Error::Refused {
            operation: "find a pack",
            reason: format!("the pack table has no number {}", index.0),
        })
    }

    /// All packs in order of number.
    pub fn iter(&self) -> impl Iterator<Item = (PackIndex, &PackUse)> {
        self.packs.iter().map(|(index, used)| (*index, used))
    }

    /// How many packs there are.
    pub fn len(&self) -> usize {
        self.packs.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.packs.is_empty()
    }

    /// The packs that are in use, each with what is used of it.
    ///
    /// # Errors
    /// [`Error::Refused`] when one is not in the table, or ends before what is used of it: a reader would refuse such a manifest.
    pub(super) fn used(&self, live: &LivePacks) -> Result<Self> {
        let mut packs = BTreeMap::new();
        for (&index, used) in &live.packs {
            let info = *self.get(index)?;
            if used.last.is_some_and(|last| !info.can_hold(&last)) {
                return Err(Error::Refused {
                    operation: "write a manifest",
                    reason: format!("a file refers to more of pack {} than there is", info.number),
                });
            }
            packs.insert(index, PackUse { info, bytes_live: used.bytes });
        }
        Ok(Self { packs })
    }

    /// Checks that every extent of a map lies inside a pack of the table.
    pub(super) fn check(&self, map: &FileMap) -> Result<(), Malformed> {
        for group in map.extents().chunk_by(|one, next| one.pack == next.pack) {
            let used = self.packs.get(&group[0].pack);
            let info = &used.ok_or(Malformed::new("a map names a pack that the table does not"))?.info;
            if !group.iter().all(|extent| info.can_hold(&extent.place())) {
                return Err(Malformed::new("a map names an extent outside of its pack"));
            }
        }
        Ok(())
    }

    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        put_varint(out, self.packs.len() as u64);
        let mut next = 0;
        for (index, PackUse { info, bytes_live }) in &self.packs {
            put_varint(out, (index.0 - next).into());
            put_text(out, info.backup.as_str());
            put_varint(out, info.number.0.into());
            out.extend_from_slice(&info.salt.0);
            put_varint(out, info.size);
            put_varint(out, info.extents.into());
            put_varint(out, *bytes_live);
            next = index.0.wrapping_add(1);
        }
    }

    pub(super) fn decode(wire: &mut Wire<'_>) -> Result<Self, Malformed> {
        const BAD: &str = "its pack table is not one";
        let bad = || Malformed::new(BAD);
        let mut packs = BTreeMap::new();
        let mut next = Some(0_u32);
        for _ in 0..wire.count(40, BAD)? {
            let gap = wire.varint_u32(BAD)?;
            let index = next.and_then(|next| next.checked_add(gap)).ok_or_else(bad)?;
            let info = PackInfo {
                backup: wire.text(32, BAD)?.parse().map_err(|_| bad())?,
                number: PackNumber(wire.varint_u32(BAD)?),
                salt: Salt(wire.array()?),
                size: wire.varint()?,
                extents: wire.varint_u32(BAD)?,
            };
            packs.insert(PackIndex(index), PackUse { info, bytes_live: wire.varint()? });
            next = index.checked_add(1);
        }
        Ok(Self { packs })
    }
}

/// What maps refer to, pack by pack.
#[derive(Debug, Default)]
pub(super) struct LivePacks {
    packs: BTreeMap<PackIndex, LivePack>,
}

#[derive(Debug, Default)]
struct LivePack {
    bytes: u64,
    /// The extent that lies last.
    last: Option<ExtentPlace>,
}

impl LivePacks {
    /// Counts what a map refers to.
    pub(super) fn add(&mut self, map: &FileMap) {
        for group in map.extents().chunk_by(|one, next| one.pack == next.pack) {
            let live = self.packs.entry(group[0].pack).or_default();
            live.bytes += group.iter().map(live_bytes).sum::<u64>();
            let last = group.iter().map(ExtentRef::place).max();
            live.last = live.last.max(last);
        }
    }
}

/// The stored bytes that a file's part of an extent stands for.
fn live_bytes(extent: &ExtentRef) -> u64 {
    u64::from(extent.stored) * u64::from(extent.piece_pages) / u64::from(extent.pages.max(1))
}
