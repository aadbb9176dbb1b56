//! TLS to a server: which of libpq's modes is meant, and in which order connections are tried.
//!
//! Names, defaults and behaviour are libpq's (manual, "SSL Support"): `prefer` on TCP, nothing on Unix sockets; a root certificate that is there is
//! used in every mode; `prefer` and `allow` fall back to the other way. What differs is said in `docs/manual/tls.md`.
//!
//! `certificates` reads files and makes rustls' configuration, `verify` decides about the server's certificate, `session` and `socket` are
//! the two kinds of connections: asynchronous below the client library, blocking below replication.

mod certificates;
mod session;
pub(crate) mod socket;
mod verify;

pub(crate) use session::Connector;

use crate::error::{Cause, ServerError};
use crate::session::{Environment, describe};
use postgres::Config;
use postgres::config::Host;
use rustls::ClientConfig;
use rustls::pki_types::{CertificateDer, ServerName};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;

/// `sslmode`, as libpq names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SslMode {
    /// Without TLS.
    Disable,
    /// Without TLS, and with it where the server refuses that.
    Allow,
    /// With TLS, and without it where the server has none or refuses.
    Prefer,
    /// With TLS.
    Require,
    /// With TLS, to a server whose certificate a trusted authority has signed.
    VerifyCa,
    /// The same, and it is the certificate of the host that was named.
    VerifyFull,
}

impl SslMode {
    /// Every mode by its name.
    pub const NAMES: [&'static str; 6] =
        ["disable", "allow", "prefer", "require", "verify-ca", "verify-full"];
}

impl FromStr for SslMode {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Ok(match text {
            "disable" => Self::Disable,
            "allow" => Self::Allow,
            "prefer" => Self::Prefer,
            "require" => Self::Require,
            "verify-ca" => Self::VerifyCa,
            "verify-full" => Self::VerifyFull,
            _ => return Err(format!("sslmode cannot be `{text}`: it is one of {}", Self::NAMES.join(", "))),
        })
    }
}

/// `channel_binding`, as libpq names it: whether a password is proved for this very connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ChannelBinding {
    /// Never.
    Disable,
    /// Where the server can.
    Prefer,
    /// Always; no other proof is given.
    Require,
}

impl ChannelBinding {
    /// Every one by its name.
    pub const NAMES: [&'static str; 3] = ["disable", "prefer", "require"];
}

impl FromStr for ChannelBinding {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Ok(match text {
            "disable" => Self::Disable,
            "prefer" => Self::Prefer,
            "require" => Self::Require,
            _ => {
                return Err(format!(
                    "channel_binding cannot be `{text}`: it is one of {}",
                    Self::NAMES.join(", ")
                ));
            }
        })
    }
}

/// How a connection is protected. What is not given comes from the `PGSSL*` variables, then from libpq's defaults.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TlsOptions {
    /// Whether, and how far the server is checked.
    pub sslmode: Option<SslMode>,
    /// File of trusted authorities, or `system` for those of the operating system.
    pub sslrootcert: Option<String>,
    /// File of the client's own certificate.
    pub sslcert: Option<PathBuf>,
    /// File of its private key.
    pub sslkey: Option<PathBuf>,
    /// Whether passwords are proved for this very connection.
    pub channel_binding: Option<ChannelBinding>,
}

impl TlsOptions {
    /// These, and what they leave open from `others`.
    pub(crate) fn or(self, others: Self) -> Self {
        Self {
            sslmode: self.sslmode.or(others.sslmode),
            sslrootcert: self.sslrootcert.or(others.sslrootcert),
            sslcert: self.sslcert.or(others.sslcert),
            sslkey: self.sslkey.or(others.sslkey),
            channel_binding: self.channel_binding.or(others.channel_binding),
        }
    }

