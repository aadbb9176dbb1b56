//! `pgproof key rotate`: another key for this host.
//!
//! At every moment the configured key file opens the repository: the new identity is on the disk before it is added, is proved to open the
//! repository before it takes the old one's place, and only then the old recipient is removed. A run that was killed is carried on by the
//! next one. Started as root, files are written by root, since `/etc/pgproof` is its, while the repository is used as its owner.

use super::NOT_TAKEN;
use crate::account;
use crate::args::high::Context;
use crate::args::key::KeyRotateArgs;
use crate::config::Config;
use crate::config::RepositoryConfig;
use crate::config::definitions::Section;
use crate::exit::Exit;
use crate::fault::Refused;
use crate::key_file;
use crate::printer::{Page, Report};
use crate::repository;
use anyhow::{Context as _, ensure};
use jiff::Timestamp;
use pgproof_repo::{Error, Leaving, Present, Repository, Unlock};
use pgproof_server::Owner;
use pgproof_server::privilege::act_as;
use serde::Serialize;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What is there.
#[derive(Debug)]
struct RotateFacts {
    key_file: PathBuf,
    key_file_exists: bool,
    /// The recipient of the key in it, if that can open the repository.
    recipient: Option<String>,
    /// A key that an interrupted rotation has made.
    made: Option<String>,
    at: Timestamp,
}

/// What will be done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct RotatePlan {
    /// Which will hold the new key.
    key_file: PathBuf,
    /// Where the new key waits until it has been proved.
    new_file: PathBuf,
    /// The key that is there already, from a rotation that was interrupted.
    carries_on: Option<String>,
    /// Where the old key file will be; none when there is none.
    kept: Option<PathBuf>,
    /// Who will be removed.
    removes: Option<String>,
}

#[derive(Debug, Serialize)]
struct RotateReport {
    dry_run: bool,
    repository: String,
    plan: RotatePlan,
    /// The new recipient.
    recipient: Option<String>,
}

pub(super) fn rotate(args: &KeyRotateArgs, context: &Context) -> anyhow::Result<Exit> {
    let config = context.config()?;
    let settings = config.one_repository()?;
    let key_file = configured_key_file(&config, &settings)?;
    // As the account that was started: a key that was fetched for this may be closed to all others.
    let unlock = match &args.open_with {
        Some(file) => key_file::read(&context.absolute(file))?,
        None => repository::unlock(&settings),
    };
    let owner = account::configured_owner(&config);
    let has_other_way = args.open_with.is_some() || settings.key_command.is_some();
    let made = waiting(&new_file(&key_file))?;
    let facts = act_as(owner, || observe(&settings, &key_file, &unlock, has_other_way))??;
    let facts = RotateFacts { made, ..facts };
    let plan = plan(&facts);
    let mut report = RotateReport {
        dry_run: args.dry_run,
        repository: settings.store.describe(),
        plan,
        recipient: facts.made,
    };
    if !args.dry_run {
        report.recipient = Some(act(&report.plan, &settings, &unlock, owner)?);
    }
    context.printer.report("key rotate", &report)?;
    Ok(Exit::Done)
}

/// The file that will hold the key, links resolved: a link is to go on leading to it.
fn configured_key_file(config: &Config, settings: &RepositoryConfig) -> anyhow::Result<PathBuf> {
    let Some(file) = &settings.key_file else {
        let hint = match settings.key_command {
            Some(_) => "`pgproof key add --command` lets the key command wrap the key again",
            None => "set `key_file` in the [repository] table of pgproof.toml: there the new key will be",
        };
        return Err(Refused::new("key-file-unset", "no key file is configured for this host", hint).into());
    };
    let mut sharing = Vec::new();
    for name in &config.settings.repositories {
        let theirs: Option<PathBuf> = config.settings.get(Section::Repository, Some(name), "key_file")?;
        sharing.extend(theirs.filter(|theirs| theirs == file).map(|_| name.clone()));
    }
    if sharing.len() > 1 {
        let message =
            format!("{} is the key of several repositories: {}", file.display(), sharing.join(", "));
        let hint = "give each a key file of its own first: `pgproof key generate FILE`, `pgproof key add`, then `key_file` in pgproof.toml";
        return Err(Refused::new("key-file-shared", message, hint).into());
    }
    Ok(file.canonicalize().unwrap_or_else(|_| file.clone()))
}

