//! Retention of S3 object lock: the headers that protect an object from the moment it exists.

use crate::config::LockMode;
use jiff::Timestamp;
use object_store::{HeaderMap, HeaderValue};

/// How long an object cannot be removed, and by whom.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Retention {
    pub(super) mode: LockMode,
    pub(super) until: Timestamp,
}

impl Retention {
    /// Says it in the request that creates the object.
    pub(super) fn add_to(&self, headers: &mut HeaderMap) {
        headers.insert("x-amz-object-lock-mode", HeaderValue::from_static(self.mode.in_header()));
        // The checksum itself is in a header that `object_store` sends; some services ask for this one, as AWS's own programs send it.
        headers.insert("x-amz-sdk-checksum-algorithm", HeaderValue::from_static("SHA256"));
        let until = self.until.strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
        if let Ok(until) = HeaderValue::from_str(&until) {
            headers.insert("x-amz-object-lock-retain-until-date", until);
        }
    }
}
