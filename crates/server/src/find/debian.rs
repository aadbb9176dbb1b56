//! Debian's clusters: configuration in `/etc/postgresql/<version>/<name>`, known to `pg_ctlcluster` and systemd under
//! version and name (postgresql-common).

use super::Configuration;
use serde::Serialize;
use std::{
    fs,
    path::{Path, PathBuf},
};

const CONFIGURATIONS: &str = "/etc/postgresql";

/// A cluster as Debian's tools name it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DebianCluster {
    /// The first part of its name: the major version.
    pub version: String,
    /// The second part: `main`.
    pub name: String,
}

impl DebianCluster {
    fn folder(&self) -> PathBuf {
        Path::new(CONFIGURATIONS).join(&self.version).join(&self.name)
    }

    pub(crate) fn config_file(&self) -> PathBuf {
        self.folder().join("postgresql.conf")
    }

    /// Debian's own log of the cluster, which `pg_ctlcluster` starts it with.
    pub(crate) fn log_file(&self) -> PathBuf {
        PathBuf::from(format!("/var/log/postgresql/postgresql-{}-{}.log", self.version, self.name))
    }

    /// All files of its configuration, those included that only Debian's tools read (`start.conf`, `environment`).
    pub(crate) fn files(&self) -> Vec<PathBuf> {
        let mut files = Vec::new();
        let mut folders = vec![self.folder()];
        while let Some(folder) = folders.pop() {
            for path in entries(&folder) {
                if path.is_dir() && !path.is_symlink() {
                    folders.push(path);
                } else if path.is_file() {
                    files.push(path);
                }
            }
        }
        files
    }
}

/// The cluster that is registered for this data directory.
pub(crate) fn cluster_of(data: &Path) -> Option<DebianCluster> {
    clusters().into_iter().find(|cluster| {
        data_directory(cluster)
            .and_then(|directory| fs::canonicalize(directory).ok())
            .is_some_and(|real| real == data)
    })
}

/// The data directories of all registered clusters that exist.
pub(crate) fn data_directories() -> Vec<PathBuf> {
    clusters().iter().filter_map(data_directory).filter(|directory| directory.exists()).collect()
}

fn clusters() -> Vec<DebianCluster> {
    let name_of = |path: &Path| path.file_name().map(|name| name.to_string_lossy().into_owned());
    let mut clusters = Vec::new();
    for version in entries(Path::new(CONFIGURATIONS)) {
        for folder in entries(&version) {
            let (Some(version), Some(name)) = (name_of(&version), name_of(&folder)) else { continue };
            if folder.join("postgresql.conf").is_file() {
                clusters.push(DebianCluster { version, name });
            }
        }
    }
    clusters
}

/// A configuration that cannot be read names no data directory; whoever asks for that directory gets the error.
fn data_directory(cluster: &DebianCluster) -> Option<PathBuf> {
    let configuration = Configuration::read(&cluster.config_file()).ok()?;
    configuration.get("data_directory").map(PathBuf::from)
}

fn entries(folder: &Path) -> Vec<PathBuf> {
    let mut entries: Vec<PathBuf> =
        fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path()).collect();
    entries.sort();
    entries
}
