//! Wait keys: finding the threds that wait for an unbound event without trying them all.
//!
//! A filter such as `$valueNamed('order') = $local('order')` says what a thred has in common with
//! the event that it waits for. A thred is filed under the keys that follow from its locals
//! ([`Pattern::wait_keys`]), and an event is looked up under those that follow from its own values
//! ([`Library::awaited`](super::Library::awaited)). Each thred whose reaction the event matches has
//! a key among the latter; the reverse need not hold.
//!
//! A thred is filed under the *any-key* of its reaction, at which every event looks, when nothing
//! could be derived from the filter or when its locals do not say a value.

use serde_json::{Map, Value};
use thredlib::{
    expr::{Correlation, Scalar, Scope},
    hash_parts,
};

use super::{Condition, Kind, Pattern};
use crate::state::{PatternKey, WaitKey};

/// How the threds that wait in one reaction are filed, and where an event looks for them.
#[derive(Debug)]
pub struct WaitRule {
    any: WaitKey,
    /// One of these holds for every event that the reaction matches; empty: nothing is known.
    alternatives: Vec<Vec<Correlation>>,
}

impl WaitRule {
    /// With what is known from a condition; where no event is offered, there is none.
    pub(super) fn new(pattern: &PatternKey, reaction: &str, condition: Option<&Condition>) -> Self {
        let revision = pattern.revision.to_le_bytes();
        let parts = [pattern.id.as_str().as_bytes(), &revision, reaction.as_bytes()];
        let any = WaitKey::from_bytes(hash_parts("wait", parts));
        let mut alternatives = Vec::new();
        let is_known = condition.is_some_and(|condition| collect(condition, &mut alternatives));
        if !is_known || alternatives.len() > WaitKey::MAX_OF_THRED {
            alternatives.clear();
        }
        Self { any, alternatives }
    }

    /// Whether threds are found by what their locals hold. Otherwise each of them is tried on each
    /// event that the reaction may concern.
    pub fn is_keyed(&self) -> bool {
        !self.alternatives.is_empty()
    }

    /// The key of the threds that every event is offered to.
    pub fn any_key(&self) -> WaitKey {
        self.any
    }

    /// What a thred with these locals is filed under: sorted, each key once, never none.
    pub fn keys_of_thred(&self, locals: &Map<String, Value>) -> Vec<WaitKey> {
        let mut keys = Vec::new();
        for (number, together) in (0..).zip(&self.alternatives) {
            let values: Vec<_> = together.iter().map(|part| part.of_locals(locals)).collect();
            if !self.file(number, &values, &mut keys) || keys.len() > WaitKey::MAX_OF_THRED {
                return vec![self.any];
            }
        }
        if self.alternatives.is_empty() {
            keys.push(self.any);
        } else if keys.is_empty() {
            // Its lists are empty: no event can match, and none looks here.
            keys.push(WaitKey::from_bytes(hash_parts("wait never", [&self.any.as_bytes()[..]])));
        }
        sorted(keys)
    }

    /// What the scope's event is looked up under: sorted, each key once; the any-key is among them.
    pub fn keys_of_event(&self, scope: &mut Scope) -> Vec<WaitKey> {
        let mut keys = vec![self.any];
        for (number, together) in (0..).zip(&self.alternatives) {
            // What fails here fails the filter too, if that comes so far: it does not match.
            let value = |part: &Correlation| part.of_event(scope).ok().flatten();
            let values: Vec<_> = together.iter().map(value).collect();
            if let [_, _, ..] = *values
                && let Some(all) = values.iter().map(Option::as_ref).collect::<Option<Vec<_>>>()
            {
                keys.push(self.key(number, ALL, &all));
            }
            for (part, value) in (0..).zip(&values) {
                keys.extend(value.as_ref().map(|value| self.key(number, part, &[value])));
            }
        }
        sorted(keys)
    }

