//! The write-ahead log: what it changed, and what it tells.
//!
//! Segments that pass through the archive are read once by a [`Summarizer`], which keeps a small [`SegmentSummary`] of each. An
//! incremental backup joins them with [`JoinedChanges::join`] and asks for each file what may have changed. Promises never to leave out
//! a change: whatever cannot be read is a [`Gap`], and the caller then compares contents. Follows section 10 of DESIGN.md; the rules
//! that make the set complete are listed in [`Rules`]. [`WalReader`] gives single records for other questions.

mod block_set;
mod changes;
mod codec;
mod crossing;
mod encoding;
#[cfg(test)]
mod forge;
mod join;
mod marks;
mod page;
mod problem;
mod reader;
mod record;
mod rules;
mod summary;
#[cfg(test)]
mod tests;
mod walker;

pub use block_set::BlockSet;
pub use changes::{Change, Changes};
pub use join::{Gap, GapReason, JoinedChanges, SummarySource, crossing_marks};
pub use marks::{
    Checkpoint, FullPageWritesMark, LevelMark, Marks, PgTime, RestorePoint, TimelineSwitch, TransactionEnd,
};
pub use page::{LONG_HEADER, SegmentHeader, WalPageHeader};
pub use problem::{Defect, Problem};
pub use reader::{TakeRecord, WalReader};
pub use record::{BlockImage, BlockRef, Record, RecordHeader};
pub use rules::{HEAP_BLOCKS_PER_VM_PAGE, Rules};
pub use summary::{SegmentSummary, Summarizer};
pub use walker::{Ending, FirstRecord};
