//! The texts that people read first: help, usage errors, generated pages.

use crate::scene::pgproof;
use anyhow::Result;
use expect_test::expect_file;

fn output(arguments: &[&str]) -> Result<(i32, String, String)> {
    let output = pgproof().args(arguments).output()?;
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    Ok((output.status.code().unwrap_or(-1), text(output.stdout), text(output.stderr)))
}

#[test]
fn every_command_explains_itself() -> Result<()> {
    let commands: [&[&str]; 27] = [
        &[],
        &["init"],
        &["check"],
        &["backup"],
        &["archive"],
        &["archive", "push"],
        &["archive", "get"],
        &["archive", "status"],
        &["archive", "run"],
        &["archive", "receive"],
        &["restore"],
        &["extract"],
        &["dump"],
        &["load"],
        &["copy"],
        &["repair"],
        &["key"],
        &["key", "rotate"],
        &["list"],
        &["show"],
        &["verify"],
        &["expire"],
        &["pin"],
        &["unpin"],
        &["config", "explain"],
        &["completions"],
        &["man"],
    ];
    let mut page = String::new();
    for command in commands {
        let (code, stdout, stderr) = output(&[command, &["--help"]].concat())?;
        assert_eq!((code, stderr.as_str()), (0, ""));
        page += &format!("==== pgproof {}\n{stdout}\n", command.join(" "));
    }
    expect_file!["../snapshots/help.txt"].assert_eq(&page);
    Ok(())
}

#[test]
fn wrong_usage_exits_with_2_except_for_restore_command() -> Result<()> {
    assert_eq!(output(&["backup", "--fulll"])?.0, 2);
    assert_eq!(output(&[])?.0, 2);
    assert_eq!(output(&["archive", "push"])?.0, 2);
    assert_eq!(output(&["archive", "get", "--nonsense"])?.0, 126);
    assert_eq!(output(&["archive", "get"])?.0, 126);
    assert_eq!(output(&["--version"])?.0, 0);
    Ok(())
}

#[test]
fn pages_and_completions_are_made_from_the_same_definitions() -> Result<()> {
    let (code, page, _) = output(&["man"])?;
    assert!(code == 0 && page.contains(".TH pgproof"), "{page}");
    for shell in ["bash", "zsh", "fish"] {
        let (code, script, _) = output(&["completions", shell])?;
        assert!(code == 0 && script.contains("archive"), "{script}");
    }
    let directory = tempfile::tempdir()?;
    let out = directory.path().display().to_string();
    assert_eq!(output(&["man", "--out", &out])?.0, 0);
    assert!(directory.path().join("pgproof-backup.1").exists());
    Ok(())
}

#[test]
fn without_a_configuration_every_command_says_what_to_do() -> Result<()> {
    let (code, stdout, stderr) = output(&["list"])?;
    assert_eq!((code, stdout.as_str()), (3, ""));
    assert!(stderr.starts_with("error: no repository is configured\nhint: run `pgproof init`"), "{stderr}");
    let (code, stdout, _) = output(&["list", "--json"])?;
    let document: serde_json::Value = serde_json::from_str(&stdout)?;
    assert_eq!(code, 3);
    assert_eq!(document["command"], "list");
    assert_eq!(document["error"]["code"], "config-no-repository");
    Ok(())
}
