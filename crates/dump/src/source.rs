//! The server that is dumped, as `pg_dumpall` would look at it.

use crate::error::DumpError;
use pgproof_pg::MajorVersion;
use pgproof_repo::manifest::summary::{DatabaseProperties, DumpSelection};
use pgproof_server::find::{Clients, clients};
use pgproof_server::{ConnectOptions, Facts, Session};
use std::path::Path;

/// A server, and the programs that dump it.
#[derive(Debug)]
pub struct Source {
    /// The connection by which it is observed.
    pub session: Session,
    /// How programs reach it.
    pub connect: ConnectOptions,
    /// What it says of itself.
    pub facts: Facts,
    /// Its version.
    pub version: MajorVersion,
    /// The programs.
    pub clients: Clients,
}

impl Source {
    /// Connects and finds programs that are not older than the server; those `beside` its own are looked at first.
    ///
    /// # Errors
    /// [`DumpError::NoPrograms`], [`DumpError::Unsupported`], [`DumpError::Server`].
    pub fn open(connect: &ConnectOptions, beside: Option<&Path>) -> Result<Self, DumpError> {
        let mut session = Session::open(connect).map_err(DumpError::server("reach the server"))?;
        let facts = Facts::observe(&mut session).map_err(DumpError::server("look at the server"))?;
        let version = facts.major().map_err(|source| DumpError::Unsupported { source })?;
        let clients = find_clients(version, beside)?;
        Ok(Self { session, connect: connect.clone(), facts, version, clients })
    }
}

/// The oldest programs of at least a version.
pub(crate) fn find_clients(needed: MajorVersion, beside: Option<&Path>) -> Result<Clients, DumpError> {
    clients(needed, beside).map_err(|found| {
        let found: Vec<String> = found.iter().map(ToString::to_string).collect();
        let found = if found.is_empty() { "none".to_owned() } else { found.join(", ") };
        DumpError::NoPrograms { needed, found }
    })
}

/// A database to dump.
#[derive(Debug, Clone)]
pub(crate) struct Database {
    pub(crate) oid: u32,
    pub(crate) name: String,
    pub(crate) roles: Vec<String>,
    pub(crate) properties: DatabaseProperties,
}

/// What is to be dumped of a server.
#[derive(Debug)]
pub(crate) struct Wanted {
    pub(crate) databases: Vec<Database>,
    pub(crate) left_out: Vec<String>,
    /// Whether the role may read password hashes.
    pub(crate) passwords: bool,
}

/// Looks which databases there are and chooses as `pg_dumpall` does (`dumpDatabases` in `src/bin/pg_dump/pg_dumpall.c`): all that accept
/// connections, templates too, but template0 and what a `DROP DATABASE` left (connection limit -2).
pub(crate) fn observe(source: &mut Source, selection: &DumpSelection) -> Result<Wanted, DumpError> {
    let sql = databases_sql(source.version);
    let rows =
        source.session.query("list databases", &sql, &[]).map_err(DumpError::server("list databases"))?;
    let (mut databases, mut left_out) = (Vec::new(), Vec::new());
    for row in &rows {
        let database = database(row);
        let connectable =
            database.properties.allows_connections && database.properties.connection_limit != -2;
        let chosen = selection.databases.is_empty() || selection.databases.contains(&database.name);
        match (connectable, chosen) {
            _ if database.name == "template0" => {}
            (true, true) => databases.push(database),
            (false, true) => left_out.push(database.name),
            (_, false) => {}
        }
    }
    let missing = |name: &&String| !databases.iter().any(|database| &database.name == *name);
    if let Some(name) = selection.databases.iter().find(missing) {
        return Err(DumpError::NoDatabase { name: name.clone() });
    }
    // In order of their folders' names, as the manifest wants its paths.
    databases.sort_by_key(|database| database.oid.to_string());
    let passwords = source
        .session
        .query_one("ask for privileges", "SELECT has_table_privilege('pg_catalog.pg_authid', 'SELECT')", &[])
        .map_err(DumpError::server("ask for privileges"))?
        .get(0);
    Ok(Wanted { databases, left_out, passwords })
}

fn database(row: &postgres::Row) -> Database {
    let provider: String = row.get("provider");
    Database {
        oid: row.get("oid"),
        name: row.get("name"),
        roles: row.get::<_, Option<Vec<String>>>("roles").unwrap_or_default(),
        properties: DatabaseProperties {
            owner: row.get("owner"),
            encoding: row.get("encoding"),
            collate: row.get("collate"),
            ctype: row.get("ctype"),
            locale_provider: provider.chars().next().unwrap_or('c'),
            locale: row.get("locale"),
            icu_rules: row.get("icu_rules"),
            tablespace: row.get("tablespace"),
            connection_limit: row.get("connection_limit"),
            allows_connections: row.get("allows_connections"),
            is_template: row.get("is_template"),
            settings: row.get::<_, Option<Vec<String>>>("settings").unwrap_or_default(),
        },
    }
}

/// Locales other than libc's came with 15 and were renamed with 17; rules for ICU came with 16. What belongs to the role that `initdb`
/// made (number 10) is not in `pg_shdepend`, because that role cannot be dropped.
fn databases_sql(version: MajorVersion) -> String {
    let (provider, locale, rules) = match version {
        MajorVersion::V14 => ("'c'", "NULL", "NULL"),
        MajorVersion::V15 => ("d.datlocprovider::text", "d.daticulocale", "NULL"),
        MajorVersion::V16 => ("d.datlocprovider::text", "d.daticulocale", "d.daticurules"),
        MajorVersion::V17 | MajorVersion::V18 => ("d.datlocprovider::text", "d.datlocale", "d.daticurules"),
    };
    format!(
        "SELECT d.oid, d.datname::text AS name, pg_get_userbyid(d.datdba)::text AS owner, \
            pg_encoding_to_char(d.encoding)::text AS encoding, d.datcollate::text AS collate, d.datctype::text AS ctype, \
            ({provider})::text AS provider, ({locale})::text AS locale, ({rules})::text AS icu_rules, \
            t.spcname::text AS tablespace, d.datconnlimit AS connection_limit, \
            d.datallowconn AS allows_connections, d.datistemplate AS is_template, s.setconfig AS settings, \
            (SELECT array_agg(r.rolname::text ORDER BY r.rolname) FROM pg_roles r WHERE r.oid = 10 \
                OR r.oid IN (SELECT setrole FROM pg_db_role_setting WHERE setdatabase = d.oid) OR r.oid IN \
                (SELECT refobjid FROM pg_shdepend WHERE refclassid = 'pg_authid'::regclass \
                    AND (dbid = d.oid OR (classid = 'pg_database'::regclass AND objid = d.oid)))) AS roles \
         FROM pg_database d JOIN pg_tablespace t ON t.oid = d.dattablespace \
            LEFT JOIN pg_db_role_setting s ON s.setdatabase = d.oid AND s.setrole = 0"
    )
}
