//! What is wrong with a server, up or down, and what mends it.
