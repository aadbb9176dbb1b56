//! Small records: JSON, sealed, one frame an object. Leases, outcomes, histories and the like.
//!
//! Section 3 of `docs/formats/repository.md`.

use crate::codec::{Codec, Decoder, Encoder};
use crate::error::Malformed;
use crate::repository::Repository;
use crate::seal::{ObjectKind, Salt, Section};
use crate::wire::Wire;
use crate::{Error, Result};
use pgproof_store::{ObjectMeta, ObjectPath, PutMode, StoreError};
use serde::{Serialize, de::DeserializeOwned};

const MAGIC: [u8; 4] = *b"PGPR";
const VERSION: u16 = 1;
const HEADER_BYTES: usize = 28;

/// Longest JSON of a record in bytes. A verification's list of what it read is the longest there is.
pub const RECORD_BYTES_MAX: usize = 64 << 20;

/// Records below this many bytes are not compressed: most are a lease, written every minute.
const COMPRESSED_FROM_BYTES: usize = 1024;

/// A record as it was found.
#[derive(Debug, Clone)]
pub struct Stored<T> {
    /// What it says.
    pub value: T,
    /// When it was stored, by the store's clock, and its version.
    pub meta: ObjectMeta,
}

/// Writes a record.
///
/// # Errors
/// [`Error::Store`]; where the mode's condition is not met, [`Error::is_conflict`] holds.
pub fn write<T: Serialize>(
    repository: &Repository,
    path: &ObjectPath,
    value: &T,
    mode: PutMode,
) -> Result<ObjectMeta> {
    let object = encode(repository, path, value)?;
    repository.store().put(path, &[&object], mode).map_err(Error::store("write a record"))
}

/// Reads a record; `None` is proof that there is none.
///
/// # Errors
/// [`Error::Damaged`] when it is not what was written here, [`Error::UnknownFormat`] for one of the future.
pub fn read<T: DeserializeOwned>(repository: &Repository, path: &ObjectPath) -> Result<Option<Stored<T>>> {
    let (mut bytes, meta) = match repository.store().get_with_meta(path) {
        Ok(found) => found,
        Err(StoreError::NotFound { .. }) => return Ok(None),
        Err(source) => return Err(Error::Store { operation: "read a record", source }),
    };
    let json = decode(repository, path, &mut bytes)?;
    let value = serde_json::from_slice(&json)
        .map_err(|error| Error::Damaged { object: path.to_string(), what: error.to_string() })?;
    Ok(Some(Stored { value, meta }))
}

/// The bytes of a record that will lie at `path`.
fn encode<T: Serialize>(repository: &Repository, path: &ObjectPath, value: &T) -> Result<Vec<u8>> {
    let refused = |reason| Error::Refused { operation: "write a record", reason };
    let json = serde_json::to_vec(value).map_err(|error| refused(error.to_string()))?;
    if json.len() > RECORD_BYTES_MAX {
        return Err(refused(format!("{path} would have {} bytes", json.len())));
    }
    let codec = if json.len() < COMPRESSED_FROM_BYTES { Codec::None } else { Codec::default() };
    let salt = Salt::random();
    let mut object = Vec::with_capacity(HEADER_BYTES + json.len() + 32);
    object.extend_from_slice(&MAGIC);
    object.extend_from_slice(&VERSION.to_le_bytes());
    object.extend_from_slice(&[ObjectKind::Record as u8, 0]);
    object.extend_from_slice(&salt.0);
    object.extend_from_slice(&[0; 4]);
    Encoder::new(codec)?.encode(&json, &mut object)?;
    let sealer = repository.sealer(ObjectKind::Record, &salt, path);
    sealer.seal(Section::Content, 0, &mut object, HEADER_BYTES);
    let frame_length = (object.len() - HEADER_BYTES) as u32;
    object[HEADER_BYTES - 4..HEADER_BYTES].copy_from_slice(&frame_length.to_le_bytes());
    Ok(object)
}

