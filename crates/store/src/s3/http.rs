//! What happens on the wire, seen from below `object_store`.
//!
//! `object_store` reports a missing key, a missing bucket and a proxy's own 404 alike, and does not tell the server's clock. This layer
//! sits between it and the HTTP client, counts requests and notes the status, the S3 error code and the date of each reply, so
//! that absence can be proven and benchmarks show real requests.

use crate::counters::Meter;
use async_trait::async_trait;
use jiff::{Timestamp, fmt::rfc2822};
use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpResponse, HttpService,
    ReqwestConnector,
};
use object_store::{ClientOptions, HeaderMap, HeaderValue};
use std::sync::{Arc, Mutex, PoisonError};

/// What was seen of one operation's latest request.
#[derive(Debug, Clone, Default)]
pub(super) struct Exchange {
    /// Requests sent to the storage service, without those for credentials.
    pub(super) sent: u32,
    /// The HTTP status of the latest reply.
    pub(super) status: Option<u16>,
    /// The S3 error code in the latest reply.
    pub(super) code: Option<String>,
    /// The server's clock in the latest reply.
    pub(super) date: Option<Timestamp>,
    /// Why there was no reply.
    pub(super) failure: Option<HttpErrorKind>,
}

/// The notebook of one operation, carried by its task.
#[derive(Debug, Clone, Default)]
pub(super) struct Notebook {
    latest: Arc<Mutex<Exchange>>,
    /// A header for the request that completes an upload in parts: `object_store` has no conditions there.
    condition: Option<(&'static str, HeaderValue)>,
}

tokio::task_local! {
    static NOTEBOOK: Notebook;
}

impl Notebook {
    pub(super) fn with_condition(condition: Option<(&'static str, HeaderValue)>) -> Self {
        Self { latest: Arc::default(), condition }
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
#[derive(Debug)]
pub(super) struct Connector {
    pub(super) meter: Arc<Meter>,
    /// The host of a configured endpoint; AWS's own hosts are known by their names.
    pub(super) endpoint_host: Option<String>,
}

impl HttpConnector for Connector {
    fn connect(&self, options: &ClientOptions) -> object_store::Result<HttpClient> {
        let inner = ReqwestConnector::default().connect(options)?;
        Ok(HttpClient::new(Wire {
            inner,
            meter: Arc::clone(&self.meter),
            endpoint_host: self.endpoint_host.clone(),
        }))
    }
}

#[derive(Debug)]
struct Wire {
    inner: HttpClient,
    meter: Arc<Meter>,
    endpoint_host: Option<String>,
}

#[async_trait]
impl HttpService for Wire {
    async fn call(&self, mut request: HttpRequest) -> Result<HttpResponse, HttpError> {
        if !self.is_storage(request.uri().host().unwrap_or_default()) {
            return self.inner.execute(request).await;
        }
        let notebook = NOTEBOOK.try_with(Clone::clone).unwrap_or_default();
        let sort = sort(request.method().as_str(), request.uri().query().unwrap_or_default());
        self.count(&sort, request.body().content_length());
        if let (Sort::Complete, Some((name, value))) = (&sort, &notebook.condition) {
            request.headers_mut().insert(*name, value.clone());
        }
        notebook.note(|exchange| *exchange = Exchange { sent: exchange.sent + 1, ..Exchange::default() });
        match self.inner.execute(request).await {
            Ok(response) => Self::noted(&notebook, response).await,
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
        match &self.endpoint_host {
            Some(endpoint) => host == endpoint || host.ends_with(&format!(".{endpoint}")),
            None => host.starts_with("s3") || host.contains(".s3"),
        }
    }

    fn count(&self, sort: &Sort, body_bytes: usize) {
        match sort {
            Sort::Read => self.meter.get(),
            Sort::Write | Sort::Complete => self.meter.put(),
            Sort::List => self.meter.list(),
            Sort::Delete => self.meter.delete(),
        }
        if matches!(sort, Sort::Write) {
            self.meter.wrote(body_bytes);
        }
    }

    /// Notes a reply. The body of a refusal is read for its code and handed on.
    async fn noted(notebook: &Notebook, response: HttpResponse) -> Result<HttpResponse, HttpError> {
        let status = response.status().as_u16();
        let date = date(response.headers());
        notebook.note(|exchange| {
            exchange.status = Some(status);
            exchange.date = date;
        });
        if status < 400 {
            return Ok(response);
        }
        let (parts, body) = response.into_parts();
        let body = body.bytes().await?;
        let code = error_code(&body);
        notebook.note(|exchange| exchange.code = code);
        Ok(HttpResponse::from_parts(parts, body.into()))
    }
}

/// What a request does, as far as counting goes.
#[derive(Debug, PartialEq, Eq)]
enum Sort {
    Read,
    Write,
    Complete,
    List,
    Delete,
}

fn sort(method: &str, query: &str) -> Sort {
    let has = |name: &str| query.split('&').any(|pair| pair.split('=').next() == Some(name));
    match method {
        "GET" if has("list-type") => Sort::List,
        "GET" | "HEAD" => Sort::Read,
        "DELETE" => Sort::Delete,
        "POST" if has("delete") => Sort::Delete,
        "POST" if has("uploadId") => Sort::Complete,
        _ => Sort::Write,
    }
}

/// The `Code` element of an S3 error document.
fn error_code(body: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(body).ok()?;
    let (_, rest) = text.split_once("<Code>")?;
    let (code, _) = rest.split_once("</Code>")?;
    Some(code.trim().to_owned())
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
        assert_eq!(sort("GET", "list-type=2&prefix=wal%2F"), Sort::List);
        assert_eq!(sort("GET", ""), Sort::Read);
        assert_eq!(sort("HEAD", ""), Sort::Read);
        assert_eq!(sort("PUT", "partNumber=1&uploadId=x"), Sort::Write);
        assert_eq!(sort("POST", "uploads="), Sort::Write);
        assert_eq!(sort("POST", "uploadId=x"), Sort::Complete);
        assert_eq!(sort("POST", "delete"), Sort::Delete);
    }

    #[test]
    fn error_codes_and_dates_are_read() {
        let body = b"<?xml version=\"1.0\"?><Error><Code>NoSuchKey</Code><Key>x</Key></Error>";
        assert_eq!(error_code(body).as_deref(), Some("NoSuchKey"));
        assert_eq!(error_code(b"<html>Not Found</html>"), None);
        let mut headers = HeaderMap::new();
        headers.insert("date", HeaderValue::from_static("Sun, 22 Nov 2026 21:04:22 GMT"));
        assert_eq!(date(&headers), "2026-11-22T21:04:22Z".parse().ok());
    }
}
