//! The description of a repository: the one object that is read before any key is known.
//!
//! Section 2 of `docs/formats/repository.md`. It is JSON so that a person with an age identity and no pgproof can see what this is.

use crate::error::Malformed;
use crate::seal::{ContentId, Suite};
use crate::{Error, Result};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

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

/// The kind of a wrapping for age recipients.
pub const AGE_KIND: &str = "age";

/// The kind of a wrapping by a key command.
pub const COMMAND_KIND: &str = "command";

/// The data key, wrapped for some people or by a program.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WrappedKey {
    /// How it is wrapped; this program knows [`AGE_KIND`] and [`COMMAND_KIND`].
    pub kind: String,
    /// Who can open it: age recipients, or the program.
    #[serde(default)]
    pub recipients: Vec<String>,
    /// When this wrapping was made, by the store's clock; the first one's is when the repository was created.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub added: Option<Timestamp>,
    /// An armoured age file that holds the 32 bytes of the data key, or what the program answered, in hexadecimal.
    pub wrapped: String,
    /// With a program, which may answer anything: tells the right key from a wrong one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub check: Option<ContentId>,
    /// What a newer program wrote and this one does not know: it is kept when the keys are changed.
    #[serde(flatten)]
    other: BTreeMap<String, serde_json::Value>,
}

impl WrappedKey {
    /// An armoured age file for one recipient.
    pub(crate) fn age(recipient: String, wrapped: String) -> Self {
        let (kind, recipients) = (AGE_KIND.to_owned(), vec![recipient]);
        Self { kind, recipients, added: None, wrapped, check: None, other: BTreeMap::new() }
    }

    /// What a program made of the data key.
    pub(crate) fn command(program: &str, wrapped: &[u8], check: ContentId) -> Self {
        let (kind, recipients) = (COMMAND_KIND.to_owned(), vec![program.to_owned()]);
        let wrapped = wrapped.iter().map(|byte| format!("{byte:02x}")).collect();
        Self { kind, recipients, added: None, wrapped, check: Some(check), other: BTreeMap::new() }
    }

    /// What the program is to unwrap; none when it is not hexadecimal.
    pub(crate) fn bytes(&self) -> Option<Vec<u8>> {
        let digits: Option<Vec<u8>> =
            self.wrapped.chars().map(|c| c.to_digit(16).and_then(|digit| u8::try_from(digit).ok())).collect();
        let (pairs, []) = digits.as_ref()?.as_chunks::<2>() else { return None };
        Some(pairs.iter().map(|[high, low]| high << 4 | low).collect())
    }
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

    /// The bytes of the object.
    ///
    /// # Errors
    /// [`Error::Refused`] when it became longer than readers take.
    pub(crate) fn encode(&self) -> Result<Vec<u8>> {
        let mut json = serde_json::to_vec_pretty(self).expect("a description is plain data");
        json.push(b'\n');
        if json.len() > DESCRIPTION_BYTES_MAX {
            let reason = format!("it would have {} bytes, more than {DESCRIPTION_BYTES_MAX}", json.len());
            return Err(Error::Refused { operation: "write the description of the repository", reason });
        }
        Ok(json)
    }

    /// Everybody who can open the repository, as the description says it: age recipients, and the program of a key command.
    pub fn recipients(&self) -> impl Iterator<Item = &str> {
        self.keys.iter().flat_map(|key| key.recipients.iter().map(String::as_str))
    }
}
