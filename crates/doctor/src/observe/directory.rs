//! The data directory as files: what a start would need, and what it would stumble over.

use super::place::Place;
use super::slot::{self, SlotFile};
use jiff::Timestamp;
use pgproof_pg::ControlFile;
use pgproof_server::{find, privilege};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use x509_cert::Certificate;

/// A file that a start needs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileSeen {
    /// Where.
    pub path: PathBuf,
    /// Permission bits; none where it is missing.
    pub mode: Option<u32>,
    /// Whom it belongs to.
    pub uid: Option<u32>,
}

/// A certificate of the server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CertificateSeen {
    /// Its file.
    pub path: PathBuf,
    /// Of whom it is.
    pub subject: String,
    /// When it ends.
    pub not_after: Timestamp,
}

/// What the server's own program says of the configuration, asked without starting (`postgres -C`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StartProbe {
    /// Whether it was content.
    pub accepted: bool,
    /// What it wrote.
    pub said: Vec<String>,
}

/// The data directory.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Directory {
    /// Permission bits.
    pub mode: u32,
    /// Whom it belongs to.
    pub uid: u32,
    /// `PG_VERSION`
    pub version: Option<String>,
    /// The control file, or why it cannot be read.
    pub control: Result<ControlFile, String>,
    /// Whether there is a control file at all.
    pub control_exists: bool,
    /// Files that are not at their place although another name of theirs is: `pg_control.old`.
    pub control_lookalikes: Vec<PathBuf>,
    /// Lines of `postmaster.pid`.
    pub pid_file: Vec<String>,
    /// What the process that it names is, where that is no server of this directory.
    pub pid_stranger: Option<String>,
    /// `recovery.signal`
    pub recovery_signal: bool,
    /// `standby.signal`
    pub standby_signal: bool,
    /// `backup_label`
    pub backup_label: bool,
    /// Segments in `pg_wal`, first and last name.
    pub wal_first: Option<String>,
    /// The last one.
    pub wal_last: Option<String>,
    /// How many there are.
    pub wal_count: u64,
    /// Bytes of them.
    pub wal_bytes: u64,
    /// Where `pg_wal` really is.
    pub wal_directory: PathBuf,
    /// Files that wait for the archiver.
    pub ready: u64,
    /// Of these the first.
    pub ready_first: Option<String>,
    /// Replication slots.
    pub slots: Vec<SlotFile>,
    /// Directories of sockets, by their path.
    pub socket_directories: Vec<FileSeen>,
    /// Files of TLS.
    pub tls_files: Vec<FileSeen>,
    /// Certificates that it shows to clients.
    pub certificates: Vec<CertificateSeen>,
    /// Bytes of `pg_multixact/members`.
    pub multixact_member_bytes: u64,
    /// Major version of the programs that would serve it.
    pub program_version: Option<String>,
    /// What the program says of the configuration; only where no server runs.
    pub probe: Option<StartProbe>,
    /// Relations that a damaged-looking start may need: missing links in `pg_tblspc`.
    pub broken_links: Vec<PathBuf>,
    /// Required directories that are missing.
    pub missing: Vec<String>,
}

/// Directories without which a start fails (`src/bin/initdb/initdb.c`, `subdirs`); empty ones are lost by careless copies.
const DIRECTORIES: [&str; 16] = [
    "global",
    "base",
    "pg_wal",
    "pg_commit_ts",
    "pg_dynshmem",
    "pg_notify",
    "pg_serial",
    "pg_snapshots",
    "pg_subtrans",
    "pg_twophase",
    "pg_multixact",
    "pg_replslot",
    "pg_tblspc",
    "pg_stat",
    "pg_stat_tmp",
    "pg_xact",
];

