//! Chooses the backup that a new one builds on. Pure.
//!
//! A base needs the same system identifier and checksum setting, must lie with all of its WAL on this server's own history, and
//! must have ended before this one began (design, section 10.2). A backup that failed its page checks is never built upon.

use pgproof_pg::{Lsn, TimelineHistory};
use pgproof_repo::BackupSummary;
use pgproof_repo::manifest::summary::Origin;
use serde::Serialize;

/// Why a published backup cannot be the base of a new one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Unfit {
    /// It holds pages that failed their checksum.
    FailedChecks,
    /// Data checksums were switched on or off since.
    ChecksumSetting,
    /// Another major version wrote it.
    MajorVersion,
    /// Its WAL is not all on this server's history.
    OtherHistory,
    /// It ended after this backup began.
    NotBefore,
    /// The files of another server were read for it.
    OtherServer,
}

impl Unfit {
    /// Whether its content may still be compared with: WAL is not trusted then, and every file is read.
    pub fn is_comparable(self) -> bool {
        matches!(self, Self::NotBefore | Self::OtherServer)
    }
}

impl std::fmt::Display for Unfit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::FailedChecks => "it holds pages that failed their checksum",
            Self::ChecksumSetting => "data checksums were switched on or off since",
            Self::MajorVersion => "another major version wrote it",
            Self::OtherHistory => "the server has left its history since",
            Self::NotBefore => "it had not ended when this one began",
            Self::OtherServer => "it was taken from another server",
        })
    }
}

/// What is asked of a base.
#[derive(Debug, Clone, Copy)]
pub struct Wanted<'a> {
    /// Are data checksums on?
    pub checksums: bool,
    /// Catalog version number, which changes with every major version.
    pub catalog_version: u32,
    /// The history of the timeline that the server is on.
    pub history: &'a TimelineHistory,
    /// This backup's start.
    pub start: Lsn,
    /// The server whose files are read.
    pub origin: &'a Origin,
    /// The path of its data directory.
    pub path: &'a str,
}

/// The backup that a new one builds on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Chosen<'a> {
    /// Which.
    pub base: &'a BackupSummary,
    /// Why WAL cannot tell what changed since, where it cannot: contents are compared.
    pub distrust: Option<Unfit>,
}

/// Says why `candidate` cannot be built upon; `None` when it can.
pub fn unfit(candidate: &BackupSummary, wanted: &Wanted<'_>) -> Option<Unfit> {
    if !candidate.checksum_failures.is_empty() {
        return Some(Unfit::FailedChecks);
    }
    if candidate.checksums != wanted.checksums {
        return Some(Unfit::ChecksumSetting);
    }
    if candidate.catalog_version != wanted.catalog_version {
        return Some(Unfit::MajorVersion);
    }
    let on_history = |lsn| wanted.history.contains(candidate.timeline, lsn);
    if !on_history(candidate.start_lsn) || !on_history(candidate.stop_lsn) {
        return Some(Unfit::OtherHistory);
    }
    if candidate.stop_lsn > wanted.start {
        return Some(Unfit::NotBefore);
    }
    if !is_same_server(candidate, wanted) {
        return Some(Unfit::OtherServer);
    }
    None
}

/// Backups from before origins were noted tell host and path.
fn is_same_server(candidate: &BackupSummary, wanted: &Wanted<'_>) -> bool {
    match (&candidate.origin, wanted.origin) {
        (Origin::Unknown, Origin::Directory { host, .. }) => {
            candidate.host == *host && candidate.data_directory.path == wanted.path
        }
        (Origin::Directory { .. }, origin) => candidate.origin == *origin,
        _ => false,
    }
}

/// The newest fit candidate by start LSN, and why the newer ones were passed over. Where none is fit, the newest one that content can be
/// compared with.
pub fn choose<'a>(
    candidates: impl IntoIterator<Item = &'a BackupSummary>,
    wanted: &Wanted<'_>,
) -> (Option<Chosen<'a>>, Vec<(&'a BackupSummary, Unfit)>) {
    let mut best: Option<&BackupSummary> = None;
    let mut passed = Vec::new();
    for candidate in candidates {
        match unfit(candidate, wanted) {
            Some(reason) => passed.push((candidate, reason)),
            None if best.is_none_or(|best| best.start_lsn < candidate.start_lsn) => best = Some(candidate),
            None => {}
        }
    }
    let chosen = match best {
        Some(base) => Some(Chosen { base, distrust: None }),
        None => newest_comparable(&passed),
    };
    if let Some(Chosen { base, .. }) = chosen {
        passed.retain(|(candidate, _)| candidate.start_lsn > base.start_lsn);
    }
    (chosen, passed)
}

