//! The vocabulary of thredcore.
//!
//! Patterns (JSON state machines) match events; a match starts or moves a thred and sends
//! messages. This crate holds the words for that, free of any engine, storage or transport:
//! ids, [`Event`], [`Message`], [`Address`], the [pattern model](PatternModel) with its
//! [validation](validate), [expressions](expr) and [templates](template).
//!
//! ```
//! use thredlib::Event;
//!
//! let event = Event::builder("org.example.request", "erp").values(serde_json::json!({ "amount": 10 })).build();
//! assert_eq!(event.value_named("amount"), Some(&10.into()));
//! ```

mod id;
mod key;

mod address;
mod error;
mod event;
mod message;

mod limits;
mod pattern;

pub mod expr;
pub mod json;
#[cfg(feature = "schema")]
pub mod schema;
pub mod task;
pub mod template;
pub mod validate;

pub use address::Address;
pub use error::{ErrorCode, EventError};
pub use event::{Event, EventBuilder, EventData, Extra, SYSTEM, Source, event_type, value_named};
pub use expr::{CompileError, ExprError};
pub use id::{
    EventId, MessageId, ParticipantId, PatternId, ThredId, Topic, derive_id, hash_parts, join_id,
    new_event_id, stable_hash,
};
pub use key::{EventKey, NotAKey};
pub use limits::{ENVELOPE_DEPTH, EventLimits, ExprLimits, MAX_DEPTH, READABLE_DEPTH};
pub use message::Message;
pub use pattern::*;
pub use template::Template;
