//! All checks, causes before effects: among findings equally bad, the one whose check comes first is shown first.

use super::Check;

/// Every check.
pub fn checks() -> impl Iterator<Item = &'static Check> {
    ALL.iter()
}

static ALL: [Check; 104] = [
    super::settings_broken::CHECK,
    super::library_missing::CHECK,
    super::directory_mode::CHECK,
    super::control_file_missing::CHECK,
    super::version_mismatch::CHECK,
    super::restore_command_missing::CHECK,
    super::recovery_target_missed::CHECK,
    super::standby_settings::CHECK,
    super::wal_missing::CHECK,
    super::directory_missing::CHECK,
    super::huge_pages_missing::CHECK,
    super::shared_memory_ids::CHECK,
    super::postmaster_zombie::CHECK,
    super::memory_too_large::CHECK,
    super::port_taken::CHECK,
    super::socket_directory_missing::CHECK,
    super::tls_key_mode::CHECK,
    super::repository_unreadable::CHECK,
    super::slot_inactive::CHECK,
    super::archive_command_empty::CHECK,
    super::archiver_failing::CHECK,
    super::archiver_behind::CHECK,
    super::wal_bound_too_large::CHECK,
    super::disk_read_only::CHECK,
    super::disk_space::CHECK,
    super::inodes::CHECK,
    super::temp_file_limit::CHECK,
    super::temporary_files::CHECK,
    super::backend_killed::CHECK,
    super::out_of_memory::CHECK,
    super::server_starting::CHECK,
    super::server_hung::CHECK,
    super::port_wrong::CHECK,
    super::server_down::CHECK,
    super::address_not_listened::CHECK,
    super::hba_broken::CHECK,
    super::hba_no_line::CHECK,
    super::hba_rejects::CHECK,
    super::peer_mismatch::CHECK,
    super::role_missing::CHECK,
    super::role_nologin::CHECK,
    super::password_wrong::CHECK,
    super::database_missing::CHECK,
    super::database_closed::CHECK,
    super::connection_limit::CHECK,
    super::slots_used::CHECK,
    super::tls_off::CHECK,
    super::tls_certificate::CHECK,
    super::connection_failed::CHECK,
    super::cluster_store_down::CHECK,
    super::cluster_without_primary::CHECK,
    super::cluster_member_silent::CHECK,
    super::cluster_paused::CHECK,
    super::sync_standby_missing::CHECK,
    super::prepared_old::CHECK,
    super::idle_in_transaction::CHECK,
    super::lock_tree::CHECK,
    super::lock_table_full::CHECK,
    super::deadlocks::CHECK,
    super::long_transaction::CHECK,
    super::connections_near::CHECK,
    super::slot_lost::CHECK,
    super::twin_primary::CHECK,
    super::replay_paused::CHECK,
    super::receiver_down::CHECK,
    super::standby_lag::CHECK,
    super::standby_conflicts::CHECK,
    super::replica_identity_missing::CHECK,
    super::subscription_stopped::CHECK,
    super::xmin_holder::CHECK,
    super::autovacuum_off::CHECK,
    super::xid_age::CHECK,
    super::mxid_age::CHECK,
    super::multixact_members::CHECK,
    super::table_autovacuum_off::CHECK,
    super::autovacuum_cancelled::CHECK,
    super::dead_tuples::CHECK,
    super::table_bloat::CHECK,
    super::never_analysed::CHECK,
    super::fsync_off::CHECK,
    super::full_page_writes_off::CHECK,
    super::triggers_bypassed::CHECK,
    super::damage_hidden::CHECK,
    super::data_damaged::CHECK,
    super::checksum_failures::CHECK,
    super::checksums_off::CHECK,
    super::collation_drift::CHECK,
    super::settings_refused::CHECK,
    super::restart_pending::CHECK,
    super::read_only_default::CHECK,
    super::checkpoints_frequent::CHECK,
    super::hba_trust::CHECK,
    super::password_md5::CHECK,
    super::index_invalid::CHECK,
    super::database_invalid::CHECK,
    super::matview_unpopulated::CHECK,
    super::sequence_end::CHECK,
    super::constraint_unchecked::CHECK,
    super::foreign_key_narrower::CHECK,
    super::triggers_disabled::CHECK,
    super::public_create::CHECK,
    super::agent_down::CHECK,
    super::ledger_flawed::CHECK,
    super::objective_broken::CHECK,
];

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn codes_are_unique_and_every_check_explains_itself() {
        let codes: BTreeSet<&str> = checks().map(|check| check.code).collect();
        assert_eq!(codes.len(), ALL.len());
        for check in checks() {
            assert!(check.why.len() > 10 && check.mends.ends_with('.'), "{}", check.code);
        }
    }
}
