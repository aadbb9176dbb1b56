//! Creating and opening a repository: the store, and the keys to what is in it.
//!
//! [`Repository`] is cheap to clone and shared by all threads. It seals and names content; what objects mean is in the modules
//! beside this one.

use crate::description::{Description, FORMAT_VERSION, RepositoryId, WrappedKey};
use crate::key::Unlock;
use crate::key_command::KeyCommand;
use crate::layout;
use crate::recipients::{self, OpenedBy};
use crate::seal::{ContentId, IdentityHasher, Keys, ObjectKind, Salt, Sealer, Suite, random_bytes};
use crate::{Error, Result};
use pgproof_store::{ObjectPath, PutMode, Store, StoreError, Version};
use std::{fmt, sync::Arc};
use zeroize::Zeroizing;

/// How a new repository is sealed, and for whom.
#[derive(Debug, Clone)]
pub struct CreateOptions {
    /// How it is sealed.
    pub suite: Suite,
    /// Who can open it: age recipients (`age1...`); none with suite `none`.
    pub recipients: Vec<String>,
}

/// An open repository.
#[derive(Clone)]
pub struct Repository {
    inner: Arc<Inner>,
}

struct Inner {
    store: Arc<dyn Store>,
    description: Description,
    keys: Keys,
    opened_by: OpenedBy,
}

impl fmt::Debug for Repository {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Repository({}, {})", self.id(), self.store().describe())
    }
}

impl Repository {
    /// Makes an empty place a repository and opens it.
    ///
    /// # Errors
    /// [`Error::RepositoryExists`] when it is one already; nothing is changed then. [`Error::Recipients`] and
    /// [`Error::NotARecipient`] for options that do not fit.
    pub fn create(store: Arc<dyn Store>, options: &CreateOptions) -> Result<Self> {
        Self::create_with(store, options, None)
    }

    /// The same, with the data key wrapped by a key command too; then there need be no recipients.
    ///
    /// # Errors
    /// As [`Self::create`], and [`Error::KeyCommand`].
    pub fn create_with(
        store: Arc<dyn Store>,
        options: &CreateOptions,
        command: Option<&KeyCommand>,
    ) -> Result<Self> {
        let fits = (options.suite == Suite::None) == (options.recipients.is_empty() && command.is_none());
        if !fits {
            let suite = options.suite.name();
            return Err(Error::Recipients { suite, recipients: options.recipients.len() });
        }
        let id = RepositoryId::random();
        let data_key = match options.suite {
            Suite::Aes256Gcm => Zeroizing::new(random_bytes()),
            Suite::None => Keys::unsealed_data_key(&id.bytes()),
        };
        let created = store.now().map_err(Error::store("create the repository"))?;
        let mut keys = wrapped_keys(&data_key, &options.recipients, &*store)?;
        if let Some(command) = command {
            keys.push(recipients::by_command(&data_key, command, id)?);
        }
        for key in &mut keys {
            key.added = Some(created);
        }
        let description = Description { format: FORMAT_VERSION, id, created, suite: options.suite, keys };
        let json = description.encode()?;
        let opened_by = match (description.recipients().next(), options.recipients.is_empty()) {
            (None, _) => OpenedBy::Nothing,
            (Some(recipient), false) => OpenedBy::Recipient(recipient.to_owned()),
            (Some(_), true) => OpenedBy::Command,
        };
        match store.put(&layout::description(), &[&json], PutMode::IfAbsent) {
            Ok(_) => Ok(Self::assemble(store, description, data_key, opened_by)),
            Err(StoreError::AlreadyExists { .. }) => Err(Error::RepositoryExists { place: store.describe() }),
            Err(source) => Err(Error::Store { operation: "create the repository", source }),
        }
    }

