//! A way to the broker that can be cut.

use std::sync::{Arc, Mutex};

use tokio::{
    net::{TcpListener, TcpStream},
    task::AbortHandle,
};

/// Forwards connections to a broker, until it is told to cut them.
pub(crate) struct Proxy {
    /// The broker's address by way of the proxy.
    pub(crate) url: String,
    connections: Arc<Mutex<Vec<AbortHandle>>>,
    accepting: AbortHandle,
}

impl Proxy {
    pub(crate) async fn to(url: &str) -> Self {
        let (front, vhost) = url.rsplit_once('/').expect("a virtual host");
        let (user, address) = front.rsplit_once('@').expect("a user");
        let address = address.to_owned();
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let port = listener.local_addr().expect("an address").port();
        let connections: Arc<Mutex<Vec<AbortHandle>>> = Arc::default();
        let open = connections.clone();
        let accepting = tokio::spawn(async move {
            while let Ok((mut client, _)) = listener.accept().await {
                let address = address.clone();
                let forwarding = tokio::spawn(async move {
                    let Ok(mut broker) = TcpStream::connect(address).await else { return };
                    _ = tokio::io::copy_bidirectional(&mut client, &mut broker).await;
                });
                open.lock().unwrap().push(forwarding.abort_handle());
            }
        });
        let accepting = accepting.abort_handle();
        Self { url: format!("{user}@127.0.0.1:{port}/{vhost}"), connections, accepting }
    }

    /// Breaks all connections; new ones are forwarded again.
    pub(crate) fn cut(&self) {
        self.connections.lock().unwrap().drain(..).for_each(|connection| connection.abort());
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
        self.cut();
    }
}