pub(super) fn observe(place: Place) -> Result<Directory, String> {
    let data = place.data_directory.as_path();
    let metadata =
        fs::metadata(data).map_err(|error| format!("could not look at {}: {error}", data.display()))?;
    let control_path = data.join("global/pg_control");
    let values = super::settings::values(&place);
    let wal_directory = fs::canonicalize(data.join("pg_wal")).unwrap_or_else(|_| data.join("pg_wal"));
    let wal = segments(&wal_directory);
    let ready = ready(&wal_directory);
    let pid_file: Vec<String> = fs::read_to_string(data.join("postmaster.pid"))
        .map(|text| text.lines().map(str::to_owned).collect())
        .unwrap_or_default();
    let has = |name: &str| data.join(name).exists();
    let stopped = place.postmaster.is_none();
    Ok(Directory {
        mode: metadata.mode() & 0o7777,
        uid: metadata.uid(),
        version: fs::read_to_string(data.join("PG_VERSION")).ok().map(|text| text.trim().to_owned()),
        control: find::control_file(data).map_err(|error| super::place::said(&error)),
        control_exists: control_path.exists(),
        control_lookalikes: lookalikes(data),
        pid_stranger: if stopped { stranger(&pid_file) } else { None },
        pid_file,
        recovery_signal: has("recovery.signal"),
        standby_signal: has("standby.signal"),
        backup_label: has("backup_label"),
        wal_count: wal.len() as u64,
        wal_bytes: wal.values().sum(),
        wal_first: wal.keys().next().cloned(),
        wal_last: wal.keys().next_back().cloned(),
        wal_directory,
        ready: ready.len() as u64,
        ready_first: ready.into_iter().min(),
        slots: slot::read_all(data),
        socket_directories: socket_directories(&place, &values),
        tls_files: tls_files(data, &values),
        certificates: certificates(data, &values),
        multixact_member_bytes: bytes_in(&data.join("pg_multixact/members")),
        program_version: place.programs.as_deref().and_then(program_version),
        probe: if stopped { probe(&place) } else { None },
        broken_links: broken_links(data),
        missing: DIRECTORIES.iter().filter(|name| !has(name)).map(|name| (*name).to_owned()).collect(),
    })
}

type Values = BTreeMap<String, String>;

fn seen(path: PathBuf) -> FileSeen {
    let metadata = fs::metadata(&path).ok();
    FileSeen {
        mode: metadata.as_ref().map(|metadata| metadata.mode() & 0o7777),
        uid: metadata.as_ref().map(MetadataExt::uid),
        path,
    }
}

/// Segment files by name, with their sizes. History files and partial ones do not count.
fn segments(wal: &Path) -> BTreeMap<String, u64> {
    let entries = fs::read_dir(wal).into_iter().flatten().flatten();
    let segment = |entry: fs::DirEntry| {
        let name = entry.file_name().into_string().ok()?;
        let is_segment = name.len() == 24 && name.bytes().all(|byte| byte.is_ascii_hexdigit());
        if is_segment { Some((name, entry.metadata().ok()?.len())) } else { None }
    };
    entries.filter_map(segment).collect()
}

fn ready(wal: &Path) -> Vec<String> {
    let entries = fs::read_dir(wal.join("archive_status")).into_iter().flatten().flatten();
    entries.filter_map(|entry| Some(entry.file_name().to_str()?.strip_suffix(".ready")?.to_owned())).collect()
}

fn lookalikes(data: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(data.join("global")).into_iter().flatten().flatten();
    let names = entries.filter(|entry| {
        let name = entry.file_name();
        name.to_str().is_some_and(|name| name.contains("pg_control") && name != "pg_control")
    });
    names.map(|entry| entry.path()).collect()
}

/// A process of that number that is alive and no server of this directory.
fn stranger(pid_file: &[String]) -> Option<String> {
    let pid: u32 = pid_file.first()?.trim().parse().ok()?;
    let name = fs::read_to_string(format!("/proc/{pid}/comm")).ok()?;
    Some(format!("{} (process {pid})", name.trim()))
}

