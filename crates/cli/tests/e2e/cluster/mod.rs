//! Three nodes, etcd and a writer: what a failure costs, and that nothing acknowledged is lost.

mod faults;
mod network;
mod nodes;
mod writer;

use anyhow::{Context, Result, ensure};
use nodes::Cluster;
use pgproof_testkit::wait;
use std::time::Duration;
use writer::Writer;

/// The rows that were acknowledged are all on the primary that leads in the end, and every node follows it.
fn nothing_lost(cluster: &Cluster, writer: Writer) -> Result<writer::Written> {
    let written = writer.finish()?;
    cluster.wait_for_all()?;
    let leader = cluster.leader()?;
    let present = cluster.rows(&leader)?;
    let lost: Vec<u64> = written.acknowledged().filter(|row| !present.contains(row)).collect();
    ensure!(lost.is_empty(), "{} acknowledged rows are lost: {lost:?}", lost.len());
    Ok(written)
}

#[test]
fn killed_servers_and_hosts_cost_an_outage_and_no_commit_and_everyone_comes_back() -> Result<()> {
    let mut cluster = Cluster::start()?;
    let writer = Writer::start(&cluster)?;
    writer.wait_for_more(20)?;

    // The postmaster alone: seen at once.
    let first = cluster.leader()?;
    cluster.kill_postmaster(&first)?;
    writer.wait_for_more(20)?;

    // Everything of a node, its agent and fence too, as when its power is cut.
    cluster.wait_for_all()?;
    let second = cluster.leader()?;
    let term = cluster.term()?;
    cluster.kill_host(&second)?;
    writer.wait_for_more(20)?;
    let third = cluster.leader()?;
    ensure!(third != second, "nobody took over from {second}");
    ensure!(cluster.term()? > term);
    cluster.start_agent(&second)?;

    let written = nothing_lost(&cluster, writer)?;
    println!("longest outage {:?}, {} rows", written.longest_outage(), written.acknowledgements.len());
    Ok(())
}

#[test]
fn a_frozen_agent_is_fenced_and_a_killed_one_costs_nothing() -> Result<()> {
    let mut cluster = Cluster::start()?;
    let writer = Writer::start(&cluster)?;
    writer.wait_for_more(20)?;
    let first = cluster.leader()?;
    let term = cluster.term()?;
    cluster.kill_agent(&first)?;
    cluster.start_agent(&first)?;
    writer.wait_for_more(50)?;
    ensure!(cluster.term()? == term, "a killed agent cost a term");

    cluster.freeze_agent(&first)?;
    wait::until("another leader", wait::PATIENCE, || {
        Ok(cluster.leader().ok().filter(|leader| *leader != first))
    })?;
    writer.wait_for_more(20)?;
    cluster.thaw_agent(&first)?;
    nothing_lost(&cluster, writer)?;
    Ok(())
}

#[test]
fn a_switchover_moves_the_primary_and_the_store_may_be_away_for_a_while() -> Result<()> {
    let cluster = Cluster::start()?;
    let writer = Writer::start(&cluster)?;
    writer.wait_for_more(20)?;
    let first = cluster.leader()?;
    let to = cluster.names().into_iter().find(|name| *name != first).context("another node")?;
    let moved = cluster.pgproof(&["cluster", "switchover", "--to", &to, "--timeout", "20s", "--json"])?;
    ensure!(
        moved.contains(&format!("\"to\": \"{to}\"")),
        "{moved}
{}",
        cluster.logs()
    );
    writer.wait_for_more(20)?;
    cluster.wait_for_all()?;

    // The primary goes on while enough voters refuse to elect anybody else.
    let term = cluster.term()?;
    cluster.etcd.freeze(0)?;
    writer.wait_for_more(1)?;
    let before = writer.count();
    std::thread::sleep(Duration::from_secs(8));
    let after = writer.count();
    cluster.etcd.thaw(0)?;
    ensure!(after > before + 10, "the primary did not go on without the store: {before} to {after}");
    writer.wait_for_more(20)?;
    ensure!(cluster.term()? == term, "a store that was away cost a term\n{}", cluster.logs());
    nothing_lost(&cluster, writer)?;
    Ok(())
}

#[test]
fn doctor_tells_who_is_silent_and_that_nobody_would_take_over() -> Result<()> {
    let mut cluster = Cluster::start()?;
    let codes = |cluster: &Cluster| -> Result<Vec<String>> {
        let said: serde_json::Value = serde_json::from_str(&cluster.pgproof(&["doctor", "--json"])?)?;
        let all = said["report"]["findings"].as_array().context("findings")?.clone();
        let all = all.iter().filter(|one| one["code"].to_string().contains("cluster"));
        Ok(all.map(|one| format!("{}:{}", one["code"], one["subject"]).replace('"', "")).collect())
    };
    ensure!(codes(&cluster)?.is_empty(), "{:?}", codes(&cluster)?);
    cluster.pgproof(&["cluster", "pause"])?;
    ensure!(codes(&cluster)? == ["cluster-paused:"], "{:?}", codes(&cluster)?);
    cluster.pgproof(&["cluster", "resume"])?;
    let leader = cluster.leader()?;
    let other =
        cluster.names().into_iter().find(|name| *name != leader && name != "n1").context("a standby")?;
    cluster.kill_agent(&other)?;
    wait::until_true("doctor to name the silent member", || {
        Ok(codes(&cluster)?.iter().any(|code| *code == format!("cluster-member-silent:{other}")))
    })?;
    cluster.start_agent(&other)?;
    cluster.wait_for_all()?;
    // Without a majority of the store, and without its leader, there is no primary.
    for name in cluster.names() {
        cluster.kill_host(&name)?;
    }
    let found = codes(&cluster)?;
    ensure!(found.iter().any(|code| code.starts_with("cluster-without-primary")), "{found:?}");
    Ok(())
}
