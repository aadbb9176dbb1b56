//! What `archive push` and `archive run` say to each other: one JSON document a line, over a socket that the data directory names.
//!
//! Private to one version of the program: whoever does not understand an answer archives by itself.

use super::queue::{self, Identity};
use crate::error::WalError;
use crate::push::Pushed;
use crate::repositories::NamedRepository;
use pgproof_pg::ArchiveName;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use std::fs;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
use std::path::Path;
use std::time::Duration;

/// How soon a request to end is noticed.
pub(super) const LISTEN: Duration = Duration::from_millis(200);

/// How often a caller hears that its file is being worked on.
pub(super) const WORKING_EVERY: Duration = Duration::from_secs(1);

/// After so long without a word a process is stopped or hangs, and its caller archives by itself.
const SILENCE_MAX: Duration = Duration::from_secs(10);

/// Longer lines are none of ours.
const LINE_MAX: u64 = 64 << 10;

/// A push.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Call {
    /// The file's name in `pg_wal`.
    pub(super) name: String,
    /// The file as the caller sees it.
    pub(super) file: Identity,
    /// The repositories that are meant, as [`places`] puts it.
    pub(super) repository: String,
    /// PostgreSQL offers it, it is not somebody's own try.
    pub(super) is_queued: bool,
}

/// What a push is told.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "answer", rename_all = "kebab-case")]
pub(super) enum Answer {
    /// The file is durable in every repository that is required.
    Stored { pushed: Pushed },
    /// It is not, and why.
    Failed { message: String, hint: String },
    /// It is being worked on.
    Working,
    /// The caller has to do it.
    Elsewhere,
}

/// Waits for callers; an error of kind `AddrInUse` when somebody else serves this data directory.
pub(super) fn listen(pgdata: &Path) -> io::Result<UnixListener> {
    UnixListener::bind_addr(&address(pgdata)?)
}

/// Reaches whoever serves this data directory, if it is of the same account: anybody could take the name, and what is said here makes
/// PostgreSQL remove WAL.
pub(super) fn connect(pgdata: &Path) -> io::Result<UnixStream> {
    let stream = UnixStream::connect_addr(&address(pgdata)?)?;
    match is_of_this_account(&stream) {
        true => Ok(stream),
        false => Err(io::ErrorKind::PermissionDenied.into()),
    }
}

/// An abstract name (unix(7)): a socket file in the data directory would make `pg_rewind` fail, which reads every file of its source, and
/// one outside would have to be found and swept.
fn address(pgdata: &Path) -> io::Result<SocketAddr> {
    let found = fs::metadata(pgdata)?;
    SocketAddr::from_abstract_name(format!("pgproof-archiver-{}-{}", found.dev(), found.ino()))
}

fn is_of_this_account(stream: &UnixStream) -> bool {
    rustix::net::sockopt::socket_peercred(stream).is_ok_and(|peer| peer.uid == rustix::process::geteuid())
}

/// Asks whoever archives ahead in this data directory to archive a file of its `pg_wal`; none when the caller has to do it.
pub fn ask(pgdata: &Path, path: &Path, repositories: &[NamedRepository]) -> Option<Result<Pushed, WalError>> {
    let name = path.strip_prefix("pg_wal").ok()?.to_str()?;
    ArchiveName::parse(name).ok()?;
    let file = queue::identity(&pgdata.join(path)).ok()?;
    let stream = connect(pgdata).ok()?;
    stream.set_read_timeout(Some(SILENCE_MAX)).ok()?;
    stream.set_write_timeout(Some(SILENCE_MAX)).ok()?;
    let mut lines = Lines::new(stream);
    let is_queued = pgdata.join(format!("pg_wal/archive_status/{name}.ready")).exists();
    lines.write(&Call { name: name.to_owned(), file, repository: places(repositories), is_queued }).ok()?;
    loop {
        return match lines.read().ok()? {
            Answer::Working => continue,
            Answer::Elsewhere => None,
            Answer::Stored { pushed } => Some(Ok(pushed)),
            Answer::Failed { message, hint } => Some(Err(WalError::Resident { message, hint })),
        };
    }
}

/// Which repositories are meant: what both sides must have read alike in their configuration.
pub(super) fn places(repositories: &[NamedRepository]) -> String {
    let one = |repository: &NamedRepository| match repository.required {
        true => repository.place.clone(),
        false => format!("{} (not required)", repository.place),
    };
    repositories.iter().map(one).collect::<Vec<_>>().join(", ")
}

/// A push that is answered.
pub(super) struct Caller(Lines);

impl Caller {
    pub(super) fn new(stream: UnixStream) -> Self {
        Self(Lines::new(stream))
    }

