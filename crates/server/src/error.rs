//! What can go wrong between pgproof and a server, in words that name the server, and what an operator can do about it.

use fallible_iterator::FallibleIterator;
use postgres::error::SqlState;
use postgres_protocol::message::backend::ErrorFields;
use std::{error::Error, fmt, io, path::PathBuf, time::Duration};

/// Why something asked of a server was not done.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServerError {
    /// No connection could be made.
    #[error("could not connect to PostgreSQL at {server}")]
    Connect {
        /// Where: socket or host, port, user.
        server: String,
        /// Why not.
        source: Cause,
    },
    /// The connection parameters are not valid.
    #[error("the connection parameters are not valid: {reason}")]
    Parameters {
        /// What is wrong with them.
        reason: String,
    },
    /// A statement failed.
    #[error("could not {operation} on {server}")]
    Statement {
        /// What was being done.
        operation: &'static str,
        /// Where.
        server: String,
        /// Why not.
        source: Cause,
    },
    /// The server answered something that pgproof does not understand.
    #[error("{server} gave {found:?} for {what}")]
    Answer {
        /// Where.
        server: String,
        /// What was asked.
        what: &'static str,
        /// What came.
        found: String,
    },
    /// A program or file of the server's host could not be used.
    #[error("could not {operation} {}", path.display())]
    Host {
        /// What was being done.
        operation: &'static str,
        /// The program or file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A directory is no data directory.
    #[error("{} is not a data directory of PostgreSQL: {why}", path.display())]
    NotADataDirectory {
        /// The directory.
        path: PathBuf,
        /// What is missing or strange.
        why: String,
    },
    /// A major version outside 14 to 18.
    #[error("{place} is PostgreSQL {version}, which is not supported")]
    Version {
        /// Server or directory.
        place: String,
        /// What was found.
        version: String,
    },
    /// No PostgreSQL programs of the right version are on this host.
    #[error("found no programs of PostgreSQL {version} for {}", data.display())]
    Programs {
        /// The data directory to be served.
        data: PathBuf,
        /// Its major version.
        version: String,
    },
    /// The server did not do what was asked of it.
    #[error("PostgreSQL in {} could not {action}: {why}", data.display())]
    Control {
        /// The data directory.
        data: PathBuf,
        /// `start`, `stop`, `recover`...
        action: &'static str,
        /// What was seen instead.
        why: String,
        /// The last lines of the server's log; empty where it is not known.
        log_tail: String,
    },
    /// Something did not happen within its time.
    #[error("waited {} in vain for {what}", pgproof_base::human_duration(*limit))]
    Timeout {
        /// What was waited for.
        what: String,
        /// For how long.
        limit: Duration,
        /// The last lines of the server's log; empty where it is not known.
        log_tail: String,
    },
    /// The backup that the server ended is not the one that was begun.
    #[error("the backup that began at {began} ended as another one: {why}")]
    BackupChanged {
        /// Position and timeline of the start.
        began: String,
        /// What differs.
        why: String,
    },
    /// The process cannot act as another account.
    #[error("could not act as user {user}: {why}")]
    Privilege {
        /// Name or id of the account.
        user: String,
        /// Why not.
        why: String,
    },
    /// A setting was changed without effect.
    #[error("{name} did not become `{wanted}`: {why}")]
    Setting {
        /// The setting.
        name: String,
        /// What it was to become.
        wanted: String,
        /// What keeps it from it.
        why: String,
    },
}

/// What the server, the network or the client library said. The library's own error says only "db error" where the server
/// has spoken; this one says what it said.
#[derive(Debug)]
pub struct Cause(Said);

#[derive(Debug)]
enum Said {
    /// In an ordinary session.
    Session(postgres::Error),
    /// By the server, through a replication connection.
    Replication { severity: String, message: String, code: SqlState },
    /// By the system, about a replication connection.
    System(io::Error),
}

/// In the client library's words.
const NO_TLS: &str = "server does not support TLS";

impl Cause {
    /// The server's code for it (`src/backend/utils/errcodes.txt`), where the server has spoken.
    #[must_use]
    pub fn code(&self) -> Option<&SqlState> {
        match &self.0 {
            Said::Session(error) => error.code(),
            Said::Replication { code, .. } => Some(code),
            Said::System(_) => None,
        }
    }

    /// What the server adds to its message: `DETAIL` and `HINT`.
    #[must_use]
    pub fn detail(&self) -> (Option<&str>, Option<&str>) {
        let Said::Session(error) = &self.0 else { return (None, None) };
        error.as_db_error().map_or((None, None), |said| (said.detail(), said.hint()))
    }

