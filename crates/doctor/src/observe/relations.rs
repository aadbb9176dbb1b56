//! What one database shows: old, dead and never analysed tables, broken indexes, sequences near their end.
//!
//! Only catalogs and statistics are read, never a relation, and never its size on disk, which would need a lock on it. Sequences that
//! somebody holds exclusively are left out for the same reason.

use super::Looked;
use super::catalog::{ask, rows};
use pgproof_server::Session;
use serde::{Deserialize, Serialize};

rows! {
    /// A table that holds back freezing.
    OldRelation {
        /// Its name, quoted where it must be.
        name: String,
        /// Age of its oldest unfrozen transaction.
        xid_age: i64,
        /// The same for multixacts.
        mxid_age: i64,
        /// Its size, as the catalog last knew it.
        pages: i64,
    }
    /// A table with its statistics.
    TableRow {
        /// Its name.
        name: String,
        /// Rows, by the statistics.
        live: i64,
        /// Dead ones.
        dead: i64,
        /// Of which autovacuum would begin.
        trigger: f64,
        /// Whether autovacuum is switched off for it.
        autovacuum_off: bool,
        /// Whether statistics were ever gathered.
        analysed: bool,
        /// Its size, as the catalog last knew it.
        pages: i64,
        /// Rows changed since statistics were gathered.
        changed: i64,
    }
    /// An index that does not work.
    IndexRow {
        /// Its name.
        name: String,
        /// Its number.
        oid: i64,
        /// Its table.
        table: String,
        /// Whether its table's rows must be unique in it.
        is_unique: bool,
        /// Whether somebody holds a lock on it.
        locked: bool,
    }
    /// A sequence that comes near its end.
    SequenceRow {
        /// Its name.
        name: String,
        /// Where it is.
        last: i64,
        /// Where it, or the column that it feeds, ends.
        limit: i64,
        /// The column that it feeds.
        column_name: Option<String>,
        /// Table of that column.
        table: Option<String>,
        /// Type of that column.
        column_type: Option<String>,
        /// Whether it begins anew at its end.
        cycles: bool,
    }
    /// A constraint that old rows may break.
    ConstraintRow {
        /// Its name.
        name: String,
        /// Its table.
        table: String,
    }
    /// A disabled trigger.
    TriggerRow {
        /// Its table.
        table: String,
        /// How many of them.
        count: i64,
        /// Whether foreign keys are among them.
        foreign_keys: bool,
    }
    /// A published table whose rows cannot be identified.
    PublishedRow {
        /// Its name.
        name: String,
    }
    /// A foreign key from a narrower column.
    ForeignKeyRow {
        /// Its name.
        name: String,
        /// Its table.
        table: String,
        /// Its column.
        column_name: String,
        /// Type of that.
        column_type: String,
        /// What it refers to.
        referenced: String,
        /// Type of that.
        referenced_type: String,
    }
    /// An integer key that no sequence of its own feeds.
    KeyRow {
        /// Its table.
        table: String,
        /// Its column.
        column_name: String,
        /// The largest value, by the statistics.
        largest: i64,
        /// Where the type ends.
        limit: i64,
    }
    /// A table that is larger than its rows.
    BloatRow {
        /// Its name.
        name: String,
        /// Its size, as the catalog last knew it.
        pages: i64,
        /// What its rows need, by their statistics.
        needed_pages: i64,
    }
    /// Something of which only the name matters.
    NameRow {
        /// Quoted where it must be.
        name: String,
    }
    /// A subscription.
    SubscriptionRow {
        /// Its name.
        name: String,
        /// Whether it is enabled.
        enabled: bool,
        /// Whether a worker applies.
        works: bool,
        /// Errors of applying (15 and later).
        errors: Option<i64>,
    }
}

