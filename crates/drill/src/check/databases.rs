//! Every database that lets anybody in lets us in and answers.

use super::{OpenDatabase, Outcome, said};
use crate::recover::Recovered;
use pgproof_base::{Finding, Severity};
use pgproof_server::{ServerError, Session};

/// A database, and what came of knocking.
#[derive(Debug)]
struct Knocked {
    database: OpenDatabase,
    /// Whether it is meant to let anybody in.
    admits: bool,
    /// Relations in its catalog, or what the server said.
    answer: Result<i64, String>,
}

pub(super) fn check(recovered: &Recovered) -> Result<(Vec<OpenDatabase>, Outcome), ServerError> {
    let knocked = observe(recovered)?;
    let outcome = judge(&knocked);
    let open = knocked.into_iter().filter(|one| one.admits && one.answer.is_ok());
    Ok((open.map(|one| one.database).collect(), outcome))
}

fn observe(recovered: &Recovered) -> Result<Vec<Knocked>, ServerError> {
    let mut session = Session::open(&recovered.connect)?;
    // -2: a database that was being dropped when the instant came (`DATCONNLIMIT_INVALID_DB`).
    let sql = "SELECT oid, datname::text, datallowconn AND datconnlimit <> -2 FROM pg_database ORDER BY oid";
    let rows = session.query("list databases", sql, &[])?;
    let knock = |row: &postgres::Row| {
        let database = OpenDatabase { oid: row.get(0), name: row.get(1) };
        let admits: bool = row.get(2);
        let answer = if admits { count(recovered, &database.name).map_err(|e| said(&e)) } else { Ok(0) };
        Knocked { database, admits, answer }
    };
    Ok(rows.iter().map(knock).collect())
}

fn count(recovered: &Recovered, database: &str) -> Result<i64, ServerError> {
    let mut session = recovered.open(database)?;
    let row = session.query_one("read the catalog", "SELECT count(*) FROM pg_class", &[])?;
    Ok(row.get(0))
}

fn judge(knocked: &[Knocked]) -> Outcome {
    let closed = knocked.iter().filter(|one| !one.admits).count();
    let open = knocked.len() - closed;
    let refused = knocked.iter().filter_map(|one| {
        let why = one.answer.as_ref().err()?;
        Some(Finding::new(
            "drill-database-closed",
            Severity::Critical,
            format!("database {} does not answer: {why}", one.database.name),
            "its applications could not work after a recovery",
        ))
    });
    let covered = match closed {
        0 => format!("{open} databases"),
        _ => format!("{open} databases; {closed} let nobody in, as on the origin"),
    };
    Outcome::Looked { covered, findings: refused.collect() }
}
