//! The settings of `[cluster]`; see [`super::definitions`].

use super::ConfigError;
use super::definitions::{Key, Kind, Otherwise, Section};
use super::settings::Config;
use std::path::PathBuf;
use std::time::Duration;

/// All of them.
pub(super) const CLUSTER: &[Key] = &[
    Key {
        section: Section::Cluster,
        name: "name",
        kind: Kind::Text,
        otherwise: Otherwise::Value("main"),
        variable: None,
        example: "\"main\"",
        doc: "Name of the cluster. Everything of it lies in etcd under `/pgproof/NAME/`; two clusters under one name refuse each other by their system identifiers.",
    },
    Key {
        section: Section::Cluster,
        name: "node",
        kind: Kind::Text,
        otherwise: Otherwise::Found("none; needed"),
        variable: None,
        example: "\"n1\"",
        doc: "Name of this node: 1 to 40 lower-case letters, digits, `-` and `_`, beginning with a letter, and unlike every other node's.",
    },
    Key {
        section: Section::Cluster,
        name: "etcd",
        kind: Kind::Text,
        otherwise: Otherwise::Found("none; needed"),
        variable: None,
        example: "\"http://10.0.0.1:2379,http://10.0.0.2:2379\"",
        doc: "Where etcd (3.4 or later) answers, one address for each of its members, separated by commas. A member that does not answer costs an eighth of a second.",
    },
    Key {
        section: Section::Cluster,
        name: "etcd_user",
        kind: Kind::Text,
        otherwise: Otherwise::Found("none; etcd wants no name"),
        variable: None,
        example: "\"pgproof\"",
        doc: "Name to show to etcd.",
    },
    Key {
        section: Section::Cluster,
        name: "etcd_password_file",
        kind: Kind::Path,
        otherwise: Otherwise::Found("none; etcd wants no password"),
        variable: None,
        example: "\"/etc/pgproof/etcd.password\"",
        doc: "File whose first line is the password for that name.",
    },
    Key {
        section: Section::Cluster,
        name: "host",
        kind: Kind::Text,
        otherwise: Otherwise::Found("none; needed"),
        variable: None,
        example: "\"10.0.0.1\"",
        doc: "Name or address at which clients and the other nodes reach this node's PostgreSQL (at the port of `[instance]`) and its agent.",
    },
    Key {
        section: Section::Cluster,
        name: "agent_port",
        kind: Kind::Integer { min: 1, max: 65_535 },
        otherwise: Otherwise::Value("8008"),
        variable: None,
        example: "8008",
        doc: "Where the agent answers load balancers and the other agents over HTTP.",
    },
    Key {
        section: Section::Cluster,
        name: "agent_listen",
        kind: Kind::Text,
        otherwise: Otherwise::Value("0.0.0.0"),
        variable: None,
        example: "\"10.0.0.1\"",
        doc: "Address that the agent listens on.",
    },
    Key {
        section: Section::Cluster,
        name: "listen_addresses",
        kind: Kind::Text,
        otherwise: Otherwise::Value("*"),
        variable: None,
        example: "\"10.0.0.1\"",
        doc: "Addresses that PostgreSQL listens on, as its setting of that name has them. Given on its command line, like the port.",
    },
    Key {
        section: Section::Cluster,
        name: "directory",
        kind: Kind::Path,
        otherwise: Otherwise::Value("/run/pgproof"),
        variable: None,
        example: "\"/run/pgproof\"",
        doc: "Directory of the agent's own files: PostgreSQL's log and the socket of the fencing process. The path must be short. Made where it is missing; after that the account of PostgreSQL must be able to write in it.",
    },
    Key {
        section: Section::Cluster,
        name: "programs",
        kind: Kind::Path,
        otherwise: Otherwise::Found("those of the data directory's version"),
        variable: None,
        example: "\"/usr/lib/postgresql/17/bin\"",
        doc: "Directory of PostgreSQL's programs; needed where no data directory exists yet.",
    },
    Key {
        section: Section::Cluster,
        name: "founding",
        kind: Kind::Boolean,
        otherwise: Otherwise::Value("false"),
        variable: None,
        example: "true",
        doc: "Whether this node may make the cluster when etcd holds none: by `initdb` where there is no data directory, else from the primary that is here. Set it on one node only.",
    },
    Key {
        section: Section::Cluster,
        name: "hba_file",
        kind: Kind::Path,
        otherwise: Otherwise::Found(
            "what initdb writes: nobody connects through the network without a password",
        ),
        variable: None,
        example: "\"/etc/pgproof/pg_hba.conf\"",
        doc: "File that becomes `pg_hba.conf` of a cluster that is made by `initdb`. Its rules must let the other nodes connect and replicate.",
    },
    Key {
        section: Section::Cluster,
        name: "rpo",
        kind: Kind::Duration { min_ms: 0 },
        otherwise: Otherwise::Value("0s"),
        variable: None,
        example: "\"0s\"",
        doc: "What a failover may lose. `0s`: a commit is acknowledged when `synchronous` standbys have it, and no promotion loses one. Others are refused for now.",
    },
    Key {
        section: Section::Cluster,
        name: "synchronous",
        kind: Kind::Integer { min: 1, max: 16 },
        otherwise: Otherwise::Value("1"),
        variable: None,
        example: "1",
        doc: "How many standbys must have flushed a commit before it is acknowledged. With n standbys, n - synchronous of them may fail without an outage, and n - synchronous + 1 must be there to elect a new primary.",
    },
    Key {
        section: Section::Cluster,
        name: "rto",
        kind: Kind::Duration { min_ms: 1000 },
        otherwise: Otherwise::Value("10s"),
        variable: None,
        example: "\"5s\"",
        doc: "The outage that a failover may cost. All timers follow from it; one that cannot be kept is refused with the arithmetic.",
    },
];