/// One database.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct DatabaseSeen {
    /// Its name.
    pub name: String,
    /// Why nothing of it was seen.
    pub unseen: Option<String>,
    /// The oldest tables.
    pub oldest: Looked<Vec<OldRelation>>,
    /// Tables about which something may be said.
    pub tables: Looked<Vec<TableRow>>,
    /// Indexes that are not valid.
    pub invalid_indexes: Looked<Vec<IndexRow>>,
    /// Sequences beyond half of their range.
    pub sequences: Looked<Vec<SequenceRow>>,
    /// Constraints that are not validated.
    pub constraints: Looked<Vec<ConstraintRow>>,
    /// Disabled triggers.
    pub triggers: Looked<Vec<TriggerRow>>,
    /// Published tables without a replica identity.
    pub published: Looked<Vec<PublishedRow>>,
    /// Foreign keys from narrower columns.
    pub narrow_keys: Looked<Vec<ForeignKeyRow>>,
    /// Integer keys beyond half of their type.
    pub integer_keys: Looked<Vec<KeyRow>>,
    /// Tables larger than their rows.
    pub bloat: Looked<Vec<BloatRow>>,
    /// Indexes larger than their entries.
    pub index_bloat: Looked<Vec<BloatRow>>,
    /// Materialized views that hold nothing.
    pub empty_views: Looked<Vec<NameRow>>,
    /// Tables without a primary key.
    pub without_key: Looked<Vec<NameRow>>,
    /// Schemas in which everybody may create.
    pub public_schemas: Looked<Vec<NameRow>>,
    /// Subscriptions.
    pub subscriptions: Looked<Vec<SubscriptionRow>>,
}

impl DatabaseSeen {
    pub(super) fn unseen(name: &str, why: &str) -> Self {
        Self { name: name.to_owned(), unseen: Some(why.to_owned()), ..Self::default() }
    }

    /// Each question whose answer is hidden, with the reason.
    #[must_use]
    pub fn hidden(&self) -> Vec<(&'static str, &str)> {
        let all = [
            ("everything in it", self.unseen.as_deref()),
            ("ages of its tables", self.oldest.why()),
            ("statistics of its tables", self.tables.why()),
            ("its indexes", self.invalid_indexes.why()),
            ("its sequences", self.sequences.why()),
            ("its constraints", self.constraints.why()),
            ("its triggers", self.triggers.why()),
            ("its publications", self.published.why()),
            ("its foreign keys", self.narrow_keys.why()),
            ("values of its keys", self.integer_keys.why()),
            ("the size of its tables", self.bloat.why()),
            ("the size of its indexes", self.index_bloat.why()),
            ("its materialized views", self.empty_views.why()),
            ("its keys", self.without_key.why()),
            ("its schemas", self.public_schemas.why()),
            ("its subscriptions", self.subscriptions.why()),
        ];
        all.into_iter().filter_map(|(what, why)| Some((what, why?))).collect()
    }
}

pub(super) fn look(session: &mut Session, name: &str, version: u32) -> DatabaseSeen {
    DatabaseSeen {
        name: name.to_owned(),
        unseen: None,
        oldest: ask(session, OLDEST),
        tables: ask(session, TABLES),
        invalid_indexes: ask(session, INVALID),
        sequences: ask(session, SEQUENCES),
        constraints: ask(session, CONSTRAINTS),
        triggers: ask(session, TRIGGERS),
        published: ask(session, &published(version)),
        narrow_keys: ask(session, NARROW_KEYS),
        integer_keys: ask(session, INTEGER_KEYS),
        bloat: ask(session, BLOAT),
        index_bloat: ask(session, INDEX_BLOAT),
        empty_views: ask(session, EMPTY_VIEWS),
        without_key: ask(session, WITHOUT_KEY),
        public_schemas: ask(session, PUBLIC_SCHEMAS),
        subscriptions: ask(session, if version >= 150_000 { SUBSCRIPTIONS_15 } else { SUBSCRIPTIONS }),
    }
}

const OLDEST: &str = "SELECT format('%I.%I', n.nspname, c.relname) AS name, age(c.relfrozenxid) AS xid_age, \
    mxid_age(c.relminmxid) AS mxid_age, c.relpages AS pages FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
    WHERE c.relkind IN ('r', 'm', 't') AND c.relfrozenxid <> '0' ORDER BY age(c.relfrozenxid) DESC, c.oid LIMIT 5";

/// The trigger is the server's own formula (`relation_needs_vacanalyze` in `src/backend/postmaster/autovacuum.c`), with the table's own
/// settings first.
const TABLES: &str = "SELECT * FROM (SELECT format('%I.%I', s.schemaname, s.relname) AS name, s.n_live_tup AS live, s.n_dead_tup AS dead, \
    coalesce(o.threshold, current_setting('autovacuum_vacuum_threshold')::float8) \
    + coalesce(o.scale, current_setting('autovacuum_vacuum_scale_factor')::float8) * greatest(c.reltuples, 0) AS \"trigger\", \
    coalesce(o.off, false) AS autovacuum_off, \
    c.reltuples >= 0 OR s.last_analyze IS NOT NULL OR s.last_autoanalyze IS NOT NULL AS analysed, c.relpages AS pages, \
    s.n_mod_since_analyze AS changed FROM pg_stat_user_tables s JOIN pg_class c ON c.oid = s.relid \
    LEFT JOIN LATERAL (SELECT max(option_value) FILTER (WHERE option_name = 'autovacuum_vacuum_threshold')::float8 AS threshold, \
    max(option_value) FILTER (WHERE option_name = 'autovacuum_vacuum_scale_factor')::float8 AS scale, \
    bool_or(option_name = 'autovacuum_enabled' AND option_value IN ('false', 'off', 'no', '0', 'f')) AS off \
    FROM pg_options_to_table(c.reloptions)) o ON c.reloptions IS NOT NULL) t \
    WHERE dead > \"trigger\" OR autovacuum_off OR (NOT analysed AND changed > 0) ORDER BY dead DESC, name LIMIT 100";

