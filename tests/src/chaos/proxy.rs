//! A TCP proxy that loses answers.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    task::{JoinHandle, JoinSet},
};

/// Stands before a server, passes on what is said, and loses answers when it is told to.
#[derive(Debug)]
pub struct Proxy {
    port: u16,
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

/// How the answer to a request is lost.
#[derive(Clone, Debug)]
pub struct Loss {
    /// What the request holds, as `EVALSHA`; empty for any.
    pub of: &'static str,
    /// What happens to the connection then.
    pub then: Then,
}

/// What happens to a connection whose answer is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Then {
    /// It is closed.
    Close,
    /// Nothing comes through any more, for this time; then it is closed.
    Stall(Duration),
}

#[derive(Debug)]
struct Shared {
    upstream: u16,
    open: Mutex<JoinSet<()>>,
    next: Mutex<Option<Loss>>,
    lost: AtomicU64,
}

impl Proxy {
    /// Stands before a port of this machine.
    ///
    /// # Panics
    /// When there is no port to listen on.
    pub async fn before(upstream: u16) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a port to listen on");
        let port = listener.local_addr().expect("it is bound").port();
        let shared = Arc::new(Shared {
            upstream,
            open: Mutex::default(),
            next: Mutex::default(),
            lost: AtomicU64::new(0),
        });
        let task = tokio::spawn(listen(listener, shared.clone()));
        Self { port, shared, task }
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Loses the answer to the next request that fits.
    pub fn lose(&self, loss: Loss) {
        *self.shared.next() = Some(loss);
    }

    /// Breaks all connections; says how many there were.
    pub fn cut(&self) -> usize {
        let mut open = self.shared.open();
        while open.try_join_next().is_some() {}
        let count = open.len();
        open.abort_all();
        count
    }

    /// How many answers were lost.
    pub fn lost(&self) -> u64 {
        self.shared.lost.load(Ordering::SeqCst)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Shared {
    fn next(&self) -> parking_lot::MutexGuard<'_, Option<Loss>> {
        self.next.lock()
    }

    fn open(&self) -> parking_lot::MutexGuard<'_, JoinSet<()>> {
        self.open.lock()
    }

    /// Takes the loss that is due, if it is that of this request.
    fn strike(&self, request: &[u8]) -> Option<Then> {
        let mut next = self.next();
        let of = next.as_ref()?.of.as_bytes();
        let fits = of.is_empty() || request.windows(of.len()).any(|part| part == of);
        next.take_if(|_| fits).map(|loss| loss.then)
    }
}

async fn listen(listener: TcpListener, shared: Arc<Shared>) {
    while let Ok((client, _)) = listener.accept().await {
        let upstream = shared.clone();
        let passing = async move {
            let shared = upstream;
            let Ok(server) = TcpStream::connect(("127.0.0.1", shared.upstream)).await else {
                return;
            };
            let _ = (client.set_nodelay(true), server.set_nodelay(true));
            let (from_client, to_client) = client.into_split();
            let (from_server, to_server) = server.into_split();
            let deaf = Arc::new(AtomicBool::new(false));
            // When one direction ends, both halves are dropped, and the connection closes.
            tokio::select! {
                () = requests(from_client, to_server, shared, deaf.clone()) => {}
                () = answers(from_server, to_client, deaf) => {}
            }
        };
        shared.open().spawn(passing);
    }
}

/// The request whose answer is lost is passed on: the server does what it says.
async fn requests(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    shared: Arc<Shared>,
    deaf: Arc<AtomicBool>,
) {
    let mut part = vec![0; 64 * 1024];
    while let Ok(read @ 1..) = from.read(&mut part).await {
        let struck = shared.strike(&part[..read]);
        deaf.fetch_or(struck.is_some(), Ordering::SeqCst);
        if to.write_all(&part[..read]).await.is_err() {
            return;
        }
        if let Some(then) = struck {
            shared.lost.fetch_add(1, Ordering::SeqCst);
            let pause = match then {
                // Long enough for the server to do it before it sees the connection close.
                Then::Close => Duration::from_millis(5),
                Then::Stall(pause) => pause,
            };
            tokio::time::sleep(pause).await;
            return;
        }
    }
}

async fn answers(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, deaf: Arc<AtomicBool>) {
    let mut part = vec![0; 64 * 1024];
    while let Ok(read @ 1..) = from.read(&mut part).await {
        if !deaf.load(Ordering::SeqCst) && to.write_all(&part[..read]).await.is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Answers each byte with itself, and counts.
    async fn echo() -> (u16, Arc<AtomicU64>) {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let count = Arc::new(AtomicU64::new(0));
        let counted = count.clone();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let count = counted.clone();
                tokio::spawn(async move {
                    while let Ok(byte) = stream.read_u8().await {
                        count.fetch_add(1, Ordering::SeqCst);
                        stream.write_u8(byte).await.unwrap();
                    }
                });
            }
        });
        (port, count)
    }

    async fn ask(port: u16, bytes: &[u8]) -> std::io::Result<Vec<u8>> {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).await?;
        stream.write_all(bytes).await?;
        let mut answer = vec![0; bytes.len()];
        stream.read_exact(&mut answer).await?;
        Ok(answer)
    }

    #[tokio::test]
    async fn what_is_lost_is_the_answer_and_not_the_request() {
        let (port, count) = echo().await;
        let proxy = Proxy::before(port).await;
        assert_eq!(ask(proxy.port(), b"abc").await.unwrap(), b"abc");
        proxy.lose(Loss { of: "x", then: Then::Close });
        assert_eq!(ask(proxy.port(), b"abc").await.unwrap(), b"abc");
        assert!(ask(proxy.port(), b"xyz").await.is_err());
        assert_eq!((proxy.lost(), count.load(Ordering::SeqCst)), (1, 9));
        assert_eq!(ask(proxy.port(), b"xyz").await.unwrap(), b"xyz");
    }

    #[tokio::test]
    async fn what_is_cut_is_all_that_is_open() {
        let (port, _) = echo().await;
        let proxy = Proxy::before(port).await;
        let mut stream = TcpStream::connect(("127.0.0.1", proxy.port())).await.unwrap();
        stream.write_u8(7).await.unwrap();
        assert_eq!(stream.read_u8().await.unwrap(), 7);
        assert_eq!(proxy.cut(), 1);
        assert!(stream.read_u8().await.is_err());
        assert_eq!(ask(proxy.port(), b"abc").await.unwrap(), b"abc");
    }
}
