//! Observes whose data directory this is: its control file, without a server.

use crate::error::WalError;
use pgproof_pg::ControlFile;
use std::fs;
use std::io;
use std::path::Path;
use std::thread;
use std::time::Duration;

/// A running server rewrites `pg_control`; a reader can see it half done on some file systems.
const READS: u32 = 10;

/// Reads the control file of a data directory.
pub(crate) fn read_control(pgdata: &Path) -> Result<ControlFile, WalError> {
    let fail = |source| WalError::Control { pgdata: pgdata.to_owned(), source };
    let path = pgdata.join("global/pg_control");
    let mut reads = 0;
    loop {
        let bytes = fs::read(&path).map_err(fail)?;
        reads += 1;
        match ControlFile::parse(&bytes) {
            Ok(control) => return Ok(control),
            Err(_) if reads < READS => thread::sleep(Duration::from_millis(5)),
            Err(source) => return Err(fail(io::Error::new(io::ErrorKind::InvalidData, source))),
        }
    }
}
