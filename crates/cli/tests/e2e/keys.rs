//! Who can open the repository: recipients that come and go, a new key for the host, key commands, and the loss of a key.

use crate::scene::{Ran, Scene, safe_server};
use anyhow::{Context, Result, ensure};
use pgproof_testkit::Postgres;
use serde_json::Value;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// Makes a key outside of the scene's own places and gives its file and its recipient.
pub(crate) fn generate(scene: &Scene, name: &str) -> Result<(PathBuf, String)> {
    let file = scene.new_place(name);
    let ran = scene.pgproof(&["key", "generate", &file.display().to_string()])?.succeeded()?;
    scene.server.account().own(&file)?;
    Ok((file, ran.stdout.trim().to_owned()))
}

fn host_key(scene: &Scene) -> PathBuf {
    scene.config().with_file_name("main.key")
}

/// The recipients that `key list` shows.
fn recipients(scene: &Scene) -> Result<Vec<String>> {
    let report = scene.pgproof(&["key", "list", "--json"])?.succeeded()?.json()?;
    let keys = report["report"]["keys"].as_array().context("keys")?;
    Ok(keys.iter().map(|key| key["recipient"].as_str().unwrap_or_default().to_owned()).collect())
}

fn code(ran: &Ran) -> Result<Value> {
    Ok(ran.json()?["error"]["code"].clone())
}

/// The blocks ```` ```sh rehearsal ```` of the manual's page, in order.
fn rehearsal() -> Result<Vec<String>> {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/manual/keys.md");
    let page = fs::read_to_string(page)?;
    let blocks =
        page.split("```sh rehearsal\n").skip(1).map(|rest| rest.split("```").next().unwrap_or_default());
    Ok(blocks.map(str::to_owned).collect())
}

#[test]
fn the_loss_of_the_key_is_survived_by_the_very_steps_of_the_manual() -> Result<()> {
    let scene = Scene::initialised()?;
    scene.server.sql("CREATE TABLE t AS SELECT generate_series(1, 1000) AS a")?;
    scene.pgproof(&["backup"])?.succeeded()?;
    scene.server.archive_everything()?;
    let (key, offline, place) =
        (host_key(&scene), scene.new_place("offline.key"), scene.new_place("restored"));
    let mut said = String::new();
    for block in rehearsal()? {
        let mut command = std::process::Command::new("/bin/sh");
        let program = crate::scene::program();
        let function = format!("pgproof() {{ {} \"$@\"; }}\n", program.display());
        command.envs(scene.server.environment()).env("PGPROOF_CONFIG", scene.config()).current_dir("/");
        command.env("KEY", &key).env("OFFLINE", &offline).env("PLACE", &place);
        command.args(["-e", "-u", "-c", &(function + &block)]);
        let ran = scene.ran(command)?;
        said += &format!("{}{}", ran.stdout, ran.stderr);
        ensure!(ran.code == 0, "{block}\n{said}");
        if block.contains("mv \"$KEY\"") {
            // The steps show it to the reader; this looks closer.
            for (command, code) in
                [(&["list"][..], 3), (&["backup"], 3), (&["archive", "status"], 1), (&["key", "rotate"], 3)]
            {
                let lost = scene.pgproof(command)?;
                let said = format!("{}{}", lost.stdout, lost.stderr);
                assert_eq!(lost.code, code, "{command:?} {said}");
                assert!(said.contains("main.key") && said.contains("`pgproof key"), "{command:?} {said}");
            }
        }
    }
    assert!(said.contains("as it should be"), "{said}");
    assert_eq!(recipients(&scene)?.len(), 2, "the offline one and the new one");
    assert!(!offline.exists(), "the rehearsal leaves no offline key behind");
    scene.pgproof(&["check"])?.succeeded()?;
    let restored = Postgres::on(scene.server.version(), &place)?;
    restored.start()?;
    restored.wait_for_promotion()?;
    assert_eq!(restored.value("SELECT count(*) FROM t")?, "1000");
    Ok(())
}

#[test]
fn init_makes_a_repository_for_several_and_says_who_opens_it() -> Result<()> {
    let scene = Scene::new(safe_server())?;
    let (offline, recipient) = generate(&scene, "offline.key")?;
    let refused = scene.init(&["--recipient", "age1nonsense"])?;
    assert_eq!(refused.code, 3);
    assert!(!scene.repository().exists() && !scene.config().exists(), "nothing was begun");
    let ran = scene.init(&["--restart", "--recipient", &recipient])?.succeeded()?;
    assert!(ran.stdout.contains(&format!("encrypted, also for {recipient}")), "{}", ran.stdout);
    assert!(ran.stdout.contains("KEEP A COPY OF [GROUND]/etc/main.key"), "{}", ran.stdout);
    assert!(!ran.stdout.contains("key-single"), "{}", ran.stdout);
    let check = scene.pgproof(&["key", "check", "--key-file", &offline.display().to_string(), "--json"])?;
    assert_eq!(check.succeeded()?.json()?["report"]["ways"][0]["recipient"], recipient);
    let list = scene.pgproof(&["key", "list", "--json"])?.succeeded()?.json()?;
    let here: Vec<bool> = (0..2).map(|at| list["report"]["keys"][at]["this_host"] == true).collect();
    assert_eq!(here, [true, false]);
    Ok(())
}

