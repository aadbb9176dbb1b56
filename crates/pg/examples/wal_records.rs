//! Lists the records of WAL segments, one a line, and compares the list with that of PostgreSQL's own `pg_waldump`.
//!
//! `cargo run -p pgproof-pg --example wal_records -- SEGMENT...` lists; `--compare PG_WALDUMP SEGMENT...` runs that program over the
//! same segments and fails at the first line that differs. Segments must follow one another. A tool for development: it does the I/O that
//! the crate itself does not.

#![allow(clippy::print_stdout, reason = "its output is its purpose")]

use pgproof_pg::{
    SegmentName,
    wal::{Defect, Record, SegmentHeader, WalReader},
};
use std::{error::Error, fmt::Write as _, fs, path::PathBuf, process::Command};

type Outcome<T> = Result<T, Box<dyn Error>>;

fn main() -> Outcome<()> {
    let mut arguments: Vec<String> = std::env::args().skip(1).collect();
    let compare = (arguments.first().is_some_and(|first| first == "--compare")).then(|| {
        arguments.remove(0);
        arguments.remove(0)
    });
    let segments: Vec<PathBuf> = arguments.iter().map(PathBuf::from).collect();
    let ours = list(&segments)?;
    let Some(waldump) = compare else {
        for line in ours {
            println!("{line}");
        }
        return Ok(());
    };
    let theirs = dump(&waldump, &segments)?;
    for (ours, theirs) in ours.iter().zip(&theirs) {
        if ours != theirs {
            return Err(format!("lists differ:\n ours   {ours}\n theirs {theirs}").into());
        }
    }
    // pg_waldump leaves out the record that begins before its first segment; both stop where valid WAL ends.
    if ours.len() != theirs.len() {
        return Err(format!("we list {} records, pg_waldump {}", ours.len(), theirs.len()).into());
    }
    println!("{} records agree", ours.len());
    Ok(())
}

fn list(segments: &[PathBuf]) -> Outcome<Vec<String>> {
    let mut lines = Vec::new();
    let mut reader: Option<WalReader> = None;
    for path in segments {
        let bytes = fs::read(path)?;
        let header = SegmentHeader::read(&bytes).map_err(|defect| defect.to_string())?;
        let name = path.file_name().and_then(|name| name.to_str()).ok_or("no file name")?;
        let start = SegmentName::parse(name, header.segment_size)?.start(header.segment_size);
        let reader =
            reader.get_or_insert_with(|| WalReader::new(header.segment_size, start, pgproof_pg::Lsn::MAX));
        reader.push(&bytes, &mut |_, record, defect| lines.push(line(record, defect)));
    }
    let reader = reader.ok_or("no segments")?;
    let (end, ending) = reader.finish(&mut |_, record, defect| lines.push(line(record, defect)));
    eprintln_end(end, ending);
    Ok(lines)
}

#[allow(clippy::print_stderr, reason = "talk goes there")]
fn eprintln_end(end: pgproof_pg::Lsn, ending: pgproof_pg::wal::Ending) {
    eprintln!("valid data end at {end}: {ending:?}");
}

/// What both programs say of a record: position, link, transaction, length, blocks.
fn line(record: &Record<'_>, defect: Option<Defect>) -> String {
    match defect {
        Some(defect) => format!("{record} ({defect})"),
        None => record.to_string(),
    }
}

fn dump(program: &str, segments: &[PathBuf]) -> Outcome<Vec<String>> {
    let (Some(first), Some(last)) = (segments.first(), segments.last()) else {
        return Err("no segments".into());
    };
    // It exits with 1 where valid WAL ends before the last segment does.
    let output = Command::new(program).arg(first).arg(last.file_name().ok_or("no file name")?).output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    text.lines().filter(|line| line.starts_with("rmgr: ")).map(their_line).collect()
}

/// `rmgr: Heap  len (rec/tot): 54/ 150, tx: 724, lsn: 0/01741608, prev 0/017415D0, desc: INSERT ..., blkref #0: rel 1663/5/16384 blk 0 FPW`
fn their_line(line: &str) -> Outcome<String> {
    let between = |from: &str, to: &str| -> Outcome<&str> {
        let rest = line.split_once(from).ok_or_else(|| format!("no `{from}` in {line}"))?.1;
        Ok(rest.split_once(to).ok_or_else(|| format!("no `{to}` in {line}"))?.0.trim())
    };
    let lsn: pgproof_pg::Lsn = between("lsn: ", ",")?.parse()?;
    let prev: pgproof_pg::Lsn = between("prev ", ",")?.parse()?;
    let total = between("(rec/tot):", ",")?.split('/').nth(1).ok_or("no total length")?.trim();
    let mut text = format!("{lsn} prev {prev} tx {} len {total}", between("tx:", ",")?);
    for reference in line.split("blkref #").skip(1) {
        let reference = reference.trim_end_matches([';', ',', ' ']).replace(": rel ", " ");
        let _ = write!(text, " #{reference}");
    }
    Ok(text)
}
