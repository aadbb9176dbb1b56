//! Samples, the table of them, and what was wanted beside what was measured. Written to `bench/RESULTS.md`, or, where only some parts
//! ran, to a file that names them; nobody edits these.

use crate::measure::{Sample, median};
use anyhow::{Context, Result};
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The samples of one contestant at one work.
struct Entry {
    work: String,
    contestant: String,
    samples: Vec<Sample>,
}

/// A figure that was wanted.
struct Judgement {
    what: String,
    measured: f64,
    at_most: f64,
}

pub(crate) struct Results {
    file: PathBuf,
    entries: Vec<Entry>,
    judgements: Vec<Judgement>,
    notes: Vec<String>,
}

impl Results {
    /// `parts` are those that run, where not all do.
    pub(crate) fn new(parts: Option<&[&str]>) -> Result<Self> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"))
            .parent()
            .and_then(Path::parent)
            .context("find the workspace")?;
        let name = parts.map_or("RESULTS.md".to_owned(), |parts| format!("RESULTS-{}.md", parts.join("-")));
        let file = root.join("bench").join(name);
        Ok(Self { file, entries: Vec::new(), judgements: Vec::new(), notes: Vec::new() })
    }

    pub(crate) fn add(&mut self, work: &str, contestant: &str, sample: Sample) {
        println!(
            "{work:42} {contestant:14} {:8.3} s wall {:8.3} s cpu {:6.0} MB peak {:8.1} MB stored {:8.1} MB read",
            sample.wall_s,
            sample.cpu_s,
            megabytes(sample.peak_bytes),
            megabytes(sample.stored_bytes),
            megabytes(sample.read_bytes),
        );
        let known =
            self.entries.iter_mut().find(|entry| entry.work == work && entry.contestant == contestant);
        match known {
            Some(entry) => entry.samples.push(sample),
            None => self.entries.push(Entry {
                work: work.to_owned(),
                contestant: contestant.to_owned(),
                samples: vec![sample],
            }),
        }
    }

    /// The median of one figure.
    pub(crate) fn median(&self, work: &str, contestant: &str, figure: impl Fn(&Sample) -> f64) -> f64 {
        let found = self.entries.iter().find(|entry| entry.work == work && entry.contestant == contestant);
        found.map_or(f64::NAN, |entry| median(entry.samples.iter().map(figure)))
    }

    /// Ours in parts of another contestant's.
    pub(crate) fn ratio(&self, work: &str, other: &str, figure: impl Fn(&Sample) -> f64 + Copy) -> f64 {
        self.median(work, "pgproof", figure) / self.median(work, other, figure)
    }

    pub(crate) fn judge(&mut self, what: impl Into<String>, measured: f64, at_most: f64) {
        self.judgements.push(Judgement { what: what.into(), measured, at_most });
    }

    pub(crate) fn note(&mut self, text: impl Into<String>) {
        let text = text.into();
        println!("{text}");
        self.notes.push(text);
    }

    pub(crate) fn print_judgement(&self) {
        println!("\n{}", self.judgement_table());
    }

    fn judgement_table(&self) -> String {
        let mut text = String::from("| figure | measured | wanted at most | |\n|---|---:|---:|---|\n");
        for Judgement { what, measured, at_most } in &self.judgements {
            let reached = if measured <= at_most { "reached" } else { "NOT reached" };
            let _ = writeln!(text, "| {what} | {measured:.3} | {at_most} | {reached} |");
        }
        text
    }

    pub(crate) fn write(&self) -> Result<()> {
        let mut text = String::from(
            "<!-- Written by `make bench`; nobody edits it. -->\n# Benchmark\n\nEach figure is a median of the samples below, taken in one run on one \
             machine. Ratios are pgproof's figure in parts of the other's.\n\n",
        );
        for (name, command) in [
            // What this writes itself makes no other program.
            (
                "commit",
                vec![
                    "sh",
                    "-c",
                    "echo $(git rev-parse --short HEAD)$(git diff --quiet HEAD -- . ':!bench' || echo -dirty)",
                ],
            ),
            ("kernel", vec!["uname", "-r"]),
            ("processors", vec!["nproc"]),
            ("PostgreSQL", vec!["/usr/lib/postgresql/15/bin/postgres", "--version"]),
            ("pgBackRest", vec!["pgbackrest", "version"]),
            ("zstd", vec!["zstd", "--version"]),
        ] {
            let _ = writeln!(text, "- {name}: {}", said(&command));
        }
        text.push_str("- settings: zstd level 3 for backups, two processes, page checksums on, `fsync` on, `full_page_writes` on\n\n");
        text.push_str(&self.judgement_table());
        text.push_str("\n| work | contestant | wall s | CPU s | peak MB | stored MB | read MB |\n|---|---|---:|---:|---:|---:|---:|\n");
        for Entry { work, contestant, samples } in &self.entries {
            let of = |figure: fn(&Sample) -> f64| median(samples.iter().map(figure));
            let _ = writeln!(
                text,
                "| {work} | {contestant} | {:.3} | {:.3} | {:.0} | {:.1} | {:.1} |",
                of(|s| s.wall_s),
                of(|s| s.cpu_s),
                of(|s| megabytes(s.peak_bytes)),
                of(|s| megabytes(s.stored_bytes)),
                of(|s| megabytes(s.read_bytes)),
            );
        }
        text.push('\n');
        for note in &self.notes {
            let _ = writeln!(text, "- {note}");
        }
        text.push_str("\n## Samples\n\nwall s / CPU s, in the order of the rounds.\n\n");
        for Entry { work, contestant, samples } in &self.entries {
            let all: Vec<String> =
                samples.iter().map(|s| format!("{:.3}/{:.3}", s.wall_s, s.cpu_s)).collect();
            let _ = writeln!(text, "- {work}, {contestant}: {}", all.join(", "));
        }
        std::fs::write(&self.file, text).with_context(|| format!("write {}", self.file.display()))
    }
}

#[allow(clippy::cast_precision_loss, reason = "for people")]
fn megabytes(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}

fn said(command: &[&str]) -> String {
    let output =
        Command::new(command[0]).args(&command[1..]).current_dir(env!("CARGO_MANIFEST_DIR")).output();
    output.map_or_else(
        |_| "unknown".to_owned(),
        |output| String::from_utf8_lossy(&output.stdout).trim().replace('*', ""),
    )
}
