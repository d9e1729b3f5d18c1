//! The promises of the ports, on a real server.

mod server;

use std::sync::Arc;

use thredcore::{
    conformance::{Fixture, run},
    memory::MemoryStorage,
    persistence::conformance::persistence,
    port::Storage,
};
use thredcore_mongo::{Archived, MongoArchive, MongoPersistence, MongoStorage};

use server::{Dropped, config, connect};

mod storage {
    use super::*;

    /// Few are enough to see that they are bounded.
    const RECEIPTS: u64 = 200;
    const ENDED: usize = 5;

    async fn storage() -> Fixture<dyn Storage> {
        let config = config().receipts_capacity(RECEIPTS).ended_threds(ENDED);
        let mongo = connect(&config).await;
        let open = MongoStorage::open(&mongo).await.expect("a storage can be opened");
        let again = config.clone();
        let fixture = Fixture::<dyn Storage>::new(Arc::new(open)).keeping(ENDED);
        fixture.guarding(Dropped(config)).reopening(move |former| {
            let config = again.clone();
            async move {
                drop(former);
                let mongo = connect(&config).await;
                let open = MongoStorage::open(&mongo).await;
                Arc::new(open.expect("a storage can be opened again")) as Arc<dyn Storage>
            }
        })
    }

    thredcore::conformance::storage_tests!(storage);
}

/// A storage in memory with its past in the archive.
mod archived {
    use super::*;

    async fn storage() -> Fixture<dyn Storage> {
        let config = config();
        let archive = MongoArchive::open(&connect(&config).await).await;
        let archive = archive.expect("an archive can be opened");
        let storage = Archived::new(Arc::new(MemoryStorage::default()), archive);
        Fixture::<dyn Storage>::new(Arc::new(storage)).guarding(Dropped(config))
    }

    thredcore::conformance::storage_tests!(storage);
}

#[test]
fn tasks_mean_what_they_mean_elsewhere() {
    run(async {
        let config = config();
        let _guard = Dropped(config.clone());
        let store = MongoPersistence::open(&connect(&config).await).await;
        persistence(Arc::new(store.expect("records can be opened"))).await;
    });
}