fn observe(
    settings: &RepositoryConfig,
    key_file: &Path,
    unlock: &Unlock,
    has_other_way: bool,
) -> anyhow::Result<RotateFacts> {
    let own = match Unlock::IdentityFile(key_file.to_owned()).recipients() {
        Ok(recipients) => recipients,
        Err(_) if has_other_way => Vec::new(),
        Err(Error::KeyFile { path, source }) if source.kind() == std::io::ErrorKind::NotFound => {
            let hint = "another identity that opens the repository makes a new one: `pgproof key rotate --open-with FILE`; `pgproof key \
                        list` shows whose there are";
            return Err(Refused::new("key-lost", format!("there is no key file {path}"), hint).into());
        }
        Err(error) => return Err(error.into()),
    };
    if own.len() > 1 {
        let message = format!("{} holds {} identities", key_file.display(), own.len());
        let hint =
            "rotate replaces a file of one: use `pgproof key generate`, `key add` and `key remove` instead";
        return Err(Refused::new("key-file-several", message, hint).into());
    }
    let repository = open(settings, unlock)?;
    let known: Vec<String> = repository.description().recipients().map(str::to_owned).collect();
    Ok(RotateFacts {
        key_file: key_file.to_owned(),
        key_file_exists: key_file.exists(),
        recipient: own.into_iter().find(|recipient| known.contains(recipient)),
        made: None,
        at: Timestamp::now(),
    })
}

/// The recipient of the key that an interrupted rotation has left, if it got so far as to write all of it.
fn waiting(new_file: &Path) -> anyhow::Result<Option<String>> {
    if !new_file.try_exists().with_context(|| format!("could not look for {}", new_file.display()))? {
        return Ok(None);
    }
    let recipients = key_file::read(new_file)?.recipients();
    Ok(recipients.ok().and_then(|recipients| recipients.into_iter().next()))
}

fn with_ending(file: &Path, ending: &str) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(ending);
    name.into()
}

fn new_file(key_file: &Path) -> PathBuf {
    with_ending(key_file, ".new")
}

fn plan(facts: &RotateFacts) -> RotatePlan {
    let ending = format!(".old-{}", facts.at.strftime("%Y%m%dT%H%M%S%.3fZ"));
    RotatePlan {
        key_file: facts.key_file.clone(),
        new_file: new_file(&facts.key_file),
        carries_on: facts.made.clone(),
        kept: facts.key_file_exists.then(|| with_ending(&facts.key_file, &ending)),
        removes: facts.recipient.clone(),
    }
}

/// Carries it out and gives the new recipient.
fn act(
    plan: &RotatePlan,
    settings: &RepositoryConfig,
    unlock: &Unlock,
    owner: Owner,
) -> anyhow::Result<String> {
    let recipient = make_key(plan, owner)?;
    act_as(owner, || add_and_prove(plan, settings, unlock, &recipient))??;
    put_in_place(plan)?;
    let Some(old) = &plan.removes else { return Ok(recipient) };
    let removed = act_as(owner, || remove(plan, settings, old))?;
    removed.with_context(|| {
        format!("the new key is in place and opens the repository, but {old} was not removed: `pgproof key remove` does it")
    })?;
    Ok(recipient)
}

/// Writes the new key beside the old one, for the same eyes.
fn make_key(plan: &RotatePlan, owner: Owner) -> anyhow::Result<String> {
    let (owner, mode) = match fs::metadata(&plan.key_file) {
        Ok(old) => (Owner { uid: old.uid(), gid: old.gid() }, old.mode() & 0o777),
        Err(_) => (owner, key_file::MODE),
    };
    let fail = || format!("could not write {}", plan.new_file.display());
    if let Some(recipient) = &plan.carries_on {
        account::give(&plan.new_file, owner).with_context(fail)?;
        return Ok(recipient.clone());
    }
    // What lies there holds no identity, or it would be carried on with: it was cut off before it was added.
    match fs::remove_file(&plan.new_file) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error).with_context(fail),
        _ => {}
    }
    let pair = pgproof_repo::key::generate();
    key_file::write_new(&plan.new_file, &key_file::key_text(&pair), mode, owner)?;
    Ok(pair.recipient)
}

fn open(settings: &RepositoryConfig, unlock: &Unlock) -> anyhow::Result<Repository> {
    Ok(Repository::open(Arc::from(settings.store.open()?), unlock)?)
}

