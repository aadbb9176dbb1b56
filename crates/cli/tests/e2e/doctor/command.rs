//! The command itself: mending, bundles, pages, exit codes.

use super::patient::Patient;
use anyhow::{Context, Result, ensure};
use pgproof_testkit::StopMode;

fn unsafe_server() -> Result<Patient> {
    let patient = Patient::new()?;
    patient.server.each(&["ALTER SYSTEM SET fsync = off", "SELECT pg_reload_conf()"])?;
    patient.suffers_from("fsync-off")?;
    Ok(patient)
}

#[test]
fn a_safe_remedy_is_carried_out_when_it_is_asked_for() -> Result<()> {
    let patient = unsafe_server()?;
    let asked = patient.doctor(&["--fix", "fsync-off"])?;
    ensure!(asked.code == 3 && asked.stderr.contains("ALTER SYSTEM SET fsync = on"), "{asked:?}");
    patient.suffers_from("fsync-off")?;
    let done = patient.doctor(&["--fix", "fsync-off", "--yes"])?;
    ensure!(done.code == 0 && done.stdout.contains("fsync-off:fsync is mended"), "{done:?}");
    patient.is_well()
}

#[test]
fn what_removes_something_is_shown_and_not_done() -> Result<()> {
    let patient = Patient::new()?;
    patient.server.sql("SELECT pg_create_physical_replication_slot('node_2', true)")?;
    patient.server.sql("CREATE TABLE t AS SELECT g, repeat('x', 500) FROM generate_series(1, 20000) g")?;
    patient.suffers_from("slot-inactive")?;
    let ran = patient.doctor(&["--fix", "slot-inactive", "--yes", "--disruptive"])?;
    ensure!(ran.code == 3 && ran.stderr.contains("pg_drop_replication_slot('node_2')"), "{ran:?}");
    patient.suffers_from("slot-inactive").map(drop)
}

#[test]
fn a_remedy_of_something_that_is_not_wrong_is_refused() -> Result<()> {
    let ran = Patient::new()?.doctor(&["--fix", "fsync-off", "--yes"])?;
    ensure!(ran.code == 3 && ran.stderr.contains("nothing is wrong that is called"), "{ran:?}");
    Ok(())
}

#[test]
fn exit_codes_follow_what_was_found() -> Result<()> {
    let patient = unsafe_server()?;
    ensure!(patient.doctor(&["--nagios"])?.code == 2);
    ensure!(patient.doctor(&[])?.code == 1);
    let page = patient.doctor(&[])?.stdout;
    ensure!(page.contains("[fsync-off]") && page.contains("one thing is wrong"), "{page}");
    patient.doctor(&["--fix", "fsync-off", "--yes"])?.succeeded()?;
    ensure!(patient.doctor(&["--nagios"])?.code == 0);
    Ok(())
}

#[test]
fn a_bundle_gives_the_same_findings_and_holds_no_secret() -> Result<()> {
    let patient = unsafe_server()?;
    patient.server.each(&[
        "CREATE ROLE app LOGIN PASSWORD 'hunter2-secret'",
        "CREATE TABLE cards (number text UNIQUE)",
        "INSERT INTO cards VALUES ('4111-secret')",
        "ALTER SYSTEM SET primary_conninfo = 'host=x password=conninfo-secret'",
    ])?;
    ensure!(patient.server.sql("INSERT INTO cards VALUES ('4111-secret')").is_err());
    ensure!(patient.server.sql("SELECT 'literal-secret'::int").is_err());
    let file = patient.server.ground().join("bundle.json");
    let path = file.display().to_string();
    patient.doctor(&["bundle", &path])?.succeeded()?;
    let again = patient.doctor(&["bundle", &path])?;
    ensure!(again.code == 3, "a file was overwritten: {again:?}");
    let text = std::fs::read_to_string(&file)?;
    for word in ["hunter2", "4111", "conninfo-secret", "literal-secret"] {
        let line = text.lines().find(|line| line.contains(word));
        ensure!(line.is_none(), "{word} is in the bundle: {line:?}");
    }
    let codes = |ran: &crate::scene::Ran| -> Result<Vec<String>> {
        let report = ran.json()?;
        let all = report["report"]["findings"].as_array().context("findings")?.clone();
        Ok(all.iter().map(|one| format!("{} {}", one["code"], one["subject"])).collect())
    };
    let live = codes(&patient.doctor(&["--json"])?)?;
    patient.server.stop(StopMode::Fast)?;
    ensure!(codes(&patient.doctor(&["--from", &path, "--json"])?)? == live);
    Ok(())
}

