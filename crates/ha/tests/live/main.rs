//! What is promised of stores and servers, tried on real ones.

mod store;