    /// Opens the repository in this place.
    ///
    /// # Errors
    /// [`Error::NotARepository`] where there is none, [`Error::UnknownFormat`] and [`Error::UnknownSuite`] for one of the future,
    /// [`Error::KeyNeeded`], [`Error::WrongKey`], [`Error::KeyCommand`], [`Error::NoWayIn`] and [`Error::NotEncrypted`] when it and
    /// the key do not go together.
    pub fn open(store: Arc<dyn Store>, unlock: &Unlock) -> Result<Self> {
        let place = store.describe();
        let (description, _) = describe(&*store)?;
        let (data_key, opened_by) = match (description.suite, unlock) {
            (Suite::None, Unlock::Nothing) => {
                (Keys::unsealed_data_key(&description.id.bytes()), OpenedBy::Nothing)
            }
            (Suite::None, _) => return Err(Error::NotEncrypted { place }),
            (Suite::Aes256Gcm, unlock) => recipients::data_key(&description, unlock, &place)?,
        };
        Ok(Self::assemble(store, description, data_key, opened_by))
    }

    /// Looks whether the place still holds this repository: for processes that live long, because one that was made anew in the same place
    /// has other keys, and what is sealed with these nobody could open there.
    ///
    /// # Errors
    /// [`Error::Replaced`] when it holds another one, and as [`Self::open`].
    pub fn confirm(&self) -> Result<()> {
        let found = describe(&**self.store())?.0.id;
        match found == self.id() {
            true => Ok(()),
            false => Err(Error::Replaced { place: self.store().describe(), found, expected: self.id() }),
        }
    }

    fn assemble(
        store: Arc<dyn Store>,
        description: Description,
        data_key: Zeroizing<[u8; 32]>,
        opened_by: OpenedBy,
    ) -> Self {
        let keys = Keys::new(description.suite, description.id.bytes(), data_key);
        Self { inner: Arc::new(Inner { store, description, keys, opened_by }) }
    }

    /// By what it was opened.
    pub fn opened_by(&self) -> &OpenedBy {
        &self.inner.opened_by
    }

    /// The data key, to be wrapped for others.
    pub(crate) fn sealed_data_key(&self) -> Result<&Zeroizing<[u8; 32]>> {
        match self.suite() {
            Suite::Aes256Gcm => Ok(self.inner.keys.data_key()),
            Suite::None => Err(Error::NoKeys { place: self.store().describe() }),
        }
    }

    /// Where it lies.
    pub fn store(&self) -> &Arc<dyn Store> {
        &self.inner.store
    }

    /// Its random name.
    pub fn id(&self) -> RepositoryId {
        self.inner.description.id
    }

    /// How it is sealed.
    pub fn suite(&self) -> Suite {
        self.inner.keys.suite()
    }

    /// What is known of it without a key.
    pub fn description(&self) -> &Description {
        &self.inner.description
    }

    /// The identity of some content.
    pub fn identity(&self, content: &[u8]) -> ContentId {
        self.inner.keys.identity(content)
    }

    /// Computes the identity of content that comes in parts.
    pub fn identity_hasher(&self) -> IdentityHasher {
        self.inner.keys.identity_hasher()
    }

    /// What stands below the newest entry of a ledger, by whoever has the key.
    pub(crate) fn sign_ledger(&self, hash: &[u8; 32]) -> [u8; 32] {
        self.inner.keys.sign_ledger(hash)
    }

    /// What seals and opens the frames of one object.
    pub fn sealer(&self, kind: ObjectKind, salt: &Salt, path: &ObjectPath) -> Sealer {
        self.inner.keys.sealer(kind, salt, path.as_str())
    }
}

/// Reads what is known of the repository of a place without a key, and which version of it this is.
pub(crate) fn describe(store: &dyn Store) -> Result<(Description, Version)> {
    let place = store.describe();
    let (bytes, meta) = match store.get_with_meta(&layout::description()) {
        Ok(found) => found,
        Err(StoreError::NotFound { .. } | StoreError::NoRepository { .. }) => {
            return Err(Error::NotARepository { place });
        }
        Err(source) => return Err(Error::Store { operation: "open the repository", source }),
    };
    let description = Description::decode(&bytes, &format!("{} of {place}", layout::description()))?;
    Ok((description, meta.version))
}

