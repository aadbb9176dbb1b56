//! What the running postmaster says of itself: `postmaster.pid`, and `/proc`.

use crate::error::ServerError;
use std::{
    collections::BTreeSet,
    ffi::OsString,
    fs, io,
    os::unix::ffi::OsStringExt,
    path::{Path, PathBuf},
};

/// `postmaster.pid`, line by line as `src/include/utils/pidfile.h` numbers them. Later lines are missing while the server
/// starts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PidFile {
    /// The postmaster's process id; 0 for a file that is not whole.
    pub(crate) pid: u32,
    pub(crate) port: Option<u16>,
    pub(crate) socket_directory: Option<PathBuf>,
    status: String,
}

impl PidFile {
    /// Reads the file; `None` when there is none. A single-user backend writes its id negative, which counts as none.
    pub(crate) fn read(data: &Path) -> Result<Option<Self>, ServerError> {
        let path = data.join("postmaster.pid");
        match fs::read_to_string(&path) {
            Ok(text) => Ok(Some(Self::parse(&text))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(ServerError::host("read", path)(error)),
        }
    }

    fn parse(text: &str) -> Self {
        let line =
            |number: usize| text.lines().nth(number - 1).map(str::trim).filter(|line| !line.is_empty());
        Self {
            pid: line(1).and_then(|pid| pid.parse().ok()).unwrap_or(0),
            port: line(4).and_then(|port| port.parse().ok()),
            socket_directory: line(5).map(PathBuf::from),
            status: line(8).unwrap_or_default().to_owned(),
        }
    }

    /// Whether the server has come up: it accepts connections, or is a standby that lets nobody in (`hot_standby = off`).
    pub(crate) fn is_ready(&self) -> bool {
        self.accepts_connections() || self.status == "standby"
    }

    /// `PM_STATUS_READY` in `src/include/utils/pidfile.h`.
    pub(crate) fn accepts_connections(&self) -> bool {
        self.status == "ready"
    }
}

/// Whether the process is the postmaster of this data directory. A process id alone may be a stranger's after a crash.
/// The working directory tells, and where it may not be read, the program's name has to do.
pub(crate) fn serves(pid: u32, data: &Path) -> bool {
    if pid == 0 || !is_alive(pid) {
        return false;
    }
    match fs::read_link(format!("/proc/{pid}/cwd")) {
        Ok(directory) => directory == data,
        Err(_) => is_postgres(pid),
    }
}

/// Whether a process exists that is not just waiting to be collected by its parent.
pub(crate) fn is_alive(pid: u32) -> bool {
    let Ok(stat) = fs::read_to_string(format!("/proc/{pid}/stat")) else { return false };
    // The name before the state stands in parentheses and may hold any character.
    let state = stat.rsplit_once(')').and_then(|(_, rest)| rest.trim_start().chars().next());
    !matches!(state, None | Some('Z' | 'X'))
}

/// Removes the `postmaster.pid` and the socket's lock of a postmaster that has ended and that nobody has collected: a new one would take the
/// zombie for it and refuse to start (`CreateLockFile` in `src/backend/utils/init/miscinit.c` asks by `kill(pid, 0)`, for both). In a
/// container there may be no process that collects orphans. The caller has made sure that no process of a server works in the directory.
///
/// # Errors
/// [`ServerError::Host`].
pub fn remove_lock_of_the_dead(data: &Path) -> Result<(), ServerError> {
    let Some(file) = PidFile::read(data)? else { return Ok(()) };
    if !is_zombie(file.pid) {
        return Ok(());
    }
    // The socket's first: without `postmaster.pid` nothing tells any more where it is.
    if let (Some(directory), Some(port)) = (&file.socket_directory, file.port) {
        let lock = directory.join(format!(".s.PGSQL.{port}.lock"));
        let text = fs::read_to_string(&lock).unwrap_or_default();
        // Another server may have come to that port since.
        if text.lines().next().and_then(|line| line.trim().parse().ok()) == Some(file.pid) {
            fs::remove_file(&lock).map_err(ServerError::host("remove", lock))?;
        }
    }
    let path = data.join("postmaster.pid");
    fs::remove_file(&path).map_err(ServerError::host("remove", path))
}

/// Whether a process has ended and waits to be collected.
fn is_zombie(pid: u32) -> bool {
    pid != 0 && Path::new(&format!("/proc/{pid}")).exists() && !is_alive(pid)
}

fn is_postgres(pid: u32) -> bool {
    let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    matches!(name.trim(), "postgres" | "postmaster")
}

/// The processes of all servers that run here.
fn postgres_processes() -> impl Iterator<Item = u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter(|&pid| is_postgres(pid))
}

/// Where the programs of the servers lie that run here, each once.
pub(super) fn program_directories() -> BTreeSet<PathBuf> {
    let program = |pid: u32| fs::read_link(format!("/proc/{pid}/exe")).ok();
    postgres_processes().filter_map(program).filter_map(|exe| Some(exe.parent()?.to_owned())).collect()
}

/// The data directories of all postmasters that run here and may be looked at.
pub(crate) fn data_directories() -> Vec<PathBuf> {
    postgres_processes().filter_map(data_directory_of).collect()
}

/// The working directory of a postmaster is its data directory; so is that of its children, whose process id is not in
/// `postmaster.pid`. Another user's working directory is hidden, its command line is not.
fn data_directory_of(pid: u32) -> Option<PathBuf> {
    let Ok(directory) = fs::read_link(format!("/proc/{pid}/cwd")) else {
        return CommandLine::of(pid).data_directory();
    };
    let file = PidFile::read(&directory).ok()??;
    (file.pid == pid).then_some(directory)
}

