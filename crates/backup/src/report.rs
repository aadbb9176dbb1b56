//! What one backup did, as data: the printer renders it once for people and once as JSON.

use crate::base::Unfit;
use crate::plan::{Decision, Read, Reason};
use crate::scan::{Entry, EntryKind};
use crate::tasks;
use pgproof_pg::{Lsn, SystemIdentifier, TimelineId};
use pgproof_repo::BackupId;
use pgproof_repo::manifest::summary::{PagePlace, ReasonTotal};
use serde::Serialize;
use std::collections::BTreeMap;
use std::time::Duration;

/// One file that was read, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FileRead {
    /// Relative to the data directory.
    pub path: String,
    /// Why it was read.
    pub reason: Reason,
    /// Bytes that were to be read of it.
    pub bytes: u64,
}

/// Time spent, by stage.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub struct Stages {
    /// Waiting for the server's checkpoint, seconds.
    pub checkpoint_s: f64,
    /// Finding out what changed, seconds.
    pub changes_s: f64,
    /// Reading and storing, seconds.
    pub copy_s: f64,
    /// Stopping the backup and waiting for the archive beyond what is done meanwhile, seconds.
    pub wal_s: f64,
    /// Writing the manifest and publishing, seconds.
    pub publish_s: f64,
}

/// What this process read and wrote in all, by `/proc/self/io`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct ProcessIo {
    /// Bytes given to `read` calls (`rchar`).
    pub read_chars: u64,
    /// Bytes given to `write` calls (`wchar`).
    pub write_chars: u64,
    /// Bytes fetched from the disk (`read_bytes`).
    pub disk_read: u64,
    /// Bytes sent to the disk (`write_bytes`).
    pub disk_written: u64,
}

/// The result of one backup.
#[derive(Debug, Clone, Serialize)]
pub struct BackupReport {
    /// The new backup.
    pub id: BackupId,
    /// Its cluster.
    pub system_identifier: SystemIdentifier,
    /// What it builds on; nothing for a full backup.
    pub base: Option<BackupId>,
    /// Newer backups that could not be built on, and why.
    pub passed_over: Vec<(BackupId, Unfit)>,
    /// Why WAL could not tell what changed, where it could not.
    pub gaps: Vec<String>,
    /// An interrupted backup was continued.
    pub resumed: bool,
    /// Whether the files are a standby's.
    pub from_standby: bool,
    /// Timeline of the backup.
    pub timeline: TimelineId,
    /// Where recovery begins.
    pub start_lsn: Lsn,
    /// Where the copy is consistent.
    pub stop_lsn: Lsn,
    /// Wall time.
    #[serde(rename = "elapsed_s", serialize_with = "seconds")]
    pub elapsed: Duration,
    /// Wall time by stage.
    pub stages: Stages,
    /// Files of the cluster.
    pub files: u64,
    /// Their bytes.
    pub bytes_logical: u64,
    /// Bytes read from the cluster's files.
    pub bytes_read: u64,
    /// Bytes of extents stored by this backup.
    pub bytes_stored: u64,
    /// Bytes that an interrupted attempt had stored.
    pub bytes_salvaged: u64,
    /// Size of the manifest.
    pub bytes_manifest: u64,
    /// Files by reason.
    pub reasons: BTreeMap<Reason, ReasonTotal>,
    /// Every file that was read. Empty for a full backup, which reads them all.
    pub files_read: Vec<FileRead>,
    /// Pages whose checksum was verified.
    pub pages_verified: u64,
    /// Are data checksums on?
    pub checksums: bool,
    /// Pages that are bad. The backup is kept, but counts for nothing.
    pub bad_pages: Vec<PagePlace>,
    /// Did it read everything, to see whether WAL had named every change?
    pub checked: bool,
    /// Pages that changed though WAL did not name them. This backup holds them as they are now; earlier ones may not.
    pub unnamed_changes: Vec<PagePlace>,
    /// Backups in a row, this one included, that trusted WAL.
    pub trusting: u32,
    /// Suspect pages that WAL of the backup's time restores whole.
    pub acquitted_pages: u64,
    /// Sockets, pipes and devices that were passed over.
    pub skipped: Vec<String>,
    /// This process's reads and writes.
    pub process_io: ProcessIo,
}

impl BackupReport {
    /// A report that nothing has been written into.
    pub(crate) fn new(id: BackupId, base: Option<BackupId>) -> Self {
        Self {
            id,
            base,
            system_identifier: SystemIdentifier(0),
            passed_over: Vec::new(),
            gaps: Vec::new(),
            resumed: false,
            from_standby: false,
            timeline: TimelineId(0),
            start_lsn: Lsn::INVALID,
            stop_lsn: Lsn::INVALID,
            elapsed: Duration::ZERO,
            stages: Stages::default(),
            files: 0,
            bytes_logical: 0,
            bytes_read: 0,
            bytes_stored: 0,
            bytes_salvaged: 0,
            bytes_manifest: 0,
            reasons: BTreeMap::new(),
            files_read: Vec::new(),
            pages_verified: 0,
            checksums: false,
            bad_pages: Vec::new(),
            checked: false,
            unnamed_changes: Vec::new(),
            trusting: 0,
            acquitted_pages: 0,
            skipped: Vec::new(),
            process_io: ProcessIo::default(),
        }
    }

    /// Counts files by why they were read.
    pub(crate) fn count(&mut self, entries: &[Entry], decisions: &[Decision]) {
        for (entry, decision) in entries.iter().zip(decisions) {
            if entry.kind != EntryKind::File {
                continue;
            }
            let bytes = tasks::bytes_planned(entry, decision);
            let total = self.reasons.entry(decision.reason).or_default();
            total.files += 1;
            total.bytes += entry.length;
            total.bytes_read += bytes;
            if self.base.is_some() && decision.read != Read::Nothing {
                self.files_read.push(FileRead { path: entry.path.clone(), reason: decision.reason, bytes });
            }
        }
    }

    /// Does it count as a backup?
    pub fn is_good(&self) -> bool {
        self.bad_pages.is_empty()
    }

    /// Is nothing wrong, neither with it nor with those before it?
    pub fn is_reassuring(&self) -> bool {
        self.is_good() && self.unnamed_changes.is_empty()
    }
}

fn seconds<S: serde::Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(duration.as_secs_f64())
}

/// Reads `/proc/self/io`; zeroes where the kernel does not tell.
pub(crate) fn process_io() -> ProcessIo {
    let text = std::fs::read_to_string("/proc/self/io").unwrap_or_default();
    let field = |name: &str| {
        text.lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
            .and_then(|value| value.trim().parse().ok())
            .unwrap_or(0)
    };
    ProcessIo {
        read_chars: field("rchar"),
        write_chars: field("wchar"),
        disk_read: field("read_bytes"),
        disk_written: field("write_bytes"),
    }
}

impl ProcessIo {
    /// What was done since `earlier`.
    pub(crate) fn since(self, earlier: Self) -> Self {
        Self {
            read_chars: self.read_chars.saturating_sub(earlier.read_chars),
            write_chars: self.write_chars.saturating_sub(earlier.write_chars),
            disk_read: self.disk_read.saturating_sub(earlier.disk_read),
            disk_written: self.disk_written.saturating_sub(earlier.disk_written),
        }
    }
}
