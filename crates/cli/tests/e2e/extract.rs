//! `extract`: rows that were deleted by accident come back, as a dump and beside the live table, and nothing else changes.

use crate::scene::{Ran, Scene};
use anyhow::{Context, Result, ensure};
use pgproof_pg::MajorVersion;
use pgproof_testkit::{Postgres, Server, wait};
use rustix::process::{Pid, Signal, kill_process};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

#[test]
fn a_table_of_14_comes_back_from_before_the_accident() -> Result<()> {
    comes_back(MajorVersion::V14)
}

#[test]
fn a_table_of_15_comes_back_from_before_the_accident() -> Result<()> {
    comes_back(MajorVersion::V15)
}

#[test]
fn a_table_of_18_comes_back_from_before_the_accident() -> Result<()> {
    comes_back(MajorVersion::V18)
}

const SHOP: &str = r#"CREATE SCHEMA sales; CREATE TABLE customers (id int PRIMARY KEY, name text);
    INSERT INTO customers SELECT g, 'customer ' || g FROM generate_series(1, 100) g;
    CREATE TABLE "Orders" (id serial PRIMARY KEY, customer int NOT NULL REFERENCES customers, body text, at date DEFAULT '2026-01-01',
        CONSTRAINT positive CHECK (customer > 0));
    ALTER TABLE "Orders" ALTER COLUMN body SET STORAGE EXTERNAL;
    CREATE INDEX by_customer ON "Orders" (customer); CREATE STATISTICS correlated ON customer, at FROM "Orders";
    CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
    CREATE TRIGGER watched BEFORE INSERT ON "Orders" FOR EACH ROW EXECUTE FUNCTION refuse();
    CREATE PUBLICATION told FOR TABLE "Orders";
    CREATE TABLE sales.days (id bigint GENERATED ALWAYS AS IDENTITY, day date NOT NULL, sum int, PRIMARY KEY (id, day)) PARTITION BY RANGE (day);
    CREATE TABLE sales.days_2025 PARTITION OF sales.days FOR VALUES FROM ('2025-01-01') TO ('2026-01-01');
    CREATE TABLE sales.days_2026 PARTITION OF sales.days FOR VALUES FROM ('2026-01-01') TO ('2027-01-01');
    INSERT INTO sales.days (day, sum) SELECT date '2025-06-01' + g, g FROM generate_series(1, 400) g;"#;

/// Rows in an order of their own, with their content.
const ORDERS: &str = "SELECT md5(string_agg(o::text, ',' ORDER BY id)), count(*) FROM";

struct Accident {
    scene: Scene,
    /// An instant between the last good commit and the accident.
    before: String,
    /// What was acknowledged by then.
    orders: Vec<Vec<Option<String>>>,
    scratch: PathBuf,
}

impl Accident {
    fn happens(version: MajorVersion) -> Result<Self> {
        let builder = Postgres::builder(version).setting("fsync", "on").setting("wal_level", "logical");
        let scene = Scene::new(builder)?;
        scene.init(&["--restart"])?;
        let server = &scene.server;
        server.each(&["CREATE DATABASE shop", "CREATE DATABASE other"])?;
        server.sql_in(
            "other",
            "CREATE TABLE big AS SELECT g, repeat('x', 500) FROM generate_series(1, 20000) g",
        )?;
        server.sql_in("shop", SHOP)?;
        let insert = |from: u32, to: u32| {
            let rows =
                format!("SELECT 1 + g % 100, repeat(md5(g::text), 200) FROM generate_series({from}, {to}) g");
            server.sql_in("shop", &format!("INSERT INTO \"Orders\" (customer, body) {rows}"))
        };
        insert(1, 1000)?;
        scene.pgproof(&["backup"])?.succeeded()?;
        insert(1001, 1500)?;
        server.sql_in("other", "UPDATE big SET g = g + 1")?;
        let orders = server.query_in("shop", &format!("{ORDERS} \"Orders\" o"))?;
        let before = server.value("SELECT clock_timestamp()")?;
        // PostgreSQL compares with commit times, which have microseconds.
        std::thread::sleep(Duration::from_millis(20));
        server.sql_in("shop", "DELETE FROM \"Orders\" WHERE id > 10; DELETE FROM sales.days; DELETE FROM customers WHERE id > 50 AND id NOT IN (SELECT customer FROM \"Orders\")")?;
        server.archive_everything()?;
        let scratch = server.dir("x")?;
        Ok(Self { scene, before, orders, scratch })
    }

