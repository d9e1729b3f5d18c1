//! Hello: the smallest pattern, on a running engine.
//!
//! Run it with `cargo run -p thred-examples --example 01-hello`. It prints:
//!
//! ```text
//! to ann: Hello, Ann
//! to bob: Hello, bob
//! ```

use std::error::Error;

use thredcore::Engine;
use thredlib::Event;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let hello = serde_json::from_str(include_str!("patterns/hello.pattern.json"))?;

    // Without backends of your own everything is in memory.
    let engine = Engine::builder().pattern(hello).build().await?;
    let running = engine.start();

    // An event without a thred id may start threds: here, one for each greeting.
    let ann = Event::builder("org.example.hello", "ann").source_name("Ann").build();
    let bob = Event::builder("org.example.hello", "bob").build();
    for event in [ann, bob] {
        engine.accept(vec![event]).await?;

        // Messages to people wait on the topic of the node that holds their session. What is not
        // acknowledged is delivered again.
        let delivery = engine.message_q().receive(&["org.wt.session".into()], 1).await?.remove(0);
        let message = &delivery.payload.message;
        println!("to {}: {}", message.to[0], message.event.title().unwrap_or_default());
        engine.message_q().ack(&[delivery.tag]).await?;
    }

    running.shutdown().await;
    Ok(())
}
