//! `disk-space`: a file system of the server is full or nearly so.

use super::case::word;
use super::{Area, Case, Check, Found};
use crate::limits::{Limit, Unit};
use crate::observe::Disk;
use pgproof_base::{Bytes, Remedy, Severity, shell_word};

pub(super) const CHECK: Check = Check {
    code: "disk-space",
    area: Area::Storage,
    title: "A file system of the server is full or nearly so",
    why: "A full data volume fails statements; a full WAL volume stops the server.",
    mends: "Find what takes the room (the evidence names it) and mend that; then grow the volume. Never remove anything from pg_wal.",
    limit: Some(Limit { unit: Unit::Percent, warning: 90.0, critical: 98.0 }),
    judge,
};

fn judge(case: &Case<'_>) -> Vec<Found> {
    let disks = case.seen.disks.ok().into_iter().flatten();
    disks.filter_map(|disk| one(case, disk)).collect()
}

/// Plenty, however small its share of a large volume: a segment's worth of WAL a second for ten minutes.
const PLENTY: u64 = 20 << 30;

fn one(case: &Case<'_>, disk: &Disk) -> Option<Found> {
    // With room again it is history: of four segments, or of half of a small volume.
    let room = (64 << 20).min(disk.total / 2);
    let logged = case.logged(&["No space left on device"]).filter(|_| disk.available < room);
    let level = case.level(&CHECK, disk.used_percent()).filter(|_| disk.available < PLENTY);
    let severity = level.max(logged.map(|_| Severity::Critical))?;
    let mount = disk.mount.clone().unwrap_or_else(|| disk.path.clone());
    let seen = format!(
        "{} of {} left on {} ({})",
        Bytes(disk.available),
        Bytes(disk.total),
        mount.display(),
        disk.roles.join(", ")
    );
    let wal = case.seen.directory.ok().filter(|_| disk.roles.iter().any(|role| role == "pg_wal"));
    let wal = wal
        .map(|directory| format!("pg_wal: {} in {} files", Bytes(directory.wal_bytes), directory.wal_count));
    let foreign = disk
        .foreign
        .iter()
        .map(|file| format!("not PostgreSQL's: {}, {}", file.path.display(), Bytes(file.bytes)));
    let mut found = CHECK
        .found(severity, mount.display().to_string(), seen)
        .shown_by_all(wal)
        .shown_by_all(foreign)
        .shown_by_all(logged.map(|entry| case.quote(entry)));
    let start = case.stopped().map_or_else(String::new, |place| format!("\n{}", case.start(place)));
    if let Some(file) = disk.foreign.first() {
        let command = format!("mv {} /var/tmp/{start}", word(&file.path));
        let what = format!("{} is none of PostgreSQL's: move it to another file system", file.path.display());
        found = found.with(Remedy::disruptive(what, command).afterwards(format!("`df {}`", word(&mount))));
    }
    if let Some(command) = room_command(disk) {
        found = found.with(
            Remedy::safe("grow the volume", format!("{command}{start}"))
                .afterwards(format!("`df {}`", word(&mount))),
        );
    } else {
        found = found.with(Remedy::safe(format!("grow {}", mount.display()), ""));
    }
    Some(found)
}

/// What gives a file system half as much again, where a command can.
pub(super) fn room_command(disk: &Disk) -> Option<String> {
    let mount = word(disk.mount.as_ref()?);
    let more = (disk.total / 2).max(128 << 20);
    let source = disk.source.as_deref()?;
    match disk.kind.as_deref()? {
        "tmpfs" => Some(format!("mount -o remount,size={}m {mount}", (disk.total + more) >> 20)),
        _ if source.starts_with("/dev/mapper/") => {
            Some(format!("lvextend -r -L +{}m {}", more >> 20, shell_word(source)))
        }
        _ => None,
    }
}
