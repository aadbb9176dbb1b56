//! `slot-inactive`: a replication slot keeps WAL, and nobody uses it.

use super::case::{ago, keep_slot, literal, word};
use super::{Area, Case, Check, Found};
use crate::limits::{Limit, Unit};
use crate::observe::{SlotFile, SlotRow};
use pgproof_base::{Bytes, Remedy, Severity, shell_word};

pub(super) const CHECK: Check = Check {
    code: "slot-inactive",
    area: Area::Replication,
    title: "A replication slot keeps WAL, and nobody uses it",
    why: "A slot keeps all WAL since it was used last, without limit unless `max_slot_wal_keep_size` sets one. It fills the disk, and a full disk stops the server.",
    mends: "Let its consumer connect again; where that is gone for good, drop the slot: a standby that used it must then be built anew. `max_slot_wal_keep_size` bounds what any slot may keep.",
    limit: Some(Limit { unit: Unit::Bytes, warning: 268_435_456.0, critical: 10_737_418_240.0 }),
    judge,
};

fn judge(case: &Case<'_>) -> Vec<Found> {
    match case.server() {
        Some(server) => server.slots.rows().iter().filter_map(|slot| live(case, slot)).collect(),
        None => stopped(case),
    }
}

/// How much of the volume of `pg_wal` a slot may take before its size in bytes does not matter any more.
const SHARE: f64 = 0.25;

fn live(case: &Case<'_>, slot: &SlotRow) -> Option<Found> {
    let kept = u64::try_from(slot.retained_bytes.unwrap_or(0)).unwrap_or(0);
    if slot.active || slot.temporary || slot.wal_status.as_deref() == Some("lost") {
        return None;
    }
    let severity = severity(case, kept)?;
    let since = slot.inactive_s.map_or_else(String::new, |s| format!(", unused for {}", ago(s)));
    let seen = format!("slot {} is not used and keeps {} of WAL{since}", slot.name, Bytes(kept));
    let rows = format!(
        "pg_replication_slots: slot_type {}, wal_status {}",
        slot.kind,
        slot.wal_status.as_deref().unwrap_or("?")
    );
    let drop = format!("SELECT pg_drop_replication_slot({})", literal(&slot.name));
    let remedy = case.destructive_sql("nobody will use it again: drop it", format!("{drop};\nCHECKPOINT;"));
    let remedy = remedy.keeping(keep_slot(&slot.name));
    let cap = case.safe_sql(
        "bound what slots may keep",
        "ALTER SYSTEM SET max_slot_wal_keep_size = '10GB';\nSELECT pg_reload_conf();",
    );
    let remedy = remedy
        .afterwards("`SELECT slot_name FROM pg_replication_slots` does not show it, and pg_wal shrinks");
    Some(CHECK.found(severity, slot.name.clone(), seen).shown_by(rows).with(remedy).with(cap))
}

fn severity(case: &Case<'_>, kept: u64) -> Option<Severity> {
    let large =
        case.volume("pg_wal").is_some_and(|disk| disk.total > 0 && kept as f64 > SHARE * disk.total as f64);
    let level = case.level(&CHECK, kept as f64);
    level.max(large.then_some(Severity::Warning))
}

/// Of a server that does not run: by the files of its slots.
fn stopped(case: &Case<'_>) -> Vec<Found> {
    let (Some(place), Some(directory)) = (case.stopped(), case.seen.directory.ok()) else {
        return Vec::new();
    };
    let Ok(control) = &directory.control else { return Vec::new() };
    let one = |slot: &SlotFile| {
        // The end of WAL is not known without reading it; the files are there until it.
        let span = control.checkpoint.0.saturating_sub(slot.restart_lsn?.0);
        let kept = span
            .max(if slot.restart_lsn? < control.redo { directory.wal_bytes } else { 0 })
            .min(directory.wal_bytes);
        let severity = severity(case, kept)?;
        let seen = format!("slot {} keeps WAL since {}, about {}", slot.name, slot.restart_lsn?, Bytes(kept));
        let drop = format!("SELECT pg_drop_replication_slot({})", literal(&slot.name));
        let socket = place
            .socket_directory
            .as_ref()
            .map_or_else(String::new, |folder| format!(" -h {}", word(folder)));
        let sql = format!("psql -X{socket} -p {} -d postgres -c {}", place.port, shell_word(&drop));
        let room = room(case).into_iter();
        let steps: Vec<String> = room.chain([case.start(place), case.as_owner(&sql)]).collect();
        let remedy = Remedy::destructive(
            "make room for the start, start, and drop the slot if nobody will use it again",
            steps.join("\n"),
        )
        .keeping(format!(
            "cp -a {0}/pg_replslot/{1} {0}/../{1}.slot-before-pgproof",
            word(&place.data_directory),
            shell_word(&slot.name)
        ));
        let remedy = remedy.afterwards("pg_wal shrinks at the next checkpoint");
        Some(
            CHECK
                .found(severity, slot.name.clone(), seen)
                .shown_by(format!("{} files in pg_wal, {}", directory.wal_count, Bytes(directory.wal_bytes)))
                .with(remedy),
        )
    };
    directory.slots.iter().filter_map(one).collect()
}

/// A start writes at least two segments more.
fn room(case: &Case<'_>) -> Option<String> {
    let disk = case.volume("pg_wal")?;
    (disk.available < 64 << 20).then(|| super::disk_space::room_command(disk)).flatten()
}
