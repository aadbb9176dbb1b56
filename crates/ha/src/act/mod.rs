//! What is done to this node's server once it is decided: settings that count, a standby that
//! receives nothing any more, a promotion that takes the timeline it was allotted.

mod node;
mod receiver;
mod settings;
mod timeline;

pub use node::{Node, make_directories};
pub use receiver::{receivers, stop_receiving};
pub use settings::{MANAGED_FILE, ManagedSettings};
pub use timeline::{allot_timeline, clear_marks, next_timeline};
