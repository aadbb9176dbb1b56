//! `checkpoints-frequent`: checkpoints follow each other too closely.

use super::{Area, Case, Check, Found};
use pgproof_base::Severity;

pub(super) const CHECK: Check = Check {
    code: "checkpoints-frequent",
    area: Area::Configuration,
    title: "Checkpoints follow each other too closely",
    why: "Each one writes all changed pages, and after it every page goes to WAL in full when it is changed first: writes cost a multiple.",
    mends: "Raise `max_wal_size`, so that checkpoints come by time. The price is disk space, and a longer recovery after a crash.",
    limit: None,
    judge,
};

/// One burst is a load; several are a habit.
const TIMES: usize = 3;

fn judge(case: &Case<'_>) -> Vec<Found> {
    let often = case.logged_all(&["checkpoints are occurring too frequently"]);
    let often: Vec<_> = often.filter(|entry| case.since_load(entry)).collect();
    let Some(server) = case.server().filter(|_| often.len() >= TIMES) else { return Vec::new() };
    let row = server.setting("max_wal_size");
    let value = row.map_or("?", |row| row.value.as_str());
    let seen =
        format!("the server complained {} times within the last hour; max_wal_size is {value}", often.len());
    let found = CHECK.found(Severity::Warning, "max_wal_size", seen).shown_by(case.quote(often[0]));
    let Some(bytes) = row.and_then(|row| crate::observe::settings::bytes_of(&row.value, 1 << 20)) else {
        return vec![found];
    };
    let wanted = (bytes >> 20).saturating_mul(4).max(1024);
    let room = case.volume("pg_wal").is_none_or(|disk| disk.available >> 20 > wanted);
    if !room {
        return vec![found];
    }
    let set = format!("ALTER SYSTEM SET max_wal_size = '{wanted}MB';\nSELECT pg_reload_conf();");
    vec![found.with(case.safe_sql("let more WAL pass between two of them", set))]
}
