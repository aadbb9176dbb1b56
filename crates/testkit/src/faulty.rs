//! A store that misbehaves on purpose, by rule or by chance, in front of one that does not.
//!
//! `FaultyStore::new(Memory::new()).with(Rule::on(Operation::Put, Fault::LostReply).below("wal"))` loses the reply of every write
//! below `wal`. Rules are asked in order, and the first that applies decides. Whatever happened is in [`FaultyStore::injected`].

use crate::Seed;
use pgproof_store::{
    Capabilities, Counters, ObjectMeta, ObjectPath, ObjectWriter, Operation, PutMode, Result, Store,
    StoreError,
};
use rand::{Rng, rngs::StdRng};
use std::{
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

/// One way to misbehave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Nothing happens, and the store is unreachable.
    Unreachable,
    /// Nothing happens, and no answer comes.
    Timeout,
    /// What was asked for happens, but no answer comes.
    LostReply,
    /// The caller is refused.
    Denied,
    /// No space is left; only for writes.
    NoSpace,
    /// The write is reported durable and forgotten.
    Forget,
    /// A read delivers only so many bytes, as a truncated object would.
    Truncate(u64),
    /// One bit of what is read is flipped; which one depends on the number.
    FlipBit(u64),
    /// A listing shows what was there before the latest change that went through this decorator.
    StaleList,
    /// It is slow.
    Delay(Duration),
}

/// When to misbehave.
#[derive(Debug, Clone)]
pub struct Rule {
    fault: Fault,
    operation: Option<Operation>,
    below: Option<String>,
    skip: u64,
    times: u64,
    chance: f64,
}

impl Rule {
    /// At every operation of one kind.
    #[must_use]
    pub fn on(operation: Operation, fault: Fault) -> Self {
        Self { operation: Some(operation), ..Self::always(fault) }
    }

    /// At every operation.
    #[must_use]
    pub fn always(fault: Fault) -> Self {
        Self { fault, operation: None, below: None, skip: 0, times: u64::MAX, chance: 1.0 }
    }

    /// Only for objects whose path begins so.
    #[must_use]
    pub fn below(mut self, prefix: impl Into<String>) -> Self {
        self.below = Some(prefix.into());
        self
    }

    /// Not at the first so many occasions.
    #[must_use]
    pub fn after(mut self, skip: u64) -> Self {
        self.skip = skip;
        self
    }

    /// At most so many times.
    #[must_use]
    pub fn times(mut self, times: u64) -> Self {
        self.times = times;
        self
    }

    /// With this probability at each occasion.
    #[must_use]
    pub fn chance(mut self, chance: f64) -> Self {
        self.chance = chance;
        self
    }

    /// Whether the rule strikes now; counts the occasion.
    fn strikes(&mut self, operation: Operation, path: &str, rng: &mut StdRng) -> bool {
        let applies = self.operation.is_none_or(|wanted| wanted == operation)
            && self.below.as_ref().is_none_or(|prefix| path.starts_with(prefix.as_str()));
        if !applies || self.times == 0 {
            return false;
        }
        if self.skip > 0 {
            self.skip -= 1;
            return false;
        }
        let strikes = rng.random_bool(self.chance);
        self.times -= u64::from(strikes);
        strikes
    }
}

/// What was done to whom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Injected {
    /// The operation that was disturbed.
    pub operation: Operation,
    /// The object or directory.
    pub path: String,
    /// How.
    pub fault: Fault,
}

/// The misbehaving store. Clones share rules and the inner store.
#[derive(Debug, Clone)]
pub struct FaultyStore {
    inner: Arc<dyn Store>,
    shared: Arc<Mutex<Shared>>,
}

#[derive(Debug)]
struct Shared {
    rules: Vec<Rule>,
    rng: StdRng,
    injected: Vec<Injected>,
    /// The listing of everything before the latest change.
    before: Vec<ObjectMeta>,
    keeps_listings: bool,
}

