//! `triggers-disabled`: triggers of a table are disabled.

use super::{Area, Case, Check, Found};
use crate::observe::{DatabaseSeen, TriggerRow};
use pgproof_base::{Remedy, Severity};

pub(super) const CHECK: Check = Check {
    code: "triggers-disabled",
    area: Area::Schema,
    title: "Triggers of a table are disabled",
    why: "Foreign keys are triggers: while they are disabled, rows without parents get in. A load that failed leaves them so.",
    mends: "Enable them; then look for rows that got in meanwhile.",
    limit: None,
    judge,
};

fn judge(case: &Case<'_>) -> Vec<Found> {
    let one = |database: &DatabaseSeen| {
        let name = database.name.clone();
        let found = |row: &TriggerRow| {
            let severity = if row.foreign_keys { Severity::Warning } else { Severity::Info };
            let kind = if row.foreign_keys { ", foreign keys among them" } else { "" };
            let seen = format!("{} triggers of {} in {name} are disabled{kind}", row.count, row.table);
            let remedy =
                Remedy::disruptive("enable them", format!("ALTER TABLE {} ENABLE TRIGGER ALL", row.table))
                    .in_database(name.clone());
            CHECK.found(severity, row.table.clone(), seen).with(remedy)
        };
        database.triggers.rows().iter().map(found).collect::<Vec<_>>()
    };
    case.seen.databases.iter().flat_map(one).collect()
}
