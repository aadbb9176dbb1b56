//! PostgreSQL's own settings for a recovery, and the file that holds them.
//!
//! Promises text only: [`recovery_settings`] says which settings make a server stop where asked, [`AutoConf`] merges them
//! into the `postgresql.auto.conf` that came with the backup. Pure, and open to callers that recover elsewhere (a sandbox passes
//! its own restore command and keeps the target).
//!
//! `postgresql.auto.conf` is read after every other file (`ProcessConfigFileInternal` in
//! `src/backend/utils/misc/guc-file.l`), so what stands there wins over a `postgresql.conf` that may lie outside the data directory.

use crate::time::format_for_postgres;
use pgproof_pg::TimelineId;
use pgproof_repo::walset::Target;
use serde::{Deserialize, Serialize};
use std::fmt::Write;

/// Whether the record that the target names is replayed itself.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Edge {
    /// Stop just after the target (`recovery_target_inclusive = on`, PostgreSQL's default).
    #[default]
    Inclusive,
    /// Stop just before it: to the moment before a damaging transaction.
    Exclusive,
}

/// What the server does once the target is reached.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TargetAction {
    /// Open for writing on a new timeline. The default here, not PostgreSQL's: "restored" means usable, archiving is off so the
    /// new timeline reaches nobody, and `restore --delta` goes back if the instant was the wrong one.
    #[default]
    Promote,
    /// Stay read-only for a look; `pg_wal_replay_resume()` goes on.
    Pause,
    /// Stop the server.
    Shutdown,
}

impl TargetAction {
    fn value(self) -> &'static str {
        match self {
            Self::Promote => "promote",
            Self::Pause => "pause",
            Self::Shutdown => "shutdown",
        }
    }
}

/// One setting and its value, unquoted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Setting {
    /// Its name, in lower case.
    pub name: String,
    /// Its value as the server is to see it.
    pub value: String,
}

impl Setting {
    /// A setting.
    pub fn new(name: impl Into<String>, value: impl Into<String>) -> Self {
        Self { name: name.into(), value: value.into() }
    }
}

/// What a recovery is to do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RecoveryTarget {
    /// Where to stop.
    pub stop: Target,
    /// Whether what is named is replayed itself; of no meaning for `Latest`, `Immediate` and names.
    pub edge: Edge,
    /// What to do there; of no meaning for `Latest`, where the server always opens for writing.
    pub action: TargetAction,
}

/// The settings that choose where recovery stops; at most one may be set, or the server does not start.
const TARGETS: [&str; 5] = [
    "recovery_target",
    "recovery_target_time",
    "recovery_target_lsn",
    "recovery_target_xid",
    "recovery_target_name",
];

/// Settings of recovery and replication that belonged to the origin's role, not to the data. `recovery_min_apply_delay` of a
/// delayed standby would hold back this recovery too (`recoveryApplyDelay` in `src/backend/access/transam/xlogrecovery.c`).
const DROPPED: [&str; 16] = [
    "recovery_target",
    "recovery_target_time",
    "recovery_target_lsn",
    "recovery_target_xid",
    "recovery_target_name",
    "recovery_target_inclusive",
    "recovery_target_action",
    "recovery_target_timeline",
    "restore_command",
    "archive_cleanup_command",
    "recovery_end_command",
    "recovery_min_apply_delay",
    "primary_conninfo",
    "primary_slot_name",
    "promote_trigger_file",
    "synchronized_standby_slots",
];

/// The settings with which a server recovers `timeline` to `target`, fetching WAL by `restore_command`.
///
/// The timeline is always a number: a promotion that happens elsewhere between plan and recovery must not change what is recovered.
/// Targets that do not apply are set to nothing, and first: a `postgresql.conf` may still name one from an earlier recovery, and
/// the server refuses two (`assign_recovery_target` and its neighbours, which look at the one assigned last).
pub fn recovery_settings(
    target: &RecoveryTarget,
    timeline: TimelineId,
    restore_command: &str,
) -> Vec<Setting> {
    let chosen = stop_setting(&target.stop);
    let cleared = TARGETS.iter().filter(|name| chosen.as_ref().is_none_or(|c| c.name != **name));
    let mut settings: Vec<Setting> = cleared.map(|name| Setting::new(*name, "")).collect();
    settings.push(Setting::new("restore_command", restore_command));
    settings.push(Setting::new("recovery_target_timeline", timeline.to_string()));
    if let Some(chosen) = chosen {
        settings.push(chosen);
        let inclusive = if target.edge == Edge::Inclusive { "on" } else { "off" };
        settings.push(Setting::new("recovery_target_inclusive", inclusive));
        settings.push(Setting::new("recovery_target_action", target.action.value()));
    }
    settings
}

