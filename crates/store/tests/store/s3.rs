//! What only a service behind a network can do: lose replies, lack a bucket, be down, answer for somebody else.
//!
//! The scripted server below answers each request as told; everything else is checked against real server processes in `contract`.

use pgproof_store::{Cloud, LockMode, ObjectLock, ObjectPath, PutMode, S3Config, Secret, Store, StoreError};
use pgproof_testkit::s3::S3Server;
use std::{
    collections::VecDeque,
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

fn path(name: &str) -> ObjectPath {
    ObjectPath::new(name).unwrap()
}

/// One scripted answer.
#[derive(Debug, Clone)]
enum Answer {
    /// Status, headers, body.
    Reply(u16, &'static str, &'static str),
    /// Takes the request and hangs up.
    HangUp,
    /// Takes the request and says nothing for a while.
    Silence(Duration),
}

/// A server that gives each request the next answer and remembers what was asked.
struct Scripted {
    port: u16,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Scripted {
    fn answering(answers: impl IntoIterator<Item = Answer>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let answers = Arc::new(Mutex::new(answers.into_iter().collect::<VecDeque<_>>()));
        let seen = Arc::clone(&asked);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (answers, seen) = (Arc::clone(&answers), Arc::clone(&seen));
                std::thread::spawn(move || serve(&stream, &answers, &seen));
            }
        });
        Self { port, asked }
    }

    fn store(&self) -> Cloud {
        Cloud::s3(&self.config()).unwrap()
    }

    fn config(&self) -> S3Config {
        S3Config {
            endpoint: Some(format!("http://127.0.0.1:{}", self.port)),
            region: Some("us-east-1".to_owned()),
            access_key_id: Some("key".to_owned()),
            secret_access_key: Some(Secret::new("secret")),
            allow_http: true,
            timeout_s: 1,
            retry_s: 3,
            ..S3Config::bucket("bucket")
        }
    }

    /// The request lines so far.
    fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

/// Answers the requests of one connection.
fn serve(stream: &TcpStream, answers: &Mutex<VecDeque<Answer>>, seen: &Mutex<Vec<String>>) {
    let mut reader = BufReader::new(stream);
    loop {
        let mut first = String::new();
        if reader.read_line(&mut first).unwrap_or(0) == 0 {
            return;
        }
        let mut length = 0;
        let mut locked = "";
        loop {
            let mut line = String::new();
            reader.read_line(&mut line).unwrap();
            if line == "\r\n" {
                break;
            }
            if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                length = value.trim().parse().unwrap();
            }
            if line.to_ascii_lowercase().starts_with("x-amz-object-lock-mode: compliance") {
                locked = " locked";
            }
        }
        std::io::copy(&mut (&mut reader).take(length), &mut std::io::sink()).unwrap();
        let method = first.split(' ').next().unwrap().to_owned();
        seen.lock().unwrap().push(format!("{method}{locked}"));
        let answer = answers.lock().unwrap().pop_front().unwrap_or(Answer::HangUp);
        match answer {
            Answer::Reply(status, headers, body) => {
                let date =
                    "Date: Sun, 22 Nov 2026 21:04:22 GMT\r\nLast-Modified: Sun, 22 Nov 2026 21:04:20 GMT";
                let length = body.len();
                let body = if method == "HEAD" { "" } else { body };
                let mut stream = stream;
                write!(
                    stream,
                    "HTTP/1.1 {status} X\r\n{date}\r\nContent-Length: {length}\r\n{headers}\r\n{body}"
                )
                .unwrap();
            }
            Answer::HangUp => {
                let _ = stream.shutdown(std::net::Shutdown::Both);
                return;
            }
            Answer::Silence(pause) => std::thread::sleep(pause),
        }
    }
}

const TAG: &str = "ETag: \"abc\"\r\n";
const EXISTS: Answer = Answer::Reply(412, "", "<Error><Code>PreconditionFailed</Code></Error>");
const NO_KEY: Answer = Answer::Reply(404, "", "<Error><Code>NoSuchKey</Code></Error>");

#[test]
fn a_creation_whose_reply_was_lost_is_recognised_as_ours() {
    let server = Scripted::answering([
        Answer::HangUp,
        EXISTS,
        Answer::Reply(200, TAG, "mine"),
        Answer::Reply(200, TAG, "mine"),
    ]);
    let meta = server.store().put(&path("x"), &[b"mi", b"ne"], PutMode::IfAbsent).unwrap();
    assert_eq!(meta.version.as_str(), "abc");
    assert_eq!(server.asked(), ["PUT", "PUT", "GET", "HEAD"]);
}

#[test]
fn a_creation_that_somebody_else_won_meanwhile_is_lost() {
    let server = Scripted::answering([Answer::HangUp, EXISTS, Answer::Reply(200, TAG, "theirs")]);
    let refused = server.store().put(&path("x"), &[b"mine"], PutMode::IfAbsent).unwrap_err();
    assert!(matches!(refused, StoreError::AlreadyExists { .. }), "{refused:?}");
}

