//! Brings one table of an instant back, as a dump or into a live server under another name.
//!
//! PostgreSQL can only recover a whole cluster, so that is done, as small as it gets: the table's database alone ([`crate::databases`]) in a
//! private directory, recovered by a private server (both [`crate::private`]), from which `pg_dump` reads the table
//! (`transfer.rs`). What goes into a live server is renamed before it leaves the private one (`isolate.rs`): the live server runs
//! one transaction that creates and fills new objects, and nothing that is there is touched.

mod error;
mod isolate;
mod programs;
mod report;
mod table;
mod transfer;

pub use error::ExtractError;
pub use report::{Destination, ExtractPlan, ExtractReport};
pub use table::{QualifiedName, TableName};
pub use transfer::Format;

use crate::choose::Request;
use crate::databases::quote_identifier;
use crate::directory::observe_place;
use crate::error::RestoreError;
use crate::observe::{Prepared, prepare};
use crate::options::{Archiving, Commands, Onto, RestoreOptions, TablespaceMapping};
use crate::private::{self, Private, PrivateOptions, Purpose, Scratch};
use crate::report::Report;
use isolate::Isolated;
use jiff::Timestamp;
use pgproof_base::{Progress, Stage, human_duration};
use pgproof_pg::{MajorVersion, SystemIdentifier};
use pgproof_repo::{BackupSummary, Repository};
use pgproof_server::{ConnectOptions, Session, find};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use transfer::{Recovered, Target};

/// Whose private directories these are.
pub const PURPOSE: Purpose = Purpose {
    prefix: "pgproof-extract-",
    command: "pgproof extract",
    content: "a restored database and the server that\nrecovers it, from which one table is copied",
};

/// Where the table is to go.
#[derive(Debug, Clone)]
pub enum Wanted {
    /// Into a file that does not exist yet.
    File(PathBuf),
    /// Into a live server.
    Server {
        /// How libpq reaches it, with the database.
        connection_string: String,
        /// The new name; the old one with `_recovered` when not given.
        name: Option<String>,
        /// Its schema; the original's when not given.
        schema: Option<String>,
    },
}

/// What to extract, and how.
#[derive(Debug, Clone)]
pub struct ExtractOptions {
    /// The table.
    pub table: TableName,
    /// Its database.
    pub database: String,
    /// Where it goes.
    pub wanted: Wanted,
    /// The instant.
    pub request: Request,
    /// Of which cluster, where the repository holds several.
    pub system: Option<SystemIdentifier>,
    /// In which directory the private one is made.
    pub scratch: PathBuf,
    /// What the private server runs.
    pub commands: Commands,
    /// Roles that may be superuser of the restored server, tried in turn.
    pub roles: Vec<String>,
    /// Threads that read and write.
    pub workers: usize,
}

/// Everything that can be known before anything is made.
#[derive(Debug)]
pub struct PreparedExtract {
    /// What will be done.
    pub plan: ExtractPlan,
    prepared: Prepared,
    target: Option<Target>,
}

/// Makes the plan. Changes nothing, in no server.
///
/// # Errors
/// Whatever would stop it later and can be seen now: [`ExtractError`].
pub fn prepare_extract(
    repository: &Repository,
    options: &ExtractOptions,
    now: Timestamp,
) -> Result<PreparedExtract, ExtractError> {
    let (destination, target) = look_at_destination(options)?;
    let prepared = prepare(repository, &restore_options(options), now).map_err(restore_failed)?;
    let plan = ExtractPlan {
        table: options.table.clone(),
        database: options.database.clone(),
        destination,
        restore: prepared.plan.clone(),
    };
    Ok(PreparedExtract { plan, prepared, target })
}

fn restore_failed(source: RestoreError) -> ExtractError {
    ExtractError::Restore { source: Box::new(source) }
}

fn restore_options(options: &ExtractOptions) -> RestoreOptions {
    let place = private::of_this_process(&options.scratch, &PURPOSE);
    RestoreOptions {
        request: options.request.clone(),
        system: options.system,
        directory: place.join("data"),
        onto: Onto::Empty,
        databases: vec![options.database.clone()],
        tablespaces: TablespaceMapping { single: Vec::new(), root: Some(place.join("tablespaces")) },
        external: None,
        archiving: Archiving::Off,
        commands: options.commands.clone(),
        workers: options.workers,
        owner: None,
    }
}

