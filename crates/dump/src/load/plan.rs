//! What a load does, or why it is refused. Pure.

use super::create;
use super::globals::{self, RolePlan};
use super::observe::TargetFacts;
use crate::error::DumpError;
use crate::run::folder;
use pgproof_base::Bytes;
use pgproof_pg::MajorVersion;
use pgproof_repo::manifest::summary::{DumpSelection, DumpSummary, DumpedDatabase, DumpedGlobals};
use pgproof_repo::{BackupId, BackupSummary};
use serde::Serialize;
use std::collections::BTreeSet;
use std::path::PathBuf;

/// What the operator asks for.
#[derive(Debug, Clone)]
pub struct LoadOptions {
    /// The database of the dump; none to load globals only.
    pub database: Option<String>,
    /// Its name on the target, where that is another.
    pub into: Option<String>,
    /// Schemas and tables, when not everything is wanted.
    pub selection: DumpSelection,
    /// Make roles that are missing.
    pub globals: bool,
    /// Drop what the dump holds before loading it into a database that is not empty.
    pub clean: bool,
    /// Processes of `pg_restore`, and threads that fetch.
    pub jobs: usize,
    /// Run `ANALYZE` at the end.
    pub analyze: bool,
    /// Where files are put for `pg_restore`.
    pub temp: PathBuf,
}

/// How the database comes to be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "how")]
pub enum Make {
    /// `pg_restore --create` makes it with all its options.
    ByPgRestore,
    /// It is made by these statements, before and after loading.
    ByStatements {
        /// Before.
        before: String,
        /// After.
        after: Vec<String>,
    },
    /// It exists and is empty.
    IntoEmpty,
    /// It exists, and what the dump holds is dropped there first.
    Clean,
}

/// What happens with a database.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DatabasePlan {
    /// Its number in the dump.
    pub oid: u32,
    /// Its name in the dump.
    pub name: String,
    /// Its name on the target.
    pub into: String,
    /// How it comes to be.
    pub make: Make,
    /// Schemas made before a selection is loaded, because `pg_restore --schema` does not.
    pub schemas: Vec<String>,
    /// Arguments of `pg_restore`, without connection and directory.
    pub arguments: Vec<String>,
    /// Bytes that are fetched to the temporary directory.
    pub bytes: Bytes,
    /// Files that are fetched.
    pub files: u64,
    /// Whether `ANALYZE` follows.
    pub analyze: bool,
}

/// All that a load does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LoadPlan {
    /// The dump.
    pub dump: BackupId,
    /// Version of the target.
    pub target: MajorVersion,
    /// The oldest version of `pg_restore` that can do it.
    pub program: MajorVersion,
    /// What is done about roles, where that was asked for.
    pub roles: Option<RolePlan>,
    /// What is done about a database.
    pub database: Option<DatabasePlan>,
    /// What a person should know, as sentences.
    pub notes: Vec<String>,
}

/// Decides. `globals` is the script of the dump, where roles were asked for.
///
/// # Errors
/// A refusal; nothing was changed.
pub fn plan(
    summary: &BackupSummary,
    dump: &DumpSummary,
    globals: Option<&str>,
    target: &TargetFacts,
    options: &LoadOptions,
) -> Result<LoadPlan, DumpError> {
    let version = |number| MajorVersion::new(number).map_err(|source| DumpError::Unsupported { source });
    let dumped = version(summary.server_version / 10_000)?;
    let dumped_by = version(dump.program_version)?;
    if target.in_recovery {
        return Err(DumpError::InRecovery { server: target.server.clone() });
    }
    if target.version < dumped {
        return Err(DumpError::OlderTarget { target: target.version, dumped });
    }
    let mut notes = Vec::new();
    if target.version < dumped_by {
        notes.push(format!(
            "pg_dump {dumped_by} wrote this dump, and its output is not made for servers of PostgreSQL {}",
            target.version
        ));
    }
    let roles = match (options.globals, dump.globals, globals) {
        (true, DumpedGlobals::None, _) | (true, _, None) => {
            return Err(DumpError::NoGlobals { dump: summary.id.to_string() });
        }
        (true, kept, Some(script)) => {
            let plan = globals::choose(script, &target.roles);
            if kept == DumpedGlobals::WithoutPasswords && !plan.create.is_empty() {
                notes.push("the dump holds no passwords, so new roles have none".to_owned());
            }
            Some(plan)
        }
        (false, ..) => None,
    };
    let database = match &options.database {
        None => None,
        Some(name) => {
            let of = find(summary, dump, name)?;
            check_roles(of, dump, target, roles.as_ref(), options, &mut notes)?;
            Some(plan_database(of, target, options, &mut notes)?)
        }
    };
    Ok(LoadPlan {
        dump: summary.id,
        target: target.version,
        program: target.version.max(dumped_by),
        roles,
        database,
        notes,
    })
}

