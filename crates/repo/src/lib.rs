//! The repository: packs, manifests, WAL objects, sealing, leases, retention, verification.
