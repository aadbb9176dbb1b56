//! Tries out what a store really does. Documentation and version numbers are no proof: S3 look-alikes accept conditional
//! headers and ignore them.

use crate::config::PROBE;
use crate::{Capabilities, ObjectPath, PutMode, Result, Store, StoreError};

/// Runs the experiment of [`Store::probe`].
pub(crate) fn run<S: Store + ?Sized>(store: &S) -> Result<Capabilities> {
    let path = ObjectPath::new(format!("{PROBE}/{:016x}", rand::random::<u64>()))?;
    let mut seen = Capabilities::default();
    let first = match store.put(&path, &[b"first"], PutMode::Overwrite) {
        Ok(meta) => meta,
        Err(
            error @ (StoreError::ReadOnly { .. } | StoreError::Denied { .. } | StoreError::NoSpace { .. }),
        ) => {
            seen.refusal = Some(error.to_string());
            return Ok(seen);
        }
        Err(error) => return Err(error),
    };
    let observed = observe(store, &path, first, &mut seen);
    let removed = store.delete(&path);
    observed?;
    match removed {
        Ok(()) => seen.writable = true,
        Err(error) if error.is_retryable() => return Err(error),
        Err(error) => {
            seen.refusal = Some(error.to_string());
            return Ok(seen);
        }
    }
    seen.list_after_write &= !listed(store, &path)?;
    Ok(seen)
}

/// Everything that is tried while the probe's object exists.
fn observe<S: Store + ?Sized>(
    store: &S,
    path: &ObjectPath,
    first: crate::ObjectMeta,
    seen: &mut Capabilities,
) -> Result<()> {
    seen.list_after_write = listed(store, path)?;
    let mut range = [0; 3];
    seen.read_after_write = store.get(path)? == b"first"
        && store.get_range(path, 1, &mut range).is_ok()
        && &range == b"irs"
        && store.get_tail(path, 2)? == (b"st".to_vec(), 5);
    seen.if_absent = refused(store.put(path, &[b"twice"], PutMode::IfAbsent))?;
    if !seen.if_absent {
        // The object was replaced, so its version is not the first one any more and the next question would be unfair.
        return Ok(());
    }
    match store.put(path, &[b"second"], PutMode::IfMatch(first.version.clone())) {
        Ok(_) => {}
        Err(error) if error.is_retryable() => return Err(error),
        Err(_) => return Ok(()),
    }
    seen.if_match = refused(store.put(path, &[b"third"], PutMode::IfMatch(first.version)))?
        && store.get(path)? == b"second";
    seen.read_after_write &= !seen.if_match || store.head(path)?.is_some_and(|meta| meta.size == 6);
    Ok(())
}

/// Whether a conditional write that had to fail did, for the right reason.
fn refused(outcome: Result<crate::ObjectMeta>) -> Result<bool> {
    match outcome {
        Err(StoreError::AlreadyExists { .. } | StoreError::VersionMismatch { .. }) => Ok(true),
        Err(error) if error.is_retryable() => Err(error),
        Ok(_) | Err(_) => Ok(false),
    }
}

fn listed<S: Store + ?Sized>(store: &S, path: &ObjectPath) -> Result<bool> {
    Ok(store.list(path.parent().as_ref(), None)?.iter().any(|meta| &meta.path == path))
}
