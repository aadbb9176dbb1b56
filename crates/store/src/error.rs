//! What can go wrong with a store, told apart by what the caller can do about it.
//!
//! [`StoreError::NotFound`] is proof that the object is absent, never a guess: PostgreSQL ends recovery on the answer "no such
//! segment". Everything that leaves the question open (an unmounted disk, a missing bucket, a lost reply) is
//! [`StoreError::Unreachable`] or [`StoreError::Timeout`].

use crate::Version;
use std::{fmt, io, time::Duration};

/// The error below a store error.
pub type Source = Box<dyn std::error::Error + Send + Sync>;

/// What a store was asked to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Operation {
    /// Open an existing repository's store.
    Open,
    /// Create the place of a new repository.
    Create,
    /// Store an object.
    Put,
    /// Read an object or a range of it.
    Get,
    /// Ask for an object's size, time and version.
    Head,
    /// List objects or directories.
    List,
    /// Remove an object.
    Delete,
    /// Ask for the store's clock.
    Clock,
    /// Remove what interrupted writers left.
    Clean,
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Open => "open",
            Self::Create => "create",
            Self::Put => "store",
            Self::Get => "read",
            Self::Head => "look up",
            Self::List => "list",
            Self::Delete => "remove",
            Self::Clock => "ask the clock of",
            Self::Clean => "clean up",
        })
    }
}

/// Why a store did not do what it was asked. `object` is the full place: `/backup/wal/…`, `s3://bucket/prefix/wal/…`.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The store proved that the object does not exist.
    #[error("there is no object {object}")]
    NotFound {
        /// The absent object.
        object: String,
    },
    /// [`PutMode::IfAbsent`](crate::PutMode::IfAbsent) met an existing object. Nothing was written, and the existing object is durable.
    #[error("{object} already exists")]
    AlreadyExists {
        /// The existing object.
        object: String,
    },
    /// [`PutMode::IfMatch`](crate::PutMode::IfMatch) met another version, or no object at all. Nothing was written.
    #[error("{object} was changed by someone else")]
    VersionMismatch {
        /// The changed object.
        object: String,
        /// Its version now, where the store told; none when it is gone or the store did not tell.
        found: Option<Version>,
    },
    /// The place itself could not be reached; nothing is known about the object. Trying again can help.
    #[error("could not {operation} {object}: the store is unreachable")]
    Unreachable {
        /// What was tried.
        operation: Operation,
        /// On which object.
        object: String,
        /// What the system said.
        source: Source,
    },
    /// The store did not answer in time; a write may or may not have happened. Trying again can help.
    #[error("could not {operation} {object}: no answer within {} s", after.as_secs())]
    Timeout {
        /// What was tried.
        operation: Operation,
        /// On which object.
        object: String,
        /// How long it was waited for.
        after: Duration,
    },
    /// The store refused the caller.
    #[error("could not {operation} {object}: permission denied")]
    Denied {
        /// What was tried.
        operation: Operation,
        /// On which object.
        object: String,
        /// What the store said.
        source: Source,
    },
    /// The store is full, or a quota is.
    #[error("could not {operation} {object}: no space left")]
    NoSpace {
        /// What was tried.
        operation: Operation,
        /// On which object.
        object: String,
        /// What the system said.
        source: Source,
    },
    /// The store takes no writes at all.
    #[error("could not {operation} {object}: the store is read-only")]
    ReadOnly {
        /// What was tried.
        operation: Operation,
        /// On which object.
        object: String,
        /// What the system said.
        source: Source,
    },
    /// The object ended before the bytes that were asked for.
    #[error("{object} is truncated: asked for {wanted} bytes at {offset}, got {got}")]
    Truncated {
        /// The short object.
        object: String,
        /// Where reading began, in bytes.
        offset: u64,
        /// How many bytes were asked for.
        wanted: u64,
        /// How many there were.
        got: u64,
    },
    /// The name cannot name an object.
    #[error("`{}` cannot name an object: {reason}", path.escape_debug())]
    InvalidPath {
        /// The refused name.
        path: String,
        /// The rule that it breaks.
        reason: &'static str,
    },
    /// The place exists, or could, but holds no repository: never initialised, or its disk is not mounted.
    #[error("{place} holds no repository")]
    NoRepository {
        /// The place.
        place: String,
    },
    /// A setting of the store cannot be used.
    #[error("store setting `{setting}` cannot be used: {reason}")]
    Setting {
        /// The setting's name.
        setting: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// The store cannot do this at all, here.
    #[error("could not {operation} {object}: the store does not support {what}")]
    Unsupported {
        /// What was tried.
        operation: Operation,
        /// On which object.
        object: String,
        /// The missing feature.
        what: &'static str,
    },
    /// Anything else.
    #[error("could not {operation} {object}")]
    Other {
        /// What was tried.
        operation: Operation,
        /// On which object.
        object: String,
        /// What the system said.
        source: Source,
    },
}

