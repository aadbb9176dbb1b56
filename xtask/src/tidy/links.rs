//! Links of the documentation that lead to files which do not exist.

use super::File;
use std::path::Path;

/// Relative links to absent files, in every page. Links to other sites and to parts of the same page are not followed.
pub(super) fn wrong(root: &Path, pages: &[File]) -> Vec<String> {
    let mut wrong = Vec::new();
    for page in pages {
        let page_path = root.join(&page.name);
        let folder = page_path.parent().unwrap_or(root);
        for target in targets(&page.text) {
            if !folder.join(target).exists() {
                wrong.push(format!("{} links to {target}, which does not exist", page.name));
            }
        }
    }
    wrong
}

/// The files that `[text](target)` leads to, outside of code.
fn targets(text: &str) -> Vec<&str> {
    let mut targets = Vec::new();
    let mut in_code = false;
    for line in text.lines() {
        if line.trim_start().starts_with("```") {
            in_code = !in_code;
        }
        if in_code {
            continue;
        }
        // Every second part of a line is inside backticks.
        for prose in line.split('`').step_by(2) {
            for rest in prose.split("](").skip(1) {
                let target = rest.split(')').next().unwrap_or_default();
                let target = target.split('#').next().unwrap_or_default();
                if !target.is_empty() && !target.contains("://") && !target.starts_with("mailto:") {
                    targets.push(target);
                }
            }
        }
    }
    targets
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_files_in_prose_are_followed() {
        let text = "[a](b.md#part) [c](https://x.org/y) [d](#here) `[e](f.md)`\n```\n[g](h.md)\n```\n[i](../j/k.md).\n";
        assert_eq!(targets(text), ["b.md", "../j/k.md"]);
    }

    #[test]
    fn a_link_to_nowhere_is_found() {
        let page = File { name: "docs/a.md".to_owned(), text: "[x](absent.md)".to_owned() };
        let found = wrong(&crate::shell::root(), &[page]);
        assert_eq!(found, ["docs/a.md links to absent.md, which does not exist"]);
    }
}
