//! The full deployment: RabbitMQ, Redis and MongoDB, three engines, two agents of each type, all of
//! them processes.

use std::{sync::Arc, time::Duration};

use thred_tests::{
    chaos::{
        archive::check_archive,
        backend::{BackendKind, BackendSpec},
        broker::Broker,
        distributed::Distributed,
        fleet::{Fleet, FleetSpec},
        load::Load,
        mongod::Mongod,
        patterns::{ABSENT, AGENT, SESSIONS, TOO_LARGE, recorder},
        redis_server::RedisServer,
        scale,
        verdict::verdict,
    },
    evidence::Evidence,
    seed::Dice,
};
use thredcore::port::{DeadLetter, Routed};
use thredlib::PatternModel;

use crate::support::{DISTURBED, spec, under_load};

/// Engines of a deployment.
pub(crate) const ENGINES: usize = 3;

/// Processes with an agent of each type.
const AGENTS: usize = 2;

/// Where the threds are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Threds {
    /// In Redis, their past in MongoDB.
    Redis,
    /// In MongoDB, and their past too.
    Mongo,
}

/// The servers of a deployment.
pub(crate) struct Deployment {
    pub(crate) broker: Broker,
    pub(crate) mongod: Mongod,
    redis: Option<RedisServer>,
    name: String,
}

impl Deployment {
    pub(crate) async fn new(
        threds: Threds,
        broker: impl Future<Output = Broker>,
        mongod: impl Future<Output = Mongod>,
    ) -> Self {
        println!("threds in {threds:?}");
        let redis = async {
            match threds {
                Threds::Redis => Some(RedisServer::start().await),
                Threds::Mongo => None,
            }
        };
        let (broker, mongod, redis) = tokio::join!(broker, mongod, redis);
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        let name = format!("chaos-{}", since.expect("a clock after 1970").as_micros());
        Self { broker, mongod, redis, name }
    }

    /// What it is reached by; messages and events go to an address.
    pub(crate) fn by(&self, amqp: String) -> BackendSpec {
        BackendSpec::new(BackendKind::Distributed(Distributed {
            amqp,
            adopt: false,
            prefetch: 32,
            redis: self.redis.as_ref().map(RedisServer::url),
            mongo: self.mongod.url().into(),
            name: self.name.clone(),
        }))
    }

    pub(crate) fn backend(&self) -> BackendSpec {
        self.by(self.broker.url().into())
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Has the servers forget the run.
    pub(crate) async fn clear(self) {
        let partitions = self.backend().partitions;
        self.broker.clear(&self.name, partitions, &topics()).await;
        self.mongod.clear(&self.name).await;
    }
}

/// All that agents receive, or would.
pub(crate) fn topics() -> Vec<String> {
    let of_type = |name: &str| [name.to_owned(), format!("{name}1")];
    [AGENT, SESSIONS, ABSENT].into_iter().flat_map(of_type).collect()
}

/// Three engines and two agents of each type.
pub(crate) fn all(backend: BackendSpec, patterns: Vec<PatternModel>) -> FleetSpec {
    FleetSpec { engines: ENGINES, agents: AGENTS, ..spec(backend, patterns) }
}

pub(crate) async fn start(backend: BackendSpec) -> Arc<Fleet> {
    Arc::new(Fleet::start(all(backend, vec![recorder()])).await)
}

/// The load that runs while faults happen.
pub(crate) fn usual_load() -> Load {
    Load { pace: Some(300), ..Load::new(20, 10) }
}

/// Faults under load, while now and then a process is killed; then the judgement.
pub(crate) async fn suffers<T>(
    fleet: &Arc<Fleet>,
    dice: &mut Dice,
    faults: impl Future<Output = T>,
) -> T {
    let mut of_kills = Dice::new(dice.below(u64::MAX));
    let disturbed = async {
        tokio::select! {
            done = faults => done,
            () = kill_now_and_then(fleet, &mut of_kills) => unreachable!("that has no end"),
        }
    };
    let done = under_load(fleet, usual_load(), dice, disturbed).await;
    fleet.drain(DRAINED).await;
    let (_, dead) = judged(fleet).await;
    assert!(dead.is_empty(), "messages were dead-lettered: {dead:?}");
    done
}

/// After the last fault a run is drained within this time, on a machine that others use too.
pub(crate) const DRAINED: Duration = Duration::from_secs(90);

/// The limit of a scenario, with the time that the servers take to start.
pub(crate) fn limit() -> Duration {
    scale(Duration::from_secs(170), Duration::from_secs(4_000))
}

async fn kill_now_and_then(fleet: &Fleet, dice: &mut Dice) {
    loop {
        let pause = 1_000 + dice.below(scale(1_000, 4_000));
        tokio::time::sleep(Duration::from_millis(pause)).await;
        fleet.kill(dice.pick(fleet.processes().len())).await;
    }
}

/// Stops all and judges, the archive too; gives the messages that were dead-lettered. An event that
/// was must have been poison.
pub(crate) async fn judged(fleet: &Arc<Fleet>) -> (Evidence, Vec<DeadLetter<Routed>>) {
    let ports = Box::pin(fleet.close()).await;
    let safe = Box::pin(verdict(&ports, &fleet.ledger, DISTURBED)).await;
    let evidence = safe.unwrap_or_else(|wrong| panic!("not safe:\n{wrong}"));
    let archived = check_archive(&fleet.spec.backend, &ports, &evidence).await;
    archived.unwrap_or_else(|wrong| panic!("the archive is not whole:\n{wrong}"));
    let guilty = ["broken", "deadly"].into_iter().chain(TOO_LARGE);
    let guilty: Vec<_> = guilty.map(|kind| format!("{kind} ")).collect();
    let poison = |id: &str| guilty.iter().any(|kind| id.starts_with(kind));
    let innocent = evidence.dead.iter().find(|dead| !poison(dead.payload.id().as_str()));
    assert!(innocent.is_none(), "an innocent event was dead-lettered: {innocent:?}");
    let dead = evidence.dead_messages.clone();
    (evidence, dead)
}
