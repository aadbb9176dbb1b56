//! A program that wraps and unwraps the data key: the way to a key service that pgproof does not know.
//!
//! The protocol is in `docs/manual/keys.md`: the program gets `wrap` or `unwrap` as its last argument and the bytes on its standard input, and
//! answers on its standard output with exit code 0. It is started as a vector of words, without a shell: nothing has to be put into its
//! command line as PostgreSQL puts `%f` into `archive_command`, so a shell would only add its own rules for quotes, and be what is killed
//! at the time limit instead of the program. Who wants one names `/bin/sh` himself.
//!
//! Deliberately not here: what is wrapped, and whether the answer is the right key (`recipients.rs`). Neither input nor output is ever shown.

use crate::description::RepositoryId;
use crate::{Error, Result};
use rustix::process::{Pid, Signal, kill_process_group};
use std::io::{Read, Write};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread;
use std::time::{Duration, Instant};
use zeroize::Zeroizing;

/// Longest answer in bytes. Key services answer with a few hundred.
pub const ANSWER_BYTES_MAX: usize = 16 << 10;

/// Of what a program complains, so much is shown.
const COMPLAINT_BYTES_MAX: usize = 1000;

/// Between two looks whether the program has ended.
const PAUSE: Duration = Duration::from_millis(5);

/// How long the output of a program that has ended may stay open, by something that it left behind.
const GRACE: Duration = Duration::from_secs(1);

/// A program, its first arguments, and how long it may take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyCommand {
    words: Vec<String>,
    limit: Duration,
}

/// What a program is asked to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verb {
    Wrap,
    Unwrap,
}

impl Verb {
    fn word(self) -> &'static str {
        match self {
            Self::Wrap => "wrap",
            Self::Unwrap => "unwrap",
        }
    }
}

/// Splits a command line into words: they are separated by blanks, and one with blanks in it stands in single or double quotes.
///
/// # Errors
/// What is wrong with it, as the rest of a sentence.
pub fn split(line: &str) -> Result<Vec<String>, String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    for c in line.chars() {
        match quote {
            Some(open) if c == open => quote = None,
            Some(_) => word.get_or_insert_default().push(c),
            None if c == '\'' || c == '"' => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            None if c.is_whitespace() => words.extend(word.take()),
            None => word.get_or_insert_default().push(c),
        }
    }
    if quote.is_some() {
        return Err("a quote is not closed".to_owned());
    }
    words.extend(word);
    // archive_command runs with the server's PATH and a person with another one: a bare name would mean two programs.
    match words.first() {
        None => Err("it is empty".to_owned()),
        Some(program) if !program.starts_with('/') => {
            Err("the program must be named by its absolute path, which begins with `/`".to_owned())
        }
        Some(_) => Ok(words),
    }
}

impl KeyCommand {
    /// A command of these words, as [`split`] gives them, that is killed after `limit`.
    ///
    /// # Panics
    /// When there are no words.
    pub fn new(words: Vec<String>, limit: Duration) -> Self {
        assert!(!words.is_empty(), "a command has a program");
        Self { words, limit }
    }

    /// The program's path.
    pub fn program(&self) -> &str {
        &self.words[0]
    }

    /// Runs the program and gives its answer.
    pub(crate) fn run(
        &self,
        verb: Verb,
        input: &[u8],
        repository: RepositoryId,
    ) -> Result<Zeroizing<Vec<u8>>> {
        let fail =
            |why: String| Error::KeyCommand { program: self.program().to_owned(), verb: verb.word(), why };
        let started = Command::new(self.program())
            .args(&self.words[1..])
            .arg(verb.word())
            // What a key service calls the context of a key: it can refuse to unwrap one repository's key for another.
            .env("PGPROOF_REPOSITORY_ID", repository.to_string())
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .spawn();
        let mut running =
            Running(started.map_err(|error| fail(format!("it could not be started: {error}")))?);
        let deadline = Instant::now() + self.limit;
        let (answer, complaint) = running.converse(input)?;
        let Some(status) = running.wait(deadline).map_err(|error| fail(error.to_string()))? else {
            running.kill();
            let said = shown(&complaint.recv_timeout(GRACE).unwrap_or_default());
            let limit = pgproof_base::human_duration(self.limit);
            return Err(fail(format!("it did not end within {limit} and was killed{said}")));
        };
        let answer = answer.recv_timeout(GRACE);
        let complaint = || shown(&complaint.recv_timeout(GRACE).unwrap_or_default());
        match (status.success(), answer) {
            (false, _) => Err(fail(format!("{status}{}", complaint()))),
            (true, Err(_)) => Err(fail("it left something running that holds its output open".to_owned())),
            (true, Ok(answer)) if answer.is_empty() => {
                Err(fail(format!("its answer is empty{}", complaint())))
            }
            (true, Ok(answer)) if answer.len() > ANSWER_BYTES_MAX => {
                Err(fail(format!("its answer is longer than {ANSWER_BYTES_MAX} bytes{}", complaint())))
            }
            (true, Ok(answer)) => Ok(answer),
        }
    }
}

/// What a program complained of, as the end of a sentence.
fn shown(complaint: &[u8]) -> String {
    let text = String::from_utf8_lossy(&complaint[..complaint.len().min(COMPLAINT_BYTES_MAX)]);
    let printable = |c: char| if c.is_control() { ' ' } else { c };
    let text: String = text.trim().chars().map(printable).collect();
    if text.is_empty() { text } else { format!(": {text}") }
}

