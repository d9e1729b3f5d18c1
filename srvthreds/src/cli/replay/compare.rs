//! A thred against its history.

use serde_json::json;
use thredcore::{
    pattern::Pattern,
    port::History,
    state::ThredState,
    thred::{ReactLimits, Replay, ReplayError},
};

use super::difference::{Difference, Found, differences};

/// How a thred has fared.
#[derive(Debug)]
pub(super) enum Verdict {
    Equal,
    /// What is not as recorded, the first step first.
    Different(Vec<Difference>),
    /// Why there is nothing to compare.
    Incomparable(String),
}

/// Folds a history, and compares each step with what is recorded and the end with the state.
///
/// After a step that decides otherwise, later ones are left out: they would be computed from another
/// state than then.
pub(super) fn compare(
    pattern: &Pattern,
    state: &ThredState,
    history: &[History],
    limits: &ReactLimits,
) -> Verdict {
    let mut replay = Replay::new(pattern, limits);
    let mut found = Vec::new();
    for step in history {
        match replay.step(step) {
            Ok(computed) if computed == *step => {}
            Ok(computed) => {
                found.extend(differences(step.version, "", &json!(step), &json!(computed)));
                if computed.log != step.log {
                    return Verdict::Different(found);
                }
            }
            Err(ReplayError::Gap { version: 1 }) => {
                let first = step.version;
                return Verdict::Incomparable(format!("its history begins with step {first}"));
            }
            Err(ReplayError::Gap { version }) => {
                return Verdict::Incomparable(format!(
                    "step {version} is missing from its history"
                ));
            }
            Err(error @ ReplayError::Incomplete { .. }) => {
                return Verdict::Incomparable(error.to_string());
            }
            Err(error) => {
                found.push(Difference {
                    version: step.version,
                    path: "log".to_owned(),
                    expected: Found::Value(json!(step.log)),
                    found: Found::Failure(error.to_string()),
                });
                return Verdict::Different(found);
            }
        }
    }
    let Some(computed) = replay.state() else {
        return Verdict::Incomparable("nothing is kept of its history".to_owned());
    };
    if computed.version < state.version {
        let version = computed.version + 1;
        return Verdict::Incomparable(format!("step {version} is missing from its history"));
    }
    // The bytes decide; the values say where.
    match (serde_json::to_vec(state), serde_json::to_vec(&**computed)) {
        (Ok(stored), Ok(again)) if stored == again => {}
        _ => found.extend(differences(state.version, "state", &json!(state), &json!(computed))),
    }
    if found.is_empty() { Verdict::Equal } else { Verdict::Different(found) }
}
