//! etcd as processes on loopback ports: one member or several, each killed, stopped and started again as a test says.
//!
//! Debian's package `etcd-server` is used; `cargo xtask test` installs it. Every cluster begins empty.

use crate::{free_port, wait};
use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};
use std::{
    fs,
    net::TcpStream,
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::Duration,
};
use tempfile::TempDir;

/// How long a cluster may take to have a leader.
const START_WAIT: Duration = Duration::from_secs(30);

/// Where a member runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EtcdPlace {
    /// The address that it listens on, and is reached at.
    pub host: String,
    /// A network namespace to run in.
    pub namespace: Option<String>,
}

struct Member {
    name: String,
    place: EtcdPlace,
    client: u16,
    peer: u16,
    process: Option<Child>,
}

/// A cluster of etcd; killed when dropped.
pub struct Etcd {
    members: Vec<Member>,
    files: TempDir,
}

impl Etcd {
    /// Starts so many members and waits until all of them answer.
    ///
    /// # Errors
    /// Fails when etcd is not installed or does not come up, with the end of a member's log.
    pub fn start(members: usize) -> Result<Self> {
        let place = EtcdPlace { host: "127.0.0.1".to_owned(), namespace: None };
        Self::start_at(vec![place; members])
    }

    /// Starts a member at each of these places.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub fn start_at(places: Vec<EtcdPlace>) -> Result<Self> {
        let files = tempfile::Builder::new()
            .prefix("pgproof-etcd-")
            .tempdir()
            .context("make a directory for etcd")?;
        let member = |(number, place): (usize, EtcdPlace)| {
            let name = format!("e{}", number + 1);
            Ok(Member { name, place, client: free_port()?, peer: free_port()?, process: None })
        };
        let members = places.into_iter().enumerate().map(member).collect::<Result<Vec<_>>>()?;
        let mut etcd = Self { members, files };
        for number in 0..etcd.members.len() {
            etcd.start_member(number)?;
        }
        for number in 0..etcd.members.len() {
            etcd.wait_for(number)?;
        }
        Ok(etcd)
    }

    /// Where clients reach the members.
    #[must_use]
    pub fn endpoints(&self) -> Vec<String> {
        self.members.iter().map(|member| format!("http://{}:{}", member.place.host, member.client)).collect()
    }

    /// The ports that the members answer clients at.
    #[must_use]
    pub fn client_ports(&self) -> Vec<u16> {
        self.members.iter().map(|member| member.client).collect()
    }

    /// Starts a member that does not run, with the data it had.
    ///
    /// # Errors
    /// Fails when the program cannot be run.
    pub fn start_member(&mut self, number: usize) -> Result<()> {
        let cluster: Vec<String> = self
            .members
            .iter()
            .map(|member| format!("{}=http://{}:{}", member.name, member.place.host, member.peer))
            .collect();
        let member = &self.members[number];
        let host = &member.place.host;
        let (client, peer) =
            (format!("http://{host}:{}", member.client), format!("http://{host}:{}", member.peer));
        let log = fs::File::create(self.log(number)).context("create a log for etcd")?;
        let mut command = match &member.place.namespace {
            Some(namespace) => {
                let mut command = Command::new("ip");
                command.args(["netns", "exec", namespace, "etcd"]);
                command
            }
            None => Command::new("etcd"),
        };
        command
            .args(["--name", &member.name, "--data-dir"])
            .arg(self.files.path().join(&member.name))
            .args(["--listen-client-urls", &client, "--advertise-client-urls", &client])
            .args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer])
            .args(["--initial-cluster", &cluster.join(","), "--logger", "zap"])
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log);
        let process = command.spawn().context("run etcd: it comes with Debian's package `etcd-server`")?;
        self.members[number].process = Some(process);
        Ok(())
    }

    fn log(&self, number: usize) -> PathBuf {
        self.files.path().join(format!("{}.log", self.members[number].name))
    }

    fn wait_for(&self, number: usize) -> Result<()> {
        let Member { place, client, .. } = &self.members[number];
        wait::until("etcd to answer", START_WAIT, || {
            Ok(TcpStream::connect((place.host.as_str(), *client))
                .is_ok_and(|stream| healthy(&stream))
                .then_some(()))
        })
        .with_context(|| format!("its log: {}", fs::read_to_string(self.log(number)).unwrap_or_default()))
    }

    /// Kills a member as a power failure would.
    ///
    /// # Errors
    /// Fails when it cannot be signalled.
    pub fn kill(&mut self, number: usize) -> Result<()> {
        let Some(mut process) = self.members[number].process.take() else { return Ok(()) };
        process.kill().context("kill etcd")?;
        process.wait().context("wait for etcd")?;
        Ok(())
    }

    /// Stops a member without ending it, so that it accepts connections and never answers.
    ///
    /// # Errors
    /// Fails when it cannot be signalled.
    pub fn freeze(&self, number: usize) -> Result<()> {
        self.signal(number, Signal::STOP)
    }

    /// Lets a frozen member go on.
    ///
    /// # Errors
    /// Fails when it cannot be signalled.
    pub fn thaw(&self, number: usize) -> Result<()> {
        self.signal(number, Signal::CONT)
    }

    fn signal(&self, number: usize, signal: Signal) -> Result<()> {
        let Some(process) = &self.members[number].process else { bail!("this member of etcd does not run") };
        kill_process(Pid::from_child(process), signal).context("signal etcd")
    }
}

/// `/health` answers `true` once there is a leader.
fn healthy(stream: &TcpStream) -> bool {
    use std::io::{Read, Write};
    let ask = || {
        let mut stream = stream;
        stream.set_read_timeout(Some(Duration::from_secs(2)))?;
        stream.write_all(b"GET /health HTTP/1.0\r\n\r\n")?;
        let mut reply = String::new();
        stream.read_to_string(&mut reply)?;
        std::io::Result::Ok(reply)
    };
    ask().is_ok_and(|reply| reply.contains("\"true\""))
}

impl Drop for Etcd {
    fn drop(&mut self) {
        for number in 0..self.members.len() {
            // A frozen process is killed like any other; one that is gone is what is wanted.
            let _ = self.kill(number);
        }
    }
}
