//! Hands received WAL that the repository does not have yet to a recovery.
//!
//! Which file stands for a segment is decided by [`pgproof_repo::received`].

use crate::spool::copy;
use pgproof_pg::{ArchiveName, ControlFile, SegmentName};
use pgproof_repo::received::Received;
use std::io;
use std::path::Path;

/// Copies the file to its destination; false when it is not held.
///
/// # Errors
/// What the system says; nothing lies at the destination then.
pub(crate) fn deliver(
    spool: &Path,
    control: &ControlFile,
    name: &ArchiveName,
    destination: &Path,
) -> io::Result<bool> {
    let received = Received::look(spool, control.system_identifier, control.wal_segment_size)?;
    let path = match name {
        ArchiveName::Segment(text) => {
            let segment = SegmentName::parse(text, control.wal_segment_size).ok();
            segment.and_then(|segment| received.segment(segment))
        }
        ArchiveName::History(timeline) => received.history(*timeline),
        ArchiveName::Partial(_) | ArchiveName::Backup { .. } => None,
    };
    let Some(path) = path else { return Ok(false) };
    match copy(&path, destination) {
        // Handed over to the repository this moment: whoever asks again finds it there.
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        copied => copied.map(|()| true),
    }
}
