//! The storage keeps what its ports promise, on one server and on a cluster.

mod servers;

use std::sync::Arc;

use thredcore::{conformance::Fixture, port::Storage};
use thredcore_redis::{RedisConfig, RedisStorage};

const ENDED: usize = 10;

async fn fixture(config: RedisConfig) -> Fixture<dyn Storage> {
    let open = |config| async move {
        let storage = RedisStorage::open(config).await.unwrap_or_else(|error| panic!("{error}"));
        Arc::new(storage) as Arc<dyn Storage>
    };
    let config = config.ended_threds(ENDED).receipts_capacity(1_000).max_commit_bytes(8 << 20);
    let storage = open(config.clone()).await;
    Fixture::new(storage).keeping(ENDED).reopening(move |_| open(config.clone()))
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