    fn extract(&self, arguments: &[&str]) -> Result<Ran> {
        self.scene.pgproof(&[&self.arguments()[..], arguments].concat())
    }

    fn arguments(&self) -> [&str; 5] {
        let scratch = self.scratch.to_str().unwrap_or_default();
        ["extract", "--from-database", "shop", "--scratch", scratch]
    }

    /// The server for `--into`, without its database.
    fn connection_string(&self) -> String {
        let server = &self.scene.server;
        format!("host={} port={} user=postgres", server.socket_dir().display(), server.port())
    }

    /// Everything of the live database that a copy could have touched.
    fn live(&self) -> Result<String> {
        let server = &self.scene.server;
        server.run_client(
            "pg_dump",
            &[
                "--restrict-key=test",
                "--exclude-table=*recovered*",
                "--exclude-table=sales.again*",
                "--dbname",
                "shop",
            ],
        )
    }

    fn nothing_is_left(&self) -> Result<()> {
        let left = fs::read_dir(&self.scratch)?.count();
        ensure!(left == 0, "{left} directories are left in {}", self.scratch.display());
        Ok(())
    }
}

fn comes_back(version: MajorVersion) -> Result<()> {
    let accident = Accident::happens(version)?;
    let untouched = accident.live()?;
    beside_the_live_table(&accident)?;
    if version == MajorVersion::V15 {
        with_its_partitions(&accident)?;
        refusals(&accident)?;
    }
    ensure!(accident.live()? == untouched, "the live database changed");
    as_a_dump(&accident)?;
    accident.nothing_is_left()
}

fn beside_the_live_table(accident: &Accident) -> Result<()> {
    let server = &accident.scene.server;
    let into = accident.connection_string();
    let table = r#"public."Orders""#;
    let report = accident.extract(&[table, "--at", &accident.before, "--into", &into, "--json"])?;
    let report = report.succeeded()?.json()?;
    let done = &report["report"]["done"];
    ensure!(done["created"]["name"] == "Orders_recovered" && done["rows"] == 1500, "{done:#}");
    ensure!(done["bytes_left_out"].as_u64() > Some(10 << 20), "{done:#}");
    let left: Vec<&str> =
        done["left_behind"].as_array().into_iter().flatten().filter_map(|v| v.as_str()).collect();
    ensure!(
        left == ["foreign key Orders_customer_fkey", "trigger watched", "statistics correlated"],
        "{left:?}"
    );
    let recovered = server.query_in("shop", &format!("{ORDERS} \"Orders_recovered\" o"))?;
    ensure!(recovered == accident.orders, "{recovered:?}");
    let shape = server.query_in(
        "shop",
        "SELECT string_agg(i.indexrelid::regclass::text, ' ' ORDER BY i.indexrelid::regclass::text COLLATE \"C\"), (SELECT string_agg(conname, ' ' ORDER BY conname COLLATE \"C\") FROM pg_constraint \
            WHERE conrelid = '\"Orders_recovered\"'::regclass AND contype <> 'n'), \
            pg_get_serial_sequence('\"Orders_recovered\"', 'id') FROM pg_index i WHERE indrelid = '\"Orders_recovered\"'::regclass",
    )?;
    let shape: Vec<_> = shape.into_iter().flatten().flatten().collect();
    ensure!(
        shape
            == [
                r#""Orders_recovered_by_customer" "Orders_recovered_pkey""#,
                "Orders_recovered_pkey positive",
                r#"public."Orders_recovered_id_seq""#
            ],
        "{shape:?}"
    );
    // Its own sequence goes on behind its own rows.
    server.sql_in("shop", "INSERT INTO \"Orders_recovered\" (customer) VALUES (1)")?;
    ensure!(server.query_in("shop", "SELECT 1 FROM \"Orders_recovered\" WHERE id > 1500")?.len() == 1);
    // Without a connection string it is the server of the configuration.
    let own = [table, "--at", &accident.before, "--as", "of_the_configuration", "--json", "--into"];
    let report = accident.extract(&own)?.succeeded()?.json()?;
    ensure!(report["report"]["done"]["rows"] == 1500, "{report:#}");
    server.sql_in("shop", "DROP TABLE of_the_configuration")?;
    let again = accident.extract(&[table, "--at", &accident.before, "--into", &into])?;
    ensure!(again.code == 3 && again.stderr.contains("exists already"), "{}", again.stderr);
    Ok(())
}

