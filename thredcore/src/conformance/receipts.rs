//! What [`RecordStore`](crate::port::RecordStore) promises about receipts.

use thredlib::EventKey;

use super::{
    Fixture,
    samples::{key, unmoved},
};
use crate::port::{LogType, Receipt, Settlement, Storage};

type Store = Fixture<dyn Storage>;

const SETTLED: Receipt = Receipt::Settled;

fn receipts(keys: &[&str], receipt: Receipt, now: i64) -> Settlement {
    let receipts = keys.iter().map(|id| (key(id), receipt)).collect();
    Settlement { receipts, now, ..Settlement::default() }
}

async fn settle(storage: &dyn Storage, keys: &[&str], receipt: Receipt, now: i64) {
    storage.settle(0, &receipts(keys, receipt, now)).await.expect("settle");
}

async fn found(storage: &dyn Storage, keys: &[&str]) -> Vec<Option<Receipt>> {
    let keys: Vec<_> = keys.iter().map(|id| key(id)).collect();
    storage.receipts(0, &keys).await.expect("receipts")
}

/// In the order of the keys, with gaps and repetitions.
pub async fn a_receipt_is_found_by_its_key(fixture: Store) {
    let storage = &*fixture.port;
    assert!(found(storage, &[]).await.is_empty());
    assert_eq!(found(storage, &["a", "b"]).await, [None, None]);
    storage.settle(0, &Settlement::default()).await.unwrap();
    settle(storage, &["a", "c"], SETTLED, 5).await;
    settle(storage, &["d"], Receipt::Dead(2), 5).await;
    let expected = [Some(SETTLED), None, Some(Receipt::Dead(2)), Some(SETTLED), Some(SETTLED)];
    assert_eq!(found(storage, &["c", "b", "d", "a", "c"]).await, expected);
    let other = storage.receipts(0, &[EventKey::of("mallory", "a")]).await.unwrap();
    assert_eq!(other, [None], "the same id from another source");
}

/// A receipt is filed in a partition, and asked for there.
pub async fn partitions_have_receipts_of_their_own(fixture: Store) {
    let storage = &*fixture.port;
    for partition in 0..storage.partitions() {
        let id = format!("of {partition}");
        storage.settle(partition, &receipts(&[&id], SETTLED, 5)).await.unwrap();
    }
    for partition in 0..storage.partitions() {
        let ids = [key(&format!("of {partition}")), key("of none")];
        assert_eq!(storage.receipts(partition, &ids).await.unwrap(), [Some(SETTLED), None]);
    }
}

/// From dead to dead once more, and to settled; never back, also within one call.
pub async fn a_receipt_only_goes_up(fixture: Store) {
    let storage = &*fixture.port;
    for (written, expected) in [
        (Receipt::Dead(2), Receipt::Dead(2)),
        (Receipt::Dead(1), Receipt::Dead(2)),
        (Receipt::Dead(3), Receipt::Dead(3)),
        (SETTLED, SETTLED),
        (Receipt::Dead(9), SETTLED),
    ] {
        for _ in 0..2 {
            settle(storage, &["a"], written, 5).await;
            assert_eq!(found(storage, &["a"]).await, [Some(expected)], "after {written:?}");
        }
    }
    let mixed = [Receipt::Dead(1), SETTLED, Receipt::Dead(2)].map(|receipt| (key("b"), receipt));
    let mixed = Settlement { receipts: mixed.into(), now: 5, ..Settlement::default() };
    storage.settle(0, &mixed).await.unwrap();
    assert_eq!(found(storage, &["b"]).await, [Some(SETTLED)]);
}

/// Whatever is written meanwhile, and wherever, a receipt is found until its time is over.
pub async fn receipts_are_found_for_their_time(fixture: Store) {
    let storage = &*fixture.port;
    let time = i64::try_from(storage.retention().time.as_millis()).expect("milliseconds");
    let start = 1_700_000_000_000;
    settle(storage, &["a"], SETTLED, start).await;
    for step in 1..40 {
        let now = start + time * step / 40;
        let partition = (step as u16) % storage.partitions();
        let other = receipts(&[&format!("other {step}")], SETTLED, now);
        storage.settle(partition, &other).await.unwrap();
        assert_eq!(found(storage, &["a"]).await, [Some(SETTLED)], "at {now}");
    }
    assert_eq!(found(storage, &["a"]).await, [Some(SETTLED)]);
}

