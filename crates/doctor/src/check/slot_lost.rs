//! `slot-lost`: a replication slot has lost the WAL that it needs.

use super::case::{keep_slot, literal};
use super::{Area, Case, Check, Found};
use crate::observe::SlotRow;
use pgproof_base::Severity;

pub(super) const CHECK: Check = Check {
    code: "slot-lost",
    area: Area::Replication,
    title: "A replication slot has lost the WAL that it needs",
    why: "Its consumer cannot go on: a standby must be built anew, a subscription be synchronised again.",
    mends: "Drop the slot and build its consumer anew; a standby can first try the archive through `restore_command`.",
    limit: None,
    judge,
};

fn judge(case: &Case<'_>) -> Vec<Found> {
    let rows = case.server().map_or(&[][..], |server| server.slots.rows());
    let lost = rows.iter().filter(|row| row.wal_status.as_deref() == Some("lost"));
    let one = |row: &SlotRow| {
        let drop = format!("SELECT pg_drop_replication_slot({})", literal(&row.name));
        let remedy = case
            .destructive_sql("drop it, and build its consumer anew", drop)
            .afterwards("pg_replication_slots does not show it")
            .keeping(keep_slot(&row.name));
        CHECK
            .found(
                Severity::Critical,
                row.name.clone(),
                format!("slot {} has lost WAL that its consumer still needs", row.name),
            )
            .with(remedy)
    };
    lost.map(one).collect()
}
