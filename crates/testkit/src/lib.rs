//! Tests only: real servers of every version, object stores and faults.