impl FaultyStore {
    /// In front of a store, well-behaved until a rule is added.
    pub fn new(inner: impl Store + 'static) -> Self {
        Self::seeded(inner, &Seed::fixed(0))
    }

    /// As [`Self::new`]; chances are drawn from a seed.
    pub fn seeded(inner: impl Store + 'static, seed: &Seed) -> Self {
        let shared = Shared {
            rules: Vec::new(),
            rng: seed.rng(0x000f_a017),
            injected: Vec::new(),
            before: Vec::new(),
            keeps_listings: false,
        };
        Self { inner: Arc::new(inner), shared: Arc::new(Mutex::new(shared)) }
    }

    /// Adds a rule.
    #[must_use]
    pub fn with(self, rule: Rule) -> Self {
        self.add(rule);
        self
    }

    /// Adds a rule while in use.
    pub fn add(&self, rule: Rule) {
        let mut shared = self.shared();
        shared.keeps_listings |= rule.fault == Fault::StaleList;
        shared.rules.push(rule);
    }

    /// Removes all rules: from now on it behaves.
    pub fn heal(&self) {
        self.shared().rules.clear();
    }

    /// What was done so far.
    pub fn injected(&self) -> Vec<Injected> {
        self.shared().injected.clone()
    }

    fn shared(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn fault(&self, operation: Operation, path: &str) -> Option<Fault> {
        let mut shared = self.shared();
        let Shared { rules, rng, injected, .. } = &mut *shared;
        let fault =
            rules.iter_mut().find_map(|rule| rule.strikes(operation, path, rng).then_some(rule.fault))?;
        injected.push(Injected { operation, path: path.to_owned(), fault });
        Some(fault)
    }

    /// Runs an operation under whatever fault strikes it.
    fn disturbed<T>(
        &self,
        operation: Operation,
        path: &str,
        run: impl FnOnce(Option<Fault>) -> Result<T>,
    ) -> Result<T> {
        let fault = self.fault(operation, path);
        let object = format!("faulty:{path}");
        let source = || Box::new(io::Error::other("injected"));
        match fault {
            None => run(None),
            Some(Fault::Unreachable) => Err(StoreError::Unreachable { operation, object, source: source() }),
            Some(Fault::Timeout) => {
                Err(StoreError::Timeout { operation, object, after: Duration::from_secs(1) })
            }
            Some(Fault::LostReply) => {
                run(None)?;
                Err(StoreError::Timeout { operation, object, after: Duration::from_secs(1) })
            }
            Some(Fault::Denied) => Err(StoreError::Denied { operation, object, source: source() }),
            Some(Fault::NoSpace) => Err(StoreError::NoSpace { operation, object, source: source() }),
            Some(Fault::Delay(pause)) => {
                std::thread::sleep(pause);
                run(None)
            }
            Some(fault) => run(Some(fault)),
        }
    }

    /// Notes what a stale listing would show, before something changes.
    fn before_change(&self) -> Result<()> {
        if self.shared().keeps_listings {
            let listing = self.inner.list(None, None)?;
            self.shared().before = listing;
        }
        Ok(())
    }

    fn write(
        &self,
        path: &ObjectPath,
        size: u64,
        write: impl FnOnce() -> Result<ObjectMeta>,
    ) -> Result<ObjectMeta> {
        self.disturbed(Operation::Put, path.as_str(), |fault| {
            self.before_change()?;
            if fault == Some(Fault::Forget) {
                let version = pgproof_store::Version::new("forgotten");
                return Ok(ObjectMeta { path: path.clone(), size, modified: self.inner.now()?, version });
            }
            write()
        })
    }
}

/// Spoils what was read.
fn spoil(fault: Option<Fault>, bytes: &mut Vec<u8>) {
    match fault {
        Some(Fault::Truncate(length)) => bytes.truncate(usize::try_from(length).unwrap_or(usize::MAX)),
        Some(Fault::FlipBit(number)) => flip_bit(number, bytes),
        _ => {}
    }
}

fn flip_bit(number: u64, bytes: &mut [u8]) {
    let bits = bytes.len() as u64 * 8;
    if let Some(bit) = number.checked_rem(bits) {
        bytes[usize::try_from(bit / 8).unwrap_or(0)] ^= 1 << (bit % 8);
    }
}

impl Store for FaultyStore {
    fn describe(&self) -> String {
        format!("faulty {}", self.inner.describe())
    }