#[test]
fn silence_has_a_reason_and_an_end() -> Result<()> {
    let patient = unsafe_server()?;
    let silence = |until: &str| {
        format!(
            "[[doctor.silence]]\ncode = \"fsync-off\"\nreason = \"loads test data\"\nuntil = \"{until}\"\n"
        )
    };
    std::fs::write(patient.config(), silence("2999-12-31"))?;
    let ran = patient.doctor(&[])?;
    ensure!(ran.code == 0 && ran.stdout.contains("silenced by the configuration: fsync-off"), "{ran:?}");
    std::fs::write(patient.config(), silence("2020-01-01"))?;
    let ran = patient.doctor(&[])?;
    ensure!(ran.code == 1 && ran.stdout.contains("ended on 2020-01-01"), "{ran:?}");
    Ok(())
}

#[test]
fn pages_of_checks_are_printed() -> Result<()> {
    let patient = Patient::new()?;
    let page = patient.doctor(&["explain", "slot-inactive"])?.succeeded()?;
    ensure!(page.stdout.contains("max_slot_wal_keep_size"), "{page:?}");
    let none = patient.doctor(&["explain", "nonsense"])?;
    ensure!(none.code == 3 && none.stderr.contains("nonsense"), "{none:?}");
    Ok(())
}

#[test]
fn what_removes_something_is_done_when_allowed_and_a_copy_is_kept_first() -> Result<()> {
    let patient = Patient::new()?;
    patient.server.sql("SELECT pg_create_physical_replication_slot('node_2', true)")?;
    patient.server.sql("CREATE TABLE t AS SELECT g, repeat('x', 500) FROM generate_series(1, 20000) g")?;
    patient.suffers_from("slot-inactive")?;
    let ran = patient.doctor(&["--fix", "slot-inactive", "--yes", "--destructive", "--json"])?.succeeded()?;
    let report = ran.json()?;
    let kept = report["report"]["kept"].as_str().context("a copy is named")?.to_owned();
    let text = std::fs::read_to_string(&kept)?;
    std::fs::remove_file(&kept)?;
    ensure!(text.contains("\"slot_name\":\"node_2\"") && text.contains("restart_lsn"), "{text}");
    ensure!(patient.server.value("SELECT count(*) FROM pg_replication_slots")? == "0");
    patient.is_well()
}

#[test]
fn an_index_that_is_dropped_can_be_made_again_from_its_copy() -> Result<()> {
    let patient = Patient::new()?;
    patient.server.sql("CREATE TABLE t AS SELECT 1 AS a FROM generate_series(1, 2)")?;
    ensure!(patient.server.each(&["CREATE UNIQUE INDEX CONCURRENTLY \"By a\" ON t (a)"]).is_err());
    patient.suffers_from("index-invalid")?;
    let ran = patient.doctor(&["--fix", "index-invalid", "--yes", "--destructive", "--json"])?.succeeded()?;
    let kept = ran.json()?["report"]["kept"].as_str().context("a copy is named")?.to_owned();
    let text = std::fs::read_to_string(&kept)?;
    std::fs::remove_file(&kept)?;
    patient.server.sql("DELETE FROM t WHERE ctid = '(0,1)'")?;
    patient.server.sql(text.lines().last().context("a definition")?)?;
    patient.is_well()
}

#[test]
fn what_is_new_and_what_is_gone_since_the_last_look_is_said() -> Result<()> {
    let patient = Patient::new()?;
    let state = patient.server.dir("state")?.display().to_string();
    let patient = patient.given("XDG_STATE_HOME", &state);
    let first = patient.doctor(&[])?.succeeded()?;
    ensure!(!first.stdout.contains("since the last look"), "{first:?}");
    patient.server.each(&["ALTER SYSTEM SET fsync = off", "SELECT pg_reload_conf()"])?;
    patient.suffers_from("fsync-off")?;
    patient.server.each(&["ALTER SYSTEM RESET fsync", "SELECT pg_reload_conf()"])?;
    std::thread::sleep(std::time::Duration::from_secs(1));
    let gone = patient.doctor(&[])?.succeeded()?;
    ensure!(gone.stdout.contains("gone: fsync-off:fsync"), "{gone:?}");
    let same = patient.doctor(&["--json"])?.json()?;
    ensure!(same["report"]["since"]["new"] == serde_json::json!([]), "{same}");
    ensure!(same["report"]["since"]["gone"] == serde_json::json!([]), "{same}");
    Ok(())
}
