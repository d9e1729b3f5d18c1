//! What [`LeaseStore`](crate::port::LeaseStore) promises.

use super::Fixture;
use crate::port::{Lease, Storage};

type Store = Fixture<dyn Storage>;

fn lease(name: &str, owner: &str, until: i64) -> Lease {
    Lease { name: name.into(), owner: owner.into(), until }
}

/// Who comes second does not get it, and changes nothing.
pub async fn a_lease_is_exclusive(fixture: Store) {
    let storage = &*fixture.port;
    assert!(storage.acquire(&lease("p1", "ann", 1_100), 1_000).await.unwrap());
    assert!(!storage.acquire(&lease("p1", "bob", 1_200), 1_000).await.unwrap());
    assert!(storage.acquire(&lease("p2", "bob", 1_200), 1_000).await.unwrap(), "another lease");
    let held = storage.leases("p1", 1_000).await.unwrap();
    assert_eq!(held, [lease("p1", "ann", 1_100)]);
}

/// The owner gets it again, for longer or shorter.
pub async fn an_owner_renews(fixture: Store) {
    let storage = &*fixture.port;
    assert!(storage.acquire(&lease("p1", "ann", 1_100), 1_000).await.unwrap());
    assert!(storage.acquire(&lease("p1", "ann", 1_200), 1_050).await.unwrap());
    assert!(!storage.acquire(&lease("p1", "bob", 1_300), 1_150).await.unwrap());
    assert!(storage.acquire(&lease("p1", "ann", 1_160), 1_150).await.unwrap(), "for shorter");
    assert!(storage.acquire(&lease("p1", "bob", 1_300), 1_160).await.unwrap());
}

/// At its end somebody else gets it, and the old owner does not get it back.
pub async fn a_lease_runs_out(fixture: Store) {
    let storage = &*fixture.port;
    assert!(storage.acquire(&lease("p1", "ann", 1_100), 1_000).await.unwrap());
    assert!(!storage.acquire(&lease("p1", "bob", 1_300), 1_099).await.unwrap());
    assert!(storage.acquire(&lease("p1", "bob", 1_300), 1_100).await.unwrap());
    assert!(!storage.acquire(&lease("p1", "ann", 1_400), 1_200).await.unwrap());
    assert_eq!(storage.leases("", 1_300).await.unwrap(), []);
}

/// Giving back takes effect at once, for the owner only, and twice is harmless.
pub async fn only_the_owner_gives_back(fixture: Store) {
    let storage = &*fixture.port;
    assert!(storage.acquire(&lease("p1", "ann", 1_100), 1_000).await.unwrap());
    storage.give_back("p1", "bob").await.unwrap();
    assert!(!storage.acquire(&lease("p1", "bob", 1_100), 1_000).await.unwrap());
    storage.give_back("p1", "ann").await.unwrap();
    storage.give_back("p1", "ann").await.unwrap();
    assert!(storage.acquire(&lease("p1", "bob", 1_100), 1_000).await.unwrap());
    storage.give_back("p1", "ann").await.unwrap();
    assert_eq!(storage.leases("p1", 1_000).await.unwrap().len(), 1, "not ann's any more");
}

/// Those that run and whose names start so; a prefix is plain text.
pub async fn leases_are_listed_by_prefix(fixture: Store) {
    let storage = &*fixture.port;
    for (name, until) in [("a/1", 200), ("a/2", 100), ("a*", 200), ("b/1", 200), ("\u{fc}/1", 200)]
    {
        assert!(storage.acquire(&lease(name, "ann", until), 0).await.unwrap());
    }
    let names = async |prefix, now| {
        let leases = storage.leases(prefix, now).await.expect("leases");
        let mut names: Vec<_> = leases.into_iter().map(|lease| lease.name).collect();
        names.sort();
        names
    };
    assert_eq!(names("a/", 99).await, ["a/1", "a/2"]);
    assert_eq!(names("a/", 100).await, ["a/1"]);
    assert_eq!(names("a*", 0).await, ["a*"]);
    assert_eq!(names("\u{fc}", 0).await, ["\u{fc}/1"]);
    assert_eq!(names("", 0).await.len(), 5);
    assert!(names("c", 0).await.is_empty());
}

/// Of many who ask at once, one gets it.
pub async fn one_of_many_racing_owners_gets_the_lease(fixture: Store) {
    let racers: Vec<_> = (0..32)
        .map(|racer| {
            let storage = fixture.port.clone();
            let lease = lease("p1", &format!("owner {racer}"), 1_100);
            tokio::spawn(async move { storage.acquire(&lease, 1_000).await })
        })
        .collect();
    let mut held = 0;
    for racer in racers {
        held += usize::from(racer.await.expect("a racer").unwrap());
    }
    assert_eq!(held, 1);
}