impl StoreError {
    /// The stable code of this kind of error.
    pub fn code(&self) -> &'static str {
        match self {
            Self::NotFound { .. } => "store-not-found",
            Self::AlreadyExists { .. } => "store-already-exists",
            Self::VersionMismatch { .. } => "store-version-mismatch",
            Self::Unreachable { .. } => "store-unreachable",
            Self::Timeout { .. } => "store-timeout",
            Self::Denied { .. } => "store-denied",
            Self::NoSpace { .. } => "store-no-space",
            Self::ReadOnly { .. } => "store-read-only",
            Self::Truncated { .. } => "store-truncated",
            Self::InvalidPath { .. } => "store-invalid-path",
            Self::NoRepository { .. } => "store-no-repository",
            Self::Setting { .. } => "store-setting",
            Self::Unsupported { .. } => "store-unsupported",
            Self::Other { .. } => "store-other",
        }
    }

    /// Whether the same request can succeed a little later without anybody doing anything.
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::Unreachable { .. } | Self::Timeout { .. })
    }

    /// Whether the object was proven absent.
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::NotFound { .. })
    }

    /// What an operator can do, as a command or a question.
    pub fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::Unreachable { .. } => "is the disk mounted, or the network and the endpoint up?",
            Self::Timeout { .. } => "is the store overloaded, or a firewall dropping packets?",
            Self::Denied { .. } => "may this user, or these credentials, read and write the repository?",
            Self::NoSpace { .. } => "free space, or shorten the retention and run `pgproof expire`",
            Self::ReadOnly { .. } => "was the file system remounted read-only after an error (see `dmesg`)?",
            Self::Truncated { .. } => "run `pgproof verify` to see which backups need this object",
            Self::NoRepository { .. } => {
                "is its disk mounted? If this is a new repository, run `pgproof init`"
            }
            Self::Setting { .. } => "see docs/stores.md for the settings of each kind of store",
            Self::Unsupported { .. } => "run `pgproof check` to see what this store lacks",
            Self::NotFound { .. }
            | Self::AlreadyExists { .. }
            | Self::VersionMismatch { .. }
            | Self::InvalidPath { .. }
            | Self::Other { .. } => return None,
        };
        Some(hint.to_owned())
    }

    /// Sorts an error of the operating system by what it means for the caller. `ENOENT` is not sorted here: only the
    /// backend can tell whether it proves absence.
    pub(crate) fn from_io(operation: Operation, object: String, error: io::Error) -> Self {
        use rustix::io::Errno;
        let source = |error: io::Error| -> Source { Box::new(error) };
        match Errno::from_io_error(&error) {
            Some(Errno::NOSPC | Errno::DQUOT) => Self::NoSpace { operation, object, source: source(error) },
            Some(Errno::ROFS) => Self::ReadOnly { operation, object, source: source(error) },
            Some(Errno::ACCESS | Errno::PERM) => Self::Denied { operation, object, source: source(error) },
            Some(
                Errno::STALE
                | Errno::NODEV
                | Errno::NXIO
                | Errno::NOTCONN
                | Errno::TIMEDOUT
                | Errno::HOSTDOWN
                | Errno::HOSTUNREACH
                | Errno::NETUNREACH
                | Errno::SHUTDOWN,
            ) => Self::Unreachable { operation, object, source: source(error) },
            _ => Self::Other { operation, object, source: source(error) },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::io::Errno;

    #[test]
    fn system_errors_are_sorted_by_what_helps() {
        let code = |errno: Errno| StoreError::from_io(Operation::Put, "/r/x".to_owned(), errno.into()).code();
        assert_eq!(code(Errno::NOSPC), "store-no-space");
        assert_eq!(code(Errno::DQUOT), "store-no-space");
        assert_eq!(code(Errno::ROFS), "store-read-only");
        assert_eq!(code(Errno::ACCESS), "store-denied");
        assert_eq!(code(Errno::STALE), "store-unreachable");
        assert_eq!(code(Errno::IO), "store-other");
    }

    #[test]
    fn errors_name_the_operation_and_the_object_but_not_the_source() {
        let error = StoreError::from_io(Operation::Put, "/r/x".to_owned(), Errno::NOSPC.into());
        assert_eq!(error.to_string(), "could not store /r/x: no space left");
        assert!(error.hint().is_some_and(|hint| hint.contains("pgproof expire")));
    }
}
