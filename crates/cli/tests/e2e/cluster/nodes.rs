//! Three agents with their servers on this host, and everything that can befall them.

use super::network::Network;
use crate::scene::program;
use anyhow::{Context, Result, bail, ensure};
use pgproof_ha::fence::{kill_server, server_processes};
use pgproof_pg::MajorVersion;
use pgproof_testkit::{Account, Etcd, EtcdPlace, Server, free_port, wait};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    os::unix::{fs::PermissionsExt, process::CommandExt},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};
use tempfile::TempDir;

const NAMES: [&str; 3] = ["n1", "n2", "n3"];

/// How long a cluster may take to be whole.
const WHOLE: Duration = Duration::from_secs(120);

pub(super) struct Node {
    place: EtcdPlace,
    folder: PathBuf,
    config: PathBuf,
    port: u16,
    agent: Option<Child>,
}

impl Node {
    fn data(&self) -> PathBuf {
        self.folder.join("data")
    }
}

pub(super) struct Cluster {
    pub(super) etcd: Etcd,
    nodes: BTreeMap<String, Node>,
    account: Account,
    server: Server,
    ground: TempDir,
    /// Dropped last: what runs in a namespace keeps it alive.
    network: Option<Network>,
}

impl Cluster {
    /// Starts three nodes and one etcd on this host's loopback, and waits until both standbys vote.
    pub(super) fn start() -> Result<Self> {
        let place = EtcdPlace { host: "127.0.0.1".to_owned(), namespace: None };
        Self::start_at(Etcd::start(1)?, vec![place; NAMES.len()], None)
    }

    /// Starts three nodes, each with a member of etcd, in network namespaces of their own.
    pub(super) fn start_in_network() -> Result<Self> {
        let network = Network::new(NAMES.len())?;
        Self::start_at(Etcd::start_at(network.places())?, network.places(), Some(network))
    }

    fn start_at(etcd: Etcd, places: Vec<EtcdPlace>, network: Option<Network>) -> Result<Self> {
        let (account, server) = (Account::for_servers()?, Server::of(MajorVersion::V18)?);
        let place = if Path::new("/dev/shm").is_dir() { "/dev/shm" } else { "/tmp" };
        let ground = tempfile::Builder::new().prefix("pgproof-").tempdir_in(place)?;
        fs::set_permissions(ground.path(), fs::Permissions::from_mode(0o755))?;
        let mut cluster = Self { etcd, nodes: BTreeMap::new(), account, server, ground, network };
        for (name, place) in NAMES.into_iter().zip(places) {
            cluster.prepare(name, place)?;
            cluster.start_agent(name)?;
        }
        cluster.wait_for_all()?;
        let leader = cluster.leader()?;
        cluster.psql(&leader, "CREATE TABLE rows (id bigint PRIMARY KEY)")?;
        Ok(cluster)
    }

    fn prepare(&mut self, name: &str, place: EtcdPlace) -> Result<()> {
        let folder = self.ground.path().join(name);
        self.account.create_dir(&folder)?;
        let (port, agent_port) = (free_port()?, free_port()?);
        let hba = folder.join("hba.conf");
        fs::write(&hba, "local all all trust\nhost all all all trust\nhost replication all all trust\n")?;
        let config = folder.join("pgproof.toml");
        let text = format!(
            "[instance]\npgdata = \"{data}\"\nport = {port}\nsocket_directory = \"{folder}\"\nuser = \"postgres\"\n\
             [cluster]\nnode = \"{name}\"\netcd = \"{etcd}\"\nhost = \"{host}\"\nagent_port = {agent_port}\n\
             agent_listen = \"{host}\"\nlisten_addresses = \"{host}\"\ndirectory = \"{folder}\"\nrto = \"5s\"\n\
             programs = \"{programs}\"\nfounding = {founding}\nhba_file = \"{hba}\"\n",
            host = place.host,
            data = folder.join("data").display(),
            folder = folder.display(),
            etcd = self.etcd.endpoints().join(","),
            programs = self.server.bin().display(),
            founding = name == "n1",
            hba = hba.display(),
        );
        fs::write(&config, text)?;
        for path in [&hba, &config] {
            self.account.own(path)?;
        }
        self.nodes.insert(name.to_owned(), Node { place, folder, config, port, agent: None });
        Ok(())
    }