/// A wrapping for each recipient, so that one can be removed without the others being asked for again.
fn wrapped_keys(data_key: &[u8; 32], recipients: &[String], store: &dyn Store) -> Result<Vec<WrappedKey>> {
    let mut keys: Vec<WrappedKey> = Vec::new();
    for recipient in recipients {
        let key = recipients::for_recipient(data_key, recipient, &store.describe())?;
        if !keys.iter().any(|known| known.recipients == key.recipients) {
            keys.push(key);
        }
    }
    Ok(keys)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key;
    use pgproof_store::Memory;

    fn memory() -> Arc<dyn Store> {
        Arc::new(Memory::new())
    }

    fn put(store: &Arc<dyn Store>, json: &str) {
        store.put(&layout::description(), &[json.as_bytes()], PutMode::Overwrite).unwrap();
    }

    #[test]
    fn an_encrypted_repository_opens_with_its_key_only() {
        let store = memory();
        let pair = key::generate();
        let options = CreateOptions { suite: Suite::Aes256Gcm, recipients: vec![pair.recipient.clone()] };
        let created = Repository::create(store.clone(), &options).unwrap();
        let opened = Repository::open(store.clone(), &Unlock::identity(&*pair.identity)).unwrap();
        assert_eq!(opened.id(), created.id());
        assert_eq!(opened.identity(b"x"), created.identity(b"x"));

        let other = Unlock::identity(&*key::generate().identity);
        let error = Repository::open(store.clone(), &other).unwrap_err();
        assert_eq!(error.code(), "repository-wrong-key");
        assert!(error.to_string().contains(&pair.recipient));
        let error = Repository::open(store.clone(), &Unlock::Nothing).unwrap_err();
        assert_eq!(error.code(), "repository-key-needed");
        let error = Repository::create(store, &options).unwrap_err();
        assert_eq!(error.code(), "repository-exists");
    }

    #[test]
    fn one_made_anew_in_the_same_place_is_told_from_the_one_that_was_opened() {
        let store = memory();
        let options = CreateOptions { suite: Suite::None, recipients: Vec::new() };
        let opened = Repository::create(store.clone(), &options).unwrap();
        opened.confirm().unwrap();
        let other = memory();
        Repository::create(other.clone(), &options).unwrap();
        let description = other.get(&layout::description()).unwrap();
        put(&store, std::str::from_utf8(&description).unwrap());
        assert_eq!(opened.confirm().unwrap_err().code(), "repository-replaced");
    }

    #[test]
    fn turning_encryption_off_in_the_store_is_noticed() {
        let store = memory();
        let options = CreateOptions { suite: Suite::None, recipients: Vec::new() };
        Repository::create(store.clone(), &options).unwrap();
        Repository::open(store.clone(), &Unlock::Nothing).unwrap();
        let error = Repository::open(store, &Unlock::identity(&*key::generate().identity)).unwrap_err();
        assert_eq!(error.code(), "repository-not-encrypted");
    }

    #[test]
    fn what_is_no_repository_of_this_program_is_refused_by_name() {
        let store = memory();
        let open = || Repository::open(store.clone(), &Unlock::Nothing).unwrap_err();
        assert_eq!(open().code(), "repository-absent");
        put(&store, r#"{"format": 2, "suite": "aes-256-gcm"}"#);
        assert_eq!(open().code(), "repository-unknown-format");
        assert!(open().to_string().contains("format version 2"));
        put(&store, r#"{"format": 1, "suite": "rot13"}"#);
        assert_eq!(open().code(), "repository-unknown-suite");
        for hostile in ["", "[]", "{}", r#"{"format": 1}"#, r#"{"format": 1, "suite": "none"}"#] {
            put(&store, hostile);
            assert_eq!(open().code(), "repository-damaged", "{hostile}");
        }
    }

    #[test]
    fn recipients_and_suite_must_go_together() {
        let create = |suite, recipients| {
            Repository::create(memory(), &CreateOptions { suite, recipients }).unwrap_err().code()
        };
        assert_eq!(create(Suite::Aes256Gcm, vec![]), "repository-recipients");
        assert_eq!(create(Suite::None, vec![key::generate().recipient]), "repository-recipients");
        assert_eq!(create(Suite::Aes256Gcm, vec!["age1nonsense".into()]), "repository-not-a-recipient");
    }
}
