//! Clients that insert row after row, one for each node, and remember which rows were acknowledged, by whom and when.

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

/// Rows of all writers of a test are numbered from here on: several work on one cluster one after the other.
static NEXT: AtomicU64 = AtomicU64::new(1);

/// One acknowledged row.
#[derive(Debug, Clone, Copy)]
pub(super) struct Acknowledgement {
    row: u64,
    node: usize,
    at: Instant,
}

/// What was written, in the order of acknowledgement.
#[derive(Debug, Default, Clone)]
pub(super) struct Written {
    pub(super) acknowledgements: Vec<Acknowledgement>,
}

impl Written {
    pub(super) fn acknowledged(&self) -> impl Iterator<Item = u64> + '_ {
        self.acknowledgements.iter().map(|one| one.row)
    }

    pub(super) fn last(&self) -> Option<Instant> {
        self.acknowledgements.last().map(|one| one.at)
    }

    /// The longest time between two acknowledged rows.
    pub(super) fn longest_outage(&self) -> Duration {
        let gaps = self.acknowledgements.windows(2).map(|pair| pair[1].at - pair[0].at);
        gaps.max().unwrap_or_default()
    }

    /// For how long a node acknowledged rows after another had begun to, where the primary moved once at most.
    pub(super) fn two_writers(&self) -> Duration {
        let of =
            |node: usize| self.acknowledgements.iter().filter(move |one| one.node == node).map(|one| one.at);
        let Some(first) = self.acknowledgements.first().map(|one| one.node) else { return Duration::ZERO };
        let other = self.acknowledgements.iter().find(|one| one.node != first).map(|one| one.at);
        match (of(first).next_back(), other) {
            (Some(last), Some(other)) => last.saturating_duration_since(other),
            _ => Duration::ZERO,
        }
    }
}

pub(super) struct Writer {
    stop: Arc<AtomicBool>,
    written: Arc<Mutex<Written>>,
    threads: Vec<JoinHandle<()>>,
}

impl Writer {
    pub(super) fn start(cluster: &Cluster) -> Result<Self> {
        let (stop, written) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(Written::default())));
        let start = |(node, string): (usize, String)| {
            let (stop, written) = (Arc::clone(&stop), Arc::clone(&written));
            let work = move || {
                while !stop.load(Ordering::Relaxed) {
                    // A node that is no primary, or gone: tried again.
                    let _ = write(node, &string, &written, &stop);
                    thread::sleep(Duration::from_millis(10));
                }
            };
            thread::Builder::new().name(format!("writer {node}")).spawn(work)
        };
        let threads = cluster.connection_strings().into_iter().enumerate().map(start);
        let threads = threads.collect::<std::io::Result<Vec<_>>>()?;
        Ok(Self { stop, written, threads })
    }

    pub(super) fn so_far(&self) -> Written {
        self.written.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn count(&self) -> usize {
        self.written.lock().unwrap_or_else(PoisonError::into_inner).acknowledgements.len()
    }

    /// Waits until so many more rows were acknowledged.
    pub(super) fn wait_for_more(&self, rows: usize) -> Result<()> {
        let wanted = self.count() + rows;
        wait::until_true("rows to be acknowledged", || Ok(self.count() >= wanted))
    }

    pub(super) fn finish(self) -> Result<Written> {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads {
            thread.join().map_err(|_| anyhow!("a writer panicked"))?;
        }
        Ok(self.written.lock().unwrap_or_else(PoisonError::into_inner).clone())
    }
}

/// Writes to one node until that fails. The warning that a wait for standbys was cancelled counts as not acknowledged.
fn write(node: usize, string: &str, written: &Mutex<Written>, stop: &AtomicBool) -> Result<()> {
    let warned = Arc::new(AtomicBool::new(false));
    let heard = Arc::clone(&warned);
    let mut config: postgres::Config = string.parse()?;
    config.notice_callback(move |_| heard.store(true, Ordering::Relaxed));
    // A connection that hangs must not hold the writer: TCP gives up on a host that does not answer.
    config.tcp_user_timeout(Duration::from_secs(2));
    let second = Duration::from_secs(1);
    config.keepalives(true).keepalives_idle(second).keepalives_interval(second).keepalives_retries(2);
    let mut client: Client = config.connect(NoTls)?;
    let is_standby: bool = client.query_one("SELECT pg_is_in_recovery()", &[])?.get(0);
    ensure!(!is_standby);
    client.batch_execute("SET statement_timeout = '10s'")?;
    while !stop.load(Ordering::Relaxed) {
        let row = NEXT.fetch_add(1, Ordering::Relaxed);
        client.execute("INSERT INTO rows VALUES ($1)", &[&row.cast_signed()]).context("insert")?;
        ensure!(!warned.load(Ordering::Relaxed), "the wait was cancelled");
        let mut written = written.lock().unwrap_or_else(PoisonError::into_inner);
        written.acknowledgements.push(Acknowledgement { row, node, at: Instant::now() });
        drop(written);
        thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}
