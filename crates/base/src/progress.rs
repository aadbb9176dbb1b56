//! How long work tells of itself. The receiver decides what to show; the work never waits for it.

/// The part of the work that is going on, shown as its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Waiting for the server's checkpoint.
    Checkpoint,
    /// Finding out what changed.
    Changes,
    /// Reading and storing files.
    Copying,
    /// Waiting for the last WAL to be archived.
    WaitingForWal,
    /// Writing restored files.
    Restoring,
    /// Waiting for the disk to hold what was written.
    Syncing,
    /// Reading stored objects again.
    Verifying,
    /// PostgreSQL replays WAL.
    Recovering,
}

/// Receives progress from work on any thread.
pub trait Progress: Send + Sync {
    /// A stage begins; `bytes` is its expected amount of work, where known.
    fn stage(&self, stage: Stage, bytes: Option<u64>);
    /// So many more bytes of the stage are done.
    fn advance(&self, bytes: u64);
    /// Something a person should read now, as a sentence.
    fn note(&self, text: &str);
}

/// Shows nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoProgress;

impl Progress for NoProgress {
    fn stage(&self, _stage: Stage, _bytes: Option<u64>) {}
    fn advance(&self, _bytes: u64) {}
    fn note(&self, _text: &str) {}
}
