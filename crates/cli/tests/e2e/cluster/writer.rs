//! A client that inserts row after row, and remembers which of them were acknowledged, and when.

use super::nodes::Cluster;
use anyhow::{Context, Result, anyhow, ensure};
use pgproof_testkit::wait;
use postgres::{Client, NoTls};
use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

/// What was written.
#[derive(Debug, Default, Clone)]
pub(super) struct Written {
    pub(super) acknowledged: Vec<u64>,
    pub(super) at: Vec<Instant>,
}

impl Written {
    /// The longest time between two acknowledged rows.
    pub(super) fn longest_outage(&self) -> Duration {
        let gaps = self.at.windows(2).map(|pair| pair[1] - pair[0]);
        gaps.max().unwrap_or_default()
    }
}

pub(super) struct Writer {
    stop: Arc<AtomicBool>,
    written: Arc<Mutex<Written>>,
    thread: JoinHandle<()>,
}

impl Writer {
    pub(super) fn start(cluster: &Cluster) -> Result<Self> {
        let (stop, written) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(Written::default())));
        let (ended, noted, strings) = (Arc::clone(&stop), Arc::clone(&written), cluster.connection_strings());
        let thread = thread::Builder::new().name("writer".to_owned()).spawn(move || {
            let next = AtomicU64::new(1);
            while !ended.load(Ordering::Relaxed) {
                for string in &strings {
                    // A node that is no primary, or gone: the next one is tried.
                    let _ = write(string, &next, &noted, &ended);
                }
                thread::sleep(Duration::from_millis(10));
            }
        })?;
        Ok(Self { stop, written, thread })
    }

    pub(super) fn count(&self) -> usize {
        self.written.lock().unwrap_or_else(PoisonError::into_inner).acknowledged.len()
    }

    /// Waits until so many more rows were acknowledged.
    pub(super) fn wait_for_more(&self, rows: usize) -> Result<()> {
        let wanted = self.count() + rows;
        wait::until_true("rows to be acknowledged", || Ok(self.count() >= wanted))
    }

    pub(super) fn finish(self) -> Result<Written> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().map_err(|_| anyhow!("the writer panicked"))?;
        Ok(self.written.lock().unwrap_or_else(PoisonError::into_inner).clone())
    }
}

/// Writes to one node until that fails. The warning that a wait for standbys was cancelled counts as not acknowledged.
fn write(string: &str, next: &AtomicU64, written: &Mutex<Written>, stop: &AtomicBool) -> Result<()> {
    let warned = Arc::new(AtomicBool::new(false));
    let heard = Arc::clone(&warned);
    let mut config: postgres::Config = string.parse()?;
    config.notice_callback(move |_| heard.store(true, Ordering::Relaxed));
    // A connection that hangs must not hold the writer: TCP gives up on what is not acknowledged.
    config.tcp_user_timeout(Duration::from_secs(2));
    let mut client: Client = config.connect(NoTls)?;
    let is_standby: bool = client.query_one("SELECT pg_is_in_recovery()", &[])?.get(0);
    ensure!(!is_standby);
    client.batch_execute("SET statement_timeout = '10s'")?;
    while !stop.load(Ordering::Relaxed) {
        let row = next.fetch_add(1, Ordering::Relaxed);
        client.execute("INSERT INTO rows VALUES ($1)", &[&row.cast_signed()]).context("insert")?;
        ensure!(!warned.load(Ordering::Relaxed), "the wait was cancelled");
        let mut written = written.lock().unwrap_or_else(PoisonError::into_inner);
        written.acknowledged.push(row);
        written.at.push(Instant::now());
        drop(written);
        thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}
