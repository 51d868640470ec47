//! Answers of PostgreSQL that are lost, and what is on its way to it when a connection is
//! cut: what stands is told from what does not.

use std::sync::{Arc, Mutex};

use sea_orm::Database;
use taskwatch::store::{self, Changes, Notice, StoreError, Wanted, Writer};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::Notify,
};

use super::{
    created, name, new_task,
    support::{db::Db, postgres::value},
};

/// What happens next on a way.
#[derive(Clone, Copy)]
enum Next {
    Nothing,
    /// Who asks for something with these bytes is cut off in place of the answer.
    Lost(&'static [u8]),
    /// Who asks for something with these bytes is cut off, and what was asked is late.
    Late(&'static [u8]),
}

impl Next {
    fn is(self, asked: &[u8]) -> bool {
        match self {
            Self::Nothing => false,
            Self::Lost(words) | Self::Late(words) => {
                asked.windows(words.len()).any(|bytes| bytes == words)
            }
        }
    }
}

/// A way to the throw-away server.
struct Wire {
    url: String,
    next: Arc<Mutex<Next>>,
    late: Arc<Notify>,
    arrived: Arc<Notify>,
}

impl Wire {
    async fn to(url: &str) -> Arc<Self> {
        let (head, tail) = url.split_once("127.0.0.1:").expect("on this machine");
        let (port, database) = tail.split_once('/').expect("a database");
        let server = format!("127.0.0.1:{port}");
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let wire = Arc::new(Self {
            url: format!("{head}{address}/{database}"),
            next: Arc::new(Mutex::new(Next::Nothing)),
            late: Arc::default(),
            arrived: Arc::default(),
        });
        let of_all = Arc::clone(&wire);
        tokio::spawn(async move {
            while let Ok((asker, _)) = listener.accept().await {
                let server = TcpStream::connect(&server).await.expect("connected");
                let wire = Arc::clone(&of_all);
                tokio::spawn(async move { wire.pass(asker, server).await });
            }
        });
        wire
    }

    fn is(&self, next: Next) -> Next {
        std::mem::replace(&mut self.next.lock().expect("no panic"), next)
    }

    /// Passes on what is said on one connection.
    async fn pass(&self, mut asker: TcpStream, mut server: TcpStream) -> Option<()> {
        let (mut asked, mut answered) = (vec![0; 65_536], vec![0; 65_536]);
        loop {
            tokio::select! {
                read = asker.read(&mut asked) => {
                    let asked = &asked[..read.ok().filter(|size| *size > 0)?];
                    let next = *self.next.lock().expect("no panic");
                    if !next.is(asked) {
                        server.write_all(asked).await.ok()?;
                        continue;
                    }
                    self.is(Next::Nothing);
                    if matches!(next, Next::Late(_)) {
                        drop(asker);
                        self.late.notified().await;
                    }
                    // It may be heard no more.
                    server.write_all(asked).await.ok();
                    server.readable().await.ok();
                    self.arrived.notify_one();
                    return None;
                }
                read = server.read(&mut answered) => {
                    let answer = &answered[..read.ok().filter(|size| *size > 0)?];
                    asker.write_all(answer).await.ok()?;
                }
            }
        }
    }
}

/// Creates a task and tells the others, after something was read or not; whether it stands.
async fn create(writer: &mut Writer, id: &str, reads: bool) -> bool {
    let mut transaction = writer.begin().await.expect("begun");
    let ids = reads.then(|| name(id)).into_iter().collect();
    let wanted = Wanted { ids, ..Wanted::default() };
    let now = transaction.load(&wanted).await.expect("loaded").now;
    let created = vec![created(&new_task(id), now)];
    let changes = Changes { created, ..Changes::default() };
    transaction.write(&changes, now).await.expect("written");
    transaction.notify(&Notice { changed: vec![name(id)], ..Notice::default() }, now);
    match transaction.commit(false).await {
        Ok(()) => true,
        Err(StoreError::Unavailable(_)) => false,
        // It takes longer.
        Err(StoreError::Unknown { told }) => writer.became(told).await,
        Err(other) => panic!("{other:?}"),
    }
}

/// A commit stands whose answer is lost; one that was on its way when the connection was cut
/// does not come to stand.
async fn told_apart(reads: bool, lost: &'static [u8], late: &'static [u8]) {
    let db = Db::postgres().await;
    let direct = Database::connect(db.url()).await.expect("connected");
    let wire = Wire::to(db.url()).await;
    let (mut writer, _reader) = store::open(&wire.url).await.expect("opened");
    assert!(create(&mut writer, "before", reads).await);

    wire.is(Next::Lost(lost));
    assert!(create(&mut writer, "stands", reads).await);
    wire.arrived.notified().await;

    assert!(create(&mut writer, "between", reads).await, "on a new connection");
    wire.is(Next::Late(late));
    assert!(!create(&mut writer, "late", reads).await);
    wire.late.notify_one();
    wire.arrived.notified().await;

    assert!(create(&mut writer, "after", reads).await, "on a new connection");
    let all: String = value(&direct, "SELECT string_agg(id, ' ' ORDER BY row) FROM tasks").await;
    assert_eq!(all, "before stands between after");
}

/// What needs to read nothing is one statement, which commits by itself.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_one_statement() {
    told_apart(false, b"stands", b"late").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_a_commit() {
    told_apart(true, b"COMMIT\0", b"COMMIT\0").await;
}
