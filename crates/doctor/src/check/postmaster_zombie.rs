//! `postmaster-zombie`: a dead postmaster was never reaped.

use super::case::word;
use super::{Area, Case, Check, Found};
use pgproof_base::{Remedy, Severity};

pub(super) const CHECK: Check = Check {
    code: "postmaster-zombie",
    area: Area::Start,
    title: "A dead postmaster was never reaped",
    why: "Its process number still exists, so that the next start takes it for a running server and refuses.",
    mends: "Its parent must reap it: in a container, run an init as process 1 (`docker run --init`). Until then `postmaster.pid` is in the way; a zombie holds no files, so that removing it is safe.",
    limit: None,
    judge,
};

fn judge(case: &Case<'_>) -> Vec<Found> {
    let (Some(place), Some(directory)) = (case.stopped(), case.seen.directory.ok()) else {
        return Vec::new();
    };
    let Some(pid) = directory.pid_file.first().and_then(|line| line.trim().parse::<u32>().ok()) else {
        return Vec::new();
    };
    let processes = case.seen.processes.ok().map_or(&[][..], |processes| processes.postgres.as_slice());
    let Some(zombie) = processes.iter().find(|one| one.pid == pid && one.state == 'Z') else {
        return Vec::new();
    };
    let file = place.data_directory.join("postmaster.pid");
    let seen = format!(
        "process {pid}, named by {}, is dead and was not reaped by its parent {}",
        file.display(),
        zombie.parent
    );
    // Whatever its children were doing, they have no postmaster any more: a start finds them by the shared memory and refuses.
    let aside = case.as_owner(&format!("mv {0} {0}.zombie", word(&file)));
    let lock =
        place.socket_directory.as_ref().map(|folder| folder.join(format!(".s.PGSQL.{}.lock", place.port)));
    let lock = lock.map(|lock| case.as_owner(&format!("rm -f {}", word(&lock))));
    let steps: Vec<String> = [Some(aside), lock, Some(case.start(place))].into_iter().flatten().collect();
    let remedy = Remedy::safe("move the files of the dead one aside, and start", steps.join("\n"));
    vec![
        CHECK
            .found(Severity::Critical, pid.to_string(), seen)
            .with(remedy.afterwards("`pgproof doctor` connects")),
    ]
}
