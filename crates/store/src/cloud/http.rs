//! What happens on the wire, seen from below `object_store`.
//!
//! `object_store` reports a missing key, a missing bucket and a proxy's own 404 alike, and does not tell the server's clock. This layer
//! sits between it and the HTTP client, counts requests and notes the status, the service's error code and the date of each reply, so
//! that absence can be proven and benchmarks show real requests. It also adds the headers that `object_store` has no words for
//! (a condition on completing an upload, a retention), and has the request signed again where they are part of its signature.

use super::lock::Retention;
use crate::counters::Meter;
use async_trait::async_trait;
use jiff::{Timestamp, fmt::rfc2822};
use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpResponse, HttpService,
    ReqwestConnector,
};
use object_store::{ClientOptions, HeaderMap, HeaderValue};
use std::{
    fmt,
    sync::{Arc, Mutex, OnceLock, PoisonError},
};

/// What was seen of one operation's latest request.
#[derive(Debug, Clone, Default)]
pub(super) struct Exchange {
    /// Requests sent to the storage service, without those for credentials.
    pub(super) sent: u32,
    /// The HTTP status of the latest reply.
    pub(super) status: Option<u16>,
    /// The service's error code in the latest reply.
    pub(super) code: Option<String>,
    /// The server's clock in the latest reply.
    pub(super) date: Option<Timestamp>,
    /// A good reply to a request for a range carried nothing.
    pub(super) empty_range: bool,
    /// Why there was no reply.
    pub(super) failure: Option<HttpErrorKind>,
}

/// The notebook of one operation, carried by its task.
#[derive(Debug, Clone, Default)]
pub(super) struct Notebook {
    latest: Arc<Mutex<Exchange>>,
    extra: Extra,
}

/// What requests carry besides what `object_store` gives them.
#[derive(Debug, Clone, Default)]
pub(super) struct Extra {
    /// A header for the request that completes an upload in parts: `object_store` has no conditions there.
    pub(super) condition: Option<(&'static str, HeaderValue)>,
    /// How long the object is locked, for the request that names it first.
    pub(super) retention: Option<Retention>,
}

/// Signs a request anew, after its headers were changed.
#[async_trait]
pub(super) trait Signer: fmt::Debug + Send + Sync {
    async fn sign(&self, request: &mut HttpRequest) -> object_store::Result<()>;
}

/// A signer that is known only after the client it signs for was built.
pub(super) type LateSigner = Arc<OnceLock<Box<dyn Signer>>>;

/// Whose requests these are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    S3,
    Gcs,
    Azure,
}

tokio::task_local! {
    static NOTEBOOK: Notebook;
}

impl Notebook {
    pub(super) fn with(extra: Extra) -> Self {
        Self { latest: Arc::default(), extra }
    }

    /// Runs an operation of which this notebook takes notes.
    pub(super) async fn follow<T>(&self, operation: impl Future<Output = T>) -> T {
        NOTEBOOK.scope(self.clone(), operation).await
    }

