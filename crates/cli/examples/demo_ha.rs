//! The demonstration behind `make demo-ha`: three nodes and etcd on this host, a writer, and two failures.
//!
//! The postmaster of the primary is killed, then everything of the node that leads: agent, fence and server. What each cost is measured by
//! the writers, and every row that was acknowledged is looked for at the end. All of it lies in one temporary directory that is gone afterwards.

#![allow(clippy::print_stdout, reason = "this is a program that shows something")]

#[path = "../tests/e2e/cluster/network.rs"]
#[allow(dead_code, reason = "the demonstration needs no namespaces")]
mod network;
#[path = "../tests/e2e/cluster/nodes.rs"]
#[allow(dead_code, reason = "the tests do more to a cluster")]
mod nodes;
#[path = "../tests/e2e/cluster/writer.rs"]
#[allow(dead_code, reason = "the tests ask more of a writer")]
mod writer;

/// What the modules of the tests take from theirs.
mod scene {
    use pgproof_testkit::Pgproof;
    use std::path::{Path, PathBuf};
    use std::sync::LazyLock;

    pub(crate) fn program() -> &'static Path {
        static PROGRAM: LazyLock<PathBuf> =
            LazyLock::new(|| Pgproof::new().expect("the program is built").binary().to_owned());
        &PROGRAM
    }
}

use anyhow::{Result, ensure};
use nodes::Cluster;
use std::thread;
use std::time::{Duration, Instant};
use writer::Writer;

/// How long the applications write before and after each failure.
const WORK: Duration = Duration::from_secs(3);

fn main() -> Result<()> {
    let began = Instant::now();
    let step = |text: &str| println!("\n[{:5.1} s] {text}", began.elapsed().as_secs_f64());
    step("Three nodes and etcd: initdb on one, clones on the others, commits wait for one of two standbys");
    let mut cluster = Cluster::start()?;
    print!("{}", cluster.pgproof(&["cluster", "status"])?);

    step("Applications write; then kill -9 of the primary's postmaster");
    let outage = |writer: Writer| -> Result<writer::Written> {
        thread::sleep(WORK);
        writer.finish()
    };
    let writer = Writer::start(&cluster)?;
    thread::sleep(WORK);
    cluster.kill_postmaster(&cluster.leader()?)?;
    writer.wait_for_more(1)?;
    let first = outage(writer)?;
    println!("outage seen by the applications: {} ms", first.longest_outage().as_millis());
    cluster.wait_for_all()?;

    let (lost_node, term) = (cluster.leader()?, cluster.term()?);
    step(&format!("kill -9 of everything on {lost_node}, which leads: agent, fence and server"));
    let writer = Writer::start(&cluster)?;
    thread::sleep(WORK);
    cluster.kill_host(&lost_node)?;
    let second = outage(writer)?;
    ensure!(cluster.term()? > term, "nobody took over");
    println!("outage seen by the applications: {} ms", second.longest_outage().as_millis());
    print!("{}", cluster.pgproof(&["cluster", "status"])?);

    step(&format!("{lost_node} comes back, and nobody helps it"));
    let back = Instant::now();
    cluster.start_agent(&lost_node)?;
    cluster.wait_for_all()?;
    println!("a standby again after {} ms", back.elapsed().as_millis());
    print!("{}", cluster.pgproof(&["cluster", "explain"])?);

    step("Every acknowledged row is looked for");
    let present = cluster.rows(&cluster.leader()?)?;
    let acknowledged: Vec<u64> = first.acknowledged().chain(second.acknowledged()).collect();
    let lost = acknowledged.iter().filter(|row| !present.contains(row)).count();
    println!("{} rows were acknowledged, {lost} of them are lost", acknowledged.len());
    ensure!(lost == 0, "acknowledged commits are lost");
    step("Done");
    Ok(())
}
