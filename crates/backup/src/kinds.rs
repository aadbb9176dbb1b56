//! Which access method wrote a relation's pages, which says how two images of one are compared.

use pgproof_pg::mask::{PageKind, same_page};
use pgproof_pg::page::PageBytes;
use pgproof_pg::{RelPath, Relation};
use pgproof_server::{ConnectOptions, ServerError, Session};
use std::collections::HashMap;

const KINDS: &str = "SELECT CASE WHEN c.relisshared THEN 0::oid ELSE d.oid END, pg_relation_filenode(c.oid), \
        CASE WHEN c.relkind = 'S' THEN 'sequence' ELSE coalesce(a.amname::text, 'heap') END \
    FROM pg_class c LEFT JOIN pg_am a ON a.oid = c.relam, pg_database d \
    WHERE d.datname = current_database() AND pg_relation_filenode(c.oid) IS NOT NULL";

/// The access method of each relation, by database (0 for shared ones) and relation number.
#[derive(Debug, Default)]
pub struct Kinds(HashMap<(u32, u32), String>);

impl Kinds {
    /// Asks these databases.
    ///
    /// # Errors
    /// [`ServerError`] when one does not answer.
    pub fn ask<'a>(
        connect: &ConnectOptions,
        databases: impl IntoIterator<Item = &'a str>,
    ) -> Result<Self, ServerError> {
        let mut kinds = HashMap::new();
        for database in databases {
            let mut session = Session::open(&connect.with_database(database))?;
            for row in session.query("list access methods", KINDS, &[])? {
                kinds.insert((row.get(0), row.get(1)), row.get(2));
            }
        }
        Ok(Self(kinds))
    }

    /// `unknown` where nobody was asked.
    pub fn of(&self, relation: Relation) -> &str {
        self.0.get(&(relation.database, relation.relnumber)).map_or("unknown", String::as_str)
    }

    /// Whether two images of block `at` of a file are of the same page: under the masks of its access method, and byte by byte in a
    /// free space map.
    pub fn same_page(&self, file: &RelPath, at: u32, one: &PageBytes, other: &PageBytes) -> bool {
        match PageKind::of(self.of(file.file.relation()), file.file.fork) {
            Some(kind) => same_page(kind, file.first_block() + at, one, other),
            None => one == other,
        }
    }
}
