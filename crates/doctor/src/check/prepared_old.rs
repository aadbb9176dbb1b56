//! `prepared-old`: a prepared transaction was left behind.

use super::case::{ago, literal};
use super::{Area, Case, Check, Found};
use crate::limits::{Limit, Unit};
use crate::observe::{Prepared, ServerSeen};
use pgproof_base::{Remedy, Severity};

pub(super) const CHECK: Check = Check {
    code: "prepared-old",
    area: Area::Sessions,
    title: "A prepared transaction was left behind",
    why: "It holds its locks and holds back vacuum until it is ended, also through a restart.",
    mends: "Ask its transaction manager which way it went. Where that is gone for good, roll it back, or commit it if other parts were committed.",
    limit: Some(Limit { unit: Unit::Seconds, warning: 600.0, critical: 3_600.0 }),
    judge,
};

fn judge(case: &Case<'_>) -> Vec<Found> {
    let Some(server) = case.server() else { return Vec::new() };
    let blocks = blocked_by_prepared(server);
    let one = |row: &Prepared| {
        let severity = case.level(&CHECK, row.age_s).max(blocks.then_some(Severity::Critical))?;
        let seen = format!(
            "transaction '{}' of {} was prepared {} ago in {} and never ended",
            row.gid,
            row.owner,
            ago(row.age_s),
            row.database
        );
        let found = CHECK
            .found(severity, row.gid.clone(), seen)
            .shown_by(format!("it is {} transactions old", row.xid_age));
        let remedy = Remedy::destructive(
            "if its transaction manager is gone: roll it back",
            format!("ROLLBACK PREPARED {}", literal(&row.gid)),
        )
        .keeping(format!(
            "SELECT json_build_object('transaction', to_json(p), 'locks', (SELECT json_agg(l) FROM pg_locks l \
             WHERE l.virtualtransaction = '-1/' || p.transaction::text))::text FROM pg_prepared_xacts p WHERE gid = {}",
            literal(&row.gid)
        ));
        Some(
            found.with(
                remedy
                    .in_database(row.database.clone())
                    .afterwards("`SELECT gid FROM pg_prepared_xacts` does not show it"),
            ),
        )
    };
    server.prepared.rows().iter().filter_map(one).collect()
}

/// `pg_blocking_pids` names a prepared transaction 0.
fn blocked_by_prepared(server: &ServerSeen) -> bool {
    server
        .sessions
        .rows()
        .iter()
        .any(|row| row.blocked_by.contains(&0) && row.query_s.is_some_and(|s| s > 5.0))
}