const INVALID: &str = "SELECT format('%I.%I', n.nspname, c.relname) AS name, i.indexrelid::bigint AS oid, \
    i.indisunique AS is_unique, format('%I.%I', tn.nspname, t.relname) AS \"table\", \
    EXISTS (SELECT FROM pg_locks l WHERE l.relation IN (i.indexrelid, i.indrelid) AND l.granted \
    AND l.mode IN ('ShareUpdateExclusiveLock', 'ShareLock', 'AccessExclusiveLock', 'ShareRowExclusiveLock') \
    AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())) AS locked \
    FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_namespace n ON n.oid = c.relnamespace \
    JOIN pg_class t ON t.oid = i.indrelid JOIN pg_namespace tn ON tn.oid = t.relnamespace \
    WHERE NOT i.indisvalid AND c.relkind = 'i' ORDER BY 1 LIMIT 50";

const SEQUENCES: &str = "SELECT * FROM (SELECT format('%I.%I', n.nspname, c.relname) AS name, \
    CASE WHEN has_sequence_privilege(c.oid, 'SELECT,USAGE') THEN pg_sequence_last_value(c.oid) END AS last, \
    least(s.seqmax, CASE a.atttypid WHEN 'int2'::regtype THEN 32767 WHEN 'int4'::regtype THEN 2147483647 ELSE s.seqmax END) AS \"limit\", \
    a.attname::text AS column_name, format('%I.%I', tn.nspname, t.relname) AS \"table\", a.atttypid::regtype::text AS column_type, \
    s.seqcycle AS cycles FROM pg_sequence s JOIN pg_class c ON c.oid = s.seqrelid JOIN pg_namespace n ON n.oid = c.relnamespace \
    LEFT JOIN pg_depend d ON d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype IN ('a', 'i') AND d.refobjsubid > 0 \
    LEFT JOIN pg_class t ON t.oid = d.refobjid LEFT JOIN pg_namespace tn ON tn.oid = t.relnamespace \
    LEFT JOIN pg_attribute a ON a.attrelid = d.refobjid AND a.attnum = d.refobjsubid \
    WHERE s.seqincrement > 0 AND c.relpersistence = 'p' AND NOT EXISTS (SELECT FROM pg_locks l WHERE l.relation = c.oid \
    AND l.mode IN ('AccessExclusiveLock', 'ExclusiveLock', 'ShareRowExclusiveLock', 'ShareLock')) LIMIT 5000) q \
    WHERE last::float8 >= 0.5 * \"limit\" ORDER BY last::float8 / \"limit\" DESC LIMIT 50";

const CONSTRAINTS: &str = "SELECT quote_ident(c.conname) AS name, format('%I.%I', n.nspname, t.relname) AS \"table\" \
    FROM pg_constraint c JOIN pg_class t ON t.oid = c.conrelid JOIN pg_namespace n ON n.oid = t.relnamespace \
    WHERE NOT c.convalidated AND c.contype IN ('c', 'f') AND n.nspname NOT IN ('pg_catalog', 'information_schema') ORDER BY 2, 1 LIMIT 50";

const TRIGGERS: &str = "SELECT format('%I.%I', n.nspname, c.relname) AS \"table\", count(*) AS count, \
    bool_or(t.tgisinternal) AS foreign_keys FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid \
    JOIN pg_namespace n ON n.oid = c.relnamespace WHERE t.tgenabled = 'D' GROUP BY 1 ORDER BY 1 LIMIT 50";