    /// Takes one parameter of a connection string; false when it is none of these.
    pub(crate) fn take(&mut self, name: &str, value: &str) -> Result<bool, String> {
        // libpq: an empty value is as none.
        let given = Some(value).filter(|value| !value.is_empty());
        match name {
            "sslmode" => self.sslmode = given.map(str::parse).transpose()?,
            "sslrootcert" => self.sslrootcert = given.map(str::to_owned),
            "sslcert" => self.sslcert = given.map(PathBuf::from),
            "sslkey" => self.sslkey = given.map(PathBuf::from),
            "channel_binding" => self.channel_binding = given.map(str::parse).transpose()?,
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// What the environment says.
    pub(crate) fn of(environment: &Environment) -> Result<Self, String> {
        const VARIABLES: [(&str, &str); 5] = [
            ("PGSSLMODE", "sslmode"),
            ("PGSSLROOTCERT", "sslrootcert"),
            ("PGSSLCERT", "sslcert"),
            ("PGSSLKEY", "sslkey"),
            ("PGCHANNELBINDING", "channel_binding"),
        ];
        let mut options = Self::default();
        for (variable, name) in VARIABLES {
            if let Some(value) = environment.get(variable) {
                options.take(name, value).map_err(|why| format!("{variable}: {why}"))?;
            }
        }
        // Whoever lists revoked certificates believes that they are refused.
        let lists = ["PGSSLCRL", "PGSSLCRLDIR"];
        match lists.into_iter().find(|name| environment.get(*name).is_some_and(|value| !value.is_empty())) {
            Some(name) => Err(format!("{name} is set, and pgproof does not know revocation lists")),
            None => Ok(options),
        }
    }
}

/// What libpq calls the system's own trusted authorities.
const SYSTEM_ROOTS: &str = "system";

/// How the connections to one server are protected, all of it settled.
#[derive(Debug)]
pub(crate) struct Tls {
    mode: SslMode,
    options: TlsOptions,
    /// `~/.postgresql`, where libpq looks for what is not given.
    folder: Option<PathBuf>,
}

/// One way to connect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Plain,
    /// With TLS if the server has it.
    Offered,
    Required,
}

/// How one connection is to be made.
#[derive(Debug, Clone)]
pub(crate) enum Security {
    Plain,
    Tls(Secure),
}

/// What a connection with TLS needs.
#[derive(Debug, Clone)]
pub(crate) struct Secure {
    pub(crate) client: Arc<ClientConfig>,
    pub(crate) required: bool,
    pub(crate) name: ServerName<'static>,
}

impl Tls {
    pub(crate) fn settle(options: TlsOptions, environment: &Environment) -> Result<Self, String> {
        let system = options.sslrootcert.as_deref() == Some(SYSTEM_ROOTS);
        let mode = match options.sslmode {
            // As libpq from 16 on: anybody can get a certificate from a public authority, so it proves nothing without the name.
            None if system => SslMode::VerifyFull,
            Some(mode) if system && mode != SslMode::VerifyFull => {
                return Err("sslrootcert=system needs sslmode=verify-full: any host has a certificate of a public authority".to_owned());
            }
            None => SslMode::Prefer,
            Some(mode) => mode,
        };
        let home = environment.get("HOME").filter(|home| !home.is_empty());
        Ok(Self { mode, options, folder: home.map(|home| Path::new(home).join(".postgresql")) })
    }

    pub(crate) fn channel_binding(&self) -> ChannelBinding {
        self.options.channel_binding.unwrap_or(ChannelBinding::Prefer)
    }

    fn ways(&self, config: &Config) -> &'static [Way] {
        // libpq: through a Unix socket there is never TLS, whatever the mode.
        if !matches!(config.get_hosts().first(), Some(Host::Tcp(_))) {
            return &[Way::Plain];
        }
        match self.mode {
            SslMode::Disable => &[Way::Plain],
            SslMode::Allow => &[Way::Plain, Way::Required],
            SslMode::Prefer => &[Way::Offered, Way::Plain],
            SslMode::Require | SslMode::VerifyCa | SslMode::VerifyFull => &[Way::Required],
        }
    }

    fn security(&self, way: Way, config: &Config) -> Result<Security, ServerError> {
        let Some(Host::Tcp(host)) = config.get_hosts().first().filter(|_| way != Way::Plain) else {
            return Ok(Security::Plain);
        };
        let wrong = |reason: String| ServerError::Parameters { reason };
        let name = ServerName::try_from(host.clone())
            .map_err(|_| wrong(format!("`{host}` cannot be the name of a server with TLS")))?;
        let client = certificates::client_config(self).map_err(wrong)?;
        Ok(Security::Tls(Secure { client, required: way == Way::Required, name }))
    }

