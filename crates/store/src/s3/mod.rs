//! Objects in S3 and services that speak its protocol, through the `object_store` crate.
//!
//! A write whose reply was lost is repeated, and can then meet its own first attempt: if a condition fails after an attempt with
//! an unknown effect, the object is read back, and equal content means that the write was ours.
//!
//! "Not found" is believed only when the service names the key as missing: a missing bucket or a proxy's 404 is
//! [`StoreError::Unreachable`].
//!
//! The API is synchronous: each store owns a small runtime, and calls wait on a channel, so they may be made from any thread, also one
//! of somebody else's runtime.

mod attempt;
mod http;
mod judge;
mod writer;

use crate::config::S3Config;
use crate::counters::Meter;
use crate::{
    Counters, MARKER, ObjectMeta, ObjectPath, ObjectWriter, Operation, PutMode, Result, Store, StoreError,
    Version,
};
use attempt::{Failure, Limits, Tried, attempts, within};
use bytes::Bytes;
use jiff::Timestamp;
use judge::Verdict;
use object_store::aws::{AmazonS3, AmazonS3Builder, AmazonS3ConfigKey};
use object_store::list::{PaginatedListOptions, PaginatedListStore};
use object_store::path::Path;
use object_store::{
    ClientOptions, GetOptions, GetRange, ObjectStore, PutOptions, PutPayload, PutResult, RetryConfig,
    UpdateVersion,
};
use std::{
    collections::BTreeSet,
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

/// Keys a DeleteObjects request may name.
const DELETE_BATCH: usize = 1000;

/// A bucket, or a prefix in one. Clones share everything.
#[derive(Debug, Clone)]
pub struct S3 {
    bucket: Arc<Bucket>,
}

#[derive(Debug)]
struct Bucket {
    client: Arc<AmazonS3>,
    runtime: Option<Runtime>,
    meter: Arc<Meter>,
    limits: Limits,
    place: String,
    /// Prefix of every key, without slashes at its ends; empty for the whole bucket.
    prefix: String,
}

impl S3 {
    /// Prepares to use a bucket. Makes no request: what is wrong with the bucket shows with the first.
    ///
    /// # Errors
    /// [`StoreError::Setting`].
    pub fn new(config: &S3Config) -> Result<Self> {
        let meter = Arc::new(Meter::default());
        let client = build(config, &meter)?;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(RUNTIME_THREADS)
            .thread_name("pgproof-s3")
            .enable_all()
            .build()
            .map_err(|error| StoreError::from_io(Operation::Open, config.describe(), error))?;
        let limits = Limits {
            attempt: Duration::from_secs(config.timeout_s),
            total: Duration::from_secs(config.retry_s),
            attempts_max: ATTEMPTS_MAX,
        };
        Ok(Self {
            bucket: Arc::new(Bucket {
                client: Arc::new(client),
                runtime: Some(runtime),
                meter,
                limits,
                place: config.describe(),
                prefix: config.prefix.trim_matches('/').to_owned(),
            }),
        })
    }
}

/// Turns settings into a client. What is not set comes from the environment, as `object_store` documents it (`AWS_…`), and
/// credentials at last from the instance's metadata service.
fn build(config: &S3Config, meter: &Arc<Meter>) -> Result<AmazonS3> {
    // Time limits are those of our own loop, which knows how much is transferred.
    let options = ClientOptions::new()
        .with_connect_timeout(CONNECT_WAIT)
        .with_timeout_disabled()
        .with_allow_http(config.allow_http);
    let mut builder = AmazonS3Builder::from_env()
        .with_client_options(options)
        .with_bucket_name(&config.bucket)
        .with_virtual_hosted_style_request(!config.uses_path_style())
        .with_disable_bulk_delete(!config.bulk_delete)
        .with_retry(RetryConfig { max_retries: 0, ..RetryConfig::default() });
    if let Some(region) = &config.region {
        builder = builder.with_region(region);
    }
    if let Some(key) = &config.access_key_id {
        builder = builder.with_access_key_id(key);
    }
    if let Some(secret) = config.secret()? {
        builder = builder.with_secret_access_key(secret.reveal());
    }
    if let Some(token) = &config.session_token {
        builder = builder.with_token(token.reveal());
    }
    if let Some(endpoint) = config.service_url()? {
        builder = builder.with_config(AmazonS3ConfigKey::S3Endpoint, endpoint);
    }
    // The environment may have named an endpoint too.
    let endpoint_host = [AmazonS3ConfigKey::S3Endpoint, AmazonS3ConfigKey::Endpoint]
        .iter()
        .find_map(|key| builder.get_config_value(key))
        .and_then(|endpoint| url::Url::parse(&endpoint).ok()?.host_str().map(str::to_owned));
    builder
        .with_http_connector(http::Connector { meter: Arc::clone(meter), endpoint_host })
        .build()
        .map_err(|error| StoreError::Setting { setting: "s3", reason: error.to_string() })
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

    fn location(&self, path: &ObjectPath) -> Path {
        // The characters an ObjectPath may have are those that `Path` does not encode.
        Path::from(self.key(path.as_str()))
    }

    fn name(&self, path: &ObjectPath) -> String {
        format!("{}/{path}", self.place)
    }

    /// Stores a body in one request.
    fn put(&self, path: &ObjectPath, body: Bytes, mode: &PutMode) -> Result<ObjectMeta> {
        let (client, location) = (Arc::clone(&self.client), self.location(path));
        let options = PutOptions::from(match mode {
            PutMode::Overwrite => object_store::PutMode::Overwrite,
            PutMode::IfAbsent => object_store::PutMode::Create,
            PutMode::IfMatch(version) => object_store::PutMode::Update(UpdateVersion {
                e_tag: Some(version.as_str().to_owned()),
                version: None,
            }),
        });
        let (limits, sent) = (self.limits, body.clone());
        let tried = self.run(async move {
            attempts(limits, None, || {
                let (client, location) = (Arc::clone(&client), location.clone());
                let (payload, options) = (PutPayload::from(sent.clone()), options.clone());
                let patience = limits.patience(sent.len() as u64);
                async move { within(patience, client.put_opts(&location, payload, options)).await }
            })
            .await
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
        tried: Tried<PutResult>,
        is_ours: impl FnOnce(&Self) -> Result<bool>,
    ) -> Result<ObjectMeta> {
        let failure = match tried.outcome {
            Ok(stored) => {
                return match (stored.e_tag, tried.seen.date) {
                    (Some(tag), Some(modified)) => {
                        Ok(ObjectMeta { path: path.clone(), size, modified, version: Version::new(tag) })
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
            (Verdict::ConditionFailed | Verdict::Absent, PutMode::IfMatch(_)) => {
                Err(StoreError::VersionMismatch { object: self.name(path), found: None })
            }
            _ => Err(failure.into_error(Operation::Put, self.name(path))),
        }
    }

    /// Looks up an object that was just written.
    fn must_exist(&self, path: &ObjectPath) -> Result<ObjectMeta> {
        self.head(path)?.ok_or_else(|| StoreError::NotFound { object: self.name(path) })
    }

    /// Makes one read, whole or of a range, and gives what it got and the size of the whole object.
    fn read(&self, path: &ObjectPath, range: Option<GetRange>) -> Tried<(Bytes, object_store::ObjectMeta)> {
        let (client, location, limits) = (Arc::clone(&self.client), self.location(path), self.limits);
        let tried = self.run(async move {
            attempts(limits, None, || {
                let (client, location) = (Arc::clone(&client), location.clone());
                let options = GetOptions { range: range.clone(), ..GetOptions::default() };
                async move {
                    let found = within(limits.attempt, client.get_opts(&location, options)).await?;
                    let meta = found.meta.clone();
                    let patience = limits.patience(found.range.end - found.range.start);
                    Ok((within(patience, found.bytes()).await?, meta))
                }
            })
            .await
        });
        if let Ok((body, _)) = &tried.outcome {
            self.meter.read(body.len());
        }
        tried
    }

    fn get_with_meta(&self, path: &ObjectPath) -> Result<(Bytes, ObjectMeta)> {
        let tried = self.read(path, None);
        let (body, meta) =
            tried.outcome.map_err(|failure| failure.into_error(Operation::Get, self.name(path)))?;
        Ok((body, self.meta(path.clone(), &meta)))
    }

    fn head(&self, path: &ObjectPath) -> Result<Option<ObjectMeta>> {
        let (client, location, limits) = (Arc::clone(&self.client), self.location(path), self.limits);
        let tried = self.run(async move {
            attempts(limits, None, || {
                let (client, location) = (Arc::clone(&client), location.clone());
                let options = GetOptions { head: true, ..GetOptions::default() };
                async move { Ok(within(limits.attempt, client.get_opts(&location, options)).await?.meta) }
            })
            .await
        });
        match tried.outcome {
            Ok(meta) => Ok(Some(self.meta(path.clone(), &meta))),
            // A reply to HEAD has no body to name the reason, so ask again in a way that does.
            Err(Failure { verdict: Verdict::NotFoundByUnknown, .. }) => self.head_by_reading(path),
            Err(failure) => absent_or(failure, Operation::Head, self.name(path)),
        }
    }

    fn head_by_reading(&self, path: &ObjectPath) -> Result<Option<ObjectMeta>> {
        let tried = self.read(path, Some(GetRange::Bounded(0..1)));
        match tried.outcome {
            Ok((_, meta)) => Ok(Some(self.meta(path.clone(), &meta))),
            Err(failure) => absent_or(failure, Operation::Head, self.name(path)),
        }
    }

    fn meta(&self, path: ObjectPath, meta: &object_store::ObjectMeta) -> ObjectMeta {
        let modified = meta.last_modified;
        let nanoseconds = i32::try_from(modified.timestamp_subsec_nanos()).unwrap_or(0);
        ObjectMeta {
            path,
            size: meta.size,
            modified: Timestamp::new(modified.timestamp(), nanoseconds).unwrap_or(Timestamp::UNIX_EPOCH),
            version: Version::new(meta.e_tag.clone().unwrap_or_default()),
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
    fn page(&self, dir: Option<&ObjectPath>, options: PaginatedListOptions) -> Result<Page> {
        let (client, prefix, limits) = (Arc::clone(&self.client), self.dir_key(dir), self.limits);
        let tried = self.run(async move {
            attempts(limits, None, || {
                let (client, prefix, options) = (Arc::clone(&client), prefix.clone(), options.clone());
                async move { within(limits.attempt, client.list_paginated(prefix.as_deref(), options)).await }
            })
            .await
        });
        let name = dir.map_or_else(|| self.place.clone(), |dir| self.name(dir));
        let found = tried.outcome.map_err(|failure| failure.into_error(Operation::List, name))?;
        Ok(Page { objects: found.result.objects, dirs: found.result.common_prefixes, next: found.page_token })
    }

    /// A key without the store's prefix; none for a name that is not ours.
    fn path(&self, location: &Path) -> Option<ObjectPath> {
        let key = location.as_ref();
        let path = if self.prefix.is_empty() {
            key
        } else {
            key.strip_prefix(self.prefix.as_str())?.strip_prefix('/')?
        };
        ObjectPath::new(path).ok()
    }

    fn remove(&self, paths: &[ObjectPath]) -> Result<()> {
        for batch in paths.chunks(DELETE_BATCH) {
            let locations: Vec<Path> = batch.iter().map(|path| self.location(path)).collect();
            let (client, limits) = (Arc::clone(&self.client), self.limits);
            let tried = self.run(async move {
                attempts(limits, None, || {
                        let locations: Vec<_> = locations.iter().cloned().map(Ok).collect();
                        let removed = client.delete_stream(Box::pin(futures_util::stream::iter(locations)));
                        async move {
                            futures_util::TryStreamExt::try_for_each(removed, |_| async { Ok(()) }).await
                        }
                    })
                    .await
            });
            match tried.outcome {
                // Without bulk requests an absent key can be answered as such.
                Ok(()) | Err(Failure { verdict: Verdict::Absent, .. }) => {}
                Err(failure) => return Err(failure.into_error(Operation::Delete, self.name(&batch[0]))),
            }
        }
        Ok(())
    }
}

struct Page {
    objects: Vec<object_store::ObjectMeta>,
    dirs: Vec<Path>,
    next: Option<String>,
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

impl Store for S3 {
    fn describe(&self) -> String {
        self.bucket.place.clone()
    }

    fn put(&self, path: &ObjectPath, body: &[&[u8]], mode: PutMode) -> Result<ObjectMeta> {
        self.bucket.put(path, Bytes::from(body.concat()), &mode)
    }

    fn writer(&self, path: &ObjectPath) -> Result<Box<dyn ObjectWriter>> {
        Ok(Box::new(writer::S3Writer::new(Arc::clone(&self.bucket), path)))
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
            Ok((body, meta)) => Ok((body.into(), meta.size)),
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
        loop {
            let page = self.bucket.page(
                dir,
                PaginatedListOptions {
                    offset: start_after.map(|after| self.bucket.key(after)),
                    page_token: next,
                    ..PaginatedListOptions::default()
                },
            )?;
            found.extend(page.objects.iter().filter_map(|object| {
                let path = self.bucket.path(&object.location)?;
                // Not every service honours the start.
                let wanted = start_after.is_none_or(|after| path.as_str() > after);
                wanted.then(|| self.bucket.meta(path, object))
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
        loop {
            let page = self.bucket.page(
                dir,
                PaginatedListOptions {
                    delimiter: Some("/".into()),
                    page_token: next,
                    ..PaginatedListOptions::default()
                },
            )?;
            let paths = page.dirs.iter().filter_map(|location| self.bucket.path(location));
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
        let (client, location, limits) =
            (Arc::clone(&bucket.client), Path::from(bucket.key(MARKER)), bucket.limits);
        let tried = bucket.run(async move {
            attempts(limits, None, || {
                let (client, location) = (Arc::clone(&client), location.clone());
                let options = GetOptions { head: true, ..GetOptions::default() };
                async move { within(limits.attempt, client.get_opts(&location, options)).await.map(drop) }
            })
            .await
        });
        // Whatever the reply was, it carries the clock.
        match (tried.seen.date, tried.outcome) {
            (Some(now), _) => Ok(now),
            (None, Err(failure)) => Err(failure.into_error(Operation::Clock, bucket.place.clone())),
            (None, Ok(())) => Err(StoreError::Unsupported {
                operation: Operation::Clock,
                object: bucket.place.clone(),
                what: "the Date header",
            }),
        }
    }

    /// Uploads that were never completed are invisible, but paid for. S3 removes them by a lifecycle rule; the client used here cannot
    /// list them.
    fn clean(&self, _age: Duration) -> Result<u64> {
        Ok(0)
    }

    fn counters(&self) -> Counters {
        self.bucket.meter.snapshot()
    }
}
