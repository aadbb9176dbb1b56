//! `receiver-down`: the standby receives no WAL.

use super::case::ago;
use super::{Area, Case, Check, Found};
use pgproof_base::Severity;

pub(super) const CHECK: Check = Check {
    code: "receiver-down",
    area: Area::Replication,
    title: "The standby receives no WAL",
    why: "It falls behind; a failover to it would lose what it has not received.",
    mends: "The log says why: the network, pg_hba.conf of the primary, a password, or a segment that the primary has removed. Such a segment comes from the archive through `restore_command`; else the standby is built anew.",
    limit: None,
    judge,
};

fn judge(case: &Case<'_>) -> Vec<Found> {
    let Some(server) = case.server().filter(|server| server.about.in_recovery) else { return Vec::new() };
    let Some(row) = server
        .receiver
        .rows()
        .first()
        .filter(|row| row.configured && !row.receiving && row.pause == "not paused")
    else {
        return Vec::new();
    };
    let logged = case.logged(&[
        "could not receive data from WAL stream",
        "could not connect to the primary",
        "requested WAL segment",
        "replication slot",
        "streaming replication",
    ]);
    let why = logged.map_or_else(|| "the log does not say why".to_owned(), |entry| entry.message.clone());
    let found = CHECK
        .found(Severity::Critical, "", format!("no WAL is received: {why}"))
        .shown_by_all(logged.map(|entry| case.quote(entry)));
    let found =
        found.shown_by_all(row.replayed_s.map(|s| format!("the last commit replayed is {} old", ago(s))));
    let get = "ALTER SYSTEM SET restore_command = 'pgproof archive get %f %p';\nSELECT pg_reload_conf();";
    vec![
        found.with(
            case.safe_sql("let it fetch from the repository what the primary has no more", get)
                .afterwards("pg_stat_wal_receiver has a row"),
        ),
    ]
}
