//! A service as far as `object_store` speaks its protocol: S3 and Azure Blob.
//!
//! Versions are entity tags, kept without the quotes that HTTP puts around them: Azure's listings leave them out.

use super::http::Kind;
use super::raw::failed;
use super::service::{Found, Listing, Opened, Page, Part, Service, Upload};
use crate::{PutMode, Version};
use async_trait::async_trait;
use bytes::Bytes;
use futures_util::TryStreamExt;
use jiff::Timestamp;
use object_store::list::{PaginatedListOptions, PaginatedListStore};
use object_store::multipart::{MultipartStore, PartId};
use object_store::path::Path;
use object_store::{GetOptions, GetRange, ObjectStore, PutOptions, PutPayload, Result, UpdateVersion};
use std::{fmt, sync::Arc};

/// Keys a DeleteObjects request of S3 may name.
const S3_DELETE_BATCH: usize = 1000;

/// A client that can all that is asked of it.
pub(super) trait Client: ObjectStore + PaginatedListStore + MultipartStore {}

impl<C: ObjectStore + PaginatedListStore + MultipartStore> Client for C {}

/// Removes one object; `object_store` wraps every removal on Azure in a batch, whose reply hides what became of it.
#[async_trait]
pub(super) trait Remover: fmt::Debug + Send + Sync {
    async fn remove(&self, key: &str) -> Result<()>;
}

#[derive(Debug)]
pub(super) struct Through<C> {
    pub(super) kind: Kind,
    pub(super) client: Arc<C>,
    /// Instead of the client's own removal.
    pub(super) remover: Option<Box<dyn Remover>>,
}

/// The entity tag of a version as headers have it.
pub(super) fn quoted(version: &Version) -> String {
    format!("\"{}\"", version.as_str())
}

fn version(e_tag: Option<String>) -> Option<Version> {
    e_tag.map(|tag| Version::new(tag.trim_matches('"')))
}

fn found(meta: &object_store::ObjectMeta) -> Found {
    let modified = meta.last_modified;
    let nanoseconds = i32::try_from(modified.timestamp_subsec_nanos()).unwrap_or(0);
    Found {
        size: meta.size,
        modified: Timestamp::new(modified.timestamp(), nanoseconds).unwrap_or(Timestamp::UNIX_EPOCH),
        version: version(meta.e_tag.clone()).unwrap_or_else(|| Version::new("")),
    }
}

impl<C: Client> Through<C> {
    /// Azure has no ranges that count from the end: where that is must be asked first.
    async fn tail(&self, key: &str, bytes: u64) -> Result<Opened> {
        let size = self.head(key).await?.size;
        let range = (size > 0).then(|| GetRange::Bounded(size.saturating_sub(bytes)..size));
        let opened = read(self.client.as_ref(), key, range, found).await?;
        if opened.found.size != size {
            // After a good reply this is an attempt to repeat.
            return Err(failed("the object was replaced between two requests"));
        }
        Ok(opened)
    }
}

#[async_trait]
impl<C: Client> Service for Through<C> {
    async fn put(&self, key: &str, body: Bytes, mode: &PutMode) -> Result<Option<Version>> {
        let options = PutOptions::from(match mode {
            PutMode::Overwrite => object_store::PutMode::Overwrite,
            PutMode::IfAbsent => object_store::PutMode::Create,
            PutMode::IfMatch(version) => {
                object_store::PutMode::Update(UpdateVersion { e_tag: Some(quoted(version)), version: None })
            }
        });
        let stored = self.client.put_opts(&Path::from(key), PutPayload::from(body), options).await?;
        Ok(version(stored.e_tag))
    }

    async fn get(&self, key: &str, range: Option<GetRange>) -> Result<Opened> {
        match (self.kind, range) {
            (Kind::Azure, Some(GetRange::Suffix(bytes))) => self.tail(key, bytes).await,
            (_, range) => read(self.client.as_ref(), key, range, found).await,
        }
    }

    async fn head(&self, key: &str) -> Result<Found> {
        look_up(self.client.as_ref(), key).await.map(|meta| found(&meta))
    }

    async fn list(&self, listing: Listing) -> Result<Page> {
        // Azure's start would need a newer version of its protocol than emulators speak, and is only an economy.
        let offset = listing.start_after.filter(|_| self.kind == Kind::S3);
        let options = PaginatedListOptions {
            offset,
            delimiter: listing.dirs.then(|| "/".into()),
            page_token: listing.next,
            ..PaginatedListOptions::default()
        };
        let page = self.client.list_paginated(listing.prefix.as_deref(), options).await?;
        Ok(Page {
            objects: page
                .result
                .objects
                .iter()
                .map(|object| (object.location.to_string(), found(object)))
                .collect(),
            dirs: page.result.common_prefixes.iter().map(ToString::to_string).collect(),
            next: page.page_token,
        })
    }

    async fn delete(&self, keys: &[String]) -> Result<()> {
        if let Some(remover) = &self.remover {
            for key in keys {
                remover.remove(key).await?;
            }
            return Ok(());
        }
        let locations: Vec<_> = keys.iter().map(|key| Ok(Path::from(key.as_str()))).collect();
        let removed = self.client.delete_stream(Box::pin(futures_util::stream::iter(locations)));
        removed.try_for_each(|_| async { Ok(()) }).await
    }

    fn delete_batch(&self) -> usize {
        if self.remover.is_some() { 1 } else { S3_DELETE_BATCH }
    }

    fn parts_in_order(&self) -> bool {
        false
    }

    async fn begin(&self, key: &str) -> Result<String> {
        self.client.create_multipart(&Path::from(key)).await
    }

    async fn part(&self, key: &str, id: &str, part: Part) -> Result<String> {
        let payload = PutPayload::from(part.body);
        let id = id.to_owned();
        Ok(self.client.put_part(&Path::from(key), &id, part.index, payload).await?.content_id)
    }

    /// The condition is a header that the layer below adds.
    async fn complete(&self, upload: &Upload, _mode: &PutMode) -> Result<Option<Version>> {
        let parts = upload.parts.iter().map(|part| PartId { content_id: part.clone() }).collect();
        let stored =
            self.client.complete_multipart(&Path::from(upload.key.as_str()), &upload.id, parts).await?;
        Ok(version(stored.e_tag))
    }

    async fn abort(&self, key: &str, id: &str) -> Result<()> {
        self.client.abort_multipart(&Path::from(key), &id.to_owned()).await
    }
}

/// Reads through `object_store`.
pub(super) async fn read(
    client: &dyn ObjectStore,
    key: &str,
    range: Option<GetRange>,
    found: fn(&object_store::ObjectMeta) -> Found,
) -> Result<Opened> {
    let options = GetOptions { range, ..GetOptions::default() };
    let opened = client.get_opts(&Path::from(key), options).await?;
    Ok(Opened {
        found: found(&opened.meta),
        bytes: opened.range.end - opened.range.start,
        body: Box::pin(opened.bytes()),
    })
}

/// Looks up through `object_store`.
pub(super) async fn look_up(client: &dyn ObjectStore, key: &str) -> Result<object_store::ObjectMeta> {
    let options = GetOptions { head: true, ..GetOptions::default() };
    Ok(client.get_opts(&Path::from(key), options).await?.meta)
}
