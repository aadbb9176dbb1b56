//! Starting, stopping, reloading and promoting a server, as the account that owns its data directory.
//!
//! The postmaster is started directly, as `pg_ctl` does but without its shell, so that its end is noticed at once and
//! settings need no quoting. Clusters that Debian's tools know are started and stopped by `pg_ctlcluster`, which keeps
//! systemd in the picture. Nothing returns before the effect is seen; a failure brings the end of the server's log.

use crate::{
    error::ServerError,
    find::{self, DebianCluster, Instance, PidFile, State, is_alive, serves},
    log,
    privilege::{self, Owner},
};
use pgproof_pg::ClusterState;
use rustix::{
    fs::OFlags,
    process::{Pid, Signal, kill_process},
};
use std::{
    fs::{File, OpenOptions},
    os::unix::{
        fs::{MetadataExt, OpenOptionsExt},
        process::CommandExt,
    },
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

/// How a server is asked to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StopMode {
    /// Waits for clients to leave.
    Smart,
    /// Disconnects clients, then shuts down cleanly.
    Fast,
    /// Aborts; the next start recovers.
    Immediate,
}

impl StopMode {
    fn name(self) -> &'static str {
        match self {
            Self::Smart => "smart",
            Self::Fast => "fast",
            Self::Immediate => "immediate",
        }
    }

    /// The signals that the postmaster takes (`src/backend/postmaster/postmaster.c`).
    fn signal(self) -> Signal {
        match self {
            Self::Smart => Signal::TERM,
            Self::Fast => Signal::INT,
            Self::Immediate => Signal::QUIT,
        }
    }
}

/// File in the data directory that takes the standard error of a server started through this, where no better place is known. Backups
/// leave it out: it would tell another server's story.
pub const START_LOG: &str = "pgproof-start.log";

/// The file that the running postmaster's standard error goes to: what it was started with, a restart should keep. One that its owner may
/// not open again (root opened it for the server) is of no use.
fn log_in_use(instance: &Instance) -> Option<PathBuf> {
    let State::Running { pid, .. } = instance.state else { return None };
    let target = std::fs::read_link(format!("/proc/{pid}/fd/2")).ok()?;
    let metadata = target.metadata().ok()?;
    let is_owners = metadata.uid() == instance.owner.uid && metadata.mode() & 0o200 != 0;
    (metadata.is_file() && is_owners).then_some(target)
}

/// Pause between two looks at a starting or stopping server.
const PAUSE: Duration = Duration::from_millis(20);

/// How long a postmaster may take to write its `postmaster.pid`, which it does before it reads any data.
const LAUNCH_LIMIT: Duration = Duration::from_secs(60);

/// Starts and stops the server of one data directory.
#[derive(Debug, Clone)]
pub struct Control {
    data: PathBuf,
    programs: PathBuf,
    owner: Owner,
    config_file: Option<PathBuf>,
    debian: Option<DebianCluster>,
    settings: Vec<(String, String)>,
    log: PathBuf,
}

impl Control {
    /// Of a data directory that may be new, with the programs to serve it. Its owner is whom the server runs as.
    ///
    /// # Errors
    /// [`ServerError::Host`] when the directory cannot be looked at.
    pub fn new(data: &Path, programs: &Path) -> Result<Self, ServerError> {
        Ok(Self {
            data: data.to_owned(),
            programs: programs.to_owned(),
            owner: Owner::of(data)?,
            config_file: None,
            debian: None,
            settings: Vec::new(),
            log: data.join(START_LOG),
        })
    }

    /// Of an instance that was found.
    ///
    /// # Errors
    /// [`ServerError::Programs`] when its programs are not on this host.
    pub fn of(instance: &Instance) -> Result<Self, ServerError> {
        let programs = instance.programs.clone().ok_or_else(|| ServerError::Programs {
            data: instance.data_directory.clone(),
            version: instance.version.to_string(),
        })?;
        let inside = instance.config_file.starts_with(&instance.data_directory);
        let log = instance.debian.as_ref().map(DebianCluster::log_file).or_else(|| log_in_use(instance));
        Ok(Self {
            data: instance.data_directory.clone(),
            programs,
            owner: instance.owner,
            config_file: (!inside).then(|| instance.config_file.clone()),
            debian: instance.debian.clone(),
            settings: Vec::new(),
            log: log.unwrap_or_else(|| instance.data_directory.join(START_LOG)),
        })
    }

    /// With a setting on the command line, above every file, for servers started through this. Debian's tools do not know of
    /// it, so they are not used.
    #[must_use]
    pub fn with_setting(mut self, name: &str, value: &str) -> Self {
        self.settings.push((name.to_owned(), value.to_owned()));
        self
    }

    /// With the file that the server's standard error is appended to; [`START_LOG`] in the data directory otherwise.
    #[must_use]
    pub fn with_log(mut self, log: &Path) -> Self {
        log.clone_into(&mut self.log);
        self
    }