    pub(super) fn latest(&self) -> Exchange {
        self.latest.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn note(&self, change: impl FnOnce(&mut Exchange)) {
        change(&mut self.latest.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

/// Makes HTTP clients that take notes.
#[derive(Debug, Clone)]
pub(super) struct Connector {
    pub(super) kind: Kind,
    pub(super) meter: Arc<Meter>,
    /// The host of a configured endpoint; the services' own hosts are known by their names.
    pub(super) endpoint_host: Option<String>,
    pub(super) signer: LateSigner,
}

impl Connector {
    pub(super) fn new(kind: Kind, meter: &Arc<Meter>, endpoint: Option<&str>) -> Self {
        let endpoint_host =
            endpoint.and_then(|endpoint| url::Url::parse(endpoint).ok()?.host_str().map(str::to_owned));
        Self { kind, meter: Arc::clone(meter), endpoint_host, signer: LateSigner::default() }
    }
}

impl HttpConnector for Connector {
    fn connect(&self, options: &ClientOptions) -> object_store::Result<HttpClient> {
        let inner = ReqwestConnector::default().connect(options)?;
        Ok(HttpClient::new(Wire { inner, connector: self.clone() }))
    }
}

#[derive(Debug)]
struct Wire {
    inner: HttpClient,
    connector: Connector,
}

#[async_trait]
impl HttpService for Wire {
    async fn call(&self, mut request: HttpRequest) -> Result<HttpResponse, HttpError> {
        if !self.is_storage(request.uri().host().unwrap_or_default()) {
            return self.inner.execute(request).await;
        }
        let notebook = NOTEBOOK.try_with(Clone::clone).unwrap_or_default();
        let (method, uri) = (request.method().as_str(), request.uri());
        let sort = sort(self.connector.kind, method, uri.path(), uri.query().unwrap_or_default());
        self.count(sort, request.body().content_length());
        self.add(&notebook.extra, sort, &mut request).await?;
        notebook.note(|exchange| *exchange = Exchange { sent: exchange.sent + 1, ..Exchange::default() });
        let ranged = request.headers().contains_key("range");
        match self.inner.execute(request).await {
            Ok(response) => Self::noted(&notebook, response, ranged).await,
            Err(error) => {
                notebook.note(|exchange| exchange.failure = Some(error.kind()));
                Err(error)
            }
        }
    }
}

impl Wire {
    /// Whether a request goes to the storage service and not to one that hands out credentials.
    fn is_storage(&self, host: &str) -> bool {
        match (&self.connector.endpoint_host, self.connector.kind) {
            (Some(endpoint), _) => host == endpoint || host.ends_with(&format!(".{endpoint}")),
            (None, Kind::S3) => host.starts_with("s3") || host.contains(".s3"),
            (None, Kind::Gcs) => host.starts_with("storage."),
            (None, Kind::Azure) => host.contains(".blob."),
        }
    }

    fn count(&self, sort: Sort, body_bytes: usize) {
        let meter = &self.connector.meter;
        match sort {
            Sort::Read => meter.get(),
            Sort::Begin | Sort::Write | Sort::WriteWhole | Sort::Complete => meter.put(),
            Sort::List => meter.list(),
            Sort::Delete => meter.delete(),
        }
        if matches!(sort, Sort::Write | Sort::WriteWhole) {
            meter.wrote(body_bytes);
        }
    }

    /// Adds what the operation wants on this request.
    async fn add(&self, extra: &Extra, sort: Sort, request: &mut HttpRequest) -> Result<(), HttpError> {
        let before = request.headers().len();
        if let (Sort::Complete, Some((name, value))) = (sort, &extra.condition) {
            request.headers_mut().insert(*name, value.clone());
        }
        if let (Sort::Begin | Sort::WriteWhole, Some(retention)) = (sort, &extra.retention) {
            retention.add_to(request.headers_mut());
        }
        let signer = self.connector.signer.get().filter(|_| request.headers().len() > before);
        match signer {
            None => Ok(()),
            Some(signer) => {
                signer.sign(request).await.map_err(|error| HttpError::new(HttpErrorKind::Request, error))
            }
        }
    }

    /// Notes a reply. The body of a refusal is read for its code and handed on.
    async fn noted(
        notebook: &Notebook,
        response: HttpResponse,
        ranged: bool,
    ) -> Result<HttpResponse, HttpError> {
        let status = response.status().as_u16();
        let date = date(response.headers());
        let empty = response.headers().get("content-length").is_some_and(|length| length == "0");
        notebook.note(|exchange| {
            exchange.empty_range = ranged && empty && status < 300;
            exchange.status = Some(status);
            exchange.date = date;
        });
        if status < 400 {
            return Ok(response);
        }
        let (parts, body) = response.into_parts();
        let body = body.bytes().await?;
        let named = parts.headers.get("x-ms-error-code").and_then(|value| value.to_str().ok());
        let code = named.map(str::to_owned).or_else(|| error_code(&body));
        notebook.note(|exchange| exchange.code = code);
        Ok(HttpResponse::from_parts(parts, body.into()))
    }
}

/// What a request does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sort {
    Read,
    /// Begins an upload in parts.
    Begin,
    /// Sends a part.
    Write,
    /// Sends a whole object.
    WriteWhole,
    Complete,
    List,
    Delete,
}

fn sort(kind: Kind, method: &str, path: &str, query: &str) -> Sort {
    let value = |name: &str| {
        let mut pairs = query.split('&').map(|pair| pair.split_once('=').unwrap_or((pair, "")));
        pairs.find(|(found, _)| *found == name).map(|(_, value)| value)
    };
    let has = |name: &str| value(name).is_some();
    match (kind, method) {
        (Kind::S3, "GET") if has("list-type") || has("versions") || has("uploads") => Sort::List,
        (Kind::Azure, "GET") if value("comp") == Some("list") => Sort::List,
        (Kind::Gcs, "GET") if path.starts_with("/storage/v1/b/") => Sort::List,
        (_, "GET" | "HEAD") => Sort::Read,
        (_, "DELETE") => Sort::Delete,
        (Kind::S3, "POST") if has("delete") => Sort::Delete,
        (Kind::S3, "POST") if has("uploadId") => Sort::Complete,
        (Kind::S3, "POST") => Sort::Begin,
        (Kind::Gcs, "POST") if value("uploadType") == Some("resumable") => Sort::Begin,
        (Kind::Azure, "PUT") if value("comp") == Some("blocklist") => Sort::Complete,
        (Kind::S3, "PUT") if has("partNumber") => Sort::Write,
        (Kind::Azure, "PUT") if value("comp") == Some("block") => Sort::Write,
        (Kind::Gcs, "PUT") => Sort::Write,
        _ => Sort::WriteWhole,
    }
}

/// The `Code` element of an error document of S3 and Azure, and of Google's XML API. Its JSON API has no codes that tell an
/// object from a bucket, only sentences.
fn error_code(body: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(body).ok()?;
    if let Some((_, rest)) = text.split_once("<Code>") {
        let (code, _) = rest.split_once("</Code>")?;
        return Some(code.trim().to_owned());
    }
    if text.contains("No such object") {
        return Some("NoSuchKey".to_owned());
    }
    text.contains("bucket does not exist").then(|| "NoSuchBucket".to_owned())
}

fn date(headers: &HeaderMap) -> Option<Timestamp> {
    let text = headers.get("date")?.to_str().ok()?;
    rfc2822::DateTimeParser::new().parse_timestamp(text).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_counted_by_what_they_do() {
        let s3 = |method, query| sort(Kind::S3, method, "/bucket/key", query);
        assert_eq!(s3("GET", "list-type=2&prefix=wal%2F"), Sort::List);
        assert_eq!(s3("GET", ""), Sort::Read);
        assert_eq!(s3("HEAD", ""), Sort::Read);
        assert_eq!(s3("PUT", ""), Sort::WriteWhole);
        assert_eq!(s3("PUT", "partNumber=1&uploadId=x"), Sort::Write);
        assert_eq!(s3("POST", "uploads="), Sort::Begin);
        assert_eq!(s3("POST", "uploadId=x"), Sort::Complete);
        assert_eq!(s3("POST", "delete"), Sort::Delete);
        let azure = |method, query| sort(Kind::Azure, method, "/container/blob", query);
        assert_eq!(azure("GET", "restype=container&comp=list"), Sort::List);
        assert_eq!(azure("PUT", "comp=block&blockid=x"), Sort::Write);
        assert_eq!(azure("PUT", "comp=blocklist"), Sort::Complete);
        assert_eq!(azure("PUT", ""), Sort::WriteWhole);
        let gcs = |method, path, query| sort(Kind::Gcs, method, path, query);
        assert_eq!(gcs("GET", "/storage/v1/b/bucket/o", "prefix=x"), Sort::List);
        assert_eq!(gcs("GET", "/bucket/key", ""), Sort::Read);
        assert_eq!(gcs("POST", "/upload/storage/v1/b/bucket/o", "uploadType=resumable"), Sort::Begin);
        assert_eq!(gcs("POST", "/upload/storage/v1/b/bucket/o", "uploadType=multipart"), Sort::WriteWhole);
    }

    #[test]
    fn error_codes_and_dates_are_read() {
        let body = b"<?xml version=\"1.0\"?><Error><Code>NoSuchKey</Code><Key>x</Key></Error>";
        assert_eq!(error_code(body).as_deref(), Some("NoSuchKey"));
        assert_eq!(error_code(b"<html>Not Found</html>"), None);
        assert_eq!(error_code(b"No such object: b/x").as_deref(), Some("NoSuchKey"));
        let mut headers = HeaderMap::new();
        headers.insert("date", HeaderValue::from_static("Sun, 22 Nov 2026 21:04:22 GMT"));
        assert_eq!(date(&headers), "2026-11-22T21:04:22Z".parse().ok());
    }
}
