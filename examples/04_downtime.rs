//! Equipment downtime: `and` collects what is needed over several events, `or` takes the first
//! that comes; a restart in between forgets nothing.
//!
//! Run it with `cargo run -p thred-examples --example 04-downtime`. It prints:
//!
//! ```text
//! a short stop: 0 live threds
//! max, moe: press-4 has stopped
//! the self-test has passed, in reaction repair
//! after a restart, in reaction repair
//! max, press-4: {"repaired":true,"messageSource":{"id":"moe"}}
//! max, moe, press-4: press-4 runs again, repaired by moe
//! at the end: 0 live threds
//! ```

use std::error::Error;

use serde_json::{Value, json};
use thredcore::{port::Directory, testing::Bed};
use thredlib::{Event, event_type};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let downtime = serde_json::from_str(include_str!("patterns/downtime.pattern.json"))?;
    let mut directory = Directory::new();
    directory.add_group("mechanics", ["max", "moe"]).add_role("managers", ["mia"]);
    let mut bed = Bed::builder().pattern(downtime).directory(directory).build().await?;

    // The entry is an `or`: an emergency stop, or any stop of five minutes or more.
    bed.send(from_machine("stopped", json!({ "minutes": 1 }))).await?;
    println!("a short stop: {} live threds", bed.live_threds().await?.len());
    bed.send(from_machine("stopped", json!({ "minutes": 7 }))).await?;
    show(&mut bed);

    // The machine knows no thred. The reaction lets such events in, and the `and` remembers that
    // one of its operands has matched.
    bed.send(from_machine("selfTest", json!({ "passed": true }))).await?;
    println!("the self-test has passed, in reaction {}", reaction(&bed).await?);

    // Another engine on the same storage goes on where this one was.
    bed.restart().await?;
    println!("after a restart, in reaction {}", reaction(&bed).await?);

    // The repair completes the set. `echoResponses` shows the others what moe has answered.
    let thred = bed.live_threds().await?[0].id.clone();
    let repaired = Event::builder(event_type::CLIENT_TELL, "moe").thred(thred);
    bed.send(repaired.values(json!({ "repaired": true })).build()).await?;
    show(&mut bed);
    println!("at the end: {} live threds", bed.live_threds().await?.len());
    Ok(())
}

fn from_machine(what: &str, mut values: Value) -> Event {
    values["machine"] = "press-4".into();
    Event::builder(format!("org.example.equipment.{what}"), "press-4").values(values).build()
}

async fn reaction(bed: &Bed) -> Result<String, Box<dyn Error>> {
    let live = bed.live_threds().await?;
    Ok(live[0].reaction.to_string())
}

fn show(bed: &mut Bed) {
    for message in bed.take_messages() {
        let to: Vec<_> = message.to.iter().map(|id| id.as_str()).collect();
        let text = match message.event.title() {
            Some(title) => title.to_owned(),
            None => message.event.values().map(ToString::to_string).unwrap_or_default(),
        };
        println!("{}: {text}", to.join(", "));
    }
}
