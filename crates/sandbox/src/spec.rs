//! What the processes of a sandbox are to do, decided by whoever makes it and written down once.

use crate::record::Kind;
use crate::request::{Call, Limits, Mask};
use jiff::Timestamp;
use pgproof_pg::{Lsn, SystemIdentifier, TimelineId};
use pgproof_repo::BackupId;
use pgproof_restore::twophase::StartingXid;
use pgproof_server::Owner;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// Nothing in it is left to be chosen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Spec {
    pub(crate) name: String,
    pub(crate) kind: Kind,
    pub(crate) system: SystemIdentifier,
    pub(crate) backup: BackupId,
    pub(crate) timeline: TimelineId,
    /// The first position to replay: WAL from here on must stay in the repository.
    pub(crate) replay_from: Lsn,
    pub(crate) server_version: u32,
    /// Which state files of prepared transactions are left to WAL.
    pub(crate) starting: StartingXid,
    /// Directory of `postgres`.
    pub(crate) programs: PathBuf,
    /// Whom everything but the keeper runs as, where root made the sandbox.
    pub(crate) owner: Option<Owner>,
    pub(crate) call: Call,
    pub(crate) mask: Option<Mask>,
    pub(crate) tcp: Option<u16>,
    /// Roles that may be superuser.
    pub(crate) roles: Vec<String>,
    pub(crate) limits: Limits,
    pub(crate) workers: usize,
    pub(crate) expires: Option<Timestamp>,
    /// Everything that the server is told on its command line but for where its sockets are.
    pub(crate) settings: Vec<(String, String)>,
    /// What the maker read of the repository.
    pub(crate) bytes_read: u64,
    /// How often it asked.
    pub(crate) requests: u64,
    /// Bytes of WAL to replay at most.
    pub(crate) replay_bytes: u64,
}
