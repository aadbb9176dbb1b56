//! What packs, manifests and WAL objects have in common at their two ends.
//!
//! The 64 bytes at the begin say what an object is, for people and for `verify`. Readers start at the end: the trailer repeats
//! the salt, so that one request for the tail is enough to find and open everything else.

use crate::error::Malformed;
use crate::seal::{ObjectKind, Salt, Suite};
use crate::wire::Wire;
use crate::{Error, Result};

/// Length of every header in bytes. The first frame begins here.
pub(crate) const HEADER_BYTES: u64 = 64;

/// Format version of the objects of this program.
pub(crate) const OBJECT_VERSION: u16 = 1;

/// The fixed part of a header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) magic: [u8; 8],
    pub(crate) kind: ObjectKind,
    pub(crate) suite: Suite,
    pub(crate) salt: Salt,
}

impl Header {
    /// The bytes of a header whose own part is all zero.
    pub(crate) fn bytes(&self) -> [u8; HEADER_BYTES as usize] {
        let mut bytes = [0; HEADER_BYTES as usize];
        bytes[..8].copy_from_slice(&self.magic);
        bytes[8..10].copy_from_slice(&OBJECT_VERSION.to_le_bytes());
        bytes[10] = self.kind as u8;
        bytes[11] = self.suite.byte();
        bytes[16..32].copy_from_slice(&self.salt.0);
        bytes
    }

    /// Checks that an object begins with exactly this header. `object` names it in errors.
    pub(crate) fn check(&self, found: &[u8; HEADER_BYTES as usize], object: &str) -> Result<()> {
        let expected = self.bytes();
        let version = u16::from_le_bytes([found[8], found[9]]);
        if found[..8] == expected[..8] && version > OBJECT_VERSION {
            let object = object.to_owned();
            return Err(Error::UnknownFormat { object, found: version.into(), known: OBJECT_VERSION.into() });
        }
        if *found == expected {
            return Ok(());
        }
        Err(Malformed::new("its header is not the one that was written").in_object(object))
    }
}

/// Appends what ends every trailer: the checksum of it, zeroes up to its length, the magic.
pub(crate) fn close_trailer(mut trailer: Vec<u8>, length: usize, magic: [u8; 8]) -> Vec<u8> {
    let checksum = crc32c::crc32c(&trailer);
    trailer.extend_from_slice(&checksum.to_le_bytes());
    trailer.resize(length - magic.len(), 0);
    trailer.extend_from_slice(&magic);
    trailer
}

/// Checks the end of a trailer of which the first `covered` bytes are its own, and gives those.
pub(crate) fn open_trailer(trailer: &[u8], covered: usize, magic: [u8; 8]) -> Result<Wire<'_>, Malformed> {
    const TOO_SHORT: Malformed = Malformed::new("it is too short");
    let (own, rest) = trailer.split_at_checked(covered).ok_or(TOO_SHORT)?;
    let mut wire = Wire::new(rest);
    let checksum = wire.u32()?;
    let (zeroes, found_magic) = wire.rest().split_last_chunk::<8>().ok_or(TOO_SHORT)?;
    if *found_magic != magic {
        return Err(Malformed::new("it does not end as its kind does: it is truncated, or something else"));
    }
    if checksum != crc32c::crc32c(own) || zeroes.iter().any(|&byte| byte != 0) {
        return Err(Malformed::new("its trailer is not the one that was written"));
    }
    Ok(Wire::new(own))
}
