//! The client for S3 and services that speak its protocol.

use super::http::{Connector, Kind, Signer};
use super::raw::{self, answered};
use super::through::{Remover, Through};
use super::{Settings, client_options, no_retries};
use crate::config::S3Config;
use crate::counters::Meter;
use crate::{Result, StoreError};
use async_trait::async_trait;
use bytes::Bytes;
use object_store::aws::{AmazonS3, AmazonS3Builder, AmazonS3ConfigKey, AwsAuthorizer, Checksum};
use object_store::client::{HttpClient, HttpConnector, HttpRequest};
use std::sync::Arc;

/// Turns settings into a service. What is not set comes from the environment, as `object_store` documents it (`AWS_…`), and
/// credentials at last from the instance's metadata service.
pub(super) fn service(config: &S3Config, meter: &Arc<Meter>) -> Result<Settings> {
    let mut builder = AmazonS3Builder::from_env()
        .with_client_options(client_options(config.allow_http))
        .with_bucket_name(&config.bucket)
        .with_virtual_hosted_style_request(!config.uses_path_style())
        .with_disable_bulk_delete(!config.bulk_delete)
        .with_retry(no_retries());
    if config.object_lock.is_some() {
        // S3 takes no locked object without a checksum of its content.
        builder = builder.with_checksum_algorithm(Checksum::SHA256);
    }
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
    let set = |key: AmazonS3ConfigKey| builder.get_config_value(&key);
    let endpoint = set(AmazonS3ConfigKey::S3Endpoint).or_else(|| set(AmazonS3ConfigKey::Endpoint));
    let region = set(AmazonS3ConfigKey::Region).unwrap_or_else(|| "us-east-1".to_owned());
    let connector = Connector::new(Kind::S3, meter, endpoint.as_deref());
    let client = builder
        .with_http_connector(connector.clone())
        .build()
        .map_err(|error| StoreError::Setting { setting: "s3", reason: error.to_string() })?;
    let client = Arc::new(client);
    let mut remover = None;
    if config.object_lock.is_some() {
        // Only headers of a retention need another signature; conditions are not part of it.
        let signer = S3Signer { client: Arc::clone(&client), region };
        let bucket_url = bucket_url(config, endpoint, &signer.region);
        let http = connector
            .connect(&client_options(config.allow_http))
            .map_err(|error| StoreError::Setting { setting: "s3", reason: error.to_string() })?;
        remover =
            Some(Box::new(VersionRemover { signer: signer.clone(), http, bucket_url }) as Box<dyn Remover>);
        let _ = connector.signer.set(Box::new(signer));
    }
    Ok(Settings { service: Arc::new(Through { kind: Kind::S3, client, remover }), place: config.describe() })
}

fn bucket_url(config: &S3Config, endpoint: Option<String>, region: &str) -> String {
    let bucket = &config.bucket;
    match (endpoint, config.uses_path_style()) {
        (Some(endpoint), true) => format!("{}/{bucket}", endpoint.trim_end_matches('/')),
        // `service_url` has put the bucket in the host already.
        (Some(endpoint), false) => endpoint.trim_end_matches('/').to_owned(),
        (None, true) => format!("https://s3.{region}.amazonaws.com/{bucket}"),
        (None, false) => format!("https://{bucket}.s3.{region}.amazonaws.com"),
    }
}

/// Removes an object from a bucket that keeps versions: each of them by name, so that nothing of it is stored any more. A removal
/// without a version would only hide the object, and one that is locked would be refused for ever after by what it hides.
#[derive(Debug)]
struct VersionRemover {
    signer: S3Signer,
    http: HttpClient,
    bucket_url: String,
}

/// Versions that one listing names at most; leases have many.
const LISTINGS_MAX: usize = 1000;

impl VersionRemover {
    async fn ask(&self, method: &str, url: &str) -> object_store::Result<Bytes> {
        let mut request = raw::request(method, url, &[], Bytes::new())?;
        self.signer.sign(&mut request).await?;
        Ok(answered(self.http.execute(request).await).await?.1)
    }

