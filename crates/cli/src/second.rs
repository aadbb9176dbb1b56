//! Repositories that a command names by its own arguments, besides or instead of the configured one.
//!
//! [`choose`] is the one place that decides what such an argument means.

use crate::account;
use crate::args::high::Context;
use crate::config::{Config, RepositoryConfig};
use crate::fault::Refused;
use crate::repository::unlock;
use pgproof_pg::SystemIdentifier;
use pgproof_repo::{Content, Repository};
use pgproof_server::privilege::Owner;
use pgproof_store::StoreConfig;
use std::path::Path;
use std::sync::Arc;

/// What was typed for a repository.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Named<'a> {
    /// A path, a URL, or the name of a configured repository.
    pub(crate) text: &'a str,
    /// The file that opens it; for a configured one, instead of the configured file.
    pub(crate) key_file: Option<&'a Path>,
}

/// What an argument means: text with `/` is a path or a URL, anything else the name of a configured repository.
///
/// # Errors
/// A name that is not configured, a URL that cannot be used.
pub(crate) fn choose(
    named: Named<'_>,
    config: &Config,
    context: &Context,
) -> anyhow::Result<RepositoryConfig> {
    let mut chosen = if named.text.contains("://") {
        config.elsewhere(StoreConfig::from_url(named.text)?)?
    } else if named.text.contains('/') || named.text == "." || named.text == ".." {
        let path = context.absolute(Path::new(named.text));
        config.elsewhere(StoreConfig::directory(path))?
    } else if config.settings.repositories.iter().any(|name| name == named.text) {
        config.configured(named.text)?
    } else {
        let known = config.settings.repositories.join(", ");
        let known =
            if known.is_empty() { "none is configured".to_owned() } else { format!("known: {known}") };
        let message = format!("no repository is named `{}` ({known})", named.text);
        let hint = "write a directory with its slashes (./repository), a URL, or a name from pgproof.toml";
        return Err(Refused::new("repository-unknown", message, hint).into());
    };
    // The place of a configured repository is opened by its key, however it was named.
    let mut configured = config.settings.repositories.iter().filter_map(|name| config.configured(name).ok());
    if let Some(same) = configured.find(|same| same.store == chosen.store) {
        chosen.key_file = same.key_file;
        chosen.key_command = same.key_command;
    }
    if let Some(key_file) = named.key_file {
        chosen.key_file = Some(context.absolute(key_file));
    }
    Ok(chosen)
}

/// Opens two repositories as the account to which what is written in the `written` one has to belong.
///
/// # Errors
/// Whatever keeps one of them from being opened, with which it was.
pub(crate) fn open_both(
    written: Named<'_>,
    read: Named<'_>,
    context: &Context,
) -> anyhow::Result<(Config, Repository, Repository)> {
    let config = context.config()?;
    let (written, read) = (choose(written, &config, context)?, choose(read, &config, context)?);
    if Owner::current().is_root()
        && let Some(owner) = account::repository_owner(&written)
    {
        account::become_owner(owner)?;
    }
    let open = |chosen: &RepositoryConfig| -> anyhow::Result<Repository> {
        Ok(Repository::open(Arc::from(chosen.store.open()?), &unlock(chosen))?)
    };
    let (written, read) = (open(&written)?, open(&read)?);
    Ok((config, written, read))
}

/// What a lineage is called above what was done to it.
pub(crate) fn heading(system: SystemIdentifier, content: Content) -> String {
    match content {
        Content::Cluster => format!("System {system}"),
        Content::Dumps => format!("Dumps of system {system}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::high::Surroundings;
    use crate::args::low::LowArgs;
    use clap::Parser;
    use std::collections::BTreeMap;

    /// What a text means where `/backup/main` is configured as `main`, with its place, its key, or the code of the refusal.
    fn chosen(text: &str, key_file: Option<&str>) -> (String, Option<String>) {
        let low = LowArgs::try_parse_from(["pgproof", "copy", "--from", "a", "--to", "b"]).unwrap();
        let surroundings = Surroundings {
            environment: BTreeMap::new(),
            current_directory: "/work".into(),
            stdout_terminal: false,
            stderr_terminal: false,
        };
        let context = Context::new(&low, surroundings);
        let file = "[repository.main]\npath = \"/backup/main\"\nkey_file = \"/etc/main.key\"\n\
                    [repository.far]\npath = \"/backup/far\"\n";
        let file = Some(("/etc/pgproof.toml".into(), file.to_owned()));
        let config = Config::from_text(file, Vec::new(), &BTreeMap::new(), &[]).unwrap();
        match choose(Named { text, key_file: key_file.map(Path::new) }, &config, &context) {
            Ok(chosen) => (chosen.store.describe(), chosen.key_file.map(|path| path.display().to_string())),
            Err(error) => (crate::fault::Fault::new(&error).code, None),
        }
    }

    #[test]
    fn a_slash_makes_a_path_and_anything_else_is_a_configured_name() {
        let main = || ("directory /backup/main".to_owned(), Some("/etc/main.key".to_owned()));
        assert_eq!(chosen("main", None), main());
        assert_eq!(chosen("/backup/main", None), main());
        assert_eq!(chosen("file:///backup/main", None), main());
        assert_eq!(chosen("main", Some("other.key")).1.as_deref(), Some("/work/other.key"));
        assert_eq!(chosen("./main", None), ("directory /work/./main".to_owned(), None));
        assert_eq!(chosen("s3://bucket/second", None), ("s3://bucket/second".to_owned(), None));
        assert_eq!(chosen("far", None), ("directory /backup/far".to_owned(), None));
        assert_eq!(chosen("second", None).0, "repository-unknown");
    }
}
