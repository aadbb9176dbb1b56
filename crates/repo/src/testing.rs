//! Repositories for this crate's tests: in memory or in a directory, sealed or not.

use crate::repository::{CreateOptions, Repository};
use crate::seal::Suite;
use crate::{Lineage, key};
use pgproof_pg::SystemIdentifier;
use pgproof_store::{Memory, Store};
use std::sync::Arc;

/// The lineage that tests write to.
pub(crate) fn lineage() -> Lineage {
    Lineage::new(SystemIdentifier(7_400_000_000_000_000_001))
}

/// A repository in memory that keeps no secret.
pub(crate) fn memory() -> Repository {
    on(Arc::new(Memory::new()), Suite::None)
}

/// An empty repository in this store.
pub(crate) fn on(store: Arc<dyn Store>, suite: Suite) -> Repository {
    let recipients = match suite {
        Suite::Aes256Gcm => vec![key::generate().recipient],
        Suite::None => Vec::new(),
    };
    Repository::create(store, &CreateOptions { suite, recipients }).unwrap()
}
