//! Objects in S3, Google Cloud Storage and Azure Blob, and in services that speak their protocols, through the `object_store` crate.
//!
//! A write whose reply was lost is repeated, and can then meet its own first attempt: if a condition fails after an attempt with
//! an unknown effect, the object is read back, and equal content means that the write was ours.
//!
//! "Not found" is believed only when the service names the key as missing, or lists its place without it: a missing bucket or a
//! proxy's 404 is [`StoreError::Unreachable`].
//!
//! The API is synchronous: each store owns a small runtime, and calls wait on a channel, so they may be made from any thread, also one
//! of somebody else's runtime.
//!
//! What the services differ in is behind `service::Service`: `through` (S3 and Azure, set up in `s3` and `azure`) and `gcs`.

mod attempt;
mod azure;
mod gcs;
mod http;
mod judge;
mod lock;
mod raw;
mod s3;
mod service;
mod through;
mod writer;

use crate::config::{AzureConfig, GcsConfig, ObjectLock, S3Config};
use crate::counters::Meter;
use crate::{
    Counters, MARKER, ObjectMeta, ObjectPath, ObjectWriter, Operation, PutMode, Result, Store, StoreError,
    Version,
};
use attempt::{Failure, Limits, Tried, attempts, within};
use bytes::Bytes;
use http::Extra;
use jiff::{SignedDuration, Timestamp};
use judge::Verdict;
use lock::Retention;
use object_store::{ClientOptions, GetRange, RetryConfig};
use service::{Found, Listing, Page, Service};
use std::{
    collections::{BTreeSet, VecDeque},
    sync::{Arc, mpsc},
    time::Duration,
};
use tokio::runtime::Runtime;

/// Enough for the transfers of a few threads: they wait for the network, not for a processor.
const RUNTIME_THREADS: usize = 2;

/// A service that does not accept a connection in this time is down.
const CONNECT_WAIT: Duration = Duration::from_secs(5);

/// With pauses of at most 5 s the limit on time is met first; this one bounds quick refusals.
const ATTEMPTS_MAX: u32 = 20;

/// Removals on their way at a time, where each is a request of its own.
const REMOVALS_MAX: usize = 8;

/// A bucket or container, or a prefix in one. Clones share everything.
#[derive(Debug, Clone)]
pub struct Cloud {
    bucket: Arc<Bucket>,
}

#[derive(Debug)]
struct Bucket {
    service: Arc<dyn Service>,
    runtime: Option<Runtime>,
    meter: Arc<Meter>,
    limits: Limits,
    place: String,
    /// Prefix of every key, without slashes at its ends; empty for the whole bucket.
    prefix: String,
    lock: Option<ObjectLock>,
}

/// A service that was set up, and its place as a person writes it.
struct Settings {
    service: Arc<dyn Service>,
    place: String,
}

/// Time limits are those of our own loop, which knows how much is transferred.
fn client_options(allow_http: bool) -> ClientOptions {
    ClientOptions::new()
        .with_connect_timeout(CONNECT_WAIT)
        .with_timeout_disabled()
        .with_allow_http(allow_http)
}

/// Our own loop knows whether an earlier attempt may have taken effect; `object_store`'s does not tell.
fn no_retries() -> RetryConfig {
    RetryConfig { max_retries: 0, ..RetryConfig::default() }
}

impl Cloud {
    /// Prepares to use a bucket of S3. Makes no request: what is wrong with the bucket shows with the first.
    ///
    /// # Errors
    /// [`StoreError::Setting`].
    pub fn s3(config: &S3Config) -> Result<Self> {
        let meter = Arc::new(Meter::default());
        let settings = s3::service(config, &meter)?;
        Self::new(
            settings,
            meter,
            &config.prefix,
            (config.timeout_s, config.retry_s),
            config.object_lock.clone(),
        )
    }

    /// Prepares to use a bucket of Google Cloud Storage, as [`Cloud::s3`] does.
    ///
    /// # Errors
    /// [`StoreError::Setting`].
    pub fn gcs(config: &GcsConfig) -> Result<Self> {
        let meter = Arc::new(Meter::default());
        let settings = gcs::service(config, &meter)?;
        Self::new(settings, meter, &config.prefix, (config.timeout_s, config.retry_s), None)
    }

