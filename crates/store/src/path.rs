//! Names of objects, valid in every kind of store.
//!
//! A path is relative, `/`-separated, and made of `[A-Za-z0-9._-]` only, so that no name read from a hostile manifest can leave
//! the store, hide in it, or mean two things on two backends. A component never starts with a dot: that excludes `.` and
//! `..`, and leaves dot names to the stores themselves (the directory store keeps its temporary files in one).

use crate::StoreError;
use std::{fmt, str::FromStr};

/// Longest component in bytes. File systems take 255; the rest is left for a store's own suffixes.
pub const COMPONENT_BYTES_MAX: usize = 200;

/// Longest path in bytes. S3 keys end at 1024 bytes and the repository's prefix needs room too.
pub const PATH_BYTES_MAX: usize = 700;

/// The name of an object or of a directory of objects, relative to the store's root.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectPath(String);

impl ObjectPath {
    /// Checks a name and takes it.
    ///
    /// # Errors
    /// [`StoreError::InvalidPath`] names the rule that is broken.
    pub fn new(path: impl Into<String>) -> Result<Self, StoreError> {
        let path = path.into();
        match broken_rule(&path) {
            None => Ok(Self(path)),
            Some(reason) => Err(StoreError::InvalidPath { path, reason }),
        }
    }

    /// This path with another relative path below it.
    ///
    /// # Errors
    /// [`StoreError::InvalidPath`] when the result breaks a rule.
    pub fn join(&self, below: impl fmt::Display) -> Result<Self, StoreError> {
        Self::new(format!("{}/{below}", self.0))
    }

    /// The whole path.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The last component.
    pub fn name(&self) -> &str {
        self.0.rsplit('/').next().unwrap_or(&self.0)
    }

    /// The path without its last component; none directly below the root.
    pub fn parent(&self) -> Option<Self> {
        self.0.rsplit_once('/').map(|(parent, _)| Self(parent.to_owned()))
    }

    /// Whether this path lies anywhere below `dir`; everything lies below the root (`None`).
    pub fn is_below(&self, dir: Option<&Self>) -> bool {
        match dir {
            None => true,
            Some(dir) => self.0.strip_prefix(dir.as_str()).is_some_and(|rest| rest.starts_with('/')),
        }
    }
}

/// The rule that `path` breaks, if any.
fn broken_rule(path: &str) -> Option<&'static str> {
    if path.is_empty() {
        return Some("it is empty");
    }
    if path.len() > PATH_BYTES_MAX {
        return Some("it is longer than 700 bytes");
    }
    path.split('/').find_map(|component| {
        if component.is_empty() {
            Some("it has an empty component, or starts or ends with `/`")
        } else if component.starts_with('.') {
            Some("a component starts with a dot")
        } else if component.len() > COMPONENT_BYTES_MAX {
            Some("a component is longer than 200 bytes")
        } else if !component.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-')) {
            Some("it has a character other than A-Z a-z 0-9 . _ - /")
        } else {
            None
        }
    })
}

impl fmt::Display for ObjectPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for ObjectPath {
    type Err = StoreError;

    fn from_str(path: &str) -> Result<Self, StoreError> {
        Self::new(path)
    }
}

impl AsRef<str> for ObjectPath {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hostile_names_are_refused() {
        let long_component = "a".repeat(201);
        let long_path = ["abcdefghi"; 71].join("/");
        for hostile in [
            "",
            "/",
            "/etc/passwd",
            "..",
            "a/../b",
            "a/./b",
            "a//b",
            "a/",
            "a b",
            "a\0b",
            "a\\b",
            "é",
            ".tmp/x",
            "a/.hidden",
            &long_component,
            &long_path,
        ] {
            let refused = ObjectPath::new(hostile);
            assert!(matches!(refused, Err(StoreError::InvalidPath { .. })), "{hostile:?}: {refused:?}");
        }
    }

    #[test]
    fn paths_know_their_parents() {
        let path = ObjectPath::new("wal/00000001/000000010000000000000003").unwrap();
        let dir = ObjectPath::new("wal").unwrap();
        assert_eq!(path.name(), "000000010000000000000003");
        assert_eq!(path.parent(), Some(dir.join("00000001").unwrap()));
        assert!(path.is_below(Some(&dir)));
        assert!(!ObjectPath::new("wal-2/x").unwrap().is_below(Some(&dir)));
        assert!(!dir.is_below(Some(&dir)));
    }
}
