//! `sequence-end`: a sequence, or the column that it feeds, comes to its end.

use super::case::identifier;
use super::{Area, Case, Check, Found};
use crate::limits::{Limit, Unit};
use crate::observe::{DatabaseSeen, SequenceRow};
use pgproof_base::Remedy;

pub(super) const CHECK: Check = Check {
    code: "sequence-end",
    area: Area::Schema,
    title: "A sequence, or the column that it feeds, comes to its end",
    why: "At the end every INSERT fails.",
    mends: "A column of type integer becomes bigint: by rewriting the table, or by a new column that is filled behind a trigger. A sequence with a lower maximum gets a higher one.",
    limit: Some(Limit { unit: Unit::Percent, warning: 70.0, critical: 90.0 }),
    judge,
};

fn judge(case: &Case<'_>) -> Vec<Found> {
    let one = |database: &DatabaseSeen| {
        let name = database.name.clone();
        let found = |row: &SequenceRow| {
            let used = 100.0 * row.last as f64 / row.limit.max(1) as f64;
            let severity = case.level(&CHECK, used).filter(|_| !row.cycles)?;
            let seen =
                format!("sequence {} in {name} is at {} of {} ({used:.0} %)", row.name, row.last, row.limit);
            let found = CHECK.found(severity, row.name.clone(), seen);
            let narrow = matches!(row.column_type.as_deref(), Some("integer" | "smallint"));
            Some(match (&row.table, &row.column_name) {
                (Some(table), Some(column)) if narrow => {
                    let column = identifier(column);
                    let command = format!(
                        "ALTER SEQUENCE {} AS bigint MAXVALUE 9223372036854775807;\nALTER TABLE {table} ALTER COLUMN {column} TYPE bigint;",
                        row.name
                    );
                    let remedy = Remedy::disruptive(
                        "make the column bigint: rewrites the table under an exclusive lock",
                        command,
                    );
                    found
                        .shown_by(format!(
                            "it feeds {table}.{column}, of type {}",
                            row.column_type.as_deref().unwrap_or("?")
                        ))
                        .with(remedy.in_database(name.clone()))
                }
                _ => {
                    let command =
                        format!("ALTER SEQUENCE {} AS bigint MAXVALUE 9223372036854775807", row.name);
                    found.with(Remedy::safe("let it go on", command).in_database(name.clone()))
                }
            })
        };
        database.sequences.rows().iter().filter_map(found).collect::<Vec<_>>()
    };
    case.seen.databases.iter().flat_map(one).collect()
}
