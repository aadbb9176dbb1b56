//! Asks each database how big its tables are, so that a drill can later compare what came back with what was there.
//!
//! Estimates only (`pg_class.reltuples`, and the statistics' count of live rows): counting rows would read the cluster a second time. A database that refuses the connection
//! is listed without tables; a backup does not fail for it.

use crate::cluster::Cluster;
use pgproof_repo::manifest::summary::{Database, TableEstimate};
use pgproof_server::{ConnectOptions, ServerError, Session};
use std::thread::{self, JoinHandle};

/// Tables told of in each database: the largest ones.
const TABLES_MAX: usize = 500;

const TABLES: &str = "SELECT n.nspname::text, c.relname::text, c.reltuples::float8, c.relpages::bigint, \
        CASE WHEN s.n_tup_ins + s.n_tup_upd + s.n_tup_del > 0 OR s.n_live_tup > 0 THEN s.n_live_tup END \
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace LEFT JOIN pg_stat_all_tables s ON s.relid = c.oid \
    WHERE c.relkind IN ('r', 'm') AND c.relpersistence = 'p' AND n.nspname NOT IN ('pg_catalog', 'information_schema') \
        AND n.nspname !~ '^pg_toast' \
    ORDER BY greatest(c.relpages, pg_relation_size(c.oid) / 8192) DESC, c.oid LIMIT $1";

/// Begins to ask, beside the backup: each database costs a connection, and the answer is wanted at the end.
pub(crate) fn begin(cluster: &Cluster) -> JoinHandle<Vec<Database>> {
    let (connect, databases) = (cluster.connect.clone(), cluster.facts.databases.clone());
    thread::spawn(move || observe(&connect, &databases))
}

/// Databases of the cluster with estimates of their largest tables.
fn observe(connect: &ConnectOptions, databases: &[pgproof_server::Database]) -> Vec<Database> {
    databases
        .iter()
        .map(|database| {
            let tables =
                if database.allows_connections { tables(connect, &database.name) } else { Ok(Vec::new()) };
            let mut tables = tables.unwrap_or_default();
            let truncated = tables.len() > TABLES_MAX;
            tables.truncate(TABLES_MAX);
            Database { oid: database.oid, name: database.name.clone(), tables, truncated }
        })
        .collect()
}

fn tables(connect: &ConnectOptions, database: &str) -> Result<Vec<TableEstimate>, ServerError> {
    let mut session = Session::open(&connect.with_database(database))?;
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
            live_rows: row.get::<_, Option<i64>>(4).and_then(|rows| u64::try_from(rows).ok()),
        }
    };
    Ok(rows.iter().map(table).collect())
}
