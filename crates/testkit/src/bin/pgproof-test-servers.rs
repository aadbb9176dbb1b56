//! Installs every server that tests need, PostgreSQL and object storage, and says what is there: `cargo xtask test` runs it before the tests, so
//! that downloads do not count as test time.

use pgproof_pg::MajorVersion;
use pgproof_testkit::Server;

#[expect(clippy::print_stdout, reason = "this is a program")]
fn main() -> anyhow::Result<()> {
    for version in MajorVersion::ALL {
        let server = Server::of(version)?;
        let kind = if server.is_full() { "full" } else { "server only" };
        println!("PostgreSQL {} ({kind}) in {}", server.version()?, server.bin().display());
    }
    pgproof_testkit::s3::install()?;
    println!("S3 server: moto");
    pgproof_testkit::gcs::install()?;
    println!("Google Cloud Storage server: fake-gcs-server");
    pgproof_testkit::azure::install()?;
    println!("Azure Blob server: azurite");
    Ok(())
}
