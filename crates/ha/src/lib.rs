//! One leader, kept by terms.
