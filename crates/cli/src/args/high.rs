//! What the arguments mean, together with the environment and the configuration.

use super::low::{GlobalArgs, LowArgs, LowCommand, RepositoryArgs};
use crate::config::definitions::Section;
use crate::config::{Config, ConfigError, FlagValue, NAMED, Places, is_name};
use crate::printer::Printer;
use crate::progress::{Talk, Verbosity};
use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};

/// What surrounds the process, read once.
#[derive(Debug)]
pub(crate) struct Surroundings {
    pub(crate) environment: BTreeMap<String, String>,
    pub(crate) current_directory: PathBuf,
    pub(crate) stdout_terminal: bool,
    pub(crate) stderr_terminal: bool,
}

impl Surroundings {
    /// Those of this process.
    pub(crate) fn observe() -> Self {
        // Variables that are no text cannot be settings of ours.
        let text = |(name, value): (std::ffi::OsString, std::ffi::OsString)| {
            Some((name.into_string().ok()?, value.into_string().ok()?))
        };
        Self {
            environment: std::env::vars_os().filter_map(text).collect(),
            // A removed working directory harms only relative paths.
            current_directory: std::env::current_dir().unwrap_or_else(|_| PathBuf::from("/")),
            stdout_terminal: std::io::stdout().is_terminal(),
            stderr_terminal: std::io::stderr().is_terminal(),
        }
    }

    fn variable(&self, name: &str) -> Option<&String> {
        self.environment.get(name).filter(|value| !value.is_empty())
    }

    /// Where the configuration may be.
    pub(crate) fn places(&self, flag: Option<&Path>) -> Places {
        let home = || self.variable("HOME").map(|home| Path::new(home).join(".config"));
        Places {
            flag: flag.map(Path::to_owned),
            variable: self.variable("PGPROOF_CONFIG").map(PathBuf::from),
            current_directory: self.current_directory.clone(),
            user_directory: self.variable("XDG_CONFIG_HOME").map(PathBuf::from).or_else(home),
        }
    }
}

/// What every command gets.
#[derive(Debug)]
pub(crate) struct Context {
    pub(crate) printer: Printer,
    pub(crate) talk: Talk,
    pub(crate) surroundings: Surroundings,
    pub(crate) config_flag: Option<PathBuf>,
    /// The arguments that are settings.
    pub(crate) flags: Vec<FlagValue>,
}

impl Context {
    pub(crate) fn new(low: &LowArgs, surroundings: Surroundings) -> Self {
        let GlobalArgs { config, quiet, verbose, .. } = &low.global;
        let verbosity = match (quiet, verbose) {
            (true, _) => Verbosity::Quiet,
            (_, true) => Verbosity::Verbose,
            _ => Verbosity::Normal,
        };
        Self {
            printer: printer(&low.global, &surroundings),
            talk: Talk::new(verbosity, surroundings.stderr_terminal),
            config_flag: config.clone(),
            flags: flags(&low.command, &surroundings.current_directory),
            surroundings,
        }
    }

    /// Reads the configuration.
    ///
    /// # Errors
    /// Anything wrong in it.
    pub(crate) fn config(&self) -> Result<Config, ConfigError> {
        let places = self.surroundings.places(self.config_flag.as_deref());
        Config::load(&places, &self.surroundings.environment, &self.flags)
    }

    /// Reads the configuration from this file, as `init` has just written it.
    ///
    /// # Errors
    /// Anything wrong in it.
    pub(crate) fn config_from(&self, file: &Path) -> Result<Config, ConfigError> {
        let places = self.surroundings.places(Some(file));
        Config::load(&places, &self.surroundings.environment, &[])
    }

    /// A path as typed, made absolute.
    pub(crate) fn absolute(&self, path: &Path) -> PathBuf {
        self.surroundings.current_directory.join(path)
    }
}

/// How output looks. Needed before anything else can fail.
pub(crate) fn printer(global: &GlobalArgs, surroundings: &Surroundings) -> Printer {
    // https://no-color.org: any value that is not empty.
    let no_color = global.no_color || surroundings.variable("NO_COLOR").is_some();
    let dumb = surroundings.variable("TERM").is_some_and(|term| term == "dumb");
    Printer {
        json: global.json,
        color: surroundings.stdout_terminal && !no_color && !dumb,
        verbose: global.verbose,
    }
}

