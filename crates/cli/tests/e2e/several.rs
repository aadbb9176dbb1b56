//! Several repositories of one server: what arrives where, what holds what up, and what comes back when one of them is gone.

use crate::scene::{Ran, Scene};
use anyhow::{Context, Result, ensure};
use pgproof_testkit::s3::S3Server;
use pgproof_testkit::{free_port, wait};
use serde_json::Value;
use std::fmt::Write;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// A scene with a second repository, `offsite`, added by `init`.
pub(crate) fn with_offsite() -> Result<Scene> {
    let scene = Scene::initialised()?;
    add_offsite(&scene)?.succeeded()?;
    Ok(scene)
}

pub(crate) fn add_offsite(scene: &Scene) -> Result<Ran> {
    let data = scene.server.pgdata().display().to_string();
    let place = offsite(scene).display().to_string();
    scene.pgproof(&["init", "--yes", "--pgdata", &data, "--repository", &place, "--name", "offsite"])
}

pub(crate) fn offsite(scene: &Scene) -> PathBuf {
    scene.server.ground().join("offsite")
}

/// Lets `offsite` lag.
pub(crate) fn not_required(scene: &Scene) -> Result<()> {
    configure(scene, "[repository.offsite]\n", "[repository.offsite]\nrequired = false\n")
}

fn configure(scene: &Scene, before: &str, after: &str) -> Result<()> {
    let text = fs::read_to_string(scene.config())?;
    ensure!(text.contains(before), "{text}");
    Ok(fs::write(scene.config(), text.replace(before, after))?)
}

/// The object of a segment.
pub(crate) fn object(repository: &Path, name: &str) -> Result<Option<PathBuf>> {
    for entry in fs::read_dir(repository)? {
        let path = entry?.path();
        if path.is_dir() {
            if let Some(found) = object(&path, name)? {
                return Ok(Some(found));
            }
        } else if path.file_name().is_some_and(|file| file == name) {
            return Ok(Some(path));
        }
    }
    Ok(None)
}

fn holds(repository: &Path, name: &str) -> Result<bool> {
    Ok(object(repository, name)?.is_some())
}

/// Closes a segment; its name.
fn segment(scene: &Scene) -> Result<String> {
    scene.server.sql("SELECT pg_logical_emit_message(false, 'filler', 'x')")?;
    Ok(scene.server.switch_wal()?.file_name(scene.server.wal_segment_size()?))
}

/// What the document says of one repository.
fn of<'a>(document: &'a Value, name: &str) -> Result<&'a Value> {
    let all = document["report"]["repositories"].as_array().with_context(|| document.to_string())?;
    all.iter().find(|one| one["name"] == name).with_context(|| format!("{name} in {document}"))
}

