//! What the server of a sandbox is started with. Pure.
//!
//! Its configuration file is made for it: what recovery needs, and of the origin's what plans and results depend on. What could reach
//! out, write elsewhere or wait for others is overruled on the command line, above every file and `ALTER SYSTEM`.

use pgproof_pg::MajorVersion;
use pgproof_repo::BackupSummary;
use pgproof_restore::configuration::minimal_configuration;
use pgproof_restore::settings::{AutoConf, Setting, quote};
use std::fmt::Write;

/// Settings of the origin that a clone keeps: planner, types, locale. Memory and processes are not, because a sandbox is a guest.
const CARRIED: [&str; 42] = [
    "array_nulls",
    "bytea_output",
    "constraint_exclusion",
    "cpu_index_tuple_cost",
    "cpu_operator_cost",
    "cpu_tuple_cost",
    "cursor_tuple_fraction",
    "datestyle",
    "default_statistics_target",
    "default_text_search_config",
    "default_transaction_isolation",
    "effective_cache_size",
    "effective_io_concurrency",
    "enable_hashagg",
    "enable_hashjoin",
    "enable_indexscan",
    "enable_material",
    "enable_memoize",
    "enable_mergejoin",
    "enable_nestloop",
    "enable_partitionwise_aggregate",
    "enable_partitionwise_join",
    "enable_seqscan",
    "extra_float_digits",
    "from_collapse_limit",
    "geqo_threshold",
    "hash_mem_multiplier",
    "intervalstyle",
    "jit",
    "join_collapse_limit",
    "lc_monetary",
    "lc_numeric",
    "lc_time",
    "max_parallel_workers_per_gather",
    "parallel_setup_cost",
    "parallel_tuple_cost",
    "plan_cache_mode",
    "random_page_cost",
    "seq_page_cost",
    "standard_conforming_strings",
    "timezone",
    "work_mem",
];

/// Libraries that a clone may load at start: they watch and advise. Others start workers, which connect, schedule or replicate.
const HARMLESS: [&str; 8] = [
    "auto_explain",
    "passwordcheck",
    "pg_hint_plan",
    "pg_qualstats",
    "pg_stat_kcache",
    "pg_stat_statements",
    "pgaudit",
    "plpgsql_check",
];

/// On the command line of every sandbox.
const ALONE: [(&str, &str); 25] = [
    ("unix_socket_permissions", "0700"),
    ("external_pid_file", ""),
    ("archive_mode", "off"),
    ("primary_conninfo", ""),
    ("primary_slot_name", ""),
    ("max_logical_replication_workers", "0"),
    ("synchronous_standby_names", ""),
    ("session_preload_libraries", ""),
    ("local_preload_libraries", ""),
    ("recovery_end_command", ""),
    ("archive_cleanup_command", ""),
    ("recovery_min_apply_delay", "0"),
    // It would read, and write into the layer, what nobody asked for.
    ("autovacuum", "off"),
    ("ssl", "off"),
    ("logging_collector", "off"),
    ("log_destination", "stderr"),
    ("lc_messages", "C"),
    // What is lost with a sandbox is made again; without it a start need not open every file (`SyncDataDirectory`).
    ("fsync", "off"),
    ("full_page_writes", "off"),
    ("wal_init_zero", "off"),
    ("wal_recycle", "off"),
    ("shared_buffers", "128MB"),
    ("huge_pages", "off"),
    // Recovery then compares nothing with the origin's limits (`CheckRequiredParameterValues`).
    ("hot_standby", "off"),
    ("restart_after_crash", "off"),
];

/// The libraries that the clone loads, and those that it does not.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Preload {
    pub(crate) loaded: Vec<String>,
    pub(crate) left_out: Vec<String>,
}

/// Filters `shared_preload_libraries` by what is harmless and `present`.
pub(crate) fn preload(setting: &str, present: &dyn Fn(&str) -> bool) -> Preload {
    let names = setting.split(',').map(|name| name.trim().trim_matches('"')).filter(|name| !name.is_empty());
    let mut preload = Preload::default();
    for name in names {
        let plain = name.rsplit('/').next().unwrap_or(name).trim_end_matches(".so");
        match HARMLESS.contains(&plain) && present(plain) {
            true => preload.loaded.push(plain.to_owned()),
            false => preload.left_out.push(plain.to_owned()),
        }
    }
    preload
}

/// Everything on the command line but where sockets and files are.
pub(crate) fn forced(
    version: MajorVersion,
    preload: &Preload,
    tcp: Option<u16>,
    recovery: Vec<Setting>,
) -> Vec<(String, String)> {
    let mut settings: Vec<(String, String)> =
        recovery.into_iter().map(|setting| (setting.name, setting.value)).collect();
    settings.extend(ALONE.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
    settings.push(("shared_preload_libraries".to_owned(), preload.loaded.join(",")));
    settings.push(("listen_addresses".to_owned(), if tcp.is_some() { "localhost" } else { "" }.to_owned()));
    if version >= MajorVersion::V15 {
        settings.push(("archive_library".to_owned(), String::new()));
    }
    if version >= MajorVersion::V17 {
        settings.push(("sync_replication_slots".to_owned(), "off".to_owned()));
        settings.push(("summarize_wal".to_owned(), "off".to_owned()));
    }
    settings
}

/// The configuration file: what recovery needs, and what of the origin's is carried over.
pub(crate) fn configuration(summary: &BackupSummary, origin: &[String]) -> String {
    let mut text = minimal_configuration(summary);
    let mut seen = AutoConf::default();
    for file in origin {
        let (conf, _) = AutoConf::parse(file);
        for name in CARRIED {
            if let Some(value) = conf.get(name) {
                seen.set(Setting::new(name, value));
            }
        }
    }
    for name in CARRIED {
        if let Some(value) = seen.get(name) {
            let _ = writeln!(text, "{name} = {}", quote(value));
        }
    }
    text
}

/// Who may connect: whoever enters the socket's directory, and through TCP whoever has a password.
pub(crate) fn host_based_access(tcp: Option<u16>) -> String {
    let mut text = "local all all trust\n".to_owned();
    if tcp.is_some() {
        text.push_str("host all all 127.0.0.1/32 scram-sha-256\nhost all all ::1/128 scram-sha-256\n");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_that_start_workers_or_are_absent_are_left_out() {
        let setting = r#"pg_stat_statements, "pg_cron", $libdir/auto_explain,pgaudit"#;
        let preload = preload(setting, &|name| name != "pgaudit");
        assert_eq!(preload.loaded, ["pg_stat_statements", "auto_explain"]);
        assert_eq!(preload.left_out, ["pg_cron", "pgaudit"]);
    }

    #[test]
    fn what_reaches_out_is_off_on_every_version() {
        for version in MajorVersion::ALL {
            let settings = forced(version, &Preload::default(), None, Vec::new());
            let value = |name: &str| settings.iter().rev().find(|(n, _)| n == name).map(|(_, v)| v.as_str());
            assert_eq!(value("archive_mode"), Some("off"));
            assert_eq!(value("primary_conninfo"), Some(""));
            assert_eq!(value("max_logical_replication_workers"), Some("0"));
            assert_eq!(value("listen_addresses"), Some(""));
            assert_eq!(value("sync_replication_slots"), (version >= MajorVersion::V17).then_some("off"));
        }
    }
}
