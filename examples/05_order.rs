//! An order: a thred that spawns children, a service of our own, and an end for all of them.
//!
//! Picking and invoicing go side by side, each in a thred of its own; the order's end ends them.
//!
//! Run it with `cargo run -p thred-examples --example 05-order`. It prints:
//!
//! ```text
//! carol: Invoice for order A-17
//! carol: We have your order A-17
//! wes, wanda: Pick order A-17
//! live: order, order_picking
//! carol: Delivered: A-17
//! live: none
//! ```

use std::{collections::BTreeSet, error::Error, sync::Arc};

use async_trait::async_trait;
use serde_json::json;
use thredcore::{
    Engine,
    agent::AgentRunner,
    port::{
        AgentContext, Directory, FixedDirectory, HandlerError, MessageHandler, PortError,
        ThredQuery,
    },
};
use thredlib::{Event, Message};

/// Makes invoices.
struct Billing;

#[async_trait]
impl MessageHandler for Billing {
    async fn process_message(
        &self,
        message: &Message,
        agent: &AgentContext,
    ) -> Result<Vec<Event>, HandlerError> {
        // A terminal error is told to the thred; a retryable one brings the message back.
        let order = message.event.value_named("orderId").and_then(|id| id.as_str());
        let order = order.ok_or(HandlerError::terminal("the value `orderId` is missing"))?;
        let uri = format!("https://billing.example.org/{order}.pdf");
        Ok(vec![agent.answer(message).values(json!({ "uri": uri })).build()])
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut directory = Directory::new();
    directory.add_group("warehouse", ["wes", "wanda"]);
    directory.add_service("org.example.billing").add_service("org.example.billing1");
    let mut engine = Engine::builder().resolver(Arc::new(FixedDirectory::new(directory)));
    for pattern in [
        include_str!("patterns/order.pattern.json"),
        include_str!("patterns/order_picking.pattern.json"),
        include_str!("patterns/order_invoice.pattern.json"),
    ] {
        engine = engine.pattern(serde_json::from_str(pattern)?);
    }
    let engine = engine.build().await?;
    let (message_q, event_q) = (engine.message_q().clone(), engine.event_q().clone());
    let billing = AgentRunner::new("org.example.billing", Arc::new(Billing), message_q, event_q);
    let billing = billing.start().await?;
    let running = engine.start();

    let lines = json!([{ "item": "bolt", "count": 10, "price": 2.5 }]);
    let placed = Event::builder("org.example.order.placed", "carol")
        .values(json!({ "orderId": "A-17", "lines": lines }))
        .build();
    engine.accept(vec![placed]).await?;
    show_messages(&engine, 3).await?;
    running.idle().await;
    show_live(&engine).await?;

    let delivered = Event::builder("org.example.parcel.delivered", "carrier")
        .values(json!({ "orderId": "A-17" }))
        .build();
    engine.accept(vec![delivered]).await?;
    show_messages(&engine, 1).await?;
    running.idle().await;
    show_live(&engine).await?;

    running.shutdown().await;
    billing.shutdown().await;
    Ok(())
}

/// Prints the next messages to people. Sorted, since children do not wait for each other; a set,
/// since a message may be delivered twice.
async fn show_messages(engine: &Engine, count: usize) -> Result<(), PortError> {
    let mut lines = BTreeSet::new();
    while lines.len() < count {
        for delivery in engine.message_q().receive(&["org.wt.session".into()], count).await? {
            let message = &delivery.payload.message;
            let to: Vec<_> = message.to.iter().map(|id| id.as_str()).collect();
            let title = message.event.title().unwrap_or_default();
            lines.insert(format!("{}: {title}", to.join(", ")));
            engine.message_q().ack(&[delivery.tag]).await?;
        }
    }
    lines.iter().for_each(|line| println!("{line}"));
    Ok(())
}

async fn show_live(engine: &Engine) -> Result<(), PortError> {
    let threds = engine.storage().threds(&ThredQuery::default()).await?.threds;
    let mut live: Vec<_> = threds.iter().map(|thred| thred.pattern.id.as_str()).collect();
    live.sort();
    println!("live: {}", if live.is_empty() { "none".to_owned() } else { live.join(", ") });
    Ok(())
}
