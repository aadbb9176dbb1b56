//! Moves the table: from the private server into a file, or through this process into the live server.
//!
//! A file appears under its name when it is complete and durable, not before. In the live server everything happens in one transaction of
//! `pg_restore`, whose input comes through this process: when that is killed, the input ends short, and the transaction is never committed.

use super::error::ExtractError;
use super::table::QualifiedName;
use pgproof_base::Progress;
use pgproof_server::ConnectOptions;
use serde::Serialize;
use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::{self, JoinHandle};

/// What kind of file is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Format {
    /// For `pg_restore`.
    Custom,
    /// For `psql`.
    Plain,
}

impl Format {
    /// By the name's ending: `.sql` is plain.
    #[must_use]
    pub fn of(path: &Path) -> Self {
        match path.extension().is_some_and(|ending| ending.eq_ignore_ascii_case("sql")) {
            true => Self::Plain,
            false => Self::Custom,
        }
    }

    fn flag(self) -> &'static str {
        match self {
            Self::Custom => "--format=custom",
            Self::Plain => "--format=plain",
        }
    }
}

/// What a copy beside the original does without: who owned and might read the original, where it lay, and who was told of its changes.
const ALONE: [&str; 5] =
    ["--no-owner", "--no-privileges", "--no-tablespaces", "--no-publications", "--no-security-labels"];

/// Bytes that are passed on at a time.
const CHUNK_BYTES: usize = 256 << 10;

/// Writes a dump; returns its length.
pub(crate) fn to_file(
    source: &Recovered,
    tables: &[QualifiedName],
    path: &Path,
    format: Format,
) -> Result<u64, ExtractError> {
    let unfinished = Unfinished::create(path)?;
    let stdout = unfinished.file.try_clone().map_err(ExtractError::file("use", &unfinished.path))?;
    let mut command = pg_dump(source, tables);
    command.arg(format.flag()).stdout(stdout);
    let dump = Running::start("pg_dump", command)?;
    dump.finish()?;
    unfinished.publish(path)
}

/// A dump that is being written, under a name that says so; removed unless it is finished.
struct Unfinished {
    path: PathBuf,
    file: File,
}

impl Unfinished {
    fn create(path: &Path) -> Result<Self, ExtractError> {
        let mut name = path.as_os_str().to_owned();
        name.push(format!(".unfinished-{}", std::process::id()));
        let path = PathBuf::from(name);
        let file = OpenOptions::new().write(true).create_new(true).open(&path);
        Ok(Self { file: file.map_err(ExtractError::file("create", &path))?, path })
    }

    /// Makes it durable, then gives it its name, which nothing else may have got meanwhile.
    fn publish(self, path: &Path) -> Result<u64, ExtractError> {
        self.file.sync_all().map_err(ExtractError::file("sync", &self.path))?;
        let length = self.file.metadata().map_err(ExtractError::file("look at", &self.path))?.len();
        match fs::hard_link(&self.path, path) {
            Ok(()) => {}
            Err(source) if source.kind() == ErrorKind::AlreadyExists => {
                return Err(ExtractError::FileExists { path: path.to_owned() });
            }
            // A file system without links.
            Err(_) => fs::rename(&self.path, path).map_err(ExtractError::file("rename", &self.path))?,
        }
        let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty());
        let directory = directory.unwrap_or_else(|| Path::new("."));
        let opened = File::open(directory).map_err(ExtractError::file("open", directory))?;
        opened.sync_all().map_err(ExtractError::file("sync", directory))?;
        Ok(length)
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        // It has its own name by now, or is of no use.
        let _ = fs::remove_file(&self.path);
    }
}

/// Copies into the live server; returns the bytes that went through.
pub(crate) fn to_server(
    source: &Recovered,
    tables: &[QualifiedName],
    target: &Target,
    progress: &dyn Progress,
) -> Result<u64, ExtractError> {
    let mut dump = pg_dump(source, tables);
    // Nothing between the two is slow enough to be worth compressing.
    dump.args(ALONE).args([Format::Custom.flag(), "--compress=0"]).stdout(Stdio::piped());
    let mut restore = Command::new(source.programs.join("pg_restore"));
    restore.args(ALONE).args(["--single-transaction", "--exit-on-error"]);
    restore.arg("--dbname").arg(&target.connection_string).env("PGAPPNAME", "pgproof");
    restore.stdin(Stdio::piped()).stdout(Stdio::null());
    let mut dump = Running::start("pg_dump", dump)?;
    let mut restore = Running::start("pg_restore", restore)?;
    let passed = pass_on(&mut dump, &mut restore, progress);
    // Closed by now, so that both come to their end. When one fails, the other complains about its pipe.
    match (dump.finish(), restore.finish()) {
        (Ok(()), Ok(())) => passed,
        (Err(ExtractError::Program { said: of_dump, .. }), Err(ExtractError::Program { program, said })) => {
            Err(ExtractError::Program { program, said: format!("{said}\npg_dump: {of_dump}") })
        }
        (Err(error), _) | (_, Err(error)) => Err(error),
    }
}

