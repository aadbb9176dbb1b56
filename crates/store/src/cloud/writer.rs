//! Big objects: one request while they are small, an upload in parts when they grow.

use super::attempt::{Tried, attempts, within};
use super::http::Extra;
use super::service::{Part, Upload};
use super::through::quoted;
use super::{Bucket, Pending};
use crate::{ObjectMeta, ObjectPath, ObjectWriter, Operation, PutMode, Result, StoreError};
use bytes::Bytes;
use object_store::HeaderValue;
use std::{collections::VecDeque, sync::Arc};

/// Size of a part, and of the largest object sent in one request. S3 takes parts from 5 MiB and 10,000 of them: 160 GiB an object. Azure
/// takes 50,000 blocks of up to 4000 MiB, Google parts that are multiples of 256 KiB, to 5 TiB.
const PART_BYTES: usize = 16 << 20;

/// Parts on their way while the next is filled. With it and the one being filled a writer holds at most three parts.
const IN_FLIGHT_MAX: usize = 2;

#[derive(Debug)]
pub(super) struct CloudWriter {
    bucket: Arc<Bucket>,
    path: ObjectPath,
    filling: Vec<u8>,
    size: u64,
    upload: Option<Sending>,
    /// Recognises the content should the reply to the last request be lost.
    hash: blake3::Hasher,
}

/// An upload in parts that has begun.
#[derive(Debug)]
struct Sending {
    id: String,
    sending: VecDeque<Pending<String>>,
    begun: usize,
    sent: Vec<String>,
    completed: bool,
}

impl CloudWriter {
    pub(super) fn new(bucket: Arc<Bucket>, path: &ObjectPath) -> Self {
        let hash = blake3::Hasher::new();
        Self { bucket, path: path.clone(), filling: Vec::new(), size: 0, upload: None, hash }
    }

    fn checked<T>(&self, tried: Tried<T>) -> Result<T> {
        tried.outcome.map_err(|failure| failure.into_error(Operation::Put, self.bucket.name(&self.path)))
    }

    /// Sends what was filled as the next part, first waiting for a place among those on their way.
    fn send_part(&mut self) -> Result<()> {
        if self.upload.is_none() {
            let id = self.begin()?;
            self.upload =
                Some(Sending { id, sending: VecDeque::new(), begun: 0, sent: Vec::new(), completed: false });
        }
        let others = if self.bucket.service.parts_in_order() { 0 } else { IN_FLIGHT_MAX - 1 };
        self.await_parts(others)?;
        let part = Bytes::from(std::mem::take(&mut self.filling));
        self.hash.update(&part);
        let Some(upload) = &mut self.upload else {
            return Ok(());
        };
        let (service, key) = (Arc::clone(&self.bucket.service), self.bucket.key_of(&self.path));
        let (id, index, limits) = (upload.id.clone(), upload.begun, self.bucket.limits);
        upload.begun += 1;
        upload.sending.push_back(self.bucket.start(async move {
            let patience = limits.patience(part.len() as u64);
            // All parts but the last are of one size.
            let part = Part { index, offset: index as u64 * PART_BYTES as u64, body: part };
            attempts(limits, Extra::default(), || within(patience, service.part(&key, &id, part.clone())))
                .await
        }));
        Ok(())
    }

    fn begin(&self) -> Result<String> {
        let (service, key) = (Arc::clone(&self.bucket.service), self.bucket.key_of(&self.path));
        let limits = self.bucket.limits;
        let extra = Extra { retention: self.bucket.retention(&self.path), ..Extra::default() };
        let tried = self.bucket.run(async move {
            attempts(limits, extra, || within(limits.attempt, service.begin(&key))).await
        });
        self.checked(tried)
    }

    /// Waits until at most so many parts are on their way.
    fn await_parts(&mut self, left: usize) -> Result<()> {
        loop {
            let Some(upload) = &mut self.upload else {
                return Ok(());
            };
            if upload.sending.len() <= left {
                return Ok(());
            }
            let Some(pending) = upload.sending.pop_front() else {
                return Ok(());
            };
            let part = self.checked(pending.wait())?;
            if let Some(upload) = &mut self.upload {
                upload.sent.push(part);
            }
        }
    }