#[test]
fn wal_and_backups_arrive_in_both_and_either_brings_the_server_back() -> Result<()> {
    let scene = Scene::initialised()?;
    let before = fs::read_to_string(scene.config())?;
    let added = add_offsite(&scene)?.succeeded()?;
    assert!(
        added.stdout.contains("added repository offsite to [GROUND]/etc/pgproof.toml"),
        "{}",
        added.stdout
    );
    let config = fs::read_to_string(scene.config())?;
    let lines: Vec<&str> = config.lines().collect();
    assert!(before.lines().all(|line| lines.contains(&line)), "{config}");
    let keys = ["main.key", "offsite.key"].map(|name| fs::read(scene.config().with_file_name(name)));
    assert_ne!(keys[0].as_ref().ok(), keys[1].as_ref().ok());
    assert!(
        add_offsite(&scene)?.succeeded()?.stdout.contains("stays as it is"),
        "a second run changes nothing"
    );
    let explained = scene.pgproof(&["config", "explain", "offsite"])?.succeeded()?;
    assert!(explained.stdout.contains("repository.offsite.key_file"), "{}", explained.stdout);

    let server = &scene.server;
    server.sql("CREATE TABLE t AS SELECT generate_series(1, 1000) AS a")?;
    let backups = scene.pgproof(&["backup", "--json"])?.succeeded()?.json()?;
    let ids = ["main", "offsite"].map(|name| of(&backups, name).map(|one| one["report"]["id"].clone()));
    let ids: Vec<Value> = ids.into_iter().collect::<Result<_>>()?;
    assert!(ids.iter().all(Value::is_string) && ids[0] != ids[1], "{backups}");
    server.sql("INSERT INTO t VALUES (1001)")?;
    let last = server.archive_everything()?.file_name(server.wal_segment_size()?);
    assert!(holds(&scene.repository(), &last)? && holds(&offsite(&scene), &last)?);

    let list = scene.pgproof(&["list", "--json"])?.succeeded()?.json()?;
    assert_eq!(of(&list, "offsite")?["report"]["lineages"][0]["backups"][0]["id"], ids[1]);
    let one = scene.pgproof(&["list", "--json", "--repository", "offsite"])?.succeeded()?.json()?;
    assert_eq!(
        one["report"]["lineages"],
        of(&list, "offsite")?["report"]["lineages"],
        "one has its own shape"
    );
    let shown =
        scene.pgproof(&["show", "--json", ids[1].as_str().unwrap_or_default()])?.succeeded()?.json()?;
    assert_eq!(
        shown["report"]["repositories"].as_array().map(Vec::len),
        Some(1),
        "only offsite has it: {shown}"
    );
    let unknown = scene.pgproof(&["list", "--repository", "ofsite"])?;
    assert!(unknown.code == 3 && unknown.stderr.contains("configured: main, offsite"), "{}", unknown.stderr);
    scene.pgproof(&["verify"])?.succeeded()?;
    let status = scene.pgproof(&["archive", "status", "--json"])?.succeeded()?.json()?;
    assert_eq!(of(&status, "offsite")?["report"]["gaps"], Value::Array(Vec::new()));

    fs::rename(scene.repository(), scene.new_place("gone"))?;
    let ran = scene.pgproof(&["list", "--json"])?;
    assert_eq!(ran.code, 3, "one of them could not be listed");
    assert!(ran.stderr.contains("repository main:"), "{}", ran.stderr);
    let list = ran.json()?;
    assert!(
        of(&list, "main")?["error"]["code"].is_string() && of(&list, "offsite")?["report"].is_object(),
        "{list}"
    );
    let (place, port) = (scene.new_place("restored"), free_port()?);
    let into = place.display().to_string();
    let ran =
        scene.pgproof(&["restore", "--json", "--pgdata", &into, "--start", "--port", &port.to_string()])?;
    let restored = server.copy_started_at(&place, port)?;
    let report = ran.succeeded()?.json()?;
    assert_eq!(report["report"]["repository"], "offsite");
    assert_eq!(report["report"]["passed_over"][0]["name"], "main");
    assert_eq!(report["report"]["passed_over"][0]["is_away"], true);
    assert_eq!(restored.value("SELECT count(*) FROM t")?, "1001");
    Ok(())
}

/// The bucket's table is written by hand, for its credentials; `init` makes what it names, for a second recipient too.
#[test]
fn a_bucket_beside_a_directory_brings_the_server_back_when_the_directory_is_lost() -> Result<()> {
    let scene = Scene::initialised()?;
    let store = S3Server::moto()?;
    let bucket = store.config("main");
    let secret = bucket.secret_access_key.context("the test's store has a secret")?;
    let mut text = fs::read_to_string(scene.config())?;
    write!(
        text,
        "\n[repository.offsite]\nurl = \"s3://{}/offsite\"\nendpoint = \"http://127.0.0.1:{}\"\nregion = \"us-east-1\"\nallow_http = true\n\
         access_key_id = \"{}\"\nsecret_access_key = \"{}\"\nkey_file = \"{}\"\n",
        bucket.bucket,
        store.port(),
        bucket.access_key_id.context("the test's store has a key")?,
        secret.reveal(),
        scene.config().with_file_name("offsite.key").display(),
    )?;
    fs::write(scene.config(), text)?;
    fs::set_permissions(scene.config(), fs::Permissions::from_mode(0o600))?;
    scene.server.account().own(&scene.config())?;
    let (_, recipient) = crate::keys::generate(&scene, "offline.key")?;
    let data = scene.server.pgdata().display().to_string();
    let init = ["init", "--yes", "--pgdata", &data, "--name", "offsite", "--recipient", &recipient];
    scene.pgproof(&init)?.succeeded()?;
    let keys = scene.pgproof(&["key", "list", "--repository", "offsite", "--json"])?.succeeded()?;
    ensure!(keys.stdout.contains(&recipient), "{}", keys.stdout);
    scene.server.load_pgbench(1)?;
    scene.pgproof(&["backup"])?.succeeded()?;
    scene.server.sql("CREATE TABLE last AS SELECT 1 AS a")?;
    scene.server.archive_everything()?;
    scene.pgproof(&["verify"])?.succeeded()?;
    fs::rename(scene.repository(), scene.new_place("gone"))?;
    let restored = scene.restored("from-bucket", &[])?;
    assert_eq!(restored.table_sums()?, scene.server.table_sums()?);
    Ok(())
}

