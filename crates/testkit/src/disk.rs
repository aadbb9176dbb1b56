//! Disks of a few megabytes: full, grown, read-only, as a test says.
//!
//! A disk is a tmpfs of its own, mounted on a directory and taken away with the value. Mounting needs root; a test that has no root fails
//! and says so, because what it would have shown was not shown.

use crate::Account;
use anyhow::{Context, Result, ensure};
use std::path::{Path, PathBuf};
use std::process::Command;

/// A mounted disk.
#[derive(Debug)]
pub struct SmallDisk {
    path: PathBuf,
}

impl SmallDisk {
    /// Mounts an empty disk of so many MiB on a directory, which is made, for an account.
    ///
    /// # Errors
    /// Fails without root.
    pub fn mount(path: &Path, mebibytes: u32, account: &Account) -> Result<Self> {
        account.create_dir(path)?;
        let options = format!("size={mebibytes}m,mode=0700,uid={},gid={}", account.uid, account.gid);
        mount(&["-t", "tmpfs", "-o", &options, "pgproof-test"], path)?;
        Ok(Self { path: path.to_owned() })
    }

    /// Where it is mounted.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Gives it another size.
    ///
    /// # Errors
    /// Fails without root, and when more is on it.
    pub fn resize(&self, mebibytes: u32) -> Result<()> {
        mount(&["-o", &format!("remount,size={mebibytes}m")], &self.path)
    }

    /// Lets nobody write on it, or everybody again.
    ///
    /// # Errors
    /// Fails without root, and while a file is open for writing.
    pub fn set_writable(&self, writable: bool) -> Result<()> {
        mount(&["-o", if writable { "remount,rw" } else { "remount,ro" }], &self.path)
    }

    /// Bytes that still fit.
    ///
    /// # Errors
    /// Fails when the disk cannot be asked.
    pub fn free_bytes(&self) -> Result<u64> {
        let seen = rustix::fs::statvfs(&self.path).context("ask for free space")?;
        Ok(seen.f_bavail * seen.f_frsize)
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily: a process that a failed test left may still work there.
        drop(Command::new("umount").arg("--lazy").arg(&self.path).status());
    }
}

fn mount(arguments: &[&str], path: &Path) -> Result<()> {
    let status = Command::new("mount").args(arguments).arg(path).status().context("run mount")?;
    ensure!(
        status.success(),
        "mount {} {} ended with {status}: it needs root",
        arguments.join(" "),
        path.display()
    );
    Ok(())
}
