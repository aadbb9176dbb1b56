//! Carries out a load.
//!
//! Nothing is changed on the target before every file that `pg_restore` will read was fetched and checked. A database that was made and
//! then could not be filled is left for a person to look at.

use super::create::identifier;
use super::fetch;
use super::observe::{Target, TargetFacts};
use super::plan::{DatabasePlan, LoadOptions, LoadPlan, Make, plan};
use crate::child::Running;
use crate::error::DumpError;
use crate::report::seconds;
use crate::run::GLOBALS;
use crate::source::find_clients;
use crate::spool::Spool;
use pgproof_base::{Bytes, Progress, Stage};
use pgproof_repo::lease::{LeaseTimes, ReaderClaim, ReaderLease};
use pgproof_repo::manifest::summary::DumpSummary;
use pgproof_repo::{BackupObjects, Lineage, Manifest, Repository};
use pgproof_server::Session;
use pgproof_server::find::Clients;
use serde::Serialize;
use std::path::Path;
use std::time::{Duration, Instant};

/// A load that was planned, with all that it needs.
#[derive(Debug)]
pub struct Loading {
    repository: Repository,
    lineage: Lineage,
    manifest: Manifest,
    options: LoadOptions,
    /// What is to be done.
    pub plan: LoadPlan,
    /// What the target held.
    pub target: TargetFacts,
    clients: Clients,
    _lease: ReaderLease,
}

/// What a load did.
#[derive(Debug, Clone, Serialize)]
pub struct LoadReport {
    /// What was planned, and done.
    pub plan: LoadPlan,
    /// Version of the `pg_restore` that did it.
    pub program_version: u32,
    /// Bytes that were fetched.
    pub bytes: Bytes,
    /// From begin to end, in seconds.
    #[serde(rename = "elapsed_s", serialize_with = "seconds")]
    pub elapsed: Duration,
}

impl Loading {
    /// Reads what the dump is, looks at the target, and plans.
    ///
    /// # Errors
    /// A refusal, or what keeps the dump or the target from being read. Nothing was changed.
    pub fn prepare(
        repository: &Repository,
        dump: BackupObjects,
        target: &mut Target,
        options: LoadOptions,
    ) -> Result<Self, DumpError> {
        let lineage = dump.lineage();
        let claim = ReaderClaim { kind: "load".to_owned(), backups: vec![dump.id()], wal: None };
        let lease = ReaderLease::take(repository, lineage, claim, LeaseTimes::default())
            .map_err(DumpError::repo("hold on to the dump"))?;
        let manifest =
            Manifest::open(repository, lineage, &dump.id()).map_err(DumpError::repo("open the dump"))?;
        let what = described(&manifest)?;
        let globals = match options.globals {
            true => Some(fetch::text(repository, lineage, &manifest, GLOBALS)?),
            false => None,
        };
        let into = options.into.as_deref().or(options.database.as_deref());
        let facts = target.observe(into)?;
        let plan = plan(manifest.summary(), what, globals.as_deref(), &facts, &options)?;
        let clients = find_clients(plan.program, target.beside.as_deref())?;
        Ok(Self {
            repository: repository.clone(),
            lineage,
            options,
            plan,
            target: facts,
            clients,
            manifest,
            _lease: lease,
        })
    }
}

fn described(manifest: &Manifest) -> Result<&DumpSummary, DumpError> {
    manifest.summary().dump.as_deref().ok_or_else(|| DumpError::NotWhole {
        dump: manifest.summary().id.to_string(),
        file: "manifest".to_owned(),
        what: "it is that of a backup".to_owned(),
    })
}

/// Loads.
///
/// # Errors
/// See [`DumpError`]; each has a hint. Until all was fetched nothing was changed.
pub fn run(loading: &Loading, target: &mut Target, progress: &dyn Progress) -> Result<LoadReport, DumpError> {
    let began = Instant::now();
    let plan = &loading.plan;
    let spool = Spool::create(&loading.options.temp)?;
    let files = match &plan.database {
        None => None,
        Some(database) => Some(fetch_database(loading, database, &spool, progress)?),
    };
    if let Some(roles) = plan.roles.as_ref().filter(|roles| !roles.statements.is_empty()) {
        let script = format!("BEGIN;\n{}\nCOMMIT", roles.statements.join("\n"));
        target.session.execute("make the missing roles", &script).map_err(DumpError::server("load roles"))?;
    }
    if let Some((database, directory)) = plan.database.as_ref().zip(files.as_ref()) {
        progress.stage(Stage::Restoring, None);
        fill(loading, database, directory, target, &spool)?;
        if database.analyze {
            let mut session = open(target, &database.into)?;
            session.execute("analyze it", "ANALYZE").map_err(DumpError::server("analyze the database"))?;
        }
    }
    Ok(LoadReport {
        plan: plan.clone(),
        program_version: loading.clients.version.number(),
        bytes: plan.database.as_ref().map_or(Bytes(0), |database| database.bytes),
        elapsed: began.elapsed(),
    })
}

fn fetch_database(
    loading: &Loading,
    database: &DatabasePlan,
    spool: &Spool,
    progress: &dyn Progress,
) -> Result<std::path::PathBuf, DumpError> {
    spool.require(database.bytes.0)?;
    let directory = spool.dir("database")?;
    progress.stage(Stage::Copying, Some(database.bytes.0));
    fetch::folder(
        &loading.repository,
        loading.lineage,
        &loading.manifest,
        (&database.folder(), database.files),
        (&directory, loading.options.jobs),
        progress,
    )?;
    Ok(directory)
}

fn open(target: &Target, database: &str) -> Result<Session, DumpError> {
    Session::open(&target.connect.with_database(database))
        .map_err(DumpError::server("reach the new database"))
}

/// Makes the database, if it is to be made, and loads into it.
fn fill(
    loading: &Loading,
    database: &DatabasePlan,
    directory: &Path,
    target: &mut Target,
    spool: &Spool,
) -> Result<(), DumpError> {
    if let Make::ByStatements { before, .. } = &database.make {
        target
            .session
            .execute("create the database", before)
            .map_err(DumpError::server("make the database"))?;
    }
    if !database.schemas.is_empty() {
        let mut session = open(target, &database.into)?;
        for schema in &database.schemas {
            let sql = format!("CREATE SCHEMA IF NOT EXISTS {}", identifier(schema));
            session.execute("create the schema", &sql).map_err(DumpError::server("make a schema"))?;
        }
    }
    let maintenance = target.connect.database.clone().unwrap_or_else(|| "postgres".to_owned());
    let through = match database.make {
        // It connects here first, and then to the database that it has made.
        Make::ByPgRestore => maintenance,
        _ => database.into.clone(),
    };
    let mut command = loading
        .clients
        .command("pg_restore", &target.connect, &through)
        .map_err(DumpError::server("call pg_restore"))?;
    command.args(&database.arguments).arg(directory);
    Running::start(command)?.finish(spool.path())?;
    if let Make::ByStatements { after, .. } = &database.make {
        for statement in after {
            target
                .session
                .execute("set the options of the database", statement)
                .map_err(DumpError::server("finish the database"))?;
        }
    }
    Ok(())
}
