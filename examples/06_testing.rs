//! Testing: how to test one's own patterns, in Rust and with scenario files.
//!
//! Run it with `cargo test -p thred-examples --test 06-testing`. It prints:
//!
//! ```text
//! test a_large_amount_is_asked_for ... ok
//! test a_request_lapses_after_two_hours ... ok
//! test a_small_amount_starts_nothing ... ok
//! test the_scenarios_pass ... ok
//! ```

use std::{error::Error, path::Path};

use serde_json::json;
use thredcore::{
    port::{Directory, LogType},
    testing::{Bed, scenario::run_scenario},
};
use thredlib::Event;

type Tested = Result<(), Box<dyn Error>>;

const HOUR: i64 = 3_600_000;

/// A bed runs an engine in virtual time: nothing sleeps, nothing runs in the background.
async fn approvals() -> Result<Bed, Box<dyn Error>> {
    let pattern = serde_json::from_str(include_str!("patterns/approval.pattern.json"))?;
    let mut directory = Directory::new();
    directory.add_group("approvers", ["ann", "bob"]).add_role("managers", ["mia"]);
    Ok(Bed::builder().pattern(pattern).directory(directory).build().await?)
}

fn request(amount: u32) -> Event {
    let values = json!({ "what": "a pump", "amount": amount });
    Event::builder("org.example.approval.request", "erp").values(values).build()
}

#[tokio::test]
async fn a_large_amount_is_asked_for() -> Tested {
    let mut bed = approvals().await?;
    bed.send(request(100)).await?;
    let messages = bed.take_messages();
    assert_eq!(messages[0].to, ["ann", "bob"]);
    assert_eq!(messages[0].event.title(), Some("Approve 100 for a pump?"));
    Ok(())
}

#[tokio::test]
async fn a_small_amount_starts_nothing() -> Tested {
    let mut bed = approvals().await?;
    bed.send(request(99)).await?;
    assert!(bed.all_threds().await?.is_empty());
    // The log says what was decided about each event.
    assert_eq!(bed.log().await?[0].log_type, LogType::NoPatternMatch);
    Ok(())
}

#[tokio::test]
async fn a_request_lapses_after_two_hours() -> Tested {
    let mut bed = approvals().await?;
    bed.send(request(100)).await?;
    bed.advance(2 * HOUR - 1).await?;
    assert_eq!(bed.live_threds().await?.len(), 1);
    bed.advance(1).await?;
    assert_eq!(bed.live_threds().await?.len(), 0);
    let last = bed.take_messages().pop().ok_or("a message at the end")?;
    assert_eq!(last.event.title(), Some("Your request has lapsed: a pump"));
    Ok(())
}

/// A scenario file says the same without Rust. A failure prints the step, the difference, and the
/// run up to there.
#[tokio::test]
async fn the_scenarios_pass() -> Tested {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios");
    for name in ["approval-in-time", "approval-escalation", "approval-rejected"] {
        let outcome = run_scenario(directory.join(format!("{name}.scenario.json"))).await?;
        assert!(outcome.passed(), "{outcome}");
    }
    Ok(())
}
