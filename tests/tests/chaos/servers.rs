//! The server below the engines fails, forgets its scripts, or is not heard.

use std::{sync::Arc, time::Duration};

use thred_tests::chaos::{
    backend::BackendSpec,
    fleet::{Fleet, FleetSpec},
    load::Load,
    patterns::recorder,
    proxy::{Loss, Proxy, Then},
    scale,
};

use crate::support::{
    DISTURBED, RECOVERY, at, dice, judge, judge_in, limit, redis, run, spec, under_load,
};

async fn three(backend: BackendSpec) -> Arc<Fleet> {
    let spec = FleetSpec { engines: 3, ..spec(backend, vec![recorder()]) };
    Arc::new(Fleet::start(spec).await)
}

#[test]
fn redis_is_killed_and_comes_back() {
    run(limit(), async {
        let mut dice = dice("redis");
        let (mut server, backend) = redis().await;
        let fleet = three(backend).await;
        let mut of_kills = dice.clone();
        let kills = async {
            for _ in 0..scale(4, 50) {
                let progress = 20 + of_kills.pick(100);
                fleet.ledger.reach(fleet.ledger.answered() + progress, RECOVERY).await;
                server.kill();
                tokio::time::sleep(Duration::from_millis(of_kills.below(300))).await;
                server.restart().await;
            }
        };
        under_load(&fleet, Load::new(20, 10), &mut dice, kills).await;
        fleet.drain(RECOVERY).await;
        judge_in(&fleet, DISTURBED).await;
    });
}

#[test]
fn redis_forgets_its_scripts() {
    run(limit(), async {
        let mut dice = dice("scripts");
        let (server, backend) = redis().await;
        let fleet = three(backend).await;
        let flushes = async {
            for _ in 0..scale(100, 2_000) {
                let answer: String = server.ask(&["SCRIPT", "FLUSH"]).await.expect("it answers");
                assert_eq!(answer, "OK");
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        under_load(&fleet, Load::new(20, 10), &mut dice, flushes).await;
        fleet.drain(RECOVERY).await;
        judge(&fleet).await;
    });
}

#[test]
fn answers_of_redis_are_lost() {
    run(limit(), async {
        let mut dice = dice("answers");
        let (server, _) = redis().await;
        let proxy = Proxy::before(server.port()).await;
        let fleet = three(at(format!("redis://127.0.0.1:{}", proxy.port()))).await;
        let mut of_losses = dice.clone();
        let wanted = scale(40, 1_000);
        let losses = async {
            while proxy.lost() < wanted {
                let of =
                    ["EVALSHA", "EVALSHA", "XADD", "XREADGROUP", "XACK", ""][of_losses.pick(6)];
                let then = match of_losses.pick(4) {
                    0 => Then::Stall(Duration::from_millis(of_losses.below(1_500))),
                    _ => Then::Close,
                };
                proxy.lose(Loss { of, then });
                tokio::time::sleep(Duration::from_millis(20 + of_losses.below(50))).await;
            }
        };
        under_load(&fleet, Load::new(20, 10), &mut dice, losses).await;
        fleet.drain(RECOVERY).await;
        judge_in(&fleet, DISTURBED).await;
    });
}
