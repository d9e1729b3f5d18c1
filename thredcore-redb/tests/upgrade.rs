//! A loss of power while a directory is upgraded.

mod common;

use std::{collections::BTreeSet, sync::Arc};

use common::{
    disk::{Disk, Random, Torn},
    samples::{event, step, unborn},
};
use thredcore::{port::ThredStore, state::Status};
use thredcore_redb::{RedbBackends, RedbConfig, RedbError};

fn open(disk: &Disk, config: RedbConfig) -> Result<RedbBackends, RedbError> {
    let disk = disk.clone();
    let config = config.on_fatal(|_| {}).backend(move || disk.backend()).partitions(2);
    RedbBackends::open_with("a disk of ours", config)
}

#[tokio::test]
async fn an_upgrade_is_done_or_not_whenever_the_power_goes() {
    let mut formats = BTreeSet::new();
    for changes in 0..40 {
        let disk = Disk::default();
        let made = open(&disk, RedbConfig::default().make_format(2)).unwrap();
        let commit = Arc::new(step(&unborn("a"), &event("1", "erp"), Status::Active, 3));
        made.storage.commit(std::slice::from_ref(&commit)).await.remove(0).unwrap();
        made.close().await;
        drop(made);
        disk.die_in(changes);
        let upgraded = open(&disk, RedbConfig::default().upgrade(true)).is_ok();
        disk.power_cycle(Torn::Sectors, &mut Random(changes));
        let found = open(&disk, RedbConfig::default()).expect("it can be opened");
        let format = found.format().format;
        formats.insert(format);
        assert!(!upgraded || format == 3, "what was said to be done is: {changes}");
        let loaded = found.storage.load(&["a".into()]).await.unwrap().remove(0).unwrap();
        assert_eq!((&loaded.state, &loaded.outbox), (&commit.state, &commit.outbox));
    }
    assert_eq!(formats, [2, 3].into(), "both have happened");
}
