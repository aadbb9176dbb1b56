//! Whether two servers hold the same: as a dump, and as a checksum of each table.
//!
//! Both leave out what recovery cannot bring back, the content of unlogged tables.

use super::Postgres;
use anyhow::{Context, Result};
use std::collections::BTreeMap;

/// What a table holds, independent of where its rows lie.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableSum {
    /// Number of rows.
    pub rows: u64,
    /// Sum of the hashes of its rows as text.
    pub sum: String,
}

impl Postgres {
    /// The whole cluster as SQL, roles and tablespaces included, in one form for all versions. Physical order of rows
    /// is part of it, so a restored cluster has to agree in that too.
    ///
    /// # Errors
    /// Fails when `pg_dumpall` does.
    pub fn dump(&self) -> Result<String> {
        let text = self.run_client("pg_dumpall", &["--no-unlogged-table-data"])?;
        // `\restrict` carries a random key for each run of pg_dump.
        let lines =
            text.lines().filter(|line| !line.starts_with("\\restrict") && !line.starts_with("\\unrestrict"));
        Ok(lines.flat_map(|line| [line, "\n"]).collect())
    }

    /// Rows and checksum of every logged table outside the system schemas, in every database that accepts connections,
    /// by `database.schema.table`.
    ///
    /// # Errors
    /// Fails when a query does.
    pub fn table_sums(&self) -> Result<BTreeMap<String, TableSum>> {
        let mut sums = BTreeMap::new();
        for database in
            self.query("SELECT datname FROM pg_database WHERE datallowconn")?.into_iter().flatten().flatten()
        {
            self.add_table_sums(&database, &mut sums)?;
        }
        Ok(sums)
    }

    fn add_table_sums(&self, database: &str, sums: &mut BTreeMap<String, TableSum>) -> Result<()> {
        let tables = self.query_in(
            database,
            "SELECT format('%I.%I', n.nspname, c.relname)
               FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
              WHERE c.relkind IN ('r', 'm', 'S') AND c.relpersistence = 'p'
                AND n.nspname NOT IN ('pg_catalog', 'information_schema') AND n.nspname NOT LIKE 'pg_toast%'",
        )?;
        for table in tables.into_iter().flatten().flatten() {
            // Hashes are added, not concatenated: no memory for large tables, and no order to agree on.
            let rows = self.query_in(
                database,
                &format!(
                    "SELECT count(*), coalesce(sum(('x' || left(md5(t::text), 16))::bit(64)::bigint), 0) FROM {table} t"
                ),
            )?;
            let row = rows.into_iter().next().context("an aggregate gives a row")?;
            let [Some(count), Some(sum)] = row.as_slice() else { continue };
            sums.insert(format!("{database}.{table}"), TableSum { rows: count.parse()?, sum: sum.clone() });
        }
        Ok(())
    }
}
