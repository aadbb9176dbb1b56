//! Everything a change has to pass, cheapest first.

use crate::{
    budgets,
    shell::{self, say, succeeds},
    test, tidy,
};
use anyhow::Result;

/// Runs all checks; ends with the tests' summary and the budgets.
pub(crate) fn run() -> Result<()> {
    shell::run("cargo", &["fmt", "--all", "--check"])?;
    tidy::run()?;
    if succeeds("cargo", &["deny", "--version"]) {
        // Advisories need the network and change without us, so they do not stop a change.
        shell::run(
            "cargo",
            &["deny", "--workspace", "check", "--hide-inclusion-graph", "licenses", "bans", "sources"],
        )?;
    } else {
        say("cargo-deny is not installed: licences and sources are not checked");
    }
    shell::run("cargo", &["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"])?;
    let tests = test::test(&test::Options::default())?;
    shell::run("cargo", &["test", "--workspace", "--doc", "--quiet"])?;
    budgets::measure(Some(tests))
}