    /// Prepares to use a container of Azure Blob Storage, as [`Cloud::s3`] does.
    ///
    /// # Errors
    /// [`StoreError::Setting`].
    pub fn azure(config: &AzureConfig) -> Result<Self> {
        let meter = Arc::new(Meter::default());
        let settings = azure::service(config, &meter)?;
        Self::new(settings, meter, &config.prefix, (config.timeout_s, config.retry_s), None)
    }

    fn new(
        settings: Settings,
        meter: Arc<Meter>,
        prefix: &str,
        (timeout_s, retry_s): (u64, u64),
        lock: Option<ObjectLock>,
    ) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(RUNTIME_THREADS)
            .thread_name("pgproof-store")
            .enable_all()
            .build()
            .map_err(|error| StoreError::from_io(Operation::Open, settings.place.clone(), error))?;
        let limits = Limits {
            attempt: Duration::from_secs(timeout_s),
            total: Duration::from_secs(retry_s),
            attempts_max: ATTEMPTS_MAX,
        };
        Ok(Self {
            bucket: Arc::new(Bucket {
                service: settings.service,
                runtime: Some(runtime),
                meter,
                limits,
                place: settings.place,
                prefix: prefix.trim_matches('/').to_owned(),
                lock,
            }),
        })
    }
}

impl Drop for Bucket {
    fn drop(&mut self) {
        // Waiting for a runtime is forbidden inside another one, and nothing is left to wait for.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl Bucket {
    /// Runs a request on the store's own runtime and waits for it here.
    fn run<T: Send + 'static>(&self, request: impl Future<Output = Tried<T>> + Send + 'static) -> Tried<T> {
        self.start(request).wait()
    }

