//! Who can open a repository: age identities and recipients, and the data key wrapped for them.
//!
//! The wrapped key is an ordinary armoured age file, so that it can be opened with the `age` tool alone when nothing else is left.
//! Only X25519 keys (`age1...`) are taken. Secrets are wiped from memory when dropped and appear in no error.

use crate::key_command::KeyCommand;
use crate::{Error, Result};
use age::armor::{ArmoredReader, ArmoredWriter, Format};
use age::secrecy::ExposeSecret;
use age::x25519::{Identity, Recipient};
use std::io::{Read, Write};
use std::path::PathBuf;
use std::{fmt, fs};
use zeroize::Zeroizing;

/// A freshly made key: keep the identity, give the recipient away.
pub struct KeyPair {
    /// The secret half: `AGE-SECRET-KEY-1...`.
    pub identity: Zeroizing<String>,
    /// The public half: `age1...`.
    pub recipient: String,
}

impl fmt::Debug for KeyPair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyPair({})", self.recipient)
    }
}

/// Makes a key pair, as `age-keygen` does.
pub fn generate() -> KeyPair {
    let identity = Identity::generate();
    KeyPair {
        identity: Zeroizing::new(identity.to_string().expose_secret().to_owned()),
        recipient: identity.to_public().to_string(),
    }
}

/// What opens a repository.
#[derive(Clone, Default)]
pub enum Unlock {
    /// Nothing: only a repository without encryption can be opened.
    #[default]
    Nothing,
    /// A file of age identities, as `age-keygen` writes it: one on a line, `#` begins a comment.
    IdentityFile(PathBuf),
    /// The text of such a file.
    Identity(Zeroizing<String>),
    /// A program that unwraps the data key.
    Command(KeyCommand),
    /// Any of these; they are tried in this order.
    AnyOf(Vec<Unlock>),
}

impl fmt::Debug for Unlock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nothing => f.write_str("Nothing"),
            Self::IdentityFile(path) => f.debug_tuple("IdentityFile").field(path).finish(),
            Self::Identity(_) => f.write_str("Identity(..)"),
            Self::Command(command) => f.debug_tuple("Command").field(command).finish(),
            Self::AnyOf(ways) => f.debug_tuple("AnyOf").field(ways).finish(),
        }
    }
}

impl Unlock {
    /// Opens with the text of an identity file.
    pub fn identity(text: impl Into<String>) -> Self {
        Self::Identity(Zeroizing::new(text.into()))
    }

    /// The recipients whose identities this holds, in the order of the file.
    ///
    /// # Errors
    /// [`Error::KeyFile`], [`Error::NotAnIdentity`].
    pub fn recipients(&self) -> Result<Vec<String>> {
        Ok(self.identities()?.iter().map(|identity| identity.to_public().to_string()).collect())
    }

    /// The identities that this is; a program has none.
    pub(crate) fn identities(&self) -> Result<Vec<Identity>> {
        match self {
            Self::Nothing | Self::Command(_) => Ok(Vec::new()),
            Self::AnyOf(ways) => {
                let found: Vec<_> = ways.iter().map(Self::identities).collect::<Result<_>>()?;
                Ok(found.into_iter().flatten().collect())
            }
            Self::Identity(text) => parse_identities(text, "the key given"),
            Self::IdentityFile(path) => {
                let origin = path.display().to_string();
                let text = fs::read_to_string(path)
                    .map_err(|source| Error::KeyFile { path: origin.clone(), source })?;
                parse_identities(&Zeroizing::new(text), &origin)
            }
        }
    }
}

fn parse_identities(text: &str, origin: &str) -> Result<Vec<Identity>> {
    let fail = |reason| Error::NotAnIdentity { origin: origin.to_owned(), reason };
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    let identities: Vec<Identity> = lines.map(|line| line.parse().map_err(fail)).collect::<Result<_>>()?;
    if identities.is_empty() { Err(fail("it is empty")) } else { Ok(identities) }
}

