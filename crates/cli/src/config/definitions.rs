//! Every setting of `pgproof.toml`, once: this table feeds the reader, `config explain`, the file that `init` writes and
//! `docs/manual/configuration.md`.
//!
//! A setting that is not here does not exist, and a setting that is here is read somewhere: `settings.rs` asks for each by name, and a
//! test compares the two. Ranges are checked when the file is read, so that a typing error is found by `check` and not by the
//! first backup.

use super::agent::AGENT;
use super::cluster::CLUSTER;
use pgproof_server::{ChannelBinding, SslMode};

/// The tables of the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Section {
    /// `[instance]`
    Instance,
    /// `[repository.NAME]`
    Repository,
    /// `[backup]`
    Backup,
    /// `[archive]`
    Archive,
    /// `[retention]`
    Retention,
    /// `[objectives]`
    Objectives,
    /// `[drill]`
    Drill,
    /// `[agent]`
    Agent,
    /// `[cluster]`
    Cluster,
}

impl Section {
    pub(crate) const ALL: [Self; 9] = [
        Self::Instance,
        Self::Repository,
        Self::Backup,
        Self::Archive,
        Self::Retention,
        Self::Objectives,
        Self::Drill,
        Self::Agent,
        Self::Cluster,
    ];

    /// The table's name in the file.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Instance => "instance",
            Self::Repository => "repository",
            Self::Backup => "backup",
            Self::Archive => "archive",
            Self::Retention => "retention",
            Self::Objectives => "objectives",
            Self::Drill => "drill",
            Self::Agent => "agent",
            Self::Cluster => "cluster",
        }
    }

    /// What the table is about.
    pub(crate) fn doc(self) -> &'static str {
        match self {
            Self::Instance => "The PostgreSQL server that is backed up.",
            Self::Repository => {
                "Where backups and WAL are kept. NAME is yours to choose. WAL and backups go to each repository that has such a table; the order \
                 of the tables is the order in which repositories are read. See docs/manual/repositories.md."
            }
            Self::Backup => "How `pgproof backup` works.",
            Self::Archive => "How `pgproof archive push` and `pgproof archive get` work.",
            Self::Retention => {
                "What `pgproof expire` keeps. A backup is kept when any rule, a pin or a running restore wants it. The newest good \
                 backup is always kept. Without any `keep_` setting, nothing expires. A table `[repository.NAME.retention]` says otherwise \
                 for one repository, setting by setting."
            }
            Self::Objectives => {
                "What is promised. `pgproof status` compares it with what was measured, and exits with 1 when an objective is broken or nothing \
                 proves it. What is not set is not judged. See docs/manual/status.md."
            }
            Self::Drill => "How `pgproof drill` works. See docs/manual/drill.md.",
            Self::Agent => {
                "What `pgproof agent` does by itself so that the objectives are kept. See docs/manual/agent.md."
            }
            Self::Cluster => "What `pgproof agent` keeps available. See docs/manual/cluster.md.",
        }
    }
}

/// What a setting's value looks like.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Kind {
    /// Any text.
    Text,
    /// Text that is never shown.
    Secret,
    /// An absolute path.
    Path,
    /// `true` or `false`.
    Boolean,
    /// A whole number in this range.
    Integer { min: i64, max: i64 },
    /// Bytes with PostgreSQL's units, in this range.
    Size { min: u64, max: u64 },
    /// A duration with PostgreSQL's units, of at least so many milliseconds.
    Duration { min_ms: u64 },
    /// `zstd:LEVEL`, `lz4` or `none`.
    Compression,
    /// A program by its absolute path, and its arguments.
    Command,
    /// One of these words.
    Choice(&'static [&'static str]),
    /// `objective`, `never`, or the fields of crontab.
    Schedule,
}