    pub(super) fn names(&self) -> Vec<String> {
        self.nodes.keys().cloned().collect()
    }

    fn node(&self, name: &str) -> Result<&Node> {
        self.nodes.get(name).with_context(|| format!("no node {name}"))
    }

    pub(super) fn start_agent(&mut self, name: &str) -> Result<()> {
        let node = self.node(name)?;
        let log = fs::OpenOptions::new().create(true).append(true).open(node.folder.join("agent.log"))?;
        let mut command = match &node.place.namespace {
            // It becomes the servers' account by itself.
            Some(namespace) => {
                let mut command = Command::new("ip");
                command.args(["netns", "exec", namespace]).arg(program());
                command
            }
            None => {
                let mut command = Command::new(program());
                self.account.apply(&mut command);
                command
            }
        };
        command.arg("agent").arg("--config").arg(&node.config).current_dir("/");
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).process_group(0);
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("PG") {
                command.env_remove(&name);
            }
        }
        let agent = command.spawn().context("run the agent")?;
        self.nodes.get_mut(name).context("the node")?.agent = Some(agent);
        Ok(())
    }

    /// Runs the program with the first node's configuration; what it printed.
    pub(super) fn pgproof(&self, arguments: &[&str]) -> Result<String> {
        let node = self.node("n1")?;
        let mut command = Command::new(program());
        command.args(arguments).arg("--config").arg(&node.config).current_dir("/").stdin(Stdio::null());
        self.account.apply(&mut command);
        let output = command.output()?;
        let (said, why) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        ensure!(
            matches!(output.status.code(), Some(0 | 1)),
            "{arguments:?}: {}\n{said}\n{why}",
            output.status
        );
        Ok(said.into_owned())
    }

    fn status(&self) -> Result<Value> {
        let text = self.pgproof(&["cluster", "status", "--json"])?;
        let json: Value = serde_json::from_str(&text).with_context(|| format!("not JSON: {text}"))?;
        Ok(json.get("report").cloned().unwrap_or(json))
    }

    pub(super) fn leader(&self) -> Result<String> {
        let status = self.status()?;
        Ok(status["leader"].as_str().with_context(|| format!("no leader in {status}"))?.to_owned())
    }

    pub(super) fn term(&self) -> Result<u64> {
        self.status()?["term"].as_u64().context("no term")
    }

    /// Waits until one leads and all others stream from it and vote.
    pub(super) fn wait_for_all(&self) -> Result<()> {
        let whole = wait::until("all nodes to be back", WHOLE, || {
            let Ok(status) = self.status() else { return Ok(None) };
            let members = status["members"].as_array().cloned().unwrap_or_default();
            let is = |role: &str| members.iter().filter(|member| member["role"] == role).count();
            let votes = members.iter().filter(|member| member["votes"] == true).count();
            let protected = status["synchronous"] == 1 && status["available"] == true && votes == 2;
            let whole = protected && is("primary") == 1 && is("standby") == 2;
            Ok((whole && status["election"].is_null()).then_some(()))
        });
        whole.with_context(|| self.logs())
    }

    pub(super) fn logs(&self) -> String {
        let tail = |path: &Path, lines: usize| {
            let text = fs::read_to_string(path).unwrap_or_default();
            let all: Vec<&str> = text.lines().collect();
            all[all.len().saturating_sub(lines)..].join("\n")
        };
        let one = |(name, node): (&String, &Node)| {
            let agent = tail(&node.folder.join("agent.log"), 40);
            let server = tail(&node.folder.join("postgresql.log"), 12);
            format!("--- {name}\n{agent}\n--- its server\n{server}\n")
        };
        let status = self.pgproof(&["cluster", "status"]).unwrap_or_else(|error| format!("{error:#}"));
        self.nodes.iter().map(one).collect::<String>() + &status
    }

    /// A connection string that reaches whoever is primary.
    pub(super) fn connection_strings(&self) -> Vec<String> {
        let one = |node: &Node| {
            format!(
                "host={} port={} user=postgres dbname=postgres connect_timeout=1",
                node.place.host, node.port
            )
        };
        self.nodes.values().map(one).collect()
    }

    fn client(&self, name: &str) -> Result<postgres::Client> {
        let Node { place, port, .. } = self.node(name)?;
        let string =
            format!("host={} port={port} user=postgres dbname=postgres connect_timeout=5", place.host);
        postgres::Client::connect(&string, postgres::NoTls).with_context(|| format!("connect to {name}"))
    }

    fn psql(&self, name: &str, sql: &str) -> Result<()> {
        self.client(name)?.batch_execute(sql).with_context(|| format!("{name}: {sql}"))
    }

    pub(super) fn rows(&self, name: &str) -> Result<BTreeSet<u64>> {
        let rows = self.client(name)?.query("SELECT id FROM rows", &[])?;
        Ok(rows.iter().map(|row| row.get::<_, i64>(0).cast_unsigned()).collect())
    }

    pub(super) fn kill_postmaster(&self, name: &str) -> Result<()> {
        let text = fs::read_to_string(self.node(name)?.data().join("postmaster.pid"))?;
        let pid = text.lines().next().and_then(|line| line.trim().parse().ok()).and_then(Pid::from_raw);
        kill_process(pid.context("a postmaster")?, Signal::KILL).context("kill the postmaster")
    }

    /// The agent, its fence and the server, at once.
    pub(super) fn kill_host(&mut self, name: &str) -> Result<()> {
        let (folder, data) = (self.node(name)?.folder.clone(), self.node(name)?.data());
        self.kill_agent(name)?;
        kill_fence(&folder)?;
        kill_server(&data, wait::PATIENCE)?;
        Ok(())
    }

    pub(super) fn kill_agent(&mut self, name: &str) -> Result<()> {
        let agent = self.nodes.get_mut(name).and_then(|node| node.agent.take());
        let Some(mut agent) = agent else { bail!("{name} has no agent") };
        // Its whole group, as a service manager would.
        let _ = rustix::process::kill_process_group(Pid::from_child(&agent), Signal::KILL);
        agent.wait()?;
        Ok(())
    }

    fn signal_agent(&self, name: &str, signal: Signal) -> Result<()> {
        let agent = self.node(name)?.agent.as_ref().context("an agent")?;
        kill_process(Pid::from_child(agent), signal).context("signal the agent")
    }

    pub(super) fn freeze_agent(&self, name: &str) -> Result<()> {
        self.signal_agent(name, Signal::STOP)
    }

    /// The network that the nodes are in.
    pub(super) fn network(&self) -> Result<&Network> {
        self.network.as_ref().context("the nodes share the host's network")
    }

    /// The node's number, as the network and etcd count.
    pub(super) fn number(&self, name: &str) -> Result<usize> {
        NAMES.iter().position(|known| *known == name).with_context(|| format!("no node {name}"))
    }

    /// Stops every process of a server, or lets them go on.
    pub(super) fn signal_server(&self, name: &str, signal: Signal) -> Result<()> {
        for pid in server_processes(&self.node(name)?.data())? {
            let pid = Pid::from_raw(pid.cast_signed()).context("a process")?;
            // One that ended meanwhile needs no signal.
            let _ = kill_process(pid, signal);
        }
        Ok(())
    }

    pub(super) fn thaw_agent(&self, name: &str) -> Result<()> {
        self.signal_agent(name, Signal::CONT)
    }
}

/// Fencing processes are known by the directory on their command line.
fn kill_fence(folder: &Path) -> Result<()> {
    let wanted = folder.display().to_string();
    for entry in fs::read_dir("/proc")?.flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()).and_then(Pid::from_raw)
        else {
            continue;
        };
        let line = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let words: Vec<String> =
            line.split(|&byte| byte == 0).map(|word| String::from_utf8_lossy(word).into_owned()).collect();
        if words.get(1).is_some_and(|word| word == "fence") && words.contains(&wanted) {
            // One that ends by itself meanwhile is what is wanted.
            let _ = kill_process(pid, Signal::KILL);
        }
    }
    Ok(())
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for name in self.names() {
            // What is gone already is what is wanted.
            let _ = self.thaw_agent(&name);
            let _ = self.kill_agent(&name);
        }
        for node in self.nodes.values() {
            let _ = kill_fence(&node.folder);
            let _ = kill_server(&node.data(), wait::PATIENCE);
        }
    }
}
