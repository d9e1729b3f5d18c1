//! The end of a run: gathers what there is to judge, and judges it.

use std::{collections::BTreeMap, sync::Arc};

use serde_json::Value;
use thredcore::{Ports, port::History};
use thredlib::ThredId;

use super::{
    backend::patiently,
    ledger::Ledger,
    node::config,
    oracle::{Account, Fate, Mark, judge},
    patterns::{mark_of, thred_id},
};
use crate::evidence::{Evidence, Past, check_invariants};

/// What may be different in a run that is safe.
#[derive(Clone, Copy, Debug, Default)]
pub struct Circumstances {
    /// Receivers died with messages in hand or gave some back.
    pub redelivered: bool,
    /// An agent answers each message.
    pub answered: bool,
}

/// Judges a run: the oracle on marks, and the engine's invariants on all that is stored.
///
/// # Errors
/// All that is wrong.
///
/// # Panics
/// When a backend fails for a minute: a busy machine may hold up a single answer for too long.
pub async fn verdict(
    ports: &Ports,
    ledger: &Ledger,
    circumstances: Circumstances,
) -> Result<Evidence, String> {
    let config = config();
    let gather = || Evidence::gather(ports, &config, ledger.accepted_events(), ledger.received());
    let mut evidence = patiently(gather).await.expect("the backends can be read");
    evidence.interrupted = true;
    evidence.redelivered = circumstances.redelivered;
    let account = account(&evidence, ledger, circumstances.answered);
    let breaches = judge(&account);
    let mut wrong: Vec<String> = breaches.iter().take(20).map(ToString::to_string).collect();
    if breaches.len() > wrong.len() {
        wrong.push(format!("… {} breaches in all", breaches.len()));
    }
    if let Err(more) = check_invariants(&evidence) {
        wrong.extend(more.lines().take(20).map(ToString::to_string));
    }
    if wrong.is_empty() { Ok(evidence) } else { Err(wrong.join("\n")) }
}

/// The account of the recorder's threds.
fn account(evidence: &Evidence, ledger: &Ledger, answered: bool) -> Account {
    let of_recorder = |mark: &Mark, by_id: &BTreeMap<&ThredId, &Past>| {
        let past = by_id.get(&thred_id(mark.thred))?;
        Some((mark.thred, fate(past)))
    };
    let by_id: BTreeMap<_, _> = evidence.threds.iter().map(|past| (&past.state.id, past)).collect();
    let accepted = ledger.marks();
    let threds = accepted.values().filter_map(|marks| of_recorder(marks.first()?, &by_id));
    let threds = threds.collect();
    Account { accepted, threds, received: ledger.receipts(), answered }
}

fn fate(past: &Past) -> Fate {
    let marks = |local: &str| marks(past.state.locals.get(local));
    let logged = past.history.iter().filter_map(|step: &History| {
        let event: &Arc<_> = step.event.as_ref()?;
        let ours = &*event.event_type == "chaos.start" || &*event.event_type == "chaos.step";
        Some((step.version, mark_of(event).filter(|_| ours)?))
    });
    Fate {
        version: past.state.version,
        recorded: marks("marks"),
        answers: marks("answers"),
        logged: logged.collect(),
    }
}

/// A list of marks; JSONata makes no difference between one and a list of one.
fn marks(value: Option<&Value>) -> Vec<Mark> {
    let texts = match value {
        Some(Value::Array(texts)) => texts.iter().collect(),
        Some(text) => vec![text],
        None => Vec::new(),
    };
    texts.into_iter().filter_map(|text| text.as_str()?.parse().ok()).collect()
}
