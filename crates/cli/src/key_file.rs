//! Files that hold an age identity: how they are written, and that none is ever lost by it.

use crate::account;
use crate::fault::Refused;
use anyhow::Context as _;
use jiff::Timestamp;
use pgproof_repo::Unlock;
use pgproof_repo::key::KeyPair;
use pgproof_server::Owner;
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// Nobody but its owner reads a key.
pub(crate) const MODE: u32 = 0o600;

/// The file as `age-keygen` writes it, so that the `age` tool can use it too.
pub(crate) fn key_text(pair: &KeyPair) -> String {
    format!(
        "# created: {}\n# public key: {}\n# pgproof: whoever has this file can read the backups; without it nobody can. Keep a copy elsewhere.\n{}\n",
        Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ"),
        pair.recipient,
        *pair.identity
    )
}

/// The identities of a file, read now and by this account.
///
/// # Errors
/// When it cannot be read.
pub(crate) fn read(path: &Path) -> anyhow::Result<Unlock> {
    let text = fs::read_to_string(path)
        .with_context(|| format!("could not read the key file {}", path.display()))?;
    Ok(Unlock::identity(text))
}

/// Refuses to write where something is: it may be the only key of something else.
///
/// # Errors
/// [`Refused`] names the file.
pub(crate) fn refuse_existing(path: &Path) -> Result<(), Refused> {
    match fs::symlink_metadata(path) {
        Err(_) => Ok(()),
        Ok(_) => Err(Refused::new(
            "key-file-exists",
            format!("{} exists already, and a key is never overwritten", path.display()),
            "name another file",
        )),
    }
}

/// Writes a file that must not exist yet, durably.
///
/// # Errors
/// When it exists, or cannot be written.
pub(crate) fn write_new(path: &Path, text: &str, mode: u32, owner: Owner) -> anyhow::Result<()> {
    let fail = || format!("could not write {}", path.display());
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).with_context(fail)?;
    }
    let mut file =
        OpenOptions::new().write(true).create_new(true).mode(mode).open(path).with_context(fail)?;
    file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).with_context(fail)?;
    account::give(path, owner).with_context(fail)?;
    sync_parent(path).with_context(fail)
}

/// Makes a file's name durable.
///
/// # Errors
/// What the system says.
pub(crate) fn sync_parent(path: &Path) -> std::io::Result<()> {
    match path.parent() {
        Some(parent) => fs::File::open(parent)?.sync_all(),
        None => Ok(()),
    }
}
