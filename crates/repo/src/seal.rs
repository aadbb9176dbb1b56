//! Sealing: every byte that says something is authenticated, and with suite `aes-256-gcm` secret.
//!
//! One key for each object, derived from the repository's data key, the object's random salt, its kind and its name; one nonce for
//! each frame, made of what the frame is and its number. So a frame cannot be moved within an object, to another object, to
//! another name, or be passed off as another part of the same object, and nonces cannot repeat as long as salts do not.
//!
//! Binding by the key instead of by associated data costs nothing per frame and leaves nothing to forget when a frame is opened.
//! The bytes are in section 3 of `docs/formats/repository.md`.

use crate::error::Malformed;
use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use rand::TryRngCore;
use rand::rngs::OsRng;
use serde::{Deserialize, Serialize};
use std::fmt;
use zeroize::Zeroizing;

/// Bytes a frame is longer than its content.
pub const TAG_BYTES: usize = 16;

const OBJECT_CONTEXT: &str = "pgproof 2026 object";
const IDENTITY_CONTEXT: &str = "pgproof 2026 identity";
const UNSEALED_CONTEXT: &str = "pgproof 2026 unsealed";
const LEDGER_CONTEXT: &str = "pgproof 2026 ledger";
const CHECK_CONTEXT: &str = "pgproof 2026 key check";

/// How a repository is sealed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Suite {
    /// AES-256-GCM: secret and authenticated.
    #[serde(rename = "aes-256-gcm")]
    Aes256Gcm,
    /// Not secret: keyed BLAKE3 under a key that anybody can derive finds damage.
    #[serde(rename = "none")]
    None,
}

impl Suite {
    /// The name in the description.
    pub fn name(self) -> &'static str {
        match self {
            Self::Aes256Gcm => "aes-256-gcm",
            Self::None => "none",
        }
    }

    /// The byte in object headers.
    pub(crate) fn byte(self) -> u8 {
        match self {
            Self::None => 0,
            Self::Aes256Gcm => 1,
        }
    }
}

/// What an object is, as far as its key is concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum ObjectKind {
    /// Extents.
    Pack = 1,
    /// Where each page lies.
    Manifest = 2,
    /// A WAL segment.
    Wal = 3,
    /// Everything small: history, lease, outcome, writer, reader, pin, expired, verified, ledger.
    Record = 4,
}

/// What a frame is within its object. Part of the nonce, so that content that a user of the database chose can never be
/// taken for an index.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Section {
    /// Extents of a pack, chunks of a WAL segment, the one frame of a small record.
    Content = 0,
    /// Where the other frames are.
    Index = 1,
    /// The summary of a manifest or of a WAL segment.
    Summary = 2,
    /// File chunks of a manifest.
    Files = 3,
}

/// 16 random bytes drawn when an object is written; they make its key unique.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Salt(pub [u8; 16]);

impl Salt {
    /// Draws one.
    pub fn random() -> Self {
        Self(random_bytes())
    }
}

/// Bytes from the operating system's generator, and from it directly: the cryptographic library's own would first measure the jitter of
/// the processor, in every process anew, and `archive push` is a process for each segment.
///
/// # Panics
/// When the system has no randomness to give: nothing can be sealed safely then.
pub fn random_bytes<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    OsRng.try_fill_bytes(&mut bytes).expect("the operating system gives random bytes");
    bytes
}

/// Keyed hash of some content: equal content has equal identity within one repository, and tells nothing outside of it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ContentId(pub [u8; 16]);

impl fmt::Display for ContentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for ContentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ContentId({self})")
    }
}

impl std::str::FromStr for ContentId {
    type Err = crate::Error;

    fn from_str(text: &str) -> crate::Result<Self> {
        let fail = || crate::Error::NotA { kind: "a content identity", text: text.to_owned() };
        let lower_hex = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
        if text.len() != 32 || !text.bytes().all(lower_hex) {
            return Err(fail());
        }
        let mut bytes = [0; 16];
        for (at, byte) in bytes.iter_mut().enumerate() {
            *byte = u8::from_str_radix(&text[2 * at..2 * at + 2], 16).map_err(|_| fail())?;
        }
        Ok(Self(bytes))
    }
}

impl Serialize for ContentId {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ContentId {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// Computes a [`ContentId`] of content that comes in parts.
#[derive(Clone)]
pub struct IdentityHasher(blake3::Hasher);

impl IdentityHasher {
    /// Appends content.
    pub fn update(&mut self, content: &[u8]) {
        self.0.update(content);
    }

    /// The identity of all content so far.
    pub fn finish(&self) -> ContentId {
        ContentId(truncated(self.0.finalize()))
    }
}

impl fmt::Debug for IdentityHasher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("IdentityHasher")
    }
}

