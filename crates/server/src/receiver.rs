//! What a server says of a receiver of its WAL, found by the slot that it uses.

use crate::error::ServerError;
use crate::session::Session;
use pgproof_pg::Lsn;
use serde::{Deserialize, Serialize};

/// A receiver, as `pg_replication_slots`, `pg_stat_replication` and `pg_stat_activity` tell of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ReceiverFacts {
    /// Whether it streams now.
    pub active: bool,
    /// What it has acknowledged as durable; while it is away, from where the slot keeps WAL, which is not later. None when the slot was
    /// never used.
    pub durable: Option<Lsn>,
    /// Whether commits wait for it.
    pub synchronous: bool,
    /// Whether the server has removed WAL that it needs (`max_slot_wal_keep_size`).
    pub lost: bool,
    /// Sessions whose commit waits for a synchronous standby now.
    pub waiting_commits: i64,
}

impl ReceiverFacts {
    /// Asks for the receiver that uses a physical slot; none when there is no such slot.
    ///
    /// # Errors
    /// [`ServerError::Statement`], [`ServerError::Answer`].
    pub fn observe(session: &mut Session, slot: &str) -> Result<Option<Self>, ServerError> {
        let rows = session.query(
            "ask for the receiver of WAL",
            "SELECT s.active, coalesce(r.flush_lsn, s.restart_lsn)::text, coalesce(r.sync_state IN ('sync', 'quorum'), false), \
               coalesce(s.wal_status = 'lost', false), (SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep') \
             FROM pg_replication_slots s LEFT JOIN pg_stat_replication r ON r.pid = s.active_pid \
             WHERE s.slot_type = 'physical' AND s.slot_name = $1",
            &[&slot],
        )?;
        let Some(row) = rows.first() else { return Ok(None) };
        let durable: Option<String> = row.get(1);
        let durable = durable.map(|lsn| lsn.parse().map_err(|_| session.odd("a receiver's position", lsn)));
        Ok(Some(Self {
            active: row.get(0),
            durable: durable.transpose()?,
            synchronous: row.get(2),
            lost: row.get(3),
            waiting_commits: row.get(4),
        }))
    }
}
