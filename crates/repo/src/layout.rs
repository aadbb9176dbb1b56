//! Names: which object lies where. Section 1 of `docs/formats/repository.md` is the table of them.
//!
//! Everything below one system identifier is a [`Lineage`]; everything below one backup is a [`BackupObjects`]. Names say nothing
//! about order: backups are ordered by timeline and LSN, which their manifests know.

use crate::{Error, Result};
use jiff::Timestamp;
use pgproof_pg::{SegmentName, SystemIdentifier, TimelineId, WalSegmentSize};
use pgproof_store::{MARKER, ObjectPath};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use std::{fmt, str::FromStr};

/// Where the description of the repository lies.
pub fn description() -> ObjectPath {
    fixed(MARKER.to_owned())
}

/// Words in the names of objects that are written again, or removed in daily work: leases, pins, marks, and which server may
/// archive. All others are written once, and can be locked.
pub const REWRITTEN: [&str; 5] = ["lease", "pin", "writer", "expired", "reader"];

/// A path made of digits, hexadecimal digits and the words of this file, which the rules for names always allow.
fn fixed(path: String) -> ObjectPath {
    ObjectPath::new(path).expect("layout builds names from letters and digits only")
}

/// Name of a backup: `YYYYMMDDTHHMMSSZ-xxxxxx`, UTC and six random hexadecimal digits. Unique, and otherwise without meaning.
///
/// Ordered as text so that it can key maps; that order is not the order of backups.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BackupId([u8; 23]);

impl BackupId {
    /// Names a backup that starts `at` this instant; `random` tells apart those of one second.
    pub fn new(at: Timestamp, random: [u8; 3]) -> Self {
        let [a, b, c] = random;
        let text = format!("{}-{a:02x}{b:02x}{c:02x}", at.strftime("%Y%m%dT%H%M%SZ"));
        let bytes = text.into_bytes().try_into().expect("years of a timestamp have four digits");
        Self(bytes)
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).expect("made of ASCII only")
    }
}

impl FromStr for BackupId {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let well_formed = text.len() == 23
            && text.bytes().enumerate().all(|(at, byte)| match at {
                8 => byte == b'T',
                15 => byte == b'Z',
                16 => byte == b'-',
                17.. => byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte),
                _ => byte.is_ascii_digit(),
            });
        let bytes = text.as_bytes().try_into().ok().filter(|_| well_formed);
        bytes.map(Self).ok_or_else(|| Error::NotA { kind: "a backup id", text: text.to_owned() })
    }
}

impl fmt::Display for BackupId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl fmt::Debug for BackupId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BackupId({self})")
    }
}

impl Serialize for BackupId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for BackupId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

/// Number of a pack within the backup that wrote it, from 0.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PackNumber(pub u32);

impl fmt::Display for PackNumber {
    /// Six digits, more where there are more than a million packs.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:06}", self.0)
    }
}

impl FromStr for PackNumber {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let number = text.parse().map(Self).ok();
        let canonical = number.filter(|number| number.to_string() == text);
        canonical.ok_or_else(|| Error::NotA { kind: "a pack number", text: text.to_owned() })
    }
}

/// What a lineage is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Content {
    /// Backups of the data directory, and WAL.
    Cluster,
    /// Logical backups: what `pg_dump` wrote.
    Dumps,
}

/// What the folder of a system's dumps begins with. Programs that know no dumps read only folders that are a number.
const DUMPS_PREFIX: &str = "dump-";

/// The objects of one system identifier. `pg_upgrade` begins a new lineage.
///
/// Dumps of a system are a lineage of their own: whoever looks for something to restore, to build upon or to replay never meets one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Lineage {
    system: SystemIdentifier,
    content: Content,
}

impl From<SystemIdentifier> for Lineage {
    fn from(system: SystemIdentifier) -> Self {
        Self::new(system)
    }
}

impl Lineage {
    /// The lineage of this system identifier.
    pub fn new(system: SystemIdentifier) -> Self {
        Self { system, content: Content::Cluster }
    }

    /// The lineage of this system's dumps.
    pub fn dumps(system: SystemIdentifier) -> Self {
        Self { system, content: Content::Dumps }
    }