    /// What kind of failure it was to the system, where neither server nor library have spoken.
    #[must_use]
    pub fn system_kind(&self) -> Option<io::ErrorKind> {
        match &self.0 {
            Said::Session(error) => error.source()?.downcast_ref::<io::Error>().map(io::Error::kind),
            Said::System(error) => Some(error.kind()),
            Said::Replication { .. } => None,
        }
    }

    /// Whether the connection has ended.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        match &self.0 {
            Said::Session(error) => error.is_closed(),
            Said::Replication { .. } => self.is_fatal(),
            Said::System(_) => true,
        }
    }

    /// Whether the server ended the session with it.
    pub(crate) fn is_fatal(&self) -> bool {
        let severity = match &self.0 {
            Said::Session(error) => error.as_db_error().map(postgres::error::DbError::severity),
            Said::Replication { severity, .. } => Some(severity.as_str()),
            Said::System(_) => None,
        };
        matches!(severity, Some("FATAL" | "PANIC"))
    }

    /// Whether another way of protecting the connection may lead to the server, as libpq tries it: TLS failed, or the server lets nobody in so.
    pub(crate) fn is_about_encryption(&self) -> bool {
        self.code() == Some(&SqlState::INVALID_AUTHORIZATION_SPECIFICATION)
            || self.tls_error().is_some()
            || self.lacks_tls()
    }

    /// What TLS itself says.
    fn tls_error(&self) -> Option<&rustls::Error> {
        let first: &(dyn Error + 'static) = match &self.0 {
            Said::Session(error) => error,
            Said::System(error) => error,
            Said::Replication { .. } => return None,
        };
        let mut next = Some(first);
        while let Some(error) = next {
            if let Some(found) = error.downcast_ref() {
                return Some(found);
            }
            // An io::Error passes over what it wraps when it is asked for its source.
            let inside = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
            next = inside.map(|inside| inside as &(dyn Error + 'static)).or_else(|| error.source());
        }
        None
    }

    /// Whether the server was asked for TLS and has none.
    #[must_use]
    pub fn lacks_tls(&self) -> bool {
        match &self.0 {
            // The library has no type for it.
            Said::Session(error) => error.source().is_some_and(|source| source.to_string() == NO_TLS),
            Said::System(error) => error.get_ref().is_some_and(|inside| inside.to_string() == NO_TLS),
            Said::Replication { .. } => false,
        }
    }

    /// The server was asked for TLS and has none.
    pub(crate) fn no_tls() -> Self {
        io::Error::other(NO_TLS).into()
    }

    /// Whether it says that there is one of that name.
    pub(crate) fn is_duplicate_object(&self) -> bool {
        self.code() == Some(&SqlState::DUPLICATE_OBJECT)
    }

    /// Whether the server does not know such a command.
    pub(crate) fn is_syntax_error(&self) -> bool {
        self.code() == Some(&SqlState::SYNTAX_ERROR)
    }

    /// What an `ErrorResponse` says (manual, "Error and Notice Message Fields").
    pub(crate) fn said(fields: &mut ErrorFields<'_>) -> io::Result<Self> {
        let (mut severity, mut message, mut code) = (None, String::new(), SqlState::INTERNAL_ERROR);
        while let Some(field) = fields.next()? {
            let value = String::from_utf8_lossy(field.value_bytes()).into_owned();
            match field.type_() {
                // Never translated, unlike `S`.
                b'V' => severity = Some(value),
                b'S' if severity.is_none() => severity = Some(value),
                b'M' => message = value,
                b'C' => code = SqlState::from_code(&value),
                _ => {}
            }
        }
        Ok(Self(Said::Replication { severity: severity.unwrap_or_default(), message, code }))
    }
}

impl From<postgres::Error> for Cause {
    fn from(error: postgres::Error) -> Self {
        Self(Said::Session(error))
    }
}

impl From<io::Error> for Cause {
    fn from(error: io::Error) -> Self {
        Self(Said::System(error))
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let error = match &self.0 {
            Said::Replication { severity, message, code } => {
                return write!(f, "{severity}: {message} ({})", code.code());
            }
            Said::System(error) => return error.fmt(f),
            Said::Session(error) => error,
        };
        if let Some(said) = error.as_db_error() {
            return write!(f, "{}: {} ({})", said.severity(), said.message(), said.code().code());
        }
        match error.source() {
            Some(source) => write!(f, "{error}: {source}"),
            None => error.fmt(f),
        }
    }
}

impl Error for Cause {}

impl ServerError {
    /// Stable code of the kind of failure.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Connect { .. } => "server-unreachable",
            Self::Parameters { .. } => "server-parameters",
            Self::Statement { .. } => "server-refused",
            Self::Answer { .. } => "server-answer",
            Self::Host { .. } => "server-host",
            Self::NotADataDirectory { .. } => "server-no-data-directory",
            Self::Version { .. } => "server-version",
            Self::Programs { .. } => "server-no-programs",
            Self::Control { .. } => "server-control",
            Self::Timeout { .. } => "server-timeout",
            Self::BackupChanged { .. } => "server-backup-changed",
            Self::Privilege { .. } => "server-privilege",
            Self::Setting { .. } => "server-setting",
        }
    }

    /// What the operator can do next.
    #[must_use]
    pub fn hint(&self) -> String {
        match self {
            Self::Connect { source, .. } => connect_hint(source).to_owned(),
            Self::Parameters { .. } => {
                "correct the [instance] section of pgproof.toml, or the PG* variables".to_owned()
            }
            Self::Statement { source, .. } => statement_hint(source).to_owned(),
            Self::Answer { .. } => "is there a connection pooler between pgproof and the server?".to_owned(),
            Self::Host { source, .. } if source.kind() == io::ErrorKind::PermissionDenied => {
                "run pgproof as the user that owns the data directory, or as root".to_owned()
            }
            Self::Host { path, .. } => format!("does {} exist on this host?", path.display()),
            Self::NotADataDirectory { .. } => {
                "`SHOW data_directory` on the server names the right one".to_owned()
            }
            Self::Version { .. } => "pgproof supports PostgreSQL 14 to 18".to_owned(),
            Self::Programs { version, .. } => {
                format!("install the server package of PostgreSQL {version}, or add its programs to PATH")
            }
            Self::Control { log_tail, .. } | Self::Timeout { log_tail, .. } if !log_tail.is_empty() => {
                format!("the server's log ends with:\n{log_tail}")
            }
            Self::Control { .. } | Self::Timeout { .. } => "the server's log tells more".to_owned(),
            Self::BackupChanged { .. } => "was a standby promoted meanwhile? Run the backup again".to_owned(),
            Self::Privilege { user, .. } => format!("run pgproof as {user}, or as root"),
            Self::Setting { name, .. } => {
                format!(
                    "`SELECT source, sourcefile FROM pg_settings WHERE name = '{name}'` tells what wins over it"
                )
            }
        }
    }

    pub(crate) fn host(operation: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Host { operation, path, source }
    }
}

