//! Who can open a repository: how the data key is unwrapped, and how it is wrapped for others later.
//!
//! The description (section 2 of the format) is the only object that changes then, by a conditional write on the version that was read: of two
//! that change it at once, one is told and changes nothing, and at no moment is the repository without a description. The data is
//! not written again, so whoever has had the data key in his hands can read what is stored from then on too: removing a
//! recipient closes the door to those who had not come in before.
//!
//! Nothing is ever wrapped for a recipient that the description names, only for those that a person named: whoever can write to
//! the store could otherwise write himself into the list and wait.

use crate::description::{AGE_KIND, COMMAND_KIND, Description, RepositoryId, WrappedKey};
use crate::key::{self, Unlock, UnwrapError};
use crate::key_command::{KeyCommand, Verb};
use crate::repository::{Repository, describe};
use crate::seal::{ContentId, key_check};
use crate::{Error, Result, layout};
use age::x25519::Identity;
use pgproof_store::{PutMode, Store, StoreError, Version};
use zeroize::Zeroizing;

pub(crate) type DataKey = Zeroizing<[u8; 32]>;

/// By what a repository was opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OpenedBy {
    /// It is not encrypted.
    Nothing,
    /// By the identity of this age recipient.
    Recipient(String),
    /// By the key command.
    Command,
}

/// The description as it lies in the store, with the version to replace.
#[derive(Debug, Clone)]
pub struct Present {
    /// What it says.
    pub description: Description,
    version: Version,
}

impl Present {
    /// Reads it anew.
    ///
    /// # Errors
    /// As [`Repository::open`]; [`Error::Replaced`] when it is another repository by now.
    pub fn read(repository: &Repository) -> Result<Self> {
        let (description, version) = describe(&**repository.store())?;
        match description.id == repository.id() {
            true => Ok(Self { description, version }),
            false => Err(Error::Replaced {
                place: repository.store().describe(),
                found: description.id,
                expected: repository.id(),
            }),
        }
    }
}

/// Somebody who is to lose a wrapping.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Leaving {
    /// An age recipient.
    Recipient(String),
    /// The key command.
    Command,
}

impl Description {
    /// The same, with one more wrapping; a key command's takes the place of the one before.
    #[must_use]
    pub fn with(&self, key: WrappedKey) -> Self {
        let mut changed = self.clone();
        if key.kind == COMMAND_KIND {
            changed.keys.retain(|known| known.kind != COMMAND_KIND);
        }
        changed.keys.push(key);
        changed
    }

    /// Whether this recipient has a wrapping of its own, shared with nobody.
    pub fn has_own(&self, recipient: &str) -> bool {
        self.keys.iter().any(|key| key.recipients == [recipient] && key.kind != COMMAND_KIND)
    }

    /// The same, without anything that this one can open; `place` is for messages.
    ///
    /// # Errors
    /// [`Error::NoSuchRecipient`]; [`Error::LastKey`] when nobody would be left; [`Error::SharedWrapping`] when others, who have no wrapping
    /// of their own, would be shut out with it.
    pub fn without(&self, leaving: &Leaving, place: &str) -> Result<Self> {
        let is_theirs = |key: &WrappedKey| match leaving {
            Leaving::Recipient(recipient) => key.kind != COMMAND_KIND && key.recipients.contains(recipient),
            Leaving::Command => key.kind == COMMAND_KIND,
        };
        let mut changed = self.clone();
        let (gone, kept): (Vec<_>, Vec<_>) = changed.keys.into_iter().partition(is_theirs);
        changed.keys = kept;
        let named = || match leaving {
            Leaving::Recipient(recipient) => recipient.clone(),
            Leaving::Command => "the key command".to_owned(),
        };
        if gone.is_empty() {
            let recipients = self.recipients().map(str::to_owned).collect();
            return Err(Error::NoSuchRecipient { place: place.to_owned(), recipient: named(), recipients });
        }
        if changed.keys.is_empty() {
            return Err(Error::LastKey { place: place.to_owned(), recipient: named() });
        }
        let left: Vec<&str> = changed.recipients().collect();
        let shut_out = |other: &&String| **other != named() && !left.contains(&other.as_str());
        let others: Vec<String> = match leaving {
            Leaving::Recipient(_) => {
                gone.iter().flat_map(|key| &key.recipients).filter(shut_out).cloned().collect()
            }
            Leaving::Command => Vec::new(),
        };
        if !others.is_empty() {
            return Err(Error::SharedWrapping { recipient: named(), others });
        }
        Ok(changed)
    }
}

