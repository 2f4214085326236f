//! What the functions and views that PostgreSQL itself brings may do.
//!
//! The reviewed lists. By default a function that the node's catalog calls immutable or stable is a
//! read, and a volatile one is not proven; the lists here are the exceptions in both directions.
//! Invariant: nothing that leaves state in its process is on a list of what is allowed.

use manifold_core::proof::Reason;

use super::findings::Effect;

/// What a function of pg_catalog does, if it is on a list.
pub(super) fn function(name: &str) -> Option<Result<Effect, Reason>> {
    if let Some(reason) = denied(name) {
        return Some(Err(reason));
    }
    let lists = [
        (READING, Effect::Read),
        (WAITING, Effect::Wait),
        (WRITING, Effect::Write),
    ];
    lists
        .iter()
        .find(|(names, _)| names.contains(&name))
        .map(|(_, effect)| Ok(*effect))
}

/// Functions whose arguments decide, so that a call of unknown arguments is not proven.
pub(super) fn depends_on_arguments(name: &str) -> bool {
    ["current_schemas", "current_setting", "set_config"].contains(&name)
}

/// Why a relation of pg_catalog or information_schema may not be read, if so.
pub(super) fn relation(name: &str) -> Result<(), Reason> {
    match name {
        "pg_prepared_statements" => Err(Reason::Prepare),
        "pg_cursors" => Err(Reason::HoldCursor),
        // It would show the neighbours' application_name, and where each value comes from.
        "pg_settings" | "pg_backend_memory_contexts" => Err(Reason::SessionState),
        _ if name.starts_with("pg_stat_xact_") => Err(Reason::SessionState),
        _ => Ok(()),
    }
}

fn denied(name: &str) -> Option<Reason> {
    let exact = DENIED
        .iter()
        .find(|(names, _)| names.contains(&name))
        .map(|(_, reason)| *reason);
    exact.or_else(|| {
        DENIED_PREFIXES
            .iter()
            .find(|(prefix, _)| name.starts_with(prefix))
            .map(|(_, reason)| *reason)
    })
}

/// Volatile, but they only read. Names of the node's connection (inet_client_addr and its like,
/// which are stable) are reads too: behind a proxy they name the proxy whatever one does.
const READING: &[&str] = &[
    "array_sample",
    "array_shuffle",
    "bernoulli",
    "clock_timestamp",
    "current_query",
    "current_schemas",
    "current_setting",
    "gen_random_uuid",
    "pg_blocking_pids",
    "pg_collation_actual_version",
    "pg_control_checkpoint",
    "pg_control_init",
    "pg_control_recovery",
    "pg_control_system",
    "pg_current_logfile",
    "pg_current_wal_flush_lsn",
    "pg_current_wal_insert_lsn",
    "pg_current_wal_lsn",
    "pg_database_collation_actual_version",
    "pg_database_size",
    "pg_get_multixact_members",
    "pg_get_wal_replay_pause_state",
    "pg_get_wal_resource_managers",
    "pg_hba_file_rules",
    "pg_indexes_size",
    "pg_is_in_recovery",
    "pg_is_wal_replay_paused",
    "pg_isolation_test_session_is_blocked",
    "pg_jit_available",
    "pg_last_committed_xact",
    "pg_last_wal_receive_lsn",
    "pg_last_wal_replay_lsn",
    "pg_last_xact_replay_timestamp",
    "pg_lock_status",
    "pg_notification_queue_usage",
    "pg_partition_ancestors",
    "pg_partition_tree",
    "pg_prepared_xact",
    "pg_relation_size",
    "pg_safe_snapshot_blocking_pids",
    "pg_sequence_last_value",
    "pg_stat_have_stats",
    "pg_table_size",
    "pg_tablespace_size",
    "pg_timezone_names",
    "pg_total_relation_size",
    "pg_xact_commit_timestamp",
    "pg_xact_commit_timestamp_origin",
    "pg_xact_status",
    "random",
    "random_normal",
    "set_config",
    "suppress_redundant_updates_trigger",
    "system",
    "timeofday",
    "tsvector_update_trigger",
    "tsvector_update_trigger_column",
    "txid_status",
    "uuidv4",
    "uuidv7",
];

const WAITING: &[&str] = &[
    "pg_advisory_xact_lock",
    "pg_advisory_xact_lock_shared",
    "pg_sleep",
    "pg_sleep_for",
    "pg_sleep_until",
    "pg_try_advisory_xact_lock",
    "pg_try_advisory_xact_lock_shared",
];