    /// Begins a request that is waited for later.
    fn start<T: Send + 'static>(
        &self,
        request: impl Future<Output = Tried<T>> + Send + 'static,
    ) -> Pending<T> {
        let (done, answer) = mpsc::sync_channel(1);
        if let Some(runtime) = &self.runtime {
            runtime.spawn(async move {
                // The caller may have given up, as a dropped writer does.
                let _ = done.send(request.await);
            });
        }
        Pending(answer)
    }

    fn key(&self, path: &str) -> String {
        if self.prefix.is_empty() { path.to_owned() } else { format!("{}/{path}", self.prefix) }
    }

    fn key_of(&self, path: &ObjectPath) -> String {
        // The characters an ObjectPath may have are those that no service encodes.
        self.key(path.as_str())
    }

    fn name(&self, path: &ObjectPath) -> String {
        format!("{}/{path}", self.place)
    }

    /// Until when this object is to be locked; none for those that are written again and again.
    fn retention(&self, path: &ObjectPath) -> Option<Retention> {
        let lock = self.lock.as_ref().filter(|lock| lock.covers(path))?;
        let until =
            Timestamp::now().checked_add(SignedDuration::from_hours(24 * i64::from(lock.days))).ok()?;
        Some(Retention { mode: lock.mode, until })
    }

    /// Stores a body in one request.
    fn put(&self, path: &ObjectPath, body: Bytes, mode: &PutMode) -> Result<ObjectMeta> {
        let (service, key) = (Arc::clone(&self.service), self.key_of(path));
        let (limits, sent, wanted) = (self.limits, body.clone(), mode.clone());
        let extra = Extra { retention: self.retention(path), ..Extra::default() };
        let tried = self.run(async move {
            let patience = limits.patience(sent.len() as u64);
            attempts(limits, extra, || within(patience, service.put(&key, sent.clone(), &wanted))).await
        });
        let size = body.len() as u64;
        self.settle(path, mode, size, tried, |bucket| Ok(bucket.get_with_meta(path)?.0 == body))
    }

    /// Turns the outcome of a conditional write into an answer. `is_ours` compares the stored object with what was sent; it is only
    /// asked when an earlier attempt may have been the one that made the condition fail.
    fn settle(
        &self,
        path: &ObjectPath,
        mode: &PutMode,
        size: u64,
        tried: Tried<Option<Version>>,
        is_ours: impl FnOnce(&Self) -> Result<bool>,
    ) -> Result<ObjectMeta> {
        let failure = match tried.outcome {
            Ok(stored) => {
                return match (stored, tried.seen.date) {
                    (Some(version), Some(modified)) => {
                        Ok(ObjectMeta { path: path.clone(), size, modified, version })
                    }
                    _ => self.must_exist(path),
                };
            }
            Err(failure) => failure,
        };
        let refused = matches!(
            (failure.verdict, mode),
            (Verdict::ConditionFailed | Verdict::NoUpload, _) | (Verdict::Absent, PutMode::IfMatch(_))
        );
        if !refused {
            return Err(failure.into_error(Operation::Put, self.name(path)));
        }
        if tried.uncertain {
            match is_ours(self) {
                Ok(true) => return self.must_exist(path),
                Ok(false) | Err(StoreError::NotFound { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        match (failure.verdict, mode) {
            (Verdict::ConditionFailed, PutMode::IfAbsent) => {
                Err(StoreError::AlreadyExists { object: self.name(path) })
            }
            // An upload to Google is conditional on what was there when it began, whatever is asked of it later.
            (Verdict::ConditionFailed, PutMode::Overwrite)
            | (Verdict::ConditionFailed | Verdict::Absent, PutMode::IfMatch(_)) => {
                Err(StoreError::VersionMismatch { object: self.name(path), found: None })
            }
            _ => Err(failure.into_error(Operation::Put, self.name(path))),
        }
    }

    /// Looks up an object that was just written.
    fn must_exist(&self, path: &ObjectPath) -> Result<ObjectMeta> {
        self.head(path)?.ok_or_else(|| StoreError::NotFound { object: self.name(path) })
    }

    /// Makes one read, whole or of a range, and gives what it got and what is known of the whole object.
    fn read(&self, path: &ObjectPath, range: Option<GetRange>) -> Tried<(Bytes, Found)> {
        let (service, key, limits) = (Arc::clone(&self.service), self.key_of(path), self.limits);
        let mut tried = self.run(async move {
            attempts(limits, Extra::default(), || {
                let (service, key, range) = (Arc::clone(&service), key.clone(), range.clone());
                async move {
                    let opened = within(limits.attempt, service.get(&key, range)).await?;
                    let body = within(limits.patience(opened.bytes), opened.body).await?;
                    Ok((body, opened.found))
                }
            })
            .await
        });
        if let Ok((body, _)) = &tried.outcome {
            self.meter.read(body.len());
        }
        if let Err(failure) = &mut tried.outcome
            && failure.verdict == Verdict::NotFoundByUnknown
            && self.is_listed_without(path)
        {
            failure.verdict = Verdict::Absent;
        }
        tried
    }

    /// Whether the service lists the object's place and does not name the object: that proves its absence where replies to reads
    /// name no reason. All services list what is there at the moment.
    fn is_listed_without(&self, path: &ObjectPath) -> bool {
        let key = self.key_of(path);
        let listing = Listing { prefix: Some(key.clone()), ..Listing::default() };
        self.page(listing, self.name(path)).is_ok_and(|page| {
            // The key itself sorts before all that begin with it, so it would be on the first page.
            page.objects.iter().all(|(listed, _)| *listed != key)
        })
    }

    fn get_with_meta(&self, path: &ObjectPath) -> Result<(Bytes, ObjectMeta)> {
        let tried = self.read(path, None);
        let (body, found) =
            tried.outcome.map_err(|failure| failure.into_error(Operation::Get, self.name(path)))?;
        Ok((body, meta(path.clone(), found)))
    }

    fn look(&self, path: &ObjectPath) -> Tried<Found> {
        let (service, key, limits) = (Arc::clone(&self.service), self.key_of(path), self.limits);
        self.run(async move {
            attempts(limits, Extra::default(), || within(limits.attempt, service.head(&key))).await
        })
    }

    fn head(&self, path: &ObjectPath) -> Result<Option<ObjectMeta>> {
        match self.look(path).outcome {
            Ok(found) => Ok(Some(meta(path.clone(), found))),
            // A reply to HEAD has no body to name the reason, so ask again in a way that does.
            Err(Failure { verdict: Verdict::NotFoundByUnknown, .. }) => self.head_by_reading(path),
            Err(failure) => absent_or(failure, Operation::Head, self.name(path)),
        }
    }

    fn head_by_reading(&self, path: &ObjectPath) -> Result<Option<ObjectMeta>> {
        let tried = self.read(path, Some(GetRange::Bounded(0..1)));
        match tried.outcome {
            Ok((_, found)) => Ok(Some(meta(path.clone(), found))),
            Err(failure) => absent_or(failure, Operation::Head, self.name(path)),
        }
    }

    /// The prefix of all keys below a directory, with the slash that ends it.
    fn dir_key(&self, dir: Option<&ObjectPath>) -> Option<String> {
        match dir {
            Some(dir) => Some(format!("{}/", self.key(dir.as_str()))),
            None if self.prefix.is_empty() => None,
            None => Some(format!("{}/", self.prefix)),
        }
    }

    /// One page of a listing.
    fn page(&self, listing: Listing, name: String) -> Result<Page> {
        let (service, limits) = (Arc::clone(&self.service), self.limits);
        let tried = self.run(async move {
            attempts(limits, Extra::default(), || within(limits.attempt, service.list(listing.clone()))).await
        });
        tried.outcome.map_err(|failure| failure.into_error(Operation::List, name))
    }

    /// A key without the store's prefix; none for a name that is not ours.
    fn path(&self, key: &str) -> Option<ObjectPath> {
        let path = if self.prefix.is_empty() {
            key
        } else {
            key.strip_prefix(self.prefix.as_str())?.strip_prefix('/')?
        };
        ObjectPath::new(path).ok()
    }

    /// Removes objects, several requests at a time where each removes few.
    fn remove(&self, paths: &[ObjectPath]) -> Result<()> {
        let mut sent = VecDeque::new();
        for batch in paths.chunks(self.service.delete_batch()) {
            if sent.len() >= REMOVALS_MAX {
                self.await_removal(sent.pop_front())?;
            }
            sent.push_back((&batch[0], self.start_removal(batch)));
        }
        while !sent.is_empty() {
            self.await_removal(sent.pop_front())?;
        }
        Ok(())
    }

    fn start_removal(&self, batch: &[ObjectPath]) -> Pending<()> {
        let keys: Vec<String> = batch.iter().map(|path| self.key_of(path)).collect();
        let (service, limits) = (Arc::clone(&self.service), self.limits);
        self.start(async move {
            attempts(limits, Extra::default(), || within(limits.attempt, service.delete(&keys))).await
        })
    }

    fn await_removal(&self, removal: Option<(&ObjectPath, Pending<()>)>) -> Result<()> {
        let Some((first, pending)) = removal else { return Ok(()) };
        match pending.wait().outcome {
            // Without bulk requests an absent key can be answered as such.
            Ok(()) | Err(Failure { verdict: Verdict::Absent, .. }) => Ok(()),
            Err(failure)
                if failure.verdict == Verdict::NotFoundByUnknown && self.is_listed_without(first) =>
            {
                Ok(())
            }
            Err(failure) => Err(failure.into_error(Operation::Delete, self.name(first))),
        }
    }
}

fn meta(path: ObjectPath, found: Found) -> ObjectMeta {
    ObjectMeta { path, size: found.size, modified: found.modified, version: found.version }
}

/// A request under way.
#[derive(Debug)]
struct Pending<T>(mpsc::Receiver<Tried<T>>);

impl<T> Pending<T> {
    fn wait(self) -> Tried<T> {
        // The sender is gone only if the request's task panicked.
        self.0.recv().unwrap_or_else(|lost| Tried {
            outcome: Err(Failure { verdict: Verdict::Other, timed_out: None, source: Box::new(lost) }),
            uncertain: true,
            seen: http::Exchange::default(),
        })
    }
}

fn absent_or(failure: Failure, operation: Operation, object: String) -> Result<Option<ObjectMeta>> {
    match failure.verdict {
        Verdict::Absent => Ok(None),
        _ => Err(failure.into_error(operation, object)),
    }
}

impl Store for Cloud {
    fn describe(&self) -> String {
        self.bucket.place.clone()
    }

    fn put(&self, path: &ObjectPath, body: &[&[u8]], mode: PutMode) -> Result<ObjectMeta> {
        self.bucket.put(path, Bytes::from(body.concat()), &mode)
    }

    fn writer(&self, path: &ObjectPath) -> Result<Box<dyn ObjectWriter>> {
        Ok(Box::new(writer::CloudWriter::new(Arc::clone(&self.bucket), path)))
    }

    fn get_with_meta(&self, path: &ObjectPath) -> Result<(Vec<u8>, ObjectMeta)> {
        let (body, meta) = self.bucket.get_with_meta(path)?;
        Ok((body.into(), meta))
    }

    fn get_range(&self, path: &ObjectPath, offset: u64, buf: &mut [u8]) -> Result<()> {
        if buf.is_empty() {
            return Ok(());
        }
        let wanted = buf.len() as u64;
        let truncated = |got| StoreError::Truncated { object: self.bucket.name(path), offset, wanted, got };
        let range = GetRange::Bounded(offset..offset.saturating_add(wanted));
        match self.bucket.read(path, Some(range)).outcome {
            Ok((body, _)) if body.len() == buf.len() => {
                buf.copy_from_slice(&body);
                Ok(())
            }
            Ok((body, _)) => Err(truncated(body.len() as u64)),
            Err(Failure { verdict: Verdict::RangeBeyondEnd, .. }) => Err(truncated(0)),
            Err(failure) => Err(failure.into_error(Operation::Get, self.bucket.name(path))),
        }
    }

    fn get_tail(&self, path: &ObjectPath, len_max: u64) -> Result<(Vec<u8>, u64)> {
        if len_max == 0 {
            return Ok((Vec::new(), self.bucket.must_exist(path)?.size));
        }
        let tried = self.bucket.read(path, Some(GetRange::Suffix(len_max)));
        match tried.outcome {
            Ok((body, found)) => Ok((body.into(), found.size)),
            // No suffix of an empty object can be satisfied; services answer with 416 or with the whole of nothing.
            Err(failure) => match self.bucket.head(path)? {
                Some(meta) if meta.size == 0 => Ok((Vec::new(), 0)),
                _ => Err(failure.into_error(Operation::Get, self.bucket.name(path))),
            },
        }
    }

    fn head(&self, path: &ObjectPath) -> Result<Option<ObjectMeta>> {
        self.bucket.head(path)
    }

    fn list(&self, dir: Option<&ObjectPath>, start_after: Option<&str>) -> Result<Vec<ObjectMeta>> {
        let mut found = Vec::new();
        let mut next = None;
        let name = || dir.map_or_else(|| self.describe(), |dir| self.bucket.name(dir));
        loop {
            let listing = Listing {
                prefix: self.bucket.dir_key(dir),
                start_after: start_after.map(|after| self.bucket.key(after)),
                dirs: false,
                next,
            };
            let page = self.bucket.page(listing, name())?;
            found.extend(page.objects.into_iter().filter_map(|(key, found)| {
                let path = self.bucket.path(&key)?;
                // Not every service honours the start.
                let wanted = start_after.is_none_or(|after| path.as_str() > after);
                wanted.then(|| meta(path, found))
            }));
            next = page.next;
            if next.is_none() {
                break;
            }
        }
        // Directory buckets of S3 list in no order.
        found.sort_unstable_by(|one, other| one.path.cmp(&other.path));
        Ok(found)
    }

    fn list_dirs(&self, dir: Option<&ObjectPath>) -> Result<Vec<String>> {
        let mut names = BTreeSet::new();
        let mut next = None;
        let name = || dir.map_or_else(|| self.describe(), |dir| self.bucket.name(dir));
        loop {
            let listing =
                Listing { prefix: self.bucket.dir_key(dir), dirs: true, next, ..Listing::default() };
            let page = self.bucket.page(listing, name())?;
            let paths = page.dirs.iter().filter_map(|key| self.bucket.path(key.trim_end_matches('/')));
            names.extend(paths.map(|path| path.name().to_owned()));
            next = page.next;
            if next.is_none() {
                break;
            }
        }
        Ok(names.into_iter().collect())
    }

    fn delete(&self, path: &ObjectPath) -> Result<()> {
        self.bucket.remove(std::slice::from_ref(path))
    }

    fn delete_all(&self, paths: &[ObjectPath]) -> Result<()> {
        self.bucket.remove(paths)
    }

    fn now(&self) -> Result<Timestamp> {
        let bucket = &self.bucket;
        let marker = ObjectPath::new(MARKER)?;
        let tried = bucket.look(&marker);
        // Whatever the reply was, it carries the clock.
        match (tried.seen.date, tried.outcome) {
            (Some(now), _) => Ok(now),
            (None, Err(failure)) => Err(failure.into_error(Operation::Clock, bucket.place.clone())),
            (None, Ok(_)) => Err(StoreError::Unsupported {
                operation: Operation::Clock,
                object: bucket.place.clone(),
                what: "the Date header",
            }),
        }
    }

    /// Uploads that were never completed are invisible. S3 removes them by a lifecycle rule, Google and Azure after a week by themselves.
    fn clean(&self, _age: Duration) -> Result<u64> {
        Ok(0)
    }

    fn counters(&self) -> Counters {
        self.bucket.meter.snapshot()
    }
}
