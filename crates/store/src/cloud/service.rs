//! What the kinds of object storage differ in: one trait, one implementation each, and nothing about repeating or judging.
//!
//! Every call makes its requests once. Whether it is repeated, and what a failure means, is decided above ([`super::attempt`],
//! [`super::judge`]).

use crate::{PutMode, Version};
use async_trait::async_trait;
use bytes::Bytes;
use jiff::Timestamp;
use object_store::{GetRange, Result};
use std::{fmt, pin::Pin};

/// What a service knows of one object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) size: u64,
    pub(super) modified: Timestamp,
    pub(super) version: Version,
}

/// A read that the service has begun to answer.
pub(super) struct Opened {
    pub(super) found: Found,
    /// How many bytes come.
    pub(super) bytes: u64,
    pub(super) body: Pin<Box<dyn Future<Output = Result<Bytes>> + Send>>,
}

/// One page of a listing.
#[derive(Debug, Default)]
pub(super) struct Page {
    /// Whole keys.
    pub(super) objects: Vec<(String, Found)>,
    /// Keys that end with the delimiter.
    pub(super) dirs: Vec<String>,
    pub(super) next: Option<String>,
}

/// What is asked of a listing.
#[derive(Debug, Clone, Default)]
pub(super) struct Listing {
    pub(super) prefix: Option<String>,
    /// Only keys after this one; a service may ignore it.
    pub(super) start_after: Option<String>,
    /// One level only.
    pub(super) dirs: bool,
    pub(super) next: Option<String>,
}

/// An upload in parts that is to become an object.
#[derive(Debug, Clone)]
pub(super) struct Upload {
    pub(super) key: String,
    /// The service's own name of it.
    pub(super) id: String,
    /// What each part was answered, in order.
    pub(super) parts: Vec<String>,
    /// Bytes that are not sent yet; none unless [`Service::parts_in_order`].
    pub(super) tail: Bytes,
    /// All bytes.
    pub(super) size: u64,
}

/// A part of an upload.
#[derive(Debug, Clone)]
pub(super) struct Part {
    pub(super) index: usize,
    /// Where it begins in the object, in bytes.
    pub(super) offset: u64,
    pub(super) body: Bytes,
}

/// One kind of object storage.
#[async_trait]
pub(super) trait Service: fmt::Debug + Send + Sync {
    /// Stores an object with one request. `None` where the reply does not tell the version.
    async fn put(&self, key: &str, body: Bytes, mode: &PutMode) -> Result<Option<Version>>;

    /// Begins to read an object or a range of it.
    async fn get(&self, key: &str, range: Option<GetRange>) -> Result<Opened>;

    /// Looks an object up.
    async fn head(&self, key: &str) -> Result<Found>;

    /// Lists one page.
    async fn list(&self, listing: Listing) -> Result<Page>;

    /// Removes objects, at most [`Service::delete_batch`] of them.
    async fn delete(&self, keys: &[String]) -> Result<()>;

    /// How many objects one request removes.
    fn delete_batch(&self) -> usize;

    /// Whether parts are sent one after another, and the last of them completes the object.
    fn parts_in_order(&self) -> bool;

    /// Begins an upload in parts.
    async fn begin(&self, key: &str) -> Result<String>;

    /// Sends a part.
    async fn part(&self, key: &str, id: &str, part: Part) -> Result<String>;

    /// Makes the parts an object, under a condition.
    async fn complete(&self, upload: &Upload, mode: &PutMode) -> Result<Option<Version>>;

    /// Gives an upload up.
    async fn abort(&self, key: &str, id: &str) -> Result<()>;
}
