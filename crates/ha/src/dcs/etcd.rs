//! etcd 3.4 and later.
//!
//! Every request goes to the endpoint that answered last, and to each of the others a moment later unless an answer came: a dead
//! endpoint costs that moment, never its time limit. Reads are linearizable (etcd's default). A compare-and-set that goes out twice may
//! find its own first copy; so a failed one is answered with what the keys are, and what was wanted counts as done.

use super::{Before, Dcs, DcsError, Entry, Keep, Revision, Session, Snapshot, Swapped, Write};
use etcd_client::{
    Client, Compare, CompareOp, ConnectOptions, Error, GetOptions, KeyValue, PutOptions, Txn, TxnOp,
    TxnOpResponse, WatchOptions,
};
use std::{
    future::Future,
    pin::Pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};
use tokio::{runtime::Runtime, sync::OnceCell, task::JoinSet, time::timeout};

/// How the store is reached.
#[derive(Debug, Clone)]
pub struct EtcdOptions {
    /// `http://host:2379`, one for each member of etcd.
    pub endpoints: Vec<String>,
    /// Everything of the cluster lies under this: `/pgproof/main/`.
    pub prefix: String,
    /// Name and password, where etcd wants them.
    pub user: Option<(String, String)>,
    /// How long one request may take, all endpoints together.
    pub limit: Duration,
    /// How long a session lasts without being kept. etcd rounds up to seconds, and to its own minimum of 1.5 election timeouts.
    pub session: Duration,
}

/// How long an endpoint has to itself before the next one is asked too: well above a healthy answer (3 to 10 ms), well below any limit.
const STAGGER: Duration = Duration::from_millis(120);

/// Pause before a watch that ended is begun anew.
const WATCH_PAUSE: Duration = Duration::from_millis(300);

struct Endpoint {
    url: String,
    client: OnceCell<Client>,
}

struct Shared {
    options: EtcdOptions,
    endpoints: Vec<Endpoint>,
    /// The endpoint that answered last.
    preferred: AtomicUsize,
}

/// A store on etcd.
pub struct EtcdDcs {
    shared: Arc<Shared>,
    runtime: Runtime,
    lease: Mutex<Option<i64>>,
}

type Answer<T> = Pin<Box<dyn Future<Output = Result<T, Error>> + Send>>;

impl EtcdDcs {
    /// Prepares; connections are made by the first requests.
    ///
    /// # Errors
    /// [`DcsError::Refused`] without endpoints, or when the system gives no threads.
    pub fn new(options: EtcdOptions) -> Result<Self, DcsError> {
        if options.endpoints.is_empty() {
            return Err(DcsError::Refused { why: "no endpoints are configured".to_owned() });
        }
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("etcd")
            .enable_all()
            .build();
        let runtime = runtime.map_err(|error| DcsError::Refused { why: error.to_string() })?;
        let endpoints = options.endpoints.iter();
        let endpoints = endpoints.map(|url| Endpoint { url: url.clone(), client: OnceCell::new() }).collect();
        let shared = Arc::new(Shared { options, endpoints, preferred: AtomicUsize::new(0) });
        Ok(Self { shared, runtime, lease: Mutex::new(None) })
    }

