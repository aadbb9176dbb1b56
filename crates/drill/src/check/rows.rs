//! Tables that had rows when the backup was taken have rows now.
//!
//! What a backup notes are estimates (`pg_class.reltuples`, and the statistics' count of live rows where there is one), and between the backup
//! and the instant the applications went on. So only one thing can be said for sure, and that is a warning: a table that had rows is empty. A
//! table that lost nine in ten, or is gone, is told without failing. See docs/decisions/2026-11-23-what-row-counts-and-heartbeats-prove.md.

use super::{Deadline, Ground, Outcome, Unseen, unseen};
use pgproof_base::{Finding, Remedy, Severity};
use pgproof_pg::relfile::BLOCK_SIZE;
use pgproof_repo::manifest::summary::TableEstimate;
use pgproof_server::{ServerError, Session};
use std::collections::BTreeMap;

/// Tables up to this size are counted, larger ones only looked into: counting reads the whole table.
const COUNTED_BYTES_MAX: i64 = 64 << 20;

/// A table is told of as shrunk when it has less than a tenth of its rows.
const SHRUNK: u64 = 10;

const TABLES: &str = "SELECT n.nspname::text, c.relname::text, c.oid::regclass::text, pg_relation_size(c.oid) \
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.relkind IN ('r', 'm')";

/// What a table holds now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Now {
    Gone,
    Empty,
    Counted(u64),
    Some,
    Unseen(Unseen),
}

/// A table that had rows.
#[derive(Debug)]
struct Table {
    database: String,
    name: String,
    before: u64,
    now: Now,
}

pub(super) fn check(ground: &Ground<'_>) -> Result<Outcome, ServerError> {
    let tables = observe(ground)?;
    if tables.is_empty() {
        return Ok(Outcome::NotDone("the backup notes no table with rows".to_owned()));
    }
    Ok(judge(&tables))
}

/// How many rows there were, as well as the backup knows it.
fn before(table: &TableEstimate) -> u64 {
    table.live_rows.or(table.rows).unwrap_or(0)
}

fn observe(ground: &Ground<'_>) -> Result<Vec<Table>, ServerError> {
    let deadline = Deadline::after(ground.options.time);
    let mut found = Vec::new();
    for noted in &ground.recovered.summary.databases {
        let wanted: Vec<&TableEstimate> = noted.tables.iter().filter(|table| before(table) > 0).collect();
        let Some(database) = ground.databases.iter().find(|open| open.oid == noted.oid) else { continue };
        if wanted.is_empty() {
            continue;
        }
        let mut session = ground.recovered.open(&database.name)?;
        let rows = session.query("list tables", TABLES, &[])?;
        let present: BTreeMap<(String, String), (String, i64)> =
            rows.iter().map(|row| ((row.get(0), row.get(1)), (row.get(2), row.get(3)))).collect();
        for table in wanted {
            let name = format!("{}.{}", table.schema, table.name);
            if ground.options.ignored.iter().any(|pattern| pattern.matches(&name)) {
                continue;
            }
            let now = match present.get(&(table.schema.clone(), table.name.clone())) {
                None => Now::Gone,
                Some((quoted, bytes)) => look(&mut session, quoted, *bytes, deadline)?,
            };
            found.push(Table { database: database.name.clone(), name, before: before(table), now });
        }
    }
    Ok(found)
}

fn look(session: &mut Session, quoted: &str, bytes: i64, deadline: Deadline) -> Result<Now, ServerError> {
    if bytes < BLOCK_SIZE as i64 {
        return Ok(Now::Empty);
    }
    let Some(left) = deadline.left_ms() else { return Ok(Now::Unseen(Unseen::Time)) };
    session.execute("limit the time", &format!("SET statement_timeout = {left}"))?;
    let asked = match bytes <= COUNTED_BYTES_MAX {
        true => session.query_one("count rows", &format!("SELECT count(*) FROM ONLY {quoted}"), &[]),
        false => {
            let sql =
                format!("SELECT CASE WHEN EXISTS (SELECT 1 FROM ONLY {quoted}) THEN -1::int8 ELSE 0 END");
            session.query_one("look for rows", &sql, &[])
        }
    };
    match asked {
        Ok(row) => Ok(match row.get::<_, i64>(0) {
            0 => Now::Empty,
            rows => u64::try_from(rows).map_or(Now::Some, Now::Counted),
        }),
        Err(error) => unseen(&error).map(Now::Unseen).ok_or(error),
    }
}

fn judge(tables: &[Table]) -> Outcome {
    let counted = tables.iter().filter(|table| matches!(table.now, Now::Counted(_) | Now::Empty)).count();
    let looked = tables.iter().filter(|table| table.now == Now::Some).count();
    let unseen = tables.iter().filter(|table| matches!(table.now, Now::Unseen(_))).count();
    let mut covered = format!("{} tables: {counted} counted", tables.len());
    if looked > 0 {
        covered += &format!(", {looked} looked into");
    }
    if unseen > 0 {
        covered += &format!(", {unseen} not read");
    }
    Outcome::Looked { covered, findings: tables.iter().filter_map(finding).collect() }
}

fn finding(table: &Table) -> Option<Finding> {
    let Table { database, name, before, now } = table;
    let place = format!("{name} of database {database}");
    match now {
        Now::Empty => Some(
            Finding::new(
                "drill-table-emptied",
                Severity::Warning,
                format!("table {place} is empty and had about {before} rows when the backup was taken"),
                "either somebody emptied it since, or its rows are lost",
            )
            .with(Remedy::safe("if it may be empty, say so in [drill]", format!("ignore = \"{name}\""))),
        ),
        Now::Gone => Some(Finding::new(
            "drill-table-gone",
            Severity::Info,
            format!("table {place} is not there and had about {before} rows when the backup was taken"),
            "somebody dropped or renamed it between the backup and the instant",
        )),
        Now::Counted(rows) if rows.saturating_mul(SHRUNK) < *before => Some(Finding::new(
            "drill-table-shrunk",
            Severity::Info,
            format!("table {place} has {rows} rows and had about {before} when the backup was taken"),
            "rows were deleted since, or the estimate was old",
        )),
        Now::Counted(_) | Now::Some | Now::Unseen(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_emptied_table_fails_and_one_that_shrank_or_went_is_told() {
        let code = |before, now| {
            let table = Table { database: "shop".into(), name: "public.orders".into(), before, now };
            finding(&table).map(|finding| (finding.code, finding.severity))
        };
        assert_eq!(code(9, Now::Empty), Some(("drill-table-emptied".into(), Severity::Warning)));
        assert_eq!(code(9, Now::Gone), Some(("drill-table-gone".into(), Severity::Info)));
        assert_eq!(code(1000, Now::Counted(99)), Some(("drill-table-shrunk".into(), Severity::Info)));
        assert_eq!(code(1000, Now::Counted(100)), None);
        assert_eq!(code(1000, Now::Unseen(Unseen::Page)), None);
    }
}
