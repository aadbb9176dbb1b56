//! The line of descent of a timeline, as its `.history` file tells it.

use super::{Lsn, SegmentName, SegmentNumber, TimelineId, WalSegmentSize};
use crate::error::PgError;
use serde::{Deserialize, Serialize};

/// More ancestors than any cluster has; a file with more is damaged or hostile.
const ANCESTORS_MAX: usize = 100_000;

/// A timeline from which the one in question descends.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ancestor {
    /// The ancestor.
    pub timeline: TimelineId,
    /// Where its WAL stops counting: the first position that belongs to the next timeline.
    pub switch: Lsn,
    /// PostgreSQL's explanation; free text of one line.
    pub reason: String,
}

/// The history of one timeline: itself, and its ancestors with the positions at which each was left.
///
/// Ancestors are ordered oldest first, with rising timelines and never falling switch positions, as PostgreSQL demands
/// (`readTimeLineHistory` in `src/backend/access/transam/timeline.c`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TimelineHistory {
    timeline: TimelineId,
    ancestors: Vec<Ancestor>,
}

impl TimelineHistory {
    /// The history of a timeline without ancestors, as the first one is.
    pub fn root(timeline: TimelineId) -> Self {
        Self { timeline, ancestors: Vec::new() }
    }

    /// Makes a history from ancestors, oldest first.
    ///
    /// # Errors
    /// [`PgError::Malformed`] when timelines do not rise or switch positions fall.
    pub fn new(timeline: TimelineId, ancestors: Vec<Ancestor>) -> Result<Self, PgError> {
        let what = "timeline history";
        for pair in ancestors.windows(2) {
            if pair[0].timeline >= pair[1].timeline {
                return Err(PgError::malformed(
                    what,
                    format!("timeline {} comes after {}", pair[1].timeline, pair[0].timeline),
                ));
            }
            if pair[0].switch > pair[1].switch {
                return Err(PgError::malformed(
                    what,
                    format!("switch at {} comes after {}", pair[1].switch, pair[0].switch),
                ));
            }
        }
        if let Some(last) = ancestors.last().filter(|last| last.timeline >= timeline) {
            return Err(PgError::malformed(
                what,
                format!("timeline {timeline} descends from timeline {}", last.timeline),
            ));
        }
        Ok(Self { timeline, ancestors })
    }

    /// Reads the content of `timeline`'s history file.
    ///
    /// # Errors
    /// [`PgError::Malformed`] for a line that is neither empty, a comment, nor `timeline<TAB>LSN[<TAB>reason]`, and as [`Self::new`].
    pub fn parse(timeline: TimelineId, content: &[u8]) -> Result<Self, PgError> {
        // The reason may hold a restore point's name in the database's encoding, so the file need not be UTF-8.
        let text = String::from_utf8_lossy(content);
        let mut ancestors = Vec::new();
        for line in text.lines() {
            let trimmed = line.trim_start();
            if trimmed.is_empty() || trimmed.starts_with('#') {
                continue;
            }
            if ancestors.len() >= ANCESTORS_MAX {
                return Err(PgError::malformed("timeline history", "it has too many lines"));
            }
            ancestors.push(parse_line(trimmed)?);
        }
        Self::new(timeline, ancestors)
    }

    /// The content of the history file, as PostgreSQL writes it.
    pub fn format(&self) -> String {
        self.ancestors.iter().map(|a| format!("{}\t{}\t{}\n", a.timeline, a.switch, a.reason)).collect()
    }

    /// The timeline whose history this is.
    pub fn timeline(&self) -> TimelineId {
        self.timeline
    }

    /// Its ancestors, oldest first.
    pub fn ancestors(&self) -> &[Ancestor] {
        &self.ancestors
    }

