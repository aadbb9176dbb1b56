//! A base backup as the server sees it: started and stopped in one session.
//!
//! The session must stay open in between: when it ends, the server ends the backup. Version 15 renamed the functions and dropped
//! the exclusive mode (`src/backend/access/transam/xlogfuncs.c`); the non-exclusive mode is the same since 9.6, on a standby too.

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

/// By the control file, as `do_pg_backup_start` reads it on a standby.
const RESTARTPOINT: &str =
    "SELECT c.redo_lsn::text, c.timeline_id, pg_last_wal_replay_lsn()::text FROM pg_control_checkpoint() c";

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

    /// Starts a backup on a standby; waits for its restartpoint. Where there is no newer checkpoint to make one from, the last one
    /// counts, so that two backups may have the same start.
    ///
    /// Checks what makes the files good for a backup that begins there: a restartpoint has written out every change before the start, and
    /// replay has come so far. PostgreSQL itself refuses when `full_page_writes` was off on the primary since
    /// (`do_pg_backup_start` in `src/backend/access/transam/xlog.c`).
    ///
    /// # Errors
    /// [`ServerError::Statement`], [`ServerError::Answer`].
    pub fn start_on_standby(
        session: &mut Session,
        version_num: u32,
        label: &str,
        fast: bool,
    ) -> Result<Self, ServerError> {
        let old_names = version_num < NEW_NAMES;
        let sql = if old_names {
            "SELECT lsn::text FROM pg_start_backup($1, $2, false) lsn"
        } else {
            "SELECT lsn::text FROM pg_backup_start($1, $2) lsn"
        };
        let lsn: String = session.query_one("start the backup", sql, &[&label, &fast])?.get(0);
        let start: Lsn = lsn.parse().map_err(|_| session.odd("the start of the backup", lsn))?;
        // `pg_walfile_name` is refused in recovery. A restartpoint in between could tell a later timeline than the start's: the label
        // will say so at the end, and the backup fails.
        let row = session.query_one("ask for the last restartpoint", RESTARTPOINT, &[])?;
        let (redo, timeline): (String, i32) = (row.get(0), row.get(1));
        let replayed: Option<String> = row.get(2);
        let reaches = |text: &str| text.parse::<Lsn>().is_ok_and(|lsn| lsn >= start);
        if !reaches(&redo) {
            return Err(session.odd("the last restartpoint of a backup that begins later", redo));
        }
        match replayed {
            Some(replayed) if reaches(&replayed) => {}
            other => {
                return Err(session
                    .odd("the replay position of a backup that begins later", other.unwrap_or_default()));
            }
        }
        Ok(Self { start, timeline: TimelineId(timeline.cast_unsigned()), old_names })
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
