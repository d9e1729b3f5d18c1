//! A check that no list names would never run.

#[test]
fn every_check_is_listed() {
    let lists = include_str!("mod.rs");
    for source in [
        include_str!("thred_store/commits.rs"),
        include_str!("thred_store/ended.rs"),
        include_str!("thred_store/outboxes.rs"),
        include_str!("thred_store/parked.rs"),
        include_str!("thred_store/queries.rs"),
        include_str!("thred_store/timers.rs"),
        include_str!("thred_store/waiting.rs"),
        include_str!("record_store.rs"),
        include_str!("receipts.rs"),
        include_str!("quarantine.rs"),
        include_str!("limit_store.rs"),
        include_str!("lease_store.rs"),
        include_str!("pattern_store.rs"),
        include_str!("event_q.rs"),
        include_str!("message_q.rs"),
    ] {
        for check in source.lines().filter_map(|line| line.strip_prefix("pub async fn ")) {
            let name = check.split('(').next().unwrap();
            assert!(lists.lines().any(|line| line.trim() == name), "`{name}` is not in a list");
        }
    }
}