fn socket_directories(place: &Place, values: &Values) -> Vec<FileSeen> {
    let named = values.get("unix_socket_directories").map(|text| {
        let parts = text.split(',').map(|part| part.trim().trim_matches('"'));
        parts.filter(|part| !part.is_empty()).map(PathBuf::from).collect::<Vec<_>>()
    });
    let folders = named.unwrap_or_else(|| place.socket_directory.iter().cloned().collect());
    folders.into_iter().map(seen).collect()
}

fn tls_files(data: &Path, values: &Values) -> Vec<FileSeen> {
    if values.get("ssl").is_none_or(|value| !is_on(value)) {
        return Vec::new();
    }
    let file = |name: &str, default: &str| values.get(name).map_or(default, String::as_str).to_owned();
    let names = [file("ssl_key_file", "server.key"), file("ssl_cert_file", "server.crt")];
    names.into_iter().map(|name| seen(data.join(name))).collect()
}

/// The server's own certificate, the first of its file.
fn certificates(data: &Path, values: &Values) -> Vec<CertificateSeen> {
    if values.get("ssl").is_none_or(|value| !is_on(value)) {
        return Vec::new();
    }
    let name = values.get("ssl_cert_file").map_or("server.crt", String::as_str);
    let path = data.join(name);
    let read = fs::read(&path).ok().and_then(|pem| {
        let first = Certificate::load_pem_chain(&pem).ok()?.into_iter().next()?;
        let tbs = first.tbs_certificate;
        let end = tbs.validity.not_after.to_unix_duration().as_secs();
        let not_after = Timestamp::from_second(i64::try_from(end).ok()?).ok()?;
        Some(CertificateSeen { path, subject: tbs.subject.to_string(), not_after })
    });
    read.into_iter().collect()
}

fn bytes_in(folder: &Path) -> u64 {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.filter_map(|entry| Some(entry.metadata().ok()?.len())).sum()
}

/// A boolean as PostgreSQL reads it (`parse_bool`), for what doctor asks: whether it is on.
pub(crate) fn is_on(value: &str) -> bool {
    let value = value.to_ascii_lowercase();
    let is_prefix = |word: &str| !value.is_empty() && word.starts_with(&value);
    value == "1" || value == "on" || is_prefix("true") || is_prefix("yes")
}

fn program_version(programs: &Path) -> Option<String> {
    let output =
        Command::new(programs.join("postgres")).arg("--version").stdin(Stdio::null()).output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout);
    text.split_whitespace().nth(2).map(str::to_owned)
}

/// Lines of the answer that are kept.
const SAID_MAX: usize = 30;

/// Lets the server's own program read the configuration and tell one value, which checks all of it and starts nothing.
fn probe(place: &Place) -> Option<StartProbe> {
    let mut command = Command::new(place.programs.as_ref()?.join("postgres"));
    command.arg("-D").arg(config_directory(place)).args(["-C", "port"]).current_dir("/");
    command.env("LC_ALL", "C").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    let child = privilege::spawn_as(place.owner(), &mut command).ok()?;
    let output = child.wait_with_output().ok()?;
    let text = String::from_utf8_lossy(&output.stderr);
    let said =
        text.lines().filter(|line| !line.trim().is_empty()).take(SAID_MAX).map(str::to_owned).collect();
    Some(StartProbe { accepted: output.status.success(), said })
}

/// Where `postgres -D` finds `postgresql.conf`.
fn config_directory(place: &Place) -> PathBuf {
    place.config_file.parent().map_or_else(|| place.data_directory.clone(), Path::to_owned)
}

fn broken_links(data: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(data.join("pg_tblspc")).into_iter().flatten().flatten();
    let broken = |entry: &fs::DirEntry| fs::metadata(entry.path()).is_err();
    entries.filter(broken).map(|entry| entry.path()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn booleans_are_read_as_the_server_reads_them() {
        for on in ["on", "ON", "true", "t", "yes", "y", "1"] {
            assert!(is_on(on), "{on}");
        }
        for off in ["off", "false", "0", "no", "o", ""] {
            assert!(!is_on(off), "{off}");
        }
    }
}
