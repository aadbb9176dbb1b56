//! What a record changes: the rules that make the set of changed blocks complete.
//!
//! Most records name the blocks they change. [`Rules`] lists what they do not name, one field for each, so that a test can turn
//! one off and see itself fail. Each rule was checked against the redo functions of PostgreSQL 14 to 18; the sources are named at each.

use super::{
    changes::Changes,
    marks::{Marks, PgTime, TransactionEnd},
    problem::Defect,
    record::{BlockRef, CUSTOM_MANAGER_MIN, Record},
};
use crate::{
    bytes::{i64_at, u32_at},
    relfile::{DatabaseDir, Fork, Relation},
    version::MajorVersion,
};

/// Heap blocks that one visibility map page describes (`HEAPBLOCKS_PER_PAGE` in `src/backend/access/heap/visibilitymap.c`): two bits
/// each in the 8168 bytes after the page header.
pub const HEAP_BLOCKS_PER_VM_PAGE: u32 = 32_672;

/// Which rules apply. All do; only tests turn one off, to show that something notices.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rules {
    /// A referenced block may change.
    pub block_references: bool,
    /// A reference to main fork block b marks visibility map page b / 32672: heap insert, update, delete, multi-insert and lock clear
    /// its bits without a reference, and without moving that page's LSN (`visibilitymap_clear`; 14 to 18, but for late minor versions).
    pub visibility_map: bool,
    /// The free space map of a referenced relation is read whole: it is written without WAL (`src/backend/storage/freespace/README`).
    pub free_space_map: bool,
    /// A created fork is new from block 0 (`XLOG_SMGR_CREATE`); with the main fork all of the relation's are.
    pub smgr_create: bool,
    /// A truncation changes the main fork from its block on (`XLOG_SMGR_TRUNCATE`).
    pub truncate_main: bool,
    /// It changes the visibility map from page b / 32672 on, inclusive: bits of cut blocks are cleared in the page that stays.
    pub truncate_visibility_map: bool,
    /// It changes the free space map anywhere.
    pub truncate_free_space_map: bool,
    /// Relations that a commit drops: all forks from 0, since the number may be used again.
    pub commit_relations: bool,
    /// The same for an abort.
    pub abort_relations: bool,
    /// The same for the end of a prepared transaction.
    pub prepared_relations: bool,
    /// A database created by copying files: all of it.
    pub database_create: bool,
    /// A database dropped: all of it, since its number may be used again.
    pub database_drop: bool,
    /// Records of extensions' resource managers (128 and above) may change anything in the relations they refer to.
    pub custom_managers: bool,
}

impl Rules {
    /// Every rule.
    pub const ALL: Self = Self {
        block_references: true,
        visibility_map: true,
        free_space_map: true,
        smgr_create: true,
        truncate_main: true,
        truncate_visibility_map: true,
        truncate_free_space_map: true,
        commit_relations: true,
        abort_relations: true,
        prepared_relations: true,
        database_create: true,
        database_drop: true,
        custom_managers: true,
    };
}