#[test]
fn rotate_gives_the_host_another_key_and_the_old_one_opens_nothing() -> Result<()> {
    let scene = Scene::initialised()?;
    let (key, [old]) = (host_key(&scene), recipients(&scene)?.try_into().expect("one recipient"));
    let text = fs::read_to_string(&key)?;
    let dry = scene.pgproof(&["key", "rotate", "--dry-run"])?.succeeded()?;
    assert!(dry.stdout.contains(&format!("would remove {old}")), "{}", dry.stdout);
    assert_eq!((recipients(&scene)?, fs::read_to_string(&key)?), (vec![old.clone()], text.clone()));

    // One that was killed after it had added its key.
    let (waiting, interrupted) = generate(&scene, "etc/main.key.new")?;
    scene.pgproof(&["key", "add", "--recipient", &interrupted])?.succeeded()?;
    let report = scene.pgproof(&["key", "rotate", "--json"])?.succeeded()?.json()?;
    assert_eq!(report["report"]["recipient"], interrupted.as_str());
    assert_eq!(recipients(&scene)?, [interrupted]);
    assert!(!waiting.exists());
    let kept = PathBuf::from(
        report["report"]["plan"]["kept"]
            .as_str()
            .context("kept")?
            .replace("[GROUND]", &scene.server.ground().display().to_string()),
    );
    assert_eq!(fs::read_to_string(&kept)?, text);
    let now = fs::metadata(&key)?;
    assert_eq!((now.uid(), now.permissions().mode() & 0o777), (scene.server.account().uid, 0o600));

    let ran = scene.pgproof(&["key", "rotate"])?.succeeded()?;
    assert!(ran.stdout.contains("may have kept its data key"), "{}", ran.stdout);
    scene.pgproof(&["check"])?.succeeded()?;
    scene.pgproof(&["backup"])?.succeeded()?;
    let refused = scene.pgproof(&["list", "--json", "--key-file", &kept.display().to_string()])?;
    assert_eq!(code(&refused)?, "repository-wrong-key");
    Ok(())
}

#[test]
fn who_changes_the_keys_at_the_same_time_is_told_and_nobody_is_lost() -> Result<()> {
    let scene = Scene::initialised()?;
    let names = ["a", "b", "c", "d"];
    let keys = names.map(|name| generate(&scene, name)).into_iter().collect::<Result<Vec<_>>>()?;
    let running: Vec<_> = keys
        .iter()
        .map(|(_, recipient)| {
            let mut command = scene.command(&["key", "add", "--json", "--recipient", recipient]);
            command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped()).spawn()
        })
        .collect::<std::io::Result<_>>()?;
    let mut added = Vec::new();
    for (child, (_, recipient)) in running.into_iter().zip(&keys) {
        let output = child.wait_with_output()?;
        let document: Value = serde_json::from_slice(&output.stdout)?;
        match output.status.code() {
            Some(0) => added.push(recipient.clone()),
            Some(3) => assert_eq!(document["error"]["code"], "repository-keys-changed"),
            other => panic!("{other:?} {document}"),
        }
    }
    let mut listed = recipients(&scene)?;
    listed.remove(0);
    listed.sort();
    added.sort();
    assert!(!added.is_empty() && listed == added, "{listed:?} {added:?}");
    Ok(())
}

#[test]
fn neither_the_last_key_nor_the_hosts_own_is_removed_by_accident() -> Result<()> {
    let scene = Scene::initialised()?;
    let [own] = recipients(&scene)?.try_into().expect("one recipient");
    let remove = |more: &[&str]| {
        scene.pgproof(&[&["key", "remove", "--json", "--recipient", own.as_str()], more].concat())
    };
    assert_eq!(code(&remove(&["--lock-out-this-host"])?)?, "repository-last-key");
    let (file, other) = generate(&scene, "other.key")?;
    let list = scene.new_place("recipients");
    fs::write(&list, format!("# the office\n{other}\n"))?;
    let dry = scene.pgproof(&["key", "add", "--dry-run", "--recipient", &other])?.succeeded()?;
    assert!(dry.stdout.contains("would add age1") && recipients(&scene)?.len() == 1, "{}", dry.stdout);
    scene.pgproof(&["key", "add", "--recipients-file", &list.display().to_string()])?.succeeded()?;
    let again = scene.pgproof(&["key", "add", "--recipient", &other, "--json"])?.succeeded()?.json()?;
    assert_eq!(again["report"]["already"][0], other.as_str());

    assert_eq!(code(&remove(&[])?)?, "key-own");
    assert_eq!(recipients(&scene)?.len(), 2);
    let done = remove(&["--lock-out-this-host"])?.succeeded()?;
    assert_eq!(done.json()?["report"]["recipients"], 1);
    assert_eq!(scene.pgproof(&["list"])?.code, 3);
    scene.pgproof(&["list", "--key-file", &file.display().to_string()])?.succeeded()?;
    Ok(())
}

