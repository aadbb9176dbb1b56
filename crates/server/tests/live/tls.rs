//! TLS against real servers: each mode's good and bad case, for sessions and for replication connections.

use anyhow::{Context, Result, ensure};
use pgproof_pg::MajorVersion;
use pgproof_server::replication::{Received, Replication};
use pgproof_server::{ChannelBinding, ConnectOptions, ServerError, Session, SslMode, TlsOptions};
use pgproof_testkit::{Postgres, wait};
use std::error::Error;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

/// Versions whose build has TLS: the test kit's 18 is made without OpenSSL.
const WITH_TLS: [MajorVersion; 4] =
    [MajorVersion::V14, MajorVersion::V15, MajorVersion::V16, MajorVersion::V17];

/// Certificates, made by `openssl` in a server's directory.
struct Certificates {
    folder: PathBuf,
}

const KEY: [&str; 5] = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"];

impl Certificates {
    fn openssl(&self, arguments: &[&str]) -> Result<()> {
        let output = Command::new("openssl").args(arguments).current_dir(&self.folder).output();
        let output = output.context("run openssl")?;
        ensure!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        Ok(())
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// A certificate that is its own authority, with its key.
    fn self_signed(&self, name: &str, subject: &str, more: &[&str]) -> Result<()> {
        let (key, certificate) = (format!("{name}.key"), format!("{name}.crt"));
        let own = ["req", "-x509", "-days", "30", "-keyout", &key, "-out", &certificate, "-subj", subject];
        self.openssl(&[&own, &KEY[..], more].concat())
    }

    /// A certificate for the key of `of`, signed by the authority `ca`.
    fn signed(&self, name: &str, of: &str, subject: &str, names: Option<&str>, days: &str) -> Result<()> {
        let (key, certificate) = (format!("{of}.key"), format!("{name}.crt"));
        let request = ["req", "-new", "-key", &key, "-subj", subject, "-out", "request"];
        self.openssl(&request)?;
        let names = names.map(|names| format!("subjectAltName = {names}\n")).unwrap_or_default();
        fs::write(self.file("extensions"), format!("basicConstraints = CA:FALSE\n{names}"))?;
        let sign = ["x509", "-req", "-in", "request", "-CA", "ca.crt", "-CAkey", "ca.key", "-CAcreateserial"];
        self.openssl(&[&sign[..], &["-days", days, "-extfile", "extensions", "-out", &certificate]].concat())
    }
}

/// Who may come in how. Roles are named by it.
const HBA: &str = "local all,replication all trust
hostssl all,replication certified all cert
hostssl all,replication proven all scram-sha-256
hostssl all,replication encrypted all trust
hostnossl all,replication bare all trust
host all,replication postgres all trust
";

/// A server that listens on TCP and has TLS, with a certificate for `localhost`.
fn start(version: MajorVersion) -> Result<(Postgres, Certificates)> {
    let server = Postgres::builder(version).setting("listen_addresses", "localhost").create()?;
    let certificates = Certificates { folder: server.dir("certificates")? };
    certificates.self_signed("ca", "/CN=an authority", &[])?;
    certificates.self_signed("stranger", "/CN=another authority", &[])?;
    certificates.self_signed("server", "/CN=localhost", &["-addext", "subjectAltName=DNS:localhost"])?;
    certificates.signed("good", "server", "/CN=somebody", Some("DNS:localhost"), "30")?;
    certificates.signed("expired", "server", "/CN=somebody", Some("DNS:localhost"), "-1")?;
    certificates.signed("by-common-name", "server", "/CN=localhost", None, "30")?;
    certificates.self_signed("client", "/CN=ignored", &[])?;
    certificates.signed("client", "client", "/CN=certified", None, "30")?;
    fs::set_permissions(certificates.file("client.key"), fs::Permissions::from_mode(0o600))?;
    fs::set_permissions(certificates.file("server.key"), fs::Permissions::from_mode(0o600))?;
    for entry in fs::read_dir(&certificates.folder)? {
        server.account().own(&entry?.path())?;
    }
    let file = |name| certificates.file(name).display().to_string();
    server.append_settings(&[
        ("ssl", "on"),
        ("ssl_cert_file", &file("good.crt")),
        ("ssl_key_file", &file("server.key")),
        ("ssl_ca_file", &file("ca.crt")),
    ])?;
    server.start()?;
    for role in ["certified", "proven", "encrypted", "bare"] {
        server.sql(&format!("CREATE ROLE {role} REPLICATION LOGIN PASSWORD 'secret'"))?;
    }
    fs::write(server.pgdata().join("pg_hba.conf"), HBA)?;
    reload(&server, "work_mem", "5MB")?;
    Ok((server, certificates))
}

/// Changes a setting, and waits until connections that begin now have it.
fn reload(server: &Postgres, name: &str, value: &str) -> Result<()> {
    server.append_settings(&[(name, value)])?;
    server.reload()?;
    wait::until_true("the postmaster to read its configuration", || {
        Ok(server.value(&format!("SHOW {name}"))? == value)
    })
}

fn to(server: &Postgres, host: &str, user: &str, tls: TlsOptions) -> ConnectOptions {
    ConnectOptions {
        host: Some(host.to_owned()),
        port: Some(server.port()),
        user: Some(user.to_owned()),
        database: Some("postgres".to_owned()),
        tls,
        ..ConnectOptions::default()
    }
}

fn mode(sslmode: SslMode, root: Option<&Path>) -> TlsOptions {
    let sslrootcert = root.map(|root| root.display().to_string());
    TlsOptions { sslmode: Some(sslmode), sslrootcert, ..TlsOptions::default() }
}

fn said(error: &ServerError) -> String {
    let source = error.source().map(ToString::to_string).unwrap_or_default();
    format!("{error}: {source} ({})", error.hint())
}

/// Connects in both ways; whether it was with TLS, as the server sees it, or what was said. Both must come to the same.
fn both(server: &Postgres, options: &ConnectOptions) -> Result<Result<bool, String>> {
    let session = Session::open(options).map_err(|error| said(&error)).and_then(|mut session| {
        let sql = "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()";
        let row = session.query_one("look at the connection", sql, &[]).map_err(|error| said(&error))?;
        Ok(row.get::<_, bool>(0))
    });
    let replication = match Replication::open(options, "receiver") {
        Ok(mut open) => {
            open.identify_system()?;
            let sql = "SELECT ssl FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) WHERE application_name = 'receiver'";
            let ssl = server.value(sql)?;
            drop(open);
            wait::until_true("the connection to be gone", || {
                Ok(server
                    .value("SELECT count(*) FROM pg_stat_activity WHERE application_name = 'receiver'")?
                    == "0")
            })?;
            Ok(ssl == "t")
        }
        Err(error) => Err(said(&error)),
    };
    match (session, replication) {
        (Ok(one), Ok(two)) => {
            ensure!(one == two, "the session is encrypted: {one}, the replication connection: {two}");
            Ok(Ok(one))
        }
        (Err(one), Err(two)) => Ok(Err(format!("{one}\n{two}"))),
        (one, two) => anyhow::bail!("session: {one:?}\nreplication: {two:?}"),
    }
}

/// Asserts that both connections are refused, each with this in its message.
fn refused(outcome: Result<bool, String>, what: &str) {
    let message = outcome.expect_err(what);
    assert!(
        message.lines().count() >= 2 && message.lines().all(|line| line.contains(what)),
        "{what}: {message}"
    );
}

#[test]
fn each_mode_is_what_libpq_makes_of_it() -> Result<()> {
    for version in [MajorVersion::V14, MajorVersion::V17] {
        let (server, certificates) = start(version)?;
        let (ca, stranger) = (certificates.file("ca.crt"), certificates.file("stranger.crt"));
        let try_as = |user: &str, sslmode, root: Option<&Path>| {
            both(&server, &to(&server, "localhost", user, mode(sslmode, root)))
        };
        let by = |sslmode, root: Option<&Path>| try_as("postgres", sslmode, root);
        assert_eq!(by(SslMode::Disable, None)?, Ok(false));
        assert_eq!(by(SslMode::Allow, None)?, Ok(false));
        assert_eq!(by(SslMode::Prefer, None)?, Ok(true));
        assert_eq!(by(SslMode::Require, None)?, Ok(true));
        for verified in [SslMode::Require, SslMode::VerifyCa, SslMode::VerifyFull] {
            assert_eq!(by(verified, Some(&ca))?, Ok(true));
            refused(by(verified, Some(&stranger))?, "UnknownIssuer");
        }
        assert_eq!(by(SslMode::Prefer, Some(&stranger))?, Ok(false), "libpq falls back, too");
        refused(by(SslMode::VerifyCa, None)?, "there are no root certificates");
        let by_address =
            |sslmode| both(&server, &to(&server, "127.0.0.1", "postgres", mode(sslmode, Some(&ca))));
        assert_eq!(by_address(SslMode::VerifyCa)?, Ok(true));
        refused(by_address(SslMode::VerifyFull)?, "not valid for name");

        // Who insists on one way is reached by the modes that try both.
        assert_eq!(try_as("encrypted", SslMode::Allow, None)?, Ok(true));
        assert_eq!(try_as("bare", SslMode::Prefer, None)?, Ok(false));
        refused(try_as("encrypted", SslMode::Disable, None)?, "28000");
        refused(try_as("bare", SslMode::Require, None)?, "28000");
        // A Unix socket has no TLS, whatever is asked for.
        let socket = server.socket_dir().display().to_string();
        assert_eq!(
            both(&server, &to(&server, &socket, "postgres", mode(SslMode::VerifyFull, None)))?,
            Ok(false)
        );
    }
    Ok(())
}

#[test]
fn a_server_without_tls_is_refused_where_tls_is_required() -> Result<()> {
    let (server, _) = start(MajorVersion::V15)?;
    reload(&server, "ssl", "off")?;
    let by = |sslmode| both(&server, &to(&server, "localhost", "postgres", mode(sslmode, None)));
    assert_eq!(by(SslMode::Prefer)?, Ok(false));
    let message = by(SslMode::Require)?.unwrap_err();
    assert_eq!(message.matches("server does not support TLS").count(), 2, "{message}");
    assert_eq!(message.matches("set `ssl = on` on the server").count(), 2, "{message}");
    Ok(())
}

#[test]
fn certificates_that_ran_out_are_refused_and_those_that_people_really_have_are_taken() -> Result<()> {
    let (server, certificates) = start(MajorVersion::V15)?;
    let ca = certificates.file("ca.crt");
    let by = |host: &str, root: &Path| {
        both(&server, &to(&server, host, "postgres", mode(SslMode::VerifyFull, Some(root))))
    };
    let show = |name: &str| reload(&server, "ssl_cert_file", &certificates.file(name).display().to_string());
    show("expired.crt")?;
    refused(by("localhost", &ca)?, "renew the server's certificate");
    show("by-common-name.crt")?;
    assert_eq!(by("localhost", &ca)?, Ok(true));
    refused(by("127.0.0.1", &ca)?, "not valid for name");
    show("server.crt")?;
    assert_eq!(by("localhost", &certificates.file("server.crt"))?, Ok(true), "its own authority");
    refused(by("127.0.0.1", &certificates.file("server.crt"))?, "not valid for name");
    refused(by("localhost", &certificates.file("stranger.crt"))?, "UnknownIssuer");
    Ok(())
}

#[test]
fn a_client_certificate_logs_in_and_its_key_must_be_closed_to_others() -> Result<()> {
    let (server, certificates) = start(MajorVersion::V15)?;
    let own = |options: TlsOptions| TlsOptions {
        sslcert: Some(certificates.file("client.crt")),
        sslkey: Some(certificates.file("client.key")),
        ..options
    };
    let ca = certificates.file("ca.crt");
    let verified = || mode(SslMode::VerifyFull, Some(&ca));
    let by = |user: &str, tls| both(&server, &to(&server, "localhost", user, tls));
    assert_eq!(by("certified", own(verified()))?, Ok(true));
    assert_eq!(by("certified", own(TlsOptions::default()))?, Ok(true), "prefer");
    refused(by("certified", verified())?, "requires a valid client certificate");
    let missing = TlsOptions { sslkey: Some("/nowhere/client.key".into()), ..own(verified()) };
    refused(by("certified", missing)?, "/nowhere/client.key");
    fs::set_permissions(certificates.file("client.key"), fs::Permissions::from_mode(0o644))?;
    refused(by("certified", own(verified()))?, "others may read it");
    Ok(())
}

#[test]
fn a_password_is_proved_for_this_very_connection_where_that_is_required() -> Result<()> {
    for version in WITH_TLS {
        let (server, certificates) = start(version)?;
        let ca = certificates.file("ca.crt");
        let by = |user: &str, sslmode, binding, password: &str| {
            let tls = TlsOptions { channel_binding: Some(binding), ..mode(sslmode, Some(&ca)) };
            let password = Some(format!("password={password}"));
            let options =
                ConnectOptions { connection_string: password, ..to(&server, "localhost", user, tls) };
            both(&server, &options)
        };
        let full = SslMode::VerifyFull;
        for binding in [ChannelBinding::Disable, ChannelBinding::Prefer, ChannelBinding::Require] {
            assert_eq!(by("proven", full, binding, "secret")?, Ok(true), "{version} {binding:?}");
        }
        refused(by("proven", full, ChannelBinding::Require, "wrong")?, "28P01");
        // Who is let in without any proof has proved nothing.
        refused(by("encrypted", full, ChannelBinding::Require, "secret")?, "channel binding");
        refused(by("postgres", SslMode::Disable, ChannelBinding::Require, "secret")?, "channel binding");
    }
    Ok(())
}

#[test]
fn wal_comes_through_tls_byte_for_byte() -> Result<()> {
    let (server, certificates) = start(MajorVersion::V17)?;
    let tls = mode(SslMode::VerifyFull, Some(&certificates.file("ca.crt")));
    let mut replication = Replication::open(&to(&server, "localhost", "postgres", tls), "receiver")?;
    let identity = replication.identify_system()?;
    let size = replication.wal_segment_size()?;
    let segment = identity.flushed.segment(size);
    let from = segment.start(size);
    server.sql("CREATE TABLE t AS SELECT g, md5(g::text) FROM generate_series(1, 50000) g")?;
    let to = server.lsn()?;
    let mut stream = replication.start_physical(None, from, identity.timeline)?;
    let deadline = Instant::now() + Duration::from_secs(60);
    let mut all = Vec::new();
    while from.plus(all.len() as u64) < to {
        ensure!(Instant::now() < deadline, "the stream brought {} bytes only", all.len());
        if let Received::Wal { start, data } = stream.receive(Duration::from_secs(1))? {
            assert_eq!(start, from.plus(all.len() as u64), "no byte is left out");
            all.extend_from_slice(&data);
            stream.acknowledge(start, start)?;
        }
    }
    let name = pgproof_pg::SegmentName::new(identity.timeline, segment).file_name(size);
    let written = fs::read(server.pgdata().join("pg_wal").join(name))?;
    let comparable = all.len().min(written.len());
    assert!(comparable > 1 << 20 && all[..comparable] == written[..comparable], "{comparable}");
    // Nothing comes now, and that is told in time.
    let began = Instant::now();
    while !matches!(stream.receive(Duration::from_millis(200))?, Received::Nothing) {
        ensure!(began.elapsed() < Duration::from_secs(20), "the stream never rests");
    }
    Ok(())
}
