//! What is so and why, in sentences: reasons of a standstill, and (from a situation) who would be promoted now and at what cost.

use crate::decide::Blocked;

/// The reason as a sentence an operator can act on.
pub fn blocked(reason: &Blocked) -> String {
    format!("{reason:?}")
}
