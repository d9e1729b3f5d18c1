//! Random patterns and random histories for property tests.
//!
//! Patterns and events share a small alphabet, so that random events meet random patterns often
//! enough to drive them through all their states.

use proptest::{collection::vec, prelude::*};
use serde_json::json;
use thredlib::{
    ConditionModel, ConditionType, ConsequentModel, Event, EventId, ExpiryModel, InputKind,
    OneOrMany, PatternModel, PublishModel, ReactionModel, SpawnModel, SpawnType, ThredId,
    TransformModel, TransitionModel, XprModel,
};

/// The kinds of event that occur: `org.example.a` to `org.example.d`.
pub const KINDS: [&str; 4] = ["a", "b", "c", "d"];

/// Who sends events.
pub const SOURCES: [&str; 3] = ["ann", "bob", "cat"];

/// One thing that happens in a history.
#[derive(Clone, Debug, PartialEq)]
pub enum Act {
    /// An event without a thred comes in.
    Unbound(Happening),
    /// An event comes in, bound to one of the threds that there are, counted round and round.
    Bound(usize, Happening),
    /// An earlier event comes in again, counted round and round.
    Again(usize),
    /// So many milliseconds pass.
    Wait(i64),
    /// The engine is dropped and built again on the same storage.
    Restart,
}

/// What an event is like.
#[derive(Clone, Debug, PartialEq)]
pub struct Happening {
    /// One of [`KINDS`].
    pub kind: &'static str,
    /// One of [`SOURCES`].
    pub source: &'static str,
    /// The value `n`.
    pub n: i64,
}

impl Happening {
    /// The event, with an id and bound to a thred or not.
    pub fn event(&self, id: impl Into<EventId>, thred: Option<ThredId>) -> Event {
        let builder = Event::builder(format!("org.example.{}", self.kind), self.source)
            .id(id)
            .values(json!({ "n": self.n }));
        match thred {
            Some(thred) => builder.thred(thred).build(),
            None => builder.build(),
        }
    }
}

/// A history of at most so many acts.
pub fn history(most: usize) -> impl Strategy<Value = Vec<Act>> {
    let act = prop_oneof![
        4 => happening().prop_map(Act::Unbound),
        8 => (any::<usize>(), happening()).prop_map(|(thred, what)| Act::Bound(thred, what)),
        2 => any::<usize>().prop_map(Act::Again),
        3 => (1_i64..15_000).prop_map(Act::Wait),
        1 => Just(Act::Restart),
    ];
    vec(act, 1..=most)
}

/// One event.
pub fn happening() -> impl Strategy<Value = Happening> {
    let pick = |from: &'static [&'static str]| proptest::sample::select(from);
    (pick(&KINDS), pick(&SOURCES), 0_i64..4).prop_map(|(kind, source, n)| Happening {
        kind,
        source,
        n,
    })
}

/// A few patterns with different ids.
pub fn patterns(most: usize) -> impl Strategy<Value = Vec<PatternModel>> {
    vec(pattern(), 1..=most).prop_map(|mut patterns| {
        for (index, pattern) in patterns.iter_mut().enumerate() {
            pattern.name = format!("p{index}");
        }
        patterns
    })
}

/// A pattern of two to four reactions that loads and runs.
pub fn pattern() -> impl Strategy<Value = PatternModel> {
    let reactions = (2_usize..=4).prop_flat_map(|count| vec(reaction(count), count));
    let limits = (prop::option::weighted(0.2, 1_u64..4), prop::bool::weighted(0.3));
    (reactions, limits).prop_map(|(mut reactions, (max_instances, broadcast))| {
        for (index, reaction) in reactions.iter_mut().enumerate() {
            reaction.name = Some(format!("r{index}"));
        }
        PatternModel {
            name: "p".into(),
            max_instances,
            broadcast_allowed: Some(broadcast),
            reactions,
            ..PatternModel::default()
        }
    })
}

fn reaction(count: usize) -> impl Strategy<Value = ReactionModel> {
    let expiry = (1_000_u64..10_000, prop::option::of(transition(count, false)));
    let allowed = prop::bool::weighted(0.3);
    (condition(count), prop::option::weighted(0.4, expiry), allowed).prop_map(
        |(condition, expiry, allow_unbound)| ReactionModel {
            allow_unbound_events: Some(allow_unbound),
            expiry: expiry.map(|(interval, transition)| ExpiryModel {
                interval,
                transition,
                ..ExpiryModel::default()
            }),
            condition,
            ..ReactionModel::default()
        },
    )
}

