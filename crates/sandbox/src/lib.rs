//! A disposable running clone of any recoverable instant.