    /// Every timeline of the history with the positions it covers, from (inclusive) to (exclusive), oldest first.
    pub fn spans(&self) -> impl DoubleEndedIterator<Item = (TimelineId, Lsn, Lsn)> + '_ {
        let begin = |index: usize| match index {
            0 => Lsn::INVALID,
            _ => self.ancestors[index - 1].switch,
        };
        let own = (self.timeline, begin(self.ancestors.len()), Lsn::MAX);
        let ancestors = self.ancestors.iter().enumerate().map(move |(i, a)| (a.timeline, begin(i), a.switch));
        ancestors.chain(std::iter::once(own))
    }

    /// The timeline that wrote the byte at `lsn` (`tliOfPointInHistory`).
    pub fn timeline_at(&self, lsn: Lsn) -> TimelineId {
        self.ancestors.iter().find(|a| lsn < a.switch).map_or(self.timeline, |a| a.timeline)
    }

    /// Where `timeline` was left for its child: `None` when it is the last one, or not of this history.
    pub fn switch_of(&self, timeline: TimelineId) -> Option<Lsn> {
        self.ancestors.iter().find(|a| a.timeline == timeline).map(|a| a.switch)
    }

    /// Where `timeline` begins; 0 for the oldest, `None` when it is not of this history.
    pub fn begin_of(&self, timeline: TimelineId) -> Option<Lsn> {
        self.spans().find(|span| span.0 == timeline).map(|span| span.1)
    }

    /// Whether WAL that `timeline` wrote up to `lsn` is part of this history.
    ///
    /// The position of the switch itself counts: nothing after it was written by the ancestor.
    pub fn contains(&self, timeline: TimelineId, lsn: Lsn) -> bool {
        timeline == self.timeline || self.switch_of(timeline).is_some_and(|switch| lsn <= switch)
    }

    /// The names under which segment `number` can exist on this history, best first.
    ///
    /// A promotion copies the segment it happens in under the new timeline, so the newest timeline that has begun by then holds
    /// everything; an older one's file is complete only up to its switch. PostgreSQL looks them up in this order too
    /// (`XLogFileReadAnyTLI`).
    pub fn segment_candidates(&self, number: SegmentNumber, size: WalSegmentSize) -> Vec<SegmentName> {
        let begun = |&(_, begin, end): &(TimelineId, Lsn, Lsn)| {
            begin.segment(size) <= number && end > number.start(size)
        };
        self.spans().rev().filter(begun).map(|span| SegmentName::new(span.0, number)).collect()
    }

    /// The best name of segment `number` on this history; see [`Self::segment_candidates`].
    pub fn segment_name(&self, number: SegmentNumber, size: WalSegmentSize) -> SegmentName {
        let newest = self.spans().rev().find(|span| span.1.segment(size) <= number);
        SegmentName::new(newest.map_or(self.timeline, |span| span.0), number)
    }
}

fn parse_line(line: &str) -> Result<Ancestor, PgError> {
    let fail = || PgError::malformed("timeline history", format!("line `{:.80}`", line));
    let mut words = line.splitn(3, [' ', '\t']);
    let timeline = words.next().and_then(|word| word.parse().ok()).ok_or_else(fail)?;
    let switch = words.next().and_then(|word| word.parse().ok()).ok_or_else(fail)?;
    Ok(Ancestor { timeline, switch, reason: words.next().unwrap_or_default().to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    const THIRD: &str =
        "1\t0/5000000\tno recovery target specified\n\n# kept\n2\t0/7000148\tbefore 2026-11-22\n";

    fn third() -> TimelineHistory {
        TimelineHistory::parse(TimelineId(3), THIRD.as_bytes()).unwrap()
    }

    #[test]
    fn history_tells_the_timeline_of_every_position() {
        let history = third();
        assert_eq!(history.timeline_at(Lsn(0x4FF_FFFF)), TimelineId(1));
        assert_eq!(history.timeline_at(Lsn(0x500_0000)), TimelineId(2));
        assert_eq!(history.timeline_at(Lsn(0x700_0148)), TimelineId(3));
        assert_eq!(history.switch_of(TimelineId(2)), Some(Lsn(0x700_0148)));
        assert_eq!(history.begin_of(TimelineId(3)), Some(Lsn(0x700_0148)));
    }

    #[test]
    fn wal_after_the_switch_of_an_ancestor_is_not_part_of_the_history() {
        let history = third();
        assert!(history.contains(TimelineId(1), Lsn(0x500_0000)));
        assert!(!history.contains(TimelineId(1), Lsn(0x500_0001)));
        assert!(history.contains(TimelineId(3), Lsn::MAX));
        assert!(!history.contains(TimelineId(4), Lsn(1)));
    }

    #[test]
    fn segment_of_a_switch_is_taken_from_the_new_timeline_first() {
        let history = third();
        let size = WalSegmentSize::DEFAULT;
        let names = |n| {
            history
                .segment_candidates(SegmentNumber(n), size)
                .iter()
                .map(|s| s.timeline.0)
                .collect::<Vec<_>>()
        };
        assert_eq!(names(4), [1]);
        // The switch at 0/5000000 lies on a boundary: timeline 1 never wrote into segment 5.
        assert_eq!(names(5), [2]);
        assert_eq!(names(7), [3, 2]);
        assert_eq!(history.segment_name(SegmentNumber(7), size).timeline, TimelineId(3));
        assert_eq!(history.segment_name(SegmentNumber(6), size).timeline, TimelineId(2));
    }

    #[test]
    fn history_writes_what_it_read() {
        let history = third();
        assert_eq!(TimelineHistory::parse(TimelineId(3), history.format().as_bytes()), Ok(history));
    }

    #[test]
    fn disordered_histories_are_refused() {
        for text in ["2\t0/5\n1\t0/6\n", "1\t0/6\n2\t0/5\n", "3\t0/6\n", "x\t0/6\n", "1\n", "1\tnone\n"] {
            assert!(TimelineHistory::parse(TimelineId(3), text.as_bytes()).is_err(), "{text}");
        }
    }
}
