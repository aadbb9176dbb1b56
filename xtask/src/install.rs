//! Installs what tests need and this machine lacks: Debian packages, and PostgreSQL servers of every supported version.
//!
//! Packages need root; an ordinary user is told the command. Servers other than Debian's go into a cache and need nothing
//! but `pip` and `npm`. What is there already is left as it is.

use crate::shell::{output, run, say, succeeds};
use anyhow::{Result, bail};
use std::path::Path;

/// One thing that tests use: how to see that it is there, the Debian package that brings it, what it is for.
struct Need {
    present: fn() -> bool,
    package: &'static str,
    purpose: &'static str,
    /// Whether tests can do without, in another way.
    optional: bool,
}

const NEEDS: [Need; 6] = [
    Need {
        present: || Path::new("/usr/lib/postgresql/15/bin/postgres").exists(),
        package: "postgresql-15",
        purpose: "PostgreSQL 15 in full (without it, a server without client programs is used)",
        optional: true,
    },
    Need {
        present: || {
            succeeds("python3", &["-m", "venv", "--help"]) && succeeds("python3", &["-c", "import ensurepip"])
        },
        package: "python3-venv",
        purpose: "the S3 server of the tests",
        optional: false,
    },
    Need {
        present: || succeeds("python3", &["-m", "pip", "--version"]),
        package: "python3-pip",
        purpose: "PostgreSQL 17 and 18",
        optional: false,
    },
    Need {
        present: || succeeds("npm", &["--version"]),
        package: "npm",
        purpose: "PostgreSQL 14 and 16",
        optional: false,
    },
    Need {
        present: || succeeds("fusermount3", &["--version"]),
        package: "fuse3",
        purpose: "the file system that loses power",
        optional: false,
    },
    Need {
        present: || succeeds("cc", &["--version"]),
        package: "gcc",
        purpose: "the C parts of dependencies",
        optional: false,
    },
];

/// Installs everything.
pub(crate) fn run_all(servers: bool) -> Result<()> {
    packages()?;
    if servers { self::servers() } else { Ok(()) }
}

/// The task.
pub(crate) fn run() -> Result<()> {
    run_all(true)
}

fn packages() -> Result<()> {
    let missing: Vec<&Need> = NEEDS.iter().filter(|need| !(need.present)()).collect();
    if missing.is_empty() {
        return Ok(());
    }
    for need in &missing {
        say(&format!("{} is missing: {}", need.package, need.purpose));
    }
    let names = |needs: &[&Need]| needs.iter().map(|need| need.package).collect::<Vec<_>>().join(" ");
    if !is_root() {
        let needed: Vec<&Need> = missing.into_iter().filter(|need| !need.optional).collect();
        if needed.is_empty() {
            return Ok(());
        }
        bail!(
            "tests need packages that only root can install: run `sudo apt-get install {}`",
            names(&needed)
        );
    }
    run("apt-get", &["update", "-qq"])?;
    // Optional ones that this release of Debian does not have are left out.
    let available = |need: &&&Need| !need.optional || succeeds("apt-cache", &["show", need.package]);
    let wanted: Vec<&Need> = missing.iter().filter(available).copied().collect();
    let mut arguments = vec![
        "DEBIAN_FRONTEND=noninteractive",
        "apt-get",
        "install",
        "-qq",
        "--yes",
        "--no-install-recommends",
    ];
    arguments.extend(wanted.iter().map(|need| need.package));
    run("env", &arguments).map(drop)
}

/// The servers' own installer, built with the tests that use it.
pub(crate) fn servers() -> Result<()> {
    run("cargo", &["run", "--quiet", "--package", "pgproof-testkit", "--bin", "pgproof-test-servers"])
        .map(drop)
}

fn is_root() -> bool {
    output("id", &["-u"]).is_ok_and(|uid| uid.trim() == "0")
}
