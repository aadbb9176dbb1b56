//! Big objects in S3: one request while they are small, an upload in parts when they grow.

use super::attempt::{Tried, attempts, within};
use super::{Bucket, Pending};
use crate::{ObjectMeta, ObjectPath, ObjectWriter, Operation, PutMode, Result, StoreError};
use bytes::Bytes;
use object_store::multipart::{MultipartStore, PartId};
use object_store::{HeaderValue, PutPayload};
use std::{collections::VecDeque, sync::Arc};

/// Size of a part, and of the largest object sent in one request. S3 takes parts from 5 MiB and 10,000 of them: 160 GiB an object.
const PART_BYTES: usize = 16 << 20;

/// Parts on their way while the next is filled. With it and the one being filled a writer holds at most three parts.
const IN_FLIGHT_MAX: usize = 2;

#[derive(Debug)]
pub(super) struct S3Writer {
    bucket: Arc<Bucket>,
    path: ObjectPath,
    filling: Vec<u8>,
    size: u64,
    upload: Option<Upload>,
    /// Recognises the content should the reply to the last request be lost.
    hash: blake3::Hasher,
}

/// An upload in parts that has begun.
#[derive(Debug)]
struct Upload {
    id: String,
    sending: VecDeque<Pending<PartId>>,
    begun: usize,
    sent: Vec<PartId>,
    completed: bool,
}

impl S3Writer {
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
                Some(Upload { id, sending: VecDeque::new(), begun: 0, sent: Vec::new(), completed: false });
        }
        self.await_parts(IN_FLIGHT_MAX - 1)?;
        let part = Bytes::from(std::mem::take(&mut self.filling));
        self.hash.update(&part);
        let Some(upload) = &mut self.upload else {
            return Ok(());
        };
        let (client, location) = (Arc::clone(&self.bucket.client), self.bucket.location(&self.path));
        let (id, index, limits) = (upload.id.clone(), upload.begun, self.bucket.limits);
        upload.begun += 1;
        upload.sending.push_back(self.bucket.start(async move {
            attempts(limits, None, || {
                let (client, location, id) = (Arc::clone(&client), location.clone(), id.clone());
                let (payload, patience) =
                    (PutPayload::from(part.clone()), limits.patience(part.len() as u64));
                async move { within(patience, client.put_part(&location, &id, index, payload)).await }
            })
            .await
        }));
        Ok(())
    }

    fn begin(&self) -> Result<String> {
        let (client, location) = (Arc::clone(&self.bucket.client), self.bucket.location(&self.path));
        let limits = self.bucket.limits;
        let tried = self.bucket.run(async move {
            attempts(limits, None, || {
                let (client, location) = (Arc::clone(&client), location.clone());
                async move { within(limits.attempt, client.create_multipart(&location)).await }
            })
            .await
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
        let (client, location) = (Arc::clone(&self.bucket.client), self.bucket.location(&self.path));
        let (id, parts, limits) = (upload.id.clone(), upload.sent.clone(), self.bucket.limits);
        let tried = self.bucket.run(async move {
            attempts(limits, condition, || {
                let (client, location) = (Arc::clone(&client), location.clone());
                let (id, parts) = (id.clone(), parts.clone());
                // S3 may take minutes to join many parts.
                let patience = limits.attempt.saturating_mul(4);
                async move { within(patience, client.complete_multipart(&location, &id, parts)).await }
            })
            .await
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
            HeaderValue::from_str(version.as_str()).ok().map(|value| Some(("if-match", value)))
        }
    }
}

impl ObjectWriter for S3Writer {
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
            self.send_part()?;
            self.await_parts(0)?;
        }
        self.complete(&mode)
    }
}

impl Drop for S3Writer {
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
        let (client, location) = (Arc::clone(&self.bucket.client), self.bucket.location(&self.path));
        let limits = self.bucket.limits;
        // What cannot be removed now is left to the bucket's lifecycle rule; nobody sees it.
        let _ = self.bucket.run(async move {
            attempts(limits, None, || {
                let (client, location, id) = (Arc::clone(&client), location.clone(), upload.id.clone());
                async move { within(limits.attempt, client.abort_multipart(&location, &id)).await }
            })
            .await
        });
    }
}