impl Repository {
    /// What is known of the repository in this place without any key: who could open it.
    ///
    /// # Errors
    /// As [`Self::open`], but for those about keys.
    pub fn describe(store: &dyn Store) -> Result<Description> {
        describe(store).map(|(description, _)| description)
    }

    /// Wraps the data key for an age recipient alone.
    ///
    /// # Errors
    /// [`Error::NotARecipient`], [`Error::NotEncrypted`].
    pub fn wrap_for(&self, recipient: &str) -> Result<WrappedKey> {
        let now = self.store().now().map_err(Error::store("wrap the data key"))?;
        let mut wrapped = for_recipient(self.sealed_data_key()?, recipient, &self.store().describe())?;
        wrapped.added = Some(now);
        Ok(wrapped)
    }

    /// Lets the key command wrap the data key, and unwrap it again to see that it can.
    ///
    /// # Errors
    /// [`Error::KeyCommand`], [`Error::NotEncrypted`].
    pub fn wrap_by(&self, command: &KeyCommand) -> Result<WrappedKey> {
        let now = self.store().now().map_err(Error::store("wrap the data key"))?;
        let mut wrapped = by_command(self.sealed_data_key()?, command, self.id())?;
        wrapped.added = Some(now);
        Ok(wrapped)
    }

    /// Opens this description, which may not be stored yet, and looks whether the data key is the one that this repository uses.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn try_unlock(&self, description: &Description, unlock: &Unlock) -> Result<OpenedBy> {
        let place = self.store().describe();
        let (data_key, opened_by) = data_key(description, unlock, &place)?;
        match *data_key == **self.sealed_data_key()? {
            true => Ok(opened_by),
            false => {
                let object = format!("{} of {place}", layout::description());
                Err(Error::Damaged { object, what: "a wrapped key is not the repository's".to_owned() })
            }
        }
    }

    /// Puts another description in the place of the one that was read, if it is still there.
    ///
    /// # Errors
    /// [`Error::KeysChanged`] when somebody else changed it meanwhile, [`Error::Refused`] where the store cannot tell; nothing was changed then.
    /// [`Error::Store`] otherwise.
    pub fn replace_description(&self, present: &Present, changed: &Description) -> Result<()> {
        // A store that ignores conditions would take the write, and with it a recipient that somebody else is adding now.
        let probed = self.store().probe().map_err(Error::store("see what the store can do"))?;
        if !probed.if_match {
            let reason = match probed.refusal {
                Some(refusal) => refusal,
                None => format!(
                    "{} does not keep conditional writes, so two changes at once could undo one another",
                    self.store().describe()
                ),
            };
            return Err(Error::Refused { operation: "change who can open the repository", reason });
        }
        let json = changed.encode()?;
        match self.store().put(&layout::description(), &[&json], PutMode::IfMatch(present.version.clone())) {
            Ok(_) => Ok(()),
            Err(StoreError::VersionMismatch { .. }) => {
                Err(Error::KeysChanged { place: self.store().describe() })
            }
            Err(source) => Err(Error::Store { operation: "change who can open the repository", source }),
        }
    }
}

/// Wraps the data key for one recipient.
pub(crate) fn for_recipient(data_key: &[u8; 32], recipient: &str, place: &str) -> Result<WrappedKey> {
    let recipient = key::parse_recipient(recipient)?;
    let wrapped = key::wrap(data_key, std::slice::from_ref(&recipient))
        .map_err(|source| Error::Wrap { place: place.to_owned(), source })?;
    Ok(WrappedKey::age(recipient.to_string(), wrapped))
}

