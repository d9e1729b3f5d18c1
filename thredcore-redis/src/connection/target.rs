//! Which servers a URL means.

use std::sync::Once;

use redis::{
    Client, ClientTlsConfig, ConnectionAddr, ConnectionInfo, IntoConnectionInfo, TlsCertificates,
};

use crate::{config::RedisConfig, error::Error};

/// What URLs stand for.
#[derive(Debug)]
pub(super) enum Target {
    /// One server.
    Server(ConnectionInfo),
    /// Whoever is the master of a name.
    Sentinel { sentinels: Vec<ConnectionInfo>, name: String, master: ConnectionInfo },
    /// The cluster that these nodes belong to.
    Cluster(Vec<ConnectionInfo>),
}

impl Target {
    pub(super) fn new(config: &RedisConfig) -> Result<Self, Error> {
        match &*config.urls {
            [] => Err(wrong("there is no URL of a Redis server")),
            [url] => Self::parse(url),
            several => {
                let nodes = several.iter().map(|url| server(url)).collect::<Result<_, _>>()?;
                Ok(Self::Cluster(nodes))
            }
        }
    }

    fn parse(url: &str) -> Result<Self, Error> {
        let (scheme, rest) = url.split_once("://").ok_or_else(|| unknown_scheme(url))?;
        let (plain, kind) = scheme.split_once('+').unwrap_or((scheme, ""));
        if !matches!(plain, "redis" | "rediss") {
            return match kind {
                "" => server(url).map(Self::Server),
                _ => Err(unknown_scheme(scheme)),
            };
        }
        match kind {
            "" => server(url).map(Self::Server),
            "cluster" => {
                let (rest, query) = split(rest, '?');
                let (authority, _) = split(rest, '/');
                let (user, hosts) = authority.rsplit_once('@').unwrap_or(("", authority));
                let nodes = hosts.split(',').map(|host| node(plain, user, host, "", query));
                Ok(Self::Cluster(nodes.collect::<Result<_, _>>()?))
            }
            "sentinel" => Self::sentinel(plain, rest),
            _ => Err(unknown_scheme(scheme)),
        }
    }

    fn sentinel(scheme: &str, rest: &str) -> Result<Self, Error> {
        let (rest, query) = split(rest, '?');
        let (authority, path) = split(rest, '/');
        let (name, db) = split(path, '/');
        if name.is_empty() {
            return Err(wrong(
                "the URL does not name the master; write redis+sentinel://host:port/NAME",
            ));
        }
        let (user, hosts) = authority.rsplit_once('@').unwrap_or(("", authority));
        let (mut sentinel_user, mut sentinel_password) = ("", "");
        let mut others = vec![];
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            match pair.split_once('=') {
                Some(("sentinelUser", user)) => sentinel_user = user,
                Some(("sentinelPassword", password)) => sentinel_password = password,
                _ => others.push(pair),
            }
        }
        let own = match sentinel_password {
            "" => String::new(),
            password => format!("{sentinel_user}:{password}"),
        };
        let sentinels = hosts.split(',').map(|host| node(scheme, &own, host, "", ""));
        Ok(Self::Sentinel {
            sentinels: sentinels.collect::<Result<_, _>>()?,
            name: name.to_owned(),
            // The address is what the sentinels say.
            master: node(scheme, user, "localhost", db, &others.join("&"))?,
        })
    }
}

fn split(text: &str, at: char) -> (&str, &str) {
    text.split_once(at).unwrap_or((text, ""))
}

fn node(
    scheme: &str,
    user: &str,
    host: &str,
    db: &str,
    query: &str,
) -> Result<ConnectionInfo, Error> {
    let at = if user.is_empty() { "" } else { "@" };
    let query = if query.is_empty() { String::new() } else { format!("?{query}") };
    server(&format!("{scheme}://{user}{at}{host}/{db}{query}"))
}

fn server(url: &str) -> Result<ConnectionInfo, Error> {
    // Not the URL itself: it may hold a password.
    let info = url.into_connection_info().map_err(|error| {
        wrong(&format!("a Redis URL cannot be used: {error}; see `RedisConfig` for its forms"))
    })?;
    let tcp = info.tcp_settings().clone().set_nodelay(true);
    Ok(info.set_tcp_settings(tcp))
}

fn wrong(text: &str) -> Error {
    Error::Config(text.to_owned())
}

fn unknown_scheme(scheme: &str) -> Error {
    let scheme = scheme.split(':').next().unwrap_or_default();
    wrong(&format!(
        "`{scheme}` is no scheme of a Redis URL; \
         use redis, rediss, redis+cluster, rediss+cluster, redis+sentinel or rediss+sentinel"
    ))
}

