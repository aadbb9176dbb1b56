//! `subscription-stopped`: a subscription does not apply.

use super::case::identifier;
use super::{Area, Case, Check, Found};
use crate::observe::{DatabaseSeen, SubscriptionRow};
use pgproof_base::{Remedy, Severity};

pub(super) const CHECK: Check = Check {
    code: "subscription-stopped",
    area: Area::Replication,
    title: "A subscription does not apply",
    why: "Its tables fall behind, and its slot on the publisher keeps WAL.",
    mends: "Mend what the log names: most often a row that is already there, or a column that is missing. `ALTER SUBSCRIPTION ... SKIP` passes over one transaction, and loses it.",
    limit: None,
    judge,
};

fn judge(case: &Case<'_>) -> Vec<Found> {
    let one = |database: &DatabaseSeen| {
        let stopped = database.subscriptions.rows().iter().filter(|row| row.enabled && !row.works);
        let name = database.name.clone();
        let cause = case.logged(&[
            "duplicate key value",
            // The same, as 18 says it.
            "conflict detected on relation",
            "logical replication target relation",
            "could not connect to the publisher",
            "could not start WAL streaming",
            "could not receive data from WAL stream",
        ]);
        let logged = cause.or_else(|| case.logged(&["logical replication"])).map(|entry| case.quote(entry));
        let found = |row: &SubscriptionRow| {
            let seen = format!(
                "subscription {} in {name} has no worker; {} errors",
                row.name,
                row.errors.unwrap_or(0)
            );
            let again = format!(
                "ALTER SUBSCRIPTION {0} DISABLE;\nALTER SUBSCRIPTION {0} ENABLE;",
                identifier(&row.name)
            );
            let remedy =
                Remedy::safe("when its cause is mended: start it again", again).in_database(name.clone());
            CHECK.found(Severity::Critical, row.name.clone(), seen).shown_by_all(logged.clone()).with(remedy)
        };
        stopped.map(found).collect::<Vec<_>>()
    };
    case.seen.databases.iter().flat_map(one).collect()
}
