//! Requests that `object_store` has no words for.

use bytes::Bytes;
use object_store::client::{HttpError, HttpRequest, HttpRequestBody, HttpResponse};
use object_store::{Error, HeaderMap, HeaderValue, Result};
use std::fmt::Write;

/// An error that nothing is concluded from: what the reply was is noted by the layer below.
pub(super) fn failed(source: impl Into<Box<dyn std::error::Error + Send + Sync + 'static>>) -> Error {
    Error::Generic { store: "store", source: source.into() }
}

/// A request, not signed yet.
pub(super) fn request(
    method: &str,
    url: &str,
    headers: &[(&'static str, &str)],
    body: Bytes,
) -> Result<HttpRequest> {
    let mut request = HttpRequest::new(HttpRequestBody::from(body));
    *request.method_mut() = method.parse().map_err(|_| failed("no such method"))?;
    *request.uri_mut() = url.parse().map_err(|_| failed(format!("`{url}` is no address")))?;
    for (name, value) in headers {
        let value = HeaderValue::from_str(value).map_err(failed)?;
        request.headers_mut().insert(*name, value);
    }
    Ok(request)
}

/// The whole reply, if it is a good one. 308 is what Google says when it waits for more of an upload.
pub(super) async fn answered(reply: Result<HttpResponse, HttpError>) -> Result<(HeaderMap, Bytes)> {
    let (parts, body) = reply.map_err(failed)?.into_parts();
    let body = body.bytes().await.map_err(failed)?;
    if parts.status.as_u16() >= 400 {
        let text: String = String::from_utf8_lossy(&body).chars().take(500).collect();
        return Err(failed(format!("HTTP status {}: {text}", parts.status)));
    }
    Ok((parts.headers, body))
}

/// A text as part of a URL; letters, digits, `-._~` and those in `kept` stay as they are.
pub(super) fn encoded(text: &str, kept: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        let plain =
            byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) || kept.as_bytes().contains(&byte);
        if plain {
            out.push(byte.into());
        } else {
            let _ = write!(out, "%{byte:02X}");
        }
    }
    out
}
