//! Take a consistent copy of a running cluster.
