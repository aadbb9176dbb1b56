//! What is done to the cluster: everything that changes pages in a way of its own, in an order and in amounts that follow from the seed.
//!
//! Before the first copy relations get the state from which a later change leaves no reference to its page: bits set in visibility maps,
//! pages emptied but not yet cut off, transactions prepared that drop and create.

use super::copy::Copy;
use crate::kinds::kinds_of;
use pgproof_backup::Kinds;
use pgproof_pg::{MajorVersion, Relation};
use pgproof_testkit::{Postgres, StopMode};
use rand::Rng;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;

pub(crate) struct Workload<'a> {
    pub(crate) postgres: &'a Postgres,
    pub(crate) rng: StdRng,
}

const TABLES: &[&str] = &[
    "many",
    "visible",
    "locked",
    "cut",
    "dropped",
    "emptied",
    "clustered",
    "rewritten",
    "moved",
    "toasted",
    "prepared",
    "prepared_drop",
    "in_space",
    "to_unlogged",
];

impl Workload<'_> {
    /// Runs everything. `copy` stops the server, copies it, and starts it again.
    pub(crate) fn run(mut self, copy: impl FnOnce() -> Copy) -> (Copy, Copy, Kinds, Relation) {
        self.prepare();
        let first = copy();
        self.finish_prepared();
        let mut steps = self.steps();
        steps.shuffle(&mut self.rng);
        let half = self.rng.random_range(0..steps.len());
        for (at, step) in steps.iter().enumerate() {
            if at == half {
                self.each(&["ALTER SYSTEM SET full_page_writes = off", "SELECT pg_reload_conf()"]);
            }
            if self.rng.random_range(0..4) == 0 {
                self.each(&["CHECKPOINT"]);
            }
            self.each(&step.iter().map(String::as_str).collect::<Vec<_>>());
        }
        let aborted = self.abort();
        let kinds = kinds_of(self.postgres);
        self.postgres.stop(StopMode::Fast).unwrap();
        (first, Copy::read(self.postgres.pgdata()), kinds, aborted)
    }

    fn each(&self, statements: &[&str]) {
        self.postgres.each(statements).unwrap();
    }

    fn rows(&mut self) -> u32 {
        self.rng.random_range(1500..4000)
    }

    fn prepare(&mut self) {
        for table in TABLES {
            let (rows, fill) = (self.rows(), self.rng.random_range(60..=100));
            let space = if *table == "in_space" { "TABLESPACE space" } else { "" };
            self.each(&[
                &format!(
                    "CREATE TABLE {table} (id serial PRIMARY KEY, k int, txt text, pt point, arr int[], filler text)
                       WITH (fillfactor = {fill}) {space}"
                ),
                &insert(table, rows),
            ]);
        }
        self.each(&[
            "CREATE INDEX many_btree ON many (k, txt)",
            "CREATE INDEX many_hash ON many USING hash (txt)",
            "CREATE INDEX many_gin ON many USING gin (arr)",
            "CREATE INDEX many_gist ON many USING gist (pt)",
            "CREATE INDEX many_spgist ON many USING spgist (pt)",
            "CREATE INDEX many_brin ON many USING brin (id) WITH (pages_per_range = 4)",
            "CREATE INDEX clustered_k ON clustered (k)",
            "CREATE INDEX in_space_k ON in_space (k) TABLESPACE space",
            "CREATE SEQUENCE counted",
            "CREATE UNLOGGED TABLE unlogged AS SELECT g, g::text AS t FROM generate_series(1, 3000) g",
            "CREATE INDEX ON unlogged (g)",
            "CREATE MATERIALIZED VIEW seen AS SELECT * FROM many WHERE k % 3 = 0",
            "UPDATE toasted SET filler = (SELECT string_agg(md5(g::text), '') FROM generate_series(id, id + 200) g) WHERE id < 40",
            "SELECT lo_from_bytea(100000 + g, decode(repeat(md5(g::text), 300), 'hex')) FROM generate_series(1, 20) g",
            "CREATE DATABASE doomed",
            "CREATE DATABASE moving",
            "CREATE TABLE prepared_later (a int)",
            "VACUUM (FREEZE) visible",
            "VACUUM (FREEZE) locked",
            "VACUUM many",
        ]);
        let kept = self.rng.random_range(300..600);
        self.each(&[
            &format!("DELETE FROM cut WHERE id > {kept}"),
            "VACUUM (FREEZE, TRUNCATE false) cut",
            "VACUUM (FREEZE, TRUNCATE false) cut",
            "BEGIN; DROP TABLE prepared_drop; PREPARE TRANSACTION 'drops'",
            "BEGIN; CREATE TABLE prepared_create AS SELECT * FROM many; PREPARE TRANSACTION 'creates'",
            "BEGIN; UPDATE prepared SET k = k + 1 WHERE id % 5 = 0; PREPARE TRANSACTION 'updates'",
            // Summaries are those of whole segments: what was done to `cut` so far must not be in the first one that is joined.
            "SELECT pg_switch_wal()",
        ]);
    }

    /// First, because what is prepared holds vacuum back.
    fn finish_prepared(&self) {
        self.each(&["COMMIT PREPARED 'drops'", "ROLLBACK PREPARED 'creates'", "COMMIT PREPARED 'updates'"]);
    }

    /// Each in a transaction per statement; their order is of no consequence.
    fn steps(&mut self) -> Vec<Vec<String>> {
        let mut steps = self.on_rows();
        steps.extend(self.on_files());
        steps.extend(self.on_databases());
        steps
    }

    fn on_rows(&mut self) -> Vec<Vec<String>> {
        let (rows, step, one) = (self.rows(), self.rng.random_range(3..12), self.rng.random_range(1..1000));
        let mut steps = vec![
            vec![
                format!("UPDATE many SET k = k + 1, txt = txt || 'x' WHERE id % {step} = 0"),
                format!("DELETE FROM many WHERE id % {} = 1", step + 4),
                "SELECT count(*) FROM many".to_owned(),
                "VACUUM many".to_owned(),
            ],
            vec![insert("many", rows), "VACUUM (FREEZE) many".to_owned()],
            vec![format!("UPDATE many SET filler = 'hot' WHERE id % {step} = 2")],
            vec![format!(
                "INSERT INTO many (id, k) VALUES ({one}, 1), (1000000 + {one}, 2) ON CONFLICT (id) DO UPDATE SET k = -1"
            )],
            vec![
                format!(
                    "BEGIN; {}; SAVEPOINT a; DELETE FROM many; ROLLBACK TO a; COMMIT",
                    insert("many", 200)
                ),
                format!("BEGIN; {}; ROLLBACK", insert("many", 300)),
            ],
            // Clears bits of the visibility map, and nothing vacuums after.
            vec![format!("DELETE FROM visible WHERE id = {one}")],
            vec![format!("BEGIN; SELECT * FROM locked WHERE id = {one} FOR UPDATE; COMMIT")],
            vec!["SELECT nextval('counted') FROM generate_series(1, 100)".to_owned()],
            vec!["SELECT setval('counted', 5000)".to_owned(), "SELECT nextval('counted')".to_owned()],
            vec![
                "SELECT lo_put(100000 + g, 5, 'changed') FROM generate_series(1, 5) g".to_owned(),
                "SELECT lo_unlink(100000 + g) FROM generate_series(10, 15) g".to_owned(),
            ],
            vec![
                "UPDATE toasted SET filler = filler || filler WHERE id < 20".to_owned(),
                "DELETE FROM toasted WHERE id BETWEEN 20 AND 30".to_owned(),
                "VACUUM toasted".to_owned(),
            ],
            vec![insert("in_space", rows), "DELETE FROM in_space WHERE k % 7 = 0".to_owned()],
            vec!["INSERT INTO unlogged SELECT g, 'more' FROM generate_series(1, 2000) g".to_owned()],
        ];
        for (name, end) in [("p1", "COMMIT"), ("p2", "ROLLBACK")] {
            steps.push(vec![
                format!(
                    "BEGIN; {}; CREATE TABLE {name} (a int); PREPARE TRANSACTION '{name}'",
                    insert("prepared", 100)
                ),
                format!("{end} PREPARED '{name}'"),
            ]);
        }
        steps
    }

    fn on_files(&mut self) -> Vec<Vec<String>> {
        let rows = self.rows();
        // Created here, because the directory must be the server's.
        let later = self.postgres.dir("later").unwrap();
        vec![
            vec!["VACUUM cut".to_owned()],
            vec!["DROP TABLE dropped".to_owned()],
            vec!["TRUNCATE emptied".to_owned(), insert("emptied", rows)],
            vec![
                "BEGIN; TRUNCATE prepared_later; INSERT INTO prepared_later VALUES (1); PREPARE TRANSACTION 'p3'".to_owned(),
                "COMMIT PREPARED 'p3'".to_owned(),
            ],
            vec!["CLUSTER clustered USING clustered_k".to_owned()],
            vec!["VACUUM FULL rewritten".to_owned()],
            vec!["VACUUM FULL pg_class".to_owned(), "VACUUM (FREEZE) pg_attribute".to_owned()],
            vec!["REINDEX INDEX many_gist".to_owned(), "REINDEX TABLE clustered".to_owned()],
            vec!["REINDEX INDEX CONCURRENTLY many_hash".to_owned()],
            vec!["CREATE INDEX CONCURRENTLY many_new ON many (filler, id)".to_owned()],
            vec!["DROP INDEX many_brin".to_owned(), "CREATE INDEX many_brin ON many USING brin (id, k)".to_owned()],
            vec!["REFRESH MATERIALIZED VIEW seen".to_owned()],
            vec!["ALTER TABLE to_unlogged SET UNLOGGED".to_owned(), insert("to_unlogged", 100)],
            vec!["ALTER TABLE unlogged SET LOGGED".to_owned()],
            vec![
                format!("CREATE TABLESPACE later LOCATION '{}'", later.display()),
                "ALTER TABLE moved SET TABLESPACE later".to_owned(),
                "CREATE TABLE in_later TABLESPACE later AS SELECT * FROM moved".to_owned(),
                "ALTER DATABASE moving SET TABLESPACE later".to_owned(),
            ],
        ]
    }

    fn on_databases(&mut self) -> Vec<Vec<String>> {
        let strategies: &[&str] = match self.postgres.version() {
            MajorVersion::V14 => &[""],
            MajorVersion::V15 | MajorVersion::V16 | MajorVersion::V17 | MajorVersion::V18 => {
                &["STRATEGY = file_copy", "STRATEGY = wal_log"]
            }
        };
        let create = |(at, strategy): (usize, &&str)| vec![format!("CREATE DATABASE made{at} {strategy}")];
        let mut steps: Vec<_> = strategies.iter().enumerate().map(create).collect();
        steps.push(vec!["DROP DATABASE doomed".to_owned()]);
        steps
    }

    /// Makes a table and rolls it back; what it was.
    fn abort(&self) -> Relation {
        let mut client = self.postgres.client().unwrap();
        client.batch_execute("BEGIN; CREATE TABLE aborted AS SELECT * FROM many").unwrap();
        let row = client
            .query_one(
                "SELECT oid, pg_relation_filenode('aborted') FROM pg_database WHERE datname = 'postgres'",
                &[],
            )
            .unwrap();
        client.batch_execute("ROLLBACK").unwrap();
        Relation { tablespace: 1663, database: row.get(0), relnumber: row.get(1) }
    }
}

fn insert(table: &str, rows: u32) -> String {
    format!(
        "INSERT INTO {table} (k, txt, pt, arr, filler)
           SELECT g % 100, md5(g::text), point(g % 97, g % 89), ARRAY[g % 13, g % 17, g], repeat('f', g % 60)
             FROM generate_series(1, {rows}) g"
    )
}