#[test]
fn a_required_repository_that_is_away_holds_archiving_up_and_nothing_is_lost() -> Result<()> {
    let scene = with_offsite()?;
    let away = scene.new_place("away");
    fs::rename(offsite(&scene), &away)?;
    let lost = segment(&scene)?;
    let last = [segment(&scene)?, segment(&scene)?].into_iter().max().context("two")?;
    wait::until_true("the archiver to fail", || {
        Ok(scene.server.value("SELECT coalesce(last_failed_wal, '') FROM pg_stat_archiver")? == lost)
    })?;
    assert!(holds(&scene.repository(), &lost)?, "the other one got it all the same");
    // PostgreSQL offers nothing but the first one, and still.
    wait::until_true("the other one to get the next ones too", || holds(&scene.repository(), &last))?;
    let pg_wal = scene.server.pgdata().join("pg_wal");
    assert!(
        pg_wal.join("archive_status").join(format!("{lost}.ready")).exists() && pg_wal.join(&lost).exists()
    );
    let mut push = scene.command(&["archive", "push", &format!("pg_wal/{lost}")]);
    push.current_dir(scene.server.pgdata());
    let ran = scene.ran(push)?;
    assert_eq!(ran.code, 3);
    assert!(ran.stderr.contains("into repository `offsite`; held by main"), "{}", ran.stderr);
    let status = scene.pgproof(&["archive", "status"])?;
    assert_eq!(status.code, 1);
    assert!(status.stdout.contains("critical [repository-unreachable]"), "{}", status.stdout);

    let backup = scene.pgproof(&["backup", "--json"])?;
    assert_eq!(backup.code, 3, "{}{}", backup.stdout, backup.stderr);
    let backup = backup.json()?;
    assert!(
        of(&backup, "main")?["report"]["id"].is_string() && of(&backup, "offsite")?["error"].is_object(),
        "{backup}"
    );

    fs::rename(&away, offsite(&scene))?;
    scene.server.archive_everything()?;
    assert!(holds(&offsite(&scene), &lost)?);
    scene.pgproof(&["archive", "status"])?.succeeded()?;
    Ok(())
}

#[test]
fn a_repository_that_may_lag_holds_nobody_up_and_what_it_lacks_is_named() -> Result<()> {
    let scene = with_offsite()?;
    not_required(&scene)?;
    let both = segment(&scene)?;
    scene.server.archive_everything()?;
    assert!(holds(&offsite(&scene), &both)?);
    let away = scene.new_place("away");
    fs::rename(offsite(&scene), &away)?;
    let lacking = [segment(&scene)?, segment(&scene)?, segment(&scene)?];
    scene.server.archive_everything()?;
    let unseen = scene.pgproof(&["archive", "status"])?;
    assert_eq!(unseen.code, 1);
    assert!(unseen.stdout.contains("warning [repository-unreachable]"), "{}", unseen.stdout);
    assert!(!unseen.stdout.contains("critical"), "{}", unseen.stdout);
    fs::rename(&away, offsite(&scene))?;
    segment(&scene)?;
    scene.server.archive_everything()?;

    let ran = scene.pgproof(&["archive", "status", "--json"])?;
    assert_eq!(ran.code, 1);
    let status = ran.json()?;
    assert_eq!(of(&status, "main")?["report"]["gaps"], Value::Array(Vec::new()));
    let gap = &of(&status, "offsite")?["report"]["gaps"][0];
    assert_eq!(
        (&gap["first"], &gap["held_by"][0]),
        (&lacking[0].as_str().into(), &"main".into()),
        "{status}"
    );
    let finding = &of(&status, "offsite")?["report"]["findings"][0];
    assert_eq!((&finding["code"], &finding["severity"]), (&"archive-gap".into(), &"warning".into()));
    let remedy = finding["remedies"][0]["command"].as_str().unwrap_or_default();
    assert!(remedy.ends_with("repair --repository offsite --from main"), "{remedy}");

    a_file_comes_from_whoever_has_it(&scene, &both, &lacking)
}

