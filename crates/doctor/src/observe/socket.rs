//! What listens on this host: `/proc/net/tcp`, `/proc/net/tcp6`, `/proc/net/unix`.

use super::place::is_loopback;
use serde::{Deserialize, Serialize};
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket};
use std::path::PathBuf;

/// Something listens on an address.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listener {
    /// The address; all zero for every address.
    pub address: IpAddr,
    /// The port.
    pub port: u16,
}

/// Everything that listens.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listening {
    /// On TCP.
    pub tcp: Vec<Listener>,
    /// On sockets of PostgreSQL in the file system.
    pub unix: Vec<PathBuf>,
}

/// The state `TCP_LISTEN` (`include/net/tcp_states.h`).
const LISTEN: &str = "0A";
/// More than any host listens on that doctor can say something useful about.
const LISTENERS_MAX: usize = 500;

pub(super) fn observe() -> Result<Listening, String> {
    let read =
        |file: &str| fs::read_to_string(file).map_err(|error| format!("could not read {file}: {error}"));
    let mut tcp = listeners(&read("/proc/net/tcp")?);
    // A kernel without IPv6 has no such file.
    tcp.extend(listeners(&read("/proc/net/tcp6").unwrap_or_default()));
    tcp.truncate(LISTENERS_MAX);
    Ok(Listening { tcp, unix: sockets(&read("/proc/net/unix")?) })
}

fn listeners(text: &str) -> Vec<Listener> {
    let line = |line: &str| {
        let mut fields = line.split_whitespace();
        let (address, port) = fields.nth(1)?.split_once(':')?;
        (fields.nth(1)? == LISTEN).then_some(())?;
        Some(Listener { address: address_of(address)?, port: u16::from_str_radix(port, 16).ok()? })
    };
    text.lines().skip(1).filter_map(line).collect()
}

/// Addresses stand there as words in the host's byte order.
fn address_of(text: &str) -> Option<IpAddr> {
    let word = |at: usize| u32::from_str_radix(text.get(at..at + 8)?, 16).ok().map(u32::swap_bytes);
    match text.len() {
        8 => Some(IpAddr::V4(Ipv4Addr::from(word(0)?))),
        32 => {
            let mut bits = 0u128;
            for at in [0, 8, 16, 24] {
                bits = bits << 32 | u128::from(word(at)?);
            }
            let address = Ipv6Addr::from(bits);
            Some(address.to_ipv4_mapped().map_or(IpAddr::V6(address), IpAddr::V4))
        }
        _ => None,
    }
}

fn sockets(text: &str) -> Vec<PathBuf> {
    let path = |line: &str| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        // Flags: `__SO_ACCEPTCON`, that is, it listens.
        let listens = *fields.get(3)? == "00010000";
        let path = fields.get(7)?;
        (listens && path.contains("/.s.PGSQL.")).then(|| PathBuf::from(path))
    };
    text.lines().skip(1).filter_map(path).collect()
}

/// Whether a host's name or address is this host.
pub(super) fn is_local(host: &str) -> bool {
    if host.is_empty() || host.starts_with('/') || is_loopback(host) {
        return true;
    }
    // Only an address of one's own can be bound; nothing is sent.
    host.parse::<IpAddr>().is_ok_and(|address| UdpSocket::bind((address, 0)).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listeners_are_read_in_both_families() {
        let text = "  sl  local_address rem_address   st\n   0: 0100007F:1538 00000000:0000 0A 0:0\n   1: 0100007F:1539 0100007F:9 01 0:0\n";
        assert_eq!(listeners(text), [Listener { address: "127.0.0.1".parse().unwrap(), port: 5432 }]);
        let six = "h\n 0: 00000000000000000000000001000000:1538 0:0 0A\n";
        assert_eq!(listeners(six)[0].address, "::1".parse::<IpAddr>().unwrap());
        assert_eq!(address_of("xx"), None);
    }

    #[test]
    fn only_listening_sockets_of_postgresql_count() {
        let text = "Num RefCount Protocol Flags Type St Inode Path\n\
            0: 2 0 00010000 0001 01 1 /run/pg/.s.PGSQL.5432\n\
            0: 3 0 00000000 0001 03 2 /run/pg/.s.PGSQL.5433\n0: 2 0 00010000 0001 01 3 /run/dbus\n";
        assert_eq!(sockets(text), [PathBuf::from("/run/pg/.s.PGSQL.5432")]);
    }

    #[test]
    fn addresses_of_this_host_are_known_from_others() {
        assert!(is_local("127.0.0.1") && is_local("/run/x") && is_local("localhost"));
        assert!(!is_local("192.0.2.1") && !is_local("db.example.com"));
    }
}
