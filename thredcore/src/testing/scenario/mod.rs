//! Scenario files: tests of patterns that need no Rust.
//!
//! A scenario names the patterns, says what happens, and what must follow:
//!
//! ```json
//! {
//!   "name": "a greeting is answered",
//!   "patterns": ["hello.pattern.json"],
//!   "steps": [
//!     { "send": { "type": "org.example.hello", "source": { "id": "ann" } }, "starts": "t1" },
//!     { "expectMessage": { "to": ["ann"], "event": { "data": { "title": "Hello, ann" } } } },
//!     { "expectThred": { "ref": "t1", "status": "terminated" } }
//!   ]
//! }
//! ```
//!
//! Time is virtual: nothing sleeps, and the same file always gives the same run.

mod check;
mod duration;
mod instant;
mod load;
mod matcher;
mod model;
mod parse;
mod reader;
mod reference;
mod report;
mod run;

pub use duration::parse_duration;
pub use instant::{format_instant, parse_instant};
pub use matcher::{Difference, differences, recipient_differences};
pub use model::{
    Action, MessageExpectation, PatternSource, Scenario, ScenarioError, Step, ThredExpectation,
    ThredName,
};
pub use reference::{ReferenceError, References};
pub use report::{Failure, ScenarioOutcome};
pub use run::run_scenario;
