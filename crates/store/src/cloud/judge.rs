//! What a reply means. Pure: from what was seen on the wire to what may be concluded.

use super::http::Exchange;
use object_store::client::HttpErrorKind;

/// The meaning of a failed request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The service itself says that the key does not exist.
    Absent,
    /// Something answered "not found" without saying what; a proxy could have.
    NotFoundByUnknown,
    /// The bucket does not exist, so nothing is known about its keys.
    NoBucket,
    /// The upload in parts is not known any more: completed, aborted or expired.
    NoUpload,
    /// A condition did not hold.
    ConditionFailed,
    /// The range begins at or after the end of the object.
    RangeBeyondEnd,
    /// The same request may succeed later.
    Retry {
        /// Whether a write may have happened all the same.
        effect_unknown: bool,
    },
    /// The credentials are refused, or there are none.
    Denied,
    /// A quota or the disk behind the service is full.
    NoSpace,
    /// The service does not know this kind of request.
    Unsupported,
    /// None of these.
    Other,
}

/// Judges a failed request.
pub(super) fn judge(seen: &Exchange) -> Verdict {
    if seen.sent == 0 {
        // Nothing reached the service: getting credentials failed.
        return Verdict::Denied;
    }
    match (seen.failure, seen.status) {
        (Some(HttpErrorKind::Connect), _) => Verdict::Retry { effect_unknown: false },
        // Some services answer so at the very end of an object, or for the end of an empty one. Asking again changes nothing.
        (None, Some(200..300)) if seen.empty_range => Verdict::RangeBeyondEnd,
        // No reply, or a good one whose body broke off.
        (Some(_), _) | (None, None | Some(200..300)) => Verdict::Retry { effect_unknown: true },
        (None, Some(status)) => refused(status, seen.code.as_deref()),
    }
}

/// Codes: docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html; those of MinIO and Ceph for full disks and quotas;
/// learn.microsoft.com/rest/api/storageservices/blob-service-error-codes. Google's XML API uses those of S3.
fn refused(status: u16, code: Option<&str>) -> Verdict {
    match (status, code) {
        (_, Some("QuotaExceeded" | "XMinioStorageFull" | "InsufficientCapacity" | "EntityTooLarge"))
        | (507, _) => Verdict::NoSpace,
        (404, Some("NoSuchKey" | "BlobNotFound")) => Verdict::Absent,
        (404, Some("NoSuchBucket" | "ContainerNotFound")) | (409, Some("ContainerBeingDeleted")) => {
            Verdict::NoBucket
        }
        (404, Some("NoSuchUpload")) => Verdict::NoUpload,
        (404, _) => Verdict::NotFoundByUnknown,
        // Azure uses the statuses of conditions for leases and immutability policies too: nobody else was first there.
        (409, Some("BlobImmutableDueToPolicy" | "ContainerDisabled" | "AccountIsDisabled"))
        | (412, Some("LeaseIdMissing")) => Verdict::Denied,
        // S3 answers so when two conditional writes meet; neither reply says who wins.
        (409, Some("ConditionalRequestConflict" | "OperationAborted")) => {
            Verdict::Retry { effect_unknown: false }
        }
        (304 | 409 | 412, _) => Verdict::ConditionFailed,
        (416, _) => Verdict::RangeBeyondEnd,
        (400, Some("RequestTimeout" | "IncompleteBody")) | (408 | 429, _) => {
            Verdict::Retry { effect_unknown: false }
        }
        (400, Some("ExpiredToken" | "InvalidToken" | "AuthorizationHeaderMalformed")) | (401 | 403, _) => {
            Verdict::Denied
        }
        (405 | 501, _) => Verdict::Unsupported,
        (500.., _) => Verdict::Retry { effect_unknown: true },
        _ => Verdict::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn replied(status: u16, code: Option<&str>) -> Verdict {
        let code = code.map(str::to_owned);
        judge(&Exchange { sent: 1, status: Some(status), code, ..Exchange::default() })
    }

    #[test]
    fn only_the_service_itself_proves_absence() {
        assert_eq!(replied(404, Some("NoSuchKey")), Verdict::Absent);
        assert_eq!(replied(404, Some("NoSuchBucket")), Verdict::NoBucket);
        assert_eq!(replied(404, Some("BlobNotFound")), Verdict::Absent);
        assert_eq!(replied(404, Some("ContainerNotFound")), Verdict::NoBucket);
        assert_eq!(replied(404, None), Verdict::NotFoundByUnknown);
        assert_eq!(replied(403, Some("AccessDenied")), Verdict::Denied);
    }

    #[test]
    fn a_lost_reply_leaves_the_effect_unknown() {
        let lost = |kind| judge(&Exchange { sent: 1, failure: Some(kind), ..Exchange::default() });
        assert_eq!(lost(HttpErrorKind::Connect), Verdict::Retry { effect_unknown: false });
        assert_eq!(lost(HttpErrorKind::Interrupted), Verdict::Retry { effect_unknown: true });
        assert_eq!(lost(HttpErrorKind::Timeout), Verdict::Retry { effect_unknown: true });
        assert_eq!(replied(500, Some("InternalError")), Verdict::Retry { effect_unknown: true });
        assert_eq!(replied(200, None), Verdict::Retry { effect_unknown: true });
        let nothing = Exchange { sent: 1, status: Some(206), empty_range: true, ..Exchange::default() };
        assert_eq!(judge(&nothing), Verdict::RangeBeyondEnd);
    }

    #[test]
    fn a_clash_of_conditional_writes_is_tried_again_and_not_taken_for_defeat() {
        let clash = replied(409, Some("ConditionalRequestConflict"));
        assert_eq!(clash, Verdict::Retry { effect_unknown: false });
        assert_eq!(replied(412, Some("PreconditionFailed")), Verdict::ConditionFailed);
    }

    #[test]
    fn an_immutable_blob_is_a_refusal_and_not_somebody_elses_write() {
        assert_eq!(replied(409, Some("BlobAlreadyExists")), Verdict::ConditionFailed);
        assert_eq!(replied(409, Some("BlobImmutableDueToPolicy")), Verdict::Denied);
    }

    #[test]
    fn failing_to_get_credentials_is_a_refusal() {
        assert_eq!(judge(&Exchange::default()), Verdict::Denied);
    }
}
