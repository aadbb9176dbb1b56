//! Hands received WAL that the repository does not have yet to a recovery.
//!
//! A complete segment always beats a partial one, and a partial one is given only where it is the last of its timeline: in the middle of
//! a timeline it would look like the timeline's end.

use super::place::{Holdings, complete_path, history_path, holdings, partial_path};
use crate::spool::copy;
use pgproof_pg::{ArchiveName, ControlFile, SegmentName};
use std::io;
use std::path::Path;

/// Copies the file to its destination; false when it is not held.
///
/// # Errors
/// What the system says; nothing lies at the destination then.
pub(crate) fn deliver(
    spool: &Path,
    control: &ControlFile,
    name: &ArchiveName,
    destination: &Path,
) -> io::Result<bool> {
    let (system, size) = (control.system_identifier, control.wal_segment_size);
    let held = holdings(spool, system, size)?;
    let path = match name {
        ArchiveName::Segment(text) => {
            let Ok(segment) = SegmentName::parse(text, size) else { return Ok(false) };
            match choose(&held, segment) {
                Some(Choice::Complete) => complete_path(spool, system, segment, size),
                Some(Choice::Partial) => partial_path(spool, system, segment, size),
                None => return Ok(false),
            }
        }
        ArchiveName::History(timeline) if held.histories.contains(timeline) => {
            history_path(spool, system, *timeline)
        }
        _ => return Ok(false),
    };
    match copy(&path, destination) {
        // Handed over to the repository this moment: whoever asks again finds it there.
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        copied => copied.map(|()| true),
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Choice {
    Complete,
    Partial,
}

fn choose(held: &Holdings, segment: SegmentName) -> Option<Choice> {
    if held.complete.contains(&segment) {
        return Some(Choice::Complete);
    }
    let goes_on = held
        .complete
        .iter()
        .chain(&held.partial)
        .any(|other| other.timeline == segment.timeline && other.number > segment.number);
    (held.partial.contains(&segment) && !goes_on).then_some(Choice::Partial)
}

#[cfg(test)]
mod tests {
    use super::*;
    use pgproof_pg::{SegmentNumber, TimelineId};

    fn segment(timeline: u32, number: u64) -> SegmentName {
        SegmentName::new(TimelineId(timeline), SegmentNumber(number))
    }

    #[test]
    fn a_partial_segment_is_given_only_at_the_end_of_its_timeline() {
        let held = Holdings {
            complete: [segment(1, 5), segment(2, 7)].into(),
            partial: [segment(1, 5), segment(1, 6), segment(2, 6), segment(2, 8)].into(),
            ..Holdings::default()
        };
        assert_eq!(choose(&held, segment(1, 5)), Some(Choice::Complete));
        assert_eq!(choose(&held, segment(1, 6)), Some(Choice::Partial));
        assert_eq!(choose(&held, segment(2, 6)), None);
        assert_eq!(choose(&held, segment(2, 8)), Some(Choice::Partial));
        assert_eq!(choose(&held, segment(1, 7)), None);
    }
}