/// A key service as small as one can be: `openssl` and a file that holds its secret.
fn key_service(scene: &Scene) -> Result<PathBuf> {
    let service = scene.server.dir("service")?;
    let program = service.join("key-service");
    let cipher = "exec openssl enc -aes-256-cbc -pbkdf2 -pass \"file:$(dirname \"$0\")/secret\"";
    let script = format!(
        "#!/bin/sh\ncase \"$2\" in\n  wrap) {cipher} ;;\n  unwrap) {cipher} -d ;;\n  *) echo \"unknown: $*\" >&2; exit 2 ;;\nesac\n"
    );
    fs::write(&program, script)?;
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755))?;
    fs::write(service.join("secret"), "a passphrase of the key service\n")?;
    for file in [&program, &service.join("secret")] {
        scene.server.account().own(file)?;
    }
    Ok(program)
}

#[test]
fn a_key_command_opens_the_repository_and_its_failures_are_told() -> Result<()> {
    let scene = Scene::new(safe_server())?;
    let program = key_service(&scene)?;
    let secret = program.with_file_name("secret");
    let command = format!("{} 'for backups'", program.display());
    let ran = scene.init(&["--restart", "--key-command", &command])?.succeeded()?;
    assert!(!host_key(&scene).exists() && ran.stdout.contains(", encrypted"), "{}", ran.stdout);
    scene.server.sql("CREATE TABLE t AS SELECT generate_series(1, 1000) AS a")?;
    scene.pgproof(&["backup"])?.succeeded()?;
    scene.server.archive_everything()?;
    let place = scene.new_place("restored");
    scene.pgproof(&["restore", "--pgdata", &place.display().to_string()])?.succeeded()?;
    let restored = Postgres::on(scene.server.version(), &place)?;
    restored.start()?;
    restored.wait_for_promotion()?;
    assert_eq!(restored.value("SELECT count(*) FROM t")?, "1000");

    let failing = |script: Option<&str>| -> Result<String> {
        let mut command = scene.command(&["list", "--json"]);
        if let Some(script) = script {
            command.env("PGPROOF_REPOSITORY_MAIN_KEY_COMMAND", format!("/bin/sh -c '{script}'"));
        }
        command.env("PGPROOF_REPOSITORY_MAIN_KEY_COMMAND_TIMEOUT", "500ms");
        let ran = scene.ran(command)?;
        assert_eq!((ran.code, code(&ran)?), (3, "repository-key-command".into()), "{}", ran.stderr);
        Ok(ran.stderr)
    };
    assert!(failing(Some("echo sealed >&2; exit 1"))?.contains("exit status: 1: sealed"));
    assert!(failing(Some("sleep 60"))?.contains("did not end within 500 ms and was killed"));
    assert!(failing(Some("echo garbage"))?.contains("has 8 bytes, and a data key has 32"));
    assert!(failing(Some("head -c 32 /dev/zero"))?.contains("not the key that was wrapped"));
    fs::rename(&secret, secret.with_extension("right"))?;
    assert!(failing(None)?.contains("could not unwrap the data key: exit status: 1"));
    fs::write(&secret, "the passphrase of another service\n")?;
    scene.server.account().own(&secret)?;
    let wrong = failing(None)?;
    assert!(!wrong.contains("passphrase of"), "{wrong}");
    fs::rename(secret.with_extension("right"), &secret)?;

    // Both ways, and then the identity alone.
    let (identity, recipient) = generate(&scene, "offline.key")?;
    let identity = identity.display().to_string();
    scene.pgproof(&["key", "add", "--recipient", &recipient])?.succeeded()?;
    scene.pgproof(&["key", "add", "--command"])?.succeeded()?;
    assert_eq!(
        recipients(&scene)?,
        [
            recipient,
            program.display().to_string().replace(&scene.server.ground().display().to_string(), "[GROUND]")
        ]
    );
    let both = scene.pgproof(&["key", "check", "--key-file", &identity])?.succeeded()?;
    assert_eq!(both.stdout.matches(" opens directory").count(), 2, "{}", both.stdout);
    fs::remove_file(&secret)?;
    let one = scene.pgproof(&["key", "check", "--key-file", &identity])?;
    assert_eq!(one.code, 1, "{}{}", one.stdout, one.stderr);
    scene.pgproof(&["list", "--key-file", &identity])?.succeeded()?;
    scene.pgproof(&["key", "remove", "--command", "--key-file", &identity])?.succeeded()?;
    assert_eq!(recipients(&scene)?.len(), 1);
    Ok(())
}
