//! The SQL that makes the heartbeat's table and role: shown before it is run, and documented in docs/manual/heartbeat.md.

/// The role that beats. It may read and update one row, and nothing else.
pub const ROLE: &str = "pgproof_heartbeat";

/// Statements that make schema, table, row and role where they are missing; run twice they change nothing.
///
/// The table can hold one row only, so that it cannot grow. The low fillfactor leaves room in the page for the versions of the row that
/// transactions may still see: every update is a HOT update, which writes no index entry and is cleared away without vacuum. The role cannot
/// log in by itself: it is granted to whoever beats, who then acts with its rights alone.
#[must_use]
pub fn creation() -> String {
    format!(
        "BEGIN;\n\
         CREATE SCHEMA IF NOT EXISTS pgproof;\n\
         CREATE TABLE IF NOT EXISTS pgproof.heartbeat (\n    \
             id boolean PRIMARY KEY DEFAULT true CHECK (id),\n    \
             beat timestamptz NOT NULL,\n    \
             beats bigint NOT NULL\n\
         ) WITH (fillfactor = 10);\n\
         INSERT INTO pgproof.heartbeat (beat, beats) VALUES (clock_timestamp(), 0) ON CONFLICT DO NOTHING;\n\
         DO $$ BEGIN\n    \
             IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = '{ROLE}') THEN CREATE ROLE {ROLE} NOLOGIN; END IF;\n\
         END $$;\n\
         GRANT USAGE ON SCHEMA pgproof TO {ROLE};\n\
         GRANT SELECT, UPDATE (beat, beats) ON pgproof.heartbeat TO {ROLE};\n\
         COMMIT;\n"
    )
}
