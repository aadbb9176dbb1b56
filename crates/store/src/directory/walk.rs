//! Listings. They walk by descriptors from one proven root, so an unmount in the middle cannot cut them short unnoticed.

use super::{Place, TEMP_DIR, is_object, meta, modified};
use crate::{ObjectMeta, ObjectPath, Operation, Result, StoreError};
use jiff::Timestamp;
use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;
use std::os::fd::{AsFd, OwnedFd};

/// Bounds the walk in a tree that somebody else built: a path of 700 bytes has at most 350 components.
const DEPTH_MAX: usize = 350;

/// Every object below `dir`, sorted.
pub(super) fn objects(
    place: &Place,
    dir: Option<&ObjectPath>,
    start_after: Option<&str>,
) -> Result<Vec<ObjectMeta>> {
    let mut found = Vec::new();
    if let Some(fd) = open_dir(place, dir)? {
        let mut visit = |path: ObjectPath, stat: &Stat| {
            if start_after.is_none_or(|after| path.as_str() > after) {
                found.push(meta(path, stat));
            }
            Visit::Continue
        };
        let enter = |dir: &str| start_after.is_none_or(|after| may_hold_later(dir, after));
        walk(place, &fd, dir, DEPTH_MAX, &enter, &mut visit)?;
    }
    // A walk meets `a/b` and `a-b` in the order of `a` and `a-b`; byte order of whole paths is the other way round.
    found.sort_unstable_by(|one, other| one.path.cmp(&other.path));
    Ok(found)
}

/// The directories directly below `dir` with an object somewhere in them.
pub(super) fn dirs(place: &Place, dir: Option<&ObjectPath>) -> Result<Vec<String>> {
    let Some(fd) = open_dir(place, dir)? else {
        return Ok(Vec::new());
    };
    let mut names = Vec::new();
    for (name, stat) in entries(place, &fd, dir)? {
        if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
            continue;
        }
        let path = below(dir, &name)?;
        let mut occupied = false;
        if let Some(inner) = open_below(place, &fd, &name, &path)? {
            let mut visit = |_: ObjectPath, _: &Stat| {
                occupied = true;
                Visit::Stop
            };
            walk(place, &inner, Some(&path), DEPTH_MAX, &|_| true, &mut visit)?;
        }
        if occupied {
            names.push(name);
        }
    }
    names.sort_unstable();
    Ok(names)
}

/// Removes temporary files that were last written before a time.
pub(super) fn remove_temporary(place: &Place, before: Timestamp) -> Result<u64> {
    let root = place.root_fd(Operation::Clean)?;
    let failed = |error: Errno| {
        StoreError::from_io(Operation::Clean, place.root.join(TEMP_DIR).display().to_string(), error.into())
    };
    let dir = match rustix::fs::openat(&root, TEMP_DIR, DIR_FLAGS, Mode::empty()) {
        Err(Errno::NOENT) => return Ok(0),
        opened => opened.map_err(failed)?,
    };
    let mut removed = 0;
    for entry in Dir::read_from(&dir).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let old = |stat: &Stat| is_object(stat) && modified(stat) < before;
        if rustix::fs::statat(&dir, entry.file_name(), AtFlags::SYMLINK_NOFOLLOW).is_ok_and(|stat| old(&stat))
        {
            match rustix::fs::unlinkat(&dir, entry.file_name(), AtFlags::empty()) {
                Ok(()) => removed += 1,
                Err(Errno::NOENT) => {}
                Err(error) => return Err(failed(error)),
            }
        }
    }
    Ok(removed)
}

const DIR_FLAGS: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

enum Visit {
    Continue,
    Stop,
}

/// Whether a directory can hold a path that sorts after `after`.
fn may_hold_later(dir: &str, after: &str) -> bool {
    match after.strip_prefix(dir) {
        Some(rest) => rest.is_empty() || rest.as_bytes()[0] <= b'/',
        None => dir > after,
    }
}

fn walk(
    place: &Place,
    fd: &OwnedFd,
    dir: Option<&ObjectPath>,
    depth: usize,
    enter: &dyn Fn(&str) -> bool,
    visit: &mut dyn FnMut(ObjectPath, &Stat) -> Visit,
) -> Result<Visit> {
    for (name, stat) in entries(place, fd, dir)? {
        let path = below(dir, &name)?;
        if is_object(&stat) {
            if matches!(visit(path, &stat), Visit::Stop) {
                return Ok(Visit::Stop);
            }
        } else if FileType::from_raw_mode(stat.st_mode) == FileType::Directory
            && depth > 0
            && enter(path.as_str())
        {
            let Some(inner) = open_below(place, fd, &name, &path)? else {
                continue;
            };
            if matches!(walk(place, &inner, Some(&path), depth - 1, enter, visit)?, Visit::Stop) {
                return Ok(Visit::Stop);
            }
        }
    }
    Ok(Visit::Continue)
}

/// The entries of a directory that can be objects or directories of objects. Foreign names (`lost+found`) are not ours to judge.
fn entries(place: &Place, fd: &OwnedFd, dir: Option<&ObjectPath>) -> Result<Vec<(String, Stat)>> {
    let failed = |error: Errno| place.failed(Operation::List, dir, error.into());
    let mut found = Vec::new();
    for entry in Dir::read_from(fd.as_fd()).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let Ok(name) = entry.file_name().to_str() else {
            continue;
        };
        if below(dir, name).is_err() {
            continue;
        }
        match rustix::fs::statat(fd, entry.file_name(), AtFlags::empty()) {
            Ok(stat) => found.push((name.to_owned(), stat)),
            Err(Errno::NOENT) => {}
            Err(error) => return Err(failed(error)),
        }
    }
    Ok(found)
}

fn open_dir(place: &Place, dir: Option<&ObjectPath>) -> Result<Option<OwnedFd>> {
    let root = place.root_fd(Operation::List)?;
    let Some(dir) = dir else {
        return Ok(Some(root));
    };
    match rustix::fs::openat(&root, dir.as_str(), DIR_FLAGS, Mode::empty()) {
        Ok(fd) => Ok(Some(fd)),
        Err(Errno::NOENT | Errno::NOTDIR) => Ok(None),
        Err(error) => Err(place.failed(Operation::List, Some(dir), error.into())),
    }
}

fn open_below(place: &Place, fd: &OwnedFd, name: &str, path: &ObjectPath) -> Result<Option<OwnedFd>> {
    match rustix::fs::openat(fd, name, DIR_FLAGS, Mode::empty()) {
        Ok(inner) => Ok(Some(inner)),
        Err(Errno::NOENT | Errno::NOTDIR) => Ok(None),
        Err(error) => Err(place.failed(Operation::List, Some(path), error.into())),
    }
}

fn below(dir: Option<&ObjectPath>, name: &str) -> Result<ObjectPath> {
    match dir {
        Some(dir) => dir.join(name),
        None => ObjectPath::new(name),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directories_before_the_start_are_not_entered() {
        assert!(may_hold_later("wal", ""));
        assert!(may_hold_later("wal", "wal"));
        assert!(may_hold_later("wal", "wal/0000"));
        assert!(may_hold_later("wal", "wal-x"), "`-` sorts before `/`, so wal/… comes after wal-x");
        assert!(!may_hold_later("wal", "walx"));
        assert!(!may_hold_later("packs", "wal"));
        assert!(may_hold_later("wal", "packs"));
    }
}