#[cfg(any(test, feature = "mutations"))]
impl Rules {
    /// Every set of rules that lacks one, with the name of that one. For tests: each must be noticed.
    pub fn mutations() -> [(&'static str, Self); 13] {
        let all = Self::ALL;
        [
            ("block_references", Self { block_references: false, ..all }),
            ("visibility_map", Self { visibility_map: false, ..all }),
            ("free_space_map", Self { free_space_map: false, ..all }),
            ("smgr_create", Self { smgr_create: false, ..all }),
            ("truncate_main", Self { truncate_main: false, ..all }),
            ("truncate_visibility_map", Self { truncate_visibility_map: false, ..all }),
            ("truncate_free_space_map", Self { truncate_free_space_map: false, ..all }),
            ("commit_relations", Self { commit_relations: false, ..all }),
            ("abort_relations", Self { abort_relations: false, ..all }),
            ("prepared_relations", Self { prepared_relations: false, ..all }),
            ("database_create", Self { database_create: false, ..all }),
            ("database_drop", Self { database_drop: false, ..all }),
            ("custom_managers", Self { custom_managers: false, ..all }),
        ]
    }
}

const XLOG: u8 = 0;
const TRANSACTION: u8 = 1;
const STORAGE: u8 = 2;
const DATABASE: u8 = 4;

/// Slots of the memory of blocks seen last. OLTP WAL names the same few thousand blocks again and again.
const SEEN: usize = 2048;

/// Applies records to changes and marks.
pub(crate) struct Applier {
    rules: Rules,
    pub(crate) changes: Changes,
    pub(crate) marks: Marks,
    /// The relation of the last reference and its slot: neighbours mostly share it.
    last: Option<(Relation, usize)>,
    /// Fork and block seen last in each slot; sound because changes are only ever added.
    seen: Box<[(u32, u32); SEEN]>,
}

impl Applier {
    pub(crate) fn new(rules: Rules) -> Self {
        Self {
            rules,
            changes: Changes::default(),
            marks: Marks::default(),
            last: None,
            seen: Box::new([(u32::MAX, u32::MAX); SEEN]),
        }
    }

    /// Adds what a record changes and tells.
    ///
    /// # Errors
    /// The [`Defect`] that makes its changes unknown; what could be told was added.
    pub(crate) fn apply(&mut self, version: MajorVersion, record: &Record<'_>) -> Result<(), Defect> {
        let header = &record.header;
        self.marks.note_xid(header.xid);
        for block in record.blocks {
            self.note_block(block)?;
        }
        if header.manager >= CUSTOM_MANAGER_MIN && self.rules.custom_managers {
            for block in record.blocks {
                self.changes.whole_relation(block.relation);
            }
        }
        match header.manager {
            XLOG => {
                self.marks.note_xlog(version, record);
                Ok(())
            }
            TRANSACTION => self.note_transaction(version, record),
            STORAGE => self.note_storage(record),
            DATABASE => self.note_database(version, record),
            manager if header.changes_files() => Err(Defect::FileChange { manager, kind: header.kind() }),
            _ => Ok(()),
        }
    }

    #[inline]
    fn note_block(&mut self, reference: &BlockRef) -> Result<(), Defect> {
        let BlockRef { relation, fork, block, .. } = *reference;
        if block == u32::MAX {
            return Err(Defect::RecordLayout);
        }
        let slot = match self.last {
            Some((last, slot)) if last == relation => slot,
            _ => self.changes.slot(relation),
        };
        self.last = Some((relation, slot));
        let key = (slot as u32) << 2 | u32::from(fork.number());
        let seen = &mut self.seen[(key.wrapping_mul(0x9E37_79B1) ^ block) as usize % SEEN];
        if *seen == (key, block) {
            return Ok(());
        }
        *seen = (key, block);
        if self.rules.block_references {
            self.changes.fork_mut(slot, fork).insert(block);
        }
        if self.rules.visibility_map && fork == Fork::Main {
            self.changes.fork_mut(slot, Fork::Vm).insert(block / HEAP_BLOCKS_PER_VM_PAGE);
        }
        if self.rules.free_space_map {
            self.changes.fork_mut(slot, Fork::Fsm).limit_to(0);
        }
        Ok(())
    }

    /// `smgr_redo` in `src/backend/catalog/storage.c`; the same in 14 to 18.
    fn note_storage(&mut self, record: &Record<'_>) -> Result<(), Defect> {
        let main = record.main;
        match record.header.kind() {
            SMGR_CREATE => {
                let relation = relation_at(main, 0).ok_or(Defect::RecordLayout)?;
                let number = u32_at(main, 12).and_then(|number| u8::try_from(number).ok());
                let fork = number.and_then(Fork::from_number).ok_or(Defect::RecordLayout)?;
                if self.rules.smgr_create && fork == Fork::Main {
                    // A new relation by an old number: the forks of the one before went with it, maybe before this WAL began.
                    self.changes.whole_relation(relation);
                } else if self.rules.smgr_create {
                    let slot = self.changes.slot(relation);
                    self.changes.fork_mut(slot, fork).limit_to(0);
                }
                Ok(())
            }
            SMGR_TRUNCATE => self.note_truncate(main).ok_or(Defect::RecordLayout),
            kind => Err(Defect::FileChange { manager: STORAGE, kind }),
        }
    }