/// What is settled again and again, as by a producer that keeps repeating itself, stays known.
pub async fn a_receipt_that_is_written_again_is_kept_longer(fixture: Store) {
    let storage = &*fixture.port;
    let time = i64::try_from(storage.retention().time.as_millis()).expect("milliseconds");
    for step in 0..20 {
        settle(storage, &["a"], SETTLED, time * step / 3).await;
        assert_eq!(found(storage, &["a"]).await, [Some(SETTLED)], "step {step}");
    }
}

/// The latest of all partitions together, even if nearly all are in one.
pub async fn the_latest_receipts_are_found(fixture: Store) {
    let storage = &*fixture.port;
    let capacity = storage.retention().capacity;
    if capacity > 10_000 {
        eprintln!("not checked: the fixture keeps {capacity} receipts");
        return;
    }
    let last = storage.partitions() - 1;
    let ids: Vec<_> = (0..5 * capacity).map(|number| number.to_string()).collect();
    for chunk in ids.chunks(7) {
        let chunk: Vec<_> = chunk.iter().map(String::as_str).collect();
        storage.settle(last, &receipts(&chunk, SETTLED, 5)).await.unwrap();
    }
    settle(storage, &["elsewhere"], SETTLED, 5).await;
    let latest = &ids[ids.len() - capacity as usize + 1..];
    let keys: Vec<_> = latest.iter().map(|id| key(id)).collect();
    let answers = storage.receipts(last, &keys).await.unwrap();
    let missing = answers.iter().filter(|answer| answer.is_none()).count();
    assert_eq!(missing, 0, "of the latest {}", keys.len());
    let keys: Vec<_> = ids.iter().map(|id| key(id)).collect();
    let kept = storage.receipts(last, &keys).await.unwrap().into_iter().flatten().count();
    assert!(kept < ids.len(), "they are kept without bound");
}

/// Dead letters are kept for weeks, and so are their receipts.
pub async fn receipts_of_dead_letters_outlive_the_others(fixture: Store) {
    const DAY: i64 = 24 * 3_600_000;
    let storage = &*fixture.port;
    settle(storage, &["a"], Receipt::Dead(1), 0).await;
    for day in 1..=29 {
        settle(storage, &[&format!("other {day}")], SETTLED, day * DAY).await;
        assert_eq!(found(storage, &["a"]).await, [Some(Receipt::Dead(1))], "day {day}");
    }
}

/// Records and receipts of one call, by callers at one time.
pub async fn racing_settlements_lose_none(fixture: Store) {
    let racers: Vec<_> = (0..16)
        .map(|racer| {
            let storage = fixture.port.clone();
            tokio::spawn(async move {
                for step in 0..10 {
                    let id = format!("{racer}/{step}");
                    let mut settlement = receipts(&[&id, "shared"], SETTLED, 5);
                    settlement.unmoved = vec![unmoved(&id, LogType::NoMatch, 5)];
                    storage.settle(0, &settlement).await.expect("settle");
                }
            })
        })
        .collect();
    for racer in racers {
        racer.await.expect("a racer");
    }
    let ids: Vec<_> = (0..16)
        .flat_map(|racer| (0..10).map(move |step| key(&format!("{racer}/{step}"))))
        .collect();
    let storage = &*fixture.port;
    assert!(storage.receipts(0, &ids).await.unwrap().iter().all(|it| *it == Some(SETTLED)));
    assert_eq!(storage.unmoved(None, 999).await.unwrap().records.len(), 160);
    assert_eq!(found(storage, &["shared"]).await, [Some(SETTLED)]);
}

/// Receipts are there after a restart, those of dead letters too.
pub async fn receipts_survive_a_restart(fixture: Store) {
    settle(&*fixture.port, &["a", "b"], SETTLED, 5).await;
    settle(&*fixture.port, &["c"], Receipt::Dead(3), 5).await;
    let Some(fixture) = fixture.reopened().await else { return };
    let storage = &*fixture.port;
    let expected = [Some(SETTLED), Some(SETTLED), Some(Receipt::Dead(3)), None];
    assert_eq!(found(storage, &["a", "b", "c", "d"]).await, expected);
    settle(storage, &["c"], Receipt::Dead(2), 6).await;
    assert_eq!(found(storage, &["c"]).await, [Some(Receipt::Dead(3))]);
}