    /// The same for a program that uses libpq: parameters of a connection string.
    pub(crate) fn parameters(&self) -> Vec<(&'static str, String)> {
        let TlsOptions { sslmode: _, sslrootcert, sslcert, sslkey, channel_binding } = &self.options;
        let path = |path: &PathBuf| path.display().to_string();
        let given = [
            ("sslrootcert", sslrootcert.clone()),
            ("sslcert", sslcert.as_ref().map(path)),
            ("sslkey", sslkey.as_ref().map(path)),
            (
                "channel_binding",
                channel_binding.map(|chosen| ChannelBinding::NAMES[chosen as usize].to_owned()),
            ),
        ];
        let mode = ("sslmode", SslMode::NAMES[self.mode as usize].to_owned());
        let given = given.into_iter().filter_map(|(name, value)| Some((name, value?)));
        std::iter::once(mode).chain(given).collect()
    }

    /// Connects by each way in turn, until one leads to the server.
    pub(crate) fn connect<T>(
        &self,
        config: &Config,
        mut connect: impl FnMut(&Security) -> Result<T, Cause>,
    ) -> Result<T, ServerError> {
        let ways = self.ways(config);
        // Of two failures the one with TLS is told: it was wanted, or the server insisted on it.
        let mut told: Option<Cause> = None;
        for way in ways {
            match connect(&self.security(*way, config)?) {
                Ok(connected) => return Ok(connected),
                Err(cause) => {
                    let goes_on = cause.is_about_encryption();
                    if told.is_none() || *way == Way::Required {
                        told = Some(cause);
                    }
                    if !goes_on {
                        break;
                    }
                }
            }
        }
        let source = told.unwrap_or_else(|| std::io::Error::other("there is no way to connect").into());
        Err(ServerError::Connect { server: describe(config), source })
    }
}

/// The hash of the server's certificate that binds a password's proof to this connection (RFC 5929, `tls-server-end-point`); none for signatures
/// that name no hash, for which there is no binding.
pub(crate) fn end_point(certificates: Option<&[CertificateDer<'_>]>) -> Option<Vec<u8>> {
    verify::end_point_hash(certificates?.first()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tls(mode: Option<SslMode>) -> Tls {
        let options = TlsOptions { sslmode: mode, ..TlsOptions::default() };
        Tls::settle(options, &Environment::new()).unwrap()
    }

    fn to(host: &str) -> Config {
        let mut config = Config::new();
        config.host(host);
        config
    }

    #[test]
    fn a_network_connection_prefers_tls_and_a_socket_has_none() {
        assert_eq!(tls(None).ways(&to("db.example")), [Way::Offered, Way::Plain]);
        assert_eq!(tls(Some(SslMode::VerifyFull)).ways(&to("db.example")), [Way::Required]);
        assert_eq!(tls(Some(SslMode::VerifyFull)).ways(&to("/run/postgresql")), [Way::Plain]);
    }

    #[test]
    fn the_systems_authorities_go_with_names_only() {
        let system = |sslmode| {
            let options = TlsOptions { sslmode, sslrootcert: Some("system".into()), ..TlsOptions::default() };
            Tls::settle(options, &Environment::new()).map(|tls| tls.mode)
        };
        assert_eq!(system(None), Ok(SslMode::VerifyFull));
        assert!(system(Some(SslMode::VerifyCa)).is_err());
    }

    #[test]
    fn variables_are_read_and_one_that_would_be_ignored_is_refused() {
        let of = |name: &str, value: &str| TlsOptions::of(&[(name.to_owned(), value.to_owned())].into());
        assert_eq!(of("PGSSLMODE", "verify-ca").unwrap().sslmode, Some(SslMode::VerifyCa));
        assert_eq!(of("PGSSLMODE", "").unwrap(), TlsOptions::default());
        assert!(of("PGSSLMODE", "always").unwrap_err().contains("verify-full"));
        assert!(of("PGSSLCRL", "/etc/crl.pem").unwrap_err().contains("revocation lists"));
    }
}
