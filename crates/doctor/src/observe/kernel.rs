//! What the kernel says: who was killed for want of memory, and which disk fails. Read from `/dev/kmsg`, which needs root.

use rustix::fs::{Mode, OFlags};
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io::Read;

/// A line of the kernel's log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KernelLine {
    /// Seconds before the observation.
    pub age_s: u64,
    /// What it says.
    pub text: String,
}

/// The lines that concern a database server.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kernel {
    /// Oldest first.
    pub lines: Vec<KernelLine>,
}

const WORDS: [&str; 7] = [
    "Out of memory",
    "oom-kill",
    "Killed process",
    "I/O error",
    "EXT4-fs error",
    "XFS",
    "Remounting filesystem read-only",
];
const LINES_MAX: usize = 100;

pub(super) fn observe() -> Result<Kernel, String> {
    let fail = |error: rustix::io::Errno| format!("could not open /dev/kmsg: {error}");
    // Not blocking: after the last line a reader waits for the next.
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let mut file: File = rustix::fs::open("/dev/kmsg", flags, Mode::empty()).map_err(fail)?.into();
    let now_us = uptime_us()?;
    let mut kernel = Kernel::default();
    let mut record = [0u8; 8192];
    // Each read gives one record; one that was overwritten meanwhile is an error, and the next read goes on after it.
    for _ in 0..100_000 {
        let text = match file.read(&mut record) {
            Ok(0) => break,
            Ok(length) => String::from_utf8_lossy(&record[..length]).into_owned(),
            Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => continue,
            Err(_) => break,
        };
        kernel.lines.extend(line(&text, now_us));
    }
    let more = kernel.lines.len().saturating_sub(LINES_MAX);
    kernel.lines.drain(..more);
    Ok(kernel)
}

/// `priority,sequence,microseconds,flags;text` (Documentation/ABI/testing/dev-kmsg).
fn line(record: &str, now_us: u64) -> Option<KernelLine> {
    let (head, text) = record.split_once(';')?;
    let at_us: u64 = head.split(',').nth(2)?.parse().ok()?;
    let text = text.lines().next()?;
    WORDS
        .iter()
        .any(|word| text.contains(word))
        .then(|| KernelLine { age_s: now_us.saturating_sub(at_us) / 1_000_000, text: text.to_owned() })
}

fn uptime_us() -> Result<u64, String> {
    let text = std::fs::read_to_string("/proc/uptime")
        .map_err(|error| format!("could not read /proc/uptime: {error}"))?;
    let seconds: f64 = text.split_whitespace().next().and_then(|word| word.parse().ok()).unwrap_or(0.0);
    Ok((seconds * 1e6) as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_lines_that_matter_are_kept_with_their_age() {
        let killed =
            line("3,100,5000000,-;Out of memory: Killed process 77 (postgres) total-vm:1kB\n", 65_000_000);
        assert_eq!(killed.map(|line| line.age_s), Some(60));
        assert_eq!(line("6,1,1,-;usb 1-1: new device", 9), None);
        assert_eq!(line("nonsense", 9), None);
    }
}