/// Reads a recipient.
///
/// # Errors
/// [`Error::NotARecipient`] names the text.
pub fn parse_recipient(text: &str) -> Result<Recipient> {
    text.trim().parse().map_err(|reason| Error::NotARecipient { text: text.to_owned(), reason })
}

/// Why wrapping failed, as the age library says it.
type WrapError = Box<dyn std::error::Error + Send + Sync>;

/// Wraps the data key so that any one of the recipients can open it.
pub(crate) fn wrap(data_key: &[u8; 32], recipients: &[Recipient]) -> Result<String, WrapError> {
    let recipients = recipients.iter().map(|recipient| recipient as &dyn age::Recipient);
    let armor = ArmoredWriter::wrap_output(Vec::new(), Format::AsciiArmor)?;
    let mut writer = age::Encryptor::with_recipients(recipients)?.wrap_output(armor)?;
    writer.write_all(data_key)?;
    Ok(String::from_utf8(writer.finish()?.finish()?)?)
}

/// Why a wrapped key was not opened.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum UnwrapError {
    /// It is encrypted to somebody else.
    WrongKey,
    /// It is no armoured age file of a 32-byte key.
    Malformed,
}

/// Opens a wrapped data key with any one of the identities.
pub(crate) fn unwrap(wrapped: &str, identities: &[Identity]) -> Result<Zeroizing<[u8; 32]>, UnwrapError> {
    use age::DecryptError::{KeyDecryptionFailed, NoMatchingKeys};
    let armor = ArmoredReader::new(wrapped.as_bytes());
    let decryptor = age::Decryptor::new(armor).map_err(|_| UnwrapError::Malformed)?;
    let identities = identities.iter().map(|identity| identity as &dyn age::Identity);
    let mut reader = decryptor.decrypt(identities).map_err(|error| match error {
        NoMatchingKeys | KeyDecryptionFailed => UnwrapError::WrongKey,
        _ => UnwrapError::Malformed,
    })?;
    let mut key = Zeroizing::new([0; 32]);
    reader.read_exact(key.as_mut()).map_err(|_| UnwrapError::Malformed)?;
    match reader.read(&mut [0]) {
        Ok(0) => Ok(key),
        _ => Err(UnwrapError::Malformed),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn recipient(pair: &KeyPair) -> Recipient {
        parse_recipient(&pair.recipient).unwrap()
    }

    #[test]
    fn any_recipient_opens_the_key_and_nobody_else_does() {
        let [one, two, other] = [generate(), generate(), generate()];
        let wrapped = wrap(&[5; 32], &[recipient(&one), recipient(&two)]).unwrap();
        for pair in [&one, &two] {
            let identities = Unlock::identity(&**pair.identity).identities().unwrap();
            assert_eq!(*unwrap(&wrapped, &identities).unwrap(), [5; 32]);
        }
        let identities = Unlock::identity(&*other.identity).identities().unwrap();
        assert_eq!(unwrap(&wrapped, &identities), Err(UnwrapError::WrongKey));
        assert_eq!(unwrap("nonsense", &identities), Err(UnwrapError::Malformed));
    }

    #[test]
    fn identity_files_may_have_comments_and_several_keys() {
        let [one, two] = [generate(), generate()];
        let text = format!("# created: today\n{}\n\n  {}\n", *one.identity, *two.identity);
        assert_eq!(Unlock::identity(text).identities().unwrap().len(), 2);
        for hostile in ["", "# only a comment\n", &one.recipient] {
            assert!(Unlock::identity(hostile).identities().is_err());
        }
    }

    #[test]
    fn secrets_are_not_shown() {
        let pair = generate();
        let shown = format!("{pair:?} {:?}", Unlock::identity(&*pair.identity));
        assert!(!shown.contains("AGE-SECRET-KEY"));
    }
}
