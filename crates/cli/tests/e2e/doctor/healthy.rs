//! Nothing is wrong, and nothing is said.

use super::patient::{Patient, server};
use super::replication::pair;
use anyhow::{Result, ensure};
use pgproof_pg::MajorVersion;
use pgproof_testkit::Postgres;
use std::time::{Duration, Instant};

#[test]
fn a_fresh_server_of_every_version() -> Result<()> {
    for version in MajorVersion::ALL {
        let patient = Patient::of(Postgres::builder(version).setting("fsync", "on"))?;
        let found = patient.findings()?;
        ensure!(found.is_empty(), "{version}: {found:#?}");
    }
    Ok(())
}

#[test]
fn a_busy_server() -> Result<()> {
    let patient = Patient::new()?;
    patient.server.load_pgbench(2)?;
    std::thread::scope(|scope| {
        let load = scope.spawn(|| patient.server.run_pgbench(6));
        while !load.is_finished() {
            let found = patient.findings()?;
            ensure!(found.is_empty(), "{found:#?}");
        }
        load.join().expect("no panic")
    })
}

#[test]
fn a_standby_and_its_primary() -> Result<()> {
    let (primary, standby) = pair(None)?;
    standby.is_well()?;
    primary.sql("CREATE TABLE t AS SELECT generate_series(1, 100000)")?;
    ensure!(standby.findings()?.is_empty());
    let primary = Patient::from_server(primary)?;
    ensure!(primary.findings()?.is_empty());
    Ok(())
}

#[test]
fn look_alikes_of_faults() -> Result<()> {
    let patient = Patient::of(server().setting("max_prepared_transactions", "5"))?;
    patient.server.each(&[
        // A slot that keeps nothing, a sequence that goes round, an unchecked constraint, a role that nobody logs in as.
        "SELECT pg_create_physical_replication_slot('future')",
        "CREATE SEQUENCE ring MAXVALUE 10 CYCLE",
        "SELECT setval('ring', 10)",
        "CREATE TABLE t (a int)",
        "ALTER TABLE t ADD CONSTRAINT later CHECK (a > 0) NOT VALID",
        "CREATE ROLE \"group\" NOLOGIN",
        "CREATE DATABASE closed ALLOW_CONNECTIONS false",
        "CREATE TABLE small (a int) WITH (autovacuum_enabled = off)",
        "INSERT INTO small VALUES (1)",
        "DELETE FROM small",
        "CREATE UNLOGGED TABLE u (a int)",
    ])?;
    ensure!(patient.server.sql("SELECT 1 / 0").is_err());
    let found = patient.findings()?;
    ensure!(found.is_empty(), "{found:#?}");
    Ok(())
}

/// `PGPROOF_TABLES=20000` is the long form, with 500 sessions.
#[test]
fn many_tables_and_sessions() -> Result<()> {
    let patient = Patient::of(server().setting("max_connections", "700"))?;
    let count = std::env::var("PGPROOF_TABLES").ok().and_then(|text| text.parse().ok()).unwrap_or(2000);
    for at in (0..count).step_by(500) {
        let make = format!(
            "DO $$ BEGIN FOR i IN {at}..{} LOOP EXECUTE format('CREATE TABLE t%s (id serial PRIMARY KEY, a text)', i); END LOOP; END $$",
            at + 499
        );
        patient.server.sql(&make)?;
    }
    let clients: Vec<_> = (0..count / 40).map(|_| patient.server.client()).collect::<Result<_>>()?;
    let began = Instant::now();
    let found = patient.findings()?;
    println!("{count} tables and {} sessions: {:?}", clients.len(), began.elapsed());
    ensure!(found.is_empty(), "{found:#?}");
    ensure!(began.elapsed() < Duration::from_secs(12), "it took {:?}", began.elapsed());
    Ok(())
}