    fn note_truncate(&mut self, main: &[u8]) -> Option<()> {
        let (block, relation, flags) = (u32_at(main, 0)?, relation_at(main, 4)?, u32_at(main, 16)?);
        let slot = self.changes.slot(relation);
        if flags & TRUNCATE_HEAP != 0 && self.rules.truncate_main {
            self.changes.fork_mut(slot, Fork::Main).limit_to(block);
        }
        if flags & TRUNCATE_VM != 0 && self.rules.truncate_visibility_map {
            self.changes.fork_mut(slot, Fork::Vm).limit_to(block / HEAP_BLOCKS_PER_VM_PAGE);
        }
        if flags & TRUNCATE_FSM != 0 && self.rules.truncate_free_space_map {
            self.changes.fork_mut(slot, Fork::Fsm).limit_to(0);
        }
        Some(())
    }

    /// `dbase_redo` in `src/backend/commands/dbcommands.c`. In 14 kind 10 drops; in 15 it begins a copy through WAL and 20 drops.
    fn note_database(&mut self, version: MajorVersion, record: &Record<'_>) -> Result<(), Defect> {
        let main = record.main;
        let kind = record.header.kind();
        let (create, drop) = match version {
            MajorVersion::V14 => (&[0x00][..], 0x10),
            // A copy through WAL names every block, but makes the directory anew all the same.
            MajorVersion::V15 | MajorVersion::V16 | MajorVersion::V17 | MajorVersion::V18 => {
                (&[0x00, 0x10][..], 0x20)
            }
        };
        let database = u32_at(main, 0).ok_or(Defect::RecordLayout)?;
        if create.contains(&kind) {
            let tablespace = u32_at(main, 4).ok_or(Defect::RecordLayout)?;
            if self.rules.database_create {
                self.changes.rewrite_database(DatabaseDir { tablespace, database });
            }
            return Ok(());
        }
        if kind != drop {
            return Err(Defect::FileChange { manager: DATABASE, kind });
        }
        let count = u32_at(main, 4).ok_or(Defect::RecordLayout)?;
        let list = main.get(8..).unwrap_or(&[]).as_chunks::<4>().0;
        if list.len() < count as usize {
            return Err(Defect::RecordLayout);
        }
        for tablespace in &list[..count as usize] {
            if self.rules.database_drop {
                self.changes
                    .rewrite_database(DatabaseDir { tablespace: u32::from_le_bytes(*tablespace), database });
            }
        }
        Ok(())
    }

    /// `ParseCommitRecord`, `ParseAbortRecord` in `src/backend/access/rmgrdesc/xactdesc.c`.
    fn note_transaction(&mut self, version: MajorVersion, record: &Record<'_>) -> Result<(), Defect> {
        let (committed, prepared) = match record.header.kind() & XACT_OPMASK {
            XACT_COMMIT => (true, false),
            XACT_ABORT => (false, false),
            XACT_COMMIT_PREPARED => (true, true),
            XACT_ABORT_PREPARED => (false, true),
            // A prepared transaction touches its files when it ends, and names them then.
            XACT_PREPARE | XACT_ASSIGNMENT | XACT_INVALIDATIONS => return Ok(()),
            kind => return Err(Defect::FileChange { manager: TRANSACTION, kind }),
        };
        let short = if record.has_all_main() { Defect::RecordLayout } else { Defect::TooLong };
        let end = TransactionDetails::read(version, record, committed).ok_or(short)?;
        let rule = match (prepared, committed) {
            (true, _) => self.rules.prepared_relations,
            (false, true) => self.rules.commit_relations,
            (false, false) => self.rules.abort_relations,
        };
        let (lists, _) = end.relations.as_chunks::<12>();
        for relation in lists.iter().filter(|_| rule) {
            self.changes.whole_relation(relation_at(relation, 0).ok_or(Defect::RecordLayout)?);
        }
        let xid = end.prepared_xid.unwrap_or(record.header.xid);
        self.marks.note_xid(xid);
        let time = PgTime(i64_at(record.main, 0).ok_or(short)?);
        self.marks.note_end(TransactionEnd { lsn: record.lsn, end: record.end, time, xid, committed });
        Ok(())
    }
}

/// The parts of a commit or abort that we need.
struct TransactionDetails<'a> {
    /// Relations whose files go: 12 bytes each.
    relations: &'a [u8],
    prepared_xid: Option<u32>,
}

