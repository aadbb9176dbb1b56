//! Settings of a store, as they stand in `pgproof.toml` or in one URL, and opening what they describe.
//!
//! Secrets are never part of a URL: command lines and logs show those.

use crate::{Cloud, Directory, ObjectPath, Result, Store, StoreError};
use serde::{Deserialize, Serialize, Serializer};
use std::{
    fmt, fs,
    path::{Path, PathBuf},
    time::Duration,
};
use url::Url;

/// Where a repository lives.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum StoreConfig {
    /// A directory of a local or network file system.
    Directory(DirectoryConfig),
    /// A bucket of S3 or of a service that speaks its protocol.
    S3(S3Config),
    /// A bucket of Google Cloud Storage.
    Gcs(GcsConfig),
    /// A container of Azure Blob Storage.
    Azure(AzureConfig),
}

/// Settings of a [`Directory`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DirectoryConfig {
    /// The directory, absolute.
    pub path: PathBuf,
}

/// Settings of S3 ([`Cloud::s3`]). What is not set is taken from the environment (`AWS_…`) and, for credentials, from the
/// instance's metadata service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct S3Config {
    /// The bucket. It must exist.
    pub bucket: String,
    /// What comes before every key; empty for the whole bucket.
    #[serde(default)]
    pub prefix: String,
    /// URL of a service other than AWS.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<String>,
    /// The bucket's region.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
    /// The public part of the credentials.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub access_key_id: Option<String>,
    /// The secret part of the credentials.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_access_key: Option<Secret>,
    /// A file whose content, without the line end, is the secret part of the credentials.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_access_key_file: Option<PathBuf>,
    /// The token that belongs to temporary credentials.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session_token: Option<Secret>,
    /// Whether the bucket is named in the path of URLs and not in their host. Default: only with an `endpoint`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path_style: Option<bool>,
    /// Whether an `http://` endpoint is accepted.
    #[serde(default)]
    pub allow_http: bool,
    /// Whether the service can remove many objects with one request (DeleteObjects).
    #[serde(default = "enabled")]
    pub bulk_delete: bool,
    /// How long one request may take, in seconds, besides the transfer of its bytes.
    #[serde(default = "default_timeout_s")]
    pub timeout_s: u64,
    /// After how many seconds a failing request is no longer repeated.
    #[serde(default = "default_retry_s")]
    pub retry_s: u64,
    /// Locks every object that is never written again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub object_lock: Option<ObjectLock>,
}

/// Who can lift the lock of an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LockMode {
    /// Whoever has `s3:BypassGovernanceRetention`.
    Governance,
    /// Nobody, not even the owner of the account.
    Compliance,
}

impl LockMode {
    pub(crate) fn in_header(self) -> &'static str {
        match self {
            Self::Governance => "GOVERNANCE",
            Self::Compliance => "COMPLIANCE",
        }
    }
}

/// What S3 object lock does to the objects stored from now on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ObjectLock {
    /// Who can lift it.
    pub mode: LockMode,
    /// For how long from the moment an object is stored.
    pub days: u32,
    /// Words that are part of the names of objects which are written again or removed in daily work. These are not locked.
    pub spare: Vec<String>,
}

impl ObjectLock {
    /// Whether an object is locked.
    pub(crate) fn covers(&self, path: &ObjectPath) -> bool {
        let spared = |word: &str| word == PROBE || self.spare.iter().any(|spare| spare == word);
        !path.as_str().split('/').any(spared)
    }
}

/// Where [`Store::probe`] works; nothing there stays.
pub(crate) const PROBE: &str = "pgproof-probe";

/// Settings of Google Cloud Storage ([`Cloud::gcs`]).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GcsConfig {
    /// The bucket. It must exist.
    pub bucket: String,
    /// What comes before every key; empty for the whole bucket.
    #[serde(default)]
    pub prefix: String,
    /// URL of a service other than Google's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<String>,
    /// The key file of a service account (JSON).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service_account_file: Option<PathBuf>,
    /// Ask without credentials, as emulators want it.
    #[serde(default)]
    pub anonymous: bool,
    /// Whether an `http://` endpoint is accepted.
    #[serde(default)]
    pub allow_http: bool,
    /// How long one request may take, in seconds, besides the transfer of its bytes.
    #[serde(default = "default_timeout_s")]
    pub timeout_s: u64,
    /// After how many seconds a failing request is no longer repeated.
    #[serde(default = "default_retry_s")]
    pub retry_s: u64,
}