    /// The file that the standard error of a server started through this is appended to.
    #[must_use]
    pub fn log(&self) -> &Path {
        &self.log
    }

    /// The data directory.
    #[must_use]
    pub fn data_directory(&self) -> &Path {
        &self.data
    }

    /// Whom the server runs as.
    #[must_use]
    pub fn owner(&self) -> Owner {
        self.owner
    }

    /// Whether a postmaster serves the data directory.
    ///
    /// # Errors
    /// [`ServerError::Host`] when `postmaster.pid` cannot be read.
    pub fn is_running(&self) -> Result<bool, ServerError> {
        Ok(self.postmaster()?.is_some())
    }

    /// Whether the postmaster says that it accepts connections. Which roles and addresses it lets in is another matter.
    ///
    /// # Errors
    /// [`ServerError::Host`] when `postmaster.pid` cannot be read.
    pub fn accepts_connections(&self) -> Result<bool, ServerError> {
        Ok(self.postmaster()?.is_some_and(|file| file.accepts_connections()))
    }

    /// Starts the server and waits until it accepts connections: on a recovering server with `hot_standby`, until its
    /// data is consistent. Does nothing when it runs already.
    ///
    /// # Errors
    /// [`ServerError::Control`] when it ends instead, [`ServerError::Timeout`] after `limit`; it may still be starting then.
    pub fn start(&self, limit: Duration) -> Result<(), ServerError> {
        if self.is_running()? {
            return Ok(());
        }
        let log_from = log::length(&self.log);
        if let Some(cluster) = self.debian_tools() {
            return self.pg_ctlcluster(cluster, "start", &[], log_from);
        }
        let mut child = self.launch()?;
        self.wait("PostgreSQL to accept connections", limit, log_from, || {
            if let Ok(Some(status)) = child.try_wait() {
                return Err(self.failed("start", format!("it ended with {status}"), log_from));
            }
            Ok(self.postmaster()?.is_some_and(|file| file.is_ready()))
        })
    }

    /// Starts the postmaster and waits until it serves its data directory, not until it lets anybody in. The child is the postmaster; it goes
    /// on when this process ends.
    ///
    /// # Errors
    /// [`ServerError::Control`] when it ends at once instead, as with a setting that it does not accept; [`ServerError::Timeout`],
    /// [`ServerError::Host`], [`ServerError::Privilege`].
    pub fn launch(&self) -> Result<Child, ServerError> {
        let log_from = log::length(&self.log);
        let mut child = self.spawn_postmaster()?;
        self.wait("the postmaster to write its postmaster.pid", LAUNCH_LIMIT, log_from, || {
            match child.try_wait() {
                // One that recovered and shut down as it was told to may have come and gone between two looks.
                Ok(Some(status)) if status.success() => Ok(true),
                Ok(Some(status)) => Err(self.failed("start", format!("it ended with {status}"), log_from)),
                _ => self.is_running(),
            }
        })?;
        Ok(child)
    }

    fn spawn_postmaster(&self) -> Result<Child, ServerError> {
        let log = self.open_log()?;
        let errors = log.try_clone().map_err(ServerError::host("use", &self.log))?;
        let mut command = Command::new(self.programs.join("postgres"));
        command.arg("-D").arg(&self.data);
        if let Some(file) = &self.config_file {
            command.arg("-c").arg(format!("config_file={}", file.display()));
        }
        for (name, value) in &self.settings {
            command.arg("-c").arg(format!("{name}={value}"));
        }
        // Its own group: an interrupt at the terminal is for pgproof, not for the server.
        command.stdin(Stdio::null()).stdout(log).stderr(errors).current_dir("/").process_group(0);
        privilege::spawn_as(self.owner, &mut command)
    }

    /// Stops the server and waits until it is gone. Does nothing when it does not run.
    ///
    /// # Errors
    /// [`ServerError::Timeout`] after `limit`; it may still be stopping then.
    pub fn stop(&self, mode: StopMode, limit: Duration) -> Result<(), ServerError> {
        let Some(file) = self.postmaster()? else { return Ok(()) };
        let log_from = log::length(&self.log);
        if let Some(cluster) = self.debian_tools() {
            return self.pg_ctlcluster(cluster, "stop", &["--mode", mode.name()], log_from);
        }
        self.signal(file.pid, mode.signal(), "stop")?;
        self.wait("PostgreSQL to stop", limit, log_from, || Ok(!is_alive(file.pid)))
    }

    /// Stops the server fast and starts it again.
    ///
    /// # Errors
    /// As [`Self::stop`] and [`Self::start`], each with its own `limit`.
    pub fn restart(&self, limit: Duration) -> Result<(), ServerError> {
        self.stop(StopMode::Fast, limit)?;
        self.start(limit)
    }

