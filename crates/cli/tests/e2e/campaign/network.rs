//! An S3 service behind a network that loses, delays, cuts and replays, or that lies.

use super::{all_is_well, ended_well, rounds};
use crate::s3::configure_at;
use crate::scene::{Scene, safe_server};
use anyhow::{Context, Result, ensure};
use pgproof_testkit::Seed;
use pgproof_testkit::s3::S3Server;
use pgproof_testkit::unreliable::{Trouble, Unreliable};
use std::time::Duration;

/// Troubles that nobody can be blamed for, and how many requests of a hundred meet them.
const HONEST: [(Trouble, u32); 7] = [
    (Trouble::Silence(Duration::from_secs(1)), 5),
    (Trouble::LostReply, 10),
    (Trouble::Status(500), 20),
    (Trouble::Status(503), 25),
    (Trouble::CutReply, 10),
    (Trouble::Late(Duration::from_millis(50)), 100),
    (Trouble::StaleList, 50),
];

fn archived_over(network: &Unreliable, store: &S3Server) -> Result<Scene> {
    let scene = Scene::new(safe_server())?;
    configure_at(&scene, store, network.port())?;
    let data = scene.server.pgdata().display().to_string();
    scene.pgproof(&["init", "--yes", "--restart", "--pgdata", &data])?.succeeded()?;
    scene.server.load_pgbench(1)?;
    scene.pgproof(&["backup"])?.succeeded()?;
    Ok(scene)
}

/// Everything that writes, while the trouble lasts.
fn work(scene: &Scene, number: usize) -> Result<()> {
    scene.server.sql(&format!(
        "UPDATE pgbench_accounts SET abalance = {number} WHERE aid % 10 = {}; CREATE TABLE \"work {number}\" AS SELECT {number} AS a",
        number % 10
    ))?;
    ended_well(&scene.pgproof(&["backup"])?)?;
    scene.server.switch_wal()?;
    ended_well(&scene.pgproof(&["verify"])?)?;
    ended_well(&scene.pgproof(&["expire", "--keep-last", "2", "--sweep-after", "0s"])?)?;
    ended_well(&scene.pgproof(&["list"])?)
}

#[test]
fn an_s3_service_that_fails_costs_time_and_nothing_else() -> Result<()> {
    let seed = Seed::from_environment();
    let store = S3Server::moto()?;
    let network = Unreliable::before(store.port(), &seed)?;
    let scene = archived_over(&network, &store)?;
    let mut number = 0;
    for round in 0..rounds()? {
        for (trouble, percent) in HONEST {
            number += 1;
            // Listings of the beginning are what a stale one shows.
            drop(scene.pgproof(&["list"])?);
            network.suffer(trouble, f64::from(percent) / 100.0);
            work(&scene, number).with_context(|| format!("{trouble:?}, {seed:?}"))?;
            let struck = network.heal();
            ensure!(struck > 0, "{trouble:?} struck nothing");
            scene.server.archive_everything().with_context(|| format!("after {trouble:?}"))?;
            scene
                .pgproof(&["verify"])?
                .succeeded()
                .with_context(|| format!("after {trouble:?}, {seed:?}"))?;
        }
        all_is_well(&scene, &format!("network-{round}")).with_context(|| format!("{seed:?}"))?;
    }
    Ok(())
}

/// A service that says "done" and forgets: what is missing is named before anybody needs it, and the next backup is whole.
#[test]
fn what_a_lying_s3_service_forgot_is_named() -> Result<()> {
    let seed = Seed::from_environment();
    for round in 0..rounds()? {
        let store = S3Server::moto()?;
        let network =
            Unreliable::before(store.port(), &Seed::fixed(seed.value().wrapping_add(round.into())))?;
        let scene = archived_over(&network, &store)?;
        network.suffer(Trouble::Forget, 0.5);
        scene.server.sql("CREATE TABLE forgotten AS SELECT generate_series(1, 100000) AS a")?;
        let backup = scene.pgproof(&["backup", "--full"])?;
        ended_well(&backup)?;
        for _ in 0..4 {
            scene.server.sql("INSERT INTO forgotten VALUES (0)")?;
            scene.server.switch_wal()?;
        }
        ended_well(&scene.pgproof(&["list"])?)?;
        ensure!(network.heal() > 0, "nothing was forgotten");
        scene.server.archive_everything()?;
        let verified = scene.pgproof(&["verify", "--json"])?;
        let status = scene.pgproof(&["archive", "status", "--json"])?;
        let told = verified.code == 1 || status.code == 1 || backup.code == 3;
        ensure!(told, "half of what was written is gone and nobody noticed, {seed:?}\n{}", verified.stdout);
        // What is gone stays gone; what comes after it is whole.
        scene.pgproof(&["backup", "--full"])?.succeeded()?;
        scene.comes_back(&format!("forgotten-{round}"), &[])?;
    }
    Ok(())
}
