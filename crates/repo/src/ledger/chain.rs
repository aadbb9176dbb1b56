//! Chains: entries that name their predecessor, in pages that repeat it, signed at the end. Pure.

use super::record::{Record, VERSION};
use crate::description::RepositoryId;
use crate::layout::Lineage;
use crate::lease::host_name;
use crate::repository::Repository;
use crate::seal::random_bytes;
use crate::wire::put_text;
use crate::{Error, Result};
use jiff::Timestamp;
use pgproof_store::ObjectPath;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use std::{fmt, str::FromStr};

/// Entries of a page: reading a year of ten a day takes 57 requests, and an object stays in the tens of kilobytes.
pub(super) const PAGE_ENTRIES: u64 = 64;

/// Longest entry in bytes. Checks of a drill are some hundred lines.
pub(super) const ENTRY_BYTES_MAX: usize = 256 << 10;

/// Other chains whose heads an entry names. A cluster has a handful of hosts.
pub(super) const HEADS_MAX: usize = 8;

const HASH_CONTEXT: &str = "pgproof 2026 ledger entry";

/// Longest name of a writer in bytes; a host's name has at most 64.
const WRITER_BYTES_MAX: usize = 63;

/// A hash of an entry, or a signature of one.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Digest(pub [u8; 32]);

impl Digest {
    /// What stands for the predecessor of a chain's first entry.
    pub(super) const ZERO: Self = Self([0; 32]);
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(blake3::Hash::from_bytes(self.0).to_hex().as_str())
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Digest({self})")
    }
}

impl FromStr for Digest {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let hash = blake3::Hash::from_hex(text);
        hash.map(|hash| Self(*hash.as_bytes()))
            .map_err(|_| Error::NotA { kind: "a hash", text: text.to_owned() })
    }
}

impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

/// Whose chain it is: the repository it was written in, and the host.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ChainId {
    /// The id of the repository; another one than that of the chain's place where the chain was copied.
    pub origin: String,
    /// The host's name, as objects can be called.
    pub writer: String,
}

impl ChainId {
    /// The chain of this host in a repository.
    pub fn here(repository: &Repository) -> Self {
        Self::of_host(repository.id(), &host_name())
    }

    pub(super) fn of_host(origin: RepositoryId, host: &str) -> Self {
        let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        let mut writer: String = host.chars().map(|c| if allowed(c) { c } else { '_' }).collect();
        writer.truncate(WRITER_BYTES_MAX);
        if writer.is_empty() || writer.starts_with('.') {
            writer.replace_range(..writer.len().min(1), "_");
        }
        Self { origin: origin.to_string(), writer }
    }

    /// The chain that an object is of, and its number; `None` for a name that no version gives.
    pub(super) fn of_path(lineage: Lineage, path: &ObjectPath) -> Option<(Self, u64)> {
        let below = path.as_str().strip_prefix(lineage.ledger_dir().as_str())?.strip_prefix('/')?;
        let mut parts = below.split('/');
        let (origin, writer, number) = (parts.next()?, parts.next()?, parts.next()?);
        let is_hex = origin.len() == 32 && origin.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        let parsed: u64 = number.parse().ok().filter(|_| is_hex && parts.next().is_none())?;
        let canonical = format!("{parsed:08}") == number;
        canonical.then(|| (Self { origin: origin.to_owned(), writer: writer.to_owned() }, parsed))
    }

    /// Where one of its objects lies.
    pub(super) fn object(&self, lineage: Lineage, number: u64) -> Result<ObjectPath> {
        let dir = lineage.ledger_dir();
        ObjectPath::new(format!("{dir}/{}/{}/{number:08}", self.origin, self.writer))
            .map_err(Error::store("name an entry of the ledger"))
    }

    fn folder(&self, lineage: Lineage) -> String {
        format!("{}/{}/{}", lineage.ledger_dir(), self.origin, self.writer)
    }
}

impl fmt::Display for ChainId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", &self.origin.get(..8).unwrap_or(&self.origin), self.writer)
    }
}

/// The newest entry of a chain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    /// Whose chain.
    #[serde(flatten)]
    pub chain: ChainId,
    /// Its newest entry's number.
    pub number: u64,
    /// That entry's hash, and with it all entries before.
    pub hash: Digest,
}

impl fmt::Display for Head {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", self.chain, self.number, self.hash)
    }
}