    /// Makes the sent parts an object, under a condition.
    fn complete(&mut self, mode: &PutMode) -> Result<ObjectMeta> {
        let Some(upload) = &mut self.upload else {
            return self.bucket.put(&self.path, Bytes::from(std::mem::take(&mut self.filling)), mode);
        };
        let condition = condition(mode).ok_or_else(|| StoreError::VersionMismatch {
            object: self.bucket.name(&self.path),
            found: None,
        })?;
        let tail = Bytes::from(std::mem::take(&mut self.filling));
        self.hash.update(&tail);
        let (service, limits, mode_wanted) =
            (Arc::clone(&self.bucket.service), self.bucket.limits, mode.clone());
        let parts = Upload {
            key: self.bucket.key_of(&self.path),
            id: upload.id.clone(),
            parts: upload.sent.clone(),
            tail,
            size: self.size,
        };
        let tried = self.bucket.run(async move {
            // S3 may take minutes to join many parts.
            let patience = limits.attempt.saturating_mul(4) + limits.patience(parts.tail.len() as u64);
            let extra = Extra { condition, ..Extra::default() };
            attempts(limits, extra, || within(patience, service.complete(&parts, &mode_wanted))).await
        });
        let (hash, path) = (self.hash.finalize(), self.path.clone());
        let stored = self.bucket.settle(&self.path, mode, self.size, tried, |bucket| {
            Ok(blake3::hash(&bucket.get_with_meta(&path)?.0) == hash)
        })?;
        upload.completed = true;
        Ok(stored)
    }
}

/// The header that makes a completion conditional; `None` when the version cannot be a header and so can match nothing.
#[expect(clippy::option_option, reason = "no condition and an impossible one are different things")]
fn condition(mode: &PutMode) -> Option<Option<(&'static str, HeaderValue)>> {
    match mode {
        PutMode::Overwrite => Some(None),
        PutMode::IfAbsent => Some(Some(("if-none-match", HeaderValue::from_static("*")))),
        PutMode::IfMatch(version) => {
            HeaderValue::from_str(&quoted(version)).ok().map(|value| Some(("if-match", value)))
        }
    }
}

impl ObjectWriter for CloudWriter {
    fn write_all(&mut self, mut bytes: &[u8]) -> Result<()> {
        self.size += bytes.len() as u64;
        while !bytes.is_empty() {
            // A full part is sent only when more follows: an object of exactly one part needs one request.
            if self.filling.len() == PART_BYTES {
                self.send_part()?;
            }
            let (now, later) = bytes.split_at(bytes.len().min(PART_BYTES - self.filling.len()));
            self.filling.extend_from_slice(now);
            bytes = later;
        }
        Ok(())
    }

    fn size(&self) -> u64 {
        self.size
    }

    fn finish(mut self: Box<Self>, mode: PutMode) -> Result<ObjectMeta> {
        if self.upload.is_some() {
            // Where parts are sent in order, the last one completes the object.
            if !self.bucket.service.parts_in_order() {
                self.send_part()?;
            }
            self.await_parts(0)?;
        }
        self.complete(&mode)
    }
}

impl Drop for CloudWriter {
    fn drop(&mut self) {
        let Some(upload) = self.upload.take() else {
            return;
        };
        if upload.completed {
            return;
        }
        // Parts that arrive after the abort would be kept, and paid for.
        for pending in upload.sending {
            pending.wait();
        }
        let (service, key) = (Arc::clone(&self.bucket.service), self.bucket.key_of(&self.path));
        let limits = self.bucket.limits;
        // What cannot be removed now is left to the bucket's lifecycle rule; nobody sees it.
        let _ = self.bucket.run(async move {
            attempts(limits, Extra::default(), || within(limits.attempt, service.abort(&key, &upload.id)))
                .await
        });
    }
}
