//! Settings of a store, as they stand in `pgproof.toml` or in one URL, and opening what they describe.
//!
//! Secrets are never part of a URL: command lines and logs show those.

use crate::{Directory, Result, S3, Store, StoreError};
use serde::{Deserialize, Serialize, Serializer};
use std::{fmt, fs, path::PathBuf};
use url::Url;

/// Where a repository lives.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum StoreConfig {
    /// A directory of a local or network file system.
    Directory(DirectoryConfig),
    /// A bucket of S3 or of a service that speaks its protocol.
    S3(S3Config),
}

/// Settings of a [`Directory`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DirectoryConfig {
    /// The directory, absolute.
    pub path: PathBuf,
}

/// Settings of an [`S3`] store. What is not set is taken from the environment (`AWS_…`) and, for credentials, from the
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
    /// Reads the URL form: `/path`, `file:///path`, or `s3://bucket/prefix?endpoint=…&region=…` with the names of the settings
    /// of [`S3Config`].
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
            other => {
                Err(unusable(format!("`{other}:` is not a kind of store; use a path, `file:` or `s3:`")))
            }
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
        }
    }

    /// Opens the store of an existing repository.
    ///
    /// # Errors
    /// [`StoreError::NoRepository`] for a directory without a repository. For S3 nothing is asked yet: reading the repository's first
    /// object tells as much.
    pub fn open(&self) -> Result<Box<dyn Store>> {
        match self {
            Self::Directory(config) => Ok(Box::new(Directory::open(config.absolute()?)?)),
            Self::S3(config) => Ok(Box::new(S3::new(config)?)),
        }
    }

    /// Opens the place of a new repository. A directory is made where it is missing; a bucket must exist.
    pub fn create(&self) -> Result<Box<dyn Store>> {
        match self {
            Self::Directory(config) => Ok(Box::new(Directory::create(config.absolute()?)?)),
            Self::S3(config) => Ok(Box::new(S3::new(config)?)),
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
        }
    }

    fn from_url(url: &Url) -> Result<Self> {
        let bucket = url.host_str().filter(|host| !host.is_empty());
        let mut config =
            Self::bucket(bucket.ok_or_else(|| unusable("`s3:` needs a bucket: s3://bucket/prefix"))?);
        config.prefix = url.path().trim_matches('/').to_owned();
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
        match self.prefix.trim_matches('/') {
            "" => format!("s3://{}", self.bucket),
            prefix => format!("s3://{}/{prefix}", self.bucket),
        }
    }

    pub(crate) fn uses_path_style(&self) -> bool {
        self.path_style.unwrap_or(self.endpoint.is_some())
    }

    /// The secret, from wherever it is set.
    pub(crate) fn secret(&self) -> Result<Option<Secret>> {
        let Some(file) = &self.secret_access_key_file else {
            return Ok(self.secret_access_key.clone());
        };
        match fs::read_to_string(file) {
            Ok(text) => Ok(Some(Secret::new(text.trim_end_matches(['\r', '\n'])))),
            Err(error) => Err(StoreError::Setting {
                setting: "secret_access_key_file",
                reason: format!("`{}`: {error}", file.display()),
            }),
        }
    }

    /// The endpoint as `object_store` wants it: with the bucket in its host unless paths name it.
    pub(crate) fn service_url(&self) -> Result<Option<String>> {
        let Some(endpoint) = &self.endpoint else {
            return Ok(None);
        };
        let setting = "endpoint";
        let mut url = Url::parse(endpoint)
            .map_err(|error| StoreError::Setting { setting, reason: format!("`{endpoint}`: {error}") })?;
        if url.scheme() == "http" && !self.allow_http {
            let reason = format!("`{endpoint}` is not encrypted; set allow_http if that is intended");
            return Err(StoreError::Setting { setting, reason });
        }
        if !self.uses_path_style() {
            let host = format!("{}.{}", self.bucket, url.host_str().unwrap_or_default());
            url.set_host(Some(&host))
                .map_err(|error| StoreError::Setting { setting, reason: format!("`{host}`: {error}") })?;
        }
        Ok(Some(url.as_str().trim_end_matches('/').to_owned()))
    }
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
