//! What is asked of a sandbox.

use pgproof_pg::SystemIdentifier;
use pgproof_repo::walset::Target;
use pgproof_restore::{Edge, GapRule, RecoveryTarget, TargetAction, TimelineChoice};
use pgproof_server::Owner;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How the data directory comes to be.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// Lazily where FUSE can be used, else by a restore; the report says which and why.
    #[default]
    Auto,
    /// Pages are fetched when they are read.
    Lazy,
    /// Everything is restored first.
    Full,
}

/// How this program is called for the processes of a sandbox.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Call {
    /// The program.
    pub program: PathBuf,
    /// What names the repository on its command line: `--config FILE`, `--repository PLACE --key-file FILE`.
    pub repository: Vec<String>,
    /// Further arguments of `archive get`.
    pub get: Vec<String>,
}

/// SQL that runs before anybody else can connect.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mask {
    /// The file, for psql.
    pub file: PathBuf,
    /// The database it begins in; `\connect` in the file leads to others.
    pub database: String,
}

/// What a sandbox may take of its host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Bytes of decoded extents that the file system keeps in memory.
    pub cache_bytes: u64,
    /// Bytes that the clone may change; beyond them it sees a full disk.
    pub layer_bytes: u64,
    /// How long recovery may not come forward.
    pub stall_s: u64,
}

impl Default for Limits {
    /// 64 MiB of memory, as much disk as there is, and ten minutes: a segment of 1 GB that comes from far away.
    fn default() -> Self {
        Self { cache_bytes: 64 << 20, layer_bytes: u64::MAX, stall_s: 600 }
    }
}

/// A sandbox that is wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// Its name; made from the time when not given.
    pub name: Option<String>,
    /// Where the sandboxes of this account lie.
    pub place: PathBuf,
    /// The instant, the timeline, and the backup where one is wanted.
    pub recovery: pgproof_restore::Request,
    /// Of which cluster, where the repository holds several.
    pub system: Option<SystemIdentifier>,
    /// How long it lives; for ever when not given.
    pub ttl: Option<Duration>,
    /// How its data directory comes to be.
    pub mode: Mode,
    /// SQL to run first.
    pub mask: Option<Mask>,
    /// Listen on this port of localhost too. The server then has the host's network.
    pub tcp: Option<u16>,
    /// How the processes are called.
    pub call: Call,
    /// Roles that may be superuser, tried in turn.
    pub roles: Vec<String>,
    /// Whom the server runs as, when this process is root.
    pub owner: Option<Owner>,
    /// Threads of a full restore.
    pub workers: usize,
    /// What it may take.
    pub limits: Limits,
}

impl Request {
    /// A clone of the latest instant below `place`, with nothing special about it.
    pub fn latest(place: &Path, call: Call) -> Self {
        let target =
            RecoveryTarget { stop: Target::Latest, edge: Edge::Inclusive, action: TargetAction::Promote };
        let recovery = pgproof_restore::Request {
            target,
            timeline: TimelineChoice::Latest,
            backup: None,
            gap: GapRule::Refuse,
        };
        Self {
            name: None,
            place: place.to_owned(),
            recovery,
            system: None,
            ttl: Some(Duration::from_secs(4 * 3600)),
            mode: Mode::Auto,
            mask: None,
            tcp: None,
            call,
            roles: vec!["postgres".to_owned()],
            owner: None,
            workers: pgproof_restore::default_workers(),
            limits: Limits::default(),
        }
    }
}
