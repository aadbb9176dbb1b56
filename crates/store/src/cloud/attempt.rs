//! Tries a request until it is answered, within limits.
//!
//! `object_store` can retry by itself, but then nobody knows whether an earlier attempt of a conditional write may already have taken
//! effect. So its retries are off, and this loop remembers.

use super::http::{Exchange, Extra, Notebook};
use super::judge::{Verdict, judge};
use crate::{Operation, Source, StoreError};
use std::time::{Duration, Instant};
use tokio::time::error::Elapsed;

/// Slowest transfer that is not given up, in bytes a second, added to the time allowed for an attempt.
const PACE_MIN: u64 = 256 << 10;

/// First and longest pause between attempts; each is twice the one before, and shortened at random so that many clients do not
/// come back at once.
const PAUSE_FIRST: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(5);

/// How long and how often to try.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    /// For one attempt, without the transfer of its bytes.
    pub(super) attempt: Duration,
    /// After this no further attempt is begun.
    pub(super) total: Duration,
    /// Attempts at most.
    pub(super) attempts_max: u32,
}

impl Limits {
    /// How long one attempt may take that transfers so many bytes.
    pub(super) fn patience(&self, bytes: u64) -> Duration {
        self.attempt + Duration::from_secs(bytes / PACE_MIN)
    }
}

/// Bounds a step of a request whose whole length is not known when it begins.
pub(super) async fn within<T>(
    patience: Duration,
    step: impl Future<Output = object_store::Result<T>>,
) -> object_store::Result<T> {
    match tokio::time::timeout(patience, step).await {
        Ok(done) => done,
        Err(elapsed) => Err(object_store::Error::Generic { store: "store", source: Box::new(elapsed) }),
    }
}

/// Whether [`within`] gave up.
fn gave_up(error: &object_store::Error) -> bool {
    matches!(error, object_store::Error::Generic { source, .. } if source.is::<Elapsed>())
}

/// What came of it.
#[derive(Debug)]
pub(super) struct Tried<T> {
    pub(super) outcome: Result<T, Failure>,
    /// An attempt before the last one may have taken effect.
    pub(super) uncertain: bool,
    /// What was seen of the last attempt.
    pub(super) seen: Exchange,
}

/// Why the last attempt failed.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) verdict: Verdict,
    pub(super) timed_out: Option<Duration>,
    pub(super) source: Source,
}

impl Failure {
    /// The error where no meaning special to the operation applies.
    pub(super) fn into_error(self, operation: Operation, object: String) -> StoreError {
        if let Some(after) = self.timed_out {
            return StoreError::Timeout { operation, object, after };
        }
        let source = self.source;
        match self.verdict {
            Verdict::Absent => StoreError::NotFound { object },
            Verdict::Retry { .. } | Verdict::NoBucket | Verdict::NotFoundByUnknown => {
                StoreError::Unreachable { operation, object, source }
            }
            Verdict::Denied => StoreError::Denied { operation, object, source },
            Verdict::NoSpace => StoreError::NoSpace { operation, object, source },
            Verdict::Unsupported => {
                StoreError::Unsupported { operation, object, what: "this kind of request" }
            }
            Verdict::NoUpload | Verdict::ConditionFailed | Verdict::RangeBeyondEnd | Verdict::Other => {
                StoreError::Other { operation, object, source }
            }
        }
    }
}

/// Makes requests until one is answered for good. Each limits its own time by [`within`].
pub(super) async fn attempts<T, F, R>(limits: Limits, extra: Extra, request: F) -> Tried<T>
where
    F: Fn() -> R,
    R: Future<Output = object_store::Result<T>>,
{
    let start = Instant::now();
    let mut uncertain = false;
    let mut made = 0;
    loop {
        made += 1;
        let notebook = Notebook::with(extra.clone());
        let answer = notebook.follow(request()).await;
        let seen = notebook.latest();
        let failure = match answer {
            Ok(value) => return Tried { outcome: Ok(value), uncertain, seen },
            Err(error) if gave_up(&error) => Failure {
                verdict: Verdict::Retry { effect_unknown: true },
                timed_out: Some(start.elapsed()),
                source: Box::new(error),
            },
            // A service's own code can see before it asks that a condition does not hold.
            Err(error @ object_store::Error::Precondition { .. }) if seen.sent == 0 => {
                Failure { verdict: Verdict::ConditionFailed, timed_out: None, source: Box::new(error) }
            }
            Err(error) => Failure { verdict: judge(&seen), timed_out: None, source: Box::new(error) },
        };
        let Verdict::Retry { effect_unknown } = failure.verdict else {
            return Tried { outcome: Err(failure), uncertain, seen };
        };
        let pause = pause(made);
        if made >= limits.attempts_max || start.elapsed() + pause >= limits.total {
            return Tried { outcome: Err(failure), uncertain, seen };
        }
        uncertain |= effect_unknown;
        tokio::time::sleep(pause).await;
    }
}

fn pause(made: u32) -> Duration {
    let longest = PAUSE_FIRST.saturating_mul(1 << made.min(16)).min(PAUSE_MAX);
    longest.mul_f64(rand::random_range(0.5..1.0))
}
