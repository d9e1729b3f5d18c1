//! What [`LimitStore`](crate::port::LimitStore) promises.

use std::collections::BTreeSet;

use super::Fixture;
use crate::port::{Reservation, Reserved, Storage};

type Store = Fixture<dyn Storage>;

fn place(thred: &str, max_instances: u64) -> Reservation {
    let (pattern, thred) = ("sample".into(), thred.into());
    Reservation { pattern, thred, max_instances, interval: 0, now: 1_000 }
}

async fn reserved(storage: &dyn Storage, pattern: &str) -> BTreeSet<String> {
    let threds = storage.reserved(&pattern.into(), None, 9_999).await.expect("reserved");
    let set: BTreeSet<_> = threds.iter().map(ToString::to_string).collect();
    assert_eq!(set.len(), threds.len(), "a thred is listed once");
    set
}

/// There are as many places as the limit says.
pub async fn places_are_limited(fixture: Store) {
    let storage = &*fixture.port;
    for (thred, answer) in [
        ("a", Reserved::Granted),
        ("b", Reserved::Granted),
        ("c", Reserved::Full),
        ("d", Reserved::Full),
    ] {
        assert_eq!(storage.reserve(&place(thred, 2)).await.unwrap(), answer, "{thred}");
    }
    assert_eq!(reserved(storage, "sample").await, ["a", "b"].map(String::from).into());
    assert_eq!(storage.reserve(&place("c", 3)).await.unwrap(), Reserved::Granted, "raised");
}

/// 0 stands for any number of places; they are remembered all the same.
pub async fn no_limit_means_no_limit(fixture: Store) {
    let storage = &*fixture.port;
    for number in 0..50 {
        let place = place(&format!("thred {number}"), 0);
        assert_eq!(storage.reserve(&place).await.unwrap(), Reserved::Granted);
    }
    assert_eq!(reserved(storage, "sample").await.len(), 50);
    assert_eq!(storage.reserve(&place("x", 50)).await.unwrap(), Reserved::Full, "limited later");
}

/// Pages follow each other in the order of the ids.
pub async fn reserved_places_are_read_in_pages(fixture: Store) {
    let storage = &*fixture.port;
    for number in 0..10 {
        storage.reserve(&place(&format!("thred {number}"), 0)).await.unwrap();
    }
    let page = async |after: Option<&str>, limit| {
        let after = after.map(Into::into);
        let threds = storage.reserved(&"sample".into(), after.as_ref(), limit).await;
        threds.expect("reserved").iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    assert_eq!(page(None, 3).await, ["thred 0", "thred 1", "thred 2"]);
    assert_eq!(page(Some("thred 2"), 3).await, ["thred 3", "thred 4", "thred 5"]);
    assert_eq!(page(Some("thred 7x"), 9).await, ["thred 8", "thred 9"], "no holder of a place");
    assert!(page(Some("thred 9"), 9).await.is_empty());
}

/// Asking again, as after a lost answer, takes no second place, whatever the limits say by then.
pub async fn a_place_is_taken_once_and_kept(fixture: Store) {
    let storage = &*fixture.port;
    for _ in 0..3 {
        let again = Reservation { interval: 10_000, ..place("a", 1) };
        assert_eq!(storage.reserve(&again).await.unwrap(), Reserved::Granted);
    }
    assert_eq!(reserved(storage, "sample").await.len(), 1);
}

/// A place that is given back can be taken; giving back what is not there is harmless.
pub async fn a_released_place_is_free(fixture: Store) {
    let storage = &*fixture.port;
    storage.reserve(&place("a", 1)).await.unwrap();
    storage.release(&[("other".into(), "a".into()), ("sample".into(), "b".into())]).await.unwrap();
    assert_eq!(storage.reserve(&place("b", 1)).await.unwrap(), Reserved::Full);
    for _ in 0..2 {
        storage.release(&[("sample".into(), "a".into())]).await.unwrap();
    }
    assert!(reserved(storage, "sample").await.is_empty());
    assert_eq!(storage.reserve(&place("b", 1)).await.unwrap(), Reserved::Granted);
    storage.release(&[]).await.unwrap();
}

/// The interval runs from the last place that was taken, even if that is free again.
pub async fn starts_keep_their_distance(fixture: Store) {
    let storage = &*fixture.port;
    let at = |thred: &str, now| Reservation { interval: 100, now, ..place(thred, 0) };
    for (thred, now, answer) in [
        ("a", 1_000, Reserved::Granted),
        ("b", 1_000, Reserved::TooSoon),
        ("b", 1_099, Reserved::TooSoon),
        ("a", 1_099, Reserved::Granted),
        ("b", 1_100, Reserved::Granted),
        ("c", 1_199, Reserved::TooSoon),
        ("c", 1_200, Reserved::Granted),
    ] {
        assert_eq!(storage.reserve(&at(thred, now)).await.unwrap(), answer, "{thred} at {now}");
    }
    storage.release(&[("sample".into(), "c".into())]).await.unwrap();
    assert_eq!(storage.reserve(&at("d", 1_299)).await.unwrap(), Reserved::TooSoon, "released");
}

/// One pattern's places and times are not another's.
pub async fn patterns_have_places_of_their_own(fixture: Store) {
    let storage = &*fixture.port;
    for pattern in ["one", "two"] {
        let place = Reservation { pattern: pattern.into(), interval: 100, ..place("a", 1) };
        assert_eq!(storage.reserve(&place).await.unwrap(), Reserved::Granted);
    }
    storage.release(&[("one".into(), "a".into())]).await.unwrap();
    assert!(reserved(storage, "one").await.is_empty());
    assert_eq!(reserved(storage, "two").await.len(), 1);
    assert!(reserved(storage, "unknown").await.is_empty());
}

/// However many ask at once, no more get a place than there are, and no place stays empty.
pub async fn racing_reservations_never_exceed_the_limit(fixture: Store) {
    let racers: Vec<_> = (0..40)
        .map(|racer| {
            let storage = fixture.port.clone();
            tokio::spawn(async move { storage.reserve(&place(&format!("{racer}"), 7)).await })
        })
        .collect();
    let mut granted = 0;
    for racer in racers {
        granted += usize::from(racer.await.expect("a racer").unwrap() == Reserved::Granted);
    }
    assert_eq!(granted, 7);
    assert_eq!(reserved(&*fixture.port, "sample").await.len(), 7);
}

/// Places, and the time of the last one, are there after a restart.
pub async fn places_survive_a_restart(fixture: Store) {
    fixture.port.reserve(&place("a", 1)).await.unwrap();
    let Some(fixture) = fixture.reopened().await else { return };
    assert_eq!(fixture.port.reserve(&place("b", 1)).await.unwrap(), Reserved::Full);
    let soon = Reservation { interval: 10, ..place("b", 0) };
    assert_eq!(fixture.port.reserve(&soon).await.unwrap(), Reserved::TooSoon);
}