#[test]
fn a_locked_catalog_does_not_hold_it_up() -> Result<()> {
    let patient = Patient::new()?;
    let mut holder = patient.holds("BEGIN; LOCK pg_class IN ACCESS EXCLUSIVE MODE")?;
    let began = Instant::now();
    let _ = patient.findings()?;
    ensure!(began.elapsed() < Duration::from_secs(12), "it took {:?}", began.elapsed());
    holder.batch_execute("ROLLBACK")?;
    patient.is_well()
}

#[test]
fn a_locked_table_does_not_hold_it_up_and_is_not_locked_by_it() -> Result<()> {
    let patient = Patient::new()?;
    patient.server.sql("CREATE TABLE t (id serial PRIMARY KEY)")?;
    let _holder = patient.holds("BEGIN; LOCK t IN ACCESS EXCLUSIVE MODE")?;
    let began = Instant::now();
    let _ = patient.findings()?;
    ensure!(began.elapsed() < Duration::from_secs(5), "it took {:?}", began.elapsed());
    Ok(())
}

#[test]
fn a_server_that_is_backed_up() -> Result<()> {
    let patient = Patient::of(server().setting("max_wal_senders", "4"))?;
    patient.server.load_pgbench(5)?;
    let to = patient.server.dir("copy")?;
    let mut copy = patient.server.client_program("pg_basebackup")?;
    copy.args(["--max-rate", "10M", "-X", "stream", "-D"]).arg(to.join("data"));
    let mut copy = copy.stderr(std::process::Stdio::null()).spawn()?;
    let mut looks = 0;
    while copy.try_wait()?.is_none() {
        let found = patient.findings()?;
        ensure!(found.is_empty(), "{found:#?}");
        looks += 1;
    }
    ensure!(looks > 3, "the copy was over too soon");
    Ok(())
}

#[test]
fn a_server_that_freezes_and_builds_an_index() -> Result<()> {
    let patient = Patient::new()?;
    patient.server.load_pgbench(2)?;
    let freeze = patient.says(
        "SET vacuum_cost_delay = '20ms'; SET vacuum_cost_limit = 10; VACUUM (FREEZE) pgbench_accounts",
    )?;
    // It waits for a transaction that reads, for as long as that takes.
    let reads = patient.says("SELECT count(*), pg_sleep(5) FROM pgbench_branches")?;
    std::thread::sleep(Duration::from_millis(300));
    let builds = patient.says("CREATE INDEX CONCURRENTLY by_balance ON pgbench_tellers (tbalance)")?;
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(5) {
        let found = patient.findings()?;
        ensure!(found.is_empty(), "{found:#?}");
    }
    for thread in [reads, builds] {
        thread.join().expect("no panic");
    }
    patient.server.sql("SELECT pg_cancel_backend(pid) FROM pg_stat_progress_vacuum")?;
    freeze.join().expect("no panic");
    patient.is_well()
}

#[test]
fn a_server_that_recovers_after_a_crash() -> Result<()> {
    let patient = Patient::of(server().setting("max_wal_size", "4GB").setting("checkpoint_timeout", "1h"))?;
    patient.server.load_pgbench(10)?;
    patient.server.kill9()?;
    patient.server.launch()?;
    let pid = patient.server.pid().expect("it was launched").as_raw_nonzero().to_string();
    // Before that, no server runs, as far as anybody can see.
    pgproof_testkit::wait::until_true("the server to write its process number", || {
        let text =
            std::fs::read_to_string(patient.server.pgdata().join("postmaster.pid")).unwrap_or_default();
        Ok(text.lines().next() == Some(pid.as_str()))
    })?;
    let mut codes = std::collections::BTreeSet::new();
    while patient.server.client().is_err() {
        let ran = patient.doctor(&["--json"])?;
        for one in ran.json()?["report"]["findings"].as_array().expect("findings") {
            codes.insert(format!("{} {}", one["code"], one["severity"]));
        }
    }
    // A connection is refused meanwhile, which is true and no more than that.
    ensure!(codes.iter().any(|code| code.contains("server-starting")), "it was over too soon: {codes:?}");
    let known = ["\"server-starting\" \"info\"", "\"connection-failed\""];
    let is_fine =
        |code: &String| code.ends_with("\"info\"") || known.iter().any(|known| code.starts_with(known));
    ensure!(codes.iter().all(is_fine), "{codes:?}");
    let found = patient.findings()?;
    ensure!(found.is_empty(), "{found:#?}");
    Ok(())
}

