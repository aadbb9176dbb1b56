//! Started as root, commands become the account that owns the data directory.
//!
//! A file that root leaves in the repository locks out the archiver, which runs as that account; and only that account's own attempt shows
//! whether key, configuration and repository can be read by it. The change is made before any thread starts and is never undone.

use crate::config::{Config, RepositoryConfig};
use crate::fault::Refused;
use pgproof_server::ServerError;
use pgproof_server::privilege::{Owner, act_as, run_as};
use pgproof_store::StoreConfig;
use std::path::Path;
use std::process::{Command, Stdio};

/// Becomes `owner` where this process is root and `owner` is not.
///
/// # Errors
/// [`ServerError::Privilege`].
pub(crate) fn become_owner(owner: Owner) -> Result<(), ServerError> {
    if Owner::current().is_root() && !owner.is_root() {
        wait_for_threads();
        run_as(owner)?;
    }
    Ok(())
}

/// The runtime of a store that was closed a moment ago ends in its own time, and only a single thread can change accounts.
fn wait_for_threads() {
    let threads = || std::fs::read_dir("/proc/self/task").map_or(1, Iterator::count);
    for _ in 0..100 {
        if threads() == 1 {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
}

/// Becomes the owner of the configured data directory, else of the repository's directory, for commands that need no server.
///
/// # Errors
/// As for [`become_owner`].
pub(crate) fn become_repository_owner(config: &Config) -> Result<(), ServerError> {
    become_owner(configured_owner(config))
}

/// The account that such commands act as: this one, or as root the owner of these directories.
pub(crate) fn configured_owner(config: &Config) -> Owner {
    let current = Owner::current();
    if !current.is_root() {
        return current;
    }
    let data = config.instance.pgdata.as_deref().and_then(|path| Owner::of(path).ok());
    data.or_else(|| config.repositories().ok()?.iter().find_map(repository_owner)).unwrap_or(current)
}

/// The owner of a repository's directory; none in a bucket.
pub(crate) fn repository_owner(repository: &RepositoryConfig) -> Option<Owner> {
    match &repository.store {
        StoreConfig::Directory(directory) => Owner::of(&directory.path).ok(),
        _ => None,
    }
}

/// Whether this account can run the program. Not "is it executable": the directories above count too, and only trying shows.
///
/// # Errors
/// Why not.
pub(crate) fn can_run(program: &Path) -> Result<(), String> {
    let tried = Command::new(program).arg("--version").stdin(Stdio::null()).stdout(Stdio::null()).status();
    match tried {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(status.to_string()),
        Err(error) => Err(error.to_string()),
    }
}

/// Refuses a program that `owner`, whose server is to call it, cannot run; a checkout in root's home is such a place.
///
/// # Errors
/// [`Refused`] with what to do instead.
pub(crate) fn refuse_unrunnable(program: &Path, owner: Owner) -> Result<(), Refused> {
    // As somebody else than root or the owner nothing can be tried; `check` says so.
    let Ok(Err(why)) = act_as(owner, || can_run(program)) else { return Ok(()) };
    let place = program.display();
    Err(Refused::new(
        "program-not-runnable",
        format!("{owner}, whose server is to call this program, cannot run {place}: {why}"),
        format!(
            "install it where everybody can run it, and call it there: install -m 755 {place} /usr/local/bin/"
        ),
    ))
}

/// Makes a directory and those above it, for `owner`; what exists is left as it is. The new ones above belong to this process.
///
/// # Errors
/// What the system says.
pub(crate) fn create_dir_for(path: &Path, owner: Owner, mode: u32) -> std::io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    if path.is_dir() {
        return Ok(());
    }
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent)?;
    }
    std::fs::DirBuilder::new().mode(mode).create(path)?;
    give(path, owner)
}

/// Gives a file or directory to `owner`, where this process is root.
///
/// # Errors
/// What the system says.
pub(crate) fn give(path: &Path, owner: Owner) -> std::io::Result<()> {
    if Owner::current().is_root() {
        std::os::unix::fs::chown(path, Some(owner.uid), Some(owner.gid))?;
    }
    Ok(())
}
