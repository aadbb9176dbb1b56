//! This node's data directory and server, as the agent sets them up: as a standby of somebody, as a primary, from nothing.
//!
//! What differs from node to node (port, addresses, name) is given on the command line, because `pg_rewind` and `pg_basebackup` bring the
//! other node's files along. Who may connect is in a file of the agent's own, so that a primary can be kept from clients after a crash
//! until what it recovered is safe. A data directory that may hold commits found nowhere else is moved aside, never removed.

use super::{ManagedSettings, clear_marks, settings::replace};
use crate::{Admission, HaError, NodeName, SyncNames, Upstream, observe::slot_of};
use pgproof_pg::{Lsn, SegmentName, WalSegmentSize};
use pgproof_server::{ConnectOptions, Control, Owner};
use std::{
    fs,
    path::PathBuf,
    process::{Command, Stdio},
    time::{SystemTime, UNIX_EPOCH},
};

/// What a node is, by its configuration.
#[derive(Debug, Clone)]
pub struct Node {
    /// Its name.
    pub name: NodeName,
    /// The data directory; need not exist.
    pub data: PathBuf,
    /// Directory of PostgreSQL's programs.
    pub programs: PathBuf,
    /// Where sockets, logs and the fence's files are.
    pub directory: PathBuf,
    /// What PostgreSQL listens on, as `listen_addresses` has it.
    pub listen_addresses: String,
    /// Its port.
    pub port: u16,
    /// Directory of its Unix socket.
    pub socket_directory: PathBuf,
    /// The role that agent and standbys connect as.
    pub user: String,
    /// What a cluster that is made here gets as its `pg_hba.conf`.
    pub hba: Option<PathBuf>,
}

/// The file that says who may connect.
const HBA_FILE: &str = "pgproof_hba.conf";

/// The first line of that file while clients may not.
const RESTRICTED: &str = "# pgproof: the agent and replication\n";

/// What every member has. Standbys reply every second also when nothing happens, and look for their primary five times a second.
const SETTINGS: [(&str, &str); 9] = [
    ("wal_level", "replica"),
    ("hot_standby", "on"),
    ("wal_log_hints", "on"),
    ("wal_keep_size", "512MB"),
    ("wal_receiver_status_interval", "1s"),
    ("wal_retrieve_retry_interval", "200ms"),
    ("wal_sender_timeout", "5s"),
    ("wal_receiver_timeout", "5s"),
    ("recovery_target_timeline", "latest"),
];

impl Node {
    /// What starts and stops its server.
    ///
    /// # Errors
    /// [`HaError::Server`] when there is no data directory.
    pub fn control(&self) -> Result<Control, HaError> {
        let control = Control::new(&self.data, &self.programs)
            .map_err(HaError::server("look at the data directory"))?;
        let hba = self.data.join(HBA_FILE);
        Ok(control
            .with_setting("port", &self.port.to_string())
            .with_setting("listen_addresses", &self.listen_addresses)
            .with_setting("unix_socket_directories", &self.socket_directory.display().to_string())
            .with_setting("cluster_name", self.name.as_str())
            .with_setting("hba_file", &hba.display().to_string())
            .with_log(&self.directory.join("postgresql.log")))
    }

    /// How the agent reaches it.
    #[must_use]
    pub fn connect(&self) -> ConnectOptions {
        ConnectOptions {
            host: Some(self.socket_directory.display().to_string()),
            port: Some(self.port),
            user: Some(self.user.clone()),
            database: Some("postgres".to_owned()),
            ..ConnectOptions::default()
        }
    }

    /// Whether there is a data directory.
    #[must_use]
    pub fn exists(&self) -> bool {
        self.data.join("PG_VERSION").is_file()
    }

    /// Whether it would start as a standby.
    #[must_use]
    pub fn is_standby(&self) -> bool {
        self.data.join("standby.signal").exists()
    }

    /// Prepares a start as a standby, receiving from somebody or from nobody.
    ///
    /// # Errors
    /// [`HaError::Host`].
    pub fn prepare_standby(&self, upstream: Option<(&Upstream, &str, u16)>) -> Result<(), HaError> {
        clear_marks(&self.data)?;
        self.follow(upstream)?;
        self.admit(Admission::Clients)?;
        replace(&self.data.join("standby.signal"), b"")
    }

    /// Says whom to receive from; takes effect with a reload.
    ///
    /// # Errors
    /// [`HaError::Host`].
    pub fn follow(&self, upstream: Option<(&Upstream, &str, u16)>) -> Result<(), HaError> {
        let (conninfo, slot) = match upstream {
            Some((upstream, host, port)) => (self.conninfo(upstream, host, port), slot_of(&self.name)),
            None => (String::new(), String::new()),
        };
        let settings = self.settings()?.with("primary_conninfo", &conninfo).with("primary_slot_name", &slot);
        settings.with("synchronous_standby_names", "").write(&self.data)
    }