/// What an entry holds, before it is hashed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// Version of the content.
    pub(super) version: u32,
    /// When it was appended, by the store's clock.
    pub at: Timestamp,
    /// Random: writers of one host that say the same at the same moment append two entries, and each knows its own. Absent in
    /// entries before 2026-11-24.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    nonce: String,
    /// The heads of other chains at that moment.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub heads: Vec<Head>,
    /// What it is evidence of.
    #[serde(flatten)]
    pub record: Record,
}

impl Entry {
    pub(super) fn encode(at: Timestamp, heads: Vec<Head>, record: Record) -> Result<String> {
        let refused = |reason| Error::Refused { operation: "append to the ledger", reason };
        let nonce = format!("{:016x}", u64::from_le_bytes(random_bytes()));
        let entry = Self { version: VERSION, at, nonce, heads, record };
        let text = serde_json::to_string(&entry).map_err(|error| refused(error.to_string()))?;
        match text.len() {
            ..=ENTRY_BYTES_MAX => Ok(text),
            long => Err(refused(format!("the entry would have {long} bytes"))),
        }
    }

    /// What a text says; `None` when it is of a newer program.
    pub(super) fn decode(text: &str) -> Option<Self> {
        serde_json::from_str::<Self>(text).ok().filter(|entry| entry.version == VERSION)
    }
}

/// An entry as it is stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Link {
    pub(super) previous: Digest,
    pub(super) hash: Digest,
    pub(super) entry: String,
}

impl Link {
    pub(super) fn new(
        chain: &ChainId,
        lineage: Lineage,
        number: u64,
        previous: Digest,
        entry: String,
    ) -> Self {
        let hash = hash(chain, lineage, number, previous, &entry);
        Self { previous, hash, entry }
    }

    /// Whether its hash is that of what it says.
    pub(super) fn holds(&self, chain: &ChainId, lineage: Lineage, number: u64) -> bool {
        hash(chain, lineage, number, self.previous, &self.entry) == self.hash
    }
}

fn hash(chain: &ChainId, lineage: Lineage, number: u64, previous: Digest, entry: &str) -> Digest {
    let mut place = Vec::new();
    put_text(&mut place, &chain.folder(lineage));
    let mut hasher = blake3::Hasher::new_derive_key(HASH_CONTEXT);
    hasher.update(&place);
    hasher.update(&previous.0);
    hasher.update(&number.to_le_bytes());
    hasher.update(entry.as_bytes());
    Digest(*hasher.finalize().as_bytes())
}

/// The content of one object.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Page {
    version: u32,
    pub(super) first: u64,
    pub(super) entries: Vec<Link>,
    pub(super) signature: Digest,
}

impl Page {
    /// Signs entries of one page; there is at least one.
    pub(super) fn sign(repository: &Repository, first: u64, entries: Vec<Link>) -> Self {
        let last = entries.last().map_or(Digest::ZERO, |link| link.hash);
        Self { version: VERSION, first, entries, signature: Digest(repository.sign_ledger(&last.0)) }
    }

    pub(super) fn is_signed(&self, repository: &Repository) -> bool {
        let last = self.entries.last().map_or(Digest::ZERO, |link| link.hash);
        // A comparison in constant time: the key must not leak to whoever can have pages judged.
        blake3::Hash::from_bytes(repository.sign_ledger(&last.0)) == self.signature.0
    }

    /// The number of its last entry.
    pub(super) fn last(&self) -> Option<u64> {
        (self.entries.len() as u64).checked_sub(1).and_then(|more| self.first.checked_add(more))
    }

    /// Its entries with their numbers.
    pub(super) fn numbered(&self) -> impl DoubleEndedIterator<Item = (u64, &Link)> + ExactSizeIterator {
        self.entries.iter().enumerate().map(|(at, link)| (self.first + at as u64, link))
    }

    /// Whether it is the content of the object of this number.
    pub(super) fn fits(&self, number: u64) -> bool {
        self.version == VERSION && self.last() == Some(number) && page_of(self.first) == page_of(number)
    }
}

/// The page of an entry.
pub(super) fn page_of(number: u64) -> u64 {
    number / PAGE_ENTRIES
}

/// The first number of the page after that of an entry.
pub(super) fn next_page(number: u64) -> u64 {
    (page_of(number) + 1) * PAGE_ENTRIES
}
