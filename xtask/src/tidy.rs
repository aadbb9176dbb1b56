//! Checks what the compiler does not: module documentation, file lengths, and the allowed edges between crates.

use anyhow::{Context, Result, bail};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// Longer files are hard to hold in the head; see CONTRIBUTING.md.
const LINES_MAX: usize = 800;

/// Runs every check and lists all that is wrong.
pub(crate) fn run() -> Result<()> {
    let root = &crate::workspace()?;
    let mut wrong = Vec::new();
    for file in rust_files(&root.join("crates"))?.into_iter().chain(rust_files(&root.join("xtask"))?) {
        let text = fs::read_to_string(&file).with_context(|| format!("read {}", file.display()))?;
        let name = file.strip_prefix(root).unwrap_or(&file).display();
        let tests = file.file_stem().is_some_and(|stem| stem.to_string_lossy().ends_with("tests"));
        if !tests && !text.starts_with("//!") {
            wrong.push(format!("{name} does not open with its responsibility (`//!`)"));
        }
        let lines = text.lines().count();
        if lines > LINES_MAX {
            wrong.push(format!("{name} has {lines} lines, more than {LINES_MAX}"));
        }
    }
    wrong.extend(wrong_edges(root)?);
    if wrong.is_empty() {
        return Ok(());
    }
    bail!("not tidy:\n  {}", wrong.join("\n  "))
}

fn rust_files(directory: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(directory).with_context(|| format!("list {}", directory.display()))? {
        let path = entry?.path();
        if path.is_dir() {
            files.extend(rust_files(&path)?);
        } else if path.extension().is_some_and(|kind| kind == "rs") {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

/// Dependencies of a crate on others of the workspace that the list in ARCHITECTURE.md does not allow.
fn wrong_edges(root: &Path) -> Result<Vec<String>> {
    let architecture = fs::read_to_string(root.join("ARCHITECTURE.md")).context("read ARCHITECTURE.md")?;
    let allowed = edges(&architecture).context("ARCHITECTURE.md has no block ```edges")?;
    let mut wrong = Vec::new();
    for (room, allowed) in &allowed {
        let manifest = match room.as_str() {
            "xtask" => root.join("xtask/Cargo.toml"),
            room => root.join("crates").join(room).join("Cargo.toml"),
        };
        let text = fs::read_to_string(&manifest).with_context(|| format!("read {}", manifest.display()))?;
        for dependency in dependencies(&text).difference(allowed) {
            wrong.push(format!("{room} depends on {dependency}, which ARCHITECTURE.md does not allow"));
        }
    }
    Ok(wrong)
}

fn edges(architecture: &str) -> Option<BTreeMap<String, BTreeSet<String>>> {
    let block = architecture.split_once("```edges\n")?.1.split_once("```")?.0;
    let edge = |line: &str| {
        let (room, allowed) = line.split_once(':')?;
        Some((room.to_owned(), allowed.split_whitespace().map(str::to_owned).collect()))
    };
    Some(block.lines().filter_map(edge).collect())
}

/// Crates of the workspace in the `[dependencies]` of a manifest; those of tests are free.
fn dependencies(manifest: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut inside = false;
    for line in manifest.lines() {
        if line.starts_with('[') {
            inside = line == "[dependencies]";
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
    fn the_project_is_tidy() {
        run().unwrap();
    }

    #[test]
    fn an_edge_that_is_not_allowed_is_found() {
        let allowed = edges("x\n```edges\npg: base\n```\n").unwrap();
        let manifest = "[dependencies]\npgproof-store.workspace = true\n[dev-dependencies]\npgproof-testkit.workspace = true\n";
        let found = dependencies(manifest);
        assert_eq!(found.difference(&allowed["pg"]).collect::<Vec<_>>(), ["store"]);
    }
}
