//! Makes the table ready to stand in the live server beside the one that is there: in the private server, so that the live one gets
//! nothing but new objects.
//!
//! All that would reach beyond the table is left behind: foreign keys (they would lock and check other tables, whose rows have gone on),
//! triggers, rules, policies, extended statistics, membership in a partitioned table. Indexes, defaults, checks, identity and owned sequences
//! come along under names made from the new one.

use super::error::ExtractError;
use super::table::{QualifiedName, renamed, shortened};
use crate::databases::quote_identifier;
use pgproof_server::Session;
use std::collections::BTreeSet;

/// The schema in which everything is renamed, so that no name is in the way.
const WORKSHOP: &str = "pgproof_extract";

/// What became of it.
#[derive(Debug, Default)]
pub(crate) struct Isolated {
    /// The table and its partitions, as they are named now.
    pub(crate) tables: Vec<QualifiedName>,
    /// What was left behind, for the report.
    pub(crate) left_behind: Vec<String>,
}

/// A table of the tree, or an index or a sequence that belongs to one.
struct Part {
    name: String,
    kind: &'static str,
}

/// Renames and moves the table `oid` to `wanted`.
pub(crate) fn isolate(
    session: &mut Session,
    oid: u32,
    table: &QualifiedName,
    wanted: &QualifiedName,
) -> Result<Isolated, ExtractError> {
    let failed = |operation| ExtractError::server(operation);
    // As a superuser and without event triggers, which may do anything.
    session
        .execute(
            "prepare the private server",
            &format!("SET session_replication_role = replica; CREATE SCHEMA {WORKSHOP}; CREATE SCHEMA IF NOT EXISTS {}", quote_identifier(&wanted.schema)),
        )
        .map_err(failed("prepare the private server"))?;
    let tree = tree(session, oid).map_err(failed("list the partitions"))?;
    let mut left_behind = Vec::new();
    for (what, listed) in [
        ("foreign key", FOREIGN_KEYS),
        ("partition of", PARENTS),
        ("trigger", TRIGGERS),
        ("rule", RULES),
        ("policy", POLICIES),
        ("statistics", STATISTICS),
    ] {
        let rows = session
            .query("list what is left behind", listed, &[&tree])
            .map_err(failed("list what is left behind"))?;
        for row in rows {
            let (name, own, remove): (String, bool, String) = (row.get(0), row.get(1), row.get(2));
            session.execute("leave something behind", &remove).map_err(failed("leave something behind"))?;
            if own {
                left_behind.push(format!("{what} {name}"));
            }
        }
    }
    rename(session, &tree, table, wanted).map_err(failed("rename the table"))?;
    let tables = names(session, &tree).map_err(failed("list the partitions"))?;
    Ok(Isolated { tables, left_behind })
}

type Asked<T> = Result<T, pgproof_server::ServerError>;

/// The table and its partitions, itself first.
pub(crate) fn tree(session: &mut Session, oid: u32) -> Asked<Vec<u32>> {
    let sql = "SELECT $1::oid UNION ALL SELECT relid::oid FROM pg_partition_tree($1::oid::regclass) WHERE relid <> $1::oid";
    Ok(session.query("list the partitions", sql, &[&oid])?.iter().map(|row| row.get(0)).collect())
}

/// Names of tables, in their order.
pub(crate) fn names(session: &mut Session, tables: &[u32]) -> Asked<Vec<QualifiedName>> {
    let sql = "SELECT n.nspname::text, c.relname::text FROM unnest($1::oid[]) WITH ORDINALITY t(oid, place) \
        JOIN pg_class c ON c.oid = t.oid JOIN pg_namespace n ON n.oid = c.relnamespace ORDER BY t.place";
    let rows = session.query("list the partitions", sql, &[&tables])?;
    Ok(rows.iter().map(|row| QualifiedName { schema: row.get(0), name: row.get(1) }).collect())
}

/// Each of these gives a name, whether the report tells of it, and the SQL that removes it.
const FOREIGN_KEYS: &str = "SELECT c.conname::text, c.conrelid = ANY($1), \
    format('ALTER TABLE %s DROP CONSTRAINT IF EXISTS %I', c.conrelid::regclass, c.conname) \
    FROM pg_constraint c WHERE c.contype = 'f' AND c.conparentid = 0 AND (c.conrelid = ANY($1) \
        OR c.confrelid IN (SELECT relid FROM unnest($1::oid[]) t(oid), pg_partition_ancestors(t.oid::regclass) relid) OR c.confrelid = ANY($1))";

