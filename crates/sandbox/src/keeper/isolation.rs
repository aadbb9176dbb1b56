//! What keeps a sandbox from the rest of its host: namespaces of its own.
//!
//! As root: a PID and a mount namespace for all of its processes, and for the server network and IPC namespaces too, in which every file
//! system but the sandbox's own is read-only. A replayed CREATE TABLESPACE would otherwise remove what lies at the origin's place
//! (`create_tablespace_directories` in `src/backend/commands/tablespace.c` does so in recovery).

use crate::place::Place;
use crate::spec::Spec;
use crate::{Error, Result};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use pgproof_server::Owner;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketType, recv, send, socket};
use std::fs::{self, File, OpenOptions};
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// How much of it there is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Level {
    /// Namespaces made by root.
    Namespaces,
    /// None: an ordinary account's.
    None,
}

impl Level {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Namespaces => "namespaces",
            Self::None => "none",
        }
    }

    pub(crate) fn named(name: &str) -> Self {
        if name == Self::Namespaces.name() { Self::Namespaces } else { Self::None }
    }
}

/// Lets the next child be the first process of a PID namespace, with mounts of its own.
pub(crate) fn enter(spec: &Spec) -> Level {
    let flags = CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWPID;
    match spec.owner.is_some() && unshare(flags).is_ok() {
        true => Level::Namespaces,
        false => Level::None,
    }
}

fn refused(what: &'static str) -> impl Fn(nix::errno::Errno) -> Error {
    move |errno| Error::System { operation: what, why: errno.to_string() }
}

/// Makes the namespaces' own `/proc`; says what there is, for the record.
pub(crate) fn settle(level: Level, spec: &Spec) -> Result<Vec<String>> {
    if level == Level::None {
        return Ok(vec![
            "no namespaces: they need root. Connections out are only kept from by settings".to_owned(),
        ]);
    }
    let none = None::<&str>;
    // Unmounting on the host is followed; nothing goes the other way.
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_SLAVE, none)
        .map_err(refused("make mounts private"))?;
    mount(Some("proc"), "/proc", Some("proc"), MsFlags::empty(), none).map_err(refused("mount /proc"))?;
    let mut isolation = vec!["process, mount and IPC namespaces".to_owned(), "read-only host".to_owned()];
    isolation.push(match spec.tcp {
        None => "a network namespace without routes".to_owned(),
        Some(_) => "the host's network, because TCP was asked for".to_owned(),
    });
    Ok(isolation)
}

/// Mounts the file system; whoever gets the device serves it.
pub(crate) fn mount_fuse(directory: &Path, owner: Owner) -> Result<File> {
    let device = OpenOptions::new()
        .read(true)
        .write(true)
        .open("/dev/fuse")
        .map_err(Error::file("open", "/dev/fuse"))?;
    let options = format!(
        "fd={},rootmode=40000,user_id={},group_id={},allow_other,default_permissions,max_read=1048576",
        device.as_raw_fd(),
        owner.uid,
        owner.gid
    );
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    mount(Some("pgproof"), directory, Some("fuse"), flags, Some(options.as_str()))
        .map_err(refused("mount the file system"))?;
    Ok(device)
}

/// Lets the kernel read ahead as far as one request goes: it takes its default for less than what is asked of it at the start
/// (`process_init_reply` in `fs/fuse/inode.c`). Without it reading is slower, and nothing else.
pub(crate) fn read_ahead(mount: &Path) {
    if let Ok(root) = mount.metadata() {
        let (major, minor) = (rustix::fs::major(root.dev()), rustix::fs::minor(root.dev()));
        let _ = fs::write(format!("/sys/class/bdi/{major}:{minor}/read_ahead_kb"), "1024");
    }
}

/// Makes the calling thread's namespaces the server's: network and IPC of its own, and all but the sandbox's directory read-only.
pub(crate) fn confine(place: &Place, spec: &Spec) -> Result<()> {
    let mut flags = CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWIPC;
    if spec.tcp.is_none() {
        flags |= CloneFlags::CLONE_NEWNET;
    }
    unshare(flags).map_err(refused("make namespaces for the server"))?;
    if spec.tcp.is_none() {
        raise_loopback();
    }
    let none = None::<&str>;
    let own = place.directory();
    mount(Some(own), own, none, MsFlags::MS_BIND | MsFlags::MS_REC, none)
        .map_err(refused("keep the sandbox writable"))?;
    let text = fs::read_to_string("/proc/thread-self/mountinfo")
        .map_err(Error::file("read", "/proc/thread-self/mountinfo"))?;
    for (point, options) in text.lines().filter_map(mount_of) {
        if point.starts_with(own) || point.starts_with("/proc") {
            continue;
        }
        let flags = MsFlags::MS_BIND | MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY | options;
        // One that was mounted over cannot be reached by its path, by nobody.
        let _ = mount(none, &point, none, flags, none);
    }
    Ok(())
}

/// Mount point and flags of a line of `mountinfo`.
fn mount_of(line: &str) -> Option<(PathBuf, MsFlags)> {
    let mut fields = line.split(' ').skip(4);
    let (point, options) = (fields.next()?, fields.next()?);
    let mut flags = MsFlags::empty();
    for option in options.split(',') {
        flags |= match option {
            "nosuid" => MsFlags::MS_NOSUID,
            "nodev" => MsFlags::MS_NODEV,
            "noexec" => MsFlags::MS_NOEXEC,
            "relatime" => MsFlags::MS_RELATIME,
            "noatime" => MsFlags::MS_NOATIME,
            _ => MsFlags::empty(),
        };
    }
    Some((PathBuf::from(point.replace("\\040", " ")), flags))
}

/// Brings `lo` up, which version 14 sends its statistics through. Without it they are missing, and nothing else.
fn raise_loopback() {
    // struct nlmsghdr and struct ifinfomsg (linux/netlink.h, linux/rtnetlink.h): RTM_NEWLINK of interface 1 with IFF_UP.
    const RTM_NEWLINK: u16 = 16;
    const REQUEST_AND_ACK: u16 = 1 | 4;
    const IFF_UP: u32 = 1;
    let mut message = Vec::with_capacity(32);
    message.extend_from_slice(&32_u32.to_ne_bytes());
    message.extend_from_slice(&RTM_NEWLINK.to_ne_bytes());
    message.extend_from_slice(&REQUEST_AND_ACK.to_ne_bytes());
    message.extend_from_slice(&[0; 8]);
    message.extend_from_slice(&[0; 4]);
    message.extend_from_slice(&1_i32.to_ne_bytes());
    message.extend_from_slice(&IFF_UP.to_ne_bytes());
    message.extend_from_slice(&IFF_UP.to_ne_bytes());
    if let Ok(socket) = socket(AddressFamily::NETLINK, SocketType::RAW, None) {
        let mut answer = [0_u8; 1024];
        let sent = send(&socket, &message, SendFlags::empty());
        // The answer comes when it is up.
        let _ = sent.and_then(|_| recv(&socket, &mut answer[..], RecvFlags::empty()).map(drop));
    }
}