impl<'a> TransactionDetails<'a> {
    fn read(version: MajorVersion, record: &Record<'a>, committed: bool) -> Option<Self> {
        let main = record.main;
        let mut at = 8;
        let mut flags = 0;
        if record.header.info & XACT_HAS_INFO != 0 {
            flags = u32_at(main, at)?;
            at += 4;
        }
        if flags & XINFO_HAS_DBINFO != 0 {
            at += 8;
        }
        let mut list = |bit: u32, item: usize| -> Option<(usize, usize)> {
            if flags & bit == 0 {
                return Some((at, at));
            }
            let bytes = (u32_at(main, at)? as usize).checked_mul(item)?;
            let start = at + 4;
            at = start.checked_add(bytes)?;
            Some((start, at))
        };
        list(XINFO_HAS_SUBXACTS, 4)?;
        let (from, to) = list(XINFO_HAS_RELATIONS, 12)?;
        let relations = main.get(from..to)?;
        // What follows only matters for the transaction's number, and is 15's and later addition: never a reason to fail.
        let stats_item = match version {
            MajorVersion::V14 => None,
            MajorVersion::V15 | MajorVersion::V16 | MajorVersion::V17 => Some(12),
            MajorVersion::V18 => Some(16),
        };
        let skipped = stats_item.map_or(Some((0, 0)), |item| list(XINFO_HAS_DROPPED_STATS, item));
        let skipped = skipped.and_then(|_| if committed { list(XINFO_HAS_INVALS, 16) } else { Some((0, 0)) });
        let has_prepared = flags & XINFO_HAS_TWOPHASE != 0;
        let prepared_xid = skipped.filter(|_| has_prepared).and_then(|_| u32_at(main, at));
        Some(Self { relations, prepared_xid })
    }
}

fn relation_at(bytes: &[u8], at: usize) -> Option<Relation> {
    Some(Relation {
        tablespace: u32_at(bytes, at)?,
        database: u32_at(bytes, at + 4)?,
        relnumber: u32_at(bytes, at + 8)?,
    })
}

const SMGR_CREATE: u8 = 0x10;
const SMGR_TRUNCATE: u8 = 0x20;
const TRUNCATE_HEAP: u32 = 1;
const TRUNCATE_VM: u32 = 2;
const TRUNCATE_FSM: u32 = 4;

const XACT_OPMASK: u8 = 0x70;
const XACT_HAS_INFO: u8 = 0x80;
const XACT_COMMIT: u8 = 0x00;
const XACT_PREPARE: u8 = 0x10;
const XACT_ABORT: u8 = 0x20;
const XACT_COMMIT_PREPARED: u8 = 0x30;
const XACT_ABORT_PREPARED: u8 = 0x40;
const XACT_ASSIGNMENT: u8 = 0x50;
const XACT_INVALIDATIONS: u8 = 0x60;

const XINFO_HAS_DBINFO: u32 = 1;
const XINFO_HAS_SUBXACTS: u32 = 1 << 1;
const XINFO_HAS_RELATIONS: u32 = 1 << 2;
const XINFO_HAS_INVALS: u32 = 1 << 3;
const XINFO_HAS_TWOPHASE: u32 = 1 << 4;
/// 15+.
const XINFO_HAS_DROPPED_STATS: u32 = 1 << 8;