impl Kind {
    /// How the reference describes it.
    pub(crate) fn describe(self) -> String {
        match self {
            Self::Text => "text".to_owned(),
            Self::Secret => "text, never shown".to_owned(),
            Self::Path => "absolute path".to_owned(),
            Self::Boolean => "true or false".to_owned(),
            Self::Integer { min, max: i64::MAX } => format!("whole number, at least {min}"),
            Self::Integer { min, max } => format!("whole number, {min} to {max}"),
            Self::Size { min, max } => {
                format!("size, {} to {}", pgproof_base::Bytes(min), pgproof_base::Bytes(max))
            }
            Self::Duration { min_ms: 0 } => "duration".to_owned(),
            Self::Duration { min_ms } => {
                let min = pgproof_base::human_duration(std::time::Duration::from_millis(min_ms));
                format!("duration, at least {min}")
            }
            Self::Choice(words) => format!("one of `{}`", words.join("`, `")),
            Self::Schedule => "`objective`, `never`, or the fields of crontab".to_owned(),
            Self::Command => "program by its absolute path, with arguments".to_owned(),
            Self::Compression => "`zstd:1` to `zstd:22`, `lz4` or `none`".to_owned(),
        }
    }
}

/// What counts when nobody sets it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Otherwise {
    /// This value.
    Value(&'static str),
    /// Found out when it is needed; the text says how.
    Found(&'static str),
}

/// One setting.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Key {
    pub(crate) section: Section,
    pub(crate) name: &'static str,
    pub(crate) kind: Kind,
    pub(crate) otherwise: Otherwise,
    /// A variable of libpq, the server, AWS, Google or Azure that is asked when neither flag, `PGPROOF_` variable nor file says anything.
    pub(crate) variable: Option<&'static str>,
    /// A value as the file could have it.
    pub(crate) example: &'static str,
    /// What it does and why one would change it.
    pub(crate) doc: &'static str,
}

const COUNT: Kind = Kind::Integer { min: 1, max: i64::MAX };

/// A duration that is promised.
const fn objective(name: &'static str, example: &'static str, doc: &'static str) -> Key {
    Key {
        section: Section::Objectives,
        name,
        kind: Kind::Duration { min_ms: 1000 },
        otherwise: Otherwise::Found("not judged"),
        variable: None,
        example,
        doc,
    }
}

/// All settings, in the order of the file and of the reference.
pub(crate) static KEYS: &[Key] =
    &joined::<{ GENERAL.len() + AGENT.len() + CLUSTER.len() }>(&[GENERAL, AGENT, CLUSTER]);

/// The settings of all tables, one after another.
const fn joined<const N: usize>(tables: &[&[Key]]) -> [Key; N] {
    let mut all = [tables[0][0]; N];
    let (mut table, mut at, mut to) = (0, 0, 0);
    while to < N {
        if at == tables[table].len() {
            (table, at) = (table + 1, 0);
            continue;
        }
        all[to] = tables[table][at];
        (at, to) = (at + 1, to + 1);
    }
    all
}

