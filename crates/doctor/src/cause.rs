//! Which finding is the root, and which are its effects: a table of rules over codes. Pure.
//!
//! Each effect has one cause, the first rule that fits; following causes upwards ends at a root. Roots are ordered by the worst of what
//! they bring about, so that the one to mend first comes first, then by the order of the checks, which begins with what stops a server.

use crate::Diagnosed;
use crate::check::{Found, checks};
use pgproof_base::Severity;
use std::cmp::Reverse;

/// One thing that brings about another.
struct Rule {
    cause: &'static str,
    effect: &'static str,
}

const fn rule(cause: &'static str, effect: &'static str) -> Rule {
    Rule { cause, effect }
}

/// From near causes to far ones: the nearest that was found is the cause.
const RULES: &[Rule] = &[
    // Why nobody gets in.
    rule("server-down", "connection-failed"),
    rule("server-hung", "connection-failed"),
    rule("server-starting", "connection-failed"),
    rule("port-wrong", "connection-failed"),
    rule("address-not-listened", "connection-failed"),
    rule("hba-broken", "hba-no-line"),
    rule("hba-broken", "server-down"),
    rule("hba-no-line", "connection-failed"),
    rule("hba-rejects", "connection-failed"),
    rule("peer-mismatch", "connection-failed"),
    rule("password-wrong", "connection-failed"),
    rule("role-missing", "connection-failed"),
    rule("role-missing", "password-wrong"),
    rule("role-nologin", "connection-failed"),
    rule("database-missing", "connection-failed"),
    rule("database-closed", "connection-failed"),
    rule("connection-limit", "connection-failed"),
    rule("slots-used", "connection-failed"),
    rule("tls-off", "connection-failed"),
    // Why a server is down.
    rule("settings-broken", "server-down"),
    rule("directory-mode", "server-down"),
    rule("control-file-missing", "server-down"),
    rule("version-mismatch", "server-down"),
    rule("restore-command-missing", "server-down"),
    rule("library-missing", "server-down"),
    rule("library-missing", "settings-broken"),
    rule("recovery-target-missed", "server-down"),
    rule("standby-settings", "server-down"),
    rule("huge-pages-missing", "server-down"),
    rule("shared-memory-ids", "server-down"),
    rule("postmaster-zombie", "server-down"),
    rule("memory-too-large", "server-down"),
    rule("port-taken", "server-down"),
    rule("socket-directory-missing", "server-down"),
    rule("tls-key-mode", "server-down"),
    rule("disk-read-only", "server-down"),
    rule("wal-missing", "server-down"),
    rule("directory-missing", "server-down"),
    rule("disk-space", "server-down"),
    rule("inodes", "server-down"),
    // What fills a disk.
    rule("repository-unreadable", "archiver-failing"),
    rule("repository-unreadable", "archiver-behind"),
    rule("repository-unreadable", "objective-broken"),
    rule("archiver-failing", "objective-broken"),
    rule("archive-command-empty", "objective-broken"),
    rule("agent-down", "objective-broken"),
    rule("slot-inactive", "disk-space"),
    rule("archive-command-empty", "disk-space"),
    rule("archiver-behind", "disk-space"),
    rule("wal-bound-too-large", "disk-space"),
    rule("temporary-files", "disk-space"),
    rule("archiver-failing", "disk-space"),
    rule("slot-inactive", "slot-lost"),
    // What holds a slot's WAL, or a standby.
    rule("disk-space", "archiver-failing"),
    // Who takes the connections.
    rule("lock-tree", "slots-used"),
    rule("sync-standby-missing", "slots-used"),
    rule("idle-in-transaction", "slots-used"),
    rule("slots-used", "connections-near"),
    rule("lock-tree", "connections-near"),
    rule("sync-standby-missing", "connections-near"),
    rule("idle-in-transaction", "connections-near"),
    // Who holds locks.
    rule("prepared-old", "lock-tree"),
    rule("idle-in-transaction", "lock-tree"),
    rule("lock-tree", "long-transaction"),
    rule("idle-in-transaction", "long-transaction"),
    rule("sync-standby-missing", "long-transaction"),
    // Who holds the horizon.
    rule("prepared-old", "xmin-holder"),
    rule("idle-in-transaction", "xmin-holder"),
    rule("slot-inactive", "xmin-holder"),
    rule("long-transaction", "xmin-holder"),
    rule("xmin-holder", "xid-age"),
    rule("prepared-old", "xid-age"),
    rule("slot-inactive", "xid-age"),
    rule("idle-in-transaction", "xid-age"),
    rule("autovacuum-off", "xid-age"),
    rule("xmin-holder", "mxid-age"),
    rule("xmin-holder", "multixact-members"),
    rule("mxid-age", "multixact-members"),
    rule("database-invalid", "xid-age"),
    rule("autovacuum-cancelled", "dead-tuples"),
    rule("autovacuum-starved", "dead-tuples"),
    rule("dead-tuples", "table-bloat"),
    rule("dead-tuples", "index-bloat"),
    rule("autovacuum-off", "table-bloat"),
    rule("table-autovacuum-off", "table-bloat"),
    rule("prepared-old", "dead-tuples"),
    rule("slot-inactive", "dead-tuples"),
    rule("idle-in-transaction", "dead-tuples"),
    rule("xmin-holder", "dead-tuples"),
    rule("autovacuum-off", "dead-tuples"),
    rule("table-autovacuum-off", "dead-tuples"),
    rule("autovacuum-off", "never-analysed"),
    rule("table-autovacuum-off", "never-analysed"),
    // Replication.
    rule("replay-paused", "standby-lag"),
    rule("receiver-down", "standby-lag"),
    rule("slot-lost", "receiver-down"),
    rule("cluster-store-down", "cluster-without-primary"),
    rule("cluster-member-silent", "cluster-without-primary"),
    rule("cluster-without-primary", "connection-failed"),
    // Settings.
    rule("settings-refused", "restart-pending"),
    rule("lock-table-full", "out-of-memory"),
    rule("out-of-memory", "connection-failed"),
    rule("out-of-memory", "backend-killed"),
    rule("standby-settings", "replay-paused"),
    rule("data-damaged", "checksum-failures"),
    rule("backend-killed", "server-starting"),
    rule("checksum-failures", "backend-killed"),
];

