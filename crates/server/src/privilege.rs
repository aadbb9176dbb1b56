//! Giving up root for the account that owns a data directory.
//!
//! PostgreSQL refuses to run as root, and files that root writes into a repository lock out the archiver that runs as the
//! owner. So pgproof, started as root, becomes the owner as its first act ([`run_as`]), or lets one child be the owner
//! ([`spawn_as`]). Groups come along: Debian's server reads its TLS key through the group `ssl-cert`.
//!
//! On Linux credentials belong to threads; the C library's `setuid` imitates POSIX by signalling all threads. The calls
//! used here change one thread only, which is safe Rust, and enough: [`run_as`] insists on being the only thread, and a
//! thread or child begins with the credentials of the one that started it.

use crate::error::ServerError;
use nix::unistd::{self, User};
use rustix::{
    fs::{Gid, Uid},
    process::{DumpableBehavior, getegid, geteuid, set_dumpable_behavior},
    thread::{set_thread_gid, set_thread_groups, set_thread_uid},
};
use serde::{Deserialize, Serialize};
use std::{
    ffi::CString,
    fmt, fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    process::{Child, Command},
    thread,
};

/// An account: whom a directory belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Owner {
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => f.write_str(&name),
            None => write!(f, "{}", self.uid),
        }
    }
}

impl Owner {
    /// Whom a file or directory belongs to.
    ///
    /// # Errors
    /// [`ServerError::Host`] when it cannot be looked at.
    pub fn of(path: &Path) -> Result<Self, ServerError> {
        let metadata = fs::metadata(path).map_err(ServerError::host("look at", path))?;
        Ok(Self { uid: metadata.uid(), gid: metadata.gid() })
    }

    /// The account that this process acts as.
    #[must_use]
    pub fn current() -> Self {
        Self { uid: geteuid().as_raw(), gid: getegid().as_raw() }
    }

    /// `postgres`, which packages make for their servers, where it exists.
    #[must_use]
    pub fn of_packages() -> Option<Self> {
        let passwd = fs::read_to_string("/etc/passwd").ok()?;
        let fields = passwd.lines().find_map(|line| line.strip_prefix("postgres:"))?;
        let mut fields = fields.split(':').skip(1);
        let mut number = || fields.next()?.parse().ok();
        Some(Self { uid: number()?, gid: number()? })
    }

    /// Whether it is root.
    #[must_use]
    pub fn is_root(self) -> bool {
        self.uid == 0
    }

    /// The account's name, as the system's name service tells it.
    #[must_use]
    pub fn name(&self) -> Option<String> {
        let user = User::from_uid(unistd::Uid::from_raw(self.uid)).ok().flatten()?;
        (!user.name.is_empty()).then_some(user.name)
    }

    /// All groups of the account; its own group alone where the account has no name.
    fn groups(self) -> Vec<Gid> {
        let named = self.name().and_then(|name| CString::new(name).ok());
        let own = unistd::Gid::from_raw(self.gid);
        let groups = named.and_then(|name| unistd::getgrouplist(&name, own).ok()).unwrap_or_default();
        let mut groups: Vec<u32> = groups.into_iter().map(unistd::Gid::as_raw).collect();
        if !groups.contains(&self.gid) {
            groups.push(self.gid);
        }
        groups.into_iter().map(Gid::from_raw).collect()
    }
}

/// What [`run_as`] did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Became {
    /// The process was this account already.
    Already,
    /// The process was root and is now this account, for the rest of its life.
    Changed,
}

