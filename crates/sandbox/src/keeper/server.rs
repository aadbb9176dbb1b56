//! The server of a sandbox: started, watched until it has recovered, masked, asked the first question.

use super::isolation::{self, Level};
use super::{Begun, Cause, other, seconds_since};
use crate::desk;
use crate::place::{PORT, Place};
use crate::record::{Kind, Measured, Record};
use crate::request::Mask;
use crate::spec::Spec;
use crate::{Error, Result, files};
use jiff::Timestamp;
use pgproof_pg::{ClusterState, Lsn};
use pgproof_server::{ConnectOptions, Control, Owner, Session, StopMode, TlsOptions, find, privilege};
use std::fs::{self, DirBuilder};
use std::os::unix::fs::{DirBuilderExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

const PAUSE: Duration = Duration::from_millis(10);

/// How often the desk is asked whether recovery comes forward.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// How long a recovered server may take to start or stop.
const LIMIT: Duration = Duration::from_secs(120);

/// A server with its postmaster.
pub(super) struct Running {
    control: Control,
    child: Child,
}

impl Running {
    pub(super) fn id(&self) -> u32 {
        self.child.id()
    }

    pub(super) fn kill(&mut self) {
        let _ = self.control.stop(StopMode::Immediate, LIMIT);
        let _ = self.child.kill();
    }

    pub(super) fn stop(&mut self) -> Result<()> {
        self.control.stop(StopMode::Fast, LIMIT).map_err(Error::server("stop the server"))
    }
}

/// Starts the server and waits until it answers; writes into the record what was seen.
pub(super) fn bring_up(
    place: &Place,
    spec: &Spec,
    level: Level,
    record: &mut Record,
    files_s: f64,
) -> Begun<Running> {
    // A server that was stopped was masked before.
    let mask = spec.mask.as_ref().filter(|_| record.measured.is_none());
    let sockets = match mask {
        Some(_) => hidden(place, spec, level).map_err(other)?,
        None => place.sockets(),
    };
    let mut running = launch(place, spec, level, &sockets).map_err(other)?;
    let consistent_s = wait_until_open(place, spec, &mut running, record.created).map_err(other)?;
    let recovered_s = seconds_since(record.created);
    let connect = superuser(&connect(spec, &sockets), &spec.roles).map_err(other)?;
    record.connection.user = connect.user.clone().unwrap_or_default();
    if let Some(mask) = mask {
        apply(mask, spec, &connect, place).map_err(|error| (Cause::Mask, error))?;
        running.stop().map_err(other)?;
        let _ = running.child.wait();
        running = launch(place, spec, level, &place.sockets()).map_err(other)?;
        wait_until_open(place, spec, &mut running, record.created).map_err(other)?;
    }
    let connect = ConnectOptions { host: Some(place.sockets().display().to_string()), ..connect };
    let first = first_query(&connect).map_err(other)?;
    if record.measured.is_none() {
        let statistics = desk::statistics(&place.desk()).unwrap_or_default();
        record.measured = Some(Measured {
            files_s,
            consistent_s,
            recovered_s,
            first_query_s: seconds_since(record.created),
            replay_bytes: spec.replay_bytes,
            reached: first.reached,
            last_commit: first.last_commit,
            bytes_read: spec.bytes_read + statistics.bytes_read,
            requests: spec.requests + statistics.requests,
        });
    }
    Ok(running)
}

fn connect(spec: &Spec, sockets: &Path) -> ConnectOptions {
    ConnectOptions {
        host: Some(sockets.display().to_string()),
        port: Some(spec.tcp.unwrap_or(PORT)),
        user: None,
        // In every cluster.
        database: Some("template1".to_owned()),
        connection_string: None,
        tls: TlsOptions::default(),
    }
}

/// A directory for sockets that nobody outside of the keeper's namespaces sees; without those, nobody but the account.
fn hidden(place: &Place, spec: &Spec, level: Level) -> Result<PathBuf> {
    let directory = place.directory().join("h");
    if !directory.exists() {
        DirBuilder::new().mode(0o700).create(&directory).map_err(Error::file("create", &directory))?;
    }
    if level == Level::Namespaces {
        nix::mount::mount(
            Some("pgproof"),
            &directory,
            Some("tmpfs"),
            nix::mount::MsFlags::empty(),
            Some("mode=0700"),
        )
        .map_err(|errno| Error::System { operation: "hide the server", why: errno.to_string() })?;
    }
    if let Some(owner) = spec.owner {
        chown(&directory, Some(owner.uid), Some(owner.gid)).map_err(Error::file("give away", &directory))?;
    }
    Ok(directory)
}

fn launch(place: &Place, spec: &Spec, level: Level, sockets: &Path) -> Result<Running> {
    let data = match spec.kind {
        Kind::Lazy => place.mount(),
        Kind::Full => place.full(),
    };
    let data = data.join(files::DATA);
    let mut control = Control::new(&data, &spec.programs).map_err(Error::server("start the server"))?;
    let file = |name: &str| place.directory().join(name).display().to_string();
    let own = [
        ("config_file", file("postgresql.conf")),
        ("hba_file", file("pg_hba.conf")),
        ("ident_file", file("pg_ident.conf")),
        ("unix_socket_directories", sockets.display().to_string()),
        ("port", spec.tcp.unwrap_or(PORT).to_string()),
        ("restore_command", restore_command(place, spec)),
    ];
    let settings = spec.settings.iter().map(|(name, value)| (name.as_str(), value.clone()));
    for (name, value) in settings.chain(own) {
        control = control.with_setting(name, &value);
    }
    if level == Level::Namespaces {
        // It goes with the server's IPC namespace; files of `/dev/shm` would stay when the server is killed.
        control = control.with_setting("dynamic_shared_memory_type", "sysv");
    }
    let control = control.with_log(&place.server_log());
    let start = || -> Result<Child> {
        if level == Level::Namespaces {
            isolation::confine(place, spec)?;
        }
        control.launch().map_err(Error::server("start the server"))
    };
    // On a thread of its own: namespaces are a thread's, and the keeper stays in the host's network.
    let started = thread::scope(|scope| scope.spawn(start).join());
    let child = started.unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
    Ok(Running { control, child })
}

/// The desk fetches WAL: the server has no network.
fn restore_command(place: &Place, spec: &Spec) -> String {
    let quoted =
        |path: &Path| format!("'{}'", path.display().to_string().replace('\'', "'\\''").replace('%', "%%"));
    format!("{} sandbox fetch {} \"%f\" \"%p\"", quoted(&spec.call.program), quoted(&place.desk()))
}

/// Waits until the server is open for writing; gives the seconds until its data was consistent, where its log tells.
fn wait_until_open(
    place: &Place,
    spec: &Spec,
    running: &mut Running,
    began: Timestamp,
) -> Result<Option<f64>> {
    let mut consistent = None;
    let (mut moved, mut looked, mut seen) = (Instant::now(), Instant::now(), None);
    loop {
        let ended = running.child.try_wait().map_err(Error::file("wait for", place.directory()))?;
        let log = place.server_log();
        if let Some(status) = ended {
            let why = format!("its server ended with {status}\n{}", crate::sandbox::tail(&log));
            return Err(Error::Failed { name: spec.name.clone(), why });
        }
        if consistent.is_none() && says_consistent(&log) {
            consistent = Some(seconds_since(began));
        }
        if is_open(&running.control) {
            return Ok(consistent);
        }
        if looked.elapsed() >= LOOK_EVERY {
            looked = Instant::now();
            let now = desk::statistics(&place.desk()).ok();
            if now != seen {
                (seen, moved) = (now, Instant::now());
            }
        }
        if moved.elapsed() >= Duration::from_secs(spec.limits.stall_s) {
            let why = format!(
                "recovery did not come forward for {} s\n{}",
                spec.limits.stall_s,
                crate::sandbox::tail(&log)
            );
            return Err(Error::Failed { name: spec.name.clone(), why });
        }
        thread::sleep(PAUSE);
    }
}

fn says_consistent(log: &Path) -> bool {
    // `lc_messages` is C.
    fs::read(log)
        .is_ok_and(|text| String::from_utf8_lossy(&text).contains("consistent recovery state reached"))
}

fn is_open(control: &Control) -> bool {
    control.accepts_connections().unwrap_or(false)
        && find::control_file(control.data_directory())
            .is_ok_and(|file| file.state == ClusterState::InProduction)
}

/// Which role may do everything: the origin's configuration knows one.
fn superuser(connect: &ConnectOptions, roles: &[String]) -> Result<ConnectOptions> {
    let mut last = None;
    for role in roles {
        let connect = ConnectOptions { user: Some(role.clone()), ..connect.clone() };
        let asked = Session::open(&connect).and_then(|mut session| {
            let row =
                session.query_one("ask for rights", "SELECT current_setting('is_superuser') = 'on'", &[])?;
            Ok(row.get::<_, bool>(0))
        });
        match asked {
            Ok(true) => return Ok(connect),
            Ok(false) => {}
            Err(error) => last = Some(error),
        }
    }
    match last {
        Some(error) => Err(Error::server("find a superuser")(error)),
        None => Err(Error::System {
            operation: "find a superuser",
            why: format!("none of {} is one", roles.join(", ")),
        }),
    }
}

struct First {
    reached: Option<Lsn>,
    last_commit: Option<Timestamp>,
}

fn first_query(connect: &ConnectOptions) -> Result<First> {
    const ASK: &str = "ask the first question";
    let mut session = Session::open(connect).map_err(Error::server(ASK))?;
    let sql = "SELECT pg_last_wal_replay_lsn()::text, \
        to_char(pg_last_xact_replay_timestamp() AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"')";
    let row = session.query_one(ASK, sql, &[]).map_err(Error::server(ASK))?;
    let text = |column: usize| row.get::<_, Option<String>>(column);
    Ok(First {
        reached: text(0).and_then(|lsn| lsn.parse().ok()),
        last_commit: text(1).and_then(|time| time.parse().ok()),
    })
}

/// Runs the mask with psql, which stops at the first error.
fn apply(mask: &Mask, spec: &Spec, connect: &ConnectOptions, place: &Place) -> Result<()> {
    let failed = |why: String| Error::Mask { file: mask.file.clone(), why };
    // Opened here: the server's account may not be allowed to read it.
    let file = fs::File::open(&mask.file).map_err(Error::file("open", &mask.file))?;
    let mut command = Command::new(crate::sandbox::psql(spec));
    command.args(["-X", "-q", "-v", "ON_ERROR_STOP=1", "-f", "-"]);
    command.arg("-h").arg(connect.host.as_deref().unwrap_or_default());
    command.arg("-p").arg(connect.port.unwrap_or(PORT).to_string());
    command.arg("-U").arg(connect.user.as_deref().unwrap_or_default()).arg("-d").arg(&mask.database);
    for variable in ["PGSERVICE", "PGHOSTADDR", "PGOPTIONS"] {
        command.env_remove(variable);
    }
    command.stdin(file).stdout(Stdio::null()).stderr(Stdio::piped()).current_dir("/");
    let owner = spec.owner.unwrap_or_else(Owner::current);
    let child = privilege::spawn_as(owner, &mut command).map_err(Error::server("run psql"))?;
    let output = child.wait_with_output().map_err(Error::file("wait for psql in", place.directory()))?;
    match output.status.success() {
        true => Ok(()),
        false => Err(failed(String::from_utf8_lossy(&output.stderr).trim().to_owned())),
    }
}
