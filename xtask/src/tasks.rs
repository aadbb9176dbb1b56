//! `test` installs what tests need and runs all of them; `ci` adds formatting, lints and tidiness; `campaign` is the long form of what
//! attacks; `demo` shows a recovery.

use anyhow::{Context, Result, bail};
use std::env;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Debian's packages that tests use: a full server with its client programs and extensions, Python for the S3 server of the tests, and
/// wrong clocks, etcd; `protoc` for the build of etcd's client.
const PACKAGES: [(&str, &str); 5] = [
    ("/usr/lib/postgresql/15/bin/postgres", "postgresql-15"),
    ("/usr/bin/python3", "python3-venv"),
    ("/usr/bin/faketime", "faketime"),
    ("/usr/bin/etcd", "etcd-server"),
    ("/usr/bin/protoc", "protobuf-compiler"),
];

/// The long form of the campaign: kills, power cuts, rounds of each other trouble, lost servers. `PGPROOF_KILLS` and the others override.
const CAMPAIGN: [(&str, &str); 4] = [
    ("PGPROOF_KILLS", "2000"),
    ("PGPROOF_CUTS", "200"),
    ("PGPROOF_CAMPAIGN", "10"),
    ("PGPROOF_ROUNDS", "50"),
];

/// The tests that have a long form.
const CAMPAIGN_TESTS: &str = "test(campaign) + test(whatever_is_killed) + test(power_cut) + test(powercut) + test(no_acknowledged_commit)";

/// Installs what is missing and runs every test. All is built at once: a program on its own has other features than beside the tests, and
/// half of the workspace would be built twice.
pub(crate) fn test() -> Result<()> {
    install()?;
    let has_nextest = succeeds("cargo", &["nextest", "--version"]);
    let runner: &[&str] =
        if has_nextest { &["nextest", "run", "--workspace"] } else { &["test", "--workspace"] };
    run("cargo", &[runner, &["--no-run"]].concat())?;
    run(&target()?.join("debug/pgproof-test-servers").display().to_string(), &[])?;
    let profile: &[&str] =
        if has_nextest && env::var_os("CI").is_some() { &["--profile", "ci"] } else { &[] };
    run("cargo", &[runner, profile].concat())
}

/// Everything around pgproof misbehaves, for hours.
pub(crate) fn campaign() -> Result<()> {
    install()?;
    let mut command = Command::new("cargo");
    command.args(["nextest", "run", "--workspace", "--profile", "campaign", "-E", CAMPAIGN_TESTS]);
    for (name, value) in CAMPAIGN {
        if env::var_os(name).is_none() {
            command.env(name, value);
        }
    }
    run_command(&mut command, "the campaign")
}

/// Builds and runs the demonstration.
pub(crate) fn demo() -> Result<()> {
    install()?;
    built("bin", "pgproof")?;
    let demo = built("example", "demo")?;
    on_disk(&mut Command::new(&demo), &demo)
}

/// Three nodes, two failures, no lost commit.
pub(crate) fn demo_ha() -> Result<()> {
    install()?;
    built("bin", "pgproof")?;
    let demo = built("example", "demo_ha")?;
    run_command(&mut Command::new(&demo), "the demonstration of high availability")
}

/// Every fault of hosts and networks, 30 times each; needs root for network namespaces.
pub(crate) fn faults() -> Result<()> {
    install()?;
    let mut command = Command::new("cargo");
    command.args(["nextest", "run", "-p", "pgproof-cli", "--profile", "campaign", "--no-capture"]);
    command.args(["--run-ignored", "all", "-E", "binary(e2e) and test(/^cluster::faults/)"]);
    if env::var_os("PGPROOF_FAULT_ROUNDS").is_none() {
        command.env("PGPROOF_FAULT_ROUNDS", "30");
    }
    run_command(&mut command, "the faults")
}

/// Every fault that doctor must name, on each major version.
pub(crate) fn faults_doctor() -> Result<()> {
    install()?;
    for version in ["14", "15", "16", "17", "18"] {
        let mut command = Command::new("cargo");
        command.args([
            "nextest",
            "run",
            "-p",
            "pgproof-cli",
            "--no-fail-fast",
            "-E",
            "binary(e2e) and test(/^doctor::/)",
        ]);
        run_command(command.env("PGPROOF_VERSION", version), &format!("the faults on PostgreSQL {version}"))?;
    }
    Ok(())
}

/// Compares with other tools, on a release build: every figure that README and issues name. Takes over an hour on two slow
/// cores, half of it pgBackRest with 20,000 tables.
pub(crate) fn bench() -> Result<()> {
    install()?;
    install_packages(&[("/usr/bin/pgbackrest", "pgbackrest"), ("/usr/bin/zstd", "zstd")])?;
    // The benchmark reads pages itself.
    run("cargo", &["build", "--release", "--workspace", "--bin", "pgproof", "--example", "bench"])?;
    let release = target()?.join("release");
    let bench = release.join("examples/bench");
    on_disk(Command::new(&bench).env("PGPROOF_BINARY", release.join("pgproof")), "the benchmark")
}

/// Test servers lie in memory unless told otherwise, and there nothing can be measured.
fn on_disk(command: &mut Command, what: &str) -> Result<()> {
    run_command(command.env("TMPDIR", env::temp_dir()), what)
}

/// Builds a program of the workspace and tells where it lies.
fn built(kind: &str, name: &str) -> Result<String> {
    run("cargo", &["build", "--workspace", &format!("--{kind}"), name])?;
    let folder = if kind == "example" { "debug/examples" } else { "debug" };
    let program = target()?.join(folder).join(name);
    Ok(program.to_str().context("the target directory has a name that is no text")?.to_owned())
}

fn target() -> Result<PathBuf> {
    let root = crate::workspace()?;
    Ok(env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), Into::into))
}

/// All checks of a change.
pub(crate) fn ci() -> Result<()> {
    run("cargo", &["fmt", "--all", "--check"])?;
    crate::tidy::run()?;
    run("cargo", &["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"])?;
    test()
}

fn install() -> Result<()> {
    install_packages(&PACKAGES)
}

fn install_packages(packages: &[(&str, &'static str)]) -> Result<()> {
    let missing: Vec<&str> =
        packages.iter().filter(|(file, _)| !Path::new(file).exists()).map(|(_, package)| *package).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let command = format!("apt-get install -y {}", missing.join(" "));
    if !succeeds("test", &["-w", "/var/lib/dpkg"]) {
        bail!("tests need packages that are not installed: run `sudo {command}`");
    }
    run("apt-get", &["update", "-qq"])?;
    let mut arguments = vec!["install", "-y", "-qq"];
    arguments.extend(missing);
    run("apt-get", &arguments)
}

fn succeeds(program: &str, arguments: &[&str]) -> bool {
    let mut command = Command::new(program);
    command.args(arguments).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

fn run(program: &str, arguments: &[&str]) -> Result<()> {
    run_command(Command::new(program).args(arguments), &format!("{program} {}", arguments.join(" ")))
}

fn run_command(command: &mut Command, what: &str) -> Result<()> {
    let status = command.status().with_context(|| format!("start `{what}`"))?;
    if !status.success() {
        bail!("`{what}` failed with {status}");
    }
    Ok(())
}
