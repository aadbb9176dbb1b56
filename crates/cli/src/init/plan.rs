//! What `init` will do: pure, from what was found and what was asked for.
//!
//! Everything that would destroy something is refused here, before anything is done: an archive command that somebody relies on, a
//! configuration that says otherwise, a repository inside the data that it is to save.

use crate::archive_command::{self, ArchiveCommand};
use crate::fault::Refused;
use serde::Serialize;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// What was found.
#[derive(Debug, Clone)]
pub(crate) struct InitFacts {
    /// This program, absolute.
    pub(crate) program: PathBuf,
    pub(crate) data_directory: PathBuf,
    /// Of tablespaces.
    pub(crate) tablespaces: Vec<PathBuf>,
    /// Where the configuration is or will be.
    pub(crate) config_file: PathBuf,
    /// Whether it is there.
    pub(crate) config_exists: bool,
    /// The repository that an existing configuration names.
    pub(crate) configured_repository: Option<String>,
    /// The name under which the repository is added to an existing configuration.
    pub(crate) added: Option<String>,
    pub(crate) key_exists: bool,
    pub(crate) repository: RepositoryState,
    /// The server's settings that matter here.
    pub(crate) settings: BTreeMap<String, String>,
    /// Settings that wait for a restart already.
    pub(crate) pending_restart: Vec<String>,
}

/// What is at the repository's place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RepositoryState {
    Absent,
    /// It is one, and this key opens it.
    Open,
}

/// What was asked for.
#[derive(Debug, Clone)]
pub(crate) struct InitOptions {
    /// As it will be written: a path or a URL.
    pub(crate) repository: String,
    /// The directory, resolved as far as it exists; none in object storage.
    pub(crate) repository_directory: Option<PathBuf>,
    /// None without encryption.
    pub(crate) key_file: Option<PathBuf>,
    /// Whether a key command wraps the key.
    pub(crate) key_command: bool,
    /// Who else is to open a new repository.
    pub(crate) recipients: Vec<String>,
    pub(crate) restart: bool,
    pub(crate) replace_archive_command: bool,
}

/// One thing to do, or found done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "step")]
pub(crate) enum Step {
    /// Make the key that opens the repository.
    MakeKey { path: PathBuf },
    /// Make the repository.
    CreateRepository {
        place: String,
        encrypted: bool,
        #[serde(skip_serializing_if = "Vec::is_empty")]
        recipients: Vec<String>,
    },
    /// Write `pgproof.toml`.
    WriteConfig { path: PathBuf },
    /// Add a repository to `pgproof.toml`.
    AddRepository { path: PathBuf, name: String },
    /// Change a server setting by ALTER SYSTEM.
    Set { name: String, value: String, before: String },
    /// Restart the server.
    Restart { because: Vec<String> },
}

/// All of it, in order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct InitPlan {
    pub(crate) steps: Vec<Step>,
    /// What is there already, as sentences.
    pub(crate) already: Vec<String>,
    /// Settings that need a restart that was not asked for.
    pub(crate) restart_needed: Vec<String>,
}

/// How long at most the last changes of a quiet server stay on that server only.
const ARCHIVE_TIMEOUT: &str = "60s";

/// Decides.
///
/// # Errors
/// What must not be done without being asked for.
pub(crate) fn plan(facts: &InitFacts, options: &InitOptions) -> Result<InitPlan, Refused> {
    refuse_inside(facts, options)?;
    refuse_other_configuration(facts, options)?;
    refuse_recipients(facts, options)?;
    let mut plan = InitPlan { steps: Vec::new(), already: Vec::new(), restart_needed: Vec::new() };
    plan_repository(facts, options, &mut plan);
    plan_config(facts, &mut plan);
    let mut restart = plan_modes(facts, &mut plan);
    plan_command(facts, options, &mut plan)?;
    restart.extend(facts.pending_restart.iter().filter(|n| matters(n)).cloned());
    restart.sort();
    restart.dedup();
    match (restart.is_empty(), options.restart) {
        (true, _) => {}
        (false, true) => plan.steps.push(Step::Restart { because: restart }),
        (false, false) => plan.restart_needed = restart,
    }
    Ok(plan)
}

fn matters(setting: &str) -> bool {
    setting == "archive_mode" || setting == "wal_level"
}

