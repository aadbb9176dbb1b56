//! Where the paths of a backup lie on this host.
//!
//! A manifest names files relative to the data directory, tablespaces as `pg_tblspc/<oid>/...`. [`Places`] turns such a name into an
//! absolute path, the tablespace's own directory in place of the link, and refuses every name that could lead out of the
//! directories chosen: a repository may have been changed by somebody who means harm. Pure.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Longest path in bytes that is taken; Linux takes 4096 with the terminating zero, and the data directory comes before it.
const PATH_BYTES_MAX: usize = 3000;

/// Longest name of one directory entry in bytes, on every file system of Linux.
const NAME_BYTES_MAX: usize = 255;

/// The directory of links to tablespaces.
pub const TABLESPACES: &str = "pg_tblspc";

/// The data directory, and a directory for each tablespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Places {
    data: PathBuf,
    tablespaces: BTreeMap<u32, PathBuf>,
}

impl Places {
    /// The data directory and the tablespaces by their oid, all absolute.
    pub fn new(data: impl Into<PathBuf>, tablespaces: BTreeMap<u32, PathBuf>) -> Self {
        Self { data: data.into(), tablespaces }
    }

    /// The data directory.
    pub fn data(&self) -> &Path {
        &self.data
    }

    /// The tablespaces by their oid.
    pub fn tablespaces(&self) -> &BTreeMap<u32, PathBuf> {
        &self.tablespaces
    }

    /// Every directory that holds restored files, the data directory first.
    pub fn roots(&self) -> impl Iterator<Item = &Path> {
        std::iter::once(self.data.as_path()).chain(self.tablespaces.values().map(PathBuf::as_path))
    }

    /// The absolute path of what a manifest calls `path`.
    ///
    /// # Errors
    /// What is wrong with the path, as the rest of a sentence.
    pub fn resolve(&self, path: &str) -> Result<PathBuf, &'static str> {
        check_path(path)?;
        let Some(rest) = path.strip_prefix(TABLESPACES).and_then(|rest| rest.strip_prefix('/')) else {
            return Ok(self.data.join(path));
        };
        let (oid, inside) = rest.split_once('/').ok_or("it is a place for the link of a tablespace")?;
        let oid: u32 = oid.parse().map_err(|_| "it is in no tablespace")?;
        let root = self.tablespaces.get(&oid).ok_or("it is in a tablespace that the backup does not list")?;
        Ok(root.join(inside))
    }
}

/// Whether a manifest may name this path at all.
///
/// # Errors
/// What is wrong with it, as the rest of a sentence.
pub fn check_path(path: &str) -> Result<(), &'static str> {
    if path.is_empty() {
        return Err("it is empty");
    }
    if path.len() > PATH_BYTES_MAX {
        return Err("it is too long");
    }
    if path.contains('\0') {
        return Err("it holds a zero byte");
    }
    for name in path.split('/') {
        match name {
            "" => return Err("it is absolute or has an empty component"),
            "." | ".." => return Err("it leads out of its directory"),
            _ if name.len() > NAME_BYTES_MAX => return Err("a component is too long"),
            _ => {}
        }
    }
    Ok(())
}

/// Follows the entries of a manifest and sees to it that nothing lies beneath a symbolic link or a file: with a link `base` in
/// front, `base/1` would be written to wherever the link leads.
#[derive(Debug, Default)]
pub struct Ancestry {
    leaves: std::collections::HashSet<String>,
}

impl Ancestry {
    /// Takes note of a link. Links are few; files need no note, since making a directory in a file's place fails by itself.
    pub fn link(&mut self, path: &str) {
        self.leaves.insert(path.to_owned());
    }

    /// Checks that no directory above `path` is a link.
    ///
    /// # Errors
    /// What is wrong, as the rest of a sentence.
    pub fn check(&self, path: &str) -> Result<(), &'static str> {
        if self.leaves.is_empty() {
            return Ok(());
        }
        let beneath = path.match_indices('/').any(|(at, _)| self.leaves.contains(&path[..at]));
        if beneath { Err("it lies beneath a symbolic link") } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places() -> Places {
        Places::new("/data", BTreeMap::from([(16384, PathBuf::from("/fast/ts"))]))
    }

    #[test]
    fn tablespaces_are_resolved_to_their_own_directories() {
        let resolve = |path| places().resolve(path).map(|path| path.display().to_string());
        assert_eq!(resolve("base/5/1259"), Ok("/data/base/5/1259".into()));
        assert_eq!(
            resolve("pg_tblspc/16384/PG_15_202209061/5/16400"),
            Ok("/fast/ts/PG_15_202209061/5/16400".into())
        );
        assert_eq!(resolve("pg_tblspc"), Ok("/data/pg_tblspc".into()));
    }

    #[test]
    fn paths_that_lead_elsewhere_are_refused() {
        for hostile in [
            "",
            "/etc/passwd",
            "..",
            "base/../../etc/passwd",
            "base/./1",
            "base//1",
            "base/",
            "a\0b",
            "pg_tblspc/16384",
            "pg_tblspc/16385/PG_15/1",
            "pg_tblspc/x/1",
            "pg_tblspc/16384/../x",
            &"a".repeat(256),
            &"a/".repeat(2000),
        ] {
            assert!(places().resolve(hostile).is_err(), "{hostile:?}");
        }
    }

    #[test]
    fn nothing_may_lie_beneath_a_link() {
        let mut ancestry = Ancestry::default();
        ancestry.link("base");
        assert!(ancestry.check("base/1/2").is_err());
        assert!(ancestry.check("base2/1").is_ok());
        assert!(ancestry.check("global/base").is_ok());
    }
}
