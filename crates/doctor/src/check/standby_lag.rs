//! `standby-lag`: a standby is behind.

use super::{Area, Case, Check, Found};
use crate::limits::{Limit, Unit};
use crate::observe::StandbyRow;
use pgproof_base::{Bytes, Remedy};

pub(super) const CHECK: Check = Check {
    code: "standby-lag",
    area: Area::Replication,
    title: "A standby is behind",
    why: "Reads on it are old, and a failover to it takes longer or loses commits.",
    mends: "See which stage lags: not flushed is the network or the standby's disk, flushed and not replayed is replay: long queries on the standby, or a pause.",
    limit: Some(Limit { unit: Unit::Bytes, warning: 104_857_600.0, critical: 1_073_741_824.0 }),
    judge,
};

fn judge(case: &Case<'_>) -> Vec<Found> {
    let rows = case.server().map_or(&[][..], |server| server.standbys.rows());
    let one = |row: &StandbyRow| {
        let behind = row.replay_bytes.filter(|_| row.state == "streaming")?;
        let severity = case.level(&CHECK, behind as f64)?;
        let bytes = |n: Option<i64>| Bytes(u64::try_from(n.unwrap_or(0)).unwrap_or(0));
        let seen = format!(
            "standby {} is {} behind ({} of it not flushed)",
            row.name,
            bytes(row.replay_bytes),
            bytes(row.flush_bytes)
        );
        let look = "SELECT pg_get_wal_replay_pause_state(), pid, state, now() - xact_start FROM pg_stat_activity WHERE xact_start IS NOT NULL";
        Some(
            CHECK
                .found(severity, row.name.clone(), seen)
                .with(Remedy::safe("on the standby: see who holds replay up", look).in_database("postgres")),
        )
    };
    rows.iter().filter_map(one).collect()
}
