//! Names the relations of bad pages. Asks each database concerned; what cannot be asked stays unnamed.

use crate::cluster::Cluster;
use crate::scan::Entry;
use crate::suspects;
use crate::worker::Suspect;
use pgproof_pg::Relation;
use pgproof_repo::manifest::summary::PagePlace;
use pgproof_server::Session;
use std::collections::HashMap;

/// `pg_filenode_relation` wants 0 for the database's default tablespace.
const NAME_OF: &str = "SELECT c.oid::regclass::text FROM pg_class c WHERE c.oid = pg_filenode_relation(\
    CASE WHEN $1 = (SELECT dattablespace FROM pg_database WHERE datname = current_database()) THEN 0::oid ELSE $1 END, $2)";

/// Describes bad pages for the report.
pub(crate) fn name_pages(bad: &[Suspect], entries: &[Entry], cluster: &Cluster) -> Vec<PagePlace> {
    let mut names: HashMap<Relation, (Option<String>, Option<String>)> = HashMap::new();
    let mut pages = Vec::with_capacity(bad.len());
    for &suspect in bad {
        let Some((fork, block)) = suspects::page_of(suspect, entries) else { continue };
        let relation = fork.relation();
        let (database, relation) =
            names.entry(relation).or_insert_with(|| name_relation(relation, cluster)).clone();
        pages.push(PagePlace {
            path: entries[suspect.file].path.clone(),
            database,
            relation,
            fork: fork.fork.name().to_owned(),
            block,
        });
    }
    pages
}

/// Describes bad pages of a server that cannot be asked for names.
pub(crate) fn places(bad: &[Suspect], entries: &[Entry]) -> Vec<PagePlace> {
    let place = |&suspect: &Suspect| {
        let (fork, block) = suspects::page_of(suspect, entries)?;
        let path = entries[suspect.file].path.clone();
        Some(PagePlace { path, database: None, relation: None, fork: fork.fork.name().to_owned(), block })
    };
    bad.iter().filter_map(place).collect()
}

fn name_relation(relation: Relation, cluster: &Cluster) -> (Option<String>, Option<String>) {
    let database = match relation.database {
        0 => Some("postgres".to_owned()),
        oid => cluster
            .facts
            .databases
            .iter()
            .find(|database| database.oid == oid)
            .map(|found| found.name.clone()),
    };
    let Some(name) = &database else { return (None, None) };
    let found = Session::open(&cluster.connect.with_database(name)).and_then(|mut session| {
        session.query("name a damaged relation", NAME_OF, &[&relation.tablespace, &relation.relnumber])
    });
    let relation = found.ok().and_then(|rows| rows.first().map(|row| row.get(0)));
    (database, relation)
}
