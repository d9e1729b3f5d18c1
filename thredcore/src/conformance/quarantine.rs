//! What [`Quarantine`](crate::port::Quarantine) promises where all can be read. What cannot be read
//! is put there by each backend's own tests, for only they know how.

use super::{
    Fixture,
    samples::{load, store, thred, unmoved},
};
use crate::port::{LogType, Settlement, Storage, StoredPattern};

/// What can be read is not touched.
pub async fn a_sound_storage_moves_nothing_out(fixture: Fixture<dyn Storage>) {
    let storage = &*fixture.port;
    let model = thredlib::PatternBuilder::new("a").id("a").build();
    storage.put_pattern(StoredPattern::new(model)).await.unwrap();
    store(storage, [thred("a")]).await;
    let unmoved = vec![unmoved("e", LogType::NoMatch, 5)];
    let settlement = Settlement { unmoved, ..Settlement::default() };
    storage.settle(0, &settlement).await.unwrap();
    assert_eq!(storage.unreadable(9).await.unwrap(), []);
    assert_eq!(storage.move_out(9).await.unwrap(), []);
    assert!(load(storage, "a").await.is_some());
    assert_eq!(storage.patterns().await.unwrap().len(), 1);
    assert_eq!(storage.unmoved(None, 9).await.unwrap().records.len(), 1);
}