/// Settings of Azure Blob Storage ([`Cloud::azure`]). What is not set is taken from the environment (`AZURE_STORAGE_…`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AzureConfig {
    /// The container. It must exist.
    pub container: String,
    /// What comes before every name; empty for the whole container.
    #[serde(default)]
    pub prefix: String,
    /// The storage account.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub account: Option<String>,
    /// URL of a service other than `https://ACCOUNT.blob.core.windows.net`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<String>,
    /// One of the account's keys.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub access_key: Option<Secret>,
    /// A file whose content, without the line end, is one of the account's keys.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub access_key_file: Option<PathBuf>,
    /// A file whose content, without the line end, is a shared access signature.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sas_token_file: Option<PathBuf>,
    /// Whether an `http://` endpoint is accepted.
    #[serde(default)]
    pub allow_http: bool,
    /// How long one request may take, in seconds, besides the transfer of its bytes.
    #[serde(default = "default_timeout_s")]
    pub timeout_s: u64,
    /// After how many seconds a failing request is no longer repeated.
    #[serde(default = "default_retry_s")]
    pub retry_s: u64,
}

fn enabled() -> bool {
    true
}

fn default_timeout_s() -> u64 {
    30
}

/// PostgreSQL repeats a failing `archive_command` by itself, so giving up after a minute loses nothing and says what is wrong.
fn default_retry_s() -> u64 {
    60
}

/// A text that is never shown.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// Takes a secret.
    pub fn new(secret: impl Into<String>) -> Self {
        Self(secret.into())
    }

    /// The secret itself.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(hidden)")
    }
}

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str("(hidden)")
    }
}

impl StoreConfig {
    /// Reads the URL form: `/path`, `file:///path`, or `s3://bucket/prefix?endpoint=…&region=…`, `gs://…`, `az://…` with the names of
    /// the settings of [`S3Config`], [`GcsConfig`], [`AzureConfig`].
    ///
    /// # Errors
    /// [`StoreError::Setting`] says which part cannot be used.
    pub fn from_url(text: &str) -> Result<Self> {
        if text.starts_with('/') {
            return Ok(Self::directory(text));
        }
        let url = Url::parse(text).map_err(|error| unusable(format!("`{text}`: {error}")))?;
        match url.scheme() {
            "file" => {
                let path = url.to_file_path().map_err(|()| unusable("`file:` needs an absolute path"))?;
                Ok(Self::directory(path))
            }
            "s3" => S3Config::from_url(&url).map(Self::S3),
            "gs" => GcsConfig::from_url(&url).map(Self::Gcs),
            "az" => AzureConfig::from_url(&url).map(Self::Azure),
            other => Err(unusable(format!(
                "`{other}:` is not a kind of store; use a path, `file:`, `s3:`, `gs:` or `az:`"
            ))),
        }
    }

    /// A directory.
    pub fn directory(path: impl Into<PathBuf>) -> Self {
        Self::Directory(DirectoryConfig { path: path.into() })
    }

    /// The place as [`Store::describe`] will name it.
    pub fn describe(&self) -> String {
        match self {
            Self::Directory(config) => format!("directory {}", config.path.display()),
            Self::S3(config) => config.describe(),
            Self::Gcs(config) => config.describe(),
            Self::Azure(config) => config.describe(),
        }
    }

    /// How long every object that is written once is locked; none where nothing is.
    pub fn locked_for(&self) -> Option<Duration> {
        match self {
            Self::S3(config) => {
                config.object_lock.as_ref().map(|lock| Duration::from_secs(24 * 3600 * u64::from(lock.days)))
            }
            _ => None,
        }
    }

    /// Opens the store of an existing repository.
    ///
    /// # Errors
    /// [`StoreError::NoRepository`] for a directory without a repository. For a bucket nothing is asked yet: reading the repository's first
    /// object tells as much.
    pub fn open(&self) -> Result<Box<dyn Store>> {
        match self {
            Self::Directory(config) => Ok(Box::new(Directory::open(config.absolute()?)?)),
            Self::S3(config) => Ok(Box::new(Cloud::s3(config)?)),
            Self::Gcs(config) => Ok(Box::new(Cloud::gcs(config)?)),
            Self::Azure(config) => Ok(Box::new(Cloud::azure(config)?)),
        }
    }

