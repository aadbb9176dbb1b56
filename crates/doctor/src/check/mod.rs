//! The checks: each is one definition, from which findings, thresholds, `doctor explain` and the documentation's page come.
//!
//! A check is pure: it reads a [`Case`] and says what is wrong, with evidence and remedies that have the real names in them. It knows
//! nothing of other checks; what causes what is in [`crate::cause`]. One file for each check.

mod address_not_listened;
mod agent_down;
mod archive_command_empty;
mod archiver_behind;
mod archiver_failing;
mod autovacuum_cancelled;
mod autovacuum_off;
mod autovacuum_starved;
mod backend_killed;
mod case;
mod checkpoints_frequent;
mod checksum_failures;
mod checksums_off;
mod cluster_member_silent;
mod cluster_paused;
mod cluster_store_down;
mod cluster_without_primary;
mod collation_drift;
mod connection_churn;
mod connection_failed;
mod connection_limit;
mod connections_near;
mod constraint_unchecked;
mod control_file_missing;
mod damage_hidden;
mod data_damaged;
mod database_closed;
mod database_invalid;
mod database_missing;
mod dead_tuples;
mod deadlocks;
mod descriptors_out;
mod directory_missing;
mod directory_mode;
mod disk_filling;
mod disk_read_only;
mod disk_space;
mod foreign_key_narrower;
mod fsync_off;
mod full_page_writes_off;
mod hba_broken;
mod hba_no_line;
mod hba_rejects;
mod hba_trust;
mod huge_pages_missing;
mod idle_in_transaction;
mod index_bloat;
mod index_invalid;
mod inodes;
mod integer_key_end;
mod ledger_flawed;
mod library_missing;
mod lock_table_full;
mod lock_tree;
mod long_transaction;
mod matview_unpopulated;
mod memory_too_large;
mod memory_unused;
mod multixact_members;
mod mxid_age;
mod never_analysed;
mod objective_broken;
mod out_of_memory;
mod password_md5;
mod password_wrong;
mod peer_mismatch;
mod port_taken;
mod port_wrong;
mod postmaster_zombie;
mod prepared_old;
mod primary_key_missing;
mod public_create;
mod read_only_default;
mod receiver_down;
mod recovery_target_missed;
mod registry;
mod replay_paused;
mod replica_identity_missing;
mod repository_unreadable;
mod restart_after_upgrade;
mod restart_pending;
mod restore_command_missing;
mod role_missing;
mod role_nologin;
mod sequence_end;
mod server_down;
mod server_hung;
mod server_starting;
mod settings_broken;
mod settings_refused;
mod shared_memory_ids;
mod slot_inactive;
mod slot_lost;
mod slots_used;
mod socket_directory_missing;
mod standby_conflicts;
mod standby_lag;
mod standby_settings;
mod subscription_stopped;
mod sync_standby_missing;
mod table_autovacuum_off;
mod table_bloat;
mod temp_file_limit;
mod temporary_files;
mod timeouts_missing;
mod tls_certificate;
mod tls_key_mode;
mod tls_off;
mod triggers_bypassed;
mod triggers_disabled;
mod twin_primary;
mod version_mismatch;
mod wait_pileup;
mod wal_bound_too_large;
mod wal_missing;
mod xid_age;
mod xmin_holder;

pub(crate) use case::{Case, Found};
pub use registry::checks;

use crate::limits::Limit;
use pgproof_base::{Finding, Severity};

/// Where a check looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Area {
    /// Whether the server starts.
    Start,
    /// Whether it can be reached.
    Reach,
    /// Sessions and transactions.
    Sessions,
    /// Disks and WAL.
    Storage,
    /// Standbys, slots, subscriptions.
    Replication,
    /// Freezing and dead rows.
    Vacuum,
    /// Safety of what is stored.
    Data,
    /// Settings.
    Configuration,
    /// Tables, indexes, roles.
    Schema,
    /// Repositories, objectives, the agent.
    Backups,
}

impl Area {
    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Reach => "reach",
            Self::Sessions => "sessions",
            Self::Storage => "storage",
            Self::Replication => "replication",
            Self::Vacuum => "vacuum",
            Self::Data => "data",
            Self::Configuration => "configuration",
            Self::Schema => "schema",
            Self::Backups => "backups",
        }
    }
}

/// One check.
#[derive(Debug)]
pub struct Check {
    /// Its stable code.
    pub code: &'static str,
    /// Where it looks.
    pub area: Area,
    /// What is wrong when it speaks.
    pub title: &'static str,
    /// Why that matters.
    pub why: &'static str,
    /// How it is mended, and what not to do.
    pub mends: &'static str,
    /// Thresholds, where it has any.
    pub limit: Option<Limit>,
    pub(crate) judge: fn(&Case<'_>) -> Vec<Found>,
}

impl Check {
    /// A finding of this check.
    pub(crate) fn found(
        &self,
        severity: Severity,
        subject: impl Into<String>,
        seen: impl Into<String>,
    ) -> Found {
        Found { finding: Finding::new(self.code, severity, seen, self.why), subject: subject.into() }
    }
}

/// A setting that must never be off.
fn setting_off(case: &Case<'_>, check: &Check, name: &str, severity: Severity) -> Vec<Found> {
    let Some(row) = case.server().and_then(|server| server.setting(name)).filter(|row| row.value == "off")
    else {
        return Vec::new();
    };
    let found = check.found(severity, name, format!("{name} is off")).shown_by_all(row.place.clone());
    let set = format!("ALTER SYSTEM SET {name} = on;\nSELECT pg_reload_conf();");
    vec![found.with(case.safe_sql("switch it on", set).afterwards(format!("`SHOW {name}` gives on")))]
}
