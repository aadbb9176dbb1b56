//! Where `pgproof.toml` is. Pure: what exists is an argument.

use super::ConfigError;
use std::path::{Path, PathBuf};

/// Where the file counts when a package installs it.
pub(crate) const SYSTEM_FILE: &str = "/etc/pgproof/pgproof.toml";

/// What decides where the file is.
#[derive(Debug, Default, Clone)]
pub(crate) struct Places {
    /// `--config`
    pub(crate) flag: Option<PathBuf>,
    /// `PGPROOF_CONFIG`
    pub(crate) variable: Option<PathBuf>,
    pub(crate) current_directory: PathBuf,
    /// `XDG_CONFIG_HOME`, or `~/.config`
    pub(crate) user_directory: Option<PathBuf>,
}

impl Places {
    /// The file that counts: named ones must exist, the usual places are tried in order.
    ///
    /// # Errors
    /// [`ConfigError::Missing`] when a file was named and is not there.
    pub(crate) fn find(&self, exists: impl Fn(&Path) -> bool) -> Result<Option<PathBuf>, ConfigError> {
        for (named, by) in [(&self.flag, "--config"), (&self.variable, "PGPROOF_CONFIG")] {
            if let Some(path) = named {
                let path = self.current_directory.join(path);
                return if exists(&path) { Ok(Some(path)) } else { Err(ConfigError::Missing { path, by }) };
            }
        }
        Ok(self.usual().into_iter().find(|path| exists(path)))
    }

    /// The usual places, best first.
    pub(crate) fn usual(&self) -> Vec<PathBuf> {
        let mut places = vec![self.current_directory.join("pgproof.toml")];
        places.extend(self.user_directory.as_ref().map(|dir| dir.join("pgproof/pgproof.toml")));
        places.push(PathBuf::from(SYSTEM_FILE));
        places
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places() -> Places {
        Places {
            flag: None,
            variable: None,
            current_directory: "/work".into(),
            user_directory: Some("/home/eve/.config".into()),
        }
    }

    #[test]
    fn usual_places_are_tried_in_order() {
        let all =
            ["/work/pgproof.toml", "/home/eve/.config/pgproof/pgproof.toml", "/etc/pgproof/pgproof.toml"];
        for first in 0..all.len() {
            let found = places().find(|path| all[first..].iter().any(|p| Path::new(p) == path)).unwrap();
            assert_eq!(found, Some(all[first].into()));
        }
        assert_eq!(places().find(|_| false).unwrap(), None);
    }

    #[test]
    fn a_named_file_must_exist_and_beats_the_usual_places() {
        let named = Places { flag: Some("a.toml".into()), variable: Some("/b.toml".into()), ..places() };
        assert_eq!(named.find(|_| true).unwrap(), Some("/work/a.toml".into()));
        let error = named.find(|path| path != Path::new("/work/a.toml")).unwrap_err();
        assert_eq!(error.to_string(), "/work/a.toml, named by --config, does not exist");
    }
}