/// The same user, options and TLS at another address.
pub(super) fn at(info: &ConnectionInfo, host: &str, port: u16) -> ConnectionInfo {
    let host = host.to_owned();
    let addr = match info.addr() {
        ConnectionAddr::TcpTls { insecure, tls_params, .. } => ConnectionAddr::TcpTls {
            host,
            port,
            insecure: *insecure,
            tls_params: tls_params.clone(),
        },
        _ => ConnectionAddr::Tcp(host, port),
    };
    info.clone().set_addr(addr)
}

/// Host and port; port 0 for a socket.
pub(super) fn address(info: &ConnectionInfo) -> (String, u16) {
    match info.addr() {
        ConnectionAddr::Tcp(host, port) | ConnectionAddr::TcpTls { host, port, .. } => {
            (host.clone(), *port)
        }
        other => (other.to_string(), 0),
    }
}

/// A client for a server, with the certificates of the configuration.
pub(super) fn client(config: &RedisConfig, info: ConnectionInfo) -> Result<Client, Error> {
    let address = info.addr().to_string();
    let client = match info.addr() {
        ConnectionAddr::TcpTls { .. } => {
            provide_cryptography();
            let certificate = config.client_certificate.clone();
            Client::build_with_tls(
                info,
                TlsCertificates {
                    client_tls: certificate.map(|(client_cert, client_key)| ClientTlsConfig {
                        client_cert,
                        client_key,
                    }),
                    root_cert: config.root_certificates.clone(),
                },
            )
        }
        _ => Client::open(info),
    };
    client.map_err(|error| Error::Config(format!("no client for redis at {address}: {error}")))
}

/// rustls asks which implementation to use if a build holds none or several. The program's choice
/// comes first.
fn provide_cryptography() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        if rustls::crypto::CryptoProvider::get_default().is_none() {
            // Somebody else was faster: just as well.
            let _ = rustls::crypto::ring::default_provider().install_default();
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(url: &str) -> Target {
        Target::new(&RedisConfig::new(url)).unwrap_or_else(|error| panic!("{url}: {error}"))
    }

    fn addresses(infos: &[ConnectionInfo]) -> Vec<String> {
        infos.iter().map(|info| info.addr().to_string()).collect()
    }

    #[test]
    fn a_plain_url_is_one_server() {
        let Target::Server(info) = target("redis://ann:s%40cret@example.org/3") else {
            panic!("one server")
        };
        assert_eq!(info.addr().to_string(), "example.org:6379");
        assert_eq!(info.redis_settings().username(), Some("ann"));
        assert_eq!(info.redis_settings().password(), Some("s@cret"));
        assert_eq!(info.redis_settings().db(), 3);
        assert!(info.tcp_settings().nodelay());
        let Target::Server(info) = target("rediss://example.org:1") else { panic!("one server") };
        assert!(matches!(info.addr(), ConnectionAddr::TcpTls { insecure: false, .. }));
    }

    #[test]
    fn a_cluster_url_names_some_nodes() {
        let Target::Cluster(nodes) = target("rediss+cluster://ann:pw@a:1,b:2") else {
            panic!("a cluster")
        };
        assert_eq!(addresses(&nodes), ["a:1", "b:2"]);
        assert!(nodes.iter().all(|node| node.redis_settings().username() == Some("ann")));
        assert!(matches!(nodes[1].addr(), ConnectionAddr::TcpTls { .. }));
        let config = RedisConfig::cluster(["redis://a:1", "redis://b:2"]);
        let Ok(Target::Cluster(nodes)) = Target::new(&config) else { panic!("a cluster") };
        assert_eq!(addresses(&nodes), ["a:1", "b:2"]);
    }

    #[test]
    fn a_sentinel_url_names_the_master() {
        let url = "redis+sentinel://ann:pw@a:1,b:2/main/4?sentinelUser=eve&sentinelPassword=x";
        let Target::Sentinel { sentinels, name, master } = target(url) else { panic!("sentinels") };
        assert_eq!((&*name, addresses(&sentinels)), ("main", vec!["a:1".into(), "b:2".into()]));
        assert_eq!(sentinels[0].redis_settings().username(), Some("eve"));
        assert_eq!(sentinels[0].redis_settings().password(), Some("x"));
        assert_eq!(master.redis_settings().username(), Some("ann"));
        assert_eq!(master.redis_settings().db(), 4);
        assert_eq!(at(&master, "c", 5).addr().to_string(), "c:5");
    }

    #[test]
    fn a_wrong_url_is_told_without_its_password() {
        for url in ["http://ann:secret@a", "redis+what://ann:secret@a", "redis://ann:secret@a:port"]
        {
            let error = Target::new(&RedisConfig::new(url)).expect_err(url).to_string();
            assert!(!error.contains("secret"), "{error}");
        }
        for url in ["", "a:1", "redis+sentinel://a:1"] {
            assert!(Target::new(&RedisConfig::new(url)).is_err(), "{url}");
        }
    }
}
