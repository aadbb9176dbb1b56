//! What is different when the files are a standby's.
//!
//! A standby writes no WAL of its own: its backup begins at a restartpoint, ends where the control file says that its pages have come to, and
//! needs WAL that the primary ends and archives (or the standby itself, with `archive_mode = always`). So the end is judged by the control
//! file that was copied after everything else, and the last segment is asked for on the primary, where one is named. Everything else is as
//! for a primary (`run.rs`).

use crate::cluster::Cluster;
use crate::error::BackupError;
use pgproof_pg::{ControlFile, Lsn, TimelineId};
use pgproof_server::{ConnectOptions, Facts, ServerError, Session, StoppedBackup};

/// What became of the attempt to have the primary end its segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WalSwitch {
    /// No primary is named.
    NotAsked,
    /// It was done.
    Done,
    /// The primary did not do it.
    Failed,
}

impl WalSwitch {
    /// What the operator can do so that the segment is archived.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::NotAsked => {
                "the primary archives it when it is full or its archive_timeout has passed; run `SELECT pg_switch_wal()` there, or set \
                 `primary_conninfo` under [backup] so that pgproof does; `archive_timeout` under [backup] is how long it waits"
            }
            Self::Done => {
                "the primary has ended it: does its archive_command work? run `pgproof archive status` on the primary"
            }
            Self::Failed => {
                "the primary was not to be asked: may the role of `primary_conninfo` call pg_switch_wal()? run \
                 `SELECT pg_switch_wal()` there"
            }
        }
    }
}

/// Sees that a server is the primary of this standby's cluster.
pub(crate) fn check_primary(primary: &ConnectOptions, standby: &Facts) -> Result<(), BackupError> {
    let failed = |source| BackupError::Server { operation: "ask the primary", source };
    let mut session = Session::open(primary).map_err(failed)?;
    let row = session.query_one("ask for the state of the primary", IDENTITY, &[]).map_err(failed)?;
    let (system, in_recovery): (i64, bool) = (row.get(0), row.get(1));
    let expected = standby.system_identifier;
    let why = match (system.cast_unsigned() == expected.0, in_recovery) {
        (false, _) => format!("it is system {}, and this is system {expected}", system.cast_unsigned()),
        (true, true) => "it is in recovery itself".to_owned(),
        (true, false) => return Ok(()),
    };
    Err(BackupError::NotThePrimary { server: session.server().to_owned(), why })
}

const IDENTITY: &str = "SELECT system_identifier, pg_is_in_recovery() FROM pg_control_system()";

/// Has the primary end its segment. What it does not do is no failure yet: the segment may be archived all the same.
pub(crate) fn switch_wal(primary: Option<&ConnectOptions>, standby: &Facts) -> WalSwitch {
    let Some(primary) = primary else { return WalSwitch::NotAsked };
    let switched = check_primary(primary, standby).is_ok()
        && Session::open(primary).is_ok_and(|mut session| {
            session.query_one("end the WAL segment", "SELECT pg_switch_wal()::text", &[]).is_ok()
        });
    if switched { WalSwitch::Done } else { WalSwitch::Failed }
}

/// The end of a backup from a standby: where the copied control file says that recovery becomes consistent.
pub(crate) fn judge_end(
    cluster: &mut Cluster,
    timeline: TimelineId,
    stopped: Result<StoppedBackup, ServerError>,
    control: &ControlFile,
) -> Result<StoppedBackup, BackupError> {
    let stopped = match stopped {
        Ok(stopped) => stopped,
        Err(_) if is_promoted(cluster) => {
            return Err(BackupError::Promoted { server: cluster.session.server().to_owned() });
        }
        Err(source) => return Err(BackupError::Server { operation: "stop the backup", source }),
    };
    let stop = end(control, timeline, stopped.stop)
        .map_err(|ended| BackupError::TimelineChanged { began: timeline, ended })?;
    Ok(StoppedBackup { stop, ..stopped })
}

/// The server that answers is a primary now. One that does not answer is not known to be.
fn is_promoted(cluster: &mut Cluster) -> bool {
    let row = cluster.session.query_one("ask whether it is in recovery", "SELECT pg_is_in_recovery()", &[]);
    row.is_ok_and(|row| !row.get::<_, bool>(0))
}

/// `pg_control` was read after every other file, so no page is newer than it tells; the server's own answer came later still. On another
/// timeline the two do not fit: recovery would begin on one and need another.
pub(crate) fn end(control: &ControlFile, timeline: TimelineId, stopped: Lsn) -> Result<Lsn, TimelineId> {
    if control.min_recovery_timeline != timeline {
        return Err(control.min_recovery_timeline);
    }
    debug_assert!(control.min_recovery_point <= stopped);
    Ok(control.min_recovery_point.min(stopped))
}