fn with_its_partitions(accident: &Accident) -> Result<()> {
    let server = &accident.scene.server;
    let into = accident.connection_string();
    let arguments = ["days", "--at", &accident.before, "--into", &into, "--as", "again", "--json"];
    let report = accident.extract(&arguments)?.succeeded()?.json()?;
    ensure!(report["report"]["done"]["partitions"] == 2, "{report:#}");
    let found = server.query_in(
        "shop",
        "SELECT (SELECT count(*) FROM sales.again), (SELECT count(*) FROM sales.again_2025), (SELECT count(*) FROM sales.days)",
    )?;
    let found: Vec<_> = found.into_iter().flatten().flatten().collect();
    ensure!(found == ["400", "213", "0"], "{found:?}");
    // A partition alone, which must not become one of the live table.
    let arguments = ["days_2025", "--at", &accident.before, "--into", &into, "--as", "again_alone", "--json"];
    let report = accident.extract(&arguments)?.succeeded()?.json()?;
    let done = &report["report"]["done"];
    ensure!(done["rows"] == 213 && done["left_behind"][0] == "partition of sales.days", "{done:#}");
    Ok(())
}

fn refusals(accident: &Accident) -> Result<()> {
    let file = accident.scratch.with_extension("dump").display().to_string();
    let slip = accident.extract(&["orders", "--at", &accident.before, "--to", &file])?;
    ensure!(slip.code == 3 && slip.stderr.contains(r#"public."Orders""#), "{}", slip.stderr);
    ensure!(slip.stderr.contains("earlier time") && !Path::new(&file).exists(), "{}", slip.stderr);
    let elsewhere = accident.extract(&[
        "days",
        "--latest",
        "--into",
        &accident.connection_string(),
        "--schema",
        "none",
    ])?;
    ensure!(
        elsewhere.code == 3 && elsewhere.stderr.contains("there is no schema none"),
        "{}",
        elsewhere.stderr
    );
    let planned = accident.extract(&["days", "--latest", "--to", &file, "--dry-run"])?.succeeded()?;
    ensure!(planned.stdout.contains("left empty") && planned.stdout.contains("other"), "{}", planned.stdout);
    accident.nothing_is_left()
}

/// `pg_restore` puts the dump back where the table was lost.
fn as_a_dump(accident: &Accident) -> Result<()> {
    let server = &accident.scene.server;
    let place = server.dir("dumps")?;
    let (dump, plain) = (place.join("orders.dump"), place.join("orders.sql"));
    let (dump_text, plain_text) = (dump.display().to_string(), plain.display().to_string());
    let table = r#""Orders""#;
    accident.extract(&[table, "--at", &accident.before, "--to", &dump_text])?.succeeded()?;
    ensure!(fs::read_dir(&place)?.count() == 1, "only the dump is there");
    server.each(&["CREATE DATABASE again"])?;
    server.sql_in("again", "CREATE TABLE customers (id int PRIMARY KEY); INSERT INTO customers SELECT generate_series(1, 100); \
        CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'; CREATE PUBLICATION told")?;
    // Of a version that the server knows all settings of; 14 comes without client programs.
    let programs = Server::of(server.version().max(MajorVersion::V15))?.bin();
    let mut restore = Command::new(programs.join("pg_restore"));
    restore.envs(server.environment()).args(["--exit-on-error", "--dbname", "again", &dump_text]);
    let restored = restore.output()?;
    ensure!(restored.status.success(), "{}", String::from_utf8_lossy(&restored.stderr));
    let restored = server.query_in("again", &format!("{ORDERS} \"Orders\" o"))?;
    ensure!(restored == accident.orders, "{restored:?}");
    let existing = accident.extract(&[table, "--latest", "--to", &dump_text])?;
    ensure!(existing.code == 3 && existing.stderr.contains("exists already"), "{}", existing.stderr);
    if server.version() == MajorVersion::V15 {
        accident.extract(&[table, "--latest", "--to", &plain_text])?.succeeded()?;
        let text = fs::read_to_string(&plain)?;
        ensure!(text.contains("COPY public.\"Orders\""), "a plain dump is SQL");
        ensure!(
            text.lines().filter(|line| line.contains("2026-01-01")).count() == 11,
            "the latest instant has ten rows and a default"
        );
    }
    Ok(())
}

#[test]
fn a_killed_extract_leaves_the_live_server_as_it_is_and_the_next_one_clears_up() -> Result<()> {
    let accident = Accident::happens(MajorVersion::V15)?;
    let (server, into) = (&accident.scene.server, accident.connection_string());
    let untouched = accident.live()?;
    let arguments = [r#""Orders""#, "--at", &accident.before, "--into", &into];
    // A lock that the copy's transaction has to wait for, so that the kill meets it in the middle.
    let mut blocker = server.client_to("shop")?;
    let mut blocking = blocker.transaction()?;
    blocking.batch_execute("LOCK pg_catalog.pg_attrdef IN EXCLUSIVE MODE")?;
    let mut child = accident
        .scene
        .command(&[&accident.arguments()[..], &arguments].concat())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()?;
    let waits = "SELECT count(*) FROM pg_stat_activity WHERE datname = 'shop' AND application_name = 'pgproof' AND wait_event_type = 'Lock'";
    wait::until_true("the copy to wait for the lock", || {
        ensure!(child.try_wait()?.is_none(), "the extract ended before");
        Ok(server.value(waits)? != "0")
    })?;
    child.kill()?;
    child.wait()?;
    blocking.rollback()?;
    drop(blocker);
    let sessions =
        "SELECT count(*) FROM pg_stat_activity WHERE datname = 'shop' AND backend_type = 'client backend'";
    wait::until_true("the killed copy's session to end", || Ok(server.value(sessions)? == "0"))?;
    ensure!(accident.live()? == untouched, "the live database changed");
    ensure!(server.query_in("shop", "SELECT 1 FROM pg_class WHERE relname LIKE '%recovered%'")?.is_empty());
    let left = fs::read_dir(&accident.scratch)?.next().context("a killed run leaves its directory")??.path();
    ensure!(fs::read_to_string(left.join("README"))?.contains("pgproof extract"));

    let ran = accident.extract(&[&arguments[..], &["--json"]].concat())?.succeeded()?;
    ensure!(ran.stdout.contains("which an interrupted run had left"), "{}", ran.stdout);
    ensure!(server.query_in("shop", &format!("{ORDERS} \"Orders_recovered\" o"))? == accident.orders);
    accident.nothing_is_left()?;
    interrupted(&accident)
}

/// An interrupt clears up at once, whatever is going on.
fn interrupted(accident: &Accident) -> Result<()> {
    let file = accident.scratch.with_extension("dump").display().to_string();
    let arguments = [&accident.arguments()[..], &["days", "--latest", "--to", &file]].concat();
    let mut child = accident.scene.command(&arguments).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
    let pid = Pid::from_raw(i32::try_from(child.id())?).context("a process has a number")?;
    let server = accident.scratch.join(format!("pgproof-extract-{}/data/postmaster.pid", child.id()));
    wait::until_true("the private server to start", || Ok(server.exists()))?;
    kill_process(pid, Signal::TERM)?;
    ensure!(child.wait()?.code() == Some(3));
    ensure!(!Path::new(&file).exists());
    accident.nothing_is_left()
}