    /// Lets the server read its configuration again. Which settings took effect is for [`crate::settings`] to see.
    ///
    /// # Errors
    /// [`ServerError::Control`] when it does not run.
    pub fn reload(&self) -> Result<(), ServerError> {
        self.signal(self.running("reload")?.pid, Signal::HUP, "reload")
    }

    /// Makes a recovering server a primary, and waits until it is one.
    ///
    /// # Errors
    /// [`ServerError::Control`] when it does not run or ends, [`ServerError::Timeout`] after `limit`.
    pub fn promote(&self, limit: Duration) -> Result<(), ServerError> {
        let file = self.running("promote")?;
        let log_from = log::length(&self.log);
        // `PROMOTE_SIGNAL_FILE` of src/include/access/xlog.h, and SIGUSR1 to have it looked for.
        let request = self.data.join("promote");
        privilege::act_as(self.owner, || File::create(&request).map(drop))?
            .map_err(ServerError::host("write", &request))?;
        self.signal(file.pid, Signal::USR1, "promote")?;
        self.wait("PostgreSQL to become a primary", limit, log_from, || {
            if !is_alive(file.pid) {
                return Err(self.failed("promote", "it ended".to_owned(), log_from));
            }
            Ok(find::control_file(&self.data)?.state == ClusterState::InProduction)
        })
    }

    /// The running postmaster's own file.
    pub(crate) fn postmaster(&self) -> Result<Option<PidFile>, ServerError> {
        Ok(PidFile::read(&self.data)?.filter(|file| serves(file.pid, &self.data)))
    }

    pub(crate) fn failed(&self, action: &'static str, why: String, log_from: u64) -> ServerError {
        let log_tail = log::tail(&self.data, &self.log, log_from);
        ServerError::Control { data: self.data.clone(), action, why, log_tail }
    }

    pub(crate) fn timed_out(&self, what: &str, limit: Duration, log_from: u64) -> ServerError {
        let log_tail = log::tail(&self.data, &self.log, log_from);
        ServerError::Timeout { what: what.to_owned(), limit, log_tail }
    }

    fn running(&self, action: &'static str) -> Result<PidFile, ServerError> {
        let stopped = || self.failed(action, "it does not run".to_owned(), u64::MAX);
        self.postmaster()?.ok_or_else(stopped)
    }

    fn signal(&self, pid: u32, signal: Signal, action: &'static str) -> Result<(), ServerError> {
        let target = i32::try_from(pid).ok().and_then(Pid::from_raw);
        let sent = target
            .map(|target| privilege::act_as(self.owner, || kill_process(target, signal)))
            .transpose()?;
        match sent {
            Some(Ok(())) => Ok(()),
            Some(Err(error)) => Err(self.failed(action, format!("signal process {pid}: {error}"), u64::MAX)),
            None => Err(self.failed(action, format!("{pid} is no process"), u64::MAX)),
        }
    }

    fn wait(
        &self,
        what: &str,
        limit: Duration,
        log_from: u64,
        mut done: impl FnMut() -> Result<bool, ServerError>,
    ) -> Result<(), ServerError> {
        let deadline = Instant::now() + limit;
        while !done()? {
            if Instant::now() >= deadline {
                return Err(self.timed_out(what, limit, log_from));
            }
            thread::sleep(PAUSE);
        }
        Ok(())
    }

    /// Opens the log as the owner, never through a link: the directory is the owner's, and root must not be led elsewhere.
    fn open_log(&self) -> Result<File, ServerError> {
        let flags = (OFlags::NOFOLLOW | OFlags::CLOEXEC).bits().cast_signed();
        let open =
            || OpenOptions::new().create(true).append(true).mode(0o600).custom_flags(flags).open(&self.log);
        privilege::act_as(self.owner, open)?.map_err(ServerError::host("open", &self.log))
    }

    /// The cluster, when Debian's tools should do the work.
    fn debian_tools(&self) -> Option<&DebianCluster> {
        let usable = self.settings.is_empty() && Path::new(PG_CTLCLUSTER).exists();
        self.debian.as_ref().filter(|_| usable)
    }

    fn pg_ctlcluster(
        &self,
        cluster: &DebianCluster,
        action: &'static str,
        options: &[&str],
        log_from: u64,
    ) -> Result<(), ServerError> {
        let mut command = Command::new(PG_CTLCLUSTER);
        command.args([&cluster.version, &cluster.name, action]).args(options).stdin(Stdio::null());
        let output = command.output().map_err(ServerError::host("run", PG_CTLCLUSTER))?;
        let should_run = action == "start";
        if output.status.success() && self.is_running()? == should_run {
            return Ok(());
        }
        let said = String::from_utf8_lossy(&output.stderr);
        Err(self.failed(
            action,
            format!("pg_ctlcluster ended with {}: {}", output.status, said.trim()),
            log_from,
        ))
    }
}

/// postgresql-common's front of `pg_ctl`; with root and systemd it goes through the cluster's unit.
const PG_CTLCLUSTER: &str = "/usr/bin/pg_ctlcluster";
