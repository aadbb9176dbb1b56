//! `xmin-holder`: something holds back vacuum.

use super::case::{keep_slot, literal};
use super::{Area, Case, Check, Found};
use crate::limits::{Limit, Unit};
use pgproof_base::Remedy;

pub(super) const CHECK: Check = Check {
    code: "xmin-holder",
    area: Area::Vacuum,
    title: "Something holds back vacuum",
    why: "Rows that died since it began cannot be removed, and old transactions cannot be frozen.",
    mends: "End exactly the one that is named: a session, a slot, or a standby's feedback.",
    limit: Some(Limit { unit: Unit::Count, warning: 50_000_000.0, critical: 500_000_000.0 }),
    judge,
};

fn judge(case: &Case<'_>) -> Vec<Found> {
    let Some(server) = case.server() else { return Vec::new() };
    let sessions =
        server.sessions.rows().iter().filter(|row| row.kind.as_deref() != Some("walsender")).filter_map(
            |row| {
                let end = case.disruptive_sql("end it", format!("SELECT pg_terminate_backend({})", row.pid));
                Some((
                    row.xmin_age?,
                    format!("process {} ({})", row.pid, super::idle_in_transaction::who(row)),
                    end,
                ))
            },
        );
    let slots = server.slots.rows().iter().filter_map(|row| {
        let age = row.xmin_age.max(row.catalog_xmin_age)?;
        let drop = format!("SELECT pg_drop_replication_slot({})", literal(&row.name));
        Some((
            age,
            format!("replication slot {}", row.name),
            case.destructive_sql("if nobody uses it: drop it", drop).keeping(keep_slot(&row.name)),
        ))
    });
    let standbys = server.standbys.rows().iter().filter_map(|row| {
        let off = Remedy::safe(
            "on that standby: let it send no feedback (long queries there may be cancelled)",
            "ALTER SYSTEM SET hot_standby_feedback = off;\nSELECT pg_reload_conf();",
        );
        Some((row.xmin_age?, format!("standby {} by its feedback", row.name), off))
    });
    let Some((age, who, remedy)) = sessions.chain(slots).chain(standbys).max_by_key(|(age, ..)| *age) else {
        return Vec::new();
    };
    let Some(severity) = case.level(&CHECK, age as f64) else { return Vec::new() };
    vec![
        CHECK
            .found(severity, who.clone(), format!("{who} holds back vacuum by {age} transactions"))
            .with(remedy),
    ]
}