    fn put(&self, path: &ObjectPath, body: &[&[u8]], mode: PutMode) -> Result<ObjectMeta> {
        let size = body.iter().map(|part| part.len() as u64).sum();
        self.write(path, size, || self.inner.put(path, body, mode))
    }

    fn writer(&self, path: &ObjectPath) -> Result<Box<dyn ObjectWriter>> {
        let inner = self.inner.writer(path)?;
        Ok(Box::new(FaultyWriter { store: self.clone(), path: path.clone(), inner }))
    }

    fn get_with_meta(&self, path: &ObjectPath) -> Result<(Vec<u8>, ObjectMeta)> {
        self.disturbed(Operation::Get, path.as_str(), |fault| {
            let (mut body, meta) = self.inner.get_with_meta(path)?;
            spoil(fault, &mut body);
            Ok((body, meta))
        })
    }

    fn get_range(&self, path: &ObjectPath, offset: u64, buf: &mut [u8]) -> Result<()> {
        self.disturbed(Operation::Get, path.as_str(), |fault| {
            let wanted = buf.len() as u64;
            match fault {
                Some(Fault::Truncate(length)) if offset.saturating_add(wanted) > length => {
                    let object = format!("faulty:{path}");
                    Err(StoreError::Truncated { object, offset, wanted, got: length.saturating_sub(offset) })
                }
                Some(Fault::FlipBit(number)) => {
                    self.inner.get_range(path, offset, buf)?;
                    flip_bit(number, buf);
                    Ok(())
                }
                _ => self.inner.get_range(path, offset, buf),
            }
        })
    }

    fn get_tail(&self, path: &ObjectPath, len_max: u64) -> Result<(Vec<u8>, u64)> {
        self.disturbed(Operation::Get, path.as_str(), |fault| match fault {
            Some(Fault::Truncate(length)) => {
                let mut body = self.inner.get(path)?;
                spoil(fault, &mut body);
                let start = body.len().saturating_sub(usize::try_from(len_max).unwrap_or(usize::MAX));
                Ok((body.split_off(start), length.min(body.len() as u64 + len_max)))
            }
            fault => {
                let (mut tail, size) = self.inner.get_tail(path, len_max)?;
                spoil(fault, &mut tail);
                Ok((tail, size))
            }
        })
    }

    fn head(&self, path: &ObjectPath) -> Result<Option<ObjectMeta>> {
        self.disturbed(Operation::Head, path.as_str(), |_| self.inner.head(path))
    }

    fn list(&self, dir: Option<&ObjectPath>, start_after: Option<&str>) -> Result<Vec<ObjectMeta>> {
        let name = dir.map(ObjectPath::as_str).unwrap_or_default();
        self.disturbed(Operation::List, name, |fault| {
            if fault != Some(Fault::StaleList) {
                return self.inner.list(dir, start_after);
            }
            let mut listing = self.shared().before.clone();
            listing.retain(|meta| {
                meta.path.is_below(dir) && start_after.is_none_or(|after| meta.path.as_str() > after)
            });
            Ok(listing)
        })
    }

    fn list_dirs(&self, dir: Option<&ObjectPath>) -> Result<Vec<String>> {
        let name = dir.map(ObjectPath::as_str).unwrap_or_default();
        self.disturbed(Operation::List, name, |_| self.inner.list_dirs(dir))
    }