fn look_at_destination(options: &ExtractOptions) -> Result<(Destination, Option<Target>), ExtractError> {
    match &options.wanted {
        Wanted::File(path) => {
            if path.symlink_metadata().is_ok() {
                return Err(ExtractError::FileExists { path: path.clone() });
            }
            // An account that may not write there learns it now.
            let parent = path.parent().unwrap_or_else(|| Path::new("/"));
            let access = rustix::fs::access(parent, rustix::fs::Access::WRITE_OK);
            access.map_err(|errno| ExtractError::file("write into", parent)(errno.into()))?;
            Ok((Destination::File { path: path.clone(), format: Format::of(path) }, None))
        }
        Wanted::Server { connection_string, name, schema } => {
            let connect = ConnectOptions {
                connection_string: Some(connection_string.clone()),
                ..ConnectOptions::default()
            };
            let target = Target { connection_string: connection_string.clone(), connect };
            let name = name.clone().unwrap_or_else(|| table::shortened(&options.table.name, "_recovered"));
            let schema = schema.clone().or_else(|| options.table.schema.clone());
            let table = TableName { schema, name };
            let (server, database) = look_at_server(&target, &table)?;
            Ok((Destination::Server { server, database, table }, Some(target)))
        }
    }
}

/// Whether the live server can take the table; where it is, and its database.
fn look_at_server(target: &Target, table: &TableName) -> Result<(String, String), ExtractError> {
    const LOOK: &str = "look at the live server";
    let mut session = Session::open(&target.connect).map_err(ExtractError::server(LOOK))?;
    let server = session.server().to_owned();
    let state = "SELECT current_database()::text, pg_is_in_recovery()";
    let row = session.query_one(LOOK, state, &[]).map_err(ExtractError::server(LOOK))?;
    let database: String = row.get(0);
    if row.get(1) {
        return Err(ExtractError::Standby { server });
    }
    // Without a schema it is looked for later, when that of the original is known.
    let Some(schema) = table.schema.clone() else { return Ok((server, database)) };
    let there = "SELECT EXISTS (SELECT 1 FROM pg_namespace WHERE nspname = $1), EXISTS (SELECT 1 FROM pg_class c \
        JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = $1 AND c.relname = $2)";
    let row = session.query_one(LOOK, there, &[&schema, &table.name]).map_err(ExtractError::server(LOOK))?;
    if !row.get::<_, bool>(0) {
        return Err(ExtractError::NoSchema { schema, database, server });
    }
    if row.get(1) {
        let table = QualifiedName { schema, name: table.name.clone() };
        return Err(ExtractError::TableExists { table, database, server });
    }
    Ok((server, database))
}

/// Extracts the table. When this returns `Ok` the file is durable, or the transaction in the live server committed; otherwise there is
/// neither, but for a copy whose rows differ, which stays to be looked at. The private server and its directory are gone either way.
///
/// # Errors
/// Every [`ExtractError`].
pub fn extract(
    repository: &Repository,
    options: &ExtractOptions,
    prepared: &PreparedExtract,
    progress: &dyn Progress,
) -> Result<ExtractReport, ExtractError> {
    let began = Instant::now();
    let mut notes = private::sweep(&options.scratch, &PURPOSE);
    let summary = prepared.prepared.manifest.summary();
    let version = MajorVersion::from_server_version_num(summary.server_version)
        .map_err(|_| ExtractError::NoPrograms { version: (summary.server_version / 10_000).to_string() })?;
    // Looked for before the work; those of the restored server itself are known after it.
    programs::find_programs(version, None).or_else(|error| beside_a_server(version).ok_or(error))?;
    let scratch = Scratch::create(&options.scratch, &PURPOSE).map_err(ExtractError::private)?;
    progress.note(&format!("restoring database {} into {}", options.database, scratch.path().display()));
    let restored = crate::run::run(repository, &prepared.prepared, progress).map_err(restore_failed)?;
    progress.note(&format!("recovering to {}", prepared.plan.restore.target));
    let beside = find::at(&scratch.data()).ok().and_then(|instance| instance.programs);
    let programs = programs::find_programs(version, beside.as_deref())?;
    let how = PrivateOptions { roles: &options.roles, settings: &[] };
    let private =
        private::run(&restored.plan, summary, &scratch, &how, progress).map_err(ExtractError::private)?;
    refuse_damage(options, &private)?;
    let source = source(&private, oid_of(summary, &options.database), programs)?;
    let copying = Instant::now();
    let copied = copy(options, prepared, &source, progress)?;
    let copy_s = copying.elapsed().as_secs_f64();
    notes.extend(copied.notes.iter().cloned());
    let report = report(options, &restored, &private, copied, notes);
    // Its removal is part of the work, and its time too.
    drop(scratch);
    Ok(ExtractReport { copy_s, total_s: began.elapsed().as_secs_f64(), ..report })
}

/// The recovered database, by the name that it has at the instant.
fn source(private: &Private, database: u32, programs: PathBuf) -> Result<Recovered, ExtractError> {
    const LOOK: &str = "ask for the database";
    let mut session = Session::open(&private.connect).map_err(ExtractError::server(LOOK))?;
    let sql = "SELECT datname::text FROM pg_database WHERE oid = $1";
    let row = session.query_one(LOOK, sql, &[&database]).map_err(ExtractError::server(LOOK))?;
    Ok(Recovered { connect: private.connect.with_database(row.get(0)), programs })
}

