//! A way to a server that can be stopped dead, as a server that is frozen: connections stay, new
//! ones are taken, and nothing ever comes back.

use std::{
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    sync::{
        Arc, Condvar, Mutex,
        atomic::{AtomicBool, Ordering},
    },
};

/// Stands before the servers of one deployment.
#[derive(Clone, Default)]
pub(crate) struct Freezer(Arc<State>);

#[derive(Default)]
struct State {
    frozen: AtomicBool,
    refuses: AtomicBool,
    lock: Mutex<()>,
    changed: Condvar,
}

impl Freezer {
    /// The URL of the server at `url`, by way of this.
    pub(crate) fn before(&self, url: &str) -> String {
        let (front, rest) = match url.rsplit_once('@') {
            Some((front, rest)) => (format!("{front}@"), rest),
            None => {
                let (scheme, rest) = url.split_once("://").unwrap();
                (format!("{scheme}://"), rest)
            }
        };
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        let (server, path) = (rest[..end].to_owned(), &rest[end..]);
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let own = listener.local_addr().unwrap();
        let state = self.0.clone();
        std::thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                if state.refuses.load(Ordering::SeqCst) {
                    continue;
                }
                let Ok(server) = TcpStream::connect(&server) else { continue };
                let back = (server.try_clone().unwrap(), client.try_clone().unwrap());
                for (from, to) in [(client, server), back] {
                    let state = state.clone();
                    std::thread::spawn(move || state.carry(from, to));
                }
            }
        });
        format!("{front}{own}{path}")
    }

    pub(crate) fn freeze(&self) {
        self.0.frozen.store(true, Ordering::SeqCst);
    }

    pub(crate) fn thaw(&self) {
        self.0.frozen.store(false, Ordering::SeqCst);
        let _held = self.0.lock.lock().unwrap();
        self.0.changed.notify_all();
    }

    /// The servers are gone: connections end, new ones are closed.
    pub(crate) fn vanish(&self) {
        self.0.refuses.store(true, Ordering::SeqCst);
    }
}

impl State {
    fn carry(&self, mut from: TcpStream, mut to: TcpStream) {
        let mut buffer = vec![0; 1 << 16];
        while let Ok(count @ 1..) = from.read(&mut buffer) {
            let mut held = self.lock.lock().unwrap();
            while self.frozen.load(Ordering::SeqCst) {
                held = self.changed.wait(held).unwrap();
            }
            drop(held);
            if self.refuses.load(Ordering::SeqCst) || to.write_all(&buffer[..count]).is_err() {
                break;
            }
        }
        let _ = (from.shutdown(std::net::Shutdown::Both), to.shutdown(std::net::Shutdown::Both));
    }
}
