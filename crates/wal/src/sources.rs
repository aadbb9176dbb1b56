//! The repositories in the order in which a recovery asks them: as configured, but one that gave no answer a moment ago comes last.
//!
//! A recovery asks for thousands of files, each with a process of its own. Each would wait anew for a repository that is gone, so who did not
//! answer is noted beside the spool of the data directory that recovers, for a minute. The note changes the order only: that a file
//! is absent is said after all were asked.

use crate::error::WalError;
use crate::repositories::NamedRepository;
use crate::spool::SPOOL;
use pgproof_repo::Repository;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How long a repository without an answer comes last.
const NOTED_FOR: Duration = Duration::from_secs(60);

/// An answer, be it a refusal, that came sooner than this costs little to ask for again.
const SLOW: Duration = Duration::from_secs(1);

pub(crate) struct Sources<'a> {
    sources: Vec<Source<'a>>,
    /// Where notes lie; none where nobody recovers.
    notes: Option<PathBuf>,
}

struct Source<'a> {
    named: &'a NamedRepository,
    opened: Option<Result<Repository, WalError>>,
}

impl<'a> Sources<'a> {
    /// Takes the repositories; `recovering` is the data directory that recovers.
    pub(crate) fn new(repositories: &'a [NamedRepository], recovering: Option<&Path>) -> Self {
        let notes = recovering.filter(|_| repositories.len() > 1).map(|pgdata| pgdata.join(SPOOL));
        let mut sources: Vec<_> = repositories.iter().map(|named| Source { named, opened: None }).collect();
        if let Some(notes) = &notes {
            sources.sort_by_key(|source| is_noted(&note(notes, source.named)));
        }
        Self { sources, notes }
    }

    pub(crate) fn len(&self) -> usize {
        self.sources.len()
    }

    pub(crate) fn name(&self, at: usize) -> &str {
        &self.sources[at].named.name
    }

    /// The first repository that can be opened.
    pub(crate) fn first(&mut self) -> Option<&Repository> {
        let at = (0..self.len()).find(|&at| {
            self.look(at);
            matches!(self.sources[at].opened, Some(Ok(_)))
        })?;
        self.sources[at].opened.as_ref()?.as_ref().ok()
    }

    /// One of them, opened. An error is given once.
    pub(crate) fn open(&mut self, at: usize) -> Result<Repository, WalError> {
        self.look(at);
        match self.sources[at].opened.take() {
            Some(Ok(repository)) => {
                self.sources[at].opened = Some(Ok(repository.clone()));
                Ok(repository)
            }
            Some(Err(error)) => Err(error),
            None => self.sources[at].named.open(),
        }
    }

    fn look(&mut self, at: usize) {
        let several = self.sources.len() > 1;
        let source = &mut self.sources[at];
        if source.opened.is_some() {
            return;
        }
        let began = Instant::now();
        let opened = if several { source.named.open_soon() } else { source.named.open() };
        if let (Some(notes), true) = (&self.notes, opened.is_err() && began.elapsed() >= SLOW) {
            // Without the note the next file waits as long, and nothing else is lost.
            drop(fs::create_dir_all(notes).and_then(|()| fs::write(note(notes, source.named), "")));
        }
        source.opened = Some(opened);
    }
}

fn note(notes: &Path, named: &NamedRepository) -> PathBuf {
    notes.join(format!("away-{}", named.name))
}

fn is_noted(note: &Path) -> bool {
    let modified = fs::metadata(note).and_then(|metadata| metadata.modified());
    modified.is_ok_and(|at| at.elapsed().is_ok_and(|age| age < NOTED_FOR))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_gave_no_answer_a_moment_ago_is_asked_last() {
        let data = tempfile::tempdir().unwrap();
        let named = |name: &str| NamedRepository::new(name, name, true, || unreachable!("nobody opens it"));
        let all = [named("near"), named("far")];
        let order = |recovering: Option<&Path>| {
            let sources = Sources::new(&all, recovering);
            (0..sources.len()).map(|at| sources.name(at).to_owned()).collect::<Vec<_>>()
        };
        assert_eq!(order(Some(data.path())), ["near", "far"]);
        let notes = data.path().join(SPOOL);
        fs::create_dir_all(&notes).unwrap();
        fs::write(note(&notes, &all[0]), "").unwrap();
        assert_eq!(order(Some(data.path())), ["far", "near"]);
        assert_eq!(order(None), ["near", "far"]);
        let long_ago = std::time::SystemTime::now() - 2 * NOTED_FOR;
        fs::File::options().write(true).open(note(&notes, &all[0])).unwrap().set_modified(long_ago).unwrap();
        assert_eq!(order(Some(data.path())), ["near", "far"]);
    }
}
