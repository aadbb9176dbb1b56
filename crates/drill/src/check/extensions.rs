//! Libraries that functions of extensions lie in, and those that the origin preloads, load on this host.
//!
//! A function whose library is missing fails when it is called, a library that is preloaded keeps the server from starting: both are found
//! on the day of the disaster otherwise, on the host that is to take over.

use super::{Ground, Outcome, said};
use pgproof_base::{Finding, Remedy, Severity};
use pgproof_server::ServerError;
use std::collections::BTreeMap;

/// Libraries of a database, with the extension they belong to; functions in C that no extension owns count too.
const LIBRARIES: &str = "SELECT p.probin::text, coalesce(min(e.extname::text), '') \
    FROM pg_proc p JOIN pg_language l ON l.oid = p.prolang AND l.lanname = 'c' \
    LEFT JOIN pg_depend d ON d.classid = 'pg_proc'::regclass AND d.objid = p.oid \
        AND d.refclassid = 'pg_extension'::regclass AND d.deptype = 'e' \
    LEFT JOIN pg_extension e ON e.oid = d.refobjid \
    WHERE p.probin IS NOT NULL GROUP BY 1 ORDER BY 1";

/// A library.
#[derive(Debug, PartialEq, Eq)]
struct Library {
    name: String,
    /// Who needs it: `extension hstore of database shop`.
    user: String,
    /// What the server said when it could not be loaded.
    failure: Option<String>,
}

pub(super) fn check(ground: &Ground<'_>) -> Result<Outcome, ServerError> {
    Ok(judge(&observe(ground)?))
}

fn observe(ground: &Ground<'_>) -> Result<Vec<Library>, ServerError> {
    // Each once: what loads in one database loads in all.
    let mut wanted: BTreeMap<String, String> = BTreeMap::new();
    let preloaded = ground.recovered.summary.settings.other.get("shared_preload_libraries");
    for name in
        preloaded.into_iter().flat_map(|list| list.split(',')).map(|name| name.trim().trim_matches('"'))
    {
        if !name.is_empty() {
            wanted.insert(name.to_owned(), "shared_preload_libraries of the origin".to_owned());
        }
    }
    for database in &ground.databases {
        let mut session = ground.recovered.open(&database.name)?;
        for row in session.query("list libraries", LIBRARIES, &[])? {
            let (library, extension): (String, String) = (row.get(0), row.get(1));
            let user = match extension.as_str() {
                "" => format!("functions of database {}", database.name),
                extension => format!("extension {extension} of database {}", database.name),
            };
            wanted.entry(library).or_insert(user);
        }
    }
    let mut libraries = Vec::new();
    let Some(database) = ground.databases.first() else { return Ok(libraries) };
    for (name, user) in wanted {
        // A session of its own: a library may end the one that loads it.
        let mut session = ground.recovered.open(&database.name)?;
        let loaded = session.execute("load a library", &format!("LOAD '{}'", name.replace('\'', "''")));
        libraries.push(Library { name, user, failure: loaded.err().map(|error| said(&error)) });
    }
    Ok(libraries)
}

fn judge(libraries: &[Library]) -> Outcome {
    // One that insists on being preloaded was found and read, or it could not say so.
    let is_missing = |failure: &&String| !failure.contains("shared_preload_libraries");
    let missing = libraries.iter().filter_map(|library| {
        let failure = library.failure.as_ref().filter(is_missing)?;
        Some(
            Finding::new(
                "drill-library-missing",
                Severity::Critical,
                format!("library {}, which {} needs, does not load: {failure}", library.name, library.user),
                "what needs it fails on a server that is recovered on a host like this one",
            )
            .with(Remedy::safe("install the package that brings it, in the version of the server", "")),
        )
    });
    Outcome::Looked { covered: format!("{} libraries", libraries.len()), findings: missing.collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_library_that_wants_to_be_preloaded_is_there() {
        let library = |failure: &str| Library {
            name: "$libdir/x".into(),
            user: "extension x of database shop".into(),
            failure: Some(failure.into()),
        };
        let found = |failure| match judge(&[library(failure)]) {
            Outcome::Looked { findings, .. } => findings.len(),
            Outcome::NotDone(_) => 0,
        };
        assert_eq!(found("ERROR: x must be loaded via \"shared_preload_libraries\" (55000)"), 0);
        assert_eq!(found("ERROR: could not access file \"$libdir/x\": No such file (58P01)"), 1);
    }
}