/// What a table belongs to that is not in the tree itself.
const PARENTS: &str = "SELECT i.inhparent::regclass::text, true, \
    CASE WHEN c.relispartition THEN format('ALTER TABLE %s DETACH PARTITION %s', i.inhparent::regclass, c.oid::regclass) \
        ELSE format('ALTER TABLE %s NO INHERIT %s', c.oid::regclass, i.inhparent::regclass) END \
    FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid WHERE c.oid = ANY($1) AND NOT i.inhparent = ANY($1)";

const TRIGGERS: &str = "SELECT tgname::text, true, format('DROP TRIGGER IF EXISTS %I ON %s', tgname, tgrelid::regclass) \
    FROM pg_trigger WHERE tgrelid = ANY($1) AND NOT tgisinternal AND tgparentid = 0";

const RULES: &str = "SELECT rulename::text, true, format('DROP RULE %I ON %s', rulename, ev_class::regclass) \
    FROM pg_rewrite WHERE ev_class = ANY($1)";

const POLICIES: &str = "SELECT polname::text, true, format('DROP POLICY %I ON %s', polname, polrelid::regclass) \
    FROM pg_policy WHERE polrelid = ANY($1)";

const STATISTICS: &str = "SELECT s.stxname::text, true, format('DROP STATISTICS %I.%I', n.nspname, s.stxname) \
    FROM pg_statistic_ext s JOIN pg_namespace n ON n.oid = s.stxnamespace WHERE s.stxrelid = ANY($1)";

/// Tables of the tree, their indexes, and the sequences that their columns own. Index and sequence follow a table into another schema.
const PARTS: &str = "SELECT c.oid, c.relname::text, c.relkind::text FROM pg_class c WHERE c.oid = ANY($1) \
    UNION ALL SELECT c.oid, c.relname::text, c.relkind::text FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid \
        WHERE i.indrelid = ANY($1) \
    UNION ALL SELECT c.oid, c.relname::text, c.relkind::text FROM pg_depend d JOIN pg_class c ON c.oid = d.objid \
        WHERE d.classid = 'pg_class'::regclass AND d.refclassid = 'pg_class'::regclass AND d.refobjid = ANY($1) \
            AND d.refobjsubid > 0 AND d.deptype IN ('a', 'i') AND c.relkind = 'S'";

fn rename(session: &mut Session, tree: &[u32], table: &QualifiedName, wanted: &QualifiedName) -> Asked<()> {
    let operation = "rename the table";
    for name in names(session, tree)? {
        session.execute(operation, &format!("ALTER TABLE {} SET SCHEMA {WORKSHOP}", name.quoted()))?;
    }
    let mut parts: Vec<Part> = Vec::new();
    for row in session.query(operation, PARTS, &[&tree])? {
        let (name, kind): (String, String) = (row.get(1), row.get(2));
        let kind = match kind.as_str() {
            "i" | "I" => "INDEX",
            "S" => "SEQUENCE",
            _ => "TABLE",
        };
        parts.push(Part { name, kind });
    }
    let mut taken = BTreeSet::new();
    for (number, part) in parts.iter().enumerate() {
        let mut new = match part.name == table.name && part.kind == "TABLE" {
            true => wanted.name.clone(),
            false => renamed(&part.name, &table.name, &wanted.name),
        };
        if !taken.insert(new.clone()) {
            new = shortened(&new, &format!("_{number}"));
            taken.insert(new.clone());
        }
        let old = format!("{WORKSHOP}.{}", quote_identifier(&part.name));
        let new = quote_identifier(&new);
        if quote_identifier(&part.name) != new {
            session.execute(operation, &format!("ALTER {} {old} RENAME TO {new}", part.kind))?;
        }
        // What had this name at that instant makes room; only this server knows of it.
        let there = format!("{}.{new}", quote_identifier(&wanted.schema));
        session.execute(
            operation,
            &format!(
                "ALTER TABLE IF EXISTS {there} RENAME TO {}",
                quote_identifier(&format!("pgproof_moved_{number}"))
            ),
        )?;
    }
    for name in names(session, tree)? {
        let schema = quote_identifier(&wanted.schema);
        session.execute(operation, &format!("ALTER TABLE {} SET SCHEMA {schema}", name.quoted()))?;
    }
    Ok(())
}