/// The number of the database, which stays when it is renamed between the backup and the instant.
fn oid_of(summary: &BackupSummary, database: &str) -> u32 {
    let named = summary.databases.iter().find(|known| known.name == database);
    // Only a name or a number that the backup has comes so far.
    named.map_or_else(|| database.parse().unwrap_or_default(), |known| known.oid)
}

/// Programs that lie with those of a server of this host.
fn beside_a_server(version: MajorVersion) -> Option<PathBuf> {
    let instances = find::find_all().instances;
    let programs = instances.into_iter().filter_map(|instance| instance.programs);
    programs.into_iter().find_map(|folder| programs::find_programs(version, Some(&folder)).ok())
}

/// What replay passed over in the database itself is missing from it.
fn refuse_damage(options: &ExtractOptions, private: &Private) -> Result<(), ExtractError> {
    let lines = &private.recovery.invalid_pages;
    if lines.is_empty() {
        return Ok(());
    }
    Err(ExtractError::Damaged { database: options.database.clone(), lines: lines.clone() })
}

/// The table that was copied.
struct Copied {
    table: QualifiedName,
    created: Option<QualifiedName>,
    destination: Destination,
    partitions: u64,
    rows: i64,
    bytes: u64,
    left_behind: Vec<String>,
    notes: Vec<String>,
}

fn copy(
    options: &ExtractOptions,
    prepared: &PreparedExtract,
    source: &Recovered,
    progress: &dyn Progress,
) -> Result<Copied, ExtractError> {
    let mut session =
        Session::open(&source.connect).map_err(ExtractError::server("open the recovered database"))?;
    let found = find_table(&mut session, options, &prepared.plan.restore.target)?;
    let rows = count(&mut session, &found.table)?;
    let mut copied = Copied {
        table: found.table.clone(),
        created: None,
        destination: prepared.plan.destination.clone(),
        partitions: found.tree.len() as u64 - 1,
        rows,
        bytes: 0,
        left_behind: Vec::new(),
        notes: found.notes,
    };
    progress.note(&format!("copying {}: {rows} rows", found.table));
    progress.stage(Stage::Copying, None);
    match (&prepared.plan.destination, &prepared.target) {
        (Destination::Server { server, database, table }, Some(target)) => {
            let wanted = QualifiedName {
                schema: table.schema.clone().unwrap_or_else(|| found.table.schema.clone()),
                name: table.name.clone(),
            };
            let known = TableName { schema: Some(wanted.schema.clone()), name: wanted.name.clone() };
            look_at_server(target, &known)?;
            let Isolated { tables, left_behind } =
                isolate::isolate(&mut session, found.oid, &found.table, &wanted)?;
            drop(session);
            copied.bytes = transfer::to_server(source, &tables, target, progress)?;
            copied.left_behind = left_behind;
            compare(target, &wanted, rows)?;
            copied.destination =
                Destination::Server { server: server.clone(), database: database.clone(), table: known };
            copied.created = Some(wanted);
        }
        (Destination::File { path, format }, _) => {
            refuse_full(path, found.bytes)?;
            let tables = isolate::names(&mut session, &found.tree)
                .map_err(ExtractError::server("list the partitions"))?;
            copied.bytes = transfer::to_file(source, &tables, path, *format)?;
        }
        // The target is known whenever a server is the destination.
        (Destination::Server { .. }, None) => {}
    }
    Ok(copied)
}

/// A table that was there at the instant.
struct FoundTable {
    oid: u32,
    table: QualifiedName,
    tree: Vec<u32>,
    bytes: u64,
    notes: Vec<String>,
}

const TABLES: &str = "SELECT c.oid, n.nspname::text, c.relname::text, c.relkind::text, \
        (SELECT count(*) FROM pg_inherits i JOIN pg_class d ON d.oid = i.inhrelid \
            WHERE i.inhparent = c.oid AND NOT d.relispartition), c.relpersistence = 'u' \
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
    WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f') AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'";