fn stop_setting(stop: &Target) -> Option<Setting> {
    match stop {
        Target::Latest => None,
        Target::Immediate => Some(Setting::new("recovery_target", "immediate")),
        Target::Time(at) => Some(Setting::new("recovery_target_time", format_for_postgres(*at))),
        Target::Lsn(lsn) => Some(Setting::new("recovery_target_lsn", lsn.to_string())),
        Target::Xid(xid) => Some(Setting::new("recovery_target_xid", xid.to_string())),
        Target::Name(name) => Some(Setting::new("recovery_target_name", name.clone())),
    }
}

/// The settings of a `postgresql.auto.conf`, each once.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AutoConf {
    settings: Vec<Setting>,
}

impl AutoConf {
    /// Reads what `ALTER SYSTEM` wrote: `name = 'value'` lines and comments. Where a name comes twice the last one counts, as for
    /// the server. Lines of no such form are returned too, so that nobody loses one unseen.
    pub fn parse(text: &str) -> (Self, Vec<String>) {
        let mut conf = Self::default();
        let mut strange = Vec::new();
        for line in text.lines() {
            let trimmed = line.trim();
            if trimmed.is_empty() || trimmed.starts_with('#') {
                continue;
            }
            match parse_line(trimmed) {
                Some(setting) => conf.set(setting),
                None => strange.push(trimmed.to_owned()),
            }
        }
        (conf, strange)
    }

    /// Sets a value in place of any earlier one. The new one goes last.
    pub fn set(&mut self, setting: Setting) {
        self.settings.retain(|present| present.name != setting.name);
        self.settings.push(setting);
    }

    /// Removes the origin's recovery and replication settings and says which had a value.
    pub fn drop_recovery(&mut self) -> Vec<Setting> {
        let (dropped, kept) =
            self.settings.drain(..).partition(|setting| DROPPED.contains(&setting.name.as_str()));
        self.settings = kept;
        let dropped: Vec<Setting> = dropped;
        dropped.into_iter().filter(|setting| !setting.value.is_empty()).collect()
    }

    /// The value of a setting.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.settings.iter().find(|setting| setting.name == name).map(|setting| setting.value.as_str())
    }

    /// The file's text, in the form that `ALTER SYSTEM` writes and reads.
    pub fn render(&self) -> String {
        let mut text = String::from(
            "# Do not edit this file manually!\n# It will be overwritten by the ALTER SYSTEM command.\n",
        );
        for setting in &self.settings {
            let _ = writeln!(text, "{} = {}", setting.name, quote(&setting.value));
        }
        text
    }
}

/// A value in quotes, escaped as `escape_single_quotes_ascii` of `src/port/quotes.c` does.
pub fn quote(value: &str) -> String {
    format!("'{}'", value.replace('\\', "\\\\").replace('\'', "''").replace('\n', "\\n"))
}

