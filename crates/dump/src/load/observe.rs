//! What the target holds.

use crate::error::DumpError;
use pgproof_pg::MajorVersion;
use pgproof_server::{ConnectOptions, Facts, Session};
use serde::Serialize;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// The server that is loaded into.
#[derive(Debug)]
pub struct Target {
    /// The connection by which it is observed and by which roles are made.
    pub(crate) session: Session,
    /// How programs reach it.
    pub(crate) connect: ConnectOptions,
    /// Where its own programs are, if they are on this host.
    pub(crate) beside: Option<PathBuf>,
    /// What it says of itself.
    pub(crate) facts: Facts,
    /// Its version.
    pub(crate) version: MajorVersion,
}

/// What it holds.
#[derive(Debug, Clone, Serialize)]
pub struct TargetFacts {
    /// Its version.
    pub version: MajorVersion,
    /// How it was reached.
    pub server: String,
    /// Whether it is a standby.
    pub in_recovery: bool,
    /// Its roles.
    pub roles: BTreeSet<String>,
    /// Its databases.
    pub databases: BTreeSet<String>,
    /// Its tablespaces.
    pub tablespaces: BTreeSet<String>,
    /// What is in the database that is loaded into; `None` where there is no such database.
    pub held: Option<Held>,
}

/// What is in a database beyond what `initdb` made.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Held {
    /// Tables, views, sequences and indexes.
    pub relations: i64,
    /// Schemas.
    pub schemas: i64,
    /// Functions and types.
    pub others: i64,
    /// Large objects.
    pub large_objects: i64,
}

impl Held {
    /// Whether there is nothing.
    pub fn is_nothing(&self) -> bool {
        *self == Self::default()
    }
}

impl std::fmt::Display for Held {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { relations, schemas, others, large_objects } = self;
        write!(
            f,
            "{relations} relations, {schemas} schemas, {others} functions and types, {large_objects} large objects"
        )
    }
}

/// `FirstNormalObjectId` (`src/include/access/transam.h`): what `initdb` makes has lower numbers.
const HELD: &str = "SELECT (SELECT count(*) FROM pg_class WHERE oid >= 16384 AND relnamespace <> 'pg_toast'::regnamespace), \
    (SELECT count(*) FROM pg_namespace WHERE oid >= 16384 AND nspname !~ '^pg_(toast_)?temp_'), \
    (SELECT count(*) FROM pg_proc WHERE oid >= 16384) + (SELECT count(*) FROM pg_type WHERE oid >= 16384), \
    (SELECT count(*) FROM pg_largeobject_metadata)";

impl Target {
    /// Connects; programs `beside` the server's own are looked at first.
    ///
    /// # Errors
    /// [`DumpError::Server`], [`DumpError::Unsupported`].
    pub fn open(connect: &ConnectOptions, beside: Option<&Path>) -> Result<Self, DumpError> {
        let mut session = Session::open(connect).map_err(DumpError::server("reach the target server"))?;
        let facts = Facts::observe(&mut session).map_err(DumpError::server("look at the target server"))?;
        let version = facts.major().map_err(|source| DumpError::Unsupported { source })?;
        let beside = beside.map(Path::to_owned);
        Ok(Self { session, connect: connect.clone(), beside, facts, version })
    }

    /// Looks what it holds; `database` is the one that is to be loaded into.
    ///
    /// # Errors
    /// [`DumpError::Server`].
    pub fn observe(&mut self, database: Option<&str>) -> Result<TargetFacts, DumpError> {
        let databases = self.names("list databases", "SELECT datname::text FROM pg_database")?;
        let held = match database.filter(|name| databases.contains(*name)) {
            Some(name) => Some(self.held(name)?),
            None => None,
        };
        Ok(TargetFacts {
            version: self.version,
            server: self.session.server().to_owned(),
            in_recovery: self.facts.in_recovery,
            roles: self.names("list roles", "SELECT rolname::text FROM pg_roles")?,
            databases,
            tablespaces: self.names("list tablespaces", "SELECT spcname::text FROM pg_tablespace")?,
            held,
        })
    }

    fn names(&mut self, operation: &'static str, sql: &str) -> Result<BTreeSet<String>, DumpError> {
        let rows = self.session.query(operation, sql, &[]).map_err(DumpError::server(operation))?;
        Ok(rows.iter().map(|row| row.get(0)).collect())
    }

    fn held(&self, database: &str) -> Result<Held, DumpError> {
        let failed = || DumpError::server("look into the target database");
        let mut session = Session::open(&self.connect.with_database(database)).map_err(failed())?;
        let row = session.query_one("count what is in it", HELD, &[]).map_err(failed())?;
        Ok(Held { relations: row.get(0), schemas: row.get(1), others: row.get(2), large_objects: row.get(3) })
    }
}