/// How a postmaster was started.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct CommandLine {
    words: Vec<OsString>,
}

impl CommandLine {
    /// Of a running process; empty when it may not be looked at.
    pub(crate) fn of(pid: u32) -> Self {
        let bytes = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let words = bytes.split(|&byte| byte == 0).filter(|word| !word.is_empty());
        Self { words: words.map(|word| OsString::from_vec(word.to_vec())).collect() }
    }

    /// Of the last start, from `postmaster.opts`: one line, each argument in double quotes (`CreateOptsFile` in
    /// `src/backend/postmaster/postmaster.c`). Empty when the server never ran.
    pub(crate) fn last(data: &Path) -> Result<Self, ServerError> {
        let path = data.join("postmaster.opts");
        match fs::read_to_string(&path) {
            Ok(text) => Ok(Self::parse_opts(&text)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => Err(ServerError::host("read", path)(error)),
        }
    }

    fn parse_opts(text: &str) -> Self {
        let line = text.lines().next().unwrap_or_default();
        let mut parts = line.split(" \"");
        let program = parts.next().map(str::to_owned);
        let arguments = parts.map(|part| part.strip_suffix('"').unwrap_or(part).to_owned());
        Self { words: program.into_iter().chain(arguments).map(OsString::from).collect() }
    }

    /// The program, as it was called.
    pub(crate) fn program(&self) -> Option<&Path> {
        self.words.first().map(Path::new)
    }

    /// The last value given to a setting by `-c name=value`, `--name=value`, or its short form.
    pub(crate) fn setting(&self, name: &str) -> Option<&str> {
        let short = match name {
            "port" => Some("-p"),
            "unix_socket_directories" => Some("-k"),
            "data_directory" => Some("-D"),
            _ => None,
        };
        let words: Vec<&str> = self.words.iter().skip(1).filter_map(|word| word.to_str()).collect();
        let mut value = None;
        for (index, word) in words.iter().enumerate() {
            let next = words.get(index + 1).copied();
            let assignment = match *word {
                "-c" => next,
                long => long.strip_prefix("--").or_else(|| long.strip_prefix("-c")),
            };
            if let Some((key, assigned)) = assignment.and_then(|text| text.split_once('='))
                && key.replace('-', "_").eq_ignore_ascii_case(name)
            {
                value = Some(assigned);
            } else if let Some(given) = short.and_then(|short| word.strip_prefix(short)) {
                value = if given.is_empty() { next } else { Some(given) };
            }
        }
        value
    }

    fn data_directory(&self) -> Option<PathBuf> {
        self.setting("data_directory").map(PathBuf::from)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_locks_of_a_zombie_are_removed_and_none_of_the_living() {
        let folder = tempfile::tempdir().unwrap();
        let lock = folder.path().join(".s.PGSQL.5433.lock");
        let write = |pid: u32| {
            let text = format!("{pid}\n/data\n1\n5433\n{}\n*\n\nready\n", folder.path().display());
            fs::write(folder.path().join("postmaster.pid"), &text).unwrap();
            fs::write(&lock, &text).unwrap();
        };
        let are_there = || (folder.path().join("postmaster.pid").exists(), lock.exists());
        write(std::process::id());
        remove_lock_of_the_dead(folder.path()).unwrap();
        assert_eq!(are_there(), (true, true));

        let mut child = std::process::Command::new("true").spawn().unwrap();
        while is_alive(child.id()) {
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        write(child.id());
        remove_lock_of_the_dead(folder.path()).unwrap();
        assert_eq!(are_there(), (false, false));
        write(child.id());
        // The port went to another server.
        fs::write(&lock, format!("{}\n", std::process::id())).unwrap();
        remove_lock_of_the_dead(folder.path()).unwrap();
        assert_eq!(are_there(), (false, true));
        child.wait().unwrap();
    }

    #[test]
    fn a_pid_file_is_read_also_while_the_server_starts() {
        let whole = "4711\n/data\n1763848000\n5433\n/run/pg\nlocalhost\n  1234   5\nready   \n";
        let file = PidFile::parse(whole);
        assert_eq!((file.pid, file.port, file.is_ready()), (4711, Some(5433), true));
        assert_eq!(file.socket_directory, Some(PathBuf::from("/run/pg")));
        let early = PidFile::parse("4711\n/data\n1763848000\n");
        assert_eq!((early.pid, early.port, early.is_ready()), (4711, None, false));
        assert_eq!(PidFile::parse("").pid, 0);
    }

    #[test]
    fn the_last_command_line_tells_settings_in_every_form() {
        let text = "/usr/lib/postgresql/15/bin/postgres \"-D\" \"/var/lib/a b\" \"-c\" \"config_file=/etc/x.conf\" \
            \"--hba-file=/etc/hba\" \"-p\" \"5444\" \"-k/run\"\n";
        let line = CommandLine::parse_opts(text);
        assert_eq!(line.program(), Some(Path::new("/usr/lib/postgresql/15/bin/postgres")));
        assert_eq!(line.setting("config_file"), Some("/etc/x.conf"));
        assert_eq!(line.setting("hba_file"), Some("/etc/hba"));
        assert_eq!(line.setting("port"), Some("5444"));
        assert_eq!(line.setting("unix_socket_directories"), Some("/run"));
        assert_eq!(line.data_directory(), Some(PathBuf::from("/var/lib/a b")));
        assert_eq!(line.setting("ident_file"), None);
    }

    #[test]
    fn this_test_is_alive_and_no_postmaster() {
        assert!(is_alive(std::process::id()));
        assert!(!serves(std::process::id(), Path::new("/var/lib/postgresql")));
        assert!(!is_alive(0));
    }
}
