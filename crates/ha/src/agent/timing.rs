//! The timers that follow from the declared RTO.
//!
//! Measured floors: a killed server is seen in 10 ms, a promotion takes 80 to 200 ms to the first write, a write to etcd 3 to 10 ms, an
//! election of etcd's leader 1 to 2 s. So 5 s leave room for one stall of a second, and nothing shorter does.

use crate::{HaError, Timers};
use std::time::Duration;

/// The shortest RTO that can be kept.
const RTO_MIN: Duration = Duration::from_secs(5);

/// A longer one than this only makes a cluster slow to notice: what is gained are fewer failovers for stalls, and a minute of those is enough.
const RTO_MAX: Duration = Duration::from_secs(60);

/// Derives them.
///
/// # Errors
/// [`HaError::Refused`] with the arithmetic when the RTO is too short.
pub fn timers(rto: Duration) -> Result<Timers, HaError> {
    if rto < RTO_MIN {
        return Err(HaError::Refused {
            why: format!(
                "an RTO of {} ms cannot be kept: a silent primary is suspected after 1200 ms, a lost leader of etcd takes up to 2000 ms to \
                 replace, and an election with a promotion up to 1500 ms",
                rto.as_millis()
            ),
            hint: format!("set objectives.rto to {} s or more", RTO_MIN.as_secs()),
        });
    }
    let parts = rto.min(RTO_MAX).as_millis() / 50;
    // In hundredths of the RTO: 1 is 50 ms at the shortest.
    let part =
        |hundredths: u128| Duration::from_millis(u64::try_from(parts * hundredths / 2).unwrap_or(u64::MAX));
    Ok(Timers {
        heartbeat: part(5),
        suspect_after: part(24),
        lease: part(60),
        fence: part(40),
        fence_margin: part(6),
        refusal: part(30),
        patience: part(2),
        blocked_after: part(100),
        probe: part(30),
        election: part(100),
        remove_voter_after: part(100),
        add_voter_after: part(10),
        failover: part(40),
        switchover_stop: part(100),
        crash_window: Duration::from_secs(300),
        crashes_max: 3,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_rto_that_cannot_be_kept_is_refused_and_the_shortest_leaves_room_for_a_stall() {
        assert!(timers(Duration::from_secs(2)).is_err());
        let shortest = timers(RTO_MIN).unwrap();
        assert_eq!(shortest.heartbeat, Duration::from_millis(250));
        assert_eq!(shortest.suspect_after, Duration::from_millis(1200));
        assert!(shortest.suspect_after + shortest.failover <= RTO_MIN);
        assert!(
            shortest.fence < shortest.lease,
            "a lease that ends first would elect beside a primary that is not fenced"
        );
        assert_eq!(timers(Duration::from_secs(3600)).unwrap(), timers(RTO_MAX).unwrap());
    }
}
