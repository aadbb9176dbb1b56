//! The client for Google Cloud Storage.
//!
//! Objects are read through `object_store`. They are written, listed and removed by Google's JSON API, because its XML API, which
//! `object_store` uses, has no conditions for uploads in parts, and listings there do not give generations as `object_store`
//! reads them. A version is a generation.
//!
//! A big object is a resumable upload: its parts are sent in order, and the last one makes it an object. Google takes the condition
//! when an upload begins. So the generation that is there then is the condition, and finishing compares it with what is asked.

use super::http::{Connector, Kind};
use super::raw::{self, answered, failed};
use super::service::{Found, Listing, Opened, Page, Part, Service, Upload};
use super::through::{look_up, read};
use super::{Settings, client_options, no_retries};
use crate::config::GcsConfig;
use crate::counters::Meter;
use crate::{PutMode, StoreError, Version};
use async_trait::async_trait;
use bytes::Bytes;
use jiff::Timestamp;
use object_store::client::{HttpClient, HttpConnector};
use object_store::gcp::{GoogleCloudStorage, GoogleCloudStorageBuilder};
use object_store::{Error, GetRange, HeaderMap, Result};
use serde::Deserialize;
use std::sync::Arc;

/// Google's own.
const ENDPOINT: &str = "https://storage.googleapis.com";

/// Separates the two parts of an object's upload; 32 random digits follow it, so that content never holds it.
const BOUNDARY: &str = "pgproof";

/// Turns settings into a service. Credentials come from the key file, else as Google's own programs find them
/// (`GOOGLE_APPLICATION_CREDENTIALS`, `gcloud`'s default login), and at last from the machine's metadata service.
pub(super) fn service(config: &GcsConfig, meter: &Arc<Meter>) -> crate::Result<Settings> {
    let unusable = |error: Error| StoreError::Setting { setting: "gcs", reason: error.to_string() };
    let mut builder = GoogleCloudStorageBuilder::from_env()
        .with_client_options(client_options(config.allow_http))
        .with_bucket_name(&config.bucket)
        .with_retry(no_retries());
    if let Some(file) = &config.service_account_file {
        builder = builder.with_service_account_path(file.display().to_string());
    }
    let endpoint = config.service_url()?;
    if let Some(endpoint) = &endpoint {
        builder = builder.with_base_url(endpoint);
    }
    if config.anonymous {
        builder = builder.with_bearer_token("none");
    }
    let connector = Connector::new(Kind::Gcs, meter, endpoint.as_deref());
    let http = connector.connect(&client_options(config.allow_http)).map_err(unusable)?;
    let client = builder.with_http_connector(connector).build().map_err(unusable)?;
    let base = endpoint.unwrap_or_else(|| ENDPOINT.to_owned());
    let service = Gcs { client, http, base, bucket: config.bucket.clone() };
    Ok(Settings { service: Arc::new(service), place: config.describe() })
}

#[derive(Debug)]
struct Gcs {
    client: GoogleCloudStorage,
    http: HttpClient,
    base: String,
    bucket: String,
}

