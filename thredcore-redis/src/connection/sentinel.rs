//! Sentinels: who is the master now.

use redis::{AsyncConnectionConfig, Client, ConnectionInfo, aio::MultiplexedConnection};

use super::target;
use crate::{config::RedisConfig, error::Error};

/// The sentinels that watch a master.
#[derive(Debug)]
pub(super) struct Sentinels {
    sentinels: Vec<Client>,
    name: String,
    master: ConnectionInfo,
    config: RedisConfig,
}

impl Sentinels {
    pub(super) fn new(
        config: &RedisConfig,
        sentinels: Vec<ConnectionInfo>,
        name: String,
        master: ConnectionInfo,
    ) -> Result<Self, Error> {
        let clients = sentinels.into_iter().map(|info| target::client(config, info));
        Ok(Self {
            sentinels: clients.collect::<Result<_, _>>()?,
            name,
            master,
            config: config.clone(),
        })
    }

    /// A client of the master that the first sentinel names that knows one. A server that does not
    /// hold itself for a master is none: the sentinel has yet to notice.
    pub(super) async fn master(&self) -> Result<Client, Error> {
        let mut last = Error::Config("the URL names no sentinels".into());
        for sentinel in &self.sentinels {
            match self.ask(sentinel).await {
                Ok(client) => return Ok(client),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    async fn ask(&self, sentinel: &Client) -> Result<Client, Error> {
        let mut command = redis::cmd("SENTINEL");
        command.arg("GET-MASTER-ADDR-BY-NAME").arg(&self.name);
        let mut connection = self.connect(sentinel).await?;
        let address = sentinel.get_connection_info().addr().to_string();
        let found: Option<(String, u16)> = command
            .query_async(&mut connection)
            .await
            .map_err(|error| Error::unreachable(&address, &error))?;
        let (host, port) = found.ok_or_else(|| {
            let name = &self.name;
            Error::NotNow(format!("the sentinel at {address} knows no master `{name}`"))
        })?;
        let client = target::client(&self.config, target::at(&self.master, &host, port))?;
        let mut connection = self.connect(&client).await?;
        let info: String = redis::cmd("INFO")
            .arg("replication")
            .query_async(&mut connection)
            .await
            .map_err(|error| Error::unreachable(&format!("{host}:{port}"), &error))?;
        if info.lines().any(|line| line.trim_end() == "role:master") {
            Ok(client)
        } else {
            Err(Error::NotNow(format!("{host}:{port} is not the master (any more)")))
        }
    }

    async fn connect(&self, client: &Client) -> Result<MultiplexedConnection, Error> {
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(self.config.connect_limit))
            .set_response_timeout(Some(self.config.connect_limit));
        let connection = client.get_multiplexed_async_connection_with_config(&config).await;
        let address = client.get_connection_info().addr().to_string();
        connection.map_err(|error| Error::unreachable(&address, &error))
    }
}
