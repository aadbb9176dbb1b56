//! Asks each database how big its tables are, so that a drill can later compare what came back with what was there.
//!
//! Estimates only (`pg_class.reltuples`): counting rows would read the cluster a second time. A database that refuses the connection
//! is listed without tables; a backup does not fail for it.

use crate::cluster::Cluster;
use pgproof_repo::manifest::summary::{Database, TableEstimate};
use pgproof_server::{ServerError, Session};

/// Tables told of in each database: the largest ones.
const TABLES_MAX: usize = 500;

const TABLES: &str = "SELECT n.nspname::text, c.relname::text, c.reltuples::float8, c.relpages::bigint \
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
    WHERE c.relkind IN ('r', 'm') AND c.relpersistence = 'p' AND n.nspname NOT IN ('pg_catalog', 'information_schema') \
        AND n.nspname !~ '^pg_toast' \
    ORDER BY c.relpages DESC, c.oid LIMIT $1";

/// Databases of the cluster with estimates of their largest tables.
pub(crate) fn observe(cluster: &Cluster) -> Vec<Database> {
    cluster
        .facts
        .databases
        .iter()
        .map(|database| {
            let tables =
                if database.allows_connections { tables(cluster, &database.name) } else { Ok(Vec::new()) };
            let mut tables = tables.unwrap_or_default();
            let truncated = tables.len() > TABLES_MAX;
            tables.truncate(TABLES_MAX);
            Database { oid: database.oid, name: database.name.clone(), tables, truncated }
        })
        .collect()
}

fn tables(cluster: &Cluster, database: &str) -> Result<Vec<TableEstimate>, ServerError> {
    let mut session = Session::open(&cluster.connect.with_database(database))?;
    let limit = TABLES_MAX as i64 + 1;
    let rows = session.query("estimate row counts", TABLES, &[&limit])?;
    let table = |row: &postgres::Row| {
        let rows: f64 = row.get(2);
        TableEstimate {
            schema: row.get(0),
            name: row.get(1),
            // -1: never analysed (since version 14).
            rows: (rows >= 0.0).then_some(rows as u64),
            pages: u64::try_from(row.get::<_, i64>(3)).unwrap_or(0),
        }
    };
    Ok(rows.iter().map(table).collect())
}
