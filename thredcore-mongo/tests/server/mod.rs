//! The server that the tests run on, and a database for each of them.

use std::sync::atomic::{AtomicU64, Ordering};

use thredcore_mongo::{Mongo, MongoConfig};

/// The server, as the environment names it.
pub(crate) fn url() -> String {
    std::env::var("MONGODB_URL").unwrap_or_else(|_| {
        panic!(
            "MONGODB_URL names no MongoDB; \
             run: eval \"$(scripts/services up mongodb > /dev/null; scripts/services env mongodb)\""
        )
    })
}

/// A configuration with a database that no other test has.
pub(crate) fn config() -> MongoConfig {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let number = COUNT.fetch_add(1, Ordering::Relaxed);
    let now = std::time::SystemTime::now().duration_since(std::time::SystemTime::UNIX_EPOCH);
    let now = now.expect("a clock after 1970").as_nanos();
    let name = format!("test_{}_{number}_{now:x}", std::process::id());
    MongoConfig::new(url()).database(name).pool(8)
}

/// A connection to a configuration's database.
pub(crate) async fn connect(config: &MongoConfig) -> Mongo {
    match Mongo::connect(config.clone()).await {
        Ok(mongo) => mongo,
        Err(error) => panic!("{error}: {:?}", std::error::Error::source(&error)),
    }
}

/// Drops the database when the test is over, on a connection of its own: that of the test ends with
/// the test's runtime.
pub(crate) struct Dropped(pub(crate) MongoConfig);

impl Drop for Dropped {
    fn drop(&mut self) {
        let config = self.0.clone();
        let dropping = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.expect("a runtime can be built").block_on(async {
                if let Ok(mongo) = Mongo::connect(config).await {
                    let _ = mongo.drop_database().await;
                }
            });
        });
        let _ = dropping.join();
    }
}

/// A configuration's database behind the adapter's back.
#[allow(dead_code, reason = "each test program takes what it needs")]
pub(crate) async fn client(config: &MongoConfig) -> mongodb::Database {
    let client = mongodb::Client::with_uri_str(&config.url).await.expect("a client");
    client.database(config.database.as_deref().expect("a test has a database"))
}
