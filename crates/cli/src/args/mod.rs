//! Arguments in two stages: [`low`] is what was typed, [`high`] what it means.

pub(crate) mod cluster;
pub(crate) mod doctor;
pub(crate) mod drill;
pub(crate) mod dump;
pub(crate) mod high;
pub(crate) mod key;
pub(crate) mod low;
pub(crate) mod sandbox;
pub(crate) mod transfer;
