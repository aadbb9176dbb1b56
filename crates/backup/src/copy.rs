//! Runs the workers, and beside each a thread that closes its packs.

use crate::error::BackupError;
use crate::worker::{self, Output, Shared};
use pgproof_repo::{PackInfo, PackWriter};
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread;

/// Performs all batches on `workers` threads; returns what each did and the packs they wrote.
pub(crate) fn copy(shared: &Shared<'_>, workers: usize) -> Result<(Vec<Output>, Vec<PackInfo>), BackupError> {
    thread::scope(|scope| {
        let threads: Vec<_> = (0..workers.max(1))
            .map(|_| {
                // One pack may wait while another is being closed: more would only cost memory on S3.
                let (sender, receiver) = sync_channel::<PackWriter>(1);
                let closer = scope.spawn(move || close_packs(shared, &receiver));
                let worker = scope.spawn(move || worker::work(shared, sender));
                (worker, closer)
            })
            .collect();
        let mut outputs = Vec::with_capacity(threads.len());
        let mut packs = Vec::new();
        let mut failure = None;
        for (worker, closer) in threads {
            let worked = worker.join().unwrap_or(Err(BackupError::WorkerPanicked));
            let closed = closer.join().unwrap_or(Err(BackupError::WorkerPanicked));
            match (worked, closed) {
                (Ok(output), Ok(closed)) => {
                    outputs.push(output);
                    packs.extend(closed);
                }
                // The closing thread knows why a pack could not be written; the worker only that it could not.
                (_, Err(error)) | (Err(error), Ok(_)) => failure = failure.or(Some(error)),
            }
        }
        match failure {
            Some(error) => Err(error),
            None => {
                packs.sort_by_key(|pack| pack.number);
                Ok((outputs, packs))
            }
        }
    })
}

fn close_packs(shared: &Shared<'_>, receiver: &Receiver<PackWriter>) -> Result<Vec<PackInfo>, BackupError> {
    let mut packs = Vec::new();
    for pack in receiver {
        match pack.finish() {
            Ok(info) => packs.push(info),
            Err(source) => {
                shared.failed.store(true, Ordering::Relaxed);
                return Err(BackupError::Repo { operation: "finish a pack", source });
            }
        }
    }
    Ok(packs)
}

/// Stores contents that are at hand, in a pack of their own.
pub(crate) fn copy_contents(
    shared: &Shared<'_>,
    contents: &[(usize, Vec<u8>)],
) -> Result<(Output, Vec<PackInfo>), BackupError> {
    // Room for the only pack there can be, so that nobody waits for the receiver.
    let (sender, receiver) = sync_channel::<PackWriter>(1);
    let output = worker::store_contents(shared, sender, contents)?;
    Ok((output, close_packs(shared, &receiver)?))
}
