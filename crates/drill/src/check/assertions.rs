//! The operator's own SQL. An assertion holds when it gives no row, or one row whose only column is true.
//!
//! `SELECT ... WHERE what must not be` and `SELECT count(*) > 0 ...` are both written without thinking of a framework. It runs as a
//! subquery, so that a query that finds a million offenders gives a few, and cannot change anything.

use super::{Ground, Outcome, said};
use crate::error::DrillError;
use pgproof_base::{Finding, Severity};
use pgproof_server::ServerError;
use std::fs;
use std::path::Path;

/// Rows of a failed assertion that are shown.
const ROWS_SHOWN: usize = 3;

/// One file of the directory of assertions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Assertion {
    /// The file's name without `.sql`.
    pub name: String,
    /// The query.
    pub sql: String,
    /// Where it runs, when its first line says `-- database: NAME`.
    pub database: Option<String>,
}

/// Reads the assertions of a directory: one in each file that ends with `.sql`, by name.
///
/// # Errors
/// [`DrillError::File`].
pub fn assertions_in(directory: &Path) -> Result<Vec<Assertion>, DrillError> {
    let entries = fs::read_dir(directory).map_err(DrillError::file("read", directory))?;
    let mut found = Vec::new();
    for entry in entries {
        let path = entry.map_err(DrillError::file("read", directory))?.path();
        let name = path.file_stem().and_then(|name| name.to_str()).unwrap_or_default().to_owned();
        if path.extension().is_some_and(|kind| kind == "sql") {
            let sql = fs::read_to_string(&path).map_err(DrillError::file("read", &path))?;
            found.push(assertion(name, sql));
        }
    }
    found.sort_by(|one, other| one.name.cmp(&other.name));
    Ok(found)
}

fn assertion(name: String, sql: String) -> Assertion {
    let first = sql.lines().next().unwrap_or_default();
    let database = first.trim_start().strip_prefix("-- database:").map(|name| name.trim().to_owned());
    let sql = sql.trim().trim_end_matches(';').to_owned();
    Assertion { name, sql, database }
}

pub(super) fn check(ground: &Ground<'_>) -> Result<Outcome, ServerError> {
    let assertions = &ground.options.assertions;
    if assertions.is_empty() {
        return Ok(Outcome::NotDone("none are configured".to_owned()));
    }
    let mut findings = Vec::new();
    for assertion in assertions {
        let rows = ask(ground, assertion).map_err(|error| said(&error));
        findings.extend(judge(assertion, rows.as_deref()));
    }
    Ok(Outcome::Looked { covered: format!("{} assertions", assertions.len()), findings })
}

/// The first rows, each as a JSON object.
fn ask(ground: &Ground<'_>, assertion: &Assertion) -> Result<Vec<String>, ServerError> {
    let database = assertion.database.as_deref().unwrap_or(&ground.options.database);
    let mut session = ground.recovered.open(database)?;
    let limit = ground.options.own_time.as_millis();
    // The operator's queries mean what they mean in the operator's sessions.
    session.execute(
        "prepare an assertion",
        &format!("SET statement_timeout = {limit}; SET search_path TO DEFAULT; SET default_transaction_read_only = on"),
    )?;
    let limit = ROWS_SHOWN + 1;
    let sql = format!("SELECT row_to_json(q)::text FROM (\n{}\n) q LIMIT {limit}", assertion.sql);
    let rows = session.query("ask an assertion", &sql, &[])?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}

fn judge(assertion: &Assertion, rows: Result<&[String], &String>) -> Option<Finding> {
    let seen = match rows {
        Ok([]) => return None,
        Ok([row]) if is_true(row) => return None,
        Ok(rows) => {
            let shown = rows[..rows.len().min(ROWS_SHOWN)].join(" ");
            let more = if rows.len() > ROWS_SHOWN { " and more" } else { "" };
            format!("assertion {} does not hold: {shown}{more}", assertion.name)
        }
        Err(said) => format!("assertion {} could not be asked: {said}", assertion.name),
    };
    let why = "you said that this holds in a cluster that came back";
    Some(Finding::new("drill-assertion-failed", Severity::Critical, seen, why))
}

/// Whether a row has one column, and that is true.
fn is_true(row: &str) -> bool {
    let parsed: Option<serde_json::Map<String, serde_json::Value>> = serde_json::from_str(row).ok();
    parsed.is_some_and(|row| {
        row.len() == 1 && row.values().all(|value| *value == serde_json::Value::Bool(true))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_assertion_holds_with_no_row_or_with_one_true() {
        let about = assertion("paid".into(), "-- database: shop\nSELECT 1;\n".into());
        assert_eq!(about.database.as_deref(), Some("shop"));
        assert!(about.sql.ends_with("SELECT 1"));
        let holds = |rows: &[&str]| {
            let rows: Vec<String> = rows.iter().map(|row| (*row).to_owned()).collect();
            judge(&about, Ok(&rows)).is_none()
        };
        assert!(holds(&[]) && holds(&[r#"{"bool":true}"#]));
        assert!(!holds(&[r#"{"bool":false}"#]) && !holds(&[r#"{"bool":null}"#]) && !holds(&[r#"{"id":1}"#]));
        assert!(!holds(&[r#"{"a":true}"#, r#"{"a":true}"#]) && !holds(&[r#"{"a":true,"b":1}"#]));
        assert!(judge(&about, Err(&"ERROR: no".to_owned())).is_some());
    }
}
