//! A live PostgreSQL: find it, connect to it, start and stop it, observe it.
