//! One contract for every store: in memory and on a real etcd.

use pgproof_ha::dcs::{
    Before, Dcs, DcsError, EtcdDcs, EtcdOptions, Keep, MemoryStore, Session, Swapped, Write,
};
use pgproof_testkit::{Etcd, wait};
use std::error::Error;
use std::sync::mpsc;
use std::time::{Duration, Instant};

/// etcd makes it three.
const SESSION: Duration = Duration::from_secs(2);

fn put(key: &str, before: Before, value: &str) -> Write {
    Write { key: key.to_owned(), before, value: Some(value.as_bytes().to_vec()), keep: Keep::Always }
}

fn contract(one: &dyn Dcs, other: &dyn Dcs) -> Result<(), Box<dyn Error>> {
    assert_eq!(one.swap(&[put("a", Before::Absent, "1")]), Ok(Swapped::Done));
    assert_eq!(other.swap(&[put("a", Before::Absent, "2")]), Ok(Swapped::Changed));
    let seen = other.read()?;
    assert_eq!(seen.entries["a"].value, b"1");
    // All or nothing, and only upon what was seen.
    let both = [put("a", seen.before("a"), "3"), put("b", seen.before("b"), "1")];
    assert_eq!(other.swap(&both), Ok(Swapped::Done));
    assert_eq!(
        one.swap(&[put("a", seen.before("a"), "4"), put("c", Before::Absent, "4")]),
        Ok(Swapped::Changed)
    );
    let now = one.read()?;
    assert_eq!((now.entries["a"].value.as_slice(), now.entries.get("c")), (&b"3"[..], None));
    assert!(now.revision > seen.revision);
    // A write that only checks.
    let check = Write { value: None, ..put("b", seen.before("b"), "") };
    assert_eq!(one.swap(&[check.clone(), put("d", Before::Absent, "1")]), Ok(Swapped::Changed));
    let check = Write { before: now.before("b"), ..check };
    assert_eq!(one.swap(&[check, put("d", Before::Absent, "1")]), Ok(Swapped::Done));

    let (notify, changes) = mpsc::channel();
    other.watch(Box::new(move || _ = notify.send(())));
    assert_eq!(one.keep_session(), Ok(Session::New));
    assert_eq!(one.keep_session(), Ok(Session::Kept));
    let mine = Write { keep: Keep::Session, ..put("mine", Before::Any, "here") };
    assert_eq!(one.swap(std::slice::from_ref(&mine)), Ok(Swapped::Done));
    changes.recv_timeout(wait::PATIENCE)?;
    wait::until_true("what belongs to a dead node's session to vanish", || {
        Ok(!other.read()?.entries.contains_key("mine"))
    })?;
    assert_eq!(one.keep_session(), Ok(Session::New));
    assert_eq!(one.swap(&[mine]), Ok(Swapped::Done));
    one.end_session()?;
    assert!(!other.read()?.entries.contains_key("mine"));
    assert_eq!(other.read()?.entries["a"].value, b"3");
    Ok(())
}

fn on_etcd(etcd: &Etcd) -> Result<EtcdDcs, DcsError> {
    EtcdDcs::new(EtcdOptions {
        endpoints: etcd.endpoints(),
        prefix: "/pgproof/test/".to_owned(),
        user: None,
        limit: Duration::from_secs(3),
        session: SESSION,
    })
}

#[test]
fn the_store_in_memory_keeps_the_contract() {
    let store = MemoryStore::default();
    contract(&store.node(SESSION), &store.node(SESSION)).unwrap();
}

#[test]
fn etcd_keeps_the_contract_and_a_frozen_member_costs_a_moment_only() {
    let etcd = Etcd::start(3).unwrap();
    let (one, other) = (on_etcd(&etcd).unwrap(), on_etcd(&etcd).unwrap());
    contract(&one, &other).unwrap();
    // A member that is no leader: the request goes to another in time. Which one leads is not known, so each is tried.
    for member in 0..3 {
        etcd.freeze(member).unwrap();
        wait::until_true("the other members to answer", || Ok(one.read().is_ok())).unwrap();
        let began = Instant::now();
        assert_eq!(one.swap(&[put(&format!("frozen{member}"), Before::Absent, "1")]), Ok(Swapped::Done));
        assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
        etcd.thaw(member).unwrap();
    }
}

#[test]
fn a_store_that_is_gone_is_no_answer_and_not_a_refusal() {
    let mut etcd = Etcd::start(1).unwrap();
    let store = on_etcd(&etcd).unwrap();
    assert_eq!(store.swap(&[put("a", Before::Absent, "1")]), Ok(Swapped::Done));
    etcd.kill(0).unwrap();
    let error = store.read().unwrap_err();
    assert!(matches!(error, DcsError::Unanswered { .. }), "{error}");
    etcd.start_member(0).unwrap();
    wait::until_true("the store to answer again", || {
        Ok(store.read().is_ok_and(|seen| seen.entries.contains_key("a")))
    })
    .unwrap();
}