#[test]
fn what_is_wrong_in_one_is_healed_by_the_command_that_is_named() -> Result<()> {
    let scene = with_offsite()?;
    not_required(&scene)?;
    // What no backup needs is not brought back.
    scene.pgproof(&["backup"])?.succeeded()?;
    let away = scene.new_place("away");
    fs::rename(offsite(&scene), &away)?;
    let lacking = segment(&scene)?;
    scene.server.archive_everything()?;
    fs::rename(&away, offsite(&scene))?;
    segment(&scene)?;
    scene.server.archive_everything()?;
    let status = scene.pgproof(&["archive", "status", "--json"])?.json()?;
    run_remedy(&scene, &of(&status, "offsite")?["report"]["findings"][0], " --from main")?;
    ensure!(holds(&offsite(&scene), &lacking)?, "{lacking} was not copied");
    scene.pgproof(&["archive", "status"])?.succeeded()?;

    let hurt = object(&scene.repository(), &lacking)?.context("main has it")?;
    let mut bytes = fs::read(&hurt)?;
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&hurt, bytes)?;
    let verified = scene.pgproof(&["verify", "--json"])?;
    assert_eq!(verified.code, 1, "{}", verified.stderr);
    let verified = verified.json()?;
    let finding = &of(&verified, "main")?["report"]["lineages"][0]["findings"][0];
    assert_eq!(finding["code"], "verify-wal-damaged", "{finding}");
    run_remedy(&scene, finding, "pgproof repair --repository main --from offsite")?;
    scene.pgproof(&["verify"])?.succeeded().map(drop)
}

/// Does what the first remedy of a finding says, which ends with these words.
fn run_remedy(scene: &Scene, finding: &Value, ends: &str) -> Result<()> {
    let remedy = finding["remedies"][0]["command"].as_str().unwrap_or_default();
    ensure!(remedy.ends_with(ends), "{remedy}: {finding:#}");
    let (_, arguments) = remedy.split_once(" repair ").context("a repair")?;
    let arguments: Vec<&str> = std::iter::once("repair").chain(arguments.split(' ')).collect();
    scene.pgproof(&arguments)?.succeeded().map(drop)
}

/// `both` is in both repositories, `only_main` in the first one.
fn a_file_comes_from_whoever_has_it(scene: &Scene, both: &str, only_main: &[String; 3]) -> Result<()> {
    let delivered = scene.server.pgdata().join("pg_wal/RECOVERYXLOG");
    let get = |name: &str, more: &[&str]| -> Result<Ran> {
        let mut command = scene.command(&[&["archive", "get", name, "pg_wal/RECOVERYXLOG"], more].concat());
        command.current_dir(scene.server.pgdata());
        let ran = scene.ran(command)?;
        ensure!(delivered.exists() == (ran.code == 0), "{name}: {}", ran.stderr);
        drop(fs::remove_file(&delivered));
        Ok(ran)
    };
    let of_main = |name: &str| object(&scene.repository(), name)?.context("it is not in main");
    let damage = |name: &str| -> Result<()> {
        let path = of_main(name)?;
        let mut bytes = fs::read(&path)?;
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        Ok(fs::write(&path, bytes)?)
    };
    damage(both)?;
    let ran = get(both, &[])?.succeeded()?;
    assert!(ran.stderr.contains("repository main did not give"), "{}", ran.stderr);
    assert_eq!(get(both, &["--repository", "main"])?.code, 126, "named alone nobody stands in for it");
    fs::remove_file(of_main(both)?)?;
    assert_eq!(get(both, &[])?.code, 0);
    assert_eq!(get(both, &["--repository", "main"])?.code, 1);

    assert_eq!(get(&only_main[0], &[])?.code, 0);
    damage(&only_main[0])?;
    assert_eq!(get(&only_main[0], &[])?.code, 126, "that another one lacks it proves nothing");
    fs::remove_file(of_main(&only_main[1])?)?;
    assert_eq!(get(&only_main[1], &[])?.code, 1, "absent in both");
    let away = scene.new_place("main-away");
    fs::rename(scene.repository(), &away)?;
    assert_eq!(get(&only_main[2], &[])?.code, 126, "who is away may have it");
    assert_eq!(get(both, &[])?.code, 0);
    Ok(fs::rename(&away, scene.repository())?)
}

