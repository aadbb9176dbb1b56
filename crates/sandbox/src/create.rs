//! Makes a sandbox: chooses a backup, writes down what is to be done, and starts the keeper, which does it.

use crate::keeper::{Cause, Event};
use crate::place::{PORT, Place};
use crate::record::{Connection, Kind, Record, Status};
use crate::request::{Mode, Request};
use crate::sandbox::{Sandbox, tail};
use crate::settings::{Preload, configuration, forced, host_based_access, preload};
use crate::spec::Spec;
use crate::{Error, Result, files};
use jiff::Timestamp;
use pgproof_base::{Progress, Stage};
use pgproof_pg::MajorVersion;
use pgproof_repo::Repository;
use pgproof_restore::choose::describe_target;
use pgproof_restore::configuration::external_copy;
use pgproof_restore::engine::content;
use pgproof_restore::{Found, recovery_settings};
use pgproof_server::{Owner, StopMode, find};
use std::fs::{self, OpenOptions};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

/// How long a server that nobody keeps may take to stop.
const STRAY_LIMIT: Duration = Duration::from_secs(30);

/// Makes a sandbox; its server has recovered to the instant, answers, and was masked when this returns.
///
/// # Errors
/// Every [`Error`]. Nothing of the sandbox is left then.
pub fn create(repository: &Repository, request: &Request, progress: &dyn Progress) -> Result<Sandbox> {
    let began = Timestamp::now();
    let before = repository.store().counters();
    let found = pgproof_restore::find(repository, request.system, &request.recovery, began)?;
    let owner = request.owner.or_else(Owner::of_packages).filter(|_| Owner::current().is_root());
    let (kind, why_full) = kind(request.mode)?;
    let draft = draft(repository, request, &found, owner)?;
    let after = repository.store().counters();
    let name = request.name.clone().unwrap_or_else(|| began.strftime("s%Y%m%d-%H%M%S").to_string());
    let mut spec = Spec {
        name,
        kind,
        system: found.manifest.summary().system,
        backup: found.chosen.backup,
        timeline: found.chosen.timeline,
        replay_from: found.chosen.replay_from,
        server_version: found.manifest.summary().server_version,
        starting: found.starting,
        programs: draft.programs.clone(),
        owner,
        call: request.call.clone(),
        mask: request.mask.clone(),
        tcp: request.tcp,
        roles: request.roles.clone(),
        limits: request.limits,
        workers: request.workers,
        expires: request.ttl.and_then(|ttl| began.checked_add(ttl).ok()),
        settings: draft.settings.clone(),
        bytes_read: after.bytes_read - before.bytes_read,
        requests: after.gets + after.lists - before.gets - before.lists,
        replay_bytes: found.chosen.replay_bytes,
    };
    match make(request, &spec, &found, &draft, why_full, began, progress) {
        Err(Error::NoFuse { why }) if request.mode == Mode::Auto => {
            spec.kind = Kind::Full;
            make(request, &spec, &found, &draft, Some(why), began, progress)
        }
        made => made,
    }
}

/// What the server is started with.
struct Draft {
    programs: PathBuf,
    settings: Vec<(String, String)>,
    configuration: String,
    notes: Vec<String>,
}

fn draft(repository: &Repository, request: &Request, found: &Found, owner: Option<Owner>) -> Result<Draft> {
    let summary = found.manifest.summary();
    let no_programs = || Error::NoPrograms { version: (summary.server_version / 10_000).to_string() };
    let version = MajorVersion::from_server_version_num(summary.server_version).map_err(|_| no_programs())?;
    let programs = find::programs_of(version).ok_or_else(no_programs)?;
    if owner.is_none() && Owner::current().is_root() {
        return Err(Error::System {
            operation: "run a server",
            why: "this is root, and no account is known that could run it".to_owned(),
        });
    }
    let wanted = summary.settings.other.get("shared_preload_libraries").map_or("", String::as_str);
    let libraries = library_directory(&programs);
    let present = |name: &str| {
        libraries.as_ref().is_some_and(|directory| directory.join(format!("{name}.so")).is_file())
    };
    let preload: Preload = preload(wanted, &present);
    let mut notes = found.chosen.notes.clone();
    notes.extend(found.lacks.iter().map(|what| format!("{what}: what lies in it cannot be read")));
    if !preload.left_out.is_empty() {
        notes.push(format!("not loaded: {}", preload.left_out.join(", ")));
    }
    notes.push("fsync is off: what is written in a sandbox does not survive a crash of the host".to_owned());
    let mut recovery = recovery_settings(&request.recovery.target, found.chosen.timeline, "");
    recovery.retain(|setting| setting.name != "restore_command");
    Ok(Draft {
        programs,
        settings: forced(version, &preload, request.tcp, recovery),
        configuration: configuration(summary, &origin_configuration(repository, found)?),
        notes,
    })
}

/// The origin's configuration files, the one that wins last.
fn origin_configuration(repository: &Repository, found: &Found) -> Result<Vec<String>> {
    let main = match content(repository, &found.manifest, "postgresql.conf")? {
        Some(text) => Some(text),
        None => external_copy(repository, &found.manifest, "postgresql.conf")?,
    };
    let auto = content(repository, &found.manifest, "postgresql.auto.conf")?;
    let texts = main.into_iter().chain(auto);
    Ok(texts.map(|text| String::from_utf8_lossy(&text).into_owned()).collect())
}

fn library_directory(programs: &Path) -> Option<PathBuf> {
    let output = Command::new(programs.join("pg_config")).arg("--pkglibdir").output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| PathBuf::from(text.trim()))
}