/// Tells a data key from another one, and nothing of the key: it has 256 random bits.
pub(crate) fn key_check(data_key: &[u8; 32], repository: &[u8; 16]) -> ContentId {
    let mut hasher = blake3::Hasher::new_derive_key(CHECK_CONTEXT);
    hasher.update(data_key);
    hasher.update(repository);
    ContentId(truncated(hasher.finalize()))
}

/// The repository's secrets, wiped from memory when dropped.
pub(crate) struct Keys {
    suite: Suite,
    repository: [u8; 16],
    data: Zeroizing<[u8; 32]>,
    identity: Zeroizing<[u8; 32]>,
}

impl Keys {
    /// The keys of a repository that is sealed under this data key.
    pub(crate) fn new(suite: Suite, repository: [u8; 16], data: Zeroizing<[u8; 32]>) -> Self {
        let mut hasher = blake3::Hasher::new_derive_key(IDENTITY_CONTEXT);
        hasher.update(data.as_ref());
        hasher.update(&repository);
        let identity = Zeroizing::new(*hasher.finalize().as_bytes());
        Self { suite, repository, data, identity }
    }

    /// The data key of a repository that keeps no secret.
    pub(crate) fn unsealed_data_key(repository: &[u8; 16]) -> Zeroizing<[u8; 32]> {
        Zeroizing::new(blake3::derive_key(UNSEALED_CONTEXT, repository))
    }

    pub(crate) fn suite(&self) -> Suite {
        self.suite
    }

    pub(crate) fn data_key(&self) -> &Zeroizing<[u8; 32]> {
        &self.data
    }

    pub(crate) fn identity(&self, content: &[u8]) -> ContentId {
        ContentId(truncated(blake3::keyed_hash(&self.identity, content)))
    }

    pub(crate) fn identity_hasher(&self) -> IdentityHasher {
        IdentityHasher(blake3::Hasher::new_keyed(&self.identity))
    }

    /// Keyed BLAKE3 under a key that is used for nothing else.
    pub(crate) fn sign_ledger(&self, hash: &[u8; 32]) -> [u8; 32] {
        let mut hasher = blake3::Hasher::new_derive_key(LEDGER_CONTEXT);
        hasher.update(self.data.as_ref());
        hasher.update(&self.repository);
        let key = Zeroizing::new(*hasher.finalize().as_bytes());
        *blake3::keyed_hash(&key, hash).as_bytes()
    }

    /// What seals and opens the frames of one object.
    pub(crate) fn sealer(&self, kind: ObjectKind, salt: &Salt, name: &str) -> Sealer {
        let mut hasher = blake3::Hasher::new_derive_key(OBJECT_CONTEXT);
        hasher.update(self.data.as_ref());
        hasher.update(&self.repository);
        hasher.update(&salt.0);
        hasher.update(&[kind as u8]);
        hasher.update(name.as_bytes());
        let key = Zeroizing::new(*hasher.finalize().as_bytes());
        let key = match self.suite {
            Suite::Aes256Gcm => {
                let key = UnboundKey::new(&AES_256_GCM, key.as_ref()).expect("32 bytes make a key");
                SealKey::Aes256Gcm(LessSafeKey::new(key))
            }
            Suite::None => SealKey::Unsealed(key),
        };
        Sealer { key }
    }
}

fn truncated(hash: blake3::Hash) -> [u8; 16] {
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&hash.as_bytes()[..16]);
    bytes
}

enum SealKey {
    Aes256Gcm(LessSafeKey),
    Unsealed(Zeroizing<[u8; 32]>),
}

/// Seals and opens the frames of one object. Made once for an object: setting a key up costs more than a small frame.
pub struct Sealer {
    key: SealKey,
}

impl fmt::Debug for Sealer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sealer")
    }
}

/// A frame that is not what was sealed under this key, section and number.
const NOT_AUTHENTIC: Malformed = Malformed::new("a frame is not what was written there");

impl Sealer {
    /// Seals `frame[from..]` in place and appends the tag. A number is used once for each section of an object.
    pub fn seal(&self, section: Section, number: u64, frame: &mut Vec<u8>, from: usize) {
        let content = &mut frame[from..];
        match &self.key {
            SealKey::Aes256Gcm(key) => {
                let tag = key
                    .seal_in_place_separate_tag(nonce(section, number), Aad::empty(), content)
                    .expect("frames are far below the limit of AES-GCM");
                frame.extend_from_slice(tag.as_ref());
            }
            SealKey::Unsealed(key) => {
                let tag = checksum(key, section, number, content);
                frame.extend_from_slice(&tag);
            }
        }
    }