    /// Files a thred under an alternative: under each combination of the values that the local
    /// sides name. Where not all of them do, or the combinations are too many, under the values of
    /// the first that does. `false` when none does.
    fn file(&self, number: u8, values: &[Option<Vec<Scalar>>], keys: &mut Vec<WaitKey>) -> bool {
        let all = values.iter().map(Option::as_ref).collect::<Option<Vec<_>>>();
        let all = all.filter(|all| all.len() > 1 && combinations(all) <= WaitKey::MAX_OF_THRED);
        if let Some(all) = all {
            let mut chosen = Vec::with_capacity(all.len());
            self.combine(number, &all, &mut chosen, keys);
            return true;
        }
        let mut named = (0..).zip(values);
        let first = named.find_map(|(part, values)| Some((part, values.as_ref()?)));
        let Some((part, values)) = first else { return false };
        keys.extend(values.iter().map(|value| self.key(number, part, &[value])));
        true
    }

    fn combine<'v>(
        &self,
        number: u8,
        rest: &[&'v Vec<Scalar>],
        chosen: &mut Vec<&'v Scalar>,
        keys: &mut Vec<WaitKey>,
    ) {
        let Some((values, rest)) = rest.split_first() else {
            keys.push(self.key(number, ALL, chosen));
            return;
        };
        for value in *values {
            chosen.push(value);
            self.combine(number, rest, chosen, keys);
            chosen.pop();
        }
    }

    fn key(&self, number: u8, part: u8, values: &[&Scalar]) -> WaitKey {
        let place = [number, part];
        let bytes: Vec<_> = values.iter().map(|value| canonical(value)).collect();
        let values = bytes.iter().flat_map(|(kind, rest)| [&kind[..], rest]);
        WaitKey::from_bytes(hash_parts(
            "wait value",
            [&self.any.as_bytes()[..], &place].into_iter().chain(values),
        ))
    }
}

/// Stands for all the parts of an alternative together.
const ALL: u8 = u8::MAX;

/// The kind of a value, or all of it; and the rest.
fn canonical(value: &Scalar) -> ([u8; 9], &[u8]) {
    let mut kind = [0; 9];
    match value {
        Scalar::Bool(b) => (kind[0], kind[1]) = (1, u8::from(*b)),
        Scalar::Number(bits) => {
            kind[0] = 2;
            kind[1..].copy_from_slice(&bits.to_le_bytes());
        }
        Scalar::Text(text) => {
            kind[0] = 3;
            return (kind, text.as_bytes());
        }
    }
    (kind, &[])
}

fn combinations(values: &[&Vec<Scalar>]) -> usize {
    values.iter().map(|values| values.len()).fold(1, usize::saturating_mul)
}

fn sorted(mut keys: Vec<WaitKey>) -> Vec<WaitKey> {
    keys.sort_unstable();
    keys.dedup();
    keys
}

/// Collects what the filters know. `false` when one of them knows nothing, or may set a local that
/// another one reads.
fn collect(condition: &Condition, alternatives: &mut Vec<Vec<Correlation>>) -> bool {
    match &condition.kind {
        Kind::Filter(xpr) => {
            let known = xpr.correlations();
            alternatives.extend(known.alternatives().map(<[_]>::to_vec));
            !known.is_none() && !xpr.may_set_locals()
        }
        // One operand is enough for an `and` to remember it.
        Kind::And(operands) | Kind::Or(operands) => {
            operands.iter().all(|operand| collect(operand, alternatives))
        }
    }
}

impl Pattern {
    /// What a thred is filed under that waits for unbound events in a reaction with these locals:
    /// sorted, each key once, never none.
    ///
    /// # Panics
    /// When the pattern has no reaction of that number.
    pub fn wait_keys(&self, reaction: usize, locals: &Map<String, Value>) -> Vec<WaitKey> {
        self.reactions[reaction].waits.keys_of_thred(locals)
    }
}

#[cfg(test)]
mod tests;
