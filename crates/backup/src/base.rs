//! Chooses the backup that a new one builds on. Pure.
//!
//! A base needs the same system identifier and checksum setting, must lie with all of its WAL on this server's own history, and
//! must have ended before this one began (design, section 10.2). A backup that failed its page checks is never built upon.

use pgproof_pg::{Lsn, TimelineHistory};
use pgproof_repo::BackupSummary;
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
}

impl std::fmt::Display for Unfit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::FailedChecks => "it holds pages that failed their checksum",
            Self::ChecksumSetting => "data checksums were switched on or off since",
            Self::MajorVersion => "another major version wrote it",
            Self::OtherHistory => "the server has left its history since",
            Self::NotBefore => "it had not ended when this one began",
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
    None
}

/// The newest fit candidate by start LSN, and why the newer ones were passed over.
pub fn choose<'a>(
    candidates: impl IntoIterator<Item = &'a BackupSummary>,
    wanted: &Wanted<'_>,
) -> (Option<&'a BackupSummary>, Vec<(&'a BackupSummary, Unfit)>) {
    let mut best: Option<&BackupSummary> = None;
    let mut passed = Vec::new();
    for candidate in candidates {
        match unfit(candidate, wanted) {
            Some(reason) => passed.push((candidate, reason)),
            None if best.is_none_or(|best| best.start_lsn < candidate.start_lsn) => best = Some(candidate),
            None => {}
        }
    }
    if let Some(best) = best {
        passed.retain(|(candidate, _)| candidate.start_lsn > best.start_lsn);
    }
    (best, passed)
}
