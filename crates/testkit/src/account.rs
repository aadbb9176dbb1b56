//! Who runs a test's servers: PostgreSQL refuses to run as root, so root's tests borrow an ordinary account.

use anyhow::{Context, Result, bail};
use std::{
    fs,
    os::unix::{fs::chown, process::CommandExt},
    path::Path,
    process::Command,
};

/// The account under which servers, and commands that servers call, run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    /// Its name in `/etc/passwd`.
    pub name: String,
    /// User id.
    pub uid: u32,
    /// Primary group id.
    pub gid: u32,
    /// Whether this process has to change to it, that is, runs as root.
    pub foreign: bool,
}

impl Account {
    /// The account for servers: `postgres` (else `nobody`) when this process is root, otherwise the one it has.
    ///
    /// # Errors
    /// Fails when `/etc/passwd` cannot be read or names no usable account.
    pub fn for_servers() -> Result<Self> {
        let passwd = fs::read_to_string("/etc/passwd").context("read /etc/passwd")?;
        let own = rustix::process::getuid().as_raw();
        if own != 0 {
            let gid = rustix::process::getgid().as_raw();
            let name = entry(&passwd, |_, uid| uid == own).map_or_else(|| own.to_string(), |found| found.0);
            return Ok(Self { name, uid: own, gid, foreign: false });
        }
        for wanted in ["postgres", "nobody"] {
            if let Some((name, uid, gid)) = entry(&passwd, |name, _| name == wanted) {
                return Ok(Self { name, uid, gid, foreign: true });
            }
        }
        bail!("this process is root and /etc/passwd has neither `postgres` nor `nobody` to run servers as")
    }

    /// Lets `command` run under this account.
    pub fn apply(&self, command: &mut Command) {
        if self.foreign {
            command.uid(self.uid).gid(self.gid);
            command.env("HOME", "/tmp").env("USER", &self.name).env("LOGNAME", &self.name);
        }
    }

    /// Gives `path` itself (not what lies below) to this account.
    ///
    /// # Errors
    /// Fails when the owner cannot be changed.
    pub fn own(&self, path: &Path) -> Result<()> {
        if self.foreign {
            chown(path, Some(self.uid), Some(self.gid))
                .with_context(|| format!("give {} to {}", path.display(), self.name))?;
        }
        Ok(())
    }

    /// Creates a directory and those above it, and gives it to this account, with mode 0700.
    ///
    /// # Errors
    /// Fails when it cannot be created or given away.
    pub fn create_dir(&self, path: &Path) -> Result<()> {
        use std::os::unix::fs::PermissionsExt;
        fs::create_dir_all(path).with_context(|| format!("create {}", path.display()))?;
        fs::set_permissions(path, fs::Permissions::from_mode(0o700))?;
        self.own(path)
    }
}

fn entry(passwd: &str, wanted: impl Fn(&str, u32) -> bool) -> Option<(String, u32, u32)> {
    passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        let uid = fields.nth(1)?.parse().ok()?;
        let gid = fields.next()?.parse().ok()?;
        wanted(name, uid).then(|| (name.to_owned(), uid, gid))
    })
}