const GENERAL: &[Key] = &[
    Key {
        section: Section::Instance,
        name: "pgdata",
        kind: Kind::Path,
        otherwise: Otherwise::Found("the running server's, where there is exactly one"),
        variable: Some("PGDATA"),
        example: "\"/var/lib/postgresql/17/main\"",
        doc: "The data directory. `archive push` and `archive get` do not use it: PostgreSQL runs them inside the data directory that they serve.",
    },
    Key {
        section: Section::Instance,
        name: "port",
        kind: Kind::Integer { min: 1, max: 65_535 },
        otherwise: Otherwise::Found("what `postmaster.pid` in the data directory says, else 5432"),
        variable: Some("PGPORT"),
        example: "5432",
        doc: "The server's port; it is also part of the name of its Unix socket.",
    },
    Key {
        section: Section::Instance,
        name: "socket_directory",
        kind: Kind::Path,
        otherwise: Otherwise::Found("what `postmaster.pid` says"),
        variable: None,
        example: "\"/var/run/postgresql\"",
        doc: "Directory of the server's Unix socket.",
    },
    Key {
        section: Section::Instance,
        name: "host",
        kind: Kind::Text,
        otherwise: Otherwise::Found("the Unix socket"),
        variable: Some("PGHOST"),
        example: "\"127.0.0.1\"",
        doc: "Name or address to connect to instead of the Unix socket. The data directory must be on this host all the same: its files are read directly.",
    },
    Key {
        section: Section::Instance,
        name: "user",
        kind: Kind::Text,
        otherwise: Otherwise::Found("the owner of the data directory"),
        variable: Some("PGUSER"),
        example: "\"postgres\"",
        doc: "Role to connect as. It needs to be a superuser for `init`; for backups, see docs/manual/backup.md.",
    },
    Key {
        section: Section::Instance,
        name: "database",
        kind: Kind::Text,
        otherwise: Otherwise::Value("postgres"),
        variable: Some("PGDATABASE"),
        example: "\"postgres\"",
        doc: "Database to connect to. Every backup covers the whole cluster whatever is named here.",
    },
    Key {
        section: Section::Instance,
        name: "sslmode",
        kind: Kind::Choice(&SslMode::NAMES),
        otherwise: Otherwise::Found("prefer; verify-full with `sslrootcert = \"system\"`"),
        variable: Some("PGSSLMODE"),
        example: "\"verify-full\"",
        doc: "Whether connections through a network are encrypted, and how far the server is checked, as libpq has it. Only verify-full keeps out whoever can stand between. A Unix socket has no TLS, whatever is set here. See docs/manual/tls.md.",
    },
    Key {
        section: Section::Instance,
        name: "sslrootcert",
        kind: Kind::Text,
        otherwise: Otherwise::Found("`~/.postgresql/root.crt`, if it is there"),
        variable: Some("PGSSLROOTCERT"),
        example: "\"/etc/pgproof/root.crt\"",
        doc: "File with the certificates of the authorities that the server's is checked against, or `system` for those of the operating system.",
    },
    Key {
        section: Section::Instance,
        name: "sslcert",
        kind: Kind::Path,
        otherwise: Otherwise::Found("`~/.postgresql/postgresql.crt`, if it is there"),
        variable: Some("PGSSLCERT"),
        example: "\"/etc/pgproof/client.crt\"",
        doc: "Certificate that is shown to the server, for `cert` in pg_hba.conf.",
    },
    Key {
        section: Section::Instance,
        name: "sslkey",
        kind: Kind::Path,
        otherwise: Otherwise::Found("`~/.postgresql/postgresql.key`, if it is there"),
        variable: Some("PGSSLKEY"),
        example: "\"/etc/pgproof/client.key\"",
        doc: "Private key of that certificate, without a passphrase, readable by its owner alone.",
    },
    Key {
        section: Section::Instance,
        name: "channel_binding",
        kind: Kind::Choice(&ChannelBinding::NAMES),
        otherwise: Otherwise::Found("prefer"),
        variable: Some("PGCHANNELBINDING"),
        example: "\"require\"",
        doc: "Whether a password is proved for this very TLS connection (SCRAM-SHA-256-PLUS), so that nobody in between can hand the proof on.",
    },
    Key {
        section: Section::Repository,
        name: "path",
        kind: Kind::Path,
        otherwise: Otherwise::Found("none; `path` or `url` is needed"),
        variable: None,
        example: "\"/var/lib/pgproof/main\"",
        doc: "Directory of the repository. Put it on another disk than the data directory, better on another host (NFS and the like work).",
    },
    Key {
        section: Section::Repository,
        name: "url",
        kind: Kind::Text,
        otherwise: Otherwise::Found("none; `path` or `url` is needed"),
        variable: None,
        example: "\"s3://bucket/prefix\"",
        doc: "Place of a repository in object storage: `s3://BUCKET/PREFIX` (S3 or a store that speaks its protocol), `gs://BUCKET/PREFIX` (Google Cloud Storage) or `az://CONTAINER/PREFIX` (Azure Blob).",
    },
    Key {
        section: Section::Repository,
        name: "key_file",
        kind: Kind::Path,
        otherwise: Otherwise::Found("none; needed when the repository is encrypted"),
        variable: None,
        example: "\"/etc/pgproof/main.key\"",
        doc: "age identity that opens the repository. Without this file an encrypted repository cannot be read by anybody: keep a copy elsewhere, or add the recipient of a second one (docs/manual/keys.md).",
    },
    Key {
        section: Section::Repository,
        name: "key_command",
        kind: Kind::Command,
        otherwise: Otherwise::Found("none; instead of `key_file` or beside it"),
        variable: None,
        example: "\"/usr/local/bin/key-service --name backups\"",
        doc: "Program that unwraps the repository's key, for key services: docs/manual/keys.md says how it is called. Words are separated by blanks, one with blanks stands in quotes; no shell is involved. It runs once for each pgproof command, also for each `archive push`.",
    },
    Key {
        section: Section::Repository,
        name: "key_command_timeout",
        kind: Kind::Duration { min_ms: 100 },
        otherwise: Otherwise::Value("30s"),
        variable: None,
        example: "\"30s\"",
        doc: "How long the key command may take before it is killed.",
    },
    Key {
        section: Section::Repository,
        name: "required",
        kind: Kind::Boolean,
        otherwise: Otherwise::Value("true"),
        variable: None,
        example: "true",
        doc: "Whether WAL counts as archived only when this repository holds it. One that is not required may lag: PostgreSQL does not wait for it, `archive status` shows what it lacks, and `pgproof repair` brings it from another one. At least one must be required.",
    },
    Key {
        section: Section::Repository,
        name: "endpoint",
        kind: Kind::Text,
        otherwise: Otherwise::Found("AWS's own for the region, Google's, or the Azure account's"),
        variable: Some("AWS_ENDPOINT_URL"),
        example: "\"https://minio.example.org:9000\"",
        doc: "Where the store listens, when it is not AWS, Google or Azure. The variable counts for S3 only.",
    },
    Key {
        section: Section::Repository,
        name: "region",
        kind: Kind::Text,
        otherwise: Otherwise::Found("us-east-1"),
        variable: Some("AWS_REGION"),
        example: "\"eu-central-1\"",
        doc: "Region of the bucket; part of every signature.",
    },
    Key {
        section: Section::Repository,
        name: "path_style",
        kind: Kind::Boolean,
        otherwise: Otherwise::Found("true when an endpoint is set"),
        variable: None,
        example: "true",
        doc: "Whether the bucket is part of the path (`https://host/bucket/key`) instead of the host name. MinIO, Ceph and most others want true.",
    },
    Key {
        section: Section::Repository,
        name: "access_key_id",
        kind: Kind::Text,
        otherwise: Otherwise::Found("none"),
        variable: Some("AWS_ACCESS_KEY_ID"),
        example: "\"AKIA...\"",
        doc: "Name of the credentials.",
    },
    Key {
        section: Section::Repository,
        name: "secret_access_key",
        kind: Kind::Secret,
        otherwise: Otherwise::Found("none"),
        variable: Some("AWS_SECRET_ACCESS_KEY"),
        example: "\"...\"",
        doc: "The secret itself. `secret_access_key_file` keeps it out of this file.",
    },
    Key {
        section: Section::Repository,
        name: "secret_access_key_file",
        kind: Kind::Path,
        otherwise: Otherwise::Found("none"),
        variable: None,
        example: "\"/etc/pgproof/main.s3-secret\"",
        doc: "File whose first line is the secret. The server's own user must be able to read it, nobody else should.",
    },
    Key {
        section: Section::Repository,
        name: "session_token",
        kind: Kind::Secret,
        otherwise: Otherwise::Found("none"),
        variable: Some("AWS_SESSION_TOKEN"),
        example: "\"...\"",
        doc: "Token that belongs to temporary credentials.",
    },
    Key {
        section: Section::Repository,
        name: "allow_http",
        kind: Kind::Boolean,
        otherwise: Otherwise::Value("false"),
        variable: None,
        example: "false",
        doc: "Whether an endpoint without TLS (`http://`) is accepted.",
    },
    Key {
        section: Section::Repository,
        name: "bulk_delete",
        kind: Kind::Boolean,
        otherwise: Otherwise::Value("true"),
        variable: None,
        example: "true",
        doc: "Whether the store can remove many objects with one request (DeleteObjects). Some that speak S3 cannot.",
    },
    Key {
        section: Section::Repository,
        name: "object_lock_mode",
        kind: Kind::Choice(&["governance", "compliance"]),
        otherwise: Otherwise::Value("governance"),
        variable: None,
        example: "\"compliance\"",
        doc: "Who can remove a locked object early: with `governance` whoever has `s3:BypassGovernanceRetention`, with `compliance` nobody at all. Counts only with `object_lock_days`.",
    },
    Key {
        section: Section::Repository,
        name: "object_lock_days",
        kind: Kind::Integer { min: 1, max: 36_500 },
        otherwise: Otherwise::Found("no lock"),
        variable: None,
        example: "30",
        doc: "Locks every object of S3 that is never written again for so many days from its storing, so that nobody who gets at the credentials can destroy backups. The bucket needs object lock. See docs/manual/object-storage.md.",
    },
    Key {
        section: Section::Repository,
        name: "service_account_file",
        kind: Kind::Path,
        otherwise: Otherwise::Found("Google's usual places, then the machine's own account"),
        variable: Some("GOOGLE_APPLICATION_CREDENTIALS"),
        example: "\"/etc/pgproof/google.json\"",
        doc: "Key file (JSON) of the service account that may use a `gs:` repository.",
    },
    Key {
        section: Section::Repository,
        name: "anonymous",
        kind: Kind::Boolean,
        otherwise: Otherwise::Value("false"),
        variable: None,
        example: "false",
        doc: "Whether a `gs:` repository is asked without credentials. Only emulators answer then.",
    },
    Key {
        section: Section::Repository,
        name: "account",
        kind: Kind::Text,
        otherwise: Otherwise::Found("none; an `az:` repository needs it"),
        variable: Some("AZURE_STORAGE_ACCOUNT"),
        example: "\"backups\"",
        doc: "Azure storage account that the container belongs to.",
    },
    Key {
        section: Section::Repository,
        name: "access_key",
        kind: Kind::Secret,
        otherwise: Otherwise::Found("none; without any secret the machine's managed identity"),
        variable: Some("AZURE_STORAGE_KEY"),
        example: "\"...\"",
        doc: "Key of the Azure storage account itself. `access_key_file` keeps it out of this file.",
    },
    Key {
        section: Section::Repository,
        name: "access_key_file",
        kind: Kind::Path,
        otherwise: Otherwise::Found("none"),
        variable: None,
        example: "\"/etc/pgproof/main.azure-key\"",
        doc: "File whose content is a key of the Azure storage account.",
    },
    Key {
        section: Section::Repository,
        name: "sas_token_file",
        kind: Kind::Path,
        otherwise: Otherwise::Found("none"),
        variable: None,
        example: "\"/etc/pgproof/main.azure-sas\"",
        doc: "File whose content is a shared access signature (SAS) for the Azure container: read, write, delete and list. A new one counts for the next command.",
    },
    Key {
        section: Section::Repository,
        name: "request_timeout",
        kind: Kind::Duration { min_ms: 1000 },
        otherwise: Otherwise::Found("30s"),
        variable: None,
        example: "\"30s\"",
        doc: "How long one request to object storage may take, besides the transfer of its bytes.",
    },
    Key {
        section: Section::Repository,
        name: "retry_for",
        kind: Kind::Duration { min_ms: 1000 },
        otherwise: Otherwise::Found("60s"),
        variable: None,
        example: "\"60s\"",
        doc: "How long a failing request to object storage is repeated. PostgreSQL repeats a failed `archive_command` by itself, so this need not be long.",
    },
    Key {
        section: Section::Backup,
        name: "from",
        kind: Kind::Choice(&["primary", "standby", "remote"]),
        otherwise: Otherwise::Value("primary"),
        variable: None,
        example: "\"standby\"",
        doc: "What is backed up: the primary or a standby that runs on this host, whose files are read, or a server anywhere (`remote`) that sends its \
              files over the replication protocol.",
    },
    Key {
        section: Section::Backup,
        name: "primary_conninfo",
        kind: Kind::Secret,
        otherwise: Otherwise::Found("the primary is not asked, and its `archive_timeout` is waited for"),
        variable: None,
        example: "\"host=primary user=backup\"",
        doc: "How a backup from a standby reaches the primary, in the form of libpq's connection strings: it asks it to end its WAL segment \
              (`pg_switch_wal()`), so that the backup's last WAL is archived at once.",
    },
    Key {
        section: Section::Backup,
        name: "processes",
        kind: Kind::Integer { min: 1, max: 16 },
        otherwise: Otherwise::Found("one for each processor, at most 16"),
        variable: None,
        example: "2",
        doc: "Threads that read, check, compress and store. Each takes memory; more than the processors gain nothing. `restore` and `verify` use it too.",
    },
    Key {
        section: Section::Backup,
        name: "compression",
        kind: Kind::Compression,
        otherwise: Otherwise::Value("zstd:3"),
        variable: None,
        example: "\"zstd:3\"",
        doc: "How pages are compressed. May be changed at any time: every stored piece says how it was made.",
    },
    Key {
        section: Section::Backup,
        name: "fast_checkpoint",
        kind: Kind::Boolean,
        otherwise: Otherwise::Value("true"),
        variable: None,
        example: "true",
        doc: "Whether the server's checkpoint at the start is immediate. With false it is spread over minutes, which spares a busy disk.",
    },
    Key {
        section: Section::Backup,
        name: "archive_timeout",
        kind: Kind::Duration { min_ms: 1000 },
        otherwise: Otherwise::Value("60s"),
        variable: None,
        example: "\"60s\"",
        doc: "How long a backup waits at its end for the archive to hold its last WAL. Without that WAL it could not be restored, so it fails.",
    },
    Key {
        section: Section::Backup,
        name: "read_all_after",
        kind: Kind::Integer { min: 0, max: 1_000_000 },
        otherwise: Otherwise::Value("30"),
        variable: None,
        example: "30",
        doc: "After so many backups that read only what WAL names, one reads everything and sees whether WAL had named every change. 0 for \
              never.",
    },
    Key {
        section: Section::Backup,
        name: "max_rate",
        kind: Kind::Size { min: 32 << 10, max: 1 << 40 },
        otherwise: Otherwise::Found("no limit"),
        variable: None,
        example: "\"50MB\"",
        doc: "How much of the data files a backup reads in a second at most, all threads together, so that the server's own reads are not crowded out.",
    },
    Key {
        section: Section::Backup,
        name: "pack_size",
        kind: Kind::Size { min: 1 << 20, max: 1 << 30 },
        otherwise: Otherwise::Value("32MB"),
        variable: None,
        example: "\"32MB\"",
        doc: "A stored object is closed when it has grown to this size. Larger ones mean fewer objects, and more work lost when a backup is killed.",
    },
    Key {
        section: Section::Archive,
        name: "compression",
        kind: Kind::Compression,
        otherwise: Otherwise::Value("zstd:1"),
        variable: None,
        example: "\"zstd:1\"",
        doc: "How WAL is compressed. PostgreSQL waits for it, so speed counts more than for backups.",
    },
    Key {
        section: Section::Archive,
        name: "push_ahead",
        kind: Kind::Integer { min: 0, max: 16 },
        otherwise: Otherwise::Value("2"),
        variable: None,
        example: "2",
        doc: "How many files `archive run` archives at a time. When many wait, `archive push` starts it; 0 leaves every push to itself.",
    },
    Key {
        section: Section::Archive,
        name: "read_ahead",
        kind: Kind::Integer { min: 0, max: 64 },
        otherwise: Otherwise::Value("8"),
        variable: None,
        example: "8",
        doc: "How many segments `archive get` fetches ahead of the one that PostgreSQL asks for. 0 fetches none.",
    },
    Key {
        section: Section::Retention,
        name: "keep_last",
        kind: COUNT,
        otherwise: Otherwise::Found("no rule"),
        variable: None,
        example: "7",
        doc: "Keep the newest so many backups.",
    },
    Key {
        section: Section::Retention,
        name: "keep_within",
        kind: Kind::Duration { min_ms: 0 },
        otherwise: Otherwise::Found("no rule"),
        variable: None,
        example: "\"14d\"",
        doc: "Keep every backup that was finished within this duration before now.",
    },
    Key {
        section: Section::Retention,
        name: "wal_within",
        kind: Kind::Duration { min_ms: 0 },
        otherwise: Otherwise::Found("all WAL since the oldest kept backup"),
        variable: None,
        example: "\"14d\"",
        doc: "Keep WAL so that every instant within this duration before now can be reached. Older backups keep only the WAL that makes them consistent, so that they bring back their own end and nothing after it.",
    },
    Key {
        section: Section::Retention,
        name: "keep_daily",
        kind: COUNT,
        otherwise: Otherwise::Found("no rule"),
        variable: None,
        example: "7",
        doc: "Keep the newest backup of each of so many days that have one. Days, weeks, months and years are those of UTC.",
    },
    Key {
        section: Section::Retention,
        name: "keep_weekly",
        kind: COUNT,
        otherwise: Otherwise::Found("no rule"),
        variable: None,
        example: "4",
        doc: "The same for weeks, which begin on Monday.",
    },
    Key {
        section: Section::Retention,
        name: "keep_monthly",
        kind: COUNT,
        otherwise: Otherwise::Found("no rule"),
        variable: None,
        example: "12",
        doc: "The same for months.",
    },
    Key {
        section: Section::Retention,
        name: "keep_yearly",
        kind: COUNT,
        otherwise: Otherwise::Found("no rule"),
        variable: None,
        example: "5",
        doc: "The same for years.",
    },
    Key {
        section: Section::Retention,
        name: "sweep_after",
        kind: Kind::Duration { min_ms: 0 },
        otherwise: Otherwise::Value("1h"),
        variable: None,
        example: "\"1h\"",
        doc: "How long a backup stays marked before what only it needs is removed, by the store's clock. It lets a restore that began a moment ago say that it needs it.",
    },
    objective(
        "rpo",
        "\"5min\"",
        "How much of what was committed may be lost: the time that the archive may lag behind. archive_timeout of the server must be shorter.",
    ),
    objective("rto", "\"1h\"", "How long a recovery to the end of the archive may take, replay included."),
    objective("restore_rto", "\"1h\"", "How long restoring all files may take, before replay."),
    objective("backup_max_age", "\"26h\"", "How old the newest good backup may be."),
    objective(
        "verify_every",
        "\"7d\"",
        "How old the newest `pgproof verify` that found nothing wrong may be.",
    ),
    objective("drill_every", "\"7d\"", "How old the newest rehearsed recovery with a good answer may be."),
    Key {
        section: Section::Drill,
        name: "scratch",
        kind: Kind::Path,
        otherwise: Otherwise::Found("TMPDIR, else /var/tmp"),
        variable: None,
        example: "\"/srv/drills\"",
        doc: "Directory in which drills recover. It needs room for the whole cluster and a path short enough for a socket.",
    },
    Key {
        section: Section::Drill,
        name: "check_time",
        kind: Kind::Duration { min_ms: 1000 },
        otherwise: Otherwise::Value("10min"),
        variable: None,
        example: "\"1h\"",
        doc: "How long each check may take that could read the whole cluster: amcheck, row counts, sequences. What is not reached is said.",
    },
    Key {
        section: Section::Drill,
        name: "ignore",
        kind: Kind::Text,
        otherwise: Otherwise::Found("none"),
        variable: None,
        example: "\"public.staging_*, shop.queue\"",
        doc: "Relations, separated by commas, that may be empty, and sequences that may be behind. `*` stands for any letters.",
    },
    Key {
        section: Section::Drill,
        name: "assertions",
        kind: Kind::Path,
        otherwise: Otherwise::Found("none"),
        variable: None,
        example: "\"/etc/pgproof/assertions\"",
        doc: "Directory with one query in each file that ends with .sql. It holds when it gives no row, or one row whose only column is true. A first line `-- database: NAME` says where it runs.",
    },
    Key {
        section: Section::Drill,
        name: "command",
        kind: Kind::Command,
        otherwise: Otherwise::Found("none"),
        variable: None,
        example: "\"/usr/local/bin/check-shop\"",
        doc: "Program that is run with `PG*` set so that it reaches the recovered server. It passes when it exits with 0.",
    },
    Key {
        section: Section::Drill,
        name: "command_time",
        kind: Kind::Duration { min_ms: 1000 },
        otherwise: Otherwise::Value("10min"),
        variable: None,
        example: "\"10min\"",
        doc: "How long the program, and each assertion, may take.",
    },
];

/// The setting of that name, if there is one.
pub(crate) fn find(section: Section, name: &str) -> Option<&'static Key> {
    KEYS.iter().find(|key| key.section == section && key.name == name)
}