fn add_and_prove(
    plan: &RotatePlan,
    settings: &RepositoryConfig,
    unlock: &Unlock,
    recipient: &str,
) -> anyhow::Result<()> {
    let repository = open(settings, unlock)?;
    let present = Present::read(&repository)?;
    if !present.description.has_own(recipient) {
        let changed = present.description.with(repository.wrap_for(recipient)?);
        repository.replace_description(&present, &changed)?;
    }
    // From the file and the store, by the account that will do so from now on.
    let proof = open(settings, &Unlock::IdentityFile(plan.new_file.clone())).with_context(|| {
        format!("the new key in {} was added, but cannot be used", plan.new_file.display())
    })?;
    ensure!(proof.identity(b"") == repository.identity(b""), "the new key opens something else");
    Ok(())
}

/// The new file takes the name of the old one, which has a second name by then.
fn put_in_place(plan: &RotatePlan) -> anyhow::Result<()> {
    let fail =
        || format!("could not put {} in the place of {}", plan.new_file.display(), plan.key_file.display());
    if let Some(kept) = &plan.kept {
        fs::hard_link(&plan.key_file, kept)
            .with_context(|| format!("could not keep the old key as {}", kept.display()))?;
    }
    fs::rename(&plan.new_file, &plan.key_file).with_context(fail)?;
    key_file::sync_parent(&plan.key_file).with_context(fail)
}

fn remove(plan: &RotatePlan, settings: &RepositoryConfig, old: &str) -> anyhow::Result<()> {
    let repository = open(settings, &Unlock::IdentityFile(plan.key_file.clone()))?;
    let present = Present::read(&repository)?;
    let leaving = Leaving::Recipient(old.to_owned());
    let changed = present.description.without(&leaving, &repository.store().describe())?;
    Ok(repository.replace_description(&present, &changed)?)
}

impl Report for RotateReport {
    fn render(&self, page: &mut Page) {
        let RotatePlan { key_file, new_file, carries_on, kept, removes } = &self.plan;
        let did = |done: String, planned: String| if self.dry_run { planned } else { done };
        let (key_file, new_file) = (key_file.display(), new_file.display());
        let recipient = self.recipient.as_deref().unwrap_or("its recipient");
        if carries_on.is_some() {
            page.line(format!("a rotation that was interrupted is carried on, with its key {recipient}"));
        } else {
            page.line(did(
                format!("made the key {recipient}"),
                format!("would make a new key, in {new_file} at first"),
            ));
        }
        page.line(did(
            format!("added it to {}, and saw it open the repository", self.repository),
            format!("would add it to {}, and see whether it opens the repository", self.repository),
        ));
        page.line(did(format!("put it into {key_file}"), format!("would put it into {key_file}")));
        if let Some(kept) = kept {
            let kept = kept.display();
            page.line(did(
                format!("kept the old key in {kept}"),
                format!("would keep the old key in {kept}"),
            ));
        }
        if let Some(old) = removes {
            page.line(did(format!("removed {old}"), format!("would remove {old}")));
        }
        page.gap();
        if self.dry_run {
            page.line("nothing was changed (--dry-run)");
        } else {
            page.line(format!("KEEP A COPY OF {key_file} SOMEWHERE ELSE: copies of the old key no longer open the repository."));
        }
        match removes {
            Some(_) => page.line(NOT_TAKEN),
            None => page.line(
                "Nobody was removed: `pgproof key remove --recipient` takes a key that was lost off the list.",
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts() -> RotateFacts {
        RotateFacts {
            key_file: "/etc/pgproof/main.key".into(),
            key_file_exists: true,
            recipient: Some("age1old".to_owned()),
            made: None,
            at: Timestamp::UNIX_EPOCH,
        }
    }

    #[test]
    fn the_old_key_is_kept_beside_and_its_recipient_removed() {
        let plan = plan(&facts());
        assert_eq!(plan.kept, Some("/etc/pgproof/main.key.old-19700101T000000.000Z".into()));
        assert_eq!(plan.removes.as_deref(), Some("age1old"));
        assert_eq!(plan.new_file, PathBuf::from("/etc/pgproof/main.key.new"));
    }

    #[test]
    fn of_a_lost_key_nothing_is_kept_and_nobody_removed() {
        let plan = plan(&RotateFacts { key_file_exists: false, recipient: None, ..facts() });
        assert_eq!((plan.kept, plan.removes), (None, None));
    }

    #[test]
    fn an_interrupted_rotation_is_carried_on_with_its_key() {
        let plan = plan(&RotateFacts { made: Some("age1new".to_owned()), ..facts() });
        assert_eq!(plan.carries_on.as_deref(), Some("age1new"));
    }
}