/// nextval leaves behind what currval reads, but that alone is no reason to keep an upstream.
/// txid_current and pg_current_xact_id are stable by the catalog, and take a transaction id.
const WRITING: &[&str] = &[
    "brin_desummarize_range",
    "brin_summarize_new_values",
    "brin_summarize_range",
    "gin_clean_pending_list",
    "nextval",
    "pg_create_restore_point",
    "pg_current_xact_id",
    "pg_logical_emit_message",
    "pg_notify",
    "pg_reload_conf",
    "pg_rotate_logfile",
    "pg_switch_wal",
    "setval",
    "txid_current",
];

/// Denied whatever the catalog says of their volatility.
const DENIED: &[(&[&str], Reason)] = &[
    (
        &[
            "pg_advisory_lock",
            "pg_advisory_lock_shared",
            "pg_advisory_unlock",
            "pg_advisory_unlock_all",
            "pg_advisory_unlock_shared",
            "pg_try_advisory_lock",
            "pg_try_advisory_lock_shared",
        ],
        Reason::AdvisoryLock,
    ),
    (&["currval", "lastval"], Reason::Sequence),
    (&["pg_listening_channels"], Reason::Listen),
    (&["pg_prepared_statement"], Reason::Prepare),
    (&["pg_cursor"], Reason::HoldCursor),
    (&["pg_my_temp_schema"], Reason::Temporary),
    (&["ts_rewrite", "ts_stat"], Reason::Object),
    (
        &[
            "fmgr_c_validator",
            "fmgr_internal_validator",
            "fmgr_sql_validator",
            "loread",
            "lowrite",
            "pg_backend_pid",
            "pg_cancel_backend",
            "pg_export_snapshot",
            "pg_get_backend_memory_contexts",
            "pg_log_backend_memory_contexts",
            "pg_show_all_settings",
            "pg_stat_clear_snapshot",
            "pg_stat_force_next_flush",
            "pg_terminate_backend",
        ],
        Reason::SessionState,
    ),
    (&["setseed"], Reason::Process),
];

/// The xml functions of this form run queries that no text shows.
const DENIED_PREFIXES: &[(&str, Reason)] = &[
    ("cursor_to_xml", Reason::Object),
    ("database_to_xml", Reason::Object),
    ("query_to_xml", Reason::Object),
    ("schema_to_xml", Reason::Object),
    ("table_to_xml", Reason::Object),
    ("dblink", Reason::Process),
    ("lo_", Reason::SessionState),
    ("pg_replication_origin_session", Reason::Process),
    ("pg_replication_origin_xact", Reason::Process),
    ("pg_stat_get_xact_", Reason::SessionState),
    ("pg_stat_reset", Reason::SessionState),
];

/// What a function of a reviewed C library does: by library, C symbol, and whether the catalog says
/// that it is volatile.
pub(super) fn library(library: &str, symbol: &str, is_volatile: bool) -> Result<Effect, Reason> {
    let name = library.strip_prefix("$libdir/").ok_or(Reason::Object)?;
    let (_, denied, volatile) = LIBRARIES
        .iter()
        .find(|(reviewed, _, _)| *reviewed == name)
        .ok_or(Reason::Object)?;
    if denied.contains(&symbol) {
        return Err(Reason::Process);
    }
    if is_volatile && !volatile.contains(&symbol) {
        return Err(Reason::Object);
    }
    Ok(Effect::Read)
}

/// Library, symbols that leave state in their process, volatile symbols that are reads.
type Library = (
    &'static str,
    &'static [&'static str],
    &'static [&'static str],
);

const LIBRARIES: &[Library] = &[
    ("_int", &[], &[]),
    ("btree_gin", &[], &[]),
    ("btree_gist", &[], &[]),
    ("citext", &[], &[]),
    ("cube", &[], &[]),
    ("earthdistance", &[], &[]),
    ("fuzzystrmatch", &[], &[]),
    ("hstore", &[], &[]),
    ("ltree", &[], &[]),
    ("moddatetime", &[], &["moddatetime"]),
    ("pg_trgm", &["set_limit"], &[]),
    (
        "pgcrypto",
        &[],
        &[
            "pg_gen_salt",
            "pg_gen_salt_rounds",
            "pg_random_bytes",
            "pg_random_uuid",
        ],
    ),
    ("postgis-3", &[], &[]),
    ("seg", &[], &[]),
    ("unaccent", &[], &[]),
    (
        "uuid-ossp",
        &[],
        &["uuid_generate_v1", "uuid_generate_v1mc", "uuid_generate_v4"],
    ),
    ("vector", &[], &[]),
];
