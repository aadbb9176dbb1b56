//! What safety rests on: one method a rule, each with the note of DESIGN.md section 11 that it comes from.

/// The rules. The provided methods are the true ones; the model overrides one at a time and has to notice.
pub trait Rules {}

/// The rules as shipped.
#[derive(Debug, Clone, Copy, Default)]
pub struct TrueRules;

impl Rules for TrueRules {}
