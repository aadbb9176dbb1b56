//! PostgreSQL's words: positions, files, pages, WAL records, control file. No I/O.
