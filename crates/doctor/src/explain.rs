//! The page of a check, made from its definition: `pgproof doctor explain CODE` and `docs/doctor/CODE.md` are the same text.

use crate::DoctorError;
use crate::check::{Check, checks};
use crate::tested::TESTED;

/// The page of one check.
///
/// # Errors
/// [`DoctorError::UnknownCode`].
pub fn explain(code: &str) -> Result<String, DoctorError> {
    match checks().find(|check| check.code == code) {
        Some(check) => Ok(page(check)),
        None => {
            let alike =
                |check: &&Check| check.code.split('-').any(|word| word.len() > 2 && code.contains(word));
            let near = checks().filter(alike).map(|check| check.code).take(5).collect();
            Err(DoctorError::UnknownCode { code: code.to_owned(), near })
        }
    }
}

fn page(check: &Check) -> String {
    let Check { code, area, title, why, mends, limit, .. } = check;
    let mut text = format!(
        "# `{code}`: {title}\n\nArea: {}.\n\n## Why it matters\n\n{why}\n\n## What mends it\n\n{mends}\n",
        area.name()
    );
    if let Some(limit) = limit {
        text += &format!(
            "\n## When it speaks\n\nWarning / critical from {} on. Others are set by\n\n```toml\n[doctor.limits]\n{code} = [{}, {}]\n```\n",
            limit.describe(),
            limit.warning,
            limit.critical
        );
    }
    let tests = TESTED.iter().find(|(of, _)| of == code).map_or(&[][..], |(_, tests)| *tests);
    text += "\n## How it is tested\n\n";
    text += match tests {
        [] => "By no fault injected into a real server yet.\n",
        _ => "On real servers, by a fault that doctor is not told of (`crates/cli/tests/e2e`):\n\n",
    };
    for test in tests {
        text += &format!("- {}\n", test.replace('_', " "));
    }
    text
}

/// One line for each check, by area.
#[must_use]
pub fn index() -> String {
    let mut text = "# What doctor looks for\n\n| code | area | what is wrong |\n|---|---|---|\n".to_owned();
    for check in checks() {
        text += &format!("| [`{0}`]({0}.md) | {1} | {2} |\n", check.code, check.area.name(), check.title);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::path::Path;

    /// Names of the tests whose text has the code in quotes, by code.
    fn tests() -> Vec<(&'static str, Vec<String>)> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../cli/tests/e2e");
        let mut found: Vec<(String, String)> = Vec::new();
        let files = fs::read_dir(folder.join("doctor")).unwrap().map(|entry| entry.unwrap().path());
        for file in files.chain([folder.join("cluster/mod.rs")]) {
            let text = fs::read_to_string(file).unwrap();
            for part in text.split("#[test]\nfn ").skip(1) {
                let end = part.find("\n}\n").unwrap_or(part.len());
                found.push((part.split('(').next().unwrap().to_owned(), part[..end].to_owned()));
            }
        }
        found.sort();
        let of = |check: &Check| {
            // Alone, or with a subject.
            let names = ["\"", ":"].map(|end| format!("\"{}{end}", check.code));
            let is_named = |body: &String| names.iter().any(|name| body.contains(name));
            found.iter().filter(|(_, body)| is_named(body)).map(|(name, _)| name.clone()).collect()
        };
        checks().map(|check| (check.code, of(check))).collect()
    }

    /// `UPDATE_EXPECT=1` writes it anew; run it before the pages.
    #[test]
    fn every_check_names_its_faults() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/tested.rs");
        let mut text = "//! Which faults show that a check speaks. Written by a test of [`crate::explain`], from the faults themselves.\n\n\
             /// Names of tests, by code.\n#[rustfmt::skip]\npub(crate) const TESTED: &[(&str, &[&str])] = &[\n"
            .to_owned();
        for (code, tests) in tests() {
            text += &format!("    (\"{code}\", &{tests:?}),\n");
        }
        text += "];\n";
        if std::env::var_os("UPDATE_EXPECT").is_some() {
            fs::write(&path, &text).unwrap();
        }
        assert_eq!(fs::read_to_string(&path).unwrap(), text, "UPDATE_EXPECT=1 writes it anew");
    }

    /// `UPDATE_EXPECT=1` writes them anew.
    #[test]
    fn every_check_has_its_page_in_the_documentation() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/doctor");
        let mut pages = vec![("README".to_owned(), index())];
        pages.extend(checks().map(|check| (check.code.to_owned(), page(check))));
        for (name, text) in &pages {
            let file = folder.join(format!("{name}.md"));
            if std::env::var_os("UPDATE_EXPECT").is_some() {
                fs::create_dir_all(&folder).unwrap();
                fs::write(&file, text).unwrap();
            }
            let found = fs::read_to_string(&file).unwrap_or_default();
            assert_eq!(&found, text, "{} is out of date: run this test with UPDATE_EXPECT=1", file.display());
        }
        let count = fs::read_dir(&folder).unwrap().count();
        assert_eq!(count, pages.len(), "a page in {} belongs to no check", folder.display());
    }

    #[test]
    fn an_unknown_code_proposes_like_ones() {
        let error = explain("slot-idle").unwrap_err();
        assert!(error.hint().contains("slot-inactive"), "{}", error.hint());
    }
}
