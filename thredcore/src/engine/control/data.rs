//! What an administrator may do with stored data.

use serde_json::Value;
use thredlib::Event;

use super::{Answer, Refusal};
use crate::engine::Engine;

pub(super) struct Matcher;
impl Matcher {
    pub(super) fn matches(&self, _: &Value) -> bool {
        true
    }
}
pub(super) fn matcher(_: &Value) -> Result<Matcher, Refusal> {
    Ok(Matcher)
}
impl Engine {
    pub(super) async fn data_control(&self, event: &Event) -> Answer {
        let _ = event;
        Err(Refusal::unknown_operation("data"))
    }
}