fn find_table(
    session: &mut Session,
    options: &ExtractOptions,
    target: &str,
) -> Result<FoundTable, ExtractError> {
    const LOOK: &str = "look for the table";
    let failed = || ExtractError::server(LOOK);
    let rows = session.query(LOOK, TABLES, &[]).map_err(failed())?;
    let all: Vec<QualifiedName> =
        rows.iter().map(|row| QualifiedName { schema: row.get(1), name: row.get(2) }).collect();
    let asked = &options.table;
    let is_meant = |table: &QualifiedName| {
        table.name == asked.name && asked.schema.as_ref().is_none_or(|schema| *schema == table.schema)
    };
    let meant: Vec<_> = rows.iter().zip(&all).filter(|(_, table)| is_meant(table)).collect();
    let (row, table) = match meant.as_slice() {
        [(row, table)] => (*row, (*table).clone()),
        [] => {
            return Err(ExtractError::Absent {
                table: asked.clone(),
                database: options.database.clone(),
                target: target.to_owned(),
                similar: table::similar(asked, &all),
            });
        }
        several => {
            let found = several.iter().map(|(_, table)| (*table).clone()).collect();
            return Err(ExtractError::Ambiguous { table: asked.clone(), found });
        }
    };
    let (oid, kind, children, unlogged): (u32, String, i64, bool) =
        (row.get(0), row.get(3), row.get(4), row.get(5));
    match kind.as_str() {
        "v" => return Err(ExtractError::NotATable { table, kind: "view" }),
        "m" => return Err(ExtractError::NotATable { table, kind: "materialized view" }),
        "f" => return Err(ExtractError::NotATable { table, kind: "foreign table" }),
        _ => {}
    }
    let tree = isolate::tree(session, oid).map_err(failed())?;
    let sizes =
        "SELECT coalesce(sum(pg_table_size(t.oid::regclass)), 0)::bigint FROM unnest($1::oid[]) t(oid)";
    let bytes: i64 = session.query_one(LOOK, sizes, &[&tree]).map_err(failed())?.get(0);
    let mut notes = Vec::new();
    if children > 0 {
        notes.push(format!("{table} has {children} tables that inherit from it; their rows are not copied"));
    }
    if unlogged {
        notes.push(format!("{table} is unlogged: recovery empties it, so that no instant has its rows"));
    }
    Ok(FoundTable { oid, table, tree, bytes: bytes.unsigned_abs(), notes })
}

fn count(session: &mut Session, table: &QualifiedName) -> Result<i64, ExtractError> {
    const COUNT: &str = "count the rows";
    // Inheriting tables are not copied; partitions of a partitioned table are, and it has no rows of its own.
    let sql = format!(
        "SELECT count(*) FROM {0} WHERE (SELECT relkind = 'p' FROM pg_class WHERE oid = {1}::regclass) OR tableoid = {1}::regclass",
        table.quoted(),
        quote_literal(&table.quoted())
    );
    Ok(session.query_one(COUNT, &sql, &[]).map_err(ExtractError::server(COUNT))?.get(0))
}

fn quote_literal(text: &str) -> String {
    // `standard_conforming_strings` is on by default; E'' means the same whatever it is.
    format!("E'{}'", text.replace('\\', "\\\\").replace('\'', "''"))
}

/// The copy has to be what was counted before it was made.
fn compare(target: &Target, table: &QualifiedName, expected: i64) -> Result<(), ExtractError> {
    let mut session =
        Session::open(&target.connect).map_err(ExtractError::server("count the rows of the copy"))?;
    let found = count(&mut session, table)?;
    match found == expected {
        true => Ok(()),
        false => Err(ExtractError::RowsDiffer { table: table.clone(), found, expected }),
    }
}

/// A dump is seldom longer than the table; whoever has less room should know before.
fn refuse_full(path: &Path, needed: u64) -> Result<(), ExtractError> {
    let parent = path.parent().unwrap_or_else(|| Path::new("/"));
    let available = observe_place(parent).map_err(restore_failed)?.room.available;
    match available < needed {
        true => Err(ExtractError::NoSpace { path: parent.to_owned(), needed, available }),
        false => Ok(()),
    }
}

fn report(
    options: &ExtractOptions,
    restored: &Report,
    private: &Private,
    copied: Copied,
    notes: Vec<String>,
) -> ExtractReport {
    let plan = &restored.plan;
    ExtractReport {
        table: copied.table,
        database: options.database.clone(),
        target: plan.target.clone(),
        reached: private.recovery.reached,
        backup: plan.chosen.backup,
        partitions: copied.partitions,
        rows: copied.rows,
        destination: copied.destination,
        created: copied.created,
        bytes: copied.bytes,
        left_behind: copied.left_behind,
        bytes_restored: restored.placed.work.bytes_written,
        bytes_left_out: plan.databases.as_ref().map_or(0, |databases| databases.bytes_left_out),
        restore_s: restored.total_s,
        replay_s: private.recovery.replay_s,
        copy_s: 0.0,
        total_s: 0.0,
        notes,
    }
}

impl ExtractReport {
    /// How long it took, in words.
    #[must_use]
    pub fn show_time(&self) -> String {
        human_duration(Duration::from_secs_f64(self.total_s))
    }

    /// How the new table is looked at.
    #[must_use]
    pub fn query(&self) -> Option<String> {
        let created = self.created.as_ref()?;
        Some(format!(
            "SELECT * FROM {}.{};",
            quote_identifier(&created.schema),
            quote_identifier(&created.name)
        ))
    }
}
