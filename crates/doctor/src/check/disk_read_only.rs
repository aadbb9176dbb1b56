//! `disk-read-only`: a file system of the server is read-only.

use super::case::word;
use super::{Area, Case, Check, Found};
use crate::observe::Disk;
use pgproof_base::{Remedy, Severity};

pub(super) const CHECK: Check = Check {
    code: "disk-read-only",
    area: Area::Storage,
    title: "A file system of the server is read-only",
    why: "The kernel remounts a file system read-only when its disk fails; the server cannot write.",
    mends: "Read the kernel's log first: a failing disk is replaced, not remounted.",
    limit: None,
    judge,
};

fn judge(case: &Case<'_>) -> Vec<Found> {
    let disks = case.seen.disks.ok().into_iter().flatten().filter(|disk| disk.read_only);
    let one = |disk: &Disk| {
        let mount = disk.mount.clone().unwrap_or_else(|| disk.path.clone());
        let seen =
            format!("{}, which holds {}, is mounted read-only", mount.display(), disk.roles.join(", "));
        let kernel =
            case.seen.kernel.ok().into_iter().flat_map(|kernel| &kernel.lines).map(|line| line.text.clone());
        let mut command = format!("mount -o remount,rw {}", word(&mount));
        if let Some(place) = case.stopped() {
            command += &format!("\n{}", case.start(place));
        }
        let remedy =
            Remedy::disruptive("when the kernel's log shows no failing disk: make it writable", command);
        CHECK
            .found(Severity::Critical, mount.display().to_string(), seen)
            .shown_by_all(kernel.filter(|text| text.contains("error")))
            .with(remedy)
    };
    disks.map(one).collect()
}
