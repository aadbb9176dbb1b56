//! `pgproof init`: from a running server to one that is archived and can be backed up.
//!
//! [`plan`] decides, purely; [`observe`] finds the facts for it; [`act`] carries it out in two halves: as root what only root can
//! do (directories and files in system places), then as the owner of the data directory all that touches server and repository.

mod act;
mod add;
mod observe;
mod plan;

pub(crate) use act::{as_owner, as_root, create_second};
pub(crate) use observe::{observe, place};
pub(crate) use plan::{InitPlan, Step, plan};
