//! `archive push`, one process a segment as PostgreSQL calls it.

use crate::measure::{self, ROUNDS};
use crate::results::Results;
use crate::site::{Encryption, Site};
use anyhow::{Result, ensure};
use std::fs;

/// Segments in a row at most; CPU time is counted in hundredths of a second.
const SEGMENTS: usize = 10;

/// Full segments of pgbench's WAL, pushed by each contestant into an archive that lacks them.
pub(crate) fn push(results: &mut Results) -> Result<()> {
    let site = Site::new(Encryption::Off)?;
    // Archived by nobody until they are measured.
    site.server.sql("ALTER SYSTEM SET archive_command = '/bin/false'")?;
    site.server.reload()?;
    site.server.load_pgbench(30)?;
    site.server.run_pgbench(20)?;
    let wal = site.server.pgdata().join("pg_wal");
    let mut names: Vec<String> = fs::read_dir(wal.join("archive_status"))?
        .filter_map(|entry| Some(entry.ok()?.file_name().to_str()?.strip_suffix(".ready")?.to_owned()))
        .collect();
    names.retain(|name| name.len() == 24);
    names.sort();
    // A slow machine writes less.
    let segments = (names.len() / ROUNDS).min(SEGMENTS);
    ensure!(segments >= SEGMENTS / 2, "pgbench wrote too little WAL: {} segments", names.len());
    let work = &format!("archive push, {segments} segments");
    for names in names.chunks(segments).take(ROUNDS) {
        let names = names.join(" ");
        let each = |call: &str| format!("for f in {names}; do {call} || exit 1; done");
        let ours = site.shell(&each("$PGPROOF archive push pg_wal/$f"));
        results.add(work, "pgproof", measure::run(ours, Some(&site.repository()))?.0);
        let theirs = site.shell(&each("$PGBACKREST --compress-level=1 archive-push pg_wal/$f"));
        results.add(work, "pgbackrest", measure::run(theirs, Some(&site.pgbackrest_repository()))?.0);
        let into = site.empty("zstd")?;
        let plain =
            site.shell(&each(&format!("zstd -q -1 pg_wal/$f -o {0}/$f && sync {0}/$f {0}", into.display())));
        results.add(work, "zstd -1 and sync", measure::run(plain, Some(&into))?.0);
    }
    results.judge(format!("{work}: CPU"), results.ratio(work, "pgbackrest", |s| s.cpu_s), 0.9);
    results.judge(
        format!("{work}: wall, against zstd -1 and sync"),
        results.ratio(work, "zstd -1 and sync", |s| s.wall_s),
        1.2,
    );
    Ok(())
}
