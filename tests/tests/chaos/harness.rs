//! The harness itself: a run without faults is safe, and a run that is not safe is found out.

use std::{sync::Arc, time::Duration};

use thred_tests::chaos::{
    backend::{BackendKind, BackendSpec},
    cluster::Cluster,
    fleet::Fleet,
    load::Load,
    patterns::recorder,
    protocol::AgentSpec,
    redis_server::RedisServer,
    verdict::{Circumstances, verdict},
};

use crate::support::{RECOVERY, dice, judge_in, run, spec};

const LIMIT: Duration = Duration::from_secs(60);

async fn work(fleet: Fleet) -> Arc<Fleet> {
    let fleet = Arc::new(fleet);
    Load::new(8, 6).run(fleet.clone(), &mut dice("calm")).await;
    fleet.drain(RECOVERY).await;
    fleet
}

#[test]
fn a_run_without_faults_is_safe() {
    run(LIMIT, async {
        let backend = BackendSpec::new(BackendKind::Memory);
        let agent = AgentSpec { answers: true, ..AgentSpec::default() };
        let fleet = work(Fleet::within(backend, vec![recorder()], agent).await).await;
        let evidence = judge_in(&fleet, Circumstances { answered: true, redelivered: false }).await;
        assert_eq!((evidence.accepted.len(), evidence.threds.len()), (48, 8));
        assert!(evidence.threds.iter().all(|past| past.state.version == 12));
    });
}

#[test]
fn nothing_is_there_after_the_process_of_a_backend_in_memory_has_died() {
    run(LIMIT, async {
        let backend = BackendSpec::new(BackendKind::Memory);
        let fleet = work(Fleet::start(spec(backend, vec![recorder()])).await).await;
        let ports = fleet.close().await;
        let wrong = verdict(&ports, &fleet.ledger, Circumstances::default()).await.unwrap_err();
        assert!(wrong.contains("thred 0 does not exist"), "{wrong}");
        assert!(wrong.contains("belongs to no commit"), "{wrong}");
    });
}

#[test]
fn a_server_that_was_killed_has_all_that_it_had_confirmed() {
    run(LIMIT, async {
        let mut server = RedisServer::start().await;
        let _: String = server.ask(&["SET", "key", "value"]).await.unwrap();
        server.kill();
        assert!(server.ask::<String>(&["GET", "key"]).await.is_err());
        server.restart().await;
        assert_eq!(server.ask::<String>(&["GET", "key"]).await.unwrap(), "value");
    });
}

#[test]
fn a_cluster_fails_over_and_moves_slots() {
    run(LIMIT, async {
        let mut cluster = Cluster::start().await;
        cluster.set("{x}:one", "1").await;
        cluster.set("{x}:two", "2").await;
        let mut dice = dice("cluster");
        for _ in 0..3 {
            cluster.fail_over(&mut dice).await;
            cluster.all_whole().await;
        }
        assert_eq!(cluster.migrate("{x}").await, 2);
        cluster.all_whole().await;
        assert_eq!(cluster.migrate("{x}").await, 2);
    });
}
