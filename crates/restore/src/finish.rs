//! The order that makes a restore safe to interrupt.
//!
//! [`Site::open`] comes first: it makes the roots and puts a control file with an impossible checkpoint in place, durably, before
//! anything else is touched. From then on PostgreSQL refuses to start here ("control file contains invalid checkpoint location"; it
//! looks before it looks for a `backup_label`). All else is written without any sync. [`Site::sync`] then makes every
//! file system durable with one call each, and only after it [`Site::release`] writes the real control file. A restore that
//! is killed anywhere in between can be continued by a delta.

use crate::dispositions::{CONTROL_FILE, REQUIRED_DIRECTORIES};
use crate::engine::{directory, own, symlink};
use crate::error::{RestoreError, Result};
use crate::places::{Places, TABLESPACES};
use crate::survey::{Kind, Removal};
use pgproof_pg::control;
use pgproof_server::Owner;
use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// A data directory in the making.
pub(crate) struct Site<'a> {
    places: &'a Places,
    owner: Option<Owner>,
    /// Permission bits of directories and files that the backup does not have.
    directory_mode: u32,
    /// One directory on each file system, opened before the first write: errors of writing back that happen from then on are told
    /// by [`Site::sync`].
    file_systems: Vec<(PathBuf, File)>,
    control: Vec<u8>,
}

impl<'a> Site<'a> {
    /// Makes the root directories and disarms the data directory.
    pub(crate) fn open(
        places: &'a Places,
        owner: Option<Owner>,
        directory_mode: u32,
        control: Vec<u8>,
    ) -> Result<Self> {
        let disarmed = control::impossible(&control).map_err(|source| RestoreError::NotPostgres {
            what: "the control file of the backup".to_owned(),
            source,
        })?;
        for root in places.roots() {
            make_root(root, directory_mode, owner)?;
        }
        let mut site = Self { places, owner, directory_mode, file_systems: Vec::new(), control };
        site.open_file_systems()?;
        let global = places.data().join("global");
        directory(&global, directory_mode, owner)?;
        site.write_control(&disarmed)?;
        sync_directory(&global)?;
        sync_directory(places.data())?;
        Ok(site)
    }

    /// Bits of a file that goes with the directory's.
    fn file_mode(&self) -> u32 {
        self.directory_mode & 0o660
    }

    fn open_file_systems(&mut self) -> Result<()> {
        let mut devices = Vec::new();
        let wal = self.places.data().join("pg_wal");
        let wal = fs::metadata(&wal).is_ok().then_some(wal);
        for root in self.places.roots().map(Path::to_owned).chain(wal) {
            let opened = File::open(&root).map_err(RestoreError::file("open", &root))?;
            let device = opened.metadata().map_err(RestoreError::file("look at", &root))?.dev();
            if !devices.contains(&device) {
                devices.push(device);
                self.file_systems.push((root, opened));
            }
        }
        Ok(())
    }

    fn write_control(&self, bytes: &[u8]) -> Result<()> {
        let path = self.places.data().join(CONTROL_FILE);
        // In place, as PostgreSQL does it: what counts lies in one sector. A link in its place would lead elsewhere.
        let file = open_for_writing(&path, self.file_mode())?;
        own(&file, &path, self.owner)?;
        file.write_all_at(bytes, 0).map_err(RestoreError::file("write", &path))?;
        file.set_len(bytes.len() as u64).map_err(RestoreError::file("write", &path))?;
        file.sync_all().map_err(RestoreError::file("sync", &path))
    }

    /// Removes what the backup does not have.
    pub(crate) fn remove(&self, removals: &[Removal]) -> Result<()> {
        for Removal { path, kind, .. } in removals {
            let removed = match kind {
                Kind::Directory => fs::remove_dir_all(path),
                Kind::File | Kind::Link | Kind::Other => fs::remove_file(path),
            };
            match removed {
                Err(source) if source.kind() != ErrorKind::NotFound => {
                    return Err(RestoreError::file("remove", path)(source));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Makes the directories that no server starts without, where the backup did not have them.
    pub(crate) fn require_directories(&self) -> Result<()> {
        for name in REQUIRED_DIRECTORIES {
            let path = self.places.data().join(name);
            if !path.is_dir() {
                directory(&path, self.directory_mode, self.owner)?;
            }
        }
        Ok(())
    }

    /// Makes the links of the tablespaces. Before any file is placed there: whoever continues this restore knows by them whose the
    /// tablespaces are.
    pub(crate) fn link_tablespaces(&self) -> Result<()> {
        directory(&self.places.data().join(TABLESPACES), self.directory_mode, self.owner)?;
        for (oid, target) in self.places.tablespaces() {
            let path = self.places.data().join(TABLESPACES).join(oid.to_string());
            match fs::remove_file(&path) {
                Err(source) if source.kind() != ErrorKind::NotFound => {
                    return Err(RestoreError::file("replace", &path)(source));
                }
                _ => symlink(target, &path, self.owner)?,
            }
        }
        Ok(())
    }

    /// Writes a small file, in place of any that is there.
    pub(crate) fn write(&self, path: &Path, content: &[u8]) -> Result<()> {
        let mut file = open_for_writing(path, self.file_mode())?;
        own(&file, path, self.owner)?;
        file.set_len(0).map_err(RestoreError::file("write", path))?;
        file.write_all(content).map_err(RestoreError::file("write", path))
    }

    /// Makes a directory and those above it.
    pub(crate) fn directories(&self, path: &Path) -> Result<()> {
        make_root(path, self.directory_mode, self.owner)
    }

    /// Makes all that was written durable: one call for each file system instead of one for each file.
    pub(crate) fn sync(&self) -> Result<()> {
        for (path, opened) in &self.file_systems {
            rustix::fs::syncfs(opened)
                .map_err(|errno| RestoreError::file("sync the file system of", path)(errno.into()))?;
        }
        Ok(())
    }

    /// Arms the data directory: writes the real control file. Everything else must be durable.
    pub(crate) fn release(&self) -> Result<()> {
        self.write_control(&self.control)?;
        sync_directory(&self.places.data().join("global"))
    }
}

/// Opens a file of our own for writing, made if it is not there, and never through a link.
fn open_for_writing(path: &Path, mode: u32) -> Result<File> {
    let nofollow = rustix::fs::OFlags::NOFOLLOW.bits() as i32;
    let open = || {
        OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(mode)
            .custom_flags(nofollow)
            .open(path)
    };
    let file = match open() {
        Err(source) if source.raw_os_error() == Some(rustix::io::Errno::LOOP.raw_os_error()) => {
            fs::remove_file(path).map_err(RestoreError::file("replace", path))?;
            open()
        }
        other => other,
    };
    let file = file.map_err(RestoreError::file("write", path))?;
    file.set_permissions(fs::Permissions::from_mode(mode))
        .map_err(RestoreError::file("set the mode of", path))?;
    Ok(file)
}

/// Makes a directory and those above it. Those above get the usual mode; they are not the server's.
fn make_root(root: &Path, mode: u32, owner: Option<Owner>) -> Result<()> {
    let mut missing: Vec<&Path> = root.ancestors().skip(1).take_while(|above| !above.is_dir()).collect();
    while let Some(above) = missing.pop() {
        directory(above, 0o755, owner)?;
    }
    directory(root, mode, owner)
}

fn sync_directory(path: &Path) -> Result<()> {
    let opened = File::open(path).map_err(RestoreError::file("open", path))?;
    opened.sync_all().map_err(RestoreError::file("sync", path))
}