    /// Opens the place of a new repository. A directory is made where it is missing; a bucket must exist.
    pub fn create(&self) -> Result<Box<dyn Store>> {
        match self {
            Self::Directory(config) => Ok(Box::new(Directory::create(config.absolute()?)?)),
            Self::S3(config) => Ok(Box::new(Cloud::s3(config)?)),
            Self::Gcs(config) => Ok(Box::new(Cloud::gcs(config)?)),
            Self::Azure(config) => Ok(Box::new(Cloud::azure(config)?)),
        }
    }
}

impl DirectoryConfig {
    /// PostgreSQL runs archive commands in its data directory, so a relative path would mean a different place there.
    fn absolute(&self) -> Result<&PathBuf> {
        if self.path.is_absolute() {
            return Ok(&self.path);
        }
        let reason = format!("`{}` is not an absolute path", self.path.display());
        Err(StoreError::Setting { setting: "path", reason })
    }
}

impl S3Config {
    /// A bucket with all other settings at their defaults.
    pub fn bucket(bucket: impl Into<String>) -> Self {
        Self {
            bucket: bucket.into(),
            prefix: String::new(),
            endpoint: None,
            region: None,
            access_key_id: None,
            secret_access_key: None,
            secret_access_key_file: None,
            session_token: None,
            path_style: None,
            allow_http: false,
            bulk_delete: enabled(),
            timeout_s: default_timeout_s(),
            retry_s: default_retry_s(),
            object_lock: None,
        }
    }

    fn from_url(url: &Url) -> Result<Self> {
        let mut config = Self::bucket(named(url, "`s3:` needs a bucket: s3://bucket/prefix")?);
        config.prefix = prefix_of(url);
        for (name, value) in url.query_pairs() {
            let value = value.into_owned();
            match name.as_ref() {
                "endpoint" => config.endpoint = Some(value),
                "region" => config.region = Some(value),
                "access_key_id" => config.access_key_id = Some(value),
                "secret_access_key_file" => config.secret_access_key_file = Some(value.into()),
                "path_style" => config.path_style = Some(parsed("path_style", &value)?),
                "allow_http" => config.allow_http = parsed("allow_http", &value)?,
                "bulk_delete" => config.bulk_delete = parsed("bulk_delete", &value)?,
                "timeout_s" => config.timeout_s = parsed("timeout_s", &value)?,
                "retry_s" => config.retry_s = parsed("retry_s", &value)?,
                "secret_access_key" | "session_token" => {
                    return Err(StoreError::Setting {
                        setting: "secret_access_key",
                        reason: "a URL shows in logs and process lists; use secret_access_key_file or AWS_SECRET_ACCESS_KEY"
                            .to_owned(),
                    });
                }
                other => return Err(unusable(format!("`{other}` is not a setting of an S3 store"))),
            }
        }
        Ok(config)
    }

    pub(crate) fn describe(&self) -> String {
        place("s3", &self.bucket, &self.prefix)
    }

    pub(crate) fn uses_path_style(&self) -> bool {
        self.path_style.unwrap_or(self.endpoint.is_some())
    }

    /// The secret, from wherever it is set.
    pub(crate) fn secret(&self) -> Result<Option<Secret>> {
        match &self.secret_access_key_file {
            None => Ok(self.secret_access_key.clone()),
            Some(file) => secret_in("secret_access_key_file", file).map(Some),
        }
    }

    /// The endpoint as `object_store` wants it: with the bucket in its host unless paths name it.
    pub(crate) fn service_url(&self) -> Result<Option<String>> {
        let Some(endpoint) = &self.endpoint else {
            return Ok(None);
        };
        let mut url = endpoint_url(endpoint, self.allow_http)?;
        if !self.uses_path_style() {
            let host = format!("{}.{}", self.bucket, url.host_str().unwrap_or_default());
            url.set_host(Some(&host)).map_err(|error| bad_endpoint(format!("`{host}`: {error}")))?;
        }
        Ok(Some(without_slash(&url)))
    }
}

impl GcsConfig {
    /// A bucket with all other settings at their defaults.
    pub fn bucket(bucket: impl Into<String>) -> Self {
        Self {
            bucket: bucket.into(),
            prefix: String::new(),
            endpoint: None,
            service_account_file: None,
            anonymous: false,
            allow_http: false,
            timeout_s: default_timeout_s(),
            retry_s: default_retry_s(),
        }
    }

