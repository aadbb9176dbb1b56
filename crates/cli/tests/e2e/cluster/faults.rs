//! One fault after the other on the primary of a cluster in namespaces, seen by writers outside: what each costs.
//!
//! `PGPROOF_FAULT_ROUNDS` says how often; once in ordinary runs.

use super::nodes::Cluster;
use super::writer::{Writer, Written};
use anyhow::{Result, ensure};
use pgproof_testkit::wait;
use rustix::process::Signal;
use std::thread;
use std::time::{Duration, Instant};

/// What befalls the primary.
#[derive(Debug, Clone, Copy)]
enum Fault {
    PostmasterKilled,
    HostLost,
    LinkDown,
    AgentFrozen,
    ServerFrozen,
    CutFromStore,
}

const FAULTS: [Fault; 6] = [
    Fault::PostmasterKilled,
    Fault::HostLost,
    Fault::LinkDown,
    Fault::AgentFrozen,
    Fault::ServerFrozen,
    Fault::CutFromStore,
];

/// How long a fault lasts at most before it is mended: longer than it takes to fail over.
const LASTS: Duration = Duration::from_secs(8);

impl Fault {
    fn strike(self, cluster: &mut Cluster, node: &str) -> Result<()> {
        let number = cluster.number(node)?;
        match self {
            Self::PostmasterKilled => cluster.kill_postmaster(node),
            Self::HostLost => {
                cluster.network()?.cut_link(number)?;
                cluster.etcd.kill(number)?;
                cluster.kill_host(node)
            }
            Self::LinkDown => cluster.network()?.cut_link(number),
            Self::AgentFrozen => cluster.freeze_agent(node),
            Self::ServerFrozen => cluster.signal_server(node, Signal::STOP),
            Self::CutFromStore => {
                let ports = cluster.etcd.client_ports();
                cluster.network()?.cut_ports(number, &ports)
            }
        }
    }

    fn mend(self, cluster: &mut Cluster, node: &str) -> Result<()> {
        let number = cluster.number(node)?;
        match self {
            Self::PostmasterKilled => Ok(()),
            Self::HostLost => {
                cluster.network()?.mend_link(number)?;
                cluster.etcd.start_member(number)?;
                cluster.start_agent(node)
            }
            Self::LinkDown => cluster.network()?.mend_link(number),
            Self::AgentFrozen => cluster.thaw_agent(node),
            Self::ServerFrozen => cluster.signal_server(node, Signal::CONT),
            Self::CutFromStore => {
                let ports = cluster.etcd.client_ports();
                cluster.network()?.mend_ports(number, &ports)
            }
        }
    }
}

/// What a fault cost.
#[derive(Debug)]
struct Cost {
    outage: Duration,
    two_writers: Duration,
    rejoin: Duration,
    lost: usize,
    moved: bool,
}

fn suffer(cluster: &mut Cluster, fault: Fault) -> Result<Cost> {
    let (leader, term) = (cluster.leader()?, cluster.term()?);
    let writer = Writer::start(cluster)?;
    writer.wait_for_more(50)?;
    let struck = Instant::now();
    fault.strike(cluster, &leader)?;
    let served =
        |written: &Written| written.last().is_some_and(|at| at > struck + Duration::from_millis(500));
    wait::until("writes to go on", wait::PATIENCE, || Ok(served(&writer.so_far()).then_some(())))?;
    thread::sleep(LASTS.saturating_sub(struck.elapsed()));
    fault.mend(cluster, &leader)?;
    let mended = Instant::now();
    cluster.wait_for_all()?;
    let rejoin = mended.elapsed();
    let written = writer.finish()?;
    let present = cluster.rows(&cluster.leader()?)?;
    Ok(Cost {
        outage: written.longest_outage(),
        two_writers: written.two_writers(),
        rejoin,
        lost: written.acknowledged().filter(|row| !present.contains(row)).count(),
        moved: cluster.term()? > term,
    })
}

#[test]
#[ignore = "needs network namespaces and iptables, and minutes: `make faults` runs it"]
fn no_fault_of_a_host_or_its_network_loses_a_commit_or_makes_two_writers() -> Result<()> {
    let rounds = std::env::var("PGPROOF_FAULT_ROUNDS").ok().and_then(|text| text.parse().ok()).unwrap_or(1);
    let mut cluster = Cluster::start_in_network()?;
    for round in 1..=rounds {
        for fault in FAULTS {
            let cost = suffer(&mut cluster, fault)?;
            println!(
                "round {round} {fault:?}: outage {} ms, {} acknowledged rows lost, two writers for {} ms, whole again after {} ms, {}",
                cost.outage.as_millis(),
                cost.lost,
                cost.two_writers.as_millis(),
                cost.rejoin.as_millis(),
                if cost.moved { "by a failover" } else { "in place" }
            );
            ensure!(cost.lost == 0 && cost.two_writers.is_zero(), "{fault:?}: {cost:?}");
        }
    }
    Ok(())
}
