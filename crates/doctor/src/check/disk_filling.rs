//! `disk-filling`: a file system fills at a rate that ends soon.

use super::case::ago;
use super::{Area, Case, Check, Found};
use crate::observe::{Disk, EarlierDisk};
use pgproof_base::{Bytes, Remedy, Severity};

pub(super) const CHECK: Check = Check {
    code: "disk-filling",
    area: Area::Storage,
    title: "A file system fills at a rate that ends soon",
    why: "At the rate since an earlier look it is full within a day; a full disk of WAL stops the server.",
    mends: "Find what grows: slots, the archiver and temporary files are findings of their own; else tables or the log. A warning from 24 hours before it is full, critical from 2.",
    limit: None,
    judge,
};

/// Hours before it is full.
const WARNING_H: f64 = 24.0;
const CRITICAL_H: f64 = 2.0;
/// Shorter ago tells of a burst.
const SINCE_S_MIN: f64 = 600.0;
/// What came to less is no trend.
const GROWN_MIN: u64 = 256 << 20;

fn judge(case: &Case<'_>) -> Vec<Found> {
    let disks = case.seen.disks.ok().into_iter().flatten();
    disks.filter_map(|disk| case.seen.earlier.iter().find_map(|earlier| one(case, disk, earlier))).collect()
}

fn one(case: &Case<'_>, disk: &Disk, earlier: &EarlierDisk) -> Option<Found> {
    let since_s = (case.seen.at.as_second() - earlier.at.as_second()) as f64;
    let grown = earlier.available.checked_sub(disk.available).filter(|grown| *grown >= GROWN_MIN)?;
    if earlier.path != disk.path || since_s < SINCE_S_MIN {
        return None;
    }
    let left_s = disk.available as f64 / (grown as f64 / since_s);
    let severity = match left_s / 3600.0 {
        hours if hours < CRITICAL_H => Severity::Critical,
        hours if hours < WARNING_H => Severity::Warning,
        _ => return None,
    };
    let mount = disk.mount.as_ref().unwrap_or(&disk.path).display().to_string();
    let seen = format!(
        "{mount} is full in {} at this rate: {} came in {}, {} are left",
        ago(left_s),
        Bytes(grown),
        ago(since_s),
        Bytes(disk.available)
    );
    let look = format!("du -x -d 2 {} | sort -n | tail", super::case::word(&disk.path));
    Some(CHECK.found(severity, mount, seen).with(Remedy::safe("see what grows", look)))
}
