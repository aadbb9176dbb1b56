//! Objects in a place: directory, S3, memory, behind one trait with durable and conditional writes.