    /// Asks all endpoints, one a moment after the other, and takes the first answer.
    fn race<T: Send + 'static>(
        &self,
        ask: impl Fn(Client) -> Answer<T> + Send + Sync + 'static,
    ) -> Result<T, DcsError> {
        let shared = Arc::clone(&self.shared);
        let limit = shared.options.limit;
        let raced = async move { timeout(limit, shared.race(ask)).await };
        self.runtime
            .block_on(raced)
            .unwrap_or_else(|_| Err(DcsError::Unanswered { why: format!("{} ms passed", limit.as_millis()) }))
    }

    fn lease(&self) -> Option<i64> {
        *self.lease.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set_lease(&self, lease: Option<i64>) {
        *self.lease.lock().unwrap_or_else(PoisonError::into_inner) = lease;
    }

    fn transaction(&self, writes: &[Write]) -> Txn {
        let key = |write: &Write| format!("{}{}", self.shared.options.prefix, write.key);
        let compares: Vec<Compare> = writes
            .iter()
            .filter_map(|write| match write.before {
                Before::Any => None,
                Before::Absent => Some(Compare::create_revision(key(write), CompareOp::Equal, 0)),
                Before::Revision(Revision(at)) => {
                    Some(Compare::mod_revision(key(write), CompareOp::Equal, at))
                }
            })
            .collect();
        let lease = self.lease().unwrap_or(0);
        let puts: Vec<TxnOp> = writes
            .iter()
            .filter_map(|write| {
                let options = PutOptions::new();
                let options = if write.keep == Keep::Session { options.with_lease(lease) } else { options };
                Some(TxnOp::put(key(write), write.value.clone()?, Some(options)))
            })
            .collect();
        let looks: Vec<TxnOp> = writes.iter().map(|write| TxnOp::get(key(write), None)).collect();
        Txn::new().when(compares).and_then(puts).or_else(looks)
    }
}

impl Shared {
    async fn client(&self, number: usize) -> Result<Client, Error> {
        let endpoint = &self.endpoints[number];
        let connect = || {
            let mut options = ConnectOptions::new()
                .with_connect_timeout(self.options.limit)
                .with_timeout(self.options.limit)
                .with_keep_alive(Duration::from_secs(1), self.options.limit)
                .with_require_leader(true);
            if let Some((name, password)) = &self.options.user {
                options = options.with_user(name, password);
            }
            Client::connect([endpoint.url.clone()], Some(options))
        };
        endpoint.client.get_or_try_init(connect).await.cloned()
    }

    async fn race<T: Send + 'static>(
        self: &Arc<Self>,
        ask: impl Fn(Client) -> Answer<T> + Send + Sync + 'static,
    ) -> Result<T, DcsError> {
        let ask = Arc::new(ask);
        let first = self.preferred.load(Ordering::Relaxed);
        let mut asked = JoinSet::new();
        for turn in 0..self.endpoints.len() {
            let number = (first + turn) % self.endpoints.len();
            let (shared, ask) = (Arc::clone(self), Arc::clone(&ask));
            asked.spawn(async move {
                tokio::time::sleep(STAGGER * u32::try_from(turn).unwrap_or(u32::MAX)).await;
                let answer = async { ask(shared.client(number).await?).await };
                (number, answer.await)
            });
        }
        let mut said = Vec::new();
        while let Some(answered) = asked.join_next().await {
            match answered {
                Ok((number, Ok(answer))) => {
                    self.preferred.store(number, Ordering::Relaxed);
                    return Ok(answer);
                }
                Ok((number, Err(error))) => match refused(&error) {
                    Some(why) => return Err(DcsError::Refused { why }),
                    None => said.push(format!("{}: {error}", self.endpoints[number].url)),
                },
                Err(error) => said.push(error.to_string()),
            }
        }
        Err(DcsError::Unanswered { why: said.join("; ") })
    }

    async fn watch_once(&self, number: usize, notify: &(dyn Fn() + Send + Sync)) -> Result<(), Error> {
        let mut client = self.client(number).await?;
        let mut changes =
            client.watch(self.options.prefix.clone(), Some(WatchOptions::new().with_prefix())).await?;
        while let Some(change) = changes.message().await? {
            if change.canceled() {
                break;
            }
            notify();
        }
        Ok(())
    }
}

/// What etcd would answer again. Everything else, also what nobody knows, is no answer: an error must not cost a primary its place.
fn refused(error: &Error) -> Option<String> {
    match error {
        Error::InvalidArgs(why) => Some(why.clone()),
        Error::InvalidUri(why) => Some(why.to_string()),
        // gRPC's PERMISSION_DENIED and UNAUTHENTICATED.
        Error::GRpcStatus(status) if [7, 16].contains(&(status.code() as i32)) => {
            Some(status.message().to_owned())
        }
        _ => None,
    }
}

