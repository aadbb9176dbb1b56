//! What a server shows of itself to a session, in its statistics views and catalogs that all databases share.
//!
//! Each question stands alone: one that is refused or cancelled hides its own answer only. Answers come as JSON text, so that a row is a
//! struct whose fields are the columns' names. No column is the text of a statement; only its first word is read.

use super::Looked;
use pgproof_server::{ServerError, Session};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// The server.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct About {
    /// `server_version_num`
    pub version_num: u32,
    /// `server_version`
    pub version: String,
    /// Whether it replays WAL.
    pub in_recovery: bool,
    /// System identifier.
    pub system: Option<String>,
    /// Its data directory, if the role may know.
    pub data_directory: Option<String>,
    /// Who asks.
    pub role: String,
    /// Whether that is a superuser.
    pub superuser: bool,
    /// Whether it may read all statistics.
    pub monitor: bool,
    /// Seconds since its start.
    pub up_s: f64,
    /// Seconds since it has read its files.
    pub loaded_s: f64,
    /// `max_connections`
    pub max_connections: i64,
    /// Of these for superusers.
    pub reserved: i64,
    /// Sessions of clients.
    pub clients: i64,
    /// Database that the session is in.
    pub database: String,
}

macro_rules! rows {
    ($($(#[$doc:meta])* $name:ident { $($(#[$field_doc:meta])* $field:ident: $kind:ty,)* })*) => {
        $($(#[$doc])*
        #[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
        #[serde(default)]
        pub struct $name {
            $($(#[$field_doc])* pub $field: $kind,)*
        })*
    };
}
pub(super) use rows;

rows! {
    /// One line of `pg_settings` that differs from its default, or that doctor asks for.
    SettingRow {
        /// Its name.
        name: String,
        /// Its value with its unit.
        value: String,
        /// Where that comes from.
        source: String,
        /// File and line.
        place: Option<String>,
        /// Whether the files hold another value, which waits for a restart.
        pending_restart: bool,
    }
    /// An error in a settings file (`pg_file_settings`).
    FileError {
        /// The file.
        file: String,
        /// Its line.
        line: i64,
        /// The setting.
        name: Option<String>,
        /// In the server's words.
        error: String,
    }
    /// An error in `pg_hba.conf` (`pg_hba_file_rules`).
    HbaError {
        /// Its line.
        line: i64,
        /// In the server's words.
        error: String,
    }
    /// One row of `pg_stat_activity`.
    SessionRow {
        /// Process.
        pid: i64,
        /// Database.
        database: Option<String>,
        /// Role.
        user: Option<String>,
        /// What it calls itself.
        application: Option<String>,
        /// Where from.
        client: Option<String>,
        /// `client backend`...
        kind: Option<String>,
        /// `active`, `idle`, `idle in transaction`...
        state: Option<String>,
        /// What it waits for.
        wait_type: Option<String>,
        /// More exactly.
        wait: Option<String>,
        /// Seconds since it connected.
        connected_s: Option<f64>,
        /// Seconds since its transaction began.
        transaction_s: Option<f64>,
        /// Seconds since its statement began.
        query_s: Option<f64>,
        /// Seconds since it is in this state.
        state_s: Option<f64>,
        /// How many transactions its snapshot holds back.
        xmin_age: Option<i64>,
        /// First word of its statement.
        command: Option<String>,
        /// Who blocks it.
        blocked_by: Vec<i64>,
    }
    /// A lock that is waited for.
    Locked {
        /// Who waits.
        pid: i64,
        /// Mode that is wanted.
        mode: String,
        /// Relation, as far as the session's database tells.
        relation: Option<String>,
        /// For how long.
        waited_s: Option<f64>,
    }
    /// Active sessions that waited for one thing, or for nothing, when a sample was taken.
    WaitRow {
        /// Which sample, from 0 on.
        sample: i64,
        /// `LWLock`, `IPC`...; none for one that works.
        kind: Option<String>,
        /// More exactly.
        event: Option<String>,
        /// How many.
        sessions: i64,
    }
    /// A process that holds many locks.
    LockHolder {
        /// Who; 0 for a prepared transaction.
        pid: i64,
        /// How many in the shared table.
        count: i64,
        /// How many all hold together.
        total: i64,
    }
    /// A prepared transaction.
    Prepared {
        /// Its name.
        gid: String,
        /// Who prepared it.
        owner: String,
        /// Where.
        database: String,
        /// Seconds ago.
        age_s: f64,
        /// How many transactions ago.
        xid_age: i64,
    }
    /// A replication slot.
    SlotRow {
        /// Its name.
        name: String,
        /// `physical`, `logical`
        kind: String,
        /// Of a logical one.
        database: Option<String>,
        /// Whether somebody uses it.
        active: bool,
        /// Whether it goes with its session.
        temporary: bool,
        /// `reserved`, `extended`, `unreserved`, `lost`
        wal_status: Option<String>,
        /// Bytes until it is lost.
        safe_wal_size: Option<i64>,
        /// WAL kept for it.
        retained_bytes: Option<i64>,
        /// How many transactions it holds back.
        xmin_age: Option<i64>,
        /// The same in the catalogs.
        catalog_xmin_age: Option<i64>,
        /// Seconds since it was used last (17 and later).
        inactive_s: Option<f64>,
    }
    /// A standby or other receiver.
    StandbyRow {
        /// Its name.
        name: String,
        /// Where it is.
        client: Option<String>,
        /// `streaming`...
        state: String,
        /// `sync`, `quorum`, `async`...
        sync_state: String,
        /// WAL that it has not flushed.
        flush_bytes: Option<i64>,
        /// WAL that it has not replayed.
        replay_bytes: Option<i64>,
        /// Seconds until a commit is replayed.
        replay_s: Option<f64>,
        /// How many transactions its feedback holds back.
        xmin_age: Option<i64>,
    }
    /// How a standby receives and replays.
    Receiver {
        /// Whether a WAL receiver runs.
        receiving: bool,
        /// Where from, without secrets.
        sender: Option<String>,
        /// Whether `primary_conninfo` is set.
        configured: bool,
        /// `not paused`, `paused`...
        pause: String,
        /// WAL received and not replayed.
        behind_bytes: Option<i64>,
        /// Seconds since the last commit that was replayed.
        replayed_s: Option<f64>,
    }
    /// The archiver.
    Archiver {
        /// `archive_mode`
        mode: String,
        /// How often it succeeded.
        archived: i64,
        /// How often not.
        failed: i64,
        /// Seconds since it succeeded.
        archived_s: Option<f64>,
        /// Seconds since it failed.
        failed_s: Option<f64>,
        /// With which file.
        failed_wal: Option<String>,
        /// How many files wait; none where the role may not see it.
        ready: Option<i64>,
    }
    /// A database.
    DatabaseRow {
        /// Its name.
        name: String,
        /// Whether anybody may connect.
        connectable: bool,
        /// How many may; -1 for all.
        connection_limit: i64,
        /// How many do.
        connections: i64,
        /// Age of its oldest unfrozen transaction.
        xid_age: i64,
        /// The same for multixacts.
        mxid_age: i64,
        /// Deadlocks since its statistics were reset.
        deadlocks: Option<i64>,
        /// Bytes of temporary files since its statistics were reset.
        temp_bytes: Option<i64>,
        /// Seconds since that.
        statistics_s: Option<f64>,
        /// Sessions since then.
        sessions: Option<i64>,
        /// Pages whose checksum failed.
        checksum_failures: Option<i64>,
        /// Collation version recorded.
        collation_recorded: Option<String>,
        /// Collation version of the system now.
        collation_actual: Option<String>,
    }
    /// A role that can log in.
    RoleRow {
        /// Its name.
        name: String,
        /// How many sessions it may have; -1 for all.
        connection_limit: i64,
        /// How many it has.
        connections: i64,
        /// Seconds until its password expires.
        expires_s: Option<f64>,
        /// `scram`, `md5`, `none`, `other`; none where it cannot be seen.
        secret: Option<String>,
    }
    /// Checkpoints.
    Checkpoints {
        /// On time.
        timed: i64,
        /// Because much WAL was written, or somebody asked.
        requested: i64,
        /// Seconds since the statistics were reset.
        since_s: Option<f64>,
    }
    /// What is in `pg_wal`.
    WalFiles {
        /// Files.
        count: i64,
        /// Bytes.
        bytes: i64,
    }
    /// Something that takes long and says how far it is.
    Running {
        /// `base backup`, `vacuum`, `create index`
        what: String,
        /// Process.
        pid: i64,
        /// The index that is built, as a number.
        index_oid: Option<i64>,
    }
}

/// Everything about one server.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ServerSeen {
    /// The server itself.
    pub about: About,
    /// Settings.
    pub settings: Looked<Vec<SettingRow>>,
    /// Errors in its files.
    pub file_errors: Looked<Vec<FileError>>,
    /// Errors in `pg_hba.conf`.
    pub hba_errors: Looked<Vec<HbaError>>,
    /// Sessions.
    pub sessions: Looked<Vec<SessionRow>>,
    /// Locks waited for.
    pub locks: Looked<Vec<Locked>>,
    /// What active sessions wait for, sampled where several are active.
    pub waits: Looked<Vec<WaitRow>>,
    /// Who holds most locks.
    pub lock_holders: Looked<Vec<LockHolder>>,
    /// Prepared transactions.
    pub prepared: Looked<Vec<Prepared>>,
    /// Slots.
    pub slots: Looked<Vec<SlotRow>>,
    /// Standbys.
    pub standbys: Looked<Vec<StandbyRow>>,
    /// Replay, on a standby.
    pub receiver: Looked<Vec<Receiver>>,
    /// The archiver.
    pub archiver: Looked<Vec<Archiver>>,
    /// Databases.
    pub databases: Looked<Vec<DatabaseRow>>,
    /// Roles.
    pub roles: Looked<Vec<RoleRow>>,
    /// Checkpoints.
    pub checkpoints: Looked<Vec<Checkpoints>>,
    /// `pg_wal`.
    pub wal: Looked<Vec<WalFiles>>,
    /// What runs.
    pub running: Looked<Vec<Running>>,
}

impl ServerSeen {
    /// A setting in effect, with its unit.
    #[must_use]
    pub fn setting(&self, name: &str) -> Option<&SettingRow> {
        self.settings.rows().iter().find(|row| row.name == name)
    }

    /// Databases to look into, `first` first.
    pub(super) fn database_names(&self, first: &str) -> Vec<String> {
        let others = self.databases.rows().iter().filter(|row| row.connectable && row.name != first);
        let others = others.filter(|row| row.name != "template1").map(|row| row.name.clone());
        std::iter::once(first.to_owned()).chain(others).collect()
    }

    /// Each question whose answer is hidden, with the reason.
    #[must_use]
    pub fn hidden(&self) -> Vec<(&'static str, &str)> {
        let all = [
            ("settings", self.settings.why()),
            ("errors in the settings files", self.file_errors.why()),
            ("errors in pg_hba.conf", self.hba_errors.why()),
            ("sessions", self.sessions.why()),
            ("locks", self.locks.why()),
            ("what sessions wait for", self.waits.why()),
            ("holders of locks", self.lock_holders.why()),
            ("prepared transactions", self.prepared.why()),
            ("replication slots", self.slots.why()),
            ("standbys", self.standbys.why()),
            ("replay", self.receiver.why()),
            ("the archiver", self.archiver.why()),
            ("databases", self.databases.why()),
            ("roles", self.roles.why()),
            ("checkpoints", self.checkpoints.why()),
            ("pg_wal", self.wal.why()),
            ("running operations", self.running.why()),
        ];
        all.into_iter().filter_map(|(what, why)| Some((what, why?))).collect()
    }
}

/// The rows of a query as text of JSON, each a struct.
pub(super) fn ask<T: DeserializeOwned>(session: &mut Session, sql: &str) -> Looked<Vec<T>> {
    let all = format!("SELECT coalesce(json_agg(q), '[]')::text FROM ({sql}) q");
    let answer = session.query_one("look at the server", &all, &[]);
    let text = match answer {
        Ok(row) => row.get::<_, String>(0),
        Err(ServerError::Statement { source, .. }) => return Looked::Unseen(source.to_string()),
        Err(error) => return Looked::Unseen(super::place::said(&error)),
    };
    serde_json::from_str(&text).map_err(|error| error.to_string()).into()
}

/// Fewer active sessions are no pile-up.
const ACTIVE_MIN: usize = 4;
const SAMPLES: i64 = 10;
const SAMPLE_EVERY: Duration = Duration::from_millis(50);

const WAITS: &str = "SELECT wait_event_type AS kind, wait_event AS event, count(*) AS sessions FROM pg_stat_activity \
    WHERE state = 'active' AND backend_type = 'client backend' AND pid <> pg_backend_pid() GROUP BY 1, 2";

fn sample(session: &mut Session) -> Looked<Vec<WaitRow>> {
    let mut all = Vec::new();
    for at in 0..SAMPLES {
        std::thread::sleep(SAMPLE_EVERY);
        match ask::<WaitRow>(session, WAITS) {
            Looked::Seen(rows) => all.extend(rows.into_iter().map(|row| WaitRow { sample: at, ..row })),
            other => return other,
        }
    }
    Looked::Seen(all)
}

pub(super) fn look(session: &mut Session) -> Result<ServerSeen, String> {
    let about = match ask::<About>(session, ABOUT) {
        Looked::Seen(mut rows) if !rows.is_empty() => rows.remove(0),
        Looked::Unseen(why) => return Err(why),
        _ => return Err("the server told nothing of itself".to_owned()),
    };
    let (v, standby) = (about.version_num, about.in_recovery);
    let privileged = about.superuser;
    // The role must not be asked for what it may not see: the server would log each refusal as an error.
    let sessions: Looked<Vec<SessionRow>> = ask(session, SESSIONS);
    let active = sessions.rows().iter().filter(|row| row.state.as_deref() == Some("active")).count();
    let waits = if active >= ACTIVE_MIN { sample(session) } else { Looked::NotLooked };
    let only = |allowed: bool| if allowed { Ok(()) } else { Err("only a superuser may see it".to_owned()) };
    Ok(ServerSeen {
        settings: ask(session, SETTINGS),
        file_errors: gated(only(privileged), || ask(session, FILE_ERRORS)),
        hba_errors: gated(only(privileged), || ask(session, HBA_ERRORS)),
        sessions,
        waits,
        locks: ask(session, LOCKS),
        lock_holders: ask(session, LOCK_HOLDERS),
        prepared: ask(session, PREPARED),
        slots: ask(session, &slots(v)),
        standbys: ask(session, STANDBYS),
        receiver: if standby { ask(session, RECEIVER) } else { Looked::NotLooked },
        archiver: ask(session, &archiver(privileged || about.monitor)),
        databases: ask(session, &databases(v)),
        roles: ask(session, &roles(privileged)),
        checkpoints: ask(session, if v >= 170_000 { CHECKPOINTS_17 } else { CHECKPOINTS }),
        wal: gated(only(privileged || about.monitor), || ask(session, WAL)),
        running: ask(session, RUNNING),
        about,
    })
}

fn gated<T>(allowed: Result<(), String>, ask: impl FnOnce() -> Looked<T>) -> Looked<T> {
    match allowed {
        Ok(()) => ask(),
        Err(why) => Looked::Unseen(why),
    }
}

const ABOUT: &str = "SELECT current_setting('server_version_num')::int AS version_num, current_setting('server_version') AS version, \
    pg_is_in_recovery() AS in_recovery, (SELECT system_identifier::text FROM pg_control_system()) AS system, \
    (SELECT setting FROM pg_settings WHERE name = 'data_directory') AS data_directory, current_user AS role, \
    (SELECT rolsuper FROM pg_roles WHERE rolname = current_user) AS superuser, \
    pg_has_role(current_user, 'pg_monitor', 'member') AS monitor, \
    extract(epoch FROM now() - pg_postmaster_start_time())::float8 AS up_s, \
    extract(epoch FROM now() - pg_conf_load_time())::float8 AS loaded_s, \
    current_setting('max_connections')::int AS max_connections, \
    current_setting('superuser_reserved_connections')::int + coalesce(current_setting('reserved_connections', true)::int, 0) AS reserved, \
    (SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend') AS clients, current_database() AS database";

/// What this session sets for itself is the server's matter with the value that it would otherwise have.
const SETTINGS: &str = "SELECT name, CASE source WHEN 'session' THEN coalesce(reset_val || coalesce(unit, ''), '') \
    ELSE coalesce(current_setting(name, true), '') END AS value, source, \
    sourcefile || ':' || sourceline AS place, pending_restart FROM pg_settings \
    WHERE source NOT IN ('default', 'override', 'session', 'client') AND name NOT IN ('primary_conninfo', 'ssl_passphrase_command') \
    OR pending_restart OR name = ANY('{fsync,full_page_writes,autovacuum,data_checksums,shared_buffers,work_mem,\
    idle_in_transaction_session_timeout,statement_timeout,lock_timeout,max_wal_size,max_slot_wal_keep_size,wal_keep_size,archive_mode,\
    archive_command,archive_library,synchronous_standby_names,synchronous_commit,autovacuum_freeze_max_age,hot_standby_feedback,\
    autovacuum_multixact_freeze_max_age,listen_addresses,port,track_counts,zero_damaged_pages,ignore_checksum_failure,\
    restore_command,wal_level,checkpoint_timeout,ssl,hba_file,maintenance_work_mem,max_locks_per_transaction,max_connections,\
    max_prepared_transactions,default_transaction_read_only,session_replication_role,temp_file_limit,\
    max_standby_streaming_delay,autovacuum_max_workers,autovacuum_vacuum_cost_limit}'::text[])";

const FILE_ERRORS: &str = "SELECT sourcefile AS file, sourceline AS line, name, error FROM pg_file_settings \
    WHERE error IS NOT NULL AND NOT EXISTS (SELECT FROM pg_settings s WHERE s.name = pg_file_settings.name AND s.pending_restart) LIMIT 50";

const HBA_ERRORS: &str =
    "SELECT line_number AS line, error FROM pg_hba_file_rules WHERE error IS NOT NULL LIMIT 50";

const SESSIONS: &str = "SELECT pid, datname AS database, usename AS \"user\", application_name AS application, \
    coalesce(host(client_addr), '') AS client, backend_type AS kind, state, wait_event_type AS wait_type, wait_event AS wait, \
    extract(epoch FROM now() - backend_start)::float8 AS connected_s, \
    extract(epoch FROM now() - xact_start)::float8 AS transaction_s, \
    extract(epoch FROM now() - query_start)::float8 AS query_s, \
    extract(epoch FROM now() - state_change)::float8 AS state_s, age(backend_xmin) AS xmin_age, \
    upper(substring(ltrim(query) FROM '^[A-Za-z]+')) AS command, \
    CASE WHEN wait_event_type = 'Lock' THEN pg_blocking_pids(pid) ELSE '{}' END AS blocked_by \
    FROM pg_stat_activity WHERE pid <> pg_backend_pid() ORDER BY xact_start NULLS LAST, pid LIMIT 1000";

const LOCKS: &str = "SELECT pid, mode, CASE WHEN database IN (0, (SELECT oid FROM pg_database WHERE datname = current_database())) \
    THEN relation::regclass::text END AS relation, extract(epoch FROM clock_timestamp() - waitstart)::float8 AS waited_s \
    FROM pg_locks WHERE NOT granted AND pid <> pg_backend_pid() LIMIT 500";

/// Those of the shared table: what is held by the fast path takes no room there.
const LOCK_HOLDERS: &str = "SELECT coalesce(pid, 0) AS pid, count(*) AS count, sum(count(*)) OVER ()::bigint AS total \
    FROM pg_locks WHERE NOT fastpath GROUP BY 1 ORDER BY 2 DESC LIMIT 5";

const PREPARED: &str = "SELECT gid, owner::text AS owner, database::text AS database, \
    extract(epoch FROM now() - prepared)::float8 AS age_s, age(transaction) AS xid_age \
    FROM pg_prepared_xacts ORDER BY prepared LIMIT 100";

/// Where WAL ends, on a primary or a standby.
const END: &str = "CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_lsn() END";

fn slots(version: u32) -> String {
    let inactive = if version >= 170_000 {
        "extract(epoch FROM now() - inactive_since)::float8"
    } else {
        "NULL::float8"
    };
    format!(
        "SELECT slot_name AS name, slot_type AS kind, database, active, temporary, wal_status, safe_wal_size, \
         pg_wal_lsn_diff({END}, restart_lsn)::bigint AS retained_bytes, age(xmin) AS xmin_age, \
         age(catalog_xmin) AS catalog_xmin_age, {inactive} AS inactive_s FROM pg_replication_slots ORDER BY slot_name LIMIT 200"
    )
}

const STANDBYS: &str = "SELECT application_name AS name, host(client_addr) AS client, coalesce(state, '') AS state, \
    coalesce(sync_state, '') AS sync_state, \
    CASE WHEN NOT pg_is_in_recovery() THEN pg_wal_lsn_diff(pg_current_wal_lsn(), flush_lsn)::bigint END AS flush_bytes, \
    CASE WHEN NOT pg_is_in_recovery() THEN pg_wal_lsn_diff(pg_current_wal_lsn(), replay_lsn)::bigint END AS replay_bytes, \
    extract(epoch FROM replay_lag)::float8 AS replay_s, age(backend_xmin) AS xmin_age FROM pg_stat_replication LIMIT 200";

const RECEIVER: &str = "SELECT EXISTS (SELECT FROM pg_stat_wal_receiver WHERE pid IS NOT NULL) AS receiving, \
    (SELECT sender_host || ':' || sender_port FROM pg_stat_wal_receiver) AS sender, \
    coalesce((SELECT setting <> '' FROM pg_settings WHERE name = 'primary_conninfo'), true) AS configured, \
    pg_get_wal_replay_pause_state() AS pause, \
    pg_wal_lsn_diff(pg_last_wal_receive_lsn(), pg_last_wal_replay_lsn())::bigint AS behind_bytes, \
    extract(epoch FROM now() - pg_last_xact_replay_timestamp())::float8 AS replayed_s";

fn archiver(may_list: bool) -> String {
    let ready = if may_list {
        "(SELECT count(*) FROM pg_ls_archive_statusdir() WHERE name LIKE '%.ready')"
    } else {
        "NULL::bigint"
    };
    format!(
        "SELECT current_setting('archive_mode') AS mode, archived_count AS archived, failed_count AS failed, \
         extract(epoch FROM now() - last_archived_time)::float8 AS archived_s, \
         extract(epoch FROM now() - last_failed_time)::float8 AS failed_s, last_failed_wal AS failed_wal, {ready} AS ready \
         FROM pg_stat_archiver"
    )
}

fn databases(version: u32) -> String {
    let collation = if version >= 150_000 {
        "d.datcollversion AS collation_recorded, pg_database_collation_actual_version(d.oid) AS collation_actual"
    } else {
        "NULL AS collation_recorded, NULL AS collation_actual"
    };
    format!(
        "SELECT d.datname AS name, d.datallowconn AS connectable, d.datconnlimit AS connection_limit, s.numbackends AS connections, \
         age(d.datfrozenxid) AS xid_age, mxid_age(d.datminmxid) AS mxid_age, s.deadlocks, \
         s.temp_bytes, extract(epoch FROM now() - s.stats_reset)::float8 AS statistics_s, s.sessions, s.checksum_failures, {collation} \
         FROM pg_database d LEFT JOIN pg_stat_database s ON s.datid = d.oid ORDER BY age(d.datfrozenxid) DESC, d.datname LIMIT 500"
    )
}

fn roles(privileged: bool) -> String {
    let (table, secret) = if privileged {
        (
            "pg_authid",
            "CASE WHEN rolpassword IS NULL THEN 'none' WHEN rolpassword LIKE 'SCRAM-SHA-256$%' THEN 'scram' \
             WHEN rolpassword LIKE 'md5%' THEN 'md5' ELSE 'other' END",
        )
    } else {
        ("pg_roles", "NULL")
    };
    format!(
        "SELECT rolname AS name, rolconnlimit AS connection_limit, \
         (SELECT count(*) FROM pg_stat_activity a WHERE a.usename = r.rolname AND a.backend_type = 'client backend') AS connections, \
         CASE WHEN isfinite(rolvaliduntil) THEN extract(epoch FROM rolvaliduntil - now())::float8 END AS expires_s, \
         {secret} AS secret FROM {table} r WHERE rolcanlogin ORDER BY rolname LIMIT 200"
    )
}

const CHECKPOINTS: &str = "SELECT checkpoints_timed AS timed, checkpoints_req AS requested, \
    extract(epoch FROM now() - stats_reset)::float8 AS since_s FROM pg_stat_bgwriter";
const CHECKPOINTS_17: &str = "SELECT num_timed AS timed, num_requested AS requested, \
    extract(epoch FROM now() - stats_reset)::float8 AS since_s FROM pg_stat_checkpointer";

const WAL: &str = "SELECT count(*) AS count, coalesce(sum(size), 0)::bigint AS bytes FROM pg_ls_waldir()";

const RUNNING: &str = "SELECT 'base backup' AS what, pid, NULL::bigint AS index_oid FROM pg_stat_progress_basebackup \
    UNION ALL SELECT 'vacuum', pid, NULL FROM pg_stat_progress_vacuum \
    UNION ALL SELECT 'create index', pid, index_relid::bigint FROM pg_stat_progress_create_index";