/// A condition tree, at most three levels deep, with directives at each level.
fn condition(count: usize) -> impl Strategy<Value = ConditionModel> {
    let leaf = filter().prop_flat_map(move |leaf| directed(leaf, count));
    leaf.prop_recursive(2, 6, 3, move |inner| {
        let kind = prop_oneof![Just(ConditionType::And), Just(ConditionType::Or)];
        (kind, vec(inner, 1..=3)).prop_flat_map(move |(condition_type, operands)| {
            let tree = ConditionModel { condition_type, operands, ..ConditionModel::default() };
            directed(tree, count)
        })
    })
}

fn filter() -> impl Strategy<Value = ConditionModel> {
    let xpr = prop_oneof![
        4 => proptest::sample::select(&KINDS[..])
            .prop_map(|kind| format!("$event.type = 'org.example.{kind}'")),
        1 => (0_i64..4).prop_map(|n| format!("$values.n >= {n}")),
        1 => proptest::sample::select(&SOURCES[..])
            .prop_map(|source| format!("$event.source.id = '{source}'")),
        1 => Just("$local('n') = $values.n".to_owned()),
    ];
    xpr.prop_map(|xpr| ConditionModel {
        xpr: Some(XprModel::Text(xpr)),
        ..ConditionModel::default()
    })
}

fn directed(condition: ConditionModel, count: usize) -> impl Strategy<Value = ConditionModel> {
    let set_local = prop::bool::weighted(0.3);
    let to = proptest::sample::select(&["ann", "@ops", "$thred", "org.wt.store"][..]);
    let transition = prop::option::weighted(0.6, transition(count, true));
    let spawn = prop::option::weighted(0.15, spawn());
    (Just(condition), set_local, prop::option::weighted(0.4, to), transition, spawn).prop_map(
        |(condition, set_local, to, transition, spawn)| ConditionModel {
            on_true: set_local.then(|| ConsequentModel {
                xpr: Some(XprModel::Text("$setLocal('n', $values.n)".into())),
                ..ConsequentModel::default()
            }),
            transform: to.map(|_| TransformModel {
                event_data_template: Some(json!({ "title": "$xpr($event.type)" })),
                ..TransformModel::default()
            }),
            publish: to.map(|to| PublishModel { to: to.into(), ..PublishModel::default() }),
            transition,
            spawn,
            ..condition
        },
    )
}

/// Of patterns that may or may not be there. What is spawned waits: a pattern that spawned itself
/// on the same event would never come to an end.
fn spawn() -> impl Strategy<Value = SpawnModel> {
    let name = proptest::sample::select(&["p", "p0", "p1", "p2"][..]);
    let spawn_type = prop_oneof![Just(SpawnType::Child), Just(SpawnType::Sibling)];
    (name, spawn_type, any::<bool>()).prop_map(|(name, spawn_type, context)| SpawnModel {
        names: OneOrMany::One(name.to_owned()),
        spawn_type: Some(spawn_type),
        context: Some(context),
        input: None,
        local_name: None,
        extra: Default::default(),
    })
}

fn transition(count: usize, forward: bool) -> impl Strategy<Value = TransitionModel> {
    let name = prop_oneof![
        3 => Just("$next".to_owned()),
        2 => Just("$noTransition".to_owned()),
        1 => Just("$terminate".to_owned()),
        3 => (0..count).prop_map(|index| format!("r{index}")),
    ];
    let forwards = prop::bool::weighted(0.15).prop_map(move |yes| yes && forward);
    (name, forwards).prop_map(|(name, forwards)| TransitionModel {
        input: forwards.then_some(InputKind::Forward),
        ..TransitionModel::to(name)
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use thredcore::{pattern::Pattern, port::StoredPattern};
    use thredlib::{ExprLimits, PatternModel};

    use super::{history, pattern, patterns};

    proptest! {
        #[test]
        fn random_patterns_load_and_survive_a_round_trip(model in pattern()) {
            let text = serde_json::to_string(&model).unwrap();
            let again: PatternModel = serde_json::from_str(&text).unwrap();
            prop_assert_eq!(&again, &model);
            let stored = StoredPattern::new(model);
            prop_assert!(Pattern::compile(&stored, &ExprLimits::default()).is_ok());
        }

        #[test]
        fn random_patterns_have_ids_of_their_own(models in patterns(4), acts in history(8)) {
            let mut ids: Vec<_> = models.iter().map(PatternModel::id).collect();
            ids.dedup();
            prop_assert_eq!(ids.len(), models.len());
            prop_assert!(!acts.is_empty());
        }
    }
}