    fn delete(&self, path: &ObjectPath) -> Result<()> {
        self.disturbed(Operation::Delete, path.as_str(), |fault| {
            self.before_change()?;
            if fault == Some(Fault::Forget) { Ok(()) } else { self.inner.delete(path) }
        })
    }

    fn now(&self) -> Result<jiff::Timestamp> {
        self.disturbed(Operation::Clock, "", |_| self.inner.now())
    }

    fn probe(&self) -> Result<Capabilities> {
        self.inner.probe()
    }

    fn clean(&self, age: Duration) -> Result<u64> {
        self.disturbed(Operation::Clean, "", |_| self.inner.clean(age))
    }

    fn counters(&self) -> Counters {
        self.inner.counters()
    }
}

#[derive(Debug)]
struct FaultyWriter {
    store: FaultyStore,
    path: ObjectPath,
    inner: Box<dyn ObjectWriter>,
}

impl ObjectWriter for FaultyWriter {
    fn write_all(&mut self, bytes: &[u8]) -> Result<()> {
        self.inner.write_all(bytes)
    }

    fn size(&self) -> u64 {
        self.inner.size()
    }

    fn finish(self: Box<Self>, mode: PutMode) -> Result<ObjectMeta> {
        let Self { store, path, inner } = *self;
        let size = inner.size();
        store.write(&path, size, || inner.finish(mode))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pgproof_store::{Memory, contract};

    fn path(name: &str) -> ObjectPath {
        ObjectPath::new(name).unwrap()
    }

    #[test]
    fn without_rules_it_behaves() {
        contract::run(&FaultyStore::new(Memory::new()));
    }

    #[test]
    fn a_lost_reply_leaves_the_object() {
        let rule = Rule::on(Operation::Put, Fault::LostReply).below("wal").after(1).times(1);
        let store = FaultyStore::new(Memory::new()).with(rule);
        let put = |name: &str| store.put(&path(name), &[b"x"], PutMode::IfAbsent);
        put("packs/a").unwrap();
        put("wal/a").unwrap();
        assert!(put("wal/b").unwrap_err().is_retryable());
        assert_eq!(store.get(&path("wal/b")).unwrap(), b"x");
        put("wal/c").unwrap();
        assert_eq!(store.injected().len(), 1);
    }

    #[test]
    fn a_forgotten_write_is_reported_durable() {
        let store = FaultyStore::new(Memory::new()).with(Rule::on(Operation::Put, Fault::Forget));
        store.put(&path("a"), &[b"x"], PutMode::IfAbsent).unwrap();
        assert_eq!(store.head(&path("a")).unwrap(), None);
    }

    #[test]
    fn reads_are_spoiled() {
        let store = FaultyStore::new(Memory::new());
        store.put(&path("a"), &[b"0123456789"], PutMode::IfAbsent).unwrap();
        store.add(Rule::on(Operation::Get, Fault::Truncate(4)));
        assert_eq!(store.get(&path("a")).unwrap(), b"0123");
        assert_eq!(store.get_tail(&path("a"), 2).unwrap().0, b"23");
        let truncated = store.get_range(&path("a"), 2, &mut [0; 4]);
        assert!(matches!(truncated, Err(StoreError::Truncated { got: 2, .. })), "{truncated:?}");
        store.heal();
        store.add(Rule::on(Operation::Get, Fault::FlipBit(3)));
        assert_eq!(store.get(&path("a")).unwrap()[0], b'0' ^ 8);
    }

    #[test]
    fn a_stale_list_misses_the_latest_change() {
        let store = FaultyStore::new(Memory::new()).with(Rule::on(Operation::List, Fault::StaleList));
        for name in ["a", "b"] {
            store.put(&path(name), &[b"x"], PutMode::IfAbsent).unwrap();
        }
        assert_eq!(store.list(None, None).unwrap().len(), 1);
    }
}
