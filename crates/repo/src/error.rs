//! What can go wrong with a repository, told apart by what an operator can do about it.
//!
//! Each variant names the object it is about. Damage ([`Error::Damaged`]) is told from a wrong key ([`Error::WrongKey`]) and from
//! a format of the future ([`Error::UnknownFormat`]): the first means restoring from elsewhere, the others never do.

use crate::description::RepositoryId;
use crate::layout::BackupId;
use crate::lease::Holder;
use crate::writer::ArchiveWriter;
use pgproof_store::StoreError;
use thiserror::Error as ThisError;

/// What operations on a repository return.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why bytes are not what the format says. Knows nothing of the object they came from; whoever read them adds it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ThisError)]
#[error("{what}")]
pub struct Malformed {
    /// What is wrong, as the rest of a sentence: `the index names no frame`.
    pub what: &'static str,
}

impl Malformed {
    /// Names what is wrong.
    pub const fn new(what: &'static str) -> Self {
        Self { what }
    }

    /// Adds the object that the bytes came from.
    pub fn in_object(self, object: impl Into<String>) -> Error {
        Error::Damaged { object: object.into(), what: self.what.to_owned() }
    }
}

/// Why an operation on a repository failed.
#[derive(Debug, ThisError)]
#[non_exhaustive]
pub enum Error {
    /// The store failed, or its conditions were not met; the store's error names the object.
    #[error("could not {operation}")]
    Store {
        /// What was being done: `write the manifest`.
        operation: &'static str,
        /// What the store said.
        source: StoreError,
    },
    /// The place holds no repository.
    #[error("{place} holds no repository")]
    NotARepository {
        /// The place, as the store describes itself.
        place: String,
    },
    /// Where this repository was there is another one now.
    #[error("{place} holds another repository now: {found}, and was {expected}")]
    Replaced {
        /// The place, as the store describes itself.
        place: String,
        /// Which is there.
        found: RepositoryId,
        /// Which was opened.
        expected: RepositoryId,
    },
    /// A repository is to be created where one is.
    #[error("{place} already holds a repository")]
    RepositoryExists {
        /// The place, as the store describes itself.
        place: String,
    },
    /// An object has a format version that this program does not know.
    #[error("{object} has format version {found}, and this program knows {known}")]
    UnknownFormat {
        /// The object.
        object: String,
        /// The version found.
        found: u64,
        /// The newest version known.
        known: u64,
    },
    /// A repository is sealed in a way that this program does not know.
    #[error("{object} is sealed with `{suite}`, which this program does not know")]
    UnknownSuite {
        /// The object.
        object: String,
        /// The suite's name.
        suite: String,
    },
    /// The repository is encrypted, and no identity was given.
    #[error("{place} is encrypted, and no key was given")]
    KeyNeeded {
        /// The place, as the store describes itself.
        place: String,
    },
    /// None of the identities given opens the repository.
    #[error("the key does not open {place}, which was encrypted to {}", recipients.join(", "))]
    WrongKey {
        /// The place, as the store describes itself.
        place: String,
        /// Who can open it.
        recipients: Vec<String>,
    },
    /// Several ways to the data key are configured, and none of them led to it.
    #[error("nothing that is configured opens {place}: {}", texts(ways))]
    NoWayIn {
        /// The place, as the store describes itself.
        place: String,
        /// What each of them came to.
        ways: Vec<Error>,
    },
    /// The key command did not do what it was asked for.
    #[error("the key command {program} could not {verb} the data key: {why}")]
    KeyCommand {
        /// The program.
        program: String,
        /// `wrap` or `unwrap`.
        verb: &'static str,
        /// What was seen instead, with what the program complained of.
        why: String,
    },
    /// Keys are to be changed of a repository that has none.
    #[error("{place} is not encrypted: it has no keys")]
    NoKeys {
        /// The place, as the store describes itself.
        place: String,
    },
    /// Somebody else changed the keys between reading and writing.
    #[error("somebody else changed the keys of {place} at the same time; nothing was changed here")]
    KeysChanged {
        /// The place, as the store describes itself.
        place: String,
    },
    /// The only one who can open the repository is to be removed.
    #[error("{recipient} is the last who can open {place}; without it nobody ever could")]
    LastKey {
        /// The place, as the store describes itself.
        place: String,
        /// Who was to be removed.
        recipient: String,
    },
    /// Somebody is to be removed who is not there.
    #[error("{recipient} is not among those who can open {place}: {}", recipients.join(", "))]
    NoSuchRecipient {
        /// The place, as the store describes itself.
        place: String,
        /// Who was to be removed.
        recipient: String,
        /// Who is there.
        recipients: Vec<String>,
    },
    /// The data key was wrapped for several together, so that it cannot be taken from one alone.
    #[error("the data key was wrapped for {recipient} together with {}, who would lose it too", others.join(", "))]
    SharedWrapping {
        /// Who was to be removed.
        recipient: String,
        /// Who would lose it with them.
        others: Vec<String>,
    },
    /// A key was given, but the repository is not encrypted. Refused: otherwise whoever can write to the store could
    /// turn encryption off for all later backups by replacing one object.
    #[error("{place} is not encrypted, but a key was given")]
    NotEncrypted {
        /// The place, as the store describes itself.
        place: String,
    },
    /// The identity file could not be read.
    #[error("could not read the key file {path}")]
    KeyFile {
        /// The file.
        path: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// A text is not an age identity. The text itself is secret and is not shown.
    #[error("{origin} holds no age identity (`AGE-SECRET-KEY-1...`): {reason}")]
    NotAnIdentity {
        /// Where the text came from.
        origin: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// A text is not an age recipient.
    #[error("`{text}` is not an age recipient (`age1...`): {reason}")]
    NotARecipient {
        /// The text.
        text: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// Encryption was asked for without anybody who could decrypt, or recipients were given without encryption.
    #[error("suite `{suite}` does not go with {recipients} recipients")]
    Recipients {
        /// The suite's name.
        suite: &'static str,
        /// How many were given.
        recipients: usize,
    },
    /// Wrapping the data key failed.
    #[error("could not wrap the data key of {place}")]
    Wrap {
        /// The place, as the store describes itself.
        place: String,
        /// What the age library said.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// An object is not what was written: bytes changed, are missing, or belong elsewhere.
    #[error("{object} is damaged: {what}")]
    Damaged {
        /// The object.
        object: String,
        /// What is wrong with it.
        what: String,
    },
    /// An object that another one refers to is gone.
    #[error("{object} is missing")]
    Missing {
        /// The object.
        object: String,
    },
    /// A name is not of the repository's.
    #[error("`{text}` is not {kind}")]
    NotA {
        /// What was expected, with its article: `a backup id`.
        kind: &'static str,
        /// What was found.
        text: String,
    },
    /// The caller handed in something that the format cannot hold.
    #[error("could not {operation}: {reason}")]
    Refused {
        /// What was being done.
        operation: &'static str,
        /// Why the format cannot hold it.
        reason: String,
    },
    /// Another process took the lease over, or expiry removed it.
    #[error("the lease {object} is not held any more")]
    LeaseLost {
        /// The lease.
        object: String,
    },
    /// A backup that is to be resumed may still be running.
    #[error("backup {backup} may still be running: process {} on {} holds its lease", holder.pid, holder.host)]
    LeaseHeld {
        /// The backup.
        backup: BackupId,
        /// Who holds it.
        holder: Holder,
    },
    /// A backup was revoked before it could be published: its writer had not renewed its lease for too long.
    #[error("backup {backup} was revoked by {host}: {why}")]
    Revoked {
        /// The backup.
        backup: BackupId,
        /// The host that revoked it.
        host: String,
        /// Why.
        why: String,
    },
    /// A backup cannot be read or built upon.
    #[error("backup {backup} cannot be used: {why}")]
    BackupGone {
        /// The backup.
        backup: BackupId,
        /// Why.
        why: String,
    },
    /// A server archives that another one has replaced.
    #[error(
        "this server may not archive: {} ({}) took over at {} ({}), with writer epoch {} against {epoch} here",
        writer.host, writer.pgdata, writer.since, writer.reason, writer.epoch
    )]
    WriterSuperseded {
        /// The epoch of this server.
        epoch: u64,
        /// The server that took over.
        writer: Box<ArchiveWriter>,
    },
    /// The file with the server's writer epoch could not be used.
    #[error("could not use {path}")]
    EpochFile {
        /// The file.
        path: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// Nobody waited any longer for a file to be archived, and nothing of it was stored.
    #[error("{path} was not stored: nobody waits for it any more")]
    Withdrawn {
        /// The file.
        path: String,
    },
    /// The archive holds other content under the same name.
    #[error("{name} is archived already with other content: {archived}, this one is {offered}")]
    WalConflict {
        /// The file's name.
        name: String,
        /// What the archive holds: identity, when, by whom.
        archived: String,
        /// What was to be archived.
        offered: String,
    },
    /// A file could not be read or written.
    #[error("could not {operation} {path}")]
    File {
        /// `read`, `write`.
        operation: &'static str,
        /// The file.
        path: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// A thread could not be started.
    #[error("could not start a thread to {operation}")]
    Thread {
        /// What it was to do.
        operation: &'static str,
        /// What the system said.
        source: std::io::Error,
    },
    /// A compression context could not be made or used.
    #[error("could not {operation} with {codec}")]
    Codec {
        /// `compress` or `decompress`.
        operation: &'static str,
        /// The codec's name.
        codec: String,
        /// What the library said.
        source: std::io::Error,
    },
}

/// Each error with what caused it, one behind the other.
fn texts(errors: &[Error]) -> String {
    let text = |error: &Error| match std::error::Error::source(error) {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    };
    errors.iter().map(text).collect::<Vec<_>>().join("; ")
}

impl Error {
    /// Wraps a store's error with what was being done.
    pub fn store(operation: &'static str) -> impl FnOnce(StoreError) -> Self {
        move |source| Self::Store { operation, source }
    }

    /// The store's error below this one, if that is what it is.
    pub fn store_error(&self) -> Option<&StoreError> {
        match self {
            Self::Store { source, .. } => Some(source),
            _ => None,
        }
    }

    /// Whether a conditional write met something else than it expected: an existing object, or another version.
    pub fn is_conflict(&self) -> bool {
        matches!(
            self.store_error(),
            Some(StoreError::AlreadyExists { .. } | StoreError::VersionMismatch { .. })
        )
    }

    /// Whether an object was proven absent.
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::Missing { .. }) || self.store_error().is_some_and(StoreError::is_not_found)
    }

    /// Whether the place lets nobody, or not whoever asks, write.
    pub fn is_read_only(&self) -> bool {
        matches!(self.store_error(), Some(StoreError::ReadOnly { .. } | StoreError::Denied { .. }))
    }

    /// Whether what was read is not what was written; trying again does not help.
    pub fn is_damage(&self) -> bool {
        matches!(self, Self::Damaged { .. } | Self::Missing { .. })
            || matches!(self.store_error(), Some(StoreError::Truncated { .. } | StoreError::NotFound { .. }))
    }

    /// Whether an object among others cannot be made sense of: it is damaged, or of a format of the future, as an object also seems to
    /// be of which the version was damaged. Whoever looks at a whole repository tells it and goes on with the others.
    pub fn is_unreadable(&self) -> bool {
        self.is_damage() || matches!(self, Self::UnknownFormat { .. })
    }

    /// The stable code of this kind of error.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Store { source, .. } => source.code(),
            Self::NotARepository { .. } => "repository-absent",
            Self::Replaced { .. } => "repository-replaced",
            Self::RepositoryExists { .. } => "repository-exists",
            Self::UnknownFormat { .. } => "repository-unknown-format",
            Self::UnknownSuite { .. } => "repository-unknown-suite",
            Self::KeyNeeded { .. } => "repository-key-needed",
            Self::WrongKey { .. } => "repository-wrong-key",
            Self::NotEncrypted { .. } | Self::NoKeys { .. } => "repository-not-encrypted",
            Self::NoWayIn { .. } => "repository-no-way-in",
            Self::KeyCommand { .. } => "repository-key-command",
            Self::KeysChanged { .. } => "repository-keys-changed",
            Self::LastKey { .. } => "repository-last-key",
            Self::NoSuchRecipient { .. } => "repository-recipient-absent",
            Self::SharedWrapping { .. } => "repository-shared-wrapping",
            Self::KeyFile { .. } => "repository-key-file",
            Self::NotAnIdentity { .. } => "repository-not-an-identity",
            Self::NotARecipient { .. } => "repository-not-a-recipient",
            Self::Recipients { .. } => "repository-recipients",
            Self::Wrap { .. } => "repository-wrap",
            Self::Damaged { .. } => "repository-damaged",
            Self::Missing { .. } => "repository-missing",
            Self::NotA { .. } => "repository-not-a-name",
            Self::Refused { .. } => "repository-refused",
            Self::Codec { .. } => "repository-codec",
            Self::LeaseLost { .. } => "lease-lost",
            Self::LeaseHeld { .. } => "lease-held",
            Self::Revoked { .. } => "backup-revoked",
            Self::BackupGone { .. } => "backup-gone",
            Self::WriterSuperseded { .. } => "writer-superseded",
            Self::EpochFile { .. } => "writer-epoch-file",
            Self::Withdrawn { .. } => "wal-withdrawn",
            Self::WalConflict { .. } => "wal-conflict",
            Self::File { .. } => "repository-file",
            Self::Thread { .. } => "repository-thread",
        }
    }