fn refuse_inside(facts: &InitFacts, options: &InitOptions) -> Result<(), Refused> {
    let Some(directory) = &options.repository_directory else { return Ok(()) };
    let inside = |root: &Path| directory.starts_with(root) || root.starts_with(directory);
    let mut roots = std::iter::once(&facts.data_directory).chain(&facts.tablespaces);
    match roots.find(|root| inside(root)) {
        None => Ok(()),
        Some(root) => Err(Refused::new(
            "repository-inside-data",
            format!(
                "the repository {} and the server's {} lie inside one another",
                directory.display(),
                root.display()
            ),
            "choose a place on another disk with --repository",
        )),
    }
}

fn refuse_other_configuration(facts: &InitFacts, options: &InitOptions) -> Result<(), Refused> {
    let path = facts.config_file.display();
    match &facts.configured_repository {
        Some(configured) if *configured != options.repository && facts.added.is_none() => Err(Refused::new(
            "config-exists",
            format!("{path} names the repository {configured}, not {}", options.repository),
            format!(
                "to have both, give this one a name with --name; else edit or remove {path}, or write another file with --config"
            ),
        )),
        _ => Ok(()),
    }
}

/// A repository that is there has its recipients; changing them is not what `init` is asked for every day.
fn refuse_recipients(facts: &InitFacts, options: &InitOptions) -> Result<(), Refused> {
    if facts.repository == RepositoryState::Absent || options.recipients.is_empty() {
        return Ok(());
    }
    Err(Refused::new(
        "repository-exists",
        format!("the repository {} is there already, and --recipient is for a new one", options.repository),
        "`pgproof key add --recipient ...` lets others open it",
    ))
}

fn plan_repository(facts: &InitFacts, options: &InitOptions, plan: &mut InitPlan) {
    let place = options.repository.clone();
    match &options.key_file {
        Some(path) if facts.key_exists => plan.already.push(format!("the key {} is there", path.display())),
        Some(path) => plan.steps.push(Step::MakeKey { path: path.clone() }),
        None => {}
    }
    match facts.repository {
        RepositoryState::Open => plan.already.push(format!("the repository {place} is there, and opens")),
        RepositoryState::Absent => {
            let encrypted = options.key_file.is_some() || options.key_command;
            let recipients = options.recipients.clone();
            plan.steps.push(Step::CreateRepository { place, encrypted, recipients });
        }
    }
}

fn plan_config(facts: &InitFacts, plan: &mut InitPlan) {
    let path = facts.config_file.clone();
    if let Some(name) = facts.added.clone() {
        plan.steps.push(Step::AddRepository { path, name });
    } else if facts.config_exists {
        plan.already.push(format!("the configuration {} is there, and stays as it is", path.display()));
    } else {
        plan.steps.push(Step::WriteConfig { path });
    }
}

/// Settings that need a restart; returns their names.
fn plan_modes(facts: &InitFacts, plan: &mut InitPlan) -> Vec<String> {
    let mut restart = Vec::new();
    let pending = |name: &str| facts.pending_restart.iter().any(|pending| pending == name);
    let mut set = |name: &str, value: &str, before: &str| {
        if !pending(name) {
            plan.steps.push(Step::Set { name: name.into(), value: value.into(), before: before.into() });
        }
        restart.push(name.to_owned());
    };
    if setting(facts, "wal_level") == "minimal" {
        set("wal_level", "replica", "minimal");
    }
    match setting(facts, "archive_mode") {
        "off" => set("archive_mode", "on", "off"),
        mode => plan.already.push(format!("archive_mode is {mode}")),
    }
    restart
}

fn plan_command(facts: &InitFacts, options: &InitOptions, plan: &mut InitPlan) -> Result<(), Refused> {
    let library = setting(facts, "archive_library");
    if !library.is_empty() {
        if !options.replace_archive_command {
            return Err(in_use("archive_library", library));
        }
        plan.steps.push(Step::Set {
            name: "archive_library".into(),
            value: String::new(),
            before: library.into(),
        });
    }
    let wanted = archive_command::render(&facts.program, &facts.config_file);
    let present = setting(facts, "archive_command");
    match archive_command::parse(present) {
        _ if present == wanted => plan.already.push("archive_command is set".to_owned()),
        ArchiveCommand::Foreign if !options.replace_archive_command => {
            return Err(in_use("archive_command", present));
        }
        _ => plan.steps.push(Step::Set {
            name: "archive_command".into(),
            value: wanted,
            before: present.into(),
        }),
    }
    match setting(facts, "archive_timeout") {
        "0" | "" => plan.steps.push(Step::Set {
            name: "archive_timeout".into(),
            value: ARCHIVE_TIMEOUT.into(),
            before: "0".into(),
        }),
        timeout => plan.already.push(format!("archive_timeout is {timeout} s")),
    }
    Ok(())
}

