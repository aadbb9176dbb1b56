use super::*;
use crate::repository::CreateOptions;
use crate::seal::Suite;
use pgproof_store::{Memory, Store};
use std::sync::Arc;
use std::time::Duration;

const PLACE: &str = "memory";

fn unlock(pair: &key::KeyPair) -> Unlock {
    Unlock::identity(&**pair.identity)
}

/// A repository that these can open.
fn repository(pairs: &[&key::KeyPair]) -> Repository {
    let recipients = pairs.iter().map(|pair| pair.recipient.clone()).collect();
    let options = CreateOptions { suite: Suite::Aes256Gcm, recipients };
    Repository::create(Arc::new(Memory::new()) as Arc<dyn Store>, &options).unwrap()
}

fn add(repository: &Repository, recipient: &str) -> Result<()> {
    let present = Present::read(repository)?;
    let changed = present.description.with(repository.wrap_for(recipient)?);
    repository.replace_description(&present, &changed)
}

fn remove(repository: &Repository, leaving: &Leaving) -> Result<()> {
    let present = Present::read(repository)?;
    repository.replace_description(&present, &present.description.without(leaving, PLACE)?)
}

fn opens(repository: &Repository, unlock: &Unlock) -> Result<OpenedBy> {
    Repository::open(repository.store().clone(), unlock).map(|opened| opened.opened_by().clone())
}

/// XORs what it is given: as good as any cipher to show who was asked for what.
fn xor_command(directory: &std::path::Path, with: u8) -> KeyCommand {
    let script = directory.join(format!("key-{with}"));
    let text = format!(
        "#!/usr/bin/env python3\nimport sys\nsys.stdout.buffer.write(bytes(b ^ {with} for b in sys.stdin.buffer.read()))\n"
    );
    std::fs::write(&script, text).unwrap();
    let words = ["/usr/bin/env", "python3", script.to_str().unwrap()].map(str::to_owned).to_vec();
    KeyCommand::new(words, Duration::from_secs(30))
}

#[test]
fn recipients_come_and_go_without_the_data_key_changing() {
    let [host, offline, other] = [key::generate(), key::generate(), key::generate()];
    let repository = repository(&[&host, &offline]);
    let matched = OpenedBy::Recipient(offline.recipient.clone());
    assert_eq!(opens(&repository, &unlock(&offline)).unwrap(), matched);
    assert_eq!(opens(&repository, &unlock(&other)).unwrap_err().code(), "repository-wrong-key");

    add(&repository, &other.recipient).unwrap();
    remove(&repository, &Leaving::Recipient(host.recipient.clone())).unwrap();
    assert_eq!(opens(&repository, &unlock(&host)).unwrap_err().code(), "repository-wrong-key");
    let reopened = Repository::open(repository.store().clone(), &unlock(&other)).unwrap();
    assert_eq!(reopened.identity(b"x"), repository.identity(b"x"));
    let added: Vec<bool> = reopened.description().keys.iter().map(|key| key.added.is_some()).collect();
    assert_eq!(added, [true, true]);
}

#[test]
fn of_two_changes_at_once_one_is_told_and_changes_nothing() {
    let [host, one, two] = [key::generate(), key::generate(), key::generate()];
    let repository = repository(&[&host]);
    let [first, second] = [Present::read(&repository).unwrap(), Present::read(&repository).unwrap()];
    let changed = first.description.with(repository.wrap_for(&one.recipient).unwrap());
    repository.replace_description(&first, &changed).unwrap();
    let changed = second.description.with(repository.wrap_for(&two.recipient).unwrap());
    let error = repository.replace_description(&second, &changed).unwrap_err();
    assert_eq!(error.code(), "repository-keys-changed");
    opens(&repository, &unlock(&one)).unwrap();
    opens(&repository, &unlock(&two)).unwrap_err();
}

#[test]
fn the_last_one_stays_and_one_who_is_not_there_is_named() {
    let [host, other] = [key::generate(), key::generate()];
    let repository = repository(&[&host]);
    let leaving = |pair: &key::KeyPair| Leaving::Recipient(pair.recipient.clone());
    assert_eq!(remove(&repository, &leaving(&host)).unwrap_err().code(), "repository-last-key");
    let absent = remove(&repository, &leaving(&other)).unwrap_err();
    assert_eq!(absent.code(), "repository-recipient-absent");
    assert!(absent.to_string().contains(&other.recipient), "{absent}");
    assert_eq!(remove(&repository, &Leaving::Command).unwrap_err().code(), "repository-recipient-absent");
}

