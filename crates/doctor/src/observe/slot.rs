//! Replication slots of a server that does not run: `pg_replslot/NAME/state` (`ReplicationSlotOnDisk` in
//! `src/backend/replication/slot.c`), whose beginning is the same in versions 14 to 18.

use pgproof_pg::Lsn;
use serde::{Deserialize, Serialize};
use std::fs;
use std::path::Path;

/// One slot, as its file has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SlotFile {
    /// Its name.
    pub name: String,
    /// Of which database's changes; none for a physical slot.
    pub database_oid: Option<u32>,
    /// WAL from here on is kept for it; none where it keeps none.
    pub restart_lsn: Option<Lsn>,
}

/// `SLOT_MAGIC`
const MAGIC: u32 = 0x105_1CA1;
/// Where the name lies: after magic, checksum, version and length.
const NAME_AT: usize = 16;
/// `NAMEDATALEN`
const NAME_BYTES: usize = 64;
const SLOTS_MAX: usize = 200;

pub(super) fn read_all(data: &Path) -> Vec<SlotFile> {
    let entries = fs::read_dir(data.join("pg_replslot")).into_iter().flatten().flatten();
    let mut slots: Vec<SlotFile> = entries
        .take(SLOTS_MAX)
        .filter_map(|entry| parse(&fs::read(entry.path().join("state")).ok()?))
        .collect();
    slots.sort_by(|a, b| a.name.cmp(&b.name));
    slots
}

/// Reads a slot's file; none for anything else.
#[must_use]
pub(super) fn parse(bytes: &[u8]) -> Option<SlotFile> {
    let word = |at: usize| Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?));
    (word(0)? == MAGIC).then_some(())?;
    let name = bytes.get(NAME_AT..NAME_AT + NAME_BYTES)?;
    let end = name.iter().position(|byte| *byte == 0)?;
    let lsn = u64::from_le_bytes(bytes.get(96..104)?.try_into().ok()?);
    Some(SlotFile {
        name: String::from_utf8_lossy(&name[..end]).into_owned(),
        database_oid: Some(word(80)?).filter(|oid| *oid != 0),
        restart_lsn: Some(Lsn(lsn)).filter(|lsn| lsn.0 != 0),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_that_are_no_slot_are_none() {
        assert_eq!(parse(&[]), None);
        assert_eq!(parse(&[0; 200]), None);
        let mut bytes = vec![0u8; 200];
        bytes[..4].copy_from_slice(&MAGIC.to_le_bytes());
        bytes[NAME_AT..NAME_AT + 4].copy_from_slice(b"east");
        bytes[96..104].copy_from_slice(&0x300_0000u64.to_le_bytes());
        let slot = parse(&bytes).unwrap();
        assert_eq!((slot.name.as_str(), slot.restart_lsn), ("east", Some(Lsn(0x300_0000))));
        assert_eq!(parse(&bytes[..100]), None);
    }
}
