//! Random patterns and random events, in any order and grouping, with restarts: the invariants
//! hold.

use std::sync::Arc;

use proptest::prelude::*;
use thred_tests::{
    arbitrary::{Act, happening, history, patterns},
    evidence::{Evidence, check_invariants},
    rig::Rig,
    seed::cases,
    story,
};
use thredcore::{
    EngineConfig,
    testing::fault::Fault,
    thred::{Input, react},
};
use thredlib::PatternModel;

fn run(models: Vec<PatternModel>, acts: &[Act], group: usize, batch: usize) -> Evidence {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    runtime.block_on(async {
        let (directory, config) = (story::directory(), EngineConfig::default());
        let rig = Rig::new(models, directory, config, Fault::counting()).await;
        let mut rig = rig.batches_of(batch);
        story::tell(&mut rig, acts, group).await;
        rig.evidence().await
    })
}

proptest! {
    #![proptest_config(cases(300))]

    #[test]
    fn random_histories_keep_the_invariants(
        models in patterns(3),
        acts in history(40),
        group in 1_usize..6,
        batch in 1_usize..9,
    ) {
        let evidence = run(models, &acts, group, batch);
        let checked = check_invariants(&evidence);
        prop_assert!(checked.is_ok(), "{}", checked.unwrap_err());
    }

    #[test]
    fn the_same_history_runs_the_same_way(
        models in patterns(3),
        acts in history(30),
        group in 1_usize..6,
        batch in 1_usize..9,
    ) {
        let first = run(models.clone(), &acts, group, batch);
        let second = run(models, &acts, group, batch);
        prop_assert_eq!(first.states(), second.states());
        prop_assert_eq!(&first.published, &second.published);
    }

    #[test]
    fn equal_inputs_give_an_equal_outcome(
        models in patterns(2),
        acts in history(20),
        what in happening(),
        later in 0_i64..20_000,
        seed in any::<u64>(),
    ) {
        let evidence = run(models, &acts, 1, 1);
        let world = thredcore::thred::World { now: evidence.now + later, seed, ..evidence.world() };
        for past in &evidence.threds {
            let pattern = evidence.pattern(&past.state).unwrap();
            let event = Arc::new(what.event("next", Some(past.state.id.clone())));
            for input in [Input::Bound(&event), Input::Offered(&event)] {
                let consumed = thred_tests::filters::consumed(&event);
                let first = react(pattern, &past.state, input, consumed, &world);
                prop_assert_eq!(first, react(pattern, &past.state, input, consumed, &world));
            }
        }
    }
}