    async fn versions(&self, key: &str) -> object_store::Result<Vec<String>> {
        let url = format!("{}?prefix={}&versions=", self.bucket_url, raw::encoded(key, ""));
        let listing = self.ask("GET", &url).await?;
        Ok(versions_of(key, &String::from_utf8_lossy(&listing)))
    }
}

#[async_trait]
impl Remover for VersionRemover {
    async fn remove(&self, key: &str) -> object_store::Result<()> {
        let object = format!("{}/{}", self.bucket_url, raw::encoded(key, "/"));
        for _ in 0..LISTINGS_MAX {
            let versions = self.versions(key).await?;
            if versions.is_empty() {
                return Ok(());
            }
            for version in versions {
                self.ask("DELETE", &format!("{object}?versionId={}", raw::encoded(&version, ""))).await?;
            }
        }
        Err(raw::failed("it gets new versions faster than they can be removed"))
    }
}

/// The versions of one key in a listing of versions, delete markers among them. Keys of pgproof have no characters that XML or
/// URLs write differently; a prefix that has some is compared as it is written in XML.
fn versions_of(key: &str, listing: &str) -> Vec<String> {
    let key = key.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    let entries = ["<Version>", "<DeleteMarker>"].into_iter().flat_map(|tag| listing.split(tag).skip(1));
    let versions = entries.filter_map(|entry| {
        let element = |name: &str| {
            let (_, rest) = entry.split_once(&format!("<{name}>"))?;
            rest.split_once("</").map(|(text, _)| text)
        };
        (element("Key")? == key).then(|| element("VersionId").map(str::to_owned))?
    });
    versions.collect()
}

/// Names the SHA-256 of the body.
const DIGEST: &str = "x-amz-content-sha256";

/// The digest that a signed request carries.
fn digest_of(request: &HttpRequest) -> Option<Vec<u8>> {
    let text = request.headers().get(DIGEST)?.to_str().ok().filter(|text| text.len() == 64)?;
    let byte = |at: usize| u8::from_str_radix(text.get(at..at + 2)?, 16).ok();
    (0..text.len()).step_by(2).map(byte).collect()
}

/// Signs a request whose headers were changed after `object_store` had signed it.
#[derive(Debug, Clone)]
struct S3Signer {
    client: Arc<AmazonS3>,
    region: String,
}

#[async_trait]
impl Signer for S3Signer {
    async fn sign(&self, request: &mut HttpRequest) -> object_store::Result<()> {
        let credential = self.client.credentials().get_credential().await?;
        // The body is the one that was signed before, so its digest stands; what streams cannot be read again here.
        let digest = digest_of(request);
        let unsigned = request.headers().get(DIGEST).is_some_and(|value| value == "UNSIGNED-PAYLOAD");
        AwsAuthorizer::new(&credential, "s3", &self.region)
            .with_sign_payload(!unsigned)
            .try_authorize(request, digest.as_deref())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_signature_covers_the_new_headers_and_keeps_the_digest_of_the_body() {
        let client = AmazonS3Builder::new()
            .with_bucket_name("b")
            .with_region("us-east-1")
            .with_access_key_id("key")
            .with_secret_access_key("secret")
            .build()
            .unwrap();
        let signer = S3Signer { client: Arc::new(client), region: "us-east-1".to_owned() };
        let digest = "ab".repeat(32);
        let headers = [(DIGEST, digest.as_str()), ("x-amz-object-lock-mode", "COMPLIANCE")];
        let mut request = raw::request("PUT", "http://s3/b/x", &headers, Bytes::from_static(b"x")).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(signer.sign(&mut request)).unwrap();
        assert_eq!(request.headers()[DIGEST], digest);
        let authorization = request.headers()["authorization"].to_str().unwrap();
        assert!(authorization.contains("x-amz-object-lock-mode"), "{authorization}");
    }

    #[test]
    fn versions_are_those_of_the_key_alone() {
        let listing = "<ListVersionsResult><Version><Key>a/b</Key><VersionId>1</VersionId></Version>\
            <Version><Key>a/bc</Key><VersionId>2</VersionId></Version>\
            <DeleteMarker><Key>a/b</Key><VersionId>3</VersionId></DeleteMarker></ListVersionsResult>";
        assert_eq!(versions_of("a/b", listing), ["1", "3"]);
    }
}
