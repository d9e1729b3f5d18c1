//! The storage keeps what its ports promise, on one server and on a cluster.

mod servers;

use std::sync::Arc;

use thredcore::{conformance::Fixture, port::Storage};
use thredcore_redis::{RedisConfig, RedisStorage};

async fn fixture(config: RedisConfig) -> Fixture<dyn Storage> {
    let open = |config| async move {
        let storage = RedisStorage::open(config).await.unwrap_or_else(|error| panic!("{error}"));
        Arc::new(storage) as Arc<dyn Storage>
    };
    let storage = open(config.clone()).await;
    Fixture::new(storage).reopening(move |_| open(config.clone()))
}

mod one_server {
    use super::*;

    async fn storage() -> Fixture<dyn Storage> {
        fixture(servers::own_namespace(servers::one())).await
    }

    thredcore::conformance::storage_tests!(storage);
}

mod cluster {
    use super::*;

    async fn storage() -> Fixture<dyn Storage> {
        fixture(servers::own_namespace(servers::cluster())).await
    }

    thredcore::conformance::storage_tests!(storage);
}