    /// Opens a frame in place and gives its content.
    ///
    /// # Errors
    /// [`Malformed`] unless exactly this frame was sealed here; `frame` then holds nothing of use.
    pub fn open<'a>(
        &self,
        section: Section,
        number: u64,
        frame: &'a mut [u8],
    ) -> Result<&'a mut [u8], Malformed> {
        let length = frame.len().checked_sub(TAG_BYTES).ok_or(NOT_AUTHENTIC)?;
        match &self.key {
            SealKey::Aes256Gcm(key) => {
                key.open_in_place(nonce(section, number), Aad::empty(), frame).map_err(|_| NOT_AUTHENTIC)
            }
            SealKey::Unsealed(key) => {
                let (content, tag) = frame.split_at_mut(length);
                if checksum(key, section, number, content) != *tag {
                    return Err(NOT_AUTHENTIC);
                }
                Ok(content)
            }
        }
    }
}

fn nonce_bytes(section: Section, number: u64) -> [u8; 12] {
    let mut bytes = [0; 12];
    bytes[..8].copy_from_slice(&number.to_le_bytes());
    bytes[8] = section as u8;
    bytes
}

fn nonce(section: Section, number: u64) -> Nonce {
    Nonce::assume_unique_for_key(nonce_bytes(section, number))
}

/// The tag of suite `none`. The nonce has a fixed length, so hashing it in front of the content is unambiguous.
fn checksum(key: &[u8; 32], section: Section, number: u64, content: &[u8]) -> [u8; 16] {
    let mut hasher = blake3::Hasher::new_keyed(key);
    hasher.update(&nonce_bytes(section, number));
    hasher.update(content);
    truncated(hasher.finalize())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(suite: Suite) -> Keys {
        Keys::new(suite, [7; 16], Zeroizing::new([9; 32]))
    }

    fn sealed(sealer: &Sealer, section: Section, number: u64, content: &[u8]) -> Vec<u8> {
        let mut frame = content.to_vec();
        sealer.seal(section, number, &mut frame, 0);
        frame
    }

    #[test]
    fn a_frame_opens_only_where_it_was_sealed() {
        for suite in [Suite::Aes256Gcm, Suite::None] {
            let keys = keys(suite);
            let sealer = keys.sealer(ObjectKind::Pack, &Salt([1; 16]), "1/backup/a/pack/000000");
            let frame = sealed(&sealer, Section::Content, 5, b"content");
            let opens = |sealer: &Sealer, section, number| {
                sealer.open(section, number, &mut frame.clone()).is_ok_and(|content| content == b"content")
            };
            assert!(opens(&sealer, Section::Content, 5));
            assert!(!opens(&sealer, Section::Content, 4));
            assert!(!opens(&sealer, Section::Index, 5));
            for (kind, salt, name) in [
                (ObjectKind::Wal, 1, "1/backup/a/pack/000000"),
                (ObjectKind::Pack, 2, "1/backup/a/pack/000000"),
                (ObjectKind::Pack, 1, "1/backup/a/pack/000001"),
            ] {
                assert!(!opens(&keys.sealer(kind, &Salt([salt; 16]), name), Section::Content, 5));
            }
            let other = Keys::new(suite, [8; 16], Zeroizing::new([9; 32]));
            let elsewhere = other.sealer(ObjectKind::Pack, &Salt([1; 16]), "1/backup/a/pack/000000");
            assert!(!opens(&elsewhere, Section::Content, 5));
        }
    }

    #[test]
    fn every_flipped_bit_of_a_frame_is_found() {
        for suite in [Suite::Aes256Gcm, Suite::None] {
            let sealer = keys(suite).sealer(ObjectKind::Record, &Salt([1; 16]), "x");
            let frame = sealed(&sealer, Section::Content, 0, b"some content");
            for bit in 0..frame.len() * 8 {
                let mut flipped = frame.clone();
                flipped[bit / 8] ^= 1 << (bit % 8);
                assert!(sealer.open(Section::Content, 0, &mut flipped).is_err());
            }
            for short in 0..frame.len() {
                assert!(sealer.open(Section::Content, 0, &mut frame[..short].to_vec()).is_err());
            }
        }
    }

    #[test]
    fn identities_differ_between_repositories_and_join_parts() {
        let keys = keys(Suite::None);
        let mut hasher = keys.identity_hasher();
        hasher.update(b"some ");
        hasher.update(b"content");
        assert_eq!(hasher.finish(), keys.identity(b"some content"));
        let other = Keys::new(Suite::None, [8; 16], Zeroizing::new([9; 32]));
        assert_ne!(other.identity(b"some content"), keys.identity(b"some content"));
        let text = keys.identity(b"x").to_string();
        assert_eq!(text.parse::<ContentId>().unwrap(), keys.identity(b"x"));
    }

    #[test]
    fn sealed_content_is_not_in_the_frame() {
        let sealer = keys(Suite::Aes256Gcm).sealer(ObjectKind::Record, &Salt([1; 16]), "x");
        let frame = sealed(&sealer, Section::Content, 0, b"a secret of some length");
        assert!(!frame.windows(6).any(|window| window == b"secret"));
    }
}