type Output = Receiver<Zeroizing<Vec<u8>>>;

/// A program that runs; it is gone when this is dropped.
struct Running(Child);

impl Running {
    /// Gives it its input and gathers what it says, each on a thread: a program that does not read must not stop the clock.
    fn converse(&mut self, input: &[u8]) -> Result<(Output, Output)> {
        let (stdin, stdout, stderr) = (self.0.stdin.take(), self.0.stdout.take(), self.0.stderr.take());
        let input = Zeroizing::new(input.to_vec());
        spawn(move || {
            if let Some(mut stdin) = stdin {
                // A program that answers without reading all of it has its reasons.
                let _ = stdin.write_all(&input);
            }
        })?;
        Ok((gathered(stdout, ANSWER_BYTES_MAX)?, gathered(stderr, COMPLAINT_BYTES_MAX)?))
    }

    /// Waits for its end; none when it has not come by then.
    fn wait(&mut self, deadline: Instant) -> std::io::Result<Option<ExitStatus>> {
        loop {
            if let Some(status) = self.0.try_wait()? {
                return Ok(Some(status));
            }
            if Instant::now() >= deadline {
                return Ok(None);
            }
            thread::sleep(PAUSE);
        }
    }

    /// Kills it with all that it started, as far as that stayed in its process group.
    fn kill(&mut self) {
        // It may have ended a moment ago.
        let _ = kill_process_group(Pid::from_child(&self.0), Signal::KILL);
        let _ = self.0.wait();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if matches!(self.0.try_wait(), Ok(None)) {
            self.kill();
        }
    }
}

/// Reads to the end, and keeps a little more than `max`, which shows that there was more.
fn gathered(pipe: Option<impl Read + Send + 'static>, max: usize) -> Result<Output> {
    let (sender, receiver) = sync_channel(1);
    spawn(move || {
        // As large as it gets from the start: a buffer that moves leaves the key behind in freed memory.
        let mut bytes = Zeroizing::new(Vec::with_capacity(max + 64));
        if let Some(mut pipe) = pipe {
            let _ = (&mut pipe).take(max as u64 + 1).read_to_end(&mut bytes);
            // The program is not to die of a pipe that nobody reads.
            let _ = std::io::copy(&mut pipe, &mut std::io::sink());
        }
        let _ = sender.send(bytes);
    })?;
    Ok(receiver)
}

fn spawn(work: impl FnOnce() + Send + 'static) -> Result<()> {
    let spawned = thread::Builder::new().name("key command".to_owned()).spawn(work);
    spawned.map(drop).map_err(|source| Error::Thread { operation: "speak to the key command", source })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str, limit_ms: u64) -> KeyCommand {
        let words = ["/bin/sh", "-c", script, "key"].map(str::to_owned).to_vec();
        KeyCommand::new(words, Duration::from_millis(limit_ms))
    }

    fn run(script: &str) -> Result<Vec<u8>, String> {
        let answer = shell(script, 10_000).run(Verb::Wrap, b"secret", RepositoryId::random());
        answer.map(|answer| answer.to_vec()).map_err(|error| error.to_string())
    }

    #[test]
    fn a_program_gets_the_verb_the_bytes_and_the_repository() {
        assert_eq!(run("cat").unwrap(), b"secret");
        assert_eq!(run("cat >&2; printf \"$1\"").unwrap(), b"wrap");
        assert_eq!(run("printf \"$PGPROOF_REPOSITORY_ID\"").unwrap().len(), 32);
    }

    #[test]
    fn what_goes_wrong_is_told_with_the_programs_own_words_and_never_with_the_key() {
        let refused = run("echo 'no permission' >&2; cat; exit 1").unwrap_err();
        assert_eq!(
            refused,
            "the key command /bin/sh could not wrap the data key: exit status: 1: no permission"
        );
        assert!(run("exit 0").unwrap_err().ends_with("its answer is empty"));
        assert!(run("head -c 20000 /dev/zero").unwrap_err().contains("longer than 16384 bytes"));
        let absent = KeyCommand::new(vec!["/nowhere/key".to_owned()], Duration::from_secs(1));
        let error = absent.run(Verb::Unwrap, b"x", RepositoryId::random()).unwrap_err();
        assert!(error.to_string().contains("it could not be started: No such file"), "{error}");
    }

    #[test]
    fn a_program_that_hangs_is_killed_with_what_it_started() {
        let began = Instant::now();
        let hang = shell("echo waiting >&2; sleep 60 & wait", 200);
        let error = hang.run(Verb::Unwrap, b"x", RepositoryId::random()).unwrap_err().to_string();
        assert!(error.contains("did not end within 200 ms and was killed: waiting"), "{error}");
        assert!(began.elapsed() < Duration::from_secs(20));
    }

    #[test]
    fn a_command_line_is_words_without_a_shell() {
        let words = |line: &str| split(line).map(|words| words.join("|"));
        assert_eq!(words("/bin/key  --name 'my key' \"it's\" ''").unwrap(), "/bin/key|--name|my key|it's|");
        assert_eq!(words("/bin/sh -c 'a | b'").unwrap(), "/bin/sh|-c|a | b");
        assert!(words("vault-key").unwrap_err().contains("absolute path"));
        assert_eq!(words(" ").unwrap_err(), "it is empty");
        assert_eq!(words("/bin/key 'x").unwrap_err(), "a quote is not closed");
    }
}