    /// What an operator can do, as a command or a question.
    pub fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::Store { source, .. } => return source.hint(),
            Self::NotARepository { .. } => {
                "is its disk mounted, and the path right? If this is a new repository, run `pgproof init`"
            }
            Self::Replaced { .. } => "start the command again, with the new repository's key",
            Self::RepositoryExists { .. } => "choose an empty place, or use the repository that is there",
            Self::UnknownFormat { .. } | Self::UnknownSuite { .. } => {
                "was it written by a newer pgproof? Use at least that version"
            }
            Self::KeyNeeded { .. } => {
                "name the file with the age identity as `key_file`, or a `key_command`, in pgproof.toml; `pgproof key list` \
                 shows who can open it"
            }
            Self::WrongKey { .. } => {
                "is the identity of one of these recipients at hand? Name its file with --key-file; see docs/manual/keys.md"
            }
            Self::NoWayIn { .. } => {
                "mend one of them, or name the file of another identity with --key-file: `pgproof key list` shows who can open it"
            }
            Self::KeyCommand { .. } => {
                "run it by hand as the user that runs pgproof: does it reach its key service? docs/manual/keys.md says what it is to do"
            }
            Self::NoKeys { .. } => {
                "encryption is chosen when a repository is made: `pgproof init` makes a new one"
            }
            Self::KeysChanged { .. } => {
                "look at what they are now with `pgproof key list`, and run the command again"
            }
            Self::LastKey { .. } => "add another one first: `pgproof key add`",
            Self::NoSuchRecipient { .. } => "`pgproof key list` shows who can open it",
            Self::SharedWrapping { .. } => {
                "give each of the others a wrapping of its own first: `pgproof key add --recipient ...`"
            }
            Self::NotEncrypted { .. } => {
                "is this the right repository? If it was created without encryption, remove `key_file` and `key_command` from pgproof.toml"
            }
            Self::KeyFile { source, .. } if source.kind() == std::io::ErrorKind::NotFound => {
                "is the key lost? `pgproof key list` shows who else can open the repository: name the file of such an identity \
                 with --key-file, and see docs/manual/keys.md"
            }
            Self::KeyFile { .. } => "may this user read the file?",
            Self::Damaged { .. } | Self::Missing { .. } => {
                "run `pgproof verify` to see which backups and recovery windows this hurts"
            }
            Self::Recipients { .. } => "give at least one recipient with encryption, and none without",
            Self::LeaseLost { .. } | Self::Revoked { .. } => {
                "was this host asleep, or cut off from the repository for long? Run the command again"
            }
            Self::LeaseHeld { .. } => {
                "wait for it to end. If that process is gone, its lease runs out within minutes"
            }
            Self::BackupGone { .. } => "run `pgproof list` to see which backups there are",
            Self::WriterSuperseded { .. } => {
                "is this the old server? Then stop it. If it is to archive again, run `pgproof restore --take-over` or \
                 `pgproof archive take-over` on it"
            }
            Self::EpochFile { .. } => {
                "may this user read the data directory, and is the file a plain number?"
            }
            Self::Withdrawn { .. } => "`pgproof archive status` shows what the repository lacks",
            Self::WalConflict { .. } => {
                "do two servers archive into one place? A restored or promoted copy needs a repository of its own, or \
                 `archive_mode = off`, or has to take over"
            }
            Self::File { .. } => "does the file exist, and may this user access it?",
            Self::Thread { .. } => "is the limit of processes for this user reached (`ulimit -u`)?",
            Self::NotAnIdentity { .. }
            | Self::NotARecipient { .. }
            | Self::Wrap { .. }
            | Self::NotA { .. }
            | Self::Refused { .. }
            | Self::Codec { .. } => return None,
        };
        Some(hint.to_owned())
    }
}
