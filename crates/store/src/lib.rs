//! Objects in a place: one trait, [`Store`], over a local directory, S3, Google Cloud Storage, Azure Blob and memory.
//!
//! Promises: what [`Store::put`], [`ObjectWriter::finish`] and [`Store::delete`] report is durable; conditional writes
//! ([`PutMode`]) are atomic between processes and hosts, or the store says that it lacks them ([`Store::probe`]);
//! [`StoreError::NotFound`] is proof of absence; a read of a range is exactly one request; memory is bounded by what
//! callers hold. All calls are synchronous, and every store can be shared between threads.
//!
//! Deliberately not here: what objects mean (that is `pgproof-repo`), encryption, caches, and renaming (no object store has it).
//!
//! [`ObjectPath`] holds the rules for names, [`config`](StoreConfig) turns settings into an open store, the
//! `directory` module explains durability on a local disk, `cloud` what is done about lost replies, and `contract` (feature
//! `contract`) is the suite that every backend passes.

mod cloud;
mod config;
#[cfg(feature = "contract")]
pub mod contract;
mod counters;
mod directory;
mod error;
mod memory;
mod path;
mod probe;
mod shared;
mod store;
mod sync;

pub use cloud::Cloud;
pub use config::{
    AzureConfig, DirectoryConfig, GcsConfig, LockMode, ObjectLock, S3Config, Secret, StoreConfig,
};
pub use counters::Counters;
pub use directory::Directory;
pub use error::{Operation, Source, StoreError};
pub use memory::Memory;
pub use path::{COMPONENT_BYTES_MAX, ObjectPath, PATH_BYTES_MAX};
pub use store::{Capabilities, MARKER, ObjectMeta, ObjectWriter, PutMode, Result, Store, Version};
#[cfg(feature = "fault-injection")]
pub use sync::SyncPoint;
