//! The repository: packs, manifests, WAL objects, sealing, leases, retention, verification.
//!
//! Promises the format of `docs/formats/repository.md`: any backup restores alone, any page is read with one ranged request, nothing
//! is believed that was not authenticated, and bytes from a store never make this crate panic or allocate without bound. All
//! calls are synchronous. Deliberately not here: PostgreSQL (that is `pgproof-server`) and the decision what to back up.
//!
//! Start reading at [`repository`] for creating and opening, [`layout`] for names, [`seal`] for how bytes are protected, [`codec`]
//! for how they are compressed, [`record`] for small objects, [`map`] for where blocks lie, [`pack`] for the blocks, [`manifest`]
//! for a backup as a whole, [`access`] for single pages of it, [`ledger`] for evidence.

pub mod access;
pub mod catalog;
pub mod codec;
pub mod description;
pub mod error;
pub mod expire;
mod framing;
pub mod key;
pub mod key_command;
pub mod layout;
pub mod lease;
pub mod ledger;
mod lru;
pub mod manifest;
pub mod map;
pub mod pack;
mod parallel;
pub mod received;
pub mod recipients;
pub mod record;
pub mod repair;
pub mod repository;
pub mod retention;
pub mod seal;
#[cfg(test)]
pub(crate) mod testing;
pub mod transfer;
pub mod verify;
pub mod walobject;
pub mod walset;
mod wire;
pub mod writer;

pub use access::PageReader;
pub use codec::{Codec, Decoder, Encoder};
pub use error::{Error, Malformed, Result};
pub use key::Unlock;
pub use key_command::KeyCommand;
pub use layout::{BackupId, BackupObjects, Content, Lineage, PackNumber};
pub use manifest::{BackupSummary, FileEntry, FileKind, Manifest, ManifestInfo, ManifestWriter, PackTable};
pub use map::{EXTENT_PAGES_MAX, ExtentPlace, ExtentRef, FileMap, PAGE_BYTES, PackIndex, blocks_of};
pub use pack::{ExtentReader, PackEntry, PackInfo, PackPiece, PackReader, PackWriter, PieceIdentities};
pub use recipients::{Leaving, OpenedBy, Present};
pub use record::Stored;
pub use repository::{CreateOptions, Repository};
pub use seal::{ContentId, IdentityHasher, ObjectKind, Salt, Sealer, Section, Suite};