    /// The lineage of what a system has of one kind.
    pub fn of(system: SystemIdentifier, content: Content) -> Self {
        Self { system, content }
    }

    /// The lineage whose folder has this name; `None` for any other folder.
    pub fn of_dir(name: &str) -> Option<Self> {
        match name.strip_prefix(DUMPS_PREFIX) {
            Some(system) => system.parse().ok().map(Self::dumps),
            None => name.parse().ok().map(Self::new),
        }
    }

    /// What it is made of.
    pub fn content(&self) -> Content {
        self.content
    }

    /// Its system identifier.
    pub fn system(&self) -> SystemIdentifier {
        self.system
    }

    fn root(&self) -> String {
        match self.content {
            Content::Cluster => self.system.to_string(),
            Content::Dumps => format!("{DUMPS_PREFIX}{}", self.system),
        }
    }

    fn below(&self, rest: impl fmt::Display) -> ObjectPath {
        fixed(format!("{}/{rest}", self.root()))
    }

    /// The directory of the lineage.
    pub fn dir(&self) -> ObjectPath {
        fixed(self.root())
    }

    /// The directory of all WAL.
    pub fn wal_dir(&self) -> ObjectPath {
        self.below("wal")
    }

    /// The directory of one timeline's WAL segments.
    pub fn timeline_dir(&self, timeline: TimelineId) -> ObjectPath {
        self.below(format_args!("wal/{:08X}", timeline.0))
    }

    /// A complete WAL segment.
    pub fn segment(&self, name: SegmentName, size: WalSegmentSize) -> ObjectPath {
        self.wal_file(&name.file_name(size))
    }

    /// The partial form of a WAL segment; a complete one always beats it.
    pub fn partial_segment(&self, name: SegmentName, size: WalSegmentSize) -> ObjectPath {
        self.wal_file(&format!("{}.partial", name.file_name(size)))
    }

    /// The first 8 digits of a segment's name are its timeline, the next 8 the folder: 256 segments of 16 MB.
    fn wal_file(&self, name: &str) -> ObjectPath {
        self.below(format_args!("wal/{}/{}/{name}", &name[..8], &name[8..16]))
    }

    /// The directory of timeline history files.
    pub fn history_dir(&self) -> ObjectPath {
        self.below("wal/history")
    }

    /// The history file of a timeline.
    pub fn history(&self, timeline: TimelineId) -> ObjectPath {
        self.below(format_args!("wal/history/{}", timeline.history_file_name()))
    }

    /// Which server may archive.
    pub fn writer(&self) -> ObjectPath {
        self.below("writer")
    }

    /// The directory of all backups.
    pub fn backups_dir(&self) -> ObjectPath {
        self.below("backup")
    }

    /// The objects of one backup.
    pub fn backup(&self, backup: BackupId) -> BackupObjects {
        BackupObjects { lineage: *self, backup }
    }

    /// The directory of the leases of restores and verifications.
    pub fn readers_dir(&self) -> ObjectPath {
        self.below("reader")
    }

    /// The lease of one restore or verification.
    ///
    /// # Errors
    /// [`Error::NotA`] when `id` cannot be part of a name.
    pub fn reader(&self, id: &str) -> Result<ObjectPath> {
        self.named("reader", id)
    }

    /// The directory of verification records.
    pub fn verified_dir(&self) -> ObjectPath {
        self.below("verified")
    }

    /// What one verification read again.
    ///
    /// # Errors
    /// [`Error::NotA`] when `id` cannot be part of a name.
    pub fn verified(&self, id: &str) -> Result<ObjectPath> {
        self.named("verified", id)
    }

    /// The directory of all evidence.
    pub fn ledger_dir(&self) -> ObjectPath {
        self.below("ledger")
    }

    fn named(&self, dir: &str, id: &str) -> Result<ObjectPath> {
        let fail = || Error::NotA { kind: "the last part of an object's name", text: id.to_owned() };
        if id.contains('/') {
            return Err(fail());
        }
        ObjectPath::new(format!("{}/{dir}/{id}", self.root())).map_err(|_| fail())
    }
}

/// The objects of one backup.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BackupObjects {
    lineage: Lineage,
    backup: BackupId,
}