#[test]
fn a_key_from_elsewhere_opens_the_repository_that_is_named_for_replay_too() -> Result<()> {
    let scene = with_offsite()?;
    let server = &scene.server;
    scene.pgproof(&["backup"])?.succeeded()?;
    server.sql("CREATE TABLE t AS SELECT generate_series(1, 1000) AS a")?;
    server.archive_everything()?;
    let moved = scene.new_place("moved.key").display().to_string();
    fs::rename(scene.config().with_file_name("offsite.key"), &moved)?;
    fs::rename(scene.repository(), scene.new_place("gone"))?;
    let (place, port) = (scene.new_place("restored"), free_port()?);
    let (into, port_text) = (place.display().to_string(), port.to_string());
    let what = ["restore", "--repository", "offsite", "--pgdata", &into, "--start", "--port", &port_text];
    assert_eq!(scene.pgproof(&what)?.code, 3, "the configured key is gone");
    let ran = scene.pgproof(&[&what[..], &["--key-file", &moved]].concat())?;
    let restored = server.copy_started_at(&place, port)?;
    ran.succeeded()?;
    assert_eq!(restored.value("SELECT count(*) FROM t")?, "1000");
    Ok(())
}

#[test]
fn each_repository_keeps_what_its_own_retention_wants() -> Result<()> {
    let scene = with_offsite()?;
    for _ in 0..2 {
        scene.pgproof(&["backup"])?.succeeded()?;
    }
    let own = "[repository.offsite.retention]\nkeep_last = 1\n";
    let text = fs::read_to_string(scene.config())?;
    fs::write(scene.config(), text.replace("#keep_last = 7", "keep_last = 2\n#") + own)?;
    scene.pgproof(&["expire", "--sweep-after", "0s"])?.succeeded()?;
    let list = scene.pgproof(&["list", "--json"])?.succeeded()?.json()?;
    let kept = |name: &str| -> Result<Option<usize>> {
        Ok(of(&list, name)?["report"]["lineages"][0]["backups"].as_array().map(Vec::len))
    };
    assert_eq!((kept("main")?, kept("offsite")?), (Some(2), Some(1)));
    Ok(())
}

#[test]
fn whoever_takes_over_does_so_in_every_repository() -> Result<()> {
    let scene = with_offsite()?;
    scene.pgproof(&["backup"])?.succeeded()?;
    scene.server.archive_everything()?;
    let place = scene.new_place("restored");
    scene.pgproof(&["restore", "--take-over", "--pgdata", &place.display().to_string()])?.succeeded()?;
    let segment = segment(&scene)?;
    for name in ["main", "offsite"] {
        let mut push =
            scene.command(&["archive", "push", "--repository", name, &format!("pg_wal/{segment}")]);
        push.current_dir(scene.server.pgdata());
        let ran = scene.ran(push)?;
        assert!(ran.code == 3 && ran.stderr.contains("took over"), "{name}: {}", ran.stderr);
    }
    Ok(())
}

#[test]
fn what_concerns_one_repository_asks_which_and_takes_it_by_name() -> Result<()> {
    let scene = with_offsite()?;
    for command in [&["key", "list"][..], &["key", "rotate", "--dry-run"], &["dump"]] {
        let refused = scene.pgproof(command)?;
        assert_eq!(refused.code, 3, "{}", refused.stderr);
        ensure!(
            refused.stderr.contains("done with one repository, and 2 are configured"),
            "{}",
            refused.stderr
        );
        ensure!(refused.stderr.contains("--repository: main, offsite"), "{}", refused.stderr);
    }
    let keys = scene.pgproof(&["key", "list", "--repository", "offsite"])?.succeeded()?;
    ensure!(keys.stdout.contains("offsite"), "{}", keys.stdout);
    scene.pgproof(&["dump", "--repository", "offsite"])?.succeeded()?;
    let list = scene.pgproof(&["list", "--json"])?.succeeded()?.json()?;
    let dumps = |name| of(&list, name).map(|one| one["report"]["dumps"].as_array().map(Vec::len));
    assert_eq!((dumps("main")?, dumps("offsite")?), (Some(0), Some(1)), "{list:#}");
    scene.pgproof(&["copy", "--from", "main", "--to", "offsite", "--dry-run"])?.succeeded()?;
    Ok(())
}