/// Lazily or not, and why not. That a device can be opened is no proof; the keeper has the last word.
fn kind(mode: Mode) -> Result<(Kind, Option<String>)> {
    let why = match OpenOptions::new().read(true).write(true).open("/dev/fuse") {
        _ if !Owner::current().is_root() => Some("only root may mount here".to_owned()),
        Err(error) => Some(format!("/dev/fuse cannot be opened: {error}")),
        Ok(_) => None,
    };
    match (mode, why) {
        (Mode::Full, _) => Ok((Kind::Full, None)),
        (Mode::Lazy, Some(why)) => Err(Error::NoFuse { why }),
        (Mode::Auto, Some(why)) => Ok((Kind::Full, Some(why))),
        (_, None) => Ok((Kind::Lazy, None)),
    }
}

fn make(
    request: &Request,
    spec: &Spec,
    found: &Found,
    draft: &Draft,
    why_full: Option<String>,
    began: Timestamp,
    progress: &dyn Progress,
) -> Result<Sandbox> {
    let place = Place::create(&request.place, &spec.name, spec.owner)?;
    let record = first_record(&place, request, spec, found, draft, why_full, began);
    let made = prepare(&place, spec, draft, &record).and_then(|()| {
        progress.stage(Stage::Recovering, None);
        run_keeper(&place, &spec.name, &mut |event| {
            if let Event::Note(text) = event {
                progress.note(&text);
            }
        })
    });
    match made {
        Ok(()) => Ok(Sandbox::new(place.clone(), place.read_record()?)),
        Err(error) => {
            // What is in the way of removing it is less than what was in the way of making it.
            let _ = Sandbox::new(place.clone(), place.read_record().unwrap_or(record)).discard();
            Err(masked(error, request))
        }
    }
}

fn masked(error: Error, request: &Request) -> Error {
    match (error, &request.mask) {
        (Error::Mask { why, .. }, Some(mask)) => Error::Mask { file: mask.file.clone(), why },
        (error, _) => error,
    }
}

fn first_record(
    place: &Place,
    request: &Request,
    spec: &Spec,
    found: &Found,
    draft: &Draft,
    why_full: Option<String>,
    began: Timestamp,
) -> Record {
    let data = match spec.kind {
        Kind::Lazy => place.mount(),
        Kind::Full => place.full(),
    };
    Record {
        name: spec.name.clone(),
        kind: spec.kind,
        why_full,
        status: Status::Creating,
        failure: None,
        system: spec.system,
        backup: spec.backup,
        timeline: spec.timeline,
        target: describe_target(&request.recovery.target),
        server_version: spec.server_version,
        cluster_bytes: found.manifest.summary().totals.bytes_logical,
        data_directory: data.join(files::DATA),
        connection: Connection {
            socket_directory: place.sockets(),
            port: spec.tcp.unwrap_or(PORT),
            user: spec.roles.first().cloned().unwrap_or_else(|| "postgres".to_owned()),
            database: "postgres".to_owned(),
            tcp: spec.tcp,
        },
        created: began,
        expires: spec.expires,
        keeper: None,
        isolation: Vec::new(),
        measured: None,
        notes: draft.notes.clone(),
    }
}

fn prepare(place: &Place, spec: &Spec, draft: &Draft, record: &Record) -> Result<()> {
    for (name, text) in [
        ("postgresql.conf", draft.configuration.clone()),
        ("pg_hba.conf", host_based_access(spec.tcp)),
        ("pg_ident.conf", String::new()),
    ] {
        let path = place.directory().join(name);
        fs::write(&path, text).map_err(Error::file("write", &path))?;
    }
    place.write_spec(spec)?;
    place.write_record(record)
}

/// Starts the keeper and waits until it says that the sandbox is ready, or why not.
pub(crate) fn run_keeper(place: &Place, name: &str, told: &mut dyn FnMut(Event)) -> Result<()> {
    let spec: Spec = place.read_spec()?;
    let log = place.keeper_log();
    let errors =
        OpenOptions::new().create(true).append(true).open(&log).map_err(Error::file("open", &log))?;
    let mut command = Command::new(&spec.call.program);
    command.args(["sandbox", "keep"]).arg(place.directory()).args(&spec.call.repository);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(errors).current_dir("/");
    let mut child = command.spawn().map_err(Error::file("run", &spec.call.program))?;
    let output = child.stdout.take();
    let failed = |why: String| Error::Failed { name: name.to_owned(), why };
    for line in
        output.into_iter().flat_map(|output| BufReader::new(output).lines()).map_while(|line| line.ok())
    {
        match serde_json::from_str(&line) {
            Ok(Event::Ready) => {
                // It has handed over to the first process of the namespaces and ended.
                let _ = child.wait();
                return Ok(());
            }
            Ok(Event::Failed { cause, why }) => {
                let _ = child.wait();
                return Err(match cause {
                    Cause::Fuse => Error::NoFuse { why },
                    Cause::Mask => Error::Mask { file: PathBuf::new(), why },
                    Cause::Other => failed(why),
                });
            }
            Ok(event) => told(event),
            Err(_) => {}
        }
    }
    let _ = child.wait();
    Err(failed(format!("its keeper ended without a word\n{}", tail(&log))))
}

/// Stops a server that outlived its keeper, which only happens without namespaces.
pub(crate) fn stop_strays(place: &Place) {
    if let Ok(instance) = find::at(&place.full().join(files::DATA))
        && let Ok(control) = instance.control()
    {
        // Whoever removes the directory next tells what is in the way.
        let _ = control.stop(StopMode::Immediate, STRAY_LIMIT);
    }
}
