//! Repositories in Google Cloud Storage and Azure Blob, and under S3 object lock: a server goes there and comes back.

use super::s3::comes_back;
use super::scene::{Scene, safe_server};
use anyhow::{Context, Result, ensure};
use pgproof_testkit::azure::AzureServer;
use pgproof_testkit::gcs::GcsServer;
use pgproof_testkit::s3::S3Server;
use std::fs;
use std::os::unix::fs::PermissionsExt;

#[test]
fn a_server_is_backed_up_to_google_cloud_storage_and_comes_back() -> Result<()> {
    let store = GcsServer::start()?;
    let bucket = store.config("main");
    let endpoint = bucket.endpoint.context("the test's store has an address")?;
    let settings =
        format!("url = \"gs://{}/main\"\nendpoint = \"{endpoint}\"\nanonymous = true\n", bucket.bucket);
    comes_back(&initialised(&settings)?)
}

#[test]
fn a_server_is_backed_up_to_azure_and_comes_back() -> Result<()> {
    let store = AzureServer::start()?;
    let container = store.config("main");
    let endpoint = container.endpoint.context("the test's store has an address")?;
    let key = container.access_key.context("the test's store has a key")?;
    let settings = format!(
        "url = \"az://{}/main\"\nendpoint = \"{endpoint}\"\naccount = \"{}\"\naccess_key = \"{}\"\n",
        container.container,
        container.account.context("the test's store has an account")?,
        key.reveal(),
    );
    comes_back(&initialised(&settings)?)
}

#[test]
fn under_object_lock_expire_waits_says_until_when_and_breaks_nothing() -> Result<()> {
    let store = S3Server::moto()?;
    store.lockable_bucket("locked")?;
    let bucket = store.config("main");
    let settings = format!(
        "url = \"s3://locked/main\"\nendpoint = \"{}\"\nregion = \"us-east-1\"\naccess_key_id = \"x\"\n\
         secret_access_key = \"x\"\nobject_lock_days = 3\nobject_lock_mode = \"compliance\"\n",
        bucket.endpoint.context("the test's store has an address")?,
    );
    let scene = initialised(&settings)?;
    scene.pgproof(&["backup"])?.succeeded()?;
    scene.pgproof(&["backup"])?.succeeded()?;
    let expire = ["expire", "--keep-last", "1", "--sweep-after", "0s"];
    let ran = scene.pgproof(&expire)?.succeeded()?;
    ensure!(ran.stdout.contains("object lock holds its objects, removed from 20"), "{}", ran.stdout);
    ensure!(ran.stdout.contains("removed 0 backups, 0 packs and 0 WAL segments"), "{}", ran.stdout);
    scene.pgproof(&["verify"])?.succeeded()?;
    // The first one is marked, and still whole.
    let again = scene.pgproof(&expire)?.succeeded()?;
    ensure!(again.stdout.contains("object lock holds its objects"), "{}", again.stdout);
    Ok(())
}

/// The credentials lie in the file, because the server's archiver has no other place to take them from.
fn initialised(settings: &str) -> Result<Scene> {
    let scene = Scene::new(safe_server())?;
    let file = scene.config();
    let directory = file.parent().context("a file lies in a directory")?;
    scene.server.account().create_dir(directory)?;
    let data = scene.server.pgdata().display().to_string();
    let key = directory.join("main.key");
    let text = format!(
        "[instance]\npgdata = \"{data}\"\n[repository.main]\n{settings}allow_http = true\nkey_file = \"{}\"\n",
        key.display()
    );
    fs::write(&file, text)?;
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600))?;
    scene.server.account().own(&file)?;
    let ran = scene.pgproof(&["init", "--yes", "--restart", "--pgdata", &data])?.succeeded()?;
    ensure!(!ran.stdout.contains("store-lacks"), "the store does everything: {}", ran.stdout);
    Ok(scene)
}