/// Makes this process the given account for the rest of its life. Call it before any thread is started.
///
/// # Errors
/// [`ServerError::Privilege`] when the process is neither root nor that account, has several threads, or the system
/// refuses. After an error in the middle the process may have changed its groups and should end.
pub fn run_as(owner: Owner) -> Result<Became, ServerError> {
    let current = Owner::current();
    if current.uid == owner.uid {
        return Ok(Became::Already);
    }
    let fail = |why: String| ServerError::Privilege { user: owner.to_string(), why };
    if !current.is_root() {
        return Err(fail(format!("this process runs as {current} and only root can change that")));
    }
    let tasks =
        fs::read_dir("/proc/self/task").map_err(ServerError::host("read", "/proc/self/task"))?.count();
    if tasks != 1 {
        return Err(fail(format!("{tasks} threads run already, and each would have to change")));
    }
    take_on(owner).map_err(fail)?;
    // As if that account had started it: `/proc/self/io` and the like are closed to a process that changed accounts.
    set_dumpable_behavior(DumpableBehavior::Dumpable)
        .map_err(|error| fail(format!("open /proc/self again: {error}")))?;
    Ok(Became::Changed)
}

/// Starts a command as the given account, with its environment's `USER` and `LOGNAME`.
///
/// # Errors
/// [`ServerError::Privilege`] when this process may not act as that account, [`ServerError::Host`] when the program cannot
/// be started.
pub fn spawn_as(owner: Owner, command: &mut Command) -> Result<Child, ServerError> {
    let program = PathBuf::from(command.get_program());
    if owner.uid != Owner::current().uid
        && let Some(name) = owner.name()
    {
        command.env("USER", &name).env("LOGNAME", name).env_remove("HOME");
    }
    act_as(owner, || command.spawn())?.map_err(ServerError::host("run", program))
}

/// Does something as the given account: directly if this process is that account, as root on a thread that changes first
/// and ends afterwards. What it does must not start threads that outlive it.
///
/// # Errors
/// [`ServerError::Privilege`] when this process may not act as that account.
pub fn act_as<T: Send>(owner: Owner, act: impl FnOnce() -> T + Send) -> Result<T, ServerError> {
    let current = Owner::current();
    if current.uid == owner.uid {
        return Ok(act());
    }
    let fail = |why: String| ServerError::Privilege { user: owner.to_string(), why };
    if !current.is_root() {
        return Err(fail(format!("this process runs as {current} and only root can act as others")));
    }
    let done = thread::scope(|scope| scope.spawn(|| take_on(owner).map(|()| act())).join());
    match done {
        Ok(done) => done.map_err(fail),
        Err(panic) => std::panic::resume_unwind(panic),
    }
}

/// Changes the calling thread. Groups first: after the user has changed, the rest is forbidden.
fn take_on(owner: Owner) -> Result<(), String> {
    let groups = owner.groups();
    set_thread_groups(&groups).map_err(|error| format!("set groups: {error}"))?;
    set_thread_gid(Gid::from_raw(owner.gid)).map_err(|error| format!("set group {}: {error}", owner.gid))?;
    set_thread_uid(Uid::from_raw(owner.uid)).map_err(|error| format!("set user {}: {error}", owner.uid))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Stdio;

    #[test]
    fn a_child_gets_user_group_and_supplementary_groups_of_the_owner() {
        if !Owner::current().is_root() {
            return;
        }
        let nobody = Owner { uid: 65_534, gid: 65_534 };
        let mut command = Command::new("sh");
        command.args(["-c", "id -u; id -g; id -G"]).stdout(Stdio::piped());
        let output = spawn_as(nobody, &mut command).unwrap().wait_with_output().unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stdout), "65534\n65534\n65534\n");
        assert!(Owner::current().is_root(), "only the child changes");
    }

    #[test]
    fn a_process_with_several_threads_does_not_change() {
        // The test harness itself runs this on a second thread.
        let owner = Owner { uid: 65_534, gid: 65_534 };
        let error = run_as(owner).unwrap_err();
        assert!(matches!(error, ServerError::Privilege { .. }), "{error}");
    }

    #[test]
    fn becoming_oneself_changes_nothing() {
        assert_eq!(run_as(Owner::current()).unwrap(), Became::Already);
    }
}
