//! New clusters in a tenth of the time that `initdb` takes: it runs once for each shape, and its result is copied.
//!
//! A copy gets a system identifier of its own, because identifiers are what tells clusters apart and tests test that.
//! Templates of large WAL segments would fill the cache; those clusters are made by `initdb` each time.

use super::builder::Shape;
use crate::{Account, Server, install};
use anyhow::{Context, Result, ensure};
use std::{
    fs,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    process::Command,
};

/// Largest WAL segment, in MB, that a template is kept for.
const TEMPLATE_SEGMENT_MB_MAX: u32 = 16;

/// Offset of `xlp_sysid` in the long header of a segment's first page (`XLogLongPageHeaderData` in
/// `src/include/access/xlog_internal.h`): after the 20 bytes of the short header, aligned to 8.
const XLP_SYSID: u64 = 24;

/// Makes a cluster in `data`, which must not exist or be empty.
pub(super) fn make_cluster(server: &Server, account: &Account, shape: &Shape, data: &Path) -> Result<()> {
    if shape.wal_segment_size_mb > TEMPLATE_SEGMENT_MB_MAX || !shape.initdb_arguments.is_empty() {
        return initdb(server, account, shape, data);
    }
    let template = template(server, account, shape)?;
    if data.exists() {
        fs::remove_dir(data).with_context(|| format!("{} should be empty", data.display()))?;
    }
    // `cp` keeps owners and modes, and clones blocks where the file system can.
    let mut copy = Command::new("cp");
    copy.args(["--archive", "--reflink=auto"]).arg(&template).arg(data);
    run(&mut copy)?;
    give_own_identifier(data)
}

fn template(server: &Server, account: &Account, shape: &Shape) -> Result<PathBuf> {
    let folder = install::own_cache()?.join("templates");
    fs::create_dir_all(&folder).with_context(|| format!("create {}", folder.display()))?;
    let sums = if shape.checksums { "checksums" } else { "plain" };
    let name = format!("{}-{sums}-{}MB", server.version()?, shape.wal_segment_size_mb);
    let template = folder.join(&name);
    if template.join("global/pg_control").exists() {
        return Ok(template);
    }
    // `initdb` needs a directory of its account's own; the finished cluster then gets its name in one step, so that no
    // process ever copies half a template, and the loser of a race throws its own away.
    let scratch = tempfile::Builder::new().prefix(".making-").tempdir_in(&folder)?;
    account.own(scratch.path())?;
    let making = scratch.path().join("data");
    initdb(server, account, shape, &making)?;
    if let Err(error) = fs::rename(&making, &template) {
        ensure!(template.join("global/pg_control").exists(), "keep the template {name}: {error}");
    }
    Ok(template)
}

fn initdb(server: &Server, account: &Account, shape: &Shape, data: &Path) -> Result<()> {
    let mut command = Command::new(server.bin().join("initdb"));
    command
        .args(["--no-sync", "--auth=trust", "--username=postgres", "--encoding=UTF8", "--locale=C"])
        .arg(format!("--wal-segsize={}", shape.wal_segment_size_mb))
        .arg("--pgdata")
        .arg(data)
        .args(&shape.initdb_arguments)
        .current_dir("/");
    match (shape.checksums, server.major().number() >= 18) {
        (true, _) => command.arg("--data-checksums"),
        // Version 18 turned checksums on by default and gave the switch its negative.
        (false, true) => command.arg("--no-data-checksums"),
        (false, false) => &mut command,
    };
    account.apply(&mut command);
    run(&mut command)
}

/// Writes a new system identifier into `pg_control` and the first page of each WAL segment, the two places that a new
/// cluster has it in.
fn give_own_identifier(data: &Path) -> Result<()> {
    let identifier: u64 = rand::random();
    let path = data.join("global/pg_control");
    let mut control = fs::read(&path).with_context(|| format!("read {}", path.display()))?;
    let crc_at = crc_offset(&control).context("pg_control has a checksum that can be found")?;
    control[..8].copy_from_slice(&identifier.to_ne_bytes());
    let crc = crc32c::crc32c(&control[..crc_at]);
    control[crc_at..crc_at + 4].copy_from_slice(&crc.to_ne_bytes());
    fs::write(&path, &control)?;

    for entry in fs::read_dir(data.join("pg_wal"))? {
        let entry = entry?;
        if entry.file_type()?.is_file() {
            let segment = fs::OpenOptions::new().write(true).open(entry.path())?;
            segment.write_all_at(&identifier.to_ne_bytes(), XLP_SYSID)?;
        }
    }
    Ok(())
}

/// The checksum is the last field of `ControlFileData`, whose length differs between versions: it is where the checksum
/// of everything before equals it.
fn crc_offset(control: &[u8]) -> Option<usize> {
    (64..512).step_by(4).find(|&at| {
        let stored = control.get(at..at + 4).and_then(|bytes| bytes.try_into().ok()).map(u32::from_ne_bytes);
        stored == Some(crc32c::crc32c(&control[..at]))
    })
}

fn run(command: &mut Command) -> Result<()> {
    let output = command.output().with_context(|| format!("run {command:?}"))?;
    ensure!(
        output.status.success(),
        "{command:?} ended with {}: {}",
        output.status,
        String::from_utf8_lossy(&output.stderr).trim()
    );
    Ok(())
}
