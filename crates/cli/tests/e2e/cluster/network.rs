//! A network of namespaces: one for each node, all on one bridge of this host, with links that can be cut.

use anyhow::{Context, Result, ensure};
use pgproof_testkit::EtcdPlace;
use std::process::Command;

/// The network; taken down when dropped.
pub(super) struct Network {
    /// Distinguishes the networks of tests that run at the same time.
    id: u32,
    nodes: usize,
}

impl Network {
    /// Makes the namespaces. Needs root; a test without it fails, because what it would have shown was not shown.
    pub(super) fn new(nodes: usize) -> Result<Self> {
        let network = Self { id: std::process::id() % 250, nodes };
        let (bridge, id) = (network.bridge(), network.id);
        ip(&["link", "add", &bridge, "type", "bridge"])?;
        ip(&["addr", "add", &format!("10.213.{id}.254/24"), "dev", &bridge])?;
        ip(&["link", "set", &bridge, "up"])?;
        for node in 0..nodes {
            let (space, link) = (network.namespace(node), network.link(node));
            ip(&["netns", "add", &space])?;
            ip(&["link", "add", &link, "type", "veth", "peer", "name", "eth0", "netns", &space])?;
            ip(&["link", "set", &link, "master", &bridge, "up"])?;
            ip(&["-n", &space, "addr", "add", &format!("{}/24", network.host(node)), "dev", "eth0"])?;
            ip(&["-n", &space, "link", "set", "eth0", "up"])?;
            ip(&["-n", &space, "link", "set", "lo", "up"])?;
        }
        Ok(network)
    }

    fn bridge(&self) -> String {
        format!("pgp{}br", self.id)
    }

    fn link(&self, node: usize) -> String {
        format!("pgp{}v{node}", self.id)
    }

    fn namespace(&self, node: usize) -> String {
        format!("pgp{}n{node}", self.id)
    }

    fn host(&self, node: usize) -> String {
        format!("10.213.{}.{}", self.id, node + 1)
    }

    /// Where each node is.
    pub(super) fn places(&self) -> Vec<EtcdPlace> {
        let place = |node| EtcdPlace { host: self.host(node), namespace: Some(self.namespace(node)) };
        (0..self.nodes).map(place).collect()
    }

    /// Pulls the plug of a node's link, or puts it in again.
    pub(super) fn cut_link(&self, node: usize) -> Result<()> {
        ip(&["link", "set", &self.link(node), "down"])
    }

    pub(super) fn mend_link(&self, node: usize) -> Result<()> {
        ip(&["link", "set", &self.link(node), "up"])
    }

    /// Drops what a node sends to these TCP ports, its own member of etcd's among them.
    pub(super) fn cut_ports(&self, node: usize, ports: &[u16]) -> Result<()> {
        ports.iter().try_for_each(|port| self.rule("-I", node, *port))
    }

    pub(super) fn mend_ports(&self, node: usize, ports: &[u16]) -> Result<()> {
        ports.iter().try_for_each(|port| self.rule("-D", node, *port))
    }

    fn rule(&self, verb: &str, node: usize, port: u16) -> Result<()> {
        let (space, port) = (self.namespace(node), port.to_string());
        let rule = [verb, "OUTPUT", "-p", "tcp", "--dport", &port, "-j", "DROP"];
        run("ip", &[&["netns", "exec", &space, "iptables", "-w"], &rule[..]].concat())
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        // What is gone already is what is wanted.
        for node in 0..self.nodes {
            let _ = ip(&["netns", "del", &self.namespace(node)]);
            let _ = ip(&["link", "del", &self.link(node)]);
        }
        let _ = ip(&["link", "del", &self.bridge()]);
    }
}

fn ip(arguments: &[&str]) -> Result<()> {
    run("ip", arguments)
}

fn run(program: &str, arguments: &[&str]) -> Result<()> {
    let output = Command::new(program).args(arguments).output().with_context(|| format!("run {program}"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{program} {}: {}", arguments.join(" "), said.trim());
    Ok(())
}
