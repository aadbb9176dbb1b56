//! Whether `synchronous_standby_names` are in effect: in the configuration that every walsender goes by, not only in the file.
//!
//! A walsender reads new settings at its own time, and until then releases commits by the old names. A session opened after the reload shows
//! that the postmaster has read them and has passed the signal on; a walsender that has taken two replies of its standby since then
//! has been through its loop, which reads settings before replies (`WalSndLoop`, `src/backend/replication/walsender.c`).

use super::server::Sender;
use std::collections::BTreeMap;

/// Replies that prove a turn of the loop: the first may have been taken before the signal came.
const REPLIES: u32 = 2;

/// Watches one primary from one observation to the next.
#[derive(Debug, Default)]
pub struct Effect {
    names: Option<String>,
    /// Walsenders that existed when the names were first shown: their last reply, and how many came since.
    waiting: BTreeMap<i32, (String, u32)>,
}

impl Effect {
    /// Takes in what a new session showed; true when the names that it showed are in effect.
    pub fn note(&mut self, names: &str, senders: &[Sender]) -> bool {
        if self.names.as_deref() != Some(names) {
            self.names = Some(names.to_owned());
            self.waiting = senders.iter().map(|sender| (sender.pid, (sender.replied.clone(), 0))).collect();
        }
        self.waiting.retain(|pid, (last, count)| {
            let Some(sender) = senders.iter().find(|sender| sender.pid == *pid) else { return false };
            if sender.replied != *last {
                last.clone_from(&sender.replied);
                *count += 1;
            }
            *count < REPLIES
        });
        self.waiting.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sender(pid: i32, replied: &str) -> Sender {
        Sender {
            pid,
            name: "n2.t1".to_owned(),
            streams: true,
            flush: None,
            replied: replied.to_owned(),
            silent_ms: 0,
        }
    }

    #[test]
    fn names_are_in_effect_once_every_walsender_of_that_time_replied_twice_or_is_gone() {
        let mut effect = Effect::default();
        assert!(effect.note("a", &[]));
        assert!(!effect.note("b", &[sender(1, "0"), sender(2, "0")]));
        assert!(!effect.note("b", &[sender(1, "1"), sender(2, "0")]));
        assert!(!effect.note("b", &[sender(1, "2"), sender(2, "0"), sender(3, "0")]));
        assert!(
            effect.note("b", &[sender(1, "2"), sender(3, "0")]),
            "the one that was silent is gone, the third is new"
        );
        assert!(!effect.note("a", &[sender(3, "1")]));
    }
}