    /// The settings as they are, with those that every member has.
    fn settings(&self) -> Result<ManagedSettings, HaError> {
        let present = ManagedSettings::read(&self.data)?;
        Ok(SETTINGS
            .iter()
            .fold(present, |settings, (name, value)| settings.with(name, value))
            .with("restore_command", ""))
    }

    fn conninfo(&self, upstream: &Upstream, host: &str, port: u16) -> String {
        let name = self.name.in_term(upstream.term);
        format!(
            "{} application_name={name} keepalives_idle=2 keepalives_interval=1 keepalives_count=3",
            self.source(host, port)
        )
    }

    fn source(&self, host: &str, port: u16) -> String {
        format!("host={host} port={port} user={} connect_timeout=2", self.user)
    }

    /// Sets the standbys that commits wait for; takes effect with a reload or a start.
    ///
    /// # Errors
    /// [`HaError::Host`].
    pub fn set_names(&self, names: &SyncNames) -> Result<(), HaError> {
        self.settings()?.with("synchronous_standby_names", &names.to_string()).write(&self.data)
    }

    /// The standbys that commits wait for, as written.
    ///
    /// # Errors
    /// [`HaError::Host`].
    pub fn names(&self) -> Result<SyncNames, HaError> {
        Ok(SyncNames::parse(ManagedSettings::read(&self.data)?.get("synchronous_standby_names")))
    }

    /// Whom it receives from, as written; the leader is the one whose address is in the connection string.
    ///
    /// # Errors
    /// [`HaError::Host`].
    pub fn upstream(
        &self,
        leader_at: impl Fn(&str, u16) -> Option<NodeName>,
    ) -> Result<Option<Upstream>, HaError> {
        let settings = ManagedSettings::read(&self.data)?;
        let word =
            |name: &str| settings.get("primary_conninfo").split(' ').find_map(|word| word.strip_prefix(name));
        let (Some(host), Some(port)) = (word("host="), word("port=")) else { return Ok(None) };
        let term = word("application_name=")
            .and_then(|name| name.parse::<crate::StandbyName>().ok())
            .map(|name| name.term);
        let leader = port.parse().ok().and_then(|port| leader_at(host, port));
        Ok(leader.zip(term).map(|(leader, term)| Upstream { leader, term }))
    }