/// The arguments of a command that are settings of the configuration.
fn flags(command: &LowCommand, current_directory: &Path) -> Vec<FlagValue> {
    use super::key::KeyCommand as Key;
    use super::low::ArchiveCommand as Archive;
    use super::low::ConfigCommand as ConfigVerb;
    let mut found = Flags { current_directory, values: Vec::new() };
    match command {
        LowCommand::Init(args) => {
            found.instance(args.pgdata.as_deref());
            found.place(&args.repository);
            found.text(Section::Repository, "endpoint", "--endpoint", args.endpoint.as_deref());
            found.text(Section::Repository, "region", "--region", args.region.as_deref());
            found.text(Section::Repository, "key_command", "--key-command", args.key_command.as_deref());
        }
        LowCommand::Check(args) => {
            found.instance(args.pgdata.as_deref());
            found.repository(&args.repository);
        }
        LowCommand::Backup(args) => {
            found.instance(args.pgdata.as_deref());
            found.repository(&args.repository);
            found.processes(args.processes);
            found.text(Section::Backup, "compression", "--compression", args.compression.as_deref());
            found.text(Section::Backup, "from", "--from-standby", args.from_standby.then_some("standby"));
            found.text(Section::Backup, "from", "--remote", args.remote.then_some("remote"));
            found.text(Section::Backup, "max_rate", "--max-rate", args.max_rate.as_deref());
        }
        LowCommand::Archive(Archive::Status(args)) => {
            found.instance(args.pgdata.as_deref());
            found.repository(&args.repository);
        }
        LowCommand::Archive(Archive::Run(args)) => {
            found.instance(args.pgdata.as_deref());
            found.repository(&args.repository);
        }
        LowCommand::Archive(Archive::Receive(args)) => {
            found.instance(args.pgdata.as_deref());
            found.repository(&args.repository);
        }
        LowCommand::Archive(Archive::Push(args)) => found.repository(&args.repository),
        LowCommand::Archive(Archive::Get(args)) => found.repository(&args.repository),
        LowCommand::Archive(Archive::Prefetch(args)) => found.repository(&args.repository),
        LowCommand::Restore(args) => {
            found.repository(&args.repository);
            found.processes(args.processes);
        }
        LowCommand::Extract(args) => {
            found.repository(&args.repository);
            found.processes(args.processes);
        }
        LowCommand::Sandbox(command) => {
            if let Some(args) = crate::commands::repository_of_sandbox(command) {
                found.repository(args);
            }
        }
        LowCommand::Drill(args) => {
            found.repository(&args.repository);
            found.processes(args.processes);
        }
        LowCommand::Heartbeat(args) => found.instance(args.server.pgdata.as_deref()),
        LowCommand::Dump(args) => {
            found.instance(args.server.pgdata.as_deref());
            found.repository(&args.repository);
            found.text(Section::Backup, "compression", "--compression", args.compression.as_deref());
        }
        LowCommand::Load(args) => {
            found.instance(args.server.pgdata.as_deref());
            found.repository(&args.repository);
        }
        LowCommand::List(args) => found.repository(&args.repository),
        LowCommand::Status(args) => found.repository(&args.repository),
        LowCommand::Show(args) => found.repository(&args.repository),
        LowCommand::Verify(args) => {
            found.repository(&args.repository);
            found.processes(args.processes);
        }
        LowCommand::Expire(args) => {
            found.repository(&args.repository);
            found.text(Section::Retention, "sweep_after", "--sweep-after", args.sweep_after.as_deref());
        }
        LowCommand::Pin(args) => found.repository(&args.repository),
        LowCommand::Unpin(args) => found.repository(&args.repository),
        LowCommand::Key(Key::List(args)) => found.repository(&args.repository),
        LowCommand::Key(Key::Add(args)) => found.repository(&args.repository),
        LowCommand::Key(Key::Remove(args)) => found.repository(&args.repository),
        LowCommand::Key(Key::Rotate(args)) => found.repository(&args.repository),
        LowCommand::Key(Key::Check(args)) => found.repository(&args.repository),
        LowCommand::Key(Key::Generate(_)) => {}
        LowCommand::Config(ConfigVerb::Explain(args)) => {
            found.instance(args.pgdata.as_deref());
            found.repository(&args.repository);
        }
        LowCommand::Copy(_)
        | LowCommand::Repair(_)
        | LowCommand::Doctor(_)
        | LowCommand::Fence(_)
        | LowCommand::Cluster(_) => {}
        LowCommand::Agent(args) => found.instance(args.pgdata.as_deref()),
        LowCommand::Completions(_) | LowCommand::Man(_) => {}
    }
    found.values
}

