//! Where receiving begins.

use super::place::age;
use pgproof_pg::{Lsn, SegmentName, TimelineId, WalSegmentSize};
use pgproof_repo::received::Holdings;

/// A position from which WAL is asked for: always the begin of a segment, so that no file begins in the middle.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Begin {
    /// The timeline.
    pub timeline: TimelineId,
    /// The segment's first byte.
    pub lsn: Lsn,
}

/// What the server says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ServerPosition {
    /// The timeline that it writes.
    pub timeline: TimelineId,
    /// How far its WAL is flushed.
    pub flushed: Lsn,
    /// From where the slot keeps WAL, where there is a slot that was used before.
    pub slot: Option<(TimelineId, Lsn)>,
}

/// Goes on behind what is held, or behind `handed_over` where only files are held that were received before it and wait for a
/// repository; with nothing held, from where the slot keeps WAL; without a slot, from the segment being written.
pub(crate) fn begin(
    held: &Holdings,
    handed_over: Option<SegmentName>,
    server: &ServerPosition,
    size: WalSegmentSize,
) -> Begin {
    let behind = held.complete.iter().map(|name| name.next());
    // The order is by number, then timeline: of two timelines in one segment the later one goes on.
    if let Some(newest) = behind.chain(held.partial.iter().copied()).max() {
        let later = handed_over.map(|name| name.next()).filter(|next| age(*next) > age(newest));
        return at(later.unwrap_or(newest), size);
    }
    let (timeline, lsn) = server.slot.unwrap_or((server.timeline, server.flushed));
    at(SegmentName::new(timeline, lsn.segment(size)), size)
}

fn at(name: SegmentName, size: WalSegmentSize) -> Begin {
    Begin { timeline: name.timeline, lsn: name.start(size) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::{Expect, expect};
    use pgproof_pg::SegmentNumber;

    fn check(complete: &[(u32, u64)], partial: &[(u32, u64)], slot: Option<(u32, u64)>, expected: Expect) {
        let names = |list: &[(u32, u64)]| {
            list.iter().map(|&(t, n)| SegmentName::new(TimelineId(t), SegmentNumber(n))).collect()
        };
        let held = Holdings { complete: names(complete), partial: names(partial), ..Holdings::default() };
        let server = ServerPosition {
            timeline: TimelineId(3),
            flushed: Lsn(0x0912_3456),
            slot: slot.map(|(timeline, lsn)| (TimelineId(timeline), Lsn(lsn))),
        };
        let begin = begin(&held, None, &server, WalSegmentSize::DEFAULT);
        expected.assert_eq(&format!("{} on {}", begin.lsn, begin.timeline));
    }

    /// The server removes what was acknowledged, so what a repository holds cannot be asked for once more.
    #[test]
    fn a_file_that_waits_for_a_repository_does_not_take_receiving_back_before_what_was_handed_over() {
        let name = |timeline, number| SegmentName::new(TimelineId(timeline), SegmentNumber(number));
        let server = ServerPosition { timeline: TimelineId(3), flushed: Lsn(0x0912_3456), slot: None };
        let begins = |complete: &[SegmentName], partial: &[SegmentName], handed| {
            let (complete, partial) = (complete.iter().copied().collect(), partial.iter().copied().collect());
            let held = Holdings { complete, partial, ..Holdings::default() };
            let begin = begin(&held, Some(handed), &server, WalSegmentSize::DEFAULT);
            (begin.timeline.0, begin.lsn.segment(WalSegmentSize::DEFAULT).0)
        };
        assert_eq!(begins(&[name(1, 4)], &[], name(1, 6)), (1, 7), "4 waits, 5 and 6 are gone");
        assert_eq!(begins(&[name(1, 4)], &[name(1, 8)], name(1, 7)), (1, 8));
        assert_eq!(begins(&[], &[name(1, 6)], name(2, 9)), (2, 10), "the end of a timeline stays for good");
        assert_eq!(begins(&[], &[name(2, 7)], name(1, 9)), (2, 7), "the new timeline began before");
    }

    #[test]
    fn receiving_goes_on_behind_what_is_held() {
        check(&[(1, 4), (1, 5)], &[(1, 6)], Some((1, 0x0100_0000)), expect!["0/6000000 on 1"]);
        check(&[(1, 4), (1, 5)], &[], None, expect!["0/6000000 on 1"]);
        check(&[], &[(1, 6)], None, expect!["0/6000000 on 1"]);
        check(&[(1, 5)], &[(1, 6), (2, 6)], None, expect!["0/6000000 on 2"]);
        check(&[(1, 5), (2, 6)], &[(1, 6)], None, expect!["0/7000000 on 2"]);
    }

    #[test]
    fn with_nothing_held_it_begins_where_the_slot_or_the_server_is() {
        check(&[], &[], Some((2, 0x0512_3456)), expect!["0/5000000 on 2"]);
        check(&[], &[], None, expect!["0/9000000 on 3"]);
    }
}
