//! What a thred has published under a name: the ids are kept in its locals, `out_id_<name>` for the
//! latest event and `out_ids_<name>` for those before it.

use serde_json::Value;

use super::Locals;
use crate::EventId;

/// How many events of one name are remembered, the latest ones.
pub const MAX_PUBLISHED: usize = 64;

/// The local that holds the id of the latest event.
pub fn latest_local(name: &str) -> String {
    format!("out_id_{name}")
}

/// The local that holds the list of the ids before it, oldest first.
pub fn earlier_local(name: &str) -> String {
    format!("out_ids_{name}")
}

/// The list of earlier ids with another one.
pub(super) fn add(earlier: Option<&Value>, id: Value) -> Value {
    let mut ids = match earlier {
        Some(Value::Array(ids)) => ids.clone(),
        _ => Vec::new(),
    };
    ids.push(id);
    let surplus = ids.len().saturating_sub(MAX_PUBLISHED - 1);
    ids.drain(..surplus);
    Value::Array(ids)
}

/// The locals of one name.
#[derive(Clone, Debug)]
pub(super) struct Published {
    latest: Box<str>,
    earlier: Box<str>,
}

impl Published {
    pub(super) fn new(name: &str) -> Self {
        Self { latest: latest_local(name).into(), earlier: earlier_local(name).into() }
    }

    /// Whether an event that answers `re` answers one of those that are remembered.
    pub(super) fn is_answered(&self, re: Option<&EventId>, locals: &Locals) -> bool {
        let Some(re) = re else { return false };
        let is_it = |id: &Value| id.as_str() == Some(re.as_str());
        locals.get(&*self.latest).is_some_and(is_it)
            || locals
                .get(&*self.earlier)
                .and_then(Value::as_array)
                .is_some_and(|ids| ids.iter().any(is_it))
    }
}
