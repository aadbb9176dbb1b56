//! The description of a repository: the one object that is read before any key is known.
//!
//! Section 2 of `docs/formats/repository.md`. It is JSON so that a person with an age identity and no pgproof can see what this is.

use crate::error::Malformed;
use crate::seal::Suite;
use crate::{Error, Result};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// The format version that this program writes, and the newest one it reads.
pub const FORMAT_VERSION: u64 = 1;

/// Longest description in bytes: thousands of recipients.
const DESCRIPTION_BYTES_MAX: usize = 1 << 20;

/// What the object `repository` holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Description {
    /// Format version of everything in the repository.
    pub format: u64,
    /// Random name of the repository, 32 hexadecimal digits.
    pub id: RepositoryId,
    /// When it was created.
    pub created: Timestamp,
    /// How it is sealed.
    pub suite: Suite,
    /// The data key, wrapped; empty with suite `none`.
    #[serde(default)]
    pub keys: Vec<WrappedKey>,
}

/// The data key, wrapped for some people.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WrappedKey {
    /// How it is wrapped; this program knows `age`.
    pub kind: String,
    /// Who can open it.
    #[serde(default)]
    pub recipients: Vec<String>,
    /// An armoured age file that holds the 32 bytes of the data key.
    pub wrapped: String,
}

/// Random name of a repository.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RepositoryId(pub crate::seal::ContentId);

impl RepositoryId {
    /// Draws one.
    pub fn random() -> Self {
        Self(crate::seal::ContentId(crate::seal::random_bytes()))
    }

    /// Its bytes.
    pub fn bytes(self) -> [u8; 16] {
        self.0.0
    }
}

impl std::fmt::Display for RepositoryId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

impl std::fmt::Debug for RepositoryId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "RepositoryId({self})")
    }
}

/// What is looked at first, so that a description of the future is told from a damaged one.
#[derive(Deserialize)]
struct Outline {
    format: u64,
    suite: Option<String>,
}

impl Description {
    /// Reads a description; `object` names it in errors.
    ///
    /// # Errors
    /// [`Error::UnknownFormat`] and [`Error::UnknownSuite`] for what a newer program wrote, [`Error::Damaged`] for everything else.
    pub fn decode(bytes: &[u8], object: &str) -> Result<Self> {
        let damaged = |what: &'static str| Malformed::new(what).in_object(object);
        if bytes.len() > DESCRIPTION_BYTES_MAX {
            return Err(damaged("it is longer than a description can be"));
        }
        let outline: Outline =
            serde_json::from_slice(bytes).map_err(|_| damaged("it is not JSON with a format version"))?;
        if outline.format != FORMAT_VERSION {
            let object = object.to_owned();
            return Err(Error::UnknownFormat { object, found: outline.format, known: FORMAT_VERSION });
        }
        let suite = outline.suite.ok_or_else(|| damaged("it names no suite"))?;
        if ![Suite::Aes256Gcm, Suite::None].iter().any(|known| known.name() == suite) {
            return Err(Error::UnknownSuite { object: object.to_owned(), suite });
        }
        let description: Self = serde_json::from_slice(bytes)
            .map_err(|_| damaged("a field is missing or is not what it should be"))?;
        if description.keys.is_empty() != (description.suite == Suite::None) {
            return Err(damaged("its keys do not go with its suite"));
        }
        Ok(description)
    }

    /// Everybody who can open the repository.
    pub fn recipients(&self) -> impl Iterator<Item = &str> {
        self.keys.iter().flat_map(|key| key.recipients.iter().map(String::as_str))
    }
}
