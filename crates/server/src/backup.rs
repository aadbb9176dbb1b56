//! A base backup as the server sees it: started and stopped in one session.
//!
//! The session must stay open in between: when it ends, the server ends the backup. Version 15 renamed the functions and dropped
//! the exclusive mode (`src/backend/access/transam/xlogfuncs.c`); the non-exclusive mode is the same since 9.6.

use crate::error::ServerError;
use crate::session::Session;
use pgproof_pg::{Lsn, TimelineId, WalSegmentSize, label::BackupLabel};

/// A backup that the server has begun.
#[derive(Debug)]
pub struct RunningBackup {
    /// Redo position of its checkpoint: recovery begins here.
    pub start: Lsn,
    /// The timeline it began on.
    pub timeline: TimelineId,
    old_names: bool,
}

/// What the server says at the end of a backup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoppedBackup {
    /// Position from which the copy is consistent.
    pub stop: Lsn,
    /// Content for `backup_label`.
    pub backup_label: String,
    /// Content for `tablespace_map`; empty without tablespaces.
    pub tablespace_map: String,
}

/// The first version with `pg_backup_start`.
const NEW_NAMES: u32 = 150_000;

impl RunningBackup {
    /// Starts a backup; waits for its checkpoint.
    ///
    /// # Errors
    /// [`ServerError::Statement`], [`ServerError::Answer`].
    pub fn start(
        session: &mut Session,
        version_num: u32,
        segment_size: WalSegmentSize,
        label: &str,
        fast: bool,
    ) -> Result<Self, ServerError> {
        let old_names = version_num < NEW_NAMES;
        let sql = if old_names {
            "SELECT lsn::text, pg_walfile_name(lsn) FROM pg_start_backup($1, $2, false) lsn"
        } else {
            "SELECT lsn::text, pg_walfile_name(lsn) FROM pg_backup_start($1, $2) lsn"
        };
        let row = session.query_one("start the backup", sql, &[&label, &fast])?;
        let lsn: String = row.get(0);
        let segment: String = row.get(1);
        let start = lsn.parse().map_err(|_| session.odd("the start of the backup", lsn))?;
        let name = pgproof_pg::SegmentName::parse(&segment, segment_size)
            .map_err(|_| session.odd("the first WAL segment of the backup", segment))?;
        Ok(Self { start, timeline: name.timeline, old_names })
    }

    /// Stops it. Does not wait for the archive: the server polls once a second, pgproof looks itself.
    ///
    /// # Errors
    /// [`ServerError::Statement`], [`ServerError::Answer`].
    pub fn stop(self, session: &mut Session) -> Result<StoppedBackup, ServerError> {
        let sql = if self.old_names {
            "SELECT lsn::text, labelfile, spcmapfile FROM pg_stop_backup(false, false)"
        } else {
            "SELECT lsn::text, labelfile, spcmapfile FROM pg_backup_stop(false)"
        };
        let row = session.query_one("stop the backup", sql, &[])?;
        let lsn: String = row.get(0);
        let stopped = StoppedBackup {
            stop: lsn.parse().map_err(|_| session.odd("the end of the backup", lsn.clone()))?,
            backup_label: row.get(1),
            tablespace_map: row.get::<_, Option<String>>(2).unwrap_or_default(),
        };
        self.check(&stopped, session)?;
        Ok(stopped)
    }

    /// The label is what recovery goes by, so it has to name the backup whose files were copied.
    fn check(&self, stopped: &StoppedBackup, session: &Session) -> Result<(), ServerError> {
        let label = BackupLabel::parse(&stopped.backup_label)
            .map_err(|_| session.odd("the label of the backup", stopped.backup_label.clone()))?;
        if (label.start, label.start_timeline) == (self.start, self.timeline) && stopped.stop >= self.start {
            return Ok(());
        }
        Err(ServerError::BackupChanged {
            began: format!("{} on timeline {}", self.start, self.timeline),
            why: format!(
                "its label says {} on timeline {}, and it ended at {}",
                label.start, label.start_timeline, stopped.stop
            ),
        })
    }
}