    fn from_url(url: &Url) -> Result<Self> {
        let mut config = Self::bucket(named(url, "`gs:` needs a bucket: gs://bucket/prefix")?);
        config.prefix = prefix_of(url);
        for (name, value) in url.query_pairs() {
            let value = value.into_owned();
            match name.as_ref() {
                "endpoint" => config.endpoint = Some(value),
                "service_account_file" => config.service_account_file = Some(value.into()),
                "anonymous" => config.anonymous = parsed("anonymous", &value)?,
                "allow_http" => config.allow_http = parsed("allow_http", &value)?,
                "timeout_s" => config.timeout_s = parsed("timeout_s", &value)?,
                "retry_s" => config.retry_s = parsed("retry_s", &value)?,
                other => return Err(unusable(format!("`{other}` is not a setting of a gs: store"))),
            }
        }
        Ok(config)
    }

    pub(crate) fn describe(&self) -> String {
        place("gs", &self.bucket, &self.prefix)
    }

    pub(crate) fn service_url(&self) -> Result<Option<String>> {
        let endpoint = self.endpoint.as_deref();
        endpoint.map(|endpoint| Ok(without_slash(&endpoint_url(endpoint, self.allow_http)?))).transpose()
    }
}

impl AzureConfig {
    /// A container with all other settings at their defaults.
    pub fn container(container: impl Into<String>) -> Self {
        Self {
            container: container.into(),
            prefix: String::new(),
            account: None,
            endpoint: None,
            access_key: None,
            access_key_file: None,
            sas_token_file: None,
            allow_http: false,
            timeout_s: default_timeout_s(),
            retry_s: default_retry_s(),
        }
    }

    fn from_url(url: &Url) -> Result<Self> {
        let mut config = Self::container(named(url, "`az:` needs a container: az://container/prefix")?);
        config.prefix = prefix_of(url);
        for (name, value) in url.query_pairs() {
            let value = value.into_owned();
            match name.as_ref() {
                "account" => config.account = Some(value),
                "endpoint" => config.endpoint = Some(value),
                "access_key_file" => config.access_key_file = Some(value.into()),
                "sas_token_file" => config.sas_token_file = Some(value.into()),
                "allow_http" => config.allow_http = parsed("allow_http", &value)?,
                "timeout_s" => config.timeout_s = parsed("timeout_s", &value)?,
                "retry_s" => config.retry_s = parsed("retry_s", &value)?,
                "access_key" | "sas_token" | "sig" => {
                    return Err(StoreError::Setting {
                        setting: "access_key",
                        reason: "a URL shows in logs and process lists; use access_key_file, sas_token_file or AZURE_STORAGE_KEY"
                            .to_owned(),
                    });
                }
                other => return Err(unusable(format!("`{other}` is not a setting of an az: store"))),
            }
        }
        Ok(config)
    }

    pub(crate) fn describe(&self) -> String {
        place("az", &self.container, &self.prefix)
    }

    /// The account's key, from wherever it is set.
    pub(crate) fn access_key(&self) -> Result<Option<Secret>> {
        match &self.access_key_file {
            None => Ok(self.access_key.clone()),
            Some(file) => secret_in("access_key_file", file).map(Some),
        }
    }

    pub(crate) fn sas_token(&self) -> Result<Option<Secret>> {
        self.sas_token_file.as_deref().map(|file| secret_in("sas_token_file", file)).transpose()
    }

    pub(crate) fn service_url(&self) -> Result<Option<String>> {
        let endpoint = self.endpoint.as_deref();
        endpoint.map(|endpoint| Ok(without_slash(&endpoint_url(endpoint, self.allow_http)?))).transpose()
    }
}

/// The bucket or container of a URL.
fn named<'a>(url: &'a Url, missing: &str) -> Result<&'a str> {
    url.host_str().filter(|host| !host.is_empty()).ok_or_else(|| unusable(missing))
}

fn prefix_of(url: &Url) -> String {
    url.path().trim_matches('/').to_owned()
}

fn place(scheme: &str, bucket: &str, prefix: &str) -> String {
    match prefix.trim_matches('/') {
        "" => format!("{scheme}://{bucket}"),
        prefix => format!("{scheme}://{bucket}/{prefix}"),
    }
}

