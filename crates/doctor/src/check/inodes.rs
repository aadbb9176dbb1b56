//! `inodes`: a file system of the server has no inodes left.

use super::case::word;
use super::{Area, Case, Check, Found};
use crate::limits::{Limit, Unit};
use crate::observe::Disk;
use pgproof_base::Remedy;

pub(super) const CHECK: Check = Check {
    code: "inodes",
    area: Area::Storage,
    title: "A file system of the server has no inodes left",
    why: "Without inodes no file can be made, however much space there is: no WAL segment, no temporary file, no table.",
    mends: "Remove what made millions of small files beside the server, or make the file system anew with more inodes.",
    limit: Some(Limit { unit: Unit::Percent, warning: 90.0, critical: 98.0 }),
    judge,
};

fn judge(case: &Case<'_>) -> Vec<Found> {
    let one = |disk: &Disk| {
        let severity = case.level(&CHECK, disk.inodes_percent())?;
        let mount = disk.mount.clone().unwrap_or_else(|| disk.path.clone());
        let seen = format!(
            "{} of {} inodes left on {} ({})",
            disk.inodes_left,
            disk.inodes,
            mount.display(),
            disk.roles.join(", ")
        );
        let remedy = Remedy::safe(
            "see which directories hold the most files",
            format!("du --inodes -x -d 2 {} | sort -n | tail", word(&mount)),
        );
        Some(CHECK.found(severity, mount.display().to_string(), seen).with(remedy))
    };
    case.seen.disks.ok().into_iter().flatten().filter_map(one).collect()
}
