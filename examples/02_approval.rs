//! Approval: a request that escalates when nobody answers, on a test bed with virtual time.
//!
//! Run it with `cargo run -p thred-examples --example 02-approval`. It prints:
//!
//! ```text
//! after 0 min to ann, bob: Approve 250 for a pump?
//! after 60 min to mia: Nobody has answered: a pump
//! after 70 min to erp: Approved by mia
//! live threds: 0
//! ```

use std::error::Error;

use serde_json::json;
use thredcore::{port::Directory, testing::Bed};
use thredlib::{Event, Message, event_type};

const MINUTE: i64 = 60_000;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let approval = serde_json::from_str(include_str!("patterns/approval.pattern.json"))?;
    let mut directory = Directory::new();
    directory.add_group("approvers", ["ann", "bob"]).add_role("managers", ["mia"]);
    let mut bed = Bed::builder().pattern(approval).directory(directory).build().await?;

    let request = Event::builder("org.example.approval.request", "erp")
        .values(json!({ "what": "a pump", "amount": 250 }))
        .build();
    bed.send(request).await?;
    show(&mut bed);

    // Nobody answers for an hour; the reaction expires by itself.
    bed.advance(60 * MINUTE).await?;
    let question = show(&mut bed).remove(0).event;

    // An answer names the thred, and the event that it answers.
    bed.advance(10 * MINUTE).await?;
    let thred = question.thred_id.clone().ok_or("the question belongs to a thred")?;
    let answer = Event::builder(event_type::CLIENT_TELL, "mia")
        .thred(thred)
        .re(question.id.clone())
        .values(json!({ "approved": true }))
        .build();
    bed.send(answer).await?;
    show(&mut bed);

    println!("live threds: {}", bed.live_threds().await?.len());
    Ok(())
}

/// Prints the messages that have gone out since the last time.
fn show(bed: &mut Bed) -> Vec<Message> {
    let minutes = (bed.now() - Bed::START_TIME) / MINUTE;
    let messages = bed.take_messages();
    for message in &messages {
        let to: Vec<_> = message.to.iter().map(|id| id.as_str()).collect();
        let title = message.event.title().unwrap_or_default();
        println!("after {minutes} min to {}: {title}", to.join(", "));
    }
    messages
}
