//! Fencing of real servers: whatever becomes of the agent, and of the server.

use crate::scene::program;
use anyhow::{Context, Result, ensure};
use pgproof_ha::fence::{BootTime, Fence, FencePlace, FenceState, kill_server, server_processes};
use pgproof_ha::supervise::Postmaster;
use pgproof_pg::MajorVersion;
use pgproof_server::{ConnectOptions, Control, Session};
use pgproof_testkit::{Postgres, wait};
use rustix::process::{Pid, Signal, getsid, kill_process, kill_process_group};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

fn guarded() -> Result<(Postgres, FencePlace)> {
    let server = Postgres::builder(MajorVersion::V15).start()?;
    let place = FencePlace { directory: server.dir("fence")? };
    Ok((server, place))
}

fn soon() -> BootTime {
    BootTime::now().after(Duration::from_millis(500))
}

fn pid(number: u32) -> Result<Pid> {
    Pid::from_raw(number.cast_signed()).context("a process")
}

/// The fencing process is the agent's child no more than init's: nothing that is done to the agent's group or session reaches it.
#[test]
fn a_server_lives_as_long_as_its_deadline_is_renewed_and_dies_with_a_waiting_commit_untold() -> Result<()> {
    let (server, place) = guarded()?;
    let mut fence = Fence::find_or_start(program(), &place, server.pgdata())?;
    let guard = pid(fence.process_id().context("it was started")?)?;
    ensure!(getsid(Some(guard))? == guard, "it leads no session of its own");
    fence.arm(soon())?;
    // A service that is stopped signals everything it started.
    kill_process_group(guard, Signal::TERM)?;
    server.sql("CREATE TABLE t (id int)")?;
    server.sql("ALTER SYSTEM SET synchronous_standby_names = 'nobody'")?;
    server.reload()?;
    let connect = connect(&server);
    let (said, heard) = mpsc::channel();
    thread::spawn(move || {
        let tried = Session::open(&connect).and_then(|mut session| {
            session.execute(
                "wait for standbys",
                "SET synchronous_commit = on; SET client_min_messages = notice",
            )?;
            session.execute("commit", "INSERT INTO public.t VALUES (1)")
        });
        said.send(tried)
    });
    wait::until_true("a commit to wait for a standby", || {
        fence.arm(soon())?;
        Ok(server.value("SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep'")? == "1")
    })?;
    ensure!(fence.look()?.state == FenceState::Armed);
    // The agent is frozen: it renews no more.
    wait::until_true("the server to be fenced", || Ok(server_processes(server.pgdata())?.is_empty()))?;
    let told = heard.recv_timeout(wait::PATIENCE)?;
    ensure!(told.is_err(), "the waiting commit was acknowledged");
    let status = fence.look()?;
    ensure!(status.state == FenceState::Fired && status.killed.is_some(), "{status:?}");
    fence.release()?;
    // Looking collects the dead postmaster: a lock file of a process that was not collected keeps another from starting.
    ensure!(!server.is_running());
    server.start()?;
    ensure!(
        server.value("SELECT count(*) FROM t")? == "1",
        "what was never acknowledged may be there, and is here"
    );
    Ok(())
}

#[test]
fn a_frozen_postmaster_and_a_frozen_backend_are_killed_too_and_another_agent_takes_the_fence_over()
-> Result<()> {
    let (server, place) = guarded()?;
    let mut fence = Fence::find_or_start(program(), &place, server.pgdata())?;
    fence.arm(soon())?;
    drop(fence);
    let mut next = Fence::find_or_start(program(), &place, server.pgdata())?;
    ensure!(next.process_id().is_none(), "a second fencing process was started");
    ensure!(next.look()?.state == FenceState::Armed, "the deadline was forgotten");
    for process in server_processes(server.pgdata())? {
        kill_process(pid(process)?, Signal::STOP)?;
    }
    wait::until_true("the frozen server to be fenced", || Ok(server_processes(server.pgdata())?.is_empty()))?;
    next.release()?;
    Ok(())
}

fn connect(server: &Postgres) -> ConnectOptions {
    ConnectOptions {
        host: Some(server.socket_dir().display().to_string()),
        port: Some(server.port()),
        user: Some(server.account().name.clone()),
        database: Some("postgres".to_owned()),
        ..ConnectOptions::default()
    }
}

/// A backend in a loop does not notice that its postmaster is gone, and would keep a new one from starting.
#[test]
fn a_crashed_server_is_seen_at_once_and_started_again_although_a_backend_still_runs() -> Result<()> {
    let server = Postgres::builder(MajorVersion::V15).create()?;
    let control = Control::new(server.pgdata(), &server.bin())?;
    let mut postmaster = Postmaster::start(&control)?;
    wait::until_true("the server to accept connections", || Ok(control.accepts_connections()?))?;
    ensure!(Postmaster::adopt(server.pgdata())?.context("it runs")?.pid() == postmaster.pid());
    let busy = connect(&server);
    thread::spawn(move || {
        Session::open(&busy)?.execute("loop", "DO $$ BEGIN LOOP PERFORM 1; END LOOP; END $$")
    });
    wait::until_true("a busy backend", || {
        Ok(server.value(
            "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'DO%' AND pid <> pg_backend_pid()",
        )? == "1")
    })?;
    let (ended, seen) = mpsc::channel();
    postmaster.watch(move || _ = ended.send(()))?;
    kill_process(pid(postmaster.pid())?, Signal::KILL)?;
    seen.recv_timeout(wait::PATIENCE)?;
    ensure!(postmaster.has_ended());
    let again = Postmaster::start(&control)?;
    wait::until_true("the server to accept connections again", || Ok(control.accepts_connections()?))?;
    let killed = again.kill(server.pgdata(), wait::PATIENCE)?;
    ensure!(killed.processes > 3, "{killed:?}");
    kill_server(server.pgdata(), wait::PATIENCE)?;
    Ok(())
}