#[test]
fn a_hung_disk_does_not_hold_it_up() -> Result<()> {
    let patient = Patient::new()?;
    patient.server.stop(pgproof_testkit::StopMode::Fast)?;
    let disk = pgproof_testkit::powercut::PowerCutFs::mount(&patient.server.dir("disk")?)?;
    let copy = disk.path().join("data").display().to_string();
    super::patient::run("cp", &["-a", &patient.server.pgdata().display().to_string(), &copy])?;
    let look = || -> Result<crate::scene::Ran> {
        let mut command = crate::scene::pgproof();
        command.args(["doctor", "--json", "--budget", "3s", "--pgdata", &copy]);
        command.envs(patient.server.environment()).env("PGPROOF_CONFIG", patient.config());
        let output = command.output()?;
        let code = output.status.code().expect("an exit code");
        Ok(crate::scene::Ran {
            code,
            stdout: String::from_utf8(output.stdout)?,
            stderr: String::from_utf8(output.stderr)?,
        })
    };
    ensure!(look()?.json()?["report"]["findings"][0]["code"] == "server-down");
    let began = Instant::now();
    let hangs = disk.hang();
    let ran = look();
    let took = began.elapsed();
    drop(hangs);
    ensure!(took < Duration::from_secs(4), "it took {took:?}");
    let unseen = ran?.json()?["report"]["unseen"].to_string();
    ensure!(unseen.contains("did not answer"), "{unseen}");
    Ok(())
}

/// CPU time of a look: of doctor itself, and of the server beyond what it needs without.
#[test]
fn a_look_costs_little() -> Result<()> {
    let patient = Patient::new()?;
    for at in (0..1000).step_by(500) {
        let make = format!(
            "DO $$ BEGIN FOR i IN {at}..{} LOOP EXECUTE format('CREATE TABLE t%s (id serial PRIMARY KEY, a text)', i); END LOOP; END $$",
            at + 499
        );
        patient.server.sql(&make)?;
    }
    let group =
        std::path::Path::new("/sys/fs/cgroup/cpuacct/pgproof-doctor").join(patient.server.port().to_string());
    if std::fs::create_dir_all(&group).is_err() {
        // Only the first version of control groups counts without a controller being delegated.
        return Ok(());
    }
    let pid = patient.server.pid().expect("it runs").as_raw_nonzero().to_string();
    // Sessions that begin from now on are in it, and this process's children.
    std::fs::write(group.join("cgroup.procs"), &pid)?;
    let usage =
        || -> Result<u64> { Ok(std::fs::read_to_string(group.join("cpuacct.usage"))?.trim().parse()?) };
    let look = format!(
        "echo $$ > {}; exec {} doctor --pgdata {}",
        group.join("cgroup.procs").display(),
        crate::scene::program().display(),
        patient.server.pgdata().display()
    );
    let mut costs = Vec::new();
    for _ in 0..5 {
        let before = usage()?;
        let mut command = std::process::Command::new("sh");
        command.envs(patient.server.environment()).env("PGPROOF_CONFIG", patient.config());
        ensure!(command.args(["-c", &look]).output()?.status.success());
        costs.push((usage()? - before) / 1_000_000);
    }
    costs.sort_unstable();
    println!("a look costs {costs:?} ms of CPU");
    let processors = std::thread::available_parallelism()?.get() as u64;
    // Once a minute, as the agent does it: one hundredth of what the processors give in that time.
    ensure!(costs[2] < processors * 600, "{costs:?} ms");
    Ok(())
}