impl BackupObjects {
    /// The lineage of the backup.
    pub fn lineage(&self) -> Lineage {
        self.lineage
    }

    /// The backup.
    pub fn id(&self) -> BackupId {
        self.backup
    }

    fn below(&self, rest: impl fmt::Display) -> ObjectPath {
        self.lineage.below(format_args!("backup/{}/{rest}", self.backup))
    }

    /// The directory of the backup.
    pub fn dir(&self) -> ObjectPath {
        self.lineage.below(format_args!("backup/{}", self.backup))
    }

    /// The writer is alive.
    pub fn lease(&self) -> ObjectPath {
        self.below("lease")
    }

    /// The directory of its packs.
    pub fn packs_dir(&self) -> ObjectPath {
        self.below("pack")
    }

    /// One pack.
    pub fn pack(&self, number: PackNumber) -> ObjectPath {
        self.below(format_args!("pack/{number}"))
    }

    /// Where each page lies.
    pub fn manifest(&self) -> ObjectPath {
        self.below("manifest")
    }

    /// Published or revoked.
    pub fn outcome(&self) -> ObjectPath {
        self.below("outcome")
    }

    /// Marked for removal.
    pub fn expired(&self) -> ObjectPath {
        self.below("expired")
    }

    /// Kept whatever the retention says.
    pub fn pin(&self) -> ObjectPath {
        self.below("pin")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pgproof_pg::SegmentNumber;

    #[test]
    fn objects_lie_where_the_format_says() {
        let lineage = Lineage::new(SystemIdentifier(7_412_345_678_901_234_567));
        let size = WalSegmentSize::DEFAULT;
        let segment = SegmentName::new(TimelineId(2), SegmentNumber(0x1_02));
        assert_eq!(
            lineage.segment(segment, size).as_str(),
            "7412345678901234567/wal/00000002/00000001/000000020000000100000002"
        );
        assert_eq!(
            lineage.history(TimelineId(2)).as_str(),
            "7412345678901234567/wal/history/00000002.history"
        );
        let id: BackupId = "20261122T203500Z-0a1b2c".parse().unwrap();
        let backup = lineage.backup(id);
        assert_eq!(
            backup.pack(PackNumber(7)).as_str(),
            "7412345678901234567/backup/20261122T203500Z-0a1b2c/pack/000007"
        );
        assert!(lineage.reader("a/../b").is_err());
        assert!(lineage.reader("..").is_err());
    }

    #[test]
    fn dumps_lie_apart_from_the_backups_of_their_system() {
        let (cluster, dumps) = (Lineage::new(SystemIdentifier(7)), Lineage::dumps(SystemIdentifier(7)));
        assert_eq!(dumps.backups_dir().as_str(), "dump-7/backup");
        assert_eq!(Lineage::of_dir("7"), Some(cluster));
        assert_eq!(Lineage::of_dir("dump-7"), Some(dumps));
        assert_eq!(Lineage::of_dir("dump-x"), None);
        assert_eq!(Lineage::of_dir("trash"), None);
    }

    #[test]
    fn backup_ids_read_back_and_others_are_refused() {
        let at: Timestamp = "2026-11-22T20:35:00.7Z".parse().unwrap();
        let id = BackupId::new(at, [0x0a, 0x1b, 0x2c]);
        assert_eq!(id.to_string(), "20261122T203500Z-0a1b2c");
        assert_eq!(id.to_string().parse::<BackupId>().unwrap(), id);
        for hostile in [
            "",
            "20261122T203500Z-0A1B2C",
            "20261122T203500Z-0a1b2",
            "../../../../../etc/pass",
            "20261122T203500Z-0a1b2cd",
            "20261122T203500Z-0a1b2é",
        ] {
            assert!(hostile.parse::<BackupId>().is_err(), "{hostile}");
        }
    }

    #[test]
    fn pack_numbers_have_one_spelling() {
        assert_eq!("000012".parse::<PackNumber>().unwrap(), PackNumber(12));
        assert_eq!(PackNumber(1_234_567).to_string(), "1234567");
        assert!("12".parse::<PackNumber>().is_err());
        assert!("+00012".parse::<PackNumber>().is_err());
    }
}