    /// Prepares a start as a primary, for which nobody but the agent and replication is admitted.
    ///
    /// # Errors
    /// [`HaError::Host`].
    pub fn prepare_primary(&self, names: &SyncNames) -> Result<(), HaError> {
        clear_marks(&self.data)?;
        self.set_names(names)?;
        self.admit(Admission::AgentAndReplication)?;
        match fs::remove_file(self.data.join("standby.signal")) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(HaError::host("remove", self.data.join("standby.signal"))(error))
            }
            _ => Ok(()),
        }
    }

    /// Says who may connect; takes effect with a reload or a start. True when that changed.
    ///
    /// # Errors
    /// [`HaError::Host`].
    pub fn admit(&self, admission: Admission) -> Result<bool, HaError> {
        let own = self.data.join("pg_hba.conf");
        let rules = fs::read_to_string(&own).map_err(HaError::host("read", &own))?;
        let text = match admission {
            Admission::Clients => format!("# pgproof: as in pg_hba.conf\n{rules}"),
            Admission::AgentAndReplication => {
                let of_replication =
                    |line: &&str| line.split_whitespace().nth(1).is_some_and(|word| word == "replication");
                let of_agent = |line: &&str| line.split_whitespace().next() == Some("local");
                let kept: String = rules
                    .lines()
                    .filter(|line| of_replication(line))
                    .map(|line| format!("{line}\n"))
                    .collect();
                // The agent's own way in, with the method that the operator chose for local connections.
                let method = rules
                    .lines()
                    .find(of_agent)
                    .and_then(|line| line.split_whitespace().nth(3))
                    .unwrap_or("peer");
                format!("{RESTRICTED}local all {} {method}\n{kept}", self.user)
            }
        };
        let path = self.data.join(HBA_FILE);
        if fs::read_to_string(&path).is_ok_and(|present| present == text) {
            return Ok(false);
        }
        replace(&path, text.as_bytes())?;
        Ok(true)
    }

    /// Who may connect, as written.
    #[must_use]
    pub fn admission(&self) -> Admission {
        match fs::read_to_string(self.data.join(HBA_FILE)) {
            Ok(text) if text.starts_with(RESTRICTED) => Admission::AgentAndReplication,
            _ => Admission::Clients,
        }
    }

    /// Makes a new cluster with `initdb`.
    ///
    /// # Errors
    /// [`HaError::Program`] with what it said.
    pub fn init(&self) -> Result<(), HaError> {
        let mut command = self.program("initdb");
        command.arg("-D").arg(&self.data).args(["-U", &self.user, "--data-checksums"]);
        command.args(["--auth-local=peer", "--auth-host=scram-sha-256", "--encoding=UTF8", "--locale=C"]);
        run("initdb", &mut command)?;
        if let Some(hba) = &self.hba {
            let rules = fs::read(hba).map_err(HaError::host("read", hba))?;
            replace(&self.data.join("pg_hba.conf"), &rules)?;
        }
        Ok(())
    }

    /// Copies the leader's data directory; what was here is moved aside.
    ///
    /// # Errors
    /// [`HaError::Program`] with what `pg_basebackup` said, [`HaError::Host`].
    pub fn clone_from(&self, host: &str, port: u16) -> Result<(), HaError> {
        let next = self.data.with_extension("pgproof-clone");
        // Only ever a copy that was broken off.
        let _ = fs::remove_dir_all(&next);
        let mut command = self.program("pg_basebackup");
        command.arg("-D").arg(&next).args(["-X", "stream", "-c", "fast", "-d", &self.source(host, port)]);
        run("pg_basebackup", &mut command)?;
        if fs::read_dir(&self.data).is_ok_and(|mut entries| entries.next().is_some()) {
            let kept = self.data.with_extension(format!("kept-{}", seconds()));
            fs::rename(&self.data, &kept).map_err(HaError::host("move aside", &self.data))?;
        }
        let _ = fs::remove_dir(&self.data);
        fs::rename(&next, &self.data).map_err(HaError::host("move into place", &next))
    }

    /// Copies the WAL that only this node has, then takes it back with `pg_rewind`.
    ///
    /// # Errors
    /// [`HaError::Program`] with what `pg_rewind` said, [`HaError::Host`].
    pub fn rewind(
        &self,
        host: &str,
        port: u16,
        diverged: Option<(Lsn, WalSegmentSize)>,
    ) -> Result<(), HaError> {
        if let Some((from, size)) = diverged {
            self.keep_wal(from, size)?;
        }
        clear_marks(&self.data)?;
        // pg_rewind lets a server that crashed recover alone, which a standby's mark forbids.
        let _ = fs::remove_file(self.data.join("standby.signal"));
        let mut command = self.program("pg_rewind");
        let source = format!("{} dbname=postgres", self.source(host, port));
        command.arg("-D").arg(&self.data).args(["--source-server", &source]);
        run("pg_rewind", &mut command)
    }

    fn keep_wal(&self, from: Lsn, size: WalSegmentSize) -> Result<(), HaError> {
        let kept = self.data.with_extension(format!("diverged-{}", seconds()));
        fs::create_dir_all(&kept).map_err(HaError::host("create", &kept))?;
        let wal = self.data.join("pg_wal");
        for entry in fs::read_dir(&wal).map_err(HaError::host("list", &wal))?.flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            let wanted =
                SegmentName::parse(&name, size).is_ok_and(|segment| segment.number >= from.segment(size));
            if wanted || name.ends_with(".history") {
                fs::copy(entry.path(), kept.join(&name)).map_err(HaError::host("keep", entry.path()))?;
            }
        }
        Ok(())
    }

    fn program(&self, name: &str) -> Command {
        let mut command = Command::new(self.programs.join(name));
        command.current_dir("/").stdin(Stdio::null()).env("PGAPPNAME", "pgproof");
        command
    }
}

/// Makes the directories of a node, for the account that its server runs as.
///
/// # Errors
/// [`HaError::Host`].
pub fn make_directories(node: &Node, owner: Owner) -> Result<(), HaError> {
    use std::os::unix::fs::{DirBuilderExt, chown};
    for path in [&node.directory, &node.socket_directory] {
        if path.is_dir() {
            continue;
        }
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(path)
            .map_err(HaError::host("create", path))?;
        chown(path, Some(owner.uid), Some(owner.gid)).map_err(HaError::host("give away", path))?;
    }
    Ok(())
}

/// Reads what a program said only when it failed.
fn run(program: &'static str, command: &mut Command) -> Result<(), HaError> {
    let failed = |why: String| HaError::Program { program, why };
    let output = command.output().map_err(|error| failed(error.to_string()))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let said: Vec<&str> = said.lines().rev().take(4).collect();
    Err(failed(format!("{}: {}", output.status, said.into_iter().rev().collect::<Vec<_>>().join("; "))))
}

fn seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_secs())
}