/// The JSON of a record that was read from `path`.
fn decode(repository: &Repository, path: &ObjectPath, object: &mut [u8]) -> Result<Vec<u8>> {
    let damaged = |malformed: Malformed| malformed.in_object(path.as_str());
    let salt = parse_header(object).map_err(damaged)?;
    let version = u16::from_le_bytes([object[4], object[5]]);
    if version != VERSION {
        let object = path.to_string();
        return Err(Error::UnknownFormat { object, found: version.into(), known: VERSION.into() });
    }
    let sealer = repository.sealer(ObjectKind::Record, &salt, path);
    let payload = sealer.open(Section::Content, 0, &mut object[HEADER_BYTES..]).map_err(damaged)?;
    let mut json = Vec::new();
    Decoder::new()?.decode(payload, RECORD_BYTES_MAX, &mut json).map_err(damaged)?;
    Ok(json)
}

/// The salt of a record. Its version is not judged here.
fn parse_header(object: &[u8]) -> Result<Salt, Malformed> {
    let mut wire = Wire::new(object);
    if wire.array()? != MAGIC {
        return Err(Malformed::new("it is not a record"));
    }
    let version = wire.u16()?;
    let kind: [u8; 2] = wire.array()?;
    let salt = Salt(wire.array()?);
    let frame_length = wire.u32()? as usize;
    let known = kind == [ObjectKind::Record as u8, 0] && frame_length == wire.remaining();
    if version == VERSION && !known {
        return Err(Malformed::new("its header is not one of a record"));
    }
    Ok(salt)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::{self, Unlock};
    use crate::repository::CreateOptions;
    use crate::seal::Suite;
    use pgproof_store::Memory;
    use std::sync::Arc;

    fn repository(suite: Suite) -> Repository {
        let recipients = match suite {
            Suite::Aes256Gcm => vec![key::generate().recipient],
            Suite::None => Vec::new(),
        };
        Repository::create(Arc::new(Memory::new()), &CreateOptions { suite, recipients }).unwrap()
    }

    fn path(text: &str) -> ObjectPath {
        ObjectPath::new(text).unwrap()
    }

    #[test]
    fn records_read_back_and_absence_is_told_from_damage() {
        for suite in [Suite::Aes256Gcm, Suite::None] {
            let repository = repository(suite);
            let at = path("1/backup/a/lease");
            assert!(read::<String>(&repository, &at).unwrap().is_none());
            for value in ["short".to_owned(), "long ".repeat(5000)] {
                let meta = write(&repository, &at, &value, PutMode::Overwrite).unwrap();
                let stored = read::<String>(&repository, &at).unwrap().unwrap();
                assert_eq!((stored.value, stored.meta), (value, meta));
            }
            let conflict = write(&repository, &at, &"other", PutMode::IfAbsent).unwrap_err();
            assert!(conflict.is_conflict());
        }
    }

    #[test]
    fn every_flipped_bit_and_a_copy_elsewhere_are_found() {
        for suite in [Suite::Aes256Gcm, Suite::None] {
            let repository = repository(suite);
            let (here, there) = (path("1/writer"), path("2/writer"));
            let object = encode(&repository, &here, &"value").unwrap();
            let read_altered = |bytes: &[u8], at: &ObjectPath| {
                repository.store().put(at, &[bytes], PutMode::Overwrite).unwrap();
                read::<String>(&repository, at).map(|stored| stored.unwrap().value)
            };
            assert_eq!(read_altered(&object, &here).unwrap(), "value");
            assert!(read_altered(&object, &there).unwrap_err().is_damage());
            for bit in 0..object.len() * 8 {
                let mut flipped = object.clone();
                flipped[bit / 8] ^= 1 << (bit % 8);
                assert!(read_altered(&flipped, &here).is_err(), "bit {bit}");
            }
            for short in 0..object.len() {
                assert!(read_altered(&object[..short], &here).is_err());
            }
        }
    }

    #[test]
    fn a_record_of_the_future_is_not_called_damaged() {
        let repository = repository(Suite::None);
        let at = path("1/writer");
        let mut object = encode(&repository, &at, &"value").unwrap();
        object[4] = 2;
        repository.store().put(&at, &[&object], PutMode::Overwrite).unwrap();
        let error = read::<String>(&repository, &at).unwrap_err();
        assert_eq!(error.code(), "repository-unknown-format");
        assert!(Repository::open(repository.store().clone(), &Unlock::Nothing).is_ok());
    }
}
