//! TLS, with an authority of the test's own.

mod support;

use std::{error::Error, net::TcpListener, path::Path, process::Command, time::Duration};

use support::broker::Broker;
use thredcore::port::{Accepted, EventQ, Inbound};
use thredcore_amqp::{AmqpConfig, AmqpError, AmqpQueues};
use thredlib::Event;
use tokio::time::{sleep, timeout};

/// Makes an authority, and a key for `localhost` that it vouches for.
fn make_certificates(dir: &Path, authority: &str) {
    let openssl = |args: &str| {
        let output = Command::new("openssl").args(args.split(' ')).current_dir(dir).output();
        let output = output.expect("openssl; on Debian: apt-get install openssl");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    };
    openssl(&format!(
        "req -x509 -newkey rsa:2048 -nodes -keyout {authority}.key -out {authority}.pem -days 2 \
         -subj /CN={authority}"
    ));
    openssl(&format!(
        "req -x509 -newkey rsa:2048 -nodes -keyout {authority}-server.key \
         -out {authority}-server.pem -days 2 -subj /CN=server \
         -addext subjectAltName=DNS:localhost -CA {authority}.pem -CAkey {authority}.key \
         -addext basicConstraints=critical,CA:FALSE"
    ));
}

/// Waits for a broker that was just started.
async fn connect(config: &AmqpConfig) -> AmqpQueues {
    let connecting = async {
        loop {
            match AmqpQueues::connect(config.clone()).await {
                Ok(queues) => return queues,
                Err(_) => sleep(Duration::from_millis(100)).await,
            }
        }
    };
    timeout(Duration::from_secs(60), connecting).await.expect("RabbitMQ takes TLS in time")
}

/// What a refusal says, with its causes.
async fn refusal(config: AmqpConfig) -> String {
    let error = AmqpQueues::connect(config).await.expect_err("that must be refused");
    assert!(matches!(error, AmqpError::Connect { .. }), "{error:?}");
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text.to_lowercase()
}

#[tokio::test(flavor = "multi_thread")]
async fn tls_checks_the_certificate_and_the_name() {
    let dir = tempfile::tempdir().expect("a directory");
    make_certificates(dir.path(), "ours");
    make_certificates(dir.path(), "strangers");
    let path = |name: &str| dir.path().join(name).display().to_string();
    let read = |name: &str| std::fs::read_to_string(path(name)).expect(name);
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
    let port = listener.local_addr().expect("an address").port();
    drop(listener);
    let broker = Broker::start();
    broker.configure(&[
        format!("listeners.ssl.default = 127.0.0.1:{port}"),
        format!("ssl_options.cacertfile = {}", path("ours.pem")),
        format!("ssl_options.certfile = {}", path("ours-server.pem")),
        format!("ssl_options.keyfile = {}", path("ours-server.key")),
    ]);

    let at = |host: &str| {
        let url = format!("amqps://guest:guest@{host}:{port}/%2f");
        AmqpConfig::new(url).expect("an address").partitions(1)
    };
    let queues = connect(&at("localhost").ca_certificate(read("ours.pem"))).await;
    let event = Accepted::new(Event::builder("a", "erp").id("erp/1").build(), 1);
    queues.event_q.publish(vec![Inbound::Event(event)]).await.expect("it is published");
    let received = timeout(Duration::from_secs(20), queues.event_q.receive(0, 1)).await;
    let received = received.expect("in time").expect("it is received");
    assert_eq!(received[0].payload.id().as_str(), "erp/1");
    queues.event_q.ack(&[received[0].tag]).await.expect("it is acknowledged");
    queues.close().await;

    for (what, config) in [
        ("an unknown authority", at("localhost")),
        ("another authority", at("localhost").ca_certificate(read("strangers.pem"))),
        ("another name", at("127.0.0.1").ca_certificate(read("ours.pem"))),
    ] {
        let text = refusal(config).await;
        assert!(text.contains("certificate"), "{what}: {text}");
    }
}