fn parse_line(line: &str) -> Option<Setting> {
    let name_len = line.bytes().take_while(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.')).count();
    let (name, rest) = line.split_at(name_len);
    if name.is_empty() {
        return None;
    }
    let rest = rest.trim_start();
    let rest = rest.strip_prefix('=').unwrap_or(rest).trim_start();
    let value = match rest.strip_prefix('\'') {
        Some(quoted) => unquote(quoted)?,
        None => {
            let bare = rest.split(['#', ' ', '\t']).next().unwrap_or_default();
            if bare.is_empty() {
                return None;
            }
            bare.to_owned()
        }
    };
    Some(Setting::new(name.to_ascii_lowercase(), value))
}

/// The content of a quoted value up to its closing quote; what follows may only be a comment.
fn unquote(text: &str) -> Option<String> {
    let mut value = String::new();
    let mut chars = text.chars().peekable();
    while let Some(char) = chars.next() {
        match char {
            '\'' if chars.peek() == Some(&'\'') => {
                chars.next();
                value.push('\'');
            }
            '\'' => {
                let rest: String = chars.collect();
                let rest = rest.trim();
                return (rest.is_empty() || rest.starts_with('#')).then_some(value);
            }
            '\\' => match chars.next()? {
                'n' => value.push('\n'),
                't' => value.push('\t'),
                'r' => value.push('\r'),
                other => value.push(other),
            },
            other => value.push(other),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::{Expect, expect};
    use pgproof_pg::Lsn;

    fn check(stop: Target, edge: Edge, expected: Expect) {
        let target = RecoveryTarget { stop, edge, action: TargetAction::default() };
        let mut conf = AutoConf::default();
        for setting in recovery_settings(&target, TimelineId(2), "get \"%f\" \"%p\"") {
            conf.set(setting);
        }
        let text = conf.render();
        let ours: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
        expected.assert_eq(&ours.join("\n"));
    }

    #[test]
    fn latest_names_no_target() {
        check(
            Target::Latest,
            Edge::Inclusive,
            expect![[r#"
                recovery_target = ''
                recovery_target_time = ''
                recovery_target_lsn = ''
                recovery_target_xid = ''
                recovery_target_name = ''
                restore_command = 'get "%f" "%p"'
                recovery_target_timeline = '2'"#]],
        );
    }

    #[test]
    fn the_other_targets_are_cleared_before_the_one_asked_for() {
        check(
            Target::Time("2026-11-22T14:05:00.5Z".parse().unwrap()),
            Edge::Exclusive,
            expect![[r#"
                recovery_target = ''
                recovery_target_lsn = ''
                recovery_target_xid = ''
                recovery_target_name = ''
                restore_command = 'get "%f" "%p"'
                recovery_target_timeline = '2'
                recovery_target_time = '2026-11-22 14:05:00.500000+00'
                recovery_target_inclusive = 'off'
                recovery_target_action = 'promote'"#]],
        );
    }

    #[test]
    fn each_kind_of_target_has_its_setting() {
        let value = |stop| stop_setting(&stop).map(|s| format!("{}={}", s.name, s.value)).unwrap_or_default();
        assert_eq!(value(Target::Immediate), "recovery_target=immediate");
        assert_eq!(value(Target::Lsn(Lsn(0x16_B374_D848))), "recovery_target_lsn=16/B374D848");
        assert_eq!(value(Target::Xid(731)), "recovery_target_xid=731");
        assert_eq!(value(Target::Name("it's".into())), "recovery_target_name=it's");
    }

    #[test]
    fn origin_settings_are_kept_except_those_of_its_role() {
        let origin = "# comment\nwork_mem = '64MB'\nwork_mem = '8MB'\nprimary_conninfo = 'host=a'\n\
                      search_path = '\"$user\", it''s'\nrestore_command = ''\nmax_connections = 200 # bare\n!broken\n";
        let (mut conf, strange) = AutoConf::parse(origin);
        assert_eq!(strange, ["!broken"]);
        let dropped: Vec<String> = conf.drop_recovery().into_iter().map(|s| s.name).collect();
        assert_eq!(dropped, ["primary_conninfo"]);
        conf.set(Setting::new("archive_mode", "off"));
        expect![[r##"
            # Do not edit this file manually!
            # It will be overwritten by the ALTER SYSTEM command.
            work_mem = '8MB'
            search_path = '"$user", it''s'
            max_connections = '200'
            archive_mode = 'off'
        "##]]
        .assert_eq(&conf.render());
    }

    #[test]
    fn values_read_back_as_written() {
        for value in ["", "it's", r"C:\x", "a'b''c", r#"cp "%p" '/x'"#] {
            let mut conf = AutoConf::default();
            conf.set(Setting::new("restore_command", value));
            let (read, strange) = AutoConf::parse(&conf.render());
            assert_eq!(read.get("restore_command"), Some(value));
            assert!(strange.is_empty());
        }
    }
}
