//! Whether nothing of the log is missing in the archive.

use std::{collections::BTreeMap, time::Duration};

use thredcore::{Ports, port::History};
use thredcore_mongo::MongoArchive;

use super::{backend::BackendKind, backend::BackendSpec, backlog::Backlog};
use crate::evidence::{Evidence, Past};

/// Holds the archive, as it is in MongoDB, against what was accepted and what is stored: of each
/// thred each version, with the very records that the storage tells; of each accepted event a
/// record.
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
        panic!("there is an archive behind MongoDB alone");
    };
    let archive = distributed.archive().await.expect("the archive can be read");
    let begin = tokio::time::Instant::now();
    loop {
        let wrong = differences(&archive, evidence).await;
        if wrong.is_empty() {
            return Ok(());
        }
        // What a process that was killed has left comes when it is looked after.
        if begin.elapsed() > PATIENCE {
            let count = wrong.len();
            let first: Vec<_> = wrong.into_iter().take(20).collect();
            return Err(format!("{}\n… {count} differences in all", first.join("\n")));
        }
        let _ = Backlog::of(ports).await;
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// After this time what was left behind should be archived.
const PATIENCE: Duration = Duration::from_secs(30);

async fn differences(archive: &MongoArchive, evidence: &Evidence) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut archived: BTreeMap<String, usize> = BTreeMap::new();
    for past in &evidence.threds {
        let id = &past.state.id;
        let steps = archive.history(Some(id), usize::MAX).await.expect("the archive is read");
        wrong.extend(compare(past, &steps));
        for event in steps.iter().filter_map(|step| step.event.as_ref()) {
            *archived.entry(event.id.to_string()).or_default() += 1;
        }
    }
    let unmoved = archive.history(None, usize::MAX).await.expect("the archive is read");
    for record in unmoved.iter().flat_map(|step| &step.log) {
        archived.entry(record.event.to_string()).or_default();
    }
    let dead = evidence.dead.iter().map(|dead| dead.payload.id().to_string());
    archived.extend(dead.map(|id| (id, 0)));
    for event in &evidence.accepted {
        match archived.get(event.id.as_str()) {
            None => wrong.push(format!("event {} is not in the archive", event.id)),
            Some(0 | 1) => {}
            Some(times) => wrong.push(format!("event {} is archived {times} times", event.id)),
        }
    }
    wrong
}

/// The steps of a thred, against those that the storage tells.
fn compare(past: &Past, archived: &[History]) -> Option<String> {
    let (id, version) = (&past.state.id, past.state.version);
    let versions: Vec<_> = archived.iter().map(|step| step.version).collect();
    if !versions.iter().copied().eq(1..=version) {
        return Some(format!("thred {id} is at version {version}, archived are {versions:?}"));
    }
    let text = |steps: &[History]| serde_json::to_string(steps).unwrap_or_default();
    let same = text(archived) == text(&past.history);
    (!same).then(|| format!("thred {id}: the archive tells of it otherwise than the storage"))
}
