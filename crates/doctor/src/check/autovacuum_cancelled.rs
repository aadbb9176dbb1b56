//! `autovacuum-cancelled`: autovacuum is cancelled again and again.

use super::{Area, Case, Check, Found};
use crate::limits::{Limit, Unit};
use pgproof_base::Remedy;

pub(super) const CHECK: Check = Check {
    code: "autovacuum-cancelled",
    area: Area::Vacuum,
    title: "Autovacuum is cancelled again and again",
    why: "It yields to whoever wants a lock on its table, and begins from the start: the table is never vacuumed.",
    mends: "Find who takes locks on the table (DDL, LOCK, TRUNCATE in a loop), and let it come less often; vacuum by hand meanwhile, which does not yield.",
    limit: Some(Limit { unit: Unit::Count, warning: 3.0, critical: 60.0 }),
    judge,
};

fn judge(case: &Case<'_>) -> Vec<Found> {
    let all: Vec<_> = case.logged_all(&["canceling autovacuum task"]).collect();
    let (Some(newest), Some(severity)) = (all.first(), case.level(&CHECK, all.len() as f64)) else {
        return Vec::new();
    };
    let seen = format!("autovacuum was cancelled {} times within the last hour", all.len());
    let table = newest.context.as_deref().and_then(table);
    let subject = table.map_or_else(String::new, |(_, name)| name.to_owned());
    let found = CHECK
        .found(severity, subject, seen)
        .shown_by(case.quote(newest))
        .shown_by_all(newest.context.clone());
    let Some((database, name)) = table else { return vec![found] };
    let by_hand = Remedy::safe("vacuum it by hand, which does not yield", format!("VACUUM (ANALYZE) {name}"));
    vec![found.with(by_hand.in_database(database))]
}

/// `automatic vacuum of table "shop.public.orders"` (`src/backend/postmaster/autovacuum.c`), where no name has a dot.
fn table(context: &str) -> Option<(&str, &str)> {
    let (_, rest) = context.split_once(" of table \"")?;
    let whole = rest.split('"').next()?;
    let (database, name) = whole.split_once('.')?;
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_' || c == '.';
    (name.matches('.').count() == 1 && name.chars().all(plain)).then_some((database, name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_read_from_the_context() {
        let context = "automatic vacuum of table \"shop.public.orders\"";
        assert_eq!(table(context), Some(("shop", "public.orders")));
        assert_eq!(table("automatic vacuum of table \"shop.public.a.b\""), None);
        assert_eq!(table("while scanning"), None);
    }
}