/// The database that the table is read from.
#[derive(Debug)]
pub(crate) struct Recovered {
    /// How to reach it in the private server.
    pub(crate) connect: ConnectOptions,
    /// Directory of `pg_dump` and `pg_restore`.
    pub(crate) programs: PathBuf,
}

/// How `pg_restore` and a session reach the live server.
#[derive(Debug, Clone)]
pub(crate) struct Target {
    /// For libpq.
    pub(crate) connection_string: String,
    /// The same for a session.
    pub(crate) connect: ConnectOptions,
}

fn pass_on(from: &mut Running, to: &mut Running, progress: &dyn Progress) -> Result<u64, ExtractError> {
    let (Some(mut source), Some(mut sink)) = (from.child.stdout.take(), to.child.stdin.take()) else {
        return Ok(0);
    };
    let mut buffer = vec![0; CHUNK_BYTES];
    let mut total = 0;
    loop {
        let read = match source.read(&mut buffer) {
            Ok(0) => return Ok(total),
            Ok(read) => read,
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(error) => return Err(ExtractError::file("read from", "pg_dump")(error)),
        };
        sink.write_all(&buffer[..read]).map_err(ExtractError::file("write to", "pg_restore"))?;
        total += read as u64;
        progress.advance(read as u64);
    }
}

fn pg_dump(source: &Recovered, tables: &[QualifiedName]) -> Command {
    let mut command = Command::new(source.programs.join("pg_dump"));
    let connect = &source.connect;
    // Whatever the environment says of servers is of another one.
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("PG")) {
        command.env_remove(name);
    }
    for (name, value) in [
        ("PGHOST", connect.host.clone()),
        ("PGPORT", connect.port.map(|port| port.to_string())),
        ("PGUSER", connect.user.clone()),
        ("PGDATABASE", connect.database.clone()),
    ] {
        command.envs(value.map(|value| (name, value)));
    }
    command.args(tables.iter().map(|table| format!("--table={}", table.quoted())));
    command
}

/// A program whose standard error is read while it runs, so that it never waits for that.
struct Running {
    name: &'static str,
    child: Child,
    said: Option<JoinHandle<String>>,
}

/// Bytes of what a program says that are kept.
const SAID_BYTES_MAX: u64 = 8 << 10;

impl Running {
    fn start(name: &'static str, mut command: Command) -> Result<Self, ExtractError> {
        command.stderr(Stdio::piped()).current_dir("/");
        if name == "pg_dump" {
            command.stdin(Stdio::null());
        }
        let program = PathBuf::from(command.get_program());
        let mut child = command.spawn().map_err(ExtractError::file("run", program))?;
        let stderr = child.stderr.take();
        let said = stderr.map(|stderr| {
            thread::spawn(move || {
                let mut bytes = Vec::new();
                let mut first = stderr.take(SAID_BYTES_MAX);
                // What cannot be read is not told.
                let _ = first.read_to_end(&mut bytes);
                let _ = std::io::copy(&mut first.into_inner(), &mut std::io::sink());
                String::from_utf8_lossy(&bytes).trim().to_owned()
            })
        });
        Ok(Self { name, child, said })
    }

    fn finish(mut self) -> Result<(), ExtractError> {
        let said = self.said.take().and_then(|said| said.join().ok()).unwrap_or_default();
        let status = self.child.wait().map_err(ExtractError::file("wait for", self.name))?;
        if status.success() {
            return Ok(());
        }
        let said = if said.is_empty() { status.to_string() } else { said };
        Err(ExtractError::Program { program: self.name, said })
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if !matches!(self.child.try_wait(), Ok(Some(_))) {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ending_of_the_file_says_the_format() {
        assert_eq!(Format::of(Path::new("/x/orders.sql")), Format::Plain);
        assert_eq!(Format::of(Path::new("/x/orders.dump")), Format::Custom);
        assert_eq!(Format::of(Path::new("orders")), Format::Custom);
    }

    #[test]
    fn a_file_that_came_meanwhile_is_not_replaced_and_a_failure_leaves_nothing() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("orders.dump");
        let mut unfinished = Unfinished::create(&path).unwrap();
        unfinished.file.write_all(b"new").unwrap();
        fs::write(&path, "old").unwrap();
        let error = unfinished.publish(&path).unwrap_err();
        assert!(matches!(error, ExtractError::FileExists { .. }), "{error}");
        assert_eq!(fs::read_to_string(&path).unwrap(), "old");
        assert_eq!(fs::read_dir(place.path()).unwrap().count(), 1);
    }
}