    /// What it wants.
    pub(super) fn read(&mut self) -> io::Result<Call> {
        let stream = self.0.reader.get_ref();
        stream.set_read_timeout(Some(SILENCE_MAX))?;
        stream.set_write_timeout(Some(SILENCE_MAX))?;
        let call: Call = self.0.read()?;
        // The name becomes part of a path, and what is stored is nobody else's business.
        let name = ArchiveName::parse(&call.name);
        name.map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
        match is_of_this_account(self.0.reader.get_ref()) {
            true => Ok(call),
            false => Err(io::ErrorKind::PermissionDenied.into()),
        }
    }

    pub(super) fn answer(&mut self, answer: &Answer) -> io::Result<()> {
        self.0.write(answer)
    }
}

struct Lines {
    reader: BufReader<UnixStream>,
}

impl Lines {
    fn new(stream: UnixStream) -> Self {
        Self { reader: BufReader::new(stream) }
    }

    fn read<T: DeserializeOwned>(&mut self) -> io::Result<T> {
        let mut line = String::new();
        self.reader.by_ref().take(LINE_MAX).read_line(&mut line)?;
        if !line.ends_with('\n') {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(serde_json::from_str(&line)?)
    }

    fn write(&mut self, message: &impl Serialize) -> io::Result<()> {
        let mut line = serde_json::to_vec(message)?;
        line.push(b'\n');
        self.reader.get_mut().write_all(&line)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::push::{PushOutcome, PushedTo};
    use std::thread;

    const NAME: &str = "000000010000000000000003";

    fn main_repository() -> Vec<NamedRepository> {
        vec![NamedRepository::new("main", "directory /r", true, || unreachable!("it is not opened"))]
    }

    fn pushed() -> Pushed {
        let outcome = PushOutcome::Stored { bytes_stored: 9, was_there: true };
        Pushed {
            name: NAME.to_owned(),
            repositories: vec![PushedTo { repository: "main".to_owned(), outcome }],
        }
    }

    fn data_directory() -> tempfile::TempDir {
        let data = tempfile::tempdir().unwrap();
        fs::create_dir(data.path().join("pg_wal")).unwrap();
        fs::write(data.path().join("pg_wal").join(NAME), "WAL").unwrap();
        data
    }

    /// What a push makes of these answers.
    fn asked(answers: &[Answer]) -> Option<Result<Pushed, WalError>> {
        let data = data_directory();
        let path = Path::new("pg_wal").join(NAME);
        let listener = listen(data.path()).unwrap();
        thread::scope(|scope| {
            scope.spawn(|| {
                let mut caller = Caller::new(listener.accept().unwrap().0);
                let call = caller.read().unwrap();
                assert_eq!((call.name.as_str(), call.repository.as_str()), (NAME, "directory /r"));
                assert_eq!(call.file, queue::identity(&data.path().join(&path)).unwrap());
                assert!(!call.is_queued);
                for answer in answers {
                    caller.answer(answer).unwrap();
                }
            });
            ask(data.path(), &path, &main_repository())
        })
    }

    #[test]
    fn a_push_believes_only_a_clear_answer() {
        let stored = asked(&[Answer::Working, Answer::Stored { pushed: pushed() }]);
        assert_eq!(stored.unwrap().unwrap(), pushed());
        let failed = Answer::Failed { message: "no room".to_owned(), hint: "make some".to_owned() };
        let error = asked(&[failed]).unwrap().unwrap_err();
        assert_eq!((error.to_string().as_str(), error.hint().as_str()), ("no room", "make some"));
        assert!(asked(&[Answer::Elsewhere]).is_none());
        assert!(asked(&[Answer::Working]).is_none(), "it ended in the middle of the work");
        assert!(asked(&[]).is_none());
    }

    /// A process that takes another repository for required than the push does must not answer for it.
    #[test]
    fn which_repositories_are_meant_includes_which_are_required() {
        let far = |required| NamedRepository::new("far", "directory /f", required, || unreachable!());
        let near = main_repository().remove(0);
        assert_eq!(places(std::slice::from_ref(&near)), "directory /r");
        assert_eq!(places(&[near.clone(), far(true)]), "directory /r, directory /f");
        assert_eq!(places(&[near, far(false)]), "directory /r, directory /f (not required)");
    }

    #[test]
    fn nobody_is_asked_where_nobody_is_or_for_what_is_not_in_pg_wal() {
        let data = data_directory();
        let path = Path::new("pg_wal").join(NAME);
        let repositories = main_repository();
        assert!(ask(data.path(), &path, &repositories).is_none());
        drop(listen(data.path()).unwrap());
        assert!(ask(data.path(), &path, &repositories).is_none(), "it is gone");
        let listener = listen(data.path()).unwrap();
        let taken = listen(data.path()).unwrap_err();
        assert_eq!(taken.kind(), io::ErrorKind::AddrInUse);
        listener.set_nonblocking(true).unwrap();
        for path in ["other/000000010000000000000003", "pg_wal/../x", "pg_wal/x", NAME] {
            assert!(ask(data.path(), Path::new(path), &repositories).is_none(), "{path}");
        }
        assert_eq!(listener.accept().unwrap_err().kind(), io::ErrorKind::WouldBlock, "it was not asked");
    }
}