/// From the catalogs, not from `pg_publication_tables`, which locks each table.
fn published(version: u32) -> String {
    let by_schema = match version >= 150_000 {
        true => {
            "OR EXISTS (SELECT FROM pg_publication_namespace s WHERE s.pnpubid = u.oid AND s.pnnspid = c.relnamespace)"
        }
        false => "",
    };
    format!(
        "SELECT format('%I.%I', n.nspname, c.relname) AS name FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
         WHERE c.relkind = 'r' AND c.relpersistence = 'p' AND n.nspname NOT IN ('pg_catalog', 'information_schema') \
         AND (c.relreplident = 'n' \
         OR c.relreplident = 'd' AND NOT EXISTS (SELECT FROM pg_index i WHERE i.indrelid = c.oid AND i.indisprimary AND i.indisvalid) \
         OR c.relreplident = 'i' AND NOT EXISTS (SELECT FROM pg_index i WHERE i.indrelid = c.oid AND i.indisreplident)) \
         AND EXISTS (SELECT FROM pg_publication u WHERE (u.pubupdate OR u.pubdelete) AND (u.puballtables \
         OR EXISTS (SELECT FROM pg_publication_rel r WHERE r.prpubid = u.oid AND r.prrelid = c.oid) {by_schema})) ORDER BY 1 LIMIT 50"
    )
}

const NARROW_KEYS: &str = "SELECT quote_ident(k.conname) AS name, format('%I.%I', n.nspname, t.relname) AS \"table\", \
    a.attname::text AS column_name, a.atttypid::regtype::text AS column_type, \
    format('%I.%I', rn.nspname, r.relname) AS referenced, b.atttypid::regtype::text AS referenced_type \
    FROM pg_constraint k JOIN LATERAL unnest(k.conkey, k.confkey) AS u(own, other) ON true \
    JOIN pg_attribute a ON a.attrelid = k.conrelid AND a.attnum = u.own JOIN pg_attribute b ON b.attrelid = k.confrelid AND b.attnum = u.other \
    JOIN pg_class t ON t.oid = k.conrelid JOIN pg_namespace n ON n.oid = t.relnamespace \
    JOIN pg_class r ON r.oid = k.confrelid JOIN pg_namespace rn ON rn.oid = r.relnamespace \
    WHERE k.contype = 'f' AND k.conparentid = 0 AND (a.atttypid = 'int2'::regtype AND b.atttypid IN ('int4'::regtype, 'int8'::regtype) \
    OR a.atttypid = 'int4'::regtype AND b.atttypid = 'int8'::regtype) ORDER BY 2, 1 LIMIT 50";

/// The first columns of unique indexes, by the end of their histogram; few distinct values have none, and are no key that grows.
const INTEGER_KEYS: &str = "SELECT * FROM (SELECT DISTINCT format('%I.%I', n.nspname, t.relname) AS \"table\", a.attname::text AS column_name, \
    (SELECT max(v) FROM unnest(p.histogram_bounds::text::int8[]) v) AS largest, \
    CASE a.atttypid WHEN 'int2'::regtype THEN 32767 ELSE 2147483647 END AS \"limit\" \
    FROM pg_index i JOIN pg_class t ON t.oid = i.indrelid JOIN pg_namespace n ON n.oid = t.relnamespace \
    JOIN pg_attribute a ON a.attrelid = t.oid AND a.attnum = i.indkey[0] AND a.atttypid IN ('int2'::regtype, 'int4'::regtype) \
    JOIN pg_stats p ON p.schemaname = n.nspname AND p.tablename = t.relname AND p.attname = a.attname AND NOT p.inherited \
    WHERE i.indisunique AND t.relkind = 'r' AND n.nspname NOT IN ('pg_catalog', 'information_schema') AND p.histogram_bounds IS NOT NULL \
    AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.refobjid = t.oid AND d.refobjsubid = a.attnum \
    AND d.deptype IN ('a', 'i') AND d.objid IN (SELECT seqrelid FROM pg_sequence))) q \
    WHERE largest >= 0.5 * \"limit\" ORDER BY largest::float8 / \"limit\" DESC, 1, 2 LIMIT 50";

/// Rows by their average width, a header of 24 bytes and a line pointer each, aligned to 8, in pages filled as the table asks for;
/// only where the statistics are of now, and the table is larger than 1 MB and twice its rows.
const BLOAT: &str = "SELECT * FROM (SELECT format('%I.%I', n.nspname, c.relname) AS name, c.relpages::bigint AS pages, \
    ceil(c.reltuples::float8 * (28 + 8 * ceil(w.width / 8.0)) / (8168 * coalesce((SELECT option_value::float8 / 100 \
    FROM pg_options_to_table(c.reloptions) WHERE option_name = 'fillfactor'), 1)))::bigint AS needed_pages \
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace JOIN pg_stat_user_tables s ON s.relid = c.oid \
    JOIN LATERAL (SELECT sum((1 - p.null_frac) * p.avg_width)::float8 AS width, count(*) AS known FROM pg_stats p \
    WHERE p.schemaname = n.nspname AND p.tablename = c.relname AND NOT p.inherited) w \
    ON w.known = (SELECT count(*) FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped) \
    WHERE c.relkind IN ('r', 'm') AND c.relpages >= 128 AND c.reltuples > 0 \
    AND s.n_mod_since_analyze < 0.2 * c.reltuples ORDER BY c.relpages DESC LIMIT 500) q \
    WHERE pages > 2 * needed_pages ORDER BY pages - needed_pages DESC, name LIMIT 20";