fn in_use(name: &str, value: &str) -> Refused {
    Refused::new(
        "archive-command-in-use",
        format!("{name} is in use: {value}"),
        "find out who relies on it; `pgproof init --replace-archive-command` replaces it, and archiving to the old place ends",
    )
}

fn setting<'a>(facts: &'a InitFacts, name: &str) -> &'a str {
    facts.settings.get(name).map_or("", String::as_str)
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::{Expect, expect};

    fn fresh() -> (InitFacts, InitOptions) {
        let settings = [
            ("archive_mode", "off"),
            ("archive_command", "(disabled)"),
            ("archive_library", ""),
            ("archive_timeout", "0"),
            ("wal_level", "replica"),
        ];
        let facts = InitFacts {
            program: "/usr/bin/pgproof".into(),
            data_directory: "/data".into(),
            tablespaces: vec!["/space".into()],
            config_file: "/etc/pgproof/pgproof.toml".into(),
            config_exists: false,
            configured_repository: None,
            added: None,
            key_exists: false,
            repository: RepositoryState::Absent,
            settings: settings.map(|(name, value)| (name.to_owned(), value.to_owned())).into(),
            pending_restart: Vec::new(),
        };
        let options = InitOptions {
            repository: "/backup".into(),
            repository_directory: Some("/backup".into()),
            key_file: Some("/etc/pgproof/main.key".into()),
            key_command: false,
            recipients: Vec::new(),
            restart: false,
            replace_archive_command: false,
        };
        (facts, options)
    }

    fn check(change: impl FnOnce(&mut InitFacts, &mut InitOptions), expected: Expect) {
        let (mut facts, mut options) = fresh();
        change(&mut facts, &mut options);
        let text = match plan(&facts, &options) {
            Err(refused) => format!("refused: {refused}\n"),
            Ok(plan) => {
                let steps =
                    plan.steps.iter().map(|step| format!("{}\n", serde_json::to_string(step).unwrap()));
                let already = plan.already.iter().map(|what| format!("already: {what}\n"));
                let restart = plan.restart_needed.iter().map(|name| format!("restart needed for {name}\n"));
                steps.chain(already).chain(restart).collect()
            }
        };
        expected.assert_eq(&text);
    }

    #[test]
    fn a_fresh_server_gets_everything() {
        check(
            |_, _| {},
            expect![[r#"
            {"step":"make-key","path":"/etc/pgproof/main.key"}
            {"step":"create-repository","place":"/backup","encrypted":true}
            {"step":"write-config","path":"/etc/pgproof/pgproof.toml"}
            {"step":"set","name":"archive_mode","value":"on","before":"off"}
            {"step":"set","name":"archive_command","value":"\"/usr/bin/pgproof\" --config \"/etc/pgproof/pgproof.toml\" archive push \"%p\"","before":"(disabled)"}
            {"step":"set","name":"archive_timeout","value":"60s","before":"0"}
            restart needed for archive_mode
        "#]],
        );
    }

    #[test]
    fn a_second_run_finds_everything_there() {
        check(
            |facts, _| {
                facts.config_exists = true;
                facts.configured_repository = Some("/backup".into());
                facts.key_exists = true;
                facts.repository = RepositoryState::Open;
                let command = archive_command::render(&facts.program, &facts.config_file);
                facts.settings.insert("archive_command".into(), command);
                facts.settings.insert("archive_mode".into(), "on".into());
                facts.settings.insert("archive_timeout".into(), "300".into());
            },
            expect![[r#"
                already: the key /etc/pgproof/main.key is there
                already: the repository /backup is there, and opens
                already: the configuration /etc/pgproof/pgproof.toml is there, and stays as it is
                already: archive_mode is on
                already: archive_command is set
                already: archive_timeout is 300 s
            "#]],
        );
    }

    #[test]
    fn another_repository_is_added_by_a_name_of_its_own() {
        let another = |facts: &mut InitFacts, options: &mut InitOptions| {
            facts.config_exists = true;
            facts.configured_repository = Some("/backup".into());
            options.repository = "/offsite".into();
            options.repository_directory = Some("/offsite".into());
            options.key_file = Some("/etc/pgproof/offsite.key".into());
            facts.settings.insert("archive_mode".into(), "on".into());
            facts.settings.insert("archive_timeout".into(), "60".into());
            let command = archive_command::render(&facts.program, &facts.config_file);
            facts.settings.insert("archive_command".into(), command);
        };
        check(
            another,
            expect![[r#"
            refused: /etc/pgproof/pgproof.toml names the repository /backup, not /offsite
        "#]],
        );
        check(
            |facts, options| {
                another(facts, options);
                facts.added = Some("offsite".into());
            },
            expect![[r#"
                {"step":"make-key","path":"/etc/pgproof/offsite.key"}
                {"step":"create-repository","place":"/offsite","encrypted":true}
                {"step":"add-repository","path":"/etc/pgproof/pgproof.toml","name":"offsite"}
                already: archive_mode is on
                already: archive_command is set
                already: archive_timeout is 60 s
            "#]],
        );
    }

    #[test]
    fn a_restart_is_done_only_when_asked_for() {
        check(
            |facts, options| {
                facts.settings.insert("wal_level".into(), "minimal".into());
                options.restart = true;
            },
            expect![[r#"
                {"step":"make-key","path":"/etc/pgproof/main.key"}
                {"step":"create-repository","place":"/backup","encrypted":true}
                {"step":"write-config","path":"/etc/pgproof/pgproof.toml"}
                {"step":"set","name":"wal_level","value":"replica","before":"minimal"}
                {"step":"set","name":"archive_mode","value":"on","before":"off"}
                {"step":"set","name":"archive_command","value":"\"/usr/bin/pgproof\" --config \"/etc/pgproof/pgproof.toml\" archive push \"%p\"","before":"(disabled)"}
                {"step":"set","name":"archive_timeout","value":"60s","before":"0"}
                {"step":"restart","because":["archive_mode","wal_level"]}
            "#]],
        );
    }

    #[test]
    fn further_recipients_are_for_a_new_repository_only() {
        check(
            |facts, options| {
                facts.repository = RepositoryState::Open;
                options.recipients = vec!["age1offline".into()];
            },
            expect![[r#"
                refused: the repository /backup is there already, and --recipient is for a new one
            "#]],
        );
    }

    #[test]
    fn somebody_elses_archiving_is_refused_and_shown() {
        let cp = |facts: &mut InitFacts| {
            facts.settings.insert("archive_mode".into(), "on".into());
            facts.settings.insert("archive_command".into(), "cp %p /archive/%f".into());
        };
        check(
            |facts, _| cp(facts),
            expect![[r#"
            refused: archive_command is in use: cp %p /archive/%f
        "#]],
        );
        check(
            |facts, options| {
                cp(facts);
                options.replace_archive_command = true;
            },
            expect![[r#"
                {"step":"make-key","path":"/etc/pgproof/main.key"}
                {"step":"create-repository","place":"/backup","encrypted":true}
                {"step":"write-config","path":"/etc/pgproof/pgproof.toml"}
                {"step":"set","name":"archive_command","value":"\"/usr/bin/pgproof\" --config \"/etc/pgproof/pgproof.toml\" archive push \"%p\"","before":"cp %p /archive/%f"}
                {"step":"set","name":"archive_timeout","value":"60s","before":"0"}
                already: archive_mode is on
            "#]],
        );
        check(
            |facts, _| drop(facts.settings.insert("archive_library".into(), "basic_archive".into())),
            expect![[r#"
            refused: archive_library is in use: basic_archive
        "#]],
        );
    }

    #[test]
    fn a_repository_inside_the_data_is_refused_in_both_directions() {
        check(
            |_, options| options.repository_directory = Some("/data/backup".into()),
            expect![[r#"
            refused: the repository /data/backup and the server's /data lie inside one another
        "#]],
        );
        check(
            |_, options| options.repository_directory = Some("/space/backup".into()),
            expect![[r#"
            refused: the repository /space/backup and the server's /space lie inside one another
        "#]],
        );
        check(
            |_, options| options.repository_directory = Some("/".into()),
            expect![[r#"
            refused: the repository / and the server's /data lie inside one another
        "#]],
        );
    }

    #[test]
    fn a_configuration_that_says_otherwise_is_not_overwritten() {
        check(
            |facts, _| {
                facts.config_exists = true;
                facts.configured_repository = Some("/other".into());
            },
            expect![[r#"
                refused: /etc/pgproof/pgproof.toml names the repository /other, not /backup
            "#]],
        );
    }
}
