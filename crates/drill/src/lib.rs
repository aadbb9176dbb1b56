//! Rehearsed recoveries, measured and checked.
