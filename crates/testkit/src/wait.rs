//! Waiting with a deadline. A test that would hang fails instead, and says what it waited for.

use anyhow::{Context, Result, bail};
use std::{
    thread,
    time::{Duration, Instant},
};

/// Long enough for anything a loaded two-core machine does in a test.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Pause between two looks: short against what is waited for, long enough not to take the machine.
const PAUSE: Duration = Duration::from_millis(10);

/// Waits until `look` returns a value; fails after `limit` with `what` in the message.
///
/// # Errors
/// Fails at the deadline, or at once when `look` itself fails.
pub fn until<T>(what: &str, limit: Duration, mut look: impl FnMut() -> Result<Option<T>>) -> Result<T> {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(value) = look().with_context(|| format!("while waiting for {what}"))? {
            return Ok(value);
        }
        if Instant::now() >= deadline {
            bail!("waited {limit:?} in vain for {what}");
        }
        thread::sleep(PAUSE);
    }
}

/// Waits until `look` is true, for at most [`PATIENCE`].
///
/// # Errors
/// As [`until`].
pub fn until_true(what: &str, mut look: impl FnMut() -> Result<bool>) -> Result<()> {
    until(what, PATIENCE, || Ok(look()?.then_some(())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_in_vain_says_what_it_waited_for() {
        let error = until::<()>("the moon", Duration::from_millis(20), || Ok(None)).unwrap_err();
        assert!(error.to_string().contains("the moon"), "{error}");
    }
}
