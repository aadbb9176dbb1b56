//! The page of a check, made from its definition: `pgproof doctor explain CODE` and `docs/doctor/CODE.md` are the same text.

use crate::DoctorError;
use crate::check::{Check, checks};

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
