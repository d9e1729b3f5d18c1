//! RabbitMQ is restarted, cut off, out of memory, or has lost a binding.

use std::{sync::Arc, time::Duration};

use thred_tests::chaos::{
    backend::{BackendKind, BackendSpec},
    broker::{Binding, Broker},
    distributed::Distributed,
    fleet::Fleet,
    load::PATIENCE,
    mongod::Mongod,
    patterns::AGENT,
    proxy::Proxy,
    scale,
};
use thredcore::port::{MessageQ, Routed};
use thredlib::{Event, Message, Topic};
use tokio::time::sleep;

use crate::{
    deployment::{Deployment, Threds, limit, start, suffers, topics},
    support::{dice, run},
};

async fn restarts(threds: Threds, broker: impl Future<Output = Broker>, times: usize) {
    let mut dice = dice("brokers");
    let deployment = Deployment::new(threds, broker, Mongod::usual()).await;
    let fleet = start(deployment.backend()).await;
    let mut of_restarts = dice.clone();
    let faults = async {
        let broker = &deployment.broker;
        for number in 0..times {
            let progress = 20 + of_restarts.pick(100);
            fleet.ledger.reach(fleet.ledger.answered() + progress, PATIENCE).await;
            let node = of_restarts.pick(broker.nodes());
            broker.end(node, number % 2 == 0).await;
            sleep(Duration::from_millis(of_restarts.below(300))).await;
            broker.start_again(node).await;
        }
    };
    suffers(&fleet, &mut dice, faults).await;
    deployment.clear().await;
}

#[test]
fn rabbitmq_is_restarted() {
    run(limit(), restarts(Threds::Redis, Broker::start(), scale(2, 20)));
}

#[test]
#[ignore = "has no short version; see docs/testing.md"]
fn rabbitmq_is_restarted_and_all_else_is_in_mongodb() {
    run(limit(), restarts(Threds::Mongo, Broker::start(), scale(2, 20)));
}

#[test]
#[ignore = "has no short version; see docs/testing.md"]
fn nodes_of_a_rabbitmq_cluster_are_restarted() {
    run(limit(), restarts(Threds::Redis, Broker::cluster(), scale(3, 20)));
}

#[test]
fn connections_to_rabbitmq_are_cut() {
    run(limit(), async {
        let mut dice = dice("cuts");
        let deployment = Deployment::new(Threds::Redis, Broker::usual(), Mongod::usual()).await;
        let proxy = Proxy::before(deployment.broker.port()).await;
        let fleet = start(deployment.by(deployment.broker.url_by(proxy.port()))).await;
        let faults = async {
            let mut cut = 0;
            for _ in 0..scale(25, 300) {
                sleep(Duration::from_millis(200)).await;
                cut += proxy.cut();
            }
            cut
        };
        let cut = suffers(&fleet, &mut dice, faults).await;
        println!("{cut} connections were cut");
        assert!(cut >= scale(25, 300), "only {cut} connections were cut");
        deployment.clear().await;
    });
}

#[test]
fn rabbitmq_is_short_of_memory() {
    run(limit(), async {
        let mut dice = dice("memory");
        let deployment = Deployment::new(Threds::Redis, Broker::start(), Mongod::usual()).await;
        let fleet = start(deployment.backend()).await;
        let faults = async {
            fleet.ledger.reach(100, PATIENCE).await;
            let limit = "set_vm_memory_high_watermark";
            deployment.broker.control(&[limit, "0.00001"]).await;
            // What was confirmed just before.
            sleep(Duration::from_millis(500)).await;
            let accepted = fleet.ledger.accepted();
            sleep(scale(Duration::from_secs(2), Duration::from_secs(30))).await;
            assert_eq!(fleet.ledger.accepted(), accepted, "nothing is accepted in the meantime");
            deployment.broker.control(&[limit, "0.4"]).await;
            fleet.ledger.reach(fleet.ledger.answered() + 500, PATIENCE).await;
        };
        suffers(&fleet, &mut dice, faults).await;
        deployment.clear().await;
    });
}

/// The queue of a partition and that of an agent type.
fn bindings(name: &str) -> [Binding; 2] {
    let bound = |kind: &str, key: &str| Binding {
        exchange: format!("{name}.{kind}"),
        queue: format!("{name}.{kind}.{key}"),
        key: key.into(),
    };
    [bound("events", "0"), bound("messages", AGENT)]
}

/// Has the adapter declare everything, as somebody else might have.
async fn declared(deployment: &Deployment) -> BackendSpec {
    let spec = deployment.backend();
    let BackendKind::Distributed(distributed) = &spec.kind else { unreachable!("it is") };
    let queues = distributed.queues(&spec).await.expect("RabbitMQ is there");
    for topic in topics().into_iter().map(Topic::new) {
        let event = Arc::new(Event::builder("a", "b").build());
        let message = Arc::new(Message { id: "m".into(), event, to: vec![], timestamp: 0 });
        let queue: &dyn MessageQ = &*queues.message_q;
        let published = queue.publish(vec![Routed { topic: topic.clone(), message }]).await;
        published.into_iter().for_each(|published| published.expect("it is published"));
        let tags = queue.receive(&[topic], 1).await.expect("it comes back");
        queue.ack(&[tags[0].tag]).await.expect("it is acknowledged");
    }
    queues.close().await;
    let kind = BackendKind::Distributed(Distributed { adopt: true, ..distributed.clone() });
    BackendSpec { kind, ..spec }
}

#[test]
fn queues_that_others_have_declared_are_unbound_for_a_while() {
    run(limit(), async {
        let mut dice = dice("unbound");
        let deployment = Deployment::new(Threds::Redis, Broker::usual(), Mongod::usual()).await;
        let fleet = start(declared(&deployment).await).await;
        let faults = unbound_for_a_while(&deployment, &fleet);
        suffers(&fleet, &mut dice, faults).await;
        deployment.clear().await;
    });
}

async fn unbound_for_a_while(deployment: &Deployment, fleet: &Fleet) {
    let (_connection, channel) = deployment.broker.channel().await;
    let bindings = bindings(deployment.name());
    fleet.ledger.reach(100, PATIENCE).await;
    let [events, messages] = &bindings;
    messages.undo(&channel).await;
    // What was in the queue before is still delivered.
    sleep(Duration::from_secs(1)).await;
    assert!(fleet.ledger.open() > 0, "something was accepted that is not answered yet");
    events.undo(&channel).await;
    let answered = fleet.ledger.answered();
    sleep(scale(Duration::from_secs(3), Duration::from_secs(30))).await;
    assert_eq!(fleet.ledger.answered(), answered, "what goes nowhere is not answered");
    for binding in &bindings {
        binding.make(&channel).await;
    }
    fleet.ledger.reach(answered + 500, PATIENCE).await;
}

#[test]
fn queues_that_the_adapter_has_declared_are_unbound_again_and_again() {
    run(limit(), async {
        let mut dice = dice("unbinding");
        let deployment = Deployment::new(Threds::Redis, Broker::usual(), Mongod::usual()).await;
        let fleet = start(deployment.backend()).await;
        let faults = async {
            let (_connection, channel) = deployment.broker.channel().await;
            let bindings = bindings(deployment.name());
            let begin = fleet.ledger.answered();
            for _ in 0..scale(6, 60) {
                sleep(Duration::from_millis(500)).await;
                for binding in &bindings {
                    binding.undo(&channel).await;
                }
            }
            // Nobody but the adapter has bound them again.
            fleet.ledger.reach(begin + 500, PATIENCE).await;
        };
        suffers(&fleet, &mut dice, faults).await;
        deployment.clear().await;
    });
}