/// `[cluster]`
#[derive(Debug, Clone)]
pub(crate) struct ClusterConfig {
    pub(crate) name: String,
    pub(crate) node: Option<String>,
    pub(crate) etcd: Option<String>,
    pub(crate) etcd_user: Option<String>,
    pub(crate) etcd_password_file: Option<PathBuf>,
    pub(crate) host: Option<String>,
    pub(crate) agent_port: i64,
    pub(crate) agent_listen: String,
    pub(crate) listen_addresses: String,
    pub(crate) directory: PathBuf,
    pub(crate) programs: Option<PathBuf>,
    pub(crate) founding: bool,
    pub(crate) hba_file: Option<PathBuf>,
    pub(crate) rpo: Duration,
    pub(crate) synchronous: i64,
    pub(crate) rto: Duration,
}

impl Config {
    /// The table of the cluster. Read by the commands of clusters only.
    ///
    /// # Errors
    /// A value that cannot be used.
    pub(crate) fn cluster(&self) -> Result<ClusterConfig, ConfigError> {
        let settings = &self.settings;
        let section = Section::Cluster;
        let number = |name: &str| settings.get::<i64>(section, None, name).map(Option::unwrap_or_default);
        let text = |name: &str| settings.get::<String>(section, None, name);
        let path = |name: &str| settings.get::<PathBuf>(section, None, name);
        let span = |name: &str| settings.get::<Duration>(section, None, name).map(Option::unwrap_or_default);
        Ok(ClusterConfig {
            name: text("name")?.unwrap_or_default(),
            node: text("node")?,
            etcd: text("etcd")?,
            etcd_user: text("etcd_user")?,
            etcd_password_file: path("etcd_password_file")?,
            host: text("host")?,
            agent_port: number("agent_port")?,
            agent_listen: text("agent_listen")?.unwrap_or_default(),
            listen_addresses: text("listen_addresses")?.unwrap_or_default(),
            directory: path("directory")?.unwrap_or_default(),
            programs: path("programs")?,
            founding: settings.get(section, None, "founding")?.unwrap_or(false),
            hba_file: path("hba_file")?,
            rpo: span("rpo")?,
            synchronous: number("synchronous")?,
            rto: span("rto")?,
        })
    }
}

#[cfg(test)]
mod tests {
    use crate::config::definitions::{KEYS, Otherwise};
    use crate::config::value::check_value;

    #[test]
    fn every_default_and_example_is_a_valid_value() {
        for key in KEYS {
            if let Otherwise::Value(value) = key.otherwise {
                check_value(key.kind, value).unwrap_or_else(|why| panic!("default of {}: {why}", key.name));
            }
            check_value(key.kind, key.example.trim_matches('"'))
                .unwrap_or_else(|why| panic!("example of {}: {why}", key.name));
        }
    }

    #[test]
    fn names_are_unique_in_their_section() {
        for (i, key) in KEYS.iter().enumerate() {
            assert!(
                !KEYS[..i].iter().any(|k| k.section == key.section && k.name == key.name),
                "{}",
                key.name
            );
        }
    }
}