#[test]
fn a_wrapping_for_several_is_given_up_only_when_each_of_them_has_one_alone() {
    let [host, one, two] = [key::generate(), key::generate(), key::generate()];
    let repository = repository(&[&host]);
    let present = Present::read(&repository).unwrap();
    let parsed = [&one, &two].map(|pair| key::parse_recipient(&pair.recipient).unwrap());
    let wrapped = key::wrap(repository.sealed_data_key().unwrap(), &parsed).unwrap();
    let mut shared = WrappedKey::age(one.recipient.clone(), wrapped);
    shared.recipients.push(two.recipient.clone());
    repository.replace_description(&present, &present.description.with(shared)).unwrap();
    opens(&repository, &unlock(&two)).unwrap();

    let leaving = Leaving::Recipient(one.recipient.clone());
    let refused = remove(&repository, &leaving).unwrap_err();
    assert_eq!(refused.code(), "repository-shared-wrapping");
    assert!(refused.to_string().contains(&two.recipient), "{refused}");
    add(&repository, &two.recipient).unwrap();
    remove(&repository, &leaving).unwrap();
    opens(&repository, &unlock(&one)).unwrap_err();
    opens(&repository, &unlock(&two)).unwrap();
}

#[test]
fn a_key_command_opens_beside_an_identity_and_a_wrong_answer_is_told_from_damage() {
    let place = tempfile::tempdir().unwrap();
    let [right, wrong] = [xor_command(place.path(), 7), xor_command(place.path(), 9)];
    let host = key::generate();
    let repository = repository(&[&host]);
    let error = opens(&repository, &Unlock::Command(right.clone())).unwrap_err();
    assert_eq!(error.code(), "repository-wrong-key", "it was never asked to wrap");

    let present = Present::read(&repository).unwrap();
    let changed = present.description.with(repository.wrap_by(&right).unwrap());
    repository.replace_description(&present, &changed).unwrap();
    assert_eq!(opens(&repository, &Unlock::Command(right.clone())).unwrap(), OpenedBy::Command);
    let error = opens(&repository, &Unlock::Command(wrong.clone())).unwrap_err();
    assert_eq!(error.code(), "repository-key-command");
    assert!(error.to_string().ends_with("its answer is not the key that was wrapped"), "{error}");

    let lost = Unlock::IdentityFile("/nowhere/main.key".into());
    let both = |command| Unlock::AnyOf(vec![lost.clone(), Unlock::Command(command)]);
    assert_eq!(opens(&repository, &both(right)).unwrap(), OpenedBy::Command);
    let neither = opens(&repository, &both(wrong)).unwrap_err().to_string();
    assert!(
        neither.contains("/nowhere/main.key") && neither.contains("not the key that was wrapped"),
        "{neither}"
    );

    remove(&repository, &Leaving::Command).unwrap();
    opens(&repository, &unlock(&host)).unwrap();
}

#[test]
fn one_made_for_a_key_command_alone_opens_with_it() {
    let place = tempfile::tempdir().unwrap();
    let command = xor_command(place.path(), 3);
    let options = CreateOptions { suite: Suite::Aes256Gcm, recipients: Vec::new() };
    let store = Arc::new(Memory::new()) as Arc<dyn Store>;
    let made = Repository::create_with(store, &options, Some(&command)).unwrap();
    assert_eq!(opens(&made, &Unlock::Command(command)).unwrap(), OpenedBy::Command);
}

#[test]
fn what_a_newer_program_wrote_beside_a_wrapping_survives_a_change() {
    let [host, other] = [key::generate(), key::generate()];
    let repository = repository(&[&host]);
    let mut present = Present::read(&repository).unwrap();
    let key = present.description.keys[0].clone();
    let mut json = serde_json::to_value(&key).unwrap();
    json["note"] = "kept by the notary".into();
    present.description.keys[0] = serde_json::from_value(json).unwrap();
    repository.replace_description(&present, &present.description).unwrap();
    add(&repository, &other.recipient).unwrap();
    let stored = repository.store().get(&layout::description()).unwrap();
    assert!(String::from_utf8(stored).unwrap().contains("kept by the notary"));
}