/// Lets the command wrap the data key, and tries whether it unwraps it again: the next one to ask would be a restore.
pub(crate) fn by_command(data_key: &[u8; 32], command: &KeyCommand, id: RepositoryId) -> Result<WrappedKey> {
    let wrapped = command.run(Verb::Wrap, data_key, id)?;
    let check = key_check(data_key, &id.bytes());
    unwrap_by_command(&wrapped, Some(check), command, id)?;
    Ok(WrappedKey::command(command.program(), &wrapped, check))
}

fn unwrap_by_command(
    wrapped: &[u8],
    check: Option<ContentId>,
    command: &KeyCommand,
    id: RepositoryId,
) -> Result<DataKey> {
    let fail = |why: String| Error::KeyCommand { program: command.program().to_owned(), verb: "unwrap", why };
    let answer = command.run(Verb::Unwrap, wrapped, id)?;
    let data_key: &[u8; 32] = answer
        .as_slice()
        .try_into()
        .map_err(|_| fail(format!("its answer has {} bytes, and a data key has 32", answer.len())))?;
    if check != Some(key_check(data_key, &id.bytes())) {
        return Err(fail("its answer is not the key that was wrapped".to_owned()));
    }
    Ok(Zeroizing::new(*data_key))
}

/// The data key, by the first way of `unlock` that leads to it.
pub(crate) fn data_key(
    description: &Description,
    unlock: &Unlock,
    place: &str,
) -> Result<(DataKey, OpenedBy)> {
    match unlock {
        Unlock::Nothing => Err(Error::KeyNeeded { place: place.to_owned() }),
        Unlock::IdentityFile(_) | Unlock::Identity(_) => {
            with_identities(description, &unlock.identities()?, place)
        }
        Unlock::Command(command) => with_command(description, command, place),
        Unlock::AnyOf(ways) => {
            let mut failed = Vec::new();
            for way in ways {
                match data_key(description, way, place) {
                    Ok(opened) => return Ok(opened),
                    Err(error) => failed.push(error),
                }
            }
            match failed.len() {
                0 => Err(Error::KeyNeeded { place: place.to_owned() }),
                1 => Err(failed.remove(0)),
                _ => Err(Error::NoWayIn { place: place.to_owned(), ways: failed }),
            }
        }
    }
}

/// From the first wrapping that one of the identities opens.
fn with_identities(
    description: &Description,
    identities: &[Identity],
    place: &str,
) -> Result<(DataKey, OpenedBy)> {
    let mut malformed = false;
    for wrapped in description.keys.iter().filter(|key| key.kind == AGE_KIND) {
        for identity in identities {
            match key::unwrap(&wrapped.wrapped, std::slice::from_ref(identity)) {
                Ok(data_key) => return Ok((data_key, OpenedBy::Recipient(identity.to_public().to_string()))),
                Err(UnwrapError::WrongKey) => {}
                Err(UnwrapError::Malformed) => malformed = true,
            }
        }
    }
    if malformed {
        let object = format!("{} of {place}", layout::description());
        return Err(Error::Damaged { object, what: "a wrapped key is no armoured age file".to_owned() });
    }
    Err(wrong_key(description, place))
}

fn with_command(description: &Description, command: &KeyCommand, place: &str) -> Result<(DataKey, OpenedBy)> {
    let Some(wrapped) = description.keys.iter().find(|key| key.kind == COMMAND_KIND) else {
        return Err(wrong_key(description, place));
    };
    let bytes = wrapped.bytes().ok_or_else(|| {
        let object = format!("{} of {place}", layout::description());
        Error::Damaged { object, what: "a key command's wrapped key is not hexadecimal".to_owned() }
    })?;
    let data_key = unwrap_by_command(&bytes, wrapped.check, command, description.id)?;
    Ok((data_key, OpenedBy::Command))
}

fn wrong_key(description: &Description, place: &str) -> Error {
    let recipients = description.recipients().map(str::to_owned).collect();
    Error::WrongKey { place: place.to_owned(), recipients }
}

#[cfg(test)]
mod tests;
