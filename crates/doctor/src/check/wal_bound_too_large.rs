//! `wal-bound-too-large`: settings let WAL grow beyond its disk.

use super::{Area, Case, Check, Found};
use crate::limits::{Limit, Unit};
use pgproof_base::Bytes;

pub(super) const CHECK: Check = Check {
    code: "wal-bound-too-large",
    area: Area::Storage,
    title: "Settings let WAL grow beyond its disk",
    why: "The server fills the disk by its own settings, and stops when it is full.",
    mends: "Set the bound below the size of the disk, with room for what archiving and slots keep besides.",
    limit: Some(Limit { unit: Unit::Percent, warning: 80.0, critical: 100.0 }),
    judge,
};

fn judge(case: &Case<'_>) -> Vec<Found> {
    let (Some(server), Some(disk)) = (case.server(), case.volume("pg_wal")) else { return Vec::new() };
    let one = |name: &&str| {
        let row = server.setting(name)?;
        let bytes = crate::observe::settings::bytes_of(&row.value, 1 << 20)?;
        let severity = case.level(&CHECK, 100.0 * bytes as f64 / disk.total.max(1) as f64)?;
        let seen = format!("{name} is {}, and the disk of pg_wal has {}", row.value, Bytes(disk.total));
        let good = (disk.total / 2) >> 20;
        let set = format!("ALTER SYSTEM SET {name} = '{good}MB';\nSELECT pg_reload_conf();");
        let found = CHECK.found(severity, *name, seen).shown_by_all(row.place.clone());
        Some(found.with(
            case.safe_sql("set half of the disk", set).afterwards("pg_wal shrinks at the next checkpoints"),
        ))
    };
    ["max_wal_size", "wal_keep_size"].iter().filter_map(one).collect()
}
