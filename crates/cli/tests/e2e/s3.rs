//! The whole way there and back with the repository in S3: two real server processes, emulators both.

use crate::scene::{Scene, safe_server};
use anyhow::{Context, Result};
use pgproof_testkit::free_port;
use pgproof_testkit::s3::S3Server;
use std::fs;
use std::os::unix::fs::PermissionsExt;

#[test]
fn a_server_is_backed_up_to_moto_and_comes_back() -> Result<()> {
    there_and_back(&S3Server::moto()?)
}

#[test]
#[ignore = "builds s3s-fs from its source: ten minutes the first time"]
fn a_server_is_backed_up_to_s3s_and_comes_back() -> Result<()> {
    there_and_back(&S3Server::s3s()?)
}

fn there_and_back(store: &S3Server) -> Result<()> {
    let scene = Scene::new(safe_server())?;
    configure_at(&scene, store, store.port())?;
    let data = scene.server.pgdata().display().to_string();
    scene.pgproof(&["init", "--yes", "--restart", "--pgdata", &data])?.succeeded()?;
    comes_back(&scene)
}

/// Backups, WAL and what they restore to, verified before and after most of it has expired.
pub(crate) fn comes_back(scene: &Scene) -> Result<()> {
    scene.server.load_pgbench(1)?;
    scene.pgproof(&["backup"])?.succeeded()?;
    scene.server.run_pgbench(1)?;
    let second = scene.pgproof(&["backup", "--json"])?.succeeded()?.json()?;
    assert_eq!(second["report"]["gaps"], serde_json::json!([]));
    scene.server.sql("CREATE TABLE last AS SELECT 1 AS a")?;
    scene.server.archive_everything()?;
    let before = scene.server.table_sums()?;
    let (place, port) = (scene.new_place("restored"), free_port()?);
    let (into, port_text) = (place.display().to_string(), port.to_string());
    let ran = scene.pgproof(&["restore", "--pgdata", &into, "--start", "--port", &port_text])?;
    let restored = scene.server.copy_started_at(&place, port)?;
    ran.succeeded()?;
    assert_eq!(restored.table_sums()?, before);
    scene.pgproof(&["verify"])?.succeeded()?;
    scene.pgproof(&["expire", "--keep-last", "1", "--sweep-after", "0s"])?.succeeded()?;
    scene.pgproof(&["verify"])?.succeeded()?;
    Ok(())
}

/// The credentials lie in the file, because the server's archiver has no other place to take them from. The port is the
/// store's own, or that of what stands before it.
pub(crate) fn configure_at(scene: &Scene, store: &S3Server, port: u16) -> Result<()> {
    let bucket = store.config("main");
    let secret = bucket.secret_access_key.context("the test's store has a secret")?;
    let file = scene.config();
    let directory = file.parent().context("a file lies in a directory")?;
    scene.server.account().create_dir(directory)?;
    let text = format!(
        "[instance]\npgdata = \"{}\"\n[repository.main]\nurl = \"s3://{}/main\"\nendpoint = \"http://127.0.0.1:{port}\"\nrequest_timeout = \"5s\"\nretry_for = \"10s\"\nregion = \"us-east-1\"\n\
         access_key_id = \"{}\"\nsecret_access_key = \"{}\"\nallow_http = true\nkey_file = \"{}\"\n",
        scene.server.pgdata().display(),
        bucket.bucket,
        bucket.access_key_id.context("the test's store has a key")?,
        secret.reveal(),
        directory.join("main.key").display(),
    );
    fs::write(&file, text)?;
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600))?;
    scene.server.account().own(&file)
}
