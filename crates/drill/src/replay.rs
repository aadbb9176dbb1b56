//! How much WAL was replayed and how fast, from the server's own log.
//!
//! The startup process measures itself (`PerformWalRecovery` in `src/backend/access/transam/xlogrecovery.c`, `StartupXLOG` before version
//! 15): nothing outside sees where redo began and when it ended, because nobody may connect meanwhile.

use crate::report::WalReplayed;
use pgproof_pg::Lsn;

/// Reads a log. The last recovery in it counts.
pub(crate) fn replayed(log: &str) -> Option<WalReplayed> {
    let (_, starts) = log.rsplit_once("redo starts at ")?;
    let from: Lsn = word(starts)?.parse().ok()?;
    let (_, done) = starts.split_once("redo done at ")?;
    let to: Lsn = word(done)?.parse().ok()?;
    let line = done.lines().next()?;
    let (_, elapsed) = line.split_once("elapsed: ")?;
    let elapsed_s: f64 = word(elapsed)?.parse().ok()?;
    let bytes = to.bytes_since(from);
    let bytes_s = (elapsed_s > 0.0).then(|| bytes as f64 / elapsed_s);
    Some(WalReplayed { from, to, bytes, elapsed_s, bytes_s })
}

fn word(text: &str) -> Option<&str> {
    text.split_whitespace().next()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_is_that_of_the_last_recovery_in_the_log() {
        let line = |from: &str, to: &str, elapsed: &str| {
            format!(
                "LOG:  redo starts at {from}\nLOG:  restored log file\nLOG:  redo done at {to} system usage: CPU: user: 0.01 s, \
                 system: 0.02 s, elapsed: {elapsed} s\n"
            )
        };
        let log = line("0/1000000", "0/1000010", "9.00") + &line("0/2000000", "0/4000000", "0.50");
        let found = replayed(&log).unwrap();
        assert_eq!((found.from, found.bytes), (Lsn(0x200_0000), 32 << 20));
        assert_eq!(found.bytes_s, Some(f64::from(64 << 20)));
        assert_eq!(replayed("LOG:  redo starts at 0/2000000\n"), None);
        assert_eq!(replayed(&line("0/1", "0/2", "0.00")).unwrap().bytes_s, None);
    }
}