/// Entries by the average width of their columns, a header of 8 bytes and a line pointer each, aligned to 8, in pages filled to the 90 %
/// that a build leaves. Deduplication makes an index smaller than that, never larger.
const INDEX_BLOAT: &str = "SELECT * FROM (SELECT format('%I.%I', n.nspname, c.relname) AS name, c.relpages::bigint AS pages, \
    ceil(c.reltuples::float8 * (12 + 8 * ceil(w.width / 8.0)) / (8152 * 0.9))::bigint AS needed_pages \
    FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_namespace n ON n.oid = c.relnamespace \
    JOIN pg_am m ON m.oid = c.relam AND m.amname = 'btree' JOIN pg_class t ON t.oid = i.indrelid \
    JOIN pg_namespace tn ON tn.oid = t.relnamespace JOIN pg_stat_user_tables s ON s.relid = t.oid \
    JOIN LATERAL (SELECT sum((1 - p.null_frac) * p.avg_width)::float8 AS width, count(*) AS known FROM pg_attribute a \
    JOIN pg_stats p ON p.schemaname = tn.nspname AND p.tablename = t.relname AND p.attname = a.attname AND NOT p.inherited \
    WHERE a.attrelid = t.oid AND a.attnum = ANY(i.indkey)) w ON w.known = i.indnatts \
    WHERE i.indisvalid AND i.indexprs IS NULL AND c.relkind = 'i' AND c.relpages >= 128 AND c.reltuples > 0 \
    AND s.n_mod_since_analyze < 0.2 * t.reltuples ORDER BY c.relpages DESC LIMIT 500) q \
    WHERE pages > 2 * needed_pages + 8 ORDER BY pages - needed_pages DESC, name LIMIT 20";

const EMPTY_VIEWS: &str = "SELECT format('%I.%I', n.nspname, c.relname) AS name FROM pg_class c \
    JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.relkind = 'm' AND NOT c.relispopulated ORDER BY 1 LIMIT 50";

/// Of those that were ever analysed with a thousand rows: smaller ones are configuration, or a queue.
const WITHOUT_KEY: &str = "SELECT format('%I.%I', n.nspname, c.relname) AS name FROM pg_class c \
    JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.relkind IN ('r', 'p') AND c.relpersistence = 'p' AND NOT c.relispartition \
    AND n.nspname NOT IN ('pg_catalog', 'information_schema') AND c.reltuples >= 1000 \
    AND NOT EXISTS (SELECT FROM pg_index i WHERE i.indrelid = c.oid AND i.indisprimary) ORDER BY c.reltuples DESC, 1 LIMIT 50";

const PUBLIC_SCHEMAS: &str = "SELECT quote_ident(n.nspname) AS name FROM pg_namespace n JOIN LATERAL aclexplode(n.nspacl) a ON true \
    WHERE a.grantee = 0 AND a.privilege_type = 'CREATE' ORDER BY 1 LIMIT 50";

const SUBSCRIPTIONS: &str = "SELECT s.subname::text AS name, s.subenabled AS enabled, \
    EXISTS (SELECT FROM pg_stat_subscription w WHERE w.subid = s.oid AND w.pid IS NOT NULL) AS works, NULL::bigint AS errors \
    FROM (SELECT oid, subname, subenabled FROM pg_subscription \
    WHERE subdbid = (SELECT oid FROM pg_database WHERE datname = current_database())) s";
const SUBSCRIPTIONS_15: &str = "SELECT s.subname::text AS name, s.subenabled AS enabled, \
    EXISTS (SELECT FROM pg_stat_subscription w WHERE w.subid = s.oid AND w.pid IS NOT NULL) AS works, \
    (SELECT apply_error_count FROM pg_stat_subscription_stats e WHERE e.subid = s.oid) AS errors \
    FROM (SELECT oid, subname, subenabled FROM pg_subscription \
    WHERE subdbid = (SELECT oid FROM pg_database WHERE datname = current_database())) s";