/// Whether the lease was there to be kept. The first answer is awaited by the client itself, and a lease that is gone is an error to it.
async fn keep(client: &mut Client, lease: i64) -> Result<bool, Error> {
    match client.lease_keep_alive(lease).await {
        Ok(_) => Ok(true),
        Err(Error::LeaseKeepAliveError(why)) if why == "lease not found" => Ok(false),
        Err(error) => Err(error),
    }
}

impl Dcs for EtcdDcs {
    fn read(&self) -> Result<Snapshot, DcsError> {
        let prefix = self.shared.options.prefix.clone();
        let cut = prefix.len();
        let answer = self.race(move |mut client| {
            let prefix = prefix.clone();
            Box::pin(async move { client.get(prefix, Some(GetOptions::new().with_prefix())).await })
        })?;
        let entry = |found: &KeyValue| {
            let key = String::from_utf8_lossy(found.key().get(cut..)?).into_owned();
            Some((key, Entry { value: found.value().to_vec(), revision: Revision(found.mod_revision()) }))
        };
        let revision = Revision(answer.header().map_or(0, etcd_client::ResponseHeader::revision));
        Ok(Snapshot { revision, entries: answer.kvs().iter().filter_map(entry).collect() })
    }

    fn swap(&self, writes: &[Write]) -> Result<Swapped, DcsError> {
        let transaction = self.transaction(writes);
        let answer = self.race(move |mut client| {
            let transaction = transaction.clone();
            Box::pin(async move { client.txn(transaction).await })
        })?;
        if answer.succeeded() {
            return Ok(Swapped::Done);
        }
        let found = answer.op_responses();
        let is_wanted = |(write, found): (&Write, &TxnOpResponse)| {
            let TxnOpResponse::Get(found) = found else { return false };
            let found = found.kvs().first().map(KeyValue::value);
            write.value.as_deref().is_none_or(|wanted| found == Some(wanted))
        };
        // A write that only checks leaves no trace, so a lost reply cannot be told from a change.
        let leaves_a_trace = writes.iter().all(|write| write.value.is_some());
        let done = leaves_a_trace && writes.len() == found.len() && writes.iter().zip(&found).all(is_wanted);
        Ok(if done { Swapped::Done } else { Swapped::Changed })
    }

    fn keep_session(&self) -> Result<Session, DcsError> {
        if let Some(lease) = self.lease() {
            let kept =
                self.race(move |mut client| Box::pin(async move { keep(&mut client, lease).await }))?;
            if kept {
                return Ok(Session::Kept);
            }
            self.set_lease(None);
        }
        let seconds =
            i64::try_from(self.shared.options.session.as_millis().div_ceil(1000)).unwrap_or(1).max(1);
        // Asked of several endpoints, several leases may come to be; those that nobody keeps expire.
        let granted =
            self.race(move |mut client| Box::pin(async move { client.lease_grant(seconds, None).await }))?;
        self.set_lease(Some(granted.id()));
        Ok(Session::New)
    }

    fn end_session(&self) -> Result<(), DcsError> {
        let Some(lease) = self.lease() else { return Ok(()) };
        self.race(move |mut client| Box::pin(async move { client.lease_revoke(lease).await }))?;
        self.set_lease(None);
        Ok(())
    }

    fn watch(&self, notify: Box<dyn Fn() + Send + Sync>) {
        let shared = Arc::clone(&self.shared);
        self.runtime.spawn(async move {
            for turn in 0.. {
                let number = (shared.preferred.load(Ordering::Relaxed) + turn) % shared.endpoints.len();
                // However it ended, changes may have been missed.
                let _ = shared.watch_once(number, &*notify).await;
                notify();
                tokio::time::sleep(WATCH_PAUSE).await;
            }
        });
    }
}
