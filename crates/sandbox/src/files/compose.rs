//! What the mounted file system shows at first: the files of the backup, and what makes a server recover from them.
//!
//! `data` is the data directory and `tablespaces/<oid>` are its tablespaces, which links in `pg_tblspc` lead to. `pg_wal` is a link to a
//! local directory. What a backup must not bring along, or must be written anew, is decided where restores decide it.

use super::base::Base;
use super::layer::{Layer, Leaf, Origin};
use super::tree::{Content, Tree};
use pgproof_repo::FileKind;
use pgproof_restore::dispositions::{
    CONTROL_FILE, Disposition, EXTERNAL, REQUIRED_DIRECTORIES, below, disposition,
};
use pgproof_restore::survey::is_tablespace_link;
use pgproof_restore::twophase::StartingXid;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

/// Bits of a directory that nobody but the server's account enters.
const PRIVATE: u32 = 0o700;

/// The data directory's name in the mount.
pub(crate) const DATA: &str = "data";

/// The tree, and how many pages the backup has.
pub(crate) fn compose(
    base: &Base,
    layer: &Layer,
    mount: &Path,
    wal: &Path,
    first: u64,
    starting: StartingXid,
) -> io::Result<(Tree, u64)> {
    let mut tree = Tree::new(first);
    tree.directory(DATA)?;
    let manifest = base.manifest();
    let mut pages = 0;
    for entry in manifest.files() {
        let entry = entry.map_err(io::Error::other)?;
        let wanted = disposition(&entry.path) == Disposition::Place || entry.path == CONTROL_FILE;
        let in_wal = entry.path == "pg_wal" || below(&entry.path, "pg_wal");
        let left_to_wal = !starting.judge(&entry.path).is_placed();
        if !wanted || left_to_wal || in_wal || is_tablespace_link(&entry.path) || below(&entry.path, EXTERNAL)
        {
            continue;
        }
        pages += entry.map.mapped_pages();
        let path = place_of(&entry.path);
        let (parent, name) = path.rsplit_once('/').unwrap_or(("", &path));
        let parent = tree.directory(parent)?;
        let content = match entry.kind {
            FileKind::Directory => {
                let made = tree.directory(&path)?;
                tree.node_mut(made)?.mode = PRIVATE;
                continue;
            }
            FileKind::Link { target } => Content::Link(target),
            FileKind::File => {
                let origin = Origin { path: entry.path.clone(), length: entry.length };
                Content::File(Arc::new(Leaf::of(tree.next(), origin)))
            }
        };
        let modified = SystemTime::UNIX_EPOCH + Duration::from_secs(entry.modified.try_into().unwrap_or(0));
        tree.add(parent, name, content, 0o600, modified)?;
    }
    for name in REQUIRED_DIRECTORIES.iter().filter(|name| **name != "pg_wal" && !below(name, "pg_wal")) {
        tree.directory(&format!("{DATA}/{name}"))?;
    }
    link(&mut tree, &format!("{DATA}/pg_wal"), &wal.display().to_string())?;
    for tablespace in &manifest.summary().tablespaces {
        let place = format!("tablespaces/{}", tablespace.oid);
        tree.directory(&place)?;
        let target = mount.join(&place).display().to_string();
        link(&mut tree, &format!("{DATA}/pg_tblspc/{}", tablespace.oid), &target)?;
    }
    write(&mut tree, layer, "backup_label", manifest.summary().backup_label.as_bytes())?;
    write(&mut tree, layer, "recovery.signal", b"")?;
    write(
        &mut tree,
        layer,
        "postgresql.auto.conf",
        b"# What a sandbox is started with stands on its command line.\n",
    )?;
    Ok((tree, pages))
}

/// Where a path of the manifest lies in the mount.
fn place_of(path: &str) -> String {
    match path.strip_prefix("pg_tblspc/") {
        Some(rest) => format!("tablespaces/{rest}"),
        None => format!("{DATA}/{path}"),
    }
}

fn link(tree: &mut Tree, path: &str, target: &str) -> io::Result<()> {
    let (parent, name) = path.rsplit_once('/').unwrap_or(("", path));
    let parent = tree.directory(parent)?;
    tree.add(parent, name, Content::Link(target.to_owned()), 0o777, SystemTime::now())?;
    Ok(())
}

/// Makes a file of the data directory, in place of any that the backup has.
fn write(tree: &mut Tree, layer: &Layer, name: &str, content: &[u8]) -> io::Result<()> {
    let parent = tree.directory(DATA)?;
    // The backup may have one, which is not this.
    let _ = tree.unlink(layer, parent, name);
    let leaf = Leaf::new(tree.next());
    leaf.write(None, layer, 0, content)?;
    tree.add(parent, name, Content::File(Arc::new(leaf)), 0o600, SystemTime::now())?;
    Ok(())
}
