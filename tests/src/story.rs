//! Random histories, told to a rig.

use thredcore::port::Directory;
use thredlib::{Event, ThredId};

use crate::{
    arbitrary::Act,
    rig::{Dead, Rig},
};

/// Lets acts happen, one after the other. Events are handed in in groups of so many, to be worked
/// on together. Each time the process dies another one takes its place, and whoever had no answer
/// asks again.
pub async fn tell(rig: &mut Rig, acts: &[Act], group: usize) {
    let mut sent: Vec<Event> = Vec::new();
    for act in acts {
        let id = format!("e{}", sent.len());
        let event = match act {
            Act::Unbound(what) => what.event(id, None),
            Act::Bound(number, what) => what.event(id, some_thred(rig, *number).await),
            Act::Again(number) if sent.is_empty() => sent_never(*number),
            Act::Again(number) => sent[number % sent.len()].clone(),
            Act::Wait(ms) => {
                settle(rig).await;
                pass(rig, *ms).await;
                continue;
            }
            Act::Restart => {
                rig.replace().await;
                continue;
            }
        };
        sent.push(event.clone());
        hand_in(rig, vec![event]).await;
        if sent.len().is_multiple_of(group) {
            settle(rig).await;
        }
    }
    settle(rig).await;
}

/// An event that looks like any other: there is none to repeat.
fn sent_never(number: usize) -> Event {
    Event::builder("org.example.a", "ann").id(format!("again{number}")).build()
}

/// Hands events in until they are accepted.
pub async fn hand_in(rig: &mut Rig, events: Vec<Event>) {
    while let Err(Dead) = rig.accept(events.clone()).await {
        rig.replace().await;
    }
}

/// Works until nothing waits.
pub async fn settle(rig: &mut Rig) {
    while let Err(Dead) = rig.settle().await {
        rig.replace().await;
    }
}

/// Lets milliseconds pass.
pub async fn pass(rig: &mut Rig, ms: i64) {
    let until = rig.now() + ms;
    while let Err(Dead) = rig.pass_until(until).await {
        rig.replace().await;
    }
}

async fn some_thred(rig: &Rig, number: usize) -> Option<ThredId> {
    let threds = rig.threds().await;
    (!threds.is_empty()).then(|| threds[number % threds.len()].clone())
}

/// Whom the random patterns write to.
pub fn directory() -> Directory {
    let mut directory = Directory::new();
    directory
        .add_group("ops", ["bob", "cat"])
        .add_service("org.wt.store")
        .add_session("ann", "org.wt.session")
        .add_session("bob", "org.wt.session")
        .add_session("bob", "org.wt.session2");
    directory
}
