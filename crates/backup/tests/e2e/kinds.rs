//! Which access method wrote a relation's pages, which says how two images of one are compared.

use pgproof_pg::mask::{PageKind, same_page};
use pgproof_pg::page::PageBytes;
use pgproof_pg::{RelPath, Relation};
use pgproof_testkit::Postgres;
use std::collections::BTreeMap;

/// The access method of each relation, by database (0 for shared ones) and relation number.
#[derive(Default)]
pub(crate) struct Kinds(BTreeMap<(u32, u32), String>);

impl Kinds {
    pub(crate) fn ask(postgres: &Postgres) -> Self {
        let mut kinds = Self::default();
        let databases = postgres.query("SELECT datname FROM pg_database WHERE datallowconn").unwrap();
        for database in databases.into_iter().flatten().flatten() {
            kinds.add(postgres, &database);
        }
        kinds
    }

    fn add(&mut self, postgres: &Postgres, database: &str) {
        let query = "SELECT CASE WHEN c.relisshared THEN 0 ELSE d.oid END, pg_relation_filenode(c.oid),
                            CASE WHEN c.relkind = 'S' THEN 'sequence' ELSE coalesce(a.amname, 'heap') END
                       FROM pg_class c LEFT JOIN pg_am a ON a.oid = c.relam, pg_database d
                      WHERE d.datname = current_database() AND pg_relation_filenode(c.oid) IS NOT NULL";
        for row in postgres.query_in(database, query).unwrap() {
            let [Some(database), Some(relnumber), Some(kind)] = &row[..] else { panic!("{row:?}") };
            self.0.insert((database.parse().unwrap(), relnumber.parse().unwrap()), kind.clone());
        }
    }

    /// `unknown` in a database that nobody may connect to.
    pub(crate) fn of(&self, relation: Relation) -> &str {
        self.0.get(&(relation.database, relation.relnumber)).map_or("unknown", String::as_str)
    }

    /// Whether two images of block `at` of a file are of the same page: under the masks of its access method, and byte by byte in a
    /// free space map.
    pub(crate) fn same_page(&self, file: &RelPath, at: u32, one: &PageBytes, other: &PageBytes) -> bool {
        match PageKind::of(self.of(file.file.relation()), file.file.fork) {
            Some(kind) => same_page(kind, file.first_block() + at, one, other),
            None => one == other,
        }
    }
}
