//! Whether nothing of the log is missing in the archive.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use thredcore::{Ports, port::History};
use thredcore_mongo::MongoArchive;
use thredlib::{EventId, ThredId};

use super::{
    backend::{BackendKind, BackendSpec, patiently},
    backlog::Backlog,
};
use crate::evidence::Evidence;

/// Holds the archive, as it is in MongoDB, against what was accepted and what is stored: of each
/// thred each version, with the very records that the storage tells; of each accepted event a
/// record, unless it is among the dead letters.
///
/// # Errors
/// What is missing, doubled or different.
///
/// # Panics
/// When MongoDB cannot be reached, or the backends are others.
pub async fn check_archive(
    backend: &BackendSpec,
    ports: &Ports,
    evidence: &Evidence,
) -> Result<(), String> {
    let BackendKind::Distributed(distributed) = &backend.kind else {
        panic!("there is an archive in MongoDB alone");
    };
    let archive = distributed.archive().await.expect("the archive can be read");
    let begin = tokio::time::Instant::now();
    loop {
        let wrong = judge(&Filed::gather(&archive, evidence).await);
        if wrong.is_empty() {
            return Ok(());
        }
        // What a process that was killed has left comes when it is looked after.
        if begin.elapsed() > PATIENCE {
            let first: Vec<_> = wrong.iter().take(20).map(String::as_str).collect();
            return Err(format!("{}\n… {} differences in all", first.join("\n"), wrong.len()));
        }
        let _ = Backlog::of(ports).await;
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// After this time what was left behind should be archived.
const PATIENCE: Duration = Duration::from_secs(60);

/// What should be archived, and what is.
#[derive(Clone, Debug, Default)]
struct Filed {
    accepted: BTreeSet<EventId>,
    dead: BTreeSet<EventId>,
    /// The events that moved no thred, as the archive has them.
    unmoved: Vec<EventId>,
    /// By thred: its version, its steps as the storage tells them, and as the archive does.
    threds: BTreeMap<ThredId, (u64, Vec<History>, Vec<History>)>,
}

impl Filed {
    async fn gather(archive: &MongoArchive, evidence: &Evidence) -> Self {
        let mut threds = BTreeMap::new();
        for past in &evidence.threds {
            let id = &past.state.id;
            let steps = patiently(|| archive.history(id, None, usize::MAX)).await;
            let steps = steps.expect("the archive is read");
            threds.insert(id.clone(), (past.state.version, past.history.clone(), steps));
        }
        let unmoved = patiently(|| archive.unmoved(None, usize::MAX)).await;
        let records =
            unmoved.expect("the archive is read").records.into_iter().map(|unmoved| unmoved.record);
        Self {
            accepted: evidence.accepted.iter().map(|event| event.id.clone()).collect(),
            dead: evidence.dead.iter().map(|dead| dead.payload.id()).collect(),
            unmoved: records.map(|record| record.event).collect(),
            threds,
        }
    }
}

fn judge(filed: &Filed) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut times: BTreeMap<&EventId, usize> = BTreeMap::new();
    for (id, (version, stored, archived)) in &filed.threds {
        let versions: Vec<_> = archived.iter().map(|step| step.version).collect();
        if !versions.iter().copied().eq(1..=*version) {
            wrong.push(format!("thred {id} is at version {version}, archived are {versions:?}"));
        } else if stored != archived {
            wrong.push(format!("thred {id}: the archive does not tell what the storage tells"));
        }
        for event in archived.iter().filter_map(|step| step.event.as_ref()) {
            *times.entry(&event.id).or_default() += 1;
        }
    }
    for event in &filed.accepted {
        match times.get(event) {
            Some(1) => {}
            Some(times) => wrong.push(format!("event {event} is archived {times} times")),
            None if filed.unmoved.contains(event) || filed.dead.contains(event) => {}
            None => wrong.push(format!("event {event} is not in the archive")),
        }
    }
    wrong
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use thredlib::Event;

    use super::*;

    fn step(version: u64) -> History {
        let event = Event::builder("chaos.step", "a").id(format!("event {version}"));
        let event = Some(Arc::new(event.build()));
        History {
            version,
            consumed: None,
            event,
            command: None,
            log: vec![],
            messages: vec![],
            facts: None,
        }
    }

    /// A thred of three steps, an event that moved none, and a dead one.
    fn sound() -> Filed {
        let steps: Vec<_> = (1..=3).map(step).collect();
        let id = |name: &str| EventId::from(name);
        Filed {
            accepted: ["event 1", "event 2", "event 3", "stray", "dead"].map(id).into(),
            dead: [id("dead")].into(),
            unmoved: vec![id("stray")],
            threds: [(ThredId::from("thred"), (3, steps.clone(), steps))].into(),
        }
    }

    /// What is said of an archive that was tampered with.
    fn said(tamper: impl FnOnce(&mut Filed, &mut Vec<History>)) -> String {
        let mut filed = sound();
        let mut steps = filed.threds[&ThredId::from("thred")].2.clone();
        tamper(&mut filed, &mut steps);
        filed.threds.get_mut(&ThredId::from("thred")).unwrap().2 = steps;
        judge(&filed).join("; ")
    }

    #[test]
    fn a_whole_archive_is_whole() {
        assert_eq!(said(|_, _| {}), "");
    }

    #[test]
    fn a_lost_step_is_found() {
        let said = said(|_, steps| drop(steps.remove(1)));
        assert!(said.contains("archived are [1, 3]"), "{said}");
        assert!(said.contains("event event 2 is not in the archive"), "{said}");
    }

    #[test]
    fn a_doubled_step_is_found() {
        let said = said(|_, steps| steps.push(step(3)));
        assert!(said.contains("archived are [1, 2, 3, 3]"), "{said}");
        assert!(said.contains("event event 3 is archived 2 times"), "{said}");
    }

    #[test]
    fn another_step_is_found() {
        let said = said(|_, steps| steps[1].event = None);
        assert!(said.contains("does not tell what the storage tells"), "{said}");
    }

    #[test]
    fn a_lost_record_of_an_event_that_moved_nothing_is_found() {
        assert_eq!(said(|filed, _| filed.unmoved.clear()), "event stray is not in the archive");
    }
}