fn find<'a>(
    summary: &BackupSummary,
    dump: &'a DumpSummary,
    name: &str,
) -> Result<&'a DumpedDatabase, DumpError> {
    dump.databases.iter().find(|database| database.name == name).ok_or_else(|| {
        let names: Vec<&str> = dump.databases.iter().map(|database| database.name.as_str()).collect();
        DumpError::NotInDump { dump: summary.id.to_string(), name: name.to_owned(), holds: names.join(", ") }
    })
}

/// `pg_restore` would stop at the first object of a missing role, with the database loaded in part.
fn check_roles(
    of: &DumpedDatabase,
    dump: &DumpSummary,
    target: &TargetFacts,
    roles: Option<&RolePlan>,
    options: &LoadOptions,
    notes: &mut Vec<String>,
) -> Result<(), DumpError> {
    let made: BTreeSet<&String> = roles.map(|roles| roles.create.iter().collect()).unwrap_or_default();
    let missing = |role: &&String| !target.roles.contains(*role) && !made.contains(role);
    let missing: Vec<String> = of.roles.iter().filter(missing).cloned().collect();
    let is_part = |selection: &DumpSelection| !selection.schemas.is_empty() || !selection.tables.is_empty();
    match (missing.is_empty(), is_part(&options.selection) || is_part(&dump.selection)) {
        (true, _) => Ok(()),
        (false, false) => Err(DumpError::MissingRoles { roles: missing }),
        (false, true) => {
            let names = missing.join(", ");
            notes
                .push(format!("the target has no role {names}: loading stops if what was selected needs it"));
            Ok(())
        }
    }
}

fn plan_database(
    of: &DumpedDatabase,
    target: &TargetFacts,
    options: &LoadOptions,
    notes: &mut Vec<String>,
) -> Result<DatabasePlan, DumpError> {
    let into = options.into.clone().unwrap_or_else(|| of.name.clone());
    let everything = options.selection.is_everything();
    // Names of tablespaces are baked into CREATE DATABASE, so that one is left to our own where its tablespace is missing.
    let has_tablespace = target.tablespaces.contains(&of.properties.tablespace);
    let make = match target.held {
        None if into == of.name && everything && has_tablespace => Make::ByPgRestore,
        None => {
            if !has_tablespace {
                notes.push(format!(
                    "the target has no tablespace {}, so the default one is used",
                    of.properties.tablespace
                ));
            }
            notes.push("privileges on the database itself, comments on it and what roles have set in it are not loaded".to_owned());
            Make::ByStatements {
                before: create::create(&into, &of.properties, target.version, has_tablespace),
                after: create::finish(&into, &of.properties),
            }
        }
        Some(held) if held.is_nothing() => {
            notes.push(format!(
                "database {into} exists and keeps its own options, such as encoding and owner"
            ));
            Make::IntoEmpty
        }
        Some(_) if options.clean => Make::Clean,
        Some(held) => return Err(DumpError::NotEmpty { name: into, holds: held.to_string() }),
    };
    let mut arguments: Vec<String> =
        ["--format=directory", "--exit-on-error"].into_iter().map(str::to_owned).collect();
    arguments.push(format!("--jobs={}", options.jobs));
    match make {
        Make::ByPgRestore => arguments.push("--create".to_owned()),
        Make::Clean => arguments.extend(["--clean".to_owned(), "--if-exists".to_owned()]),
        Make::ByStatements { .. } | Make::IntoEmpty => {}
    }
    arguments.extend(options.selection.schemas.iter().map(|schema| format!("--schema={schema}")));
    arguments.extend(options.selection.tables.iter().map(|table| format!("--table={table}")));
    if !options.selection.tables.is_empty() {
        notes.push(
            "of selected tables, pg_restore loads neither indexes nor constraints nor triggers".to_owned(),
        );
    }
    Ok(DatabasePlan {
        oid: of.oid,
        name: of.name.clone(),
        into,
        make,
        schemas: options.selection.schemas.clone(),
        arguments,
        bytes: Bytes(of.bytes),
        files: of.files,
        analyze: options.analyze,
    })
}

impl DatabasePlan {
    /// Where the dump keeps its files.
    pub(crate) fn folder(&self) -> String {
        folder(self.oid)
    }
}