struct Flags<'a> {
    current_directory: &'a Path,
    values: Vec<FlagValue>,
}

impl Flags<'_> {
    fn text(&mut self, section: Section, name: &'static str, flag: &'static str, text: Option<&str>) {
        let value = text.map(|text| FlagValue { section, name, text: text.to_owned(), flag });
        self.values.extend(value);
    }

    fn path(&mut self, section: Section, name: &'static str, flag: &'static str, path: Option<&Path>) {
        // What was typed is relative to where it was typed, while settings are absolute.
        let absolute = path.map(|path| self.current_directory.join(path));
        self.text(section, name, flag, absolute.as_deref().and_then(Path::to_str));
    }

    fn instance(&mut self, pgdata: Option<&Path>) {
        self.path(Section::Instance, "pgdata", "--pgdata", pgdata);
    }

    /// A configured repository by its name, or a place.
    fn repository(&mut self, args: &RepositoryArgs) {
        match args.repository.as_deref() {
            Some(name) if is_name(name) => {
                self.text(Section::Repository, NAMED, "--repository", Some(name));
                self.path(Section::Repository, "key_file", "--key-file", args.key_file.as_deref());
            }
            _ => self.place(args),
        }
    }

    fn place(&mut self, args: &RepositoryArgs) {
        match args.repository.as_deref() {
            Some(url) if url.contains("://") => {
                self.text(Section::Repository, "url", "--repository", Some(url));
            }
            path => self.path(Section::Repository, "path", "--repository", path.map(Path::new)),
        }
        self.path(Section::Repository, "key_file", "--key-file", args.key_file.as_deref());
    }

    fn processes(&mut self, processes: Option<u16>) {
        let text = processes.map(|n| n.to_string());
        self.text(Section::Backup, "processes", "--processes", text.as_deref());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    fn context(arguments: &[&str], environment: &[(&str, &str)], terminal: bool) -> Context {
        let low = LowArgs::try_parse_from(["pgproof"].iter().chain(arguments)).unwrap();
        let environment = environment.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        let surroundings = Surroundings {
            environment,
            current_directory: "/work".into(),
            stdout_terminal: terminal,
            stderr_terminal: terminal,
        };
        Context::new(&low, surroundings)
    }

    #[test]
    fn typed_paths_are_made_absolute_and_urls_left_alone() {
        let flags = context(&["list", "--repository", "./r", "--key-file", "../k"], &[], false).flags;
        let texts: Vec<_> = flags.iter().map(|flag| (flag.name, flag.text.as_str())).collect();
        assert_eq!(texts, [("path", "/work/./r"), ("key_file", "/work/../k")]);
        let named = context(&["list", "--repository", "offsite"], &[], false).flags;
        assert_eq!((named[0].name, named[0].text.as_str()), (NAMED, "offsite"));
        let flags = context(&["list", "--repository", "s3://b/p"], &[], false).flags;
        assert_eq!((flags[0].name, flags[0].text.as_str()), ("url", "s3://b/p"));
    }

    #[test]
    fn colour_needs_a_terminal_and_nobody_against_it() {
        let color = |arguments: &[&str], environment: &[(&str, &str)], terminal| {
            context(arguments, environment, terminal).printer.color
        };
        assert!(color(&["list"], &[], true));
        assert!(!color(&["list"], &[], false));
        assert!(!color(&["list", "--no-color"], &[], true));
        assert!(!color(&["list"], &[("NO_COLOR", "1")], true));
        assert!(color(&["list"], &[("NO_COLOR", "")], true));
        assert!(!color(&["list"], &[("TERM", "dumb")], true));
    }

    #[test]
    fn the_users_directory_is_xdgs_or_below_home() {
        let places = |environment: &[(&str, &str)]| {
            context(&["list"], environment, false).surroundings.places(None).user_directory
        };
        assert_eq!(places(&[("HOME", "/h")]), Some("/h/.config".into()));
        assert_eq!(places(&[("HOME", "/h"), ("XDG_CONFIG_HOME", "/x")]), Some("/x".into()));
        assert_eq!(places(&[]), None);
    }
}
