//! Rules taken away.