/// What Google says of an object. Numbers are texts in its JSON.
#[derive(Debug, Deserialize)]
struct Resource {
    #[serde(default)]
    name: String,
    generation: String,
    #[serde(default)]
    size: String,
    #[serde(default)]
    updated: Option<Timestamp>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Objects {
    #[serde(default)]
    items: Vec<Resource>,
    #[serde(default)]
    prefixes: Vec<String>,
    next_page_token: Option<String>,
}

impl Resource {
    fn found(&self) -> Option<Found> {
        // Reads give whole seconds, and one object has one time.
        let modified = Timestamp::from_second(self.updated?.as_second()).ok()?;
        Some(Found {
            size: self.size.parse().ok()?,
            modified,
            version: Version::new(self.generation.as_str()),
        })
    }
}

fn parsed<T: for<'a> Deserialize<'a>>(body: &Bytes) -> Result<T> {
    serde_json::from_slice(body).map_err(failed)
}

fn found(meta: &object_store::ObjectMeta) -> Found {
    Found {
        size: meta.size,
        modified: Timestamp::from_second(meta.last_modified.timestamp()).unwrap_or(Timestamp::UNIX_EPOCH),
        version: Version::new(meta.version.clone().unwrap_or_default()),
    }
}

/// The generation that must be there; 0 stands for none at all.
fn required(mode: &PutMode) -> Option<&str> {
    match mode {
        PutMode::Overwrite => None,
        PutMode::IfAbsent => Some("0"),
        PutMode::IfMatch(version) => Some(version.as_str()),
    }
}

impl Gcs {
    async fn ask(
        &self,
        method: &str,
        url: &str,
        headers: &[(&'static str, &str)],
        body: Bytes,
    ) -> Result<(HeaderMap, Bytes)> {
        let credential = self.client.credentials().get_credential().await?;
        let bearer = format!("Bearer {}", credential.bearer);
        let headers = [headers, &[("authorization", bearer.as_str())]].concat();
        answered(self.http.execute(raw::request(method, url, &headers, body)?).await).await
    }

    fn object_url(&self, key: &str) -> String {
        format!("{}/storage/v1/b/{}/o/{}", self.base, self.bucket, raw::encoded(key, ""))
    }

    fn upload_url(&self, sort: &str, key: &str, required: Option<&str>) -> String {
        let condition = required.map(|it| format!("&ifGenerationMatch={it}")).unwrap_or_default();
        let (base, bucket, key) = (&self.base, &self.bucket, raw::encoded(key, ""));
        format!("{base}/upload/storage/v1/b/{bucket}/o?uploadType={sort}&name={key}{condition}")
    }

    async fn generation(&self, key: &str) -> Result<String> {
        let listing = Listing { prefix: Some(key.to_owned()), ..Listing::default() };
        let page = self.list_at_most(listing, Some(1)).await?;
        // In byte order the key itself is the first of those that begin with it.
        let first = page.objects.first().filter(|(found, _)| found == key);
        Ok(first.map_or_else(|| "0".to_owned(), |(_, found)| found.version.to_string()))
    }

    async fn list_at_most(&self, listing: Listing, most: Option<u32>) -> Result<Page> {
        let mut url = format!("{}/storage/v1/b/{}/o?", self.base, self.bucket);
        url.push_str("fields=items(name,size,generation,updated),prefixes,nextPageToken");
        let mut add = |name: &str, value: &str| {
            url.push_str(&format!("&{name}={}", raw::encoded(value, "")));
        };
        if let Some(prefix) = &listing.prefix {
            add("prefix", prefix);
        }
        if listing.dirs {
            add("delimiter", "/");
        }
        if let Some(after) = &listing.start_after {
            add("startOffset", after);
        }
        if let Some(token) = &listing.next {
            add("pageToken", token);
        }
        if let Some(most) = most {
            add("maxResults", &most.to_string());
        }
        let (_, body) = self.ask("GET", &url, &[], Bytes::new()).await?;
        let page: Objects = parsed(&body)?;
        let objects = page.items.into_iter().filter_map(|item| Some((item.name.clone(), item.found()?)));
        Ok(Page { objects: objects.collect(), dirs: page.prefixes, next: page.next_page_token })
    }
}

/// An upload's name: the generation that was there when it began, and where its parts go.
fn parts_of(id: &str) -> Result<(&str, &str)> {
    id.split_once(' ').ok_or_else(|| failed("not an upload"))
}

#[async_trait]
impl Service for Gcs {
    async fn put(&self, key: &str, body: Bytes, mode: &PutMode) -> Result<Option<Version>> {
        let boundary = format!("{BOUNDARY}{:032x}", rand::random::<u128>());
        let head = format!(
            "--{boundary}\r\nContent-Type: application/json\r\n\r\n{{}}\r\n--{boundary}\r\n\
             Content-Type: application/octet-stream\r\n\r\n"
        );
        let whole = [head.as_bytes(), &body, format!("\r\n--{boundary}--\r\n").as_bytes()].concat();
        let url = self.upload_url("multipart", key, required(mode));
        let kind = format!("multipart/related; boundary={boundary}");
        let (_, reply) = self.ask("POST", &url, &[("content-type", &kind)], whole.into()).await?;
        Ok(Some(Version::new(parsed::<Resource>(&reply)?.generation)))
    }

    async fn get(&self, key: &str, range: Option<GetRange>) -> Result<Opened> {
        read(&self.client, key, range, found).await
    }

    async fn head(&self, key: &str) -> Result<Found> {
        look_up(&self.client, key).await.map(|meta| found(&meta))
    }

    async fn list(&self, listing: Listing) -> Result<Page> {
        self.list_at_most(listing, None).await
    }

    async fn delete(&self, keys: &[String]) -> Result<()> {
        for key in keys {
            self.ask("DELETE", &self.object_url(key), &[], Bytes::new()).await?;
        }
        Ok(())
    }

    fn delete_batch(&self) -> usize {
        1
    }

    fn parts_in_order(&self) -> bool {
        true
    }

    async fn begin(&self, key: &str) -> Result<String> {
        let there = self.generation(key).await?;
        let url = self.upload_url("resumable", key, Some(&there));
        let headers = [("content-length", "0"), ("x-upload-content-type", "application/octet-stream")];
        let (headers, _) = self.ask("POST", &url, &headers, Bytes::new()).await?;
        let place = headers.get("location").and_then(|value| value.to_str().ok());
        let place = place.ok_or_else(|| failed("the reply names no place for the parts"))?;
        Ok(format!("{there} {place}"))
    }

    async fn part(&self, _key: &str, id: &str, part: Part) -> Result<String> {
        let last = part.offset + part.body.len() as u64 - 1;
        let range = format!("bytes {}-{last}/*", part.offset);
        self.ask("PUT", parts_of(id)?.1, &[("content-range", &range)], part.body).await?;
        Ok(String::new())
    }

    async fn complete(&self, upload: &Upload, mode: &PutMode) -> Result<Option<Version>> {
        let (there, place) = parts_of(&upload.id)?;
        if required(mode).is_some_and(|required| required != there) {
            let source = format!("generation {there} was there when the upload began").into();
            return Err(Error::Precondition { path: upload.key.clone(), source });
        }
        let offset = upload.size - upload.tail.len() as u64;
        let range = format!("bytes {offset}-{}/{}", upload.size - 1, upload.size);
        let (_, reply) = self.ask("PUT", place, &[("content-range", &range)], upload.tail.clone()).await?;
        Ok(Some(Version::new(parsed::<Resource>(&reply)?.generation)))
    }

    async fn abort(&self, _key: &str, id: &str) -> Result<()> {
        self.ask("DELETE", parts_of(id)?.1, &[("content-length", "0")], Bytes::new()).await.map(drop)
    }
}
