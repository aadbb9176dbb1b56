//! Sequences that belong to columns are ahead of what the columns hold: else the next insert fails, or worse, succeeds twice.

use super::{Deadline, Ground, Outcome, unseen};
use pgproof_base::{Finding, Remedy, Severity};
use pgproof_server::{ServerError, Session};

/// Sequences of serial and identity columns, which say to which column they belong. Those that begin anew (`CYCLE`) promise nothing, and
/// unlogged ones are reset by recovery.
const OWNED: &str = "SELECT s.oid::regclass::text, t.oid::regclass::text, quote_ident(a.attname), q.seqincrement, \
        s.relnamespace::regnamespace::text || '.' || s.relname, t.relkind = 'p' OR pg_relation_size(t.oid) <= $1 \
            OR EXISTS (SELECT 1 FROM pg_index i JOIN pg_class x ON x.oid = i.indexrelid JOIN pg_am m ON m.oid = x.relam \
                WHERE i.indrelid = t.oid AND i.indkey[0] = a.attnum AND m.amname = 'btree' AND i.indisvalid AND i.indpred IS NULL) \
    FROM pg_class s JOIN pg_sequence q ON q.seqrelid = s.oid \
    JOIN pg_depend d ON d.classid = 'pg_class'::regclass AND d.objid = s.oid AND d.refclassid = 'pg_class'::regclass \
        AND d.refobjsubid > 0 AND d.deptype IN ('a', 'i') \
    JOIN pg_class t ON t.oid = d.refobjid AND t.relkind IN ('r', 'p') \
    JOIN pg_attribute a ON a.attrelid = t.oid AND a.attnum = d.refobjsubid AND a.atttypid IN (20, 21, 23) \
    WHERE s.relkind = 'S' AND s.relpersistence = 'p' AND t.relpersistence = 'p' AND NOT q.seqcycle ORDER BY s.oid";

/// A column without an index is searched only in tables up to this size.
const SEARCHED_BYTES_MAX: i64 = 64 << 20;

/// A sequence, and how far its column is.
#[derive(Debug)]
struct Owned {
    database: String,
    sequence: String,
    table: String,
    column: String,
    increment: i64,
    /// What it gives next, and the column's extreme value; none where the column holds nothing.
    seen: Option<(i64, i64)>,
}

pub(super) fn check(ground: &Ground<'_>) -> Result<Outcome, ServerError> {
    let deadline = Deadline::after(ground.options.time);
    let (mut owned, mut skipped) = (Vec::new(), 0);
    for database in &ground.databases {
        let mut session = ground.recovered.open(&database.name)?;
        for row in session.query("list sequences", OWNED, &[&SEARCHED_BYTES_MAX])? {
            let plain: String = row.get(4);
            if ground.options.ignored.iter().any(|pattern| pattern.matches(&plain)) {
                continue;
            }
            let mut one = Owned {
                database: database.name.clone(),
                sequence: row.get(0),
                table: row.get(1),
                column: row.get(2),
                increment: row.get(3),
                seen: None,
            };
            match look(&mut session, &one, row.get(5), deadline)? {
                Some(seen) => one.seen = seen,
                None => skipped += 1,
            }
            owned.push(one);
        }
    }
    Ok(judge(&owned, skipped))
}

/// What it gives next and how far the column is; the outer none where that was not looked at.
fn look(
    session: &mut Session,
    one: &Owned,
    is_quick: bool,
    deadline: Deadline,
) -> Result<Option<Option<(i64, i64)>>, ServerError> {
    let Some(left) = deadline.left_ms().filter(|_| is_quick) else { return Ok(None) };
    session.execute("limit the time", &format!("SET statement_timeout = {left}"))?;
    let extreme = if one.increment > 0 { "max" } else { "min" };
    let sql = format!(
        "SELECT last_value, is_called, (SELECT {extreme}({}) FROM {})::int8 FROM {}",
        one.column, one.table, one.sequence
    );
    match session.query_one("compare a sequence", &sql, &[]) {
        Ok(row) => {
            let (last, is_called): (i64, bool) = (row.get(0), row.get(1));
            let next = if is_called { last.saturating_add(one.increment) } else { last };
            Ok(Some(row.get::<_, Option<i64>>(2).map(|extreme| (next, extreme))))
        }
        Err(error) if unseen(&error).is_some() => Ok(None),
        Err(error) => Err(error),
    }
}

fn is_behind(increment: i64, next: i64, extreme: i64) -> bool {
    if increment > 0 { extreme >= next } else { extreme <= next }
}

fn judge(owned: &[Owned], skipped: usize) -> Outcome {
    let behind = owned.iter().filter_map(|one| {
        let (next, extreme) = one.seen.filter(|(next, extreme)| is_behind(one.increment, *next, *extreme))?;
        let Owned { database, sequence, table, column, .. } = one;
        Some(
            Finding::new(
                "drill-sequence-behind",
                Severity::Warning,
                format!("sequence {sequence} of database {database} gives {next} next, and {table}.{column} holds {extreme}"),
                "the next insert gets a number that is taken",
            )
            .with(Remedy::safe(
                "set it behind the column, on the primary too if it is so there",
                format!("SELECT setval('{}', {extreme});", sequence.replace('\'', "''")),
            )),
        )
    });
    let mut covered = format!("{} sequences", owned.len());
    if skipped > 0 {
        covered +=
            &format!(", {skipped} of them not compared: a large table without an index, or no time left");
    }
    Outcome::Looked { covered, findings: behind.collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sequence_is_behind_when_its_next_value_is_taken() {
        assert!(is_behind(1, 10, 10) && is_behind(1, 10, 11) && !is_behind(1, 11, 10));
        assert!(is_behind(-1, -10, -10) && !is_behind(-1, -11, -10));
    }
}