fn secret_in(setting: &'static str, file: &Path) -> Result<Secret> {
    match fs::read_to_string(file) {
        Ok(text) => Ok(Secret::new(text.trim_end_matches(['\r', '\n']))),
        Err(error) => Err(StoreError::Setting { setting, reason: format!("`{}`: {error}", file.display()) }),
    }
}

fn bad_endpoint(reason: String) -> StoreError {
    StoreError::Setting { setting: "endpoint", reason }
}

/// An address, which must not be an unencrypted one by accident.
fn endpoint_url(endpoint: &str, allow_http: bool) -> Result<Url> {
    let url = Url::parse(endpoint).map_err(|error| bad_endpoint(format!("`{endpoint}`: {error}")))?;
    if url.scheme() == "http" && !allow_http {
        return Err(bad_endpoint(format!(
            "`{endpoint}` is not encrypted; set allow_http if that is intended"
        )));
    }
    Ok(url)
}

fn without_slash(url: &Url) -> String {
    url.as_str().trim_end_matches('/').to_owned()
}

fn parsed<T: std::str::FromStr>(setting: &'static str, value: &str) -> Result<T> {
    value
        .parse()
        .map_err(|_| StoreError::Setting { setting, reason: format!("`{value}` is not a valid value") })
}

fn unusable(reason: impl Into<String>) -> StoreError {
    StoreError::Setting { setting: "url", reason: reason.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_describe_stores() {
        let directory = StoreConfig::directory("/backup/main");
        assert_eq!(StoreConfig::from_url("/backup/main").unwrap(), directory);
        assert_eq!(StoreConfig::from_url("file:///backup/main").unwrap(), directory);
        let url =
            "s3://bucket/a/b/?endpoint=http://127.0.0.1:5000&allow_http=true&path_style=true&region=eu-1";
        let expected = S3Config {
            prefix: "a/b".to_owned(),
            endpoint: Some("http://127.0.0.1:5000".to_owned()),
            allow_http: true,
            path_style: Some(true),
            region: Some("eu-1".to_owned()),
            ..S3Config::bucket("bucket")
        };
        let config = StoreConfig::from_url(url).unwrap();
        assert_eq!(config, StoreConfig::S3(expected));
        assert_eq!(config.describe(), "s3://bucket/a/b");
        let google = GcsConfig { prefix: "p".to_owned(), ..GcsConfig::bucket("b") };
        assert_eq!(StoreConfig::from_url("gs://b/p").unwrap(), StoreConfig::Gcs(google));
        let azure = AzureConfig { account: Some("a".to_owned()), ..AzureConfig::container("c") };
        assert_eq!(StoreConfig::from_url("az://c?account=a").unwrap(), StoreConfig::Azure(azure));
    }

    #[test]
    fn unusable_urls_are_refused_with_the_reason() {
        let refused = |url: &str| StoreConfig::from_url(url).unwrap_err().to_string();
        assert!(refused("relative/path").contains("relative"));
        assert!(refused("ftp://host/x").contains("not a kind of store"));
        assert!(refused("s3:///prefix").contains("bucket"));
        assert!(refused("s3://b?colour=red").contains("colour"));
        assert!(refused("s3://b?allow_http=perhaps").contains("allow_http"));
        assert!(refused("s3://b?secret_access_key=hunter2").contains("secret_access_key_file"));
        assert!(refused("gs:///prefix").contains("bucket"));
        assert!(refused("az://c?access_key=hunter2").contains("access_key_file"));
    }

    #[test]
    fn secrets_are_not_shown() {
        let config = S3Config { secret_access_key: Some(Secret::new("hunter2")), ..S3Config::bucket("b") };
        assert!(!format!("{config:?}").contains("hunter2"));
    }

    #[test]
    fn an_unencrypted_endpoint_needs_permission() {
        let config = S3Config { endpoint: Some("http://minio:9000".to_owned()), ..S3Config::bucket("b") };
        assert!(config.service_url().is_err());
        let allowed = S3Config { allow_http: true, ..config };
        assert_eq!(allowed.service_url().unwrap().as_deref(), Some("http://minio:9000"));
        let virtual_host = S3Config { path_style: Some(false), ..allowed };
        assert_eq!(virtual_host.service_url().unwrap().as_deref(), Some("http://b.minio:9000"));
    }
}
