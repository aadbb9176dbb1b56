//! Indexes and heaps hold together, as PostgreSQL's own extension amcheck sees it.
//!
//! Checksums show that a page is as it was written; only this shows that it was written right, and it is all there is where checksums are off.
//! Catalogs come first, because a wrong one makes everything wrong; then the others in an order that differs from drill to drill, so that
//! several drills cover what one has no time for.

use super::{Deadline, Ground, Outcome, Unseen, said, unseen};
use pgproof_base::{Bytes, Finding, Remedy, Severity};
use pgproof_server::{ServerError, Session};

/// Schema that the extension is made in, where the database does not have it. The clone is thrown away.
const SCHEMA: &str = "pgproof_drill";

const AVAILABLE: &str = "SELECT a.name::text, n.nspname::text FROM pg_available_extensions a \
    LEFT JOIN pg_extension e ON e.extname = a.name LEFT JOIN pg_namespace n ON n.oid = e.extnamespace WHERE a.name = 'amcheck'";

/// B-trees and heaps that recovery is to bring back; unlogged and temporary ones it does not.
const RELATIONS: &str = "SELECT c.oid, c.oid::regclass::text, c.relkind = 'i', pg_relation_size(c.oid) \
    FROM pg_class c JOIN pg_am a ON a.oid = c.relam LEFT JOIN pg_index i ON i.indexrelid = c.oid \
    WHERE c.relpersistence = 'p' AND (c.relkind = 'i' AND a.amname = 'btree' AND i.indisvalid AND i.indisready \
        OR c.relkind IN ('r', 'm', 't') AND a.amname = 'heap') \
    ORDER BY c.relnamespace <> 'pg_catalog'::regnamespace, random()";

/// What was found in heaps is told of the first so many places.
const PLACES_MAX: usize = 5;

/// What a look at one relation gave.
#[derive(Debug, PartialEq, Eq)]
enum Look {
    Sound,
    Corrupt(String),
    Unseen(Unseen),
}

/// A relation.
#[derive(Debug)]
struct Relation {
    database: String,
    name: String,
    is_index: bool,
    bytes: u64,
    look: Look,
}

pub(super) fn check(ground: &Ground<'_>) -> Result<Outcome, ServerError> {
    let deadline = Deadline::after(ground.options.time);
    let mut relations = Vec::new();
    for database in &ground.databases {
        let mut session = ground.recovered.open(&database.name)?;
        let Some(schema) = prepare(&mut session)? else {
            return Ok(Outcome::NotDone("the extension amcheck is not installed on this host".to_owned()));
        };
        for row in session.query("list relations", RELATIONS, &[])? {
            let oid: u32 = row.get(0);
            let is_index: bool = row.get(2);
            let look = look(&mut session, &schema, oid, is_index, deadline)?;
            let bytes = u64::try_from(row.get::<_, i64>(3)).unwrap_or(0);
            relations.push(Relation {
                database: database.name.clone(),
                name: row.get(1),
                is_index,
                bytes,
                look,
            });
        }
    }
    Ok(judge(&relations))
}

/// Makes the extension usable, and says in which schema it is; none where it is not installed.
fn prepare(session: &mut Session) -> Result<Option<String>, ServerError> {
    let rows = session.query("look for amcheck", AVAILABLE, &[])?;
    let Some(row) = rows.first() else { return Ok(None) };
    if let Some(schema) = row.get::<_, Option<String>>(1) {
        // One that came through pg_upgrade may lack functions of this version.
        session.execute("update amcheck", "ALTER EXTENSION amcheck UPDATE")?;
        let quoted = session.query_one("quote a name", "SELECT quote_ident($1)", &[&schema])?;
        return Ok(Some(quoted.get(0)));
    }
    let sql = format!("CREATE SCHEMA IF NOT EXISTS {SCHEMA}; CREATE EXTENSION amcheck SCHEMA {SCHEMA}");
    session.execute("create amcheck", &sql)?;
    Ok(Some(SCHEMA.to_owned()))
}