#[test]
fn a_refused_creation_is_not_read_back_when_no_reply_was_lost() {
    let server = Scripted::answering([EXISTS]);
    let refused = server.store().put(&path("x"), &[b"mine"], PutMode::IfAbsent).unwrap_err();
    assert!(matches!(refused, StoreError::AlreadyExists { .. }), "{refused:?}");
    assert_eq!(server.asked(), ["PUT"]);
}

#[test]
fn a_clash_of_conditional_writes_is_repeated() {
    let clash = Answer::Reply(409, "", "<Error><Code>ConditionalRequestConflict</Code></Error>");
    let server = Scripted::answering([clash, Answer::Reply(200, TAG, "")]);
    server.store().put(&path("x"), &[b"mine"], PutMode::IfAbsent).unwrap();
}

/// moto takes the retention of an upload in parts for nothing, so this is seen on the wire.
#[test]
fn an_upload_in_parts_is_locked_by_the_request_that_begins_it() {
    let server = Scripted::answering([Answer::Reply(400, "", ""), Answer::Reply(400, "", "")]);
    let lock = ObjectLock { mode: LockMode::Compliance, days: 1, spare: Vec::new() };
    let store = Cloud::s3(&S3Config { object_lock: Some(lock), ..server.config() }).unwrap();
    store.put(&path("small"), &[b"x"], PutMode::IfAbsent).unwrap_err();
    let mut writer = store.writer(&path("big")).unwrap();
    writer.write_all(&vec![7; 17 << 20]).unwrap_err();
    assert_eq!(server.asked(), ["PUT locked", "POST locked"]);
}

#[test]
fn overload_is_waited_out() {
    let busy = Answer::Reply(503, "", "<Error><Code>SlowDown</Code></Error>");
    let server = Scripted::answering([busy.clone(), busy, Answer::Reply(200, TAG, "body")]);
    let store = server.store();
    assert_eq!(store.get(&path("x")).unwrap(), b"body");
    assert_eq!(store.counters().gets, 3, "each request counts");
}

#[test]
fn only_the_service_proves_absence() {
    let get =
        |answer: Answer| Scripted::answering([answer.clone(), answer]).store().get(&path("x")).unwrap_err();
    assert!(matches!(get(NO_KEY), StoreError::NotFound { .. }));
    let no_bucket = Answer::Reply(404, "", "<Error><Code>NoSuchBucket</Code></Error>");
    assert!(matches!(get(no_bucket.clone()), StoreError::Unreachable { .. }));
    assert!(matches!(get(Answer::Reply(404, "", "<html>proxy</html>")), StoreError::Unreachable { .. }));
    assert!(matches!(get(Answer::Reply(403, "", "")), StoreError::Denied { .. }));

    let head = |answers: [Answer; 2]| Scripted::answering(answers).store().head(&path("x"));
    assert_eq!(head([NO_KEY, NO_KEY]).unwrap(), None);
    assert!(matches!(head([no_bucket.clone(), no_bucket]), Err(StoreError::Unreachable { .. })));
}

#[test]
fn a_silent_service_is_given_up_in_time() {
    let pause = Duration::from_secs(20);
    let server = Scripted::answering(std::iter::repeat_n(Answer::Silence(pause), 100));
    let store = server.store();
    let start = Instant::now();
    for answer in [
        store.get(&path("x")).map(drop),
        store.head(&path("x")).map(drop),
        store.put(&path("x"), &[b"x"], PutMode::IfAbsent).map(drop),
    ] {
        assert!(matches!(answer, Err(StoreError::Timeout { .. })), "{answer:?}");
    }
    assert!(start.elapsed() < Duration::from_secs(20), "three times: 3 s of attempts of 1 s");
}

#[test]
fn a_service_that_is_down_is_unreachable() {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let server = Scripted { port, asked: Arc::default() };
    let store = Cloud::s3(&S3Config { retry_s: 1, ..server.config() }).unwrap();
    for answer in [store.get(&path("x")).map(drop), store.head(&path("x")).map(drop), store.now().map(drop)] {
        assert!(matches!(answer, Err(StoreError::Unreachable { .. })), "{answer:?}");
    }
}

#[test]
fn a_missing_bucket_of_a_real_service_is_unreachable() {
    let server = S3Server::moto().unwrap();
    let config = S3Config { bucket: "no-such-bucket".to_owned(), retry_s: 1, ..server.config("") };
    let store = Cloud::s3(&config).unwrap();
    for answer in
        [store.get(&path("x")).map(drop), store.head(&path("x")).map(drop), store.list(None, None).map(drop)]
    {
        assert!(matches!(answer, Err(StoreError::Unreachable { .. })), "{answer:?}");
    }
}

#[test]
fn it_can_be_used_and_dropped_inside_another_runtime() {
    let server = Scripted::answering([Answer::Reply(200, TAG, "body")]);
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let store = server.store();
        assert_eq!(store.get(&path("x")).unwrap(), b"body");
        drop(store);
    });
}