/// The newest good backup of this major version, for a backup that trusts no WAL, and why newer ones were passed over.
pub fn newest_to_compare<'a>(
    candidates: &[&'a BackupSummary],
    version_num: u32,
) -> (Option<Chosen<'a>>, Vec<(&'a BackupSummary, Unfit)>) {
    let judge = |candidate: &BackupSummary| {
        if !candidate.checksum_failures.is_empty() {
            return Some(Unfit::FailedChecks);
        }
        (candidate.server_version / 10_000 != version_num / 10_000).then_some(Unfit::MajorVersion)
    };
    let position = |candidate: &BackupSummary| (candidate.stopped, candidate.start_lsn);
    let fit = candidates.iter().copied().filter(|candidate| judge(candidate).is_none());
    let newest = fit.max_by_key(|candidate| position(candidate));
    let passed = candidates
        .iter()
        .filter(|candidate| newest.is_none_or(|newest| position(candidate) > position(newest)))
        .filter_map(|candidate| Some((*candidate, judge(candidate)?)))
        .collect();
    (newest.map(|base| Chosen { base, distrust: Some(Unfit::OtherServer) }), passed)
}

fn newest_comparable<'a>(passed: &[(&'a BackupSummary, Unfit)]) -> Option<Chosen<'a>> {
    let comparable = passed.iter().filter(|(_, reason)| reason.is_comparable());
    let newest = comparable.max_by_key(|(candidate, _)| candidate.start_lsn)?;
    Some(Chosen { base: newest.0, distrust: Some(newest.1) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::Timestamp;
    use pgproof_pg::{SystemIdentifier, TimelineId, WalLevel};
    use pgproof_repo::BackupId;
    use pgproof_repo::manifest::summary::{BackupKind, DataDirectory, ServerSettings, Totals};

    fn summary(start: u64, stop: u64, origin: Origin) -> BackupSummary {
        BackupSummary {
            dump: None,
            id: BackupId::new(Timestamp::UNIX_EPOCH, [0; 3]),
            system: SystemIdentifier(1),
            kind: BackupKind::Full,
            base: None,
            server_version: 150_004,
            control_version: 1300,
            catalog_version: 202_209_061,
            block_size: 8192,
            wal_segment_size: 1 << 24,
            checksums: true,
            timeline: TimelineId(1),
            start_lsn: Lsn(start),
            stop_lsn: Lsn(stop),
            started: Timestamp::UNIX_EPOCH,
            stopped: Timestamp::UNIX_EPOCH,
            from_standby: false,
            origin,
            backup_label: String::new(),
            tablespace_map: None,
            tablespaces: Vec::new(),
            data_directory: DataDirectory { path: "/data".to_owned(), mode: 0o700 },
            settings: ServerSettings {
                max_connections: 100,
                max_worker_processes: 8,
                max_wal_senders: 10,
                max_prepared_transactions: 0,
                max_locks_per_transaction: 64,
                wal_level: WalLevel::Replica,
                other: Default::default(),
            },
            external_files: Vec::new(),
            databases: Vec::new(),
            totals: Totals::default(),
            checksum_failures: Vec::new(),
            unnamed_changes: Vec::new(),
            trusting: 0,
            tool_version: String::new(),
            host: "a".to_owned(),
            labels: Default::default(),
        }
    }

    fn directory(inode: u64) -> Origin {
        Origin::Directory { host: "a".to_owned(), inode, born: Some(1) }
    }

    /// What the server whose directory has inode 1 chooses at 1000: the start of the base, and why WAL is not trusted.
    fn chosen(candidates: &[BackupSummary], path: &str) -> Option<(u64, Option<Unfit>)> {
        let history = TimelineHistory::root(TimelineId(1));
        let origin = directory(1);
        let wanted = Wanted {
            checksums: true,
            catalog_version: 202_209_061,
            history: &history,
            start: Lsn(1000),
            origin: &origin,
            path,
        };
        choose(candidates, &wanted).0.map(|chosen| (chosen.base.start_lsn.0, chosen.distrust))
    }

    #[test]
    fn an_older_backup_of_this_server_beats_a_newer_one_of_another() {
        let both = [summary(100, 200, directory(1)), summary(300, 400, directory(2))];
        assert_eq!(chosen(&both, "/data"), Some((100, None)));
        assert_eq!(chosen(&both[1..], "/data"), Some((300, Some(Unfit::OtherServer))));
        assert_eq!(chosen(&[], "/data"), None);
    }

    #[test]
    fn a_backup_that_ended_after_this_one_begins_is_only_compared_with() {
        let ending = |stop| chosen(&[summary(900, stop, directory(1))], "/data");
        assert_eq!(ending(1001), Some((900, Some(Unfit::NotBefore))));
        assert_eq!(ending(1000), Some((900, None)));
    }

    #[test]
    fn where_no_origin_was_noted_host_and_path_tell() {
        let old = [summary(100, 200, Origin::Unknown)];
        assert_eq!(chosen(&old, "/data"), Some((100, None)));
        assert_eq!(chosen(&old, "/other"), Some((100, Some(Unfit::OtherServer))));
    }
}
