//! A cold copy of a stopped cluster's relation files, in memory.

use pgproof_pg::{ClusterState, ControlFile, RelPath};
use std::collections::BTreeMap;
use std::path::Path;

pub(crate) struct Copy {
    pub(crate) control: ControlFile,
    /// Relation files by their path below the data directory; temporary ones are left out.
    pub(crate) files: BTreeMap<String, (RelPath, Vec<u8>)>,
}

impl Copy {
    pub(crate) fn read(pgdata: &Path) -> Self {
        let control = ControlFile::parse(&std::fs::read(pgdata.join("global/pg_control")).unwrap()).unwrap();
        assert_eq!(control.state, ClusterState::ShutDown);
        let mut copy = Self { control, files: BTreeMap::new() };
        for dir in ["global", "base", "pg_tblspc"] {
            copy.add(pgdata, dir);
        }
        copy
    }

    fn add(&mut self, pgdata: &Path, dir: &str) {
        for entry in std::fs::read_dir(pgdata.join(dir)).unwrap().map(Result::unwrap) {
            let path = format!("{dir}/{}", entry.file_name().to_str().unwrap());
            // Tablespaces are links.
            if std::fs::metadata(entry.path()).unwrap().is_dir() {
                self.add(pgdata, &path);
            } else if let Some(file) = RelPath::parse(&path).filter(|file| file.temporary.is_none()) {
                self.files.insert(path, (file, std::fs::read(entry.path()).unwrap()));
            }
        }
    }
}