fn look(
    session: &mut Session,
    schema: &str,
    oid: u32,
    is_index: bool,
    deadline: Deadline,
) -> Result<Look, ServerError> {
    let Some(left) = deadline.left_ms() else { return Ok(Look::Unseen(Unseen::Time)) };
    session.execute("limit the time", &format!("SET statement_timeout = {left}"))?;
    let asked = match is_index {
        // With the heap compared: a b-tree can be in order and lack entries.
        true => {
            let sql = format!("SELECT {schema}.bt_index_check({oid}::oid::regclass, true)");
            session.execute("check an index", &sql).map(|()| Vec::new())
        }
        false => {
            let sql = format!(
                "SELECT format('block %s: %s', blkno, msg) FROM {schema}.verify_heapam({oid}::oid::regclass) LIMIT {PLACES_MAX}"
            );
            let rows = session.query("check a heap", &sql, &[]);
            rows.map(|rows| rows.iter().map(|row| row.get::<_, String>(0)).collect())
        }
    };
    Ok(match asked {
        Ok(told) if told.is_empty() => Look::Sound,
        Ok(told) => Look::Corrupt(told.join("; ")),
        Err(error) => match unseen(&error) {
            Some(unseen) => Look::Unseen(unseen),
            None if session.is_closed() => return Err(error),
            None => Look::Corrupt(said(&error)),
        },
    })
}

fn judge(relations: &[Relation]) -> Outcome {
    let corrupt = relations.iter().filter_map(|relation| {
        let Look::Corrupt(told) = &relation.look else { return None };
        Some(finding(relation, told))
    });
    Outcome::Looked { covered: covered(relations), findings: corrupt.collect() }
}

fn finding(relation: &Relation, told: &str) -> Finding {
    let Relation { database, name, is_index, .. } = relation;
    let (code, kind, why) = match is_index {
        true => ("drill-index-corrupt", "index", "queries that use it miss rows or find wrong ones"),
        false => ("drill-heap-corrupt", "table", "rows are lost or wrong"),
    };
    let finding =
        Finding::new(code, Severity::Critical, format!("{kind} {name} of database {database}: {told}"), why);
    match is_index {
        true => finding.with(Remedy::disruptive(
            "build it anew on the primary, if it is so there",
            format!("REINDEX INDEX {name};"),
        )),
        false => finding.with(Remedy::safe("see whether the primary has it too", "pg_amcheck --all")),
    }
}

fn covered(relations: &[Relation]) -> String {
    let seen = |relation: &&Relation| !matches!(relation.look, Look::Unseen(_));
    let count = |is_index: bool| {
        let all = relations.iter().filter(|relation| relation.is_index == is_index);
        (all.clone().filter(seen).count(), all.count())
    };
    let bytes = |relations: &mut dyn Iterator<Item = &Relation>| Bytes(relations.map(|one| one.bytes).sum());
    let ((indexes, all_indexes), (heaps, all_heaps)) = (count(true), count(false));
    let mut text = format!(
        "{indexes} of {all_indexes} b-trees and {heaps} of {all_heaps} heaps, {} of {}",
        bytes(&mut relations.iter().filter(seen)),
        bytes(&mut relations.iter())
    );
    for (unseen, why) in [
        (Unseen::Time, "for which no time was left"),
        (Unseen::Page, "with unreadable pages, see checksums"),
        (Unseen::Library, "whose library does not load, see extensions"),
    ] {
        let count = relations.iter().filter(|one| one.look == Look::Unseen(unseen)).count();
        if count > 0 {
            text += &format!("; not {count} {why}");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_says_what_it_did_not_look_at_and_fails_for_what_is_corrupt_only() {
        let relation = |is_index, look| Relation {
            database: "shop".into(),
            name: "public.orders_pkey".into(),
            is_index,
            bytes: 8192,
            look,
        };
        let relations = [
            relation(true, Look::Sound),
            relation(true, Look::Corrupt("item order invariant violated".into())),
            relation(false, Look::Unseen(Unseen::Page)),
            relation(false, Look::Unseen(Unseen::Time)),
        ];
        let Outcome::Looked { covered, findings } = judge(&relations) else { panic!("it looked") };
        assert_eq!(
            covered,
            "2 of 2 b-trees and 0 of 2 heaps, 16 kB of 32 kB; not 1 for which no time was left; not 1 with unreadable pages, see checksums"
        );
        assert_eq!(findings.len(), 1);
        assert_eq!(findings[0].code, "drill-index-corrupt");
    }
}
