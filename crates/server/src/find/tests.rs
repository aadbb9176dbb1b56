//! What can be told of instances without one.

use super::first_socket_directory;
use std::path::PathBuf;

#[test]
fn the_first_socket_directory_is_taken_and_none_means_tcp_only() {
    assert_eq!(first_socket_directory(Some("/a, /b"), false), Some(PathBuf::from("/a")));
    assert_eq!(first_socket_directory(Some("\"/a b\""), false), Some(PathBuf::from("/a b")));
    assert_eq!(first_socket_directory(Some(""), true), None);
    assert_eq!(first_socket_directory(None, true), Some(PathBuf::from("/var/run/postgresql")));
}