fn connect_hint(cause: &Cause) -> &'static str {
    if let Some(hint) = tls_hint(cause) {
        return hint;
    }
    match cause.code().map(SqlState::code) {
        Some("28P01" | "28000") => {
            "does pg_hba.conf let this user in? Through the socket, run pgproof as the user that owns the server"
        }
        Some("57P03") => "the server is starting, stopping or recovering; try again when it is ready",
        Some("53300") => "all connections are taken; raise max_connections or superuser_reserved_connections",
        Some("3D000") => "name an existing database, for example `postgres`",
        _ => {
            "is the server running, and do port, socket_directory and user in pgproof.toml fit it? \
             `pgproof check` tells more"
        }
    }
}

/// What can be done when TLS failed.
fn tls_hint(cause: &Cause) -> Option<&'static str> {
    use rustls::CertificateError as Certificate;
    if cause.lacks_tls() {
        return Some(
            "set `ssl = on` on the server, or a weaker sslmode (`prefer`) where its network may be trusted",
        );
    }
    Some(match cause.tls_error()? {
        rustls::Error::InvalidCertificate(Certificate::UnknownIssuer) => {
            "has an authority in sslrootcert signed the server's certificate? If the server shows intermediate ones, they belong into its \
             ssl_cert_file"
        }
        rustls::Error::InvalidCertificate(
            Certificate::NotValidForName | Certificate::NotValidForNameContext { .. },
        ) => {
            "connect by a name that the certificate has, or use sslmode=verify-ca if any host of this authority will do"
        }
        rustls::Error::InvalidCertificate(
            Certificate::Expired
            | Certificate::ExpiredContext { .. }
            | Certificate::NotValidYet
            | Certificate::NotValidYetContext { .. },
        ) => "renew the server's certificate, and see whether this host's clock is right",
        rustls::Error::AlertReceived(_) => {
            "the server refused the TLS connection: does it want a client certificate (sslcert, sslkey)? Its log tells more"
        }
        _ => "docs/manual/tls.md says what is checked in which sslmode",
    })
}

fn statement_hint(cause: &Cause) -> &'static str {
    match cause.code().map(SqlState::code) {
        Some("42501") => {
            "connect as a superuser, or grant the role pg_read_all_settings and EXECUTE on the backup functions"
        }
        Some("55P03") => "another session holds the lock; try again when it has ended",
        _ if cause.is_closed() => "did the server stop, or a proxy close the connection? Try again",
        _ => "the server's log tells more",
    }
}
