//! Which crate may use which: the list in ARCHITECTURE.md against the manifests.

use anyhow::{Context, Result};
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

/// Dependencies that the list does not allow, and crates that it does not name.
pub(super) fn wrong(root: &Path) -> Result<Vec<String>> {
    let architecture = fs::read_to_string(root.join("ARCHITECTURE.md")).context("read ARCHITECTURE.md")?;
    let allowed = edges(&architecture).context("ARCHITECTURE.md has no block ```edges")?;
    let mut wrong = Vec::new();
    for (room, manifest) in manifests(root)? {
        let text = fs::read_to_string(&manifest).with_context(|| format!("read {}", manifest.display()))?;
        let Some(allowed) = allowed.get(&room) else {
            wrong.push(format!("ARCHITECTURE.md does not say what {room} may depend on"));
            continue;
        };
        for dependency in dependencies(&text).difference(allowed) {
            wrong.push(format!("{room} depends on {dependency}, which ARCHITECTURE.md does not allow"));
        }
    }
    Ok(wrong)
}

fn manifests(root: &Path) -> Result<BTreeMap<String, PathBuf>> {
    let mut manifests = BTreeMap::from([("xtask".to_owned(), root.join("xtask/Cargo.toml"))]);
    for entry in fs::read_dir(root.join("crates")).context("list crates")? {
        let entry = entry?;
        let manifest = entry.path().join("Cargo.toml");
        if manifest.exists() {
            manifests.insert(entry.file_name().to_string_lossy().into_owned(), manifest);
        }
    }
    Ok(manifests)
}

fn edges(architecture: &str) -> Option<BTreeMap<String, BTreeSet<String>>> {
    let block = architecture.split_once("```edges\n")?.1.split_once("```")?.0;
    let edge = |line: &str| {
        let (room, allowed) = line.split_once(':')?;
        Some((room.trim().to_owned(), allowed.split_whitespace().map(str::to_owned).collect()))
    };
    Some(block.lines().filter_map(edge).collect())
}

/// Crates of the workspace in the `[dependencies]` of a manifest, in either notation; those of tests are free.
fn dependencies(manifest: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut inside = false;
    for line in manifest.lines() {
        if let Some(section) = line.strip_prefix("[dependencies.pgproof-") {
            found.insert(section.trim_end_matches(']').to_owned());
        } else if line.starts_with('[') {
            inside = matches!(line.trim_end(), "[dependencies]" | "[build-dependencies]");
        } else if let Some(rest) = line.strip_prefix("pgproof-").filter(|_| inside) {
            let name = rest.split(['.', ' ', '=']).next().unwrap_or_default();
            found.insert(name.to_owned());
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_edge_that_is_not_allowed_is_found() {
        let allowed = edges("x\n```edges\npg: base\n```\n").unwrap();
        let manifest = "[dependencies]\npgproof-store.workspace = true\npgproof-base = { workspace = true }\n\
            [dev-dependencies]\npgproof-testkit.workspace = true\n[dependencies.pgproof-repo]\nworkspace = true\n";
        let found = dependencies(manifest);
        assert_eq!(found.difference(&allowed["pg"]).collect::<Vec<_>>(), ["repo", "store"]);
    }
}
