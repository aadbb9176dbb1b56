//! Checks what the compiler does not. Each rule is one function from the files to what is wrong, and all that is wrong is
//! listed at once. The same runs as a test.

mod edges;
mod links;
mod source;

use crate::shell::root;
use anyhow::{Context, Result, bail};
use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

/// Longer files are hard to hold in the head.
const FILE_LINES_MAX: usize = 800;
/// Longer functions do more than one thing. The habit is 70; this is the fence.
const FUNCTION_LINES_MAX: usize = 100;
/// Names that say nothing of what is inside.
const EMPTY_NAMES: [&str; 6] = ["utils", "util", "common", "helpers", "helper", "misc"];

/// A file of the project.
struct File {
    /// Path from the root.
    name: String,
    text: String,
}

/// Runs every check and lists all that is wrong.
pub(crate) fn run() -> Result<()> {
    let root = root();
    let sources = ["crates", "xtask", "fuzz"].map(|folder| files(&root, Path::new(folder), "rs"));
    let sources: Vec<File> = sources.into_iter().collect::<Result<Vec<_>>>()?.into_iter().flatten().collect();
    let pages = files(&root, Path::new(""), "md")?;
    let mut wrong: Vec<String> = Vec::new();
    for file in &sources {
        wrong.extend(opening(file));
        wrong.extend(lengths(file));
        wrong.extend(names(file));
    }
    wrong.extend(edges::wrong(&root)?);
    wrong.extend(links::wrong(&root, &pages));
    wrong.extend(undocumented_codes(&sources, &pages));
    if wrong.is_empty() {
        return Ok(());
    }
    bail!("not tidy:\n  {}", wrong.join("\n  "))
}

/// A module opens by saying what it is responsible for. Tests beside a module are that module's.
fn opening(file: &File) -> Option<String> {
    let is_tests = file.name.ends_with("/tests.rs") || file.name.ends_with("_tests.rs");
    (!is_tests && !file.text.starts_with("//!")).then(|| format!("{} does not open with `//!`", file.name))
}

fn lengths(file: &File) -> Vec<String> {
    let mut wrong = Vec::new();
    let lines = file.text.lines().count();
    if lines > FILE_LINES_MAX {
        wrong.push(format!("{} has {lines} lines, more than {FILE_LINES_MAX}", file.name));
    }
    for function in source::functions(&file.text) {
        if function.lines > FUNCTION_LINES_MAX {
            let source::Function { name, line, lines } = function;
            wrong.push(format!(
                "{}:{line} `{name}` has {lines} lines, more than {FUNCTION_LINES_MAX}",
                file.name
            ));
        }
    }
    wrong
}

fn names(file: &File) -> Option<String> {
    let parts = file.name.trim_end_matches(".rs").split('/');
    let empty = parts.into_iter().find(|part| EMPTY_NAMES.contains(part))?;
    Some(format!("{}: `{empty}` says nothing of what is inside", file.name))
}

/// Codes of errors and findings are promises: each has its entry in `docs/findings.md`, once that page exists.
fn undocumented_codes(sources: &[File], pages: &[File]) -> Vec<String> {
    let Some(page) = pages.iter().find(|page| page.name == "docs/findings.md") else { return Vec::new() };
    let documented: BTreeSet<&str> = page.text.split('`').collect();
    let mut wrong = Vec::new();
    for file in sources.iter().filter(|file| file.name.starts_with("crates/") && file.name.contains("/src/"))
    {
        for code in source::codes(&file.text) {
            if !documented.contains(code.as_str()) {
                wrong.push(format!("{}: the code `{code}` is not in docs/findings.md", file.name));
            }
        }
    }
    wrong
}

/// Files with this extension below a folder, sorted. Leaves out what is not the project's own text.
fn files(root: &Path, folder: &Path, extension: &str) -> Result<Vec<File>> {
    let mut found = Vec::new();
    let mut folders = vec![root.join(folder)];
    while let Some(folder) = folders.pop().filter(|folder| folder.is_dir()) {
        for entry in fs::read_dir(&folder).with_context(|| format!("list {}", folder.display()))? {
            let path = entry?.path();
            let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
            if path.is_dir() && !path.is_symlink() {
                if !name.starts_with('.')
                    && !matches!(name.as_str(), "target" | "testdata" | "corpus" | "artifacts")
                {
                    folders.push(path);
                }
            } else if path.extension().is_some_and(|kind| kind == extension) {
                found.push(path);
            }
        }
    }
    found.sort();
    found.into_iter().map(|path| read(root, path)).collect()
}

fn read(root: &Path, path: PathBuf) -> Result<File> {
    let text = fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
    let name = path.strip_prefix(root).unwrap_or(&path).display().to_string();
    Ok(File { name, text })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(name: &str, text: &str) -> File {
        File { name: name.to_owned(), text: text.to_owned() }
    }

    #[test]
    fn the_project_is_tidy() {
        run().unwrap();
    }

    #[test]
    fn a_module_without_opening_an_empty_name_and_a_long_file_are_found() {
        assert!(opening(&file("crates/x/src/a.rs", "use std;\n")).is_some());
        assert!(opening(&file("crates/x/src/tests.rs", "use std;\n")).is_none());
        assert!(names(&file("crates/x/src/utils/a.rs", "")).is_some());
        assert!(names(&file("crates/x/src/utilities.rs", "")).is_none());
        assert_eq!(lengths(&file("a.rs", &"\n".repeat(FILE_LINES_MAX + 1))).len(), 1);
        let long = format!("fn f() {{\n{}}}\n", "a();\n".repeat(FUNCTION_LINES_MAX));
        assert!(lengths(&file("a.rs", &long))[0].contains("`f`"));
    }

    #[test]
    fn a_code_without_an_entry_is_found() {
        let sources = [file("crates/x/src/a.rs", "fn code(&self) -> &'static str { \"store-absent\" }")];
        let page = |text| [file("docs/findings.md", text)];
        assert_eq!(undocumented_codes(&sources, &page("## `store-other`")).len(), 1);
        assert!(undocumented_codes(&sources, &page("## `store-absent`")).is_empty());
        assert!(undocumented_codes(&sources, &[]).is_empty());
    }
}
