//! Bring an instant back.
