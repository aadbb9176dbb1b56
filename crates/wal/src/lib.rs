//! Keep every change: archive push, get, status.