/// Code and subject.
pub(crate) fn id(code: &str, subject: &str) -> String {
    if subject.is_empty() { code.to_owned() } else { format!("{code}:{subject}") }
}

/// Orders findings: roots by what they bring about, each followed by its effects.
pub(crate) fn link(found: Vec<Found>) -> Vec<Diagnosed> {
    let causes: Vec<Option<usize>> = found.iter().map(|one| cause_of(&found, one)).collect();
    let roots: Vec<usize> = (0..found.len()).map(|at| root_of(&causes, at)).collect();
    let worst = |root: usize| {
        let tree = (0..found.len()).filter(|&at| roots[at] == root);
        tree.map(|at| found[at].finding.severity).max().unwrap_or(Severity::Info)
    };
    let mut order: Vec<usize> = (0..found.len()).collect();
    order.sort_by_key(|&at| {
        let (root, one) = (roots[at], &found[at]);
        let group = (Reverse(worst(root)), rank(&found[root]), found[root].subject.clone(), root);
        (group, depth(&causes, at), Reverse(one.finding.severity), rank(one), one.subject.clone())
    });
    let id_at = |at: usize| id(&found[at].finding.code, &found[at].subject);
    let placed = |at: usize| Diagnosed {
        finding: found[at].finding.clone(),
        subject: found[at].subject.clone(),
        cause: causes[at].map(id_at),
    };
    order.into_iter().map(placed).collect()
}

fn cause_of(found: &[Found], effect: &Found) -> Option<usize> {
    let fits = RULES.iter().filter(|rule| rule.effect == effect.finding.code);
    let causes = fits.filter_map(|rule| {
        found.iter().position(|one| one.finding.code == rule.cause && one.finding.severity > Severity::Info)
    });
    causes.into_iter().next()
}

/// Bounded, because a table may come to hold a circle.
fn root_of(causes: &[Option<usize>], from: usize) -> usize {
    let mut at = from;
    for _ in 0..causes.len() {
        match causes[at] {
            Some(next) => at = next,
            None => return at,
        }
    }
    at
}

fn depth(causes: &[Option<usize>], from: usize) -> usize {
    let mut at = from;
    for depth in 0..causes.len() {
        match causes[at] {
            Some(next) => at = next,
            None => return depth,
        }
    }
    causes.len()
}

fn rank(one: &Found) -> usize {
    checks().position(|check| check.code == one.finding.code).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use pgproof_base::Finding;

    fn found(code: &str, severity: Severity) -> Found {
        Found { finding: Finding::new(code, severity, "s", "w"), subject: String::new() }
    }

    fn order(found: Vec<Found>) -> Vec<String> {
        link(found)
            .into_iter()
            .map(|one| {
                one.cause.map_or(one.finding.code.clone(), |cause| format!("{} < {cause}", one.finding.code))
            })
            .collect()
    }

    #[test]
    fn an_abandoned_slot_is_the_root_of_a_refused_connection() {
        let all = ["connection-failed", "server-down", "disk-space", "slot-inactive", "checksums-off"];
        let severity = |code| match code {
            "checksums-off" => Severity::Info,
            "slot-inactive" => Severity::Warning,
            _ => Severity::Critical,
        };
        assert_eq!(
            order(all.into_iter().map(|code| found(code, severity(code))).collect()),
            [
                "slot-inactive",
                "disk-space < slot-inactive",
                "server-down < disk-space",
                "connection-failed < server-down",
                "checksums-off",
            ]
        );
    }

    #[test]
    fn two_troubles_at_once_are_two_roots_and_the_worse_comes_first() {
        let all = vec![found("index-invalid", Severity::Warning), found("fsync-off", Severity::Critical)];
        assert_eq!(order(all), ["fsync-off", "index-invalid"]);
    }

    #[test]
    fn every_rule_names_checks_and_no_rule_leads_in_a_circle() {
        let known = |code: &str| checks().any(|check| check.code == code);
        for rule in RULES {
            assert!(known(rule.cause) && known(rule.effect), "{} -> {}", rule.cause, rule.effect);
        }
        let all: Vec<Found> = checks().map(|check| found(check.code, Severity::Warning)).collect();
        assert_eq!(link(all.clone()).len(), all.len());
    }
}
