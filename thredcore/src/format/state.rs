//! The text of a state: what a store writes of it as JSON, beside what it keeps in fields of its own.

use std::sync::Arc;

use serde::{Deserialize, Serialize, Serializer, de::Error as _, ser::SerializeMap};
use thin_vec::ThinVec;
use thredlib::{
    ParticipantId, ThredId,
    expr::{Locals, no_locals},
};

use crate::state::{Consumed, PatternKey, Status, ThredState, WaitKey};

/// How the text of a state is written. All of them are always read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StateForm {
    /// Format 2 of directories and of MongoDB: the whole state under full names, with an empty inbox.
    Full,
    /// Format 2 of Redis: short names, without what stands beside the text.
    Short,
    /// Format 3 of all: the same with times that are counted from the start.
    Compact,
}

/// The text of a state, to be written as JSON.
///
/// It leaves out what every store keeps beside it: id, pattern, status, reaction, start and inbox;
/// version, participants and wait keys are left out unless they are asked for.
#[derive(Clone, Copy, Debug)]
pub struct StateText<'a> {
    state: &'a ThredState,
    form: StateForm,
    version: bool,
    participants: bool,
    waits: bool,
}

impl<'a> StateText<'a> {
    /// The text of a state in a form.
    pub fn new(state: &'a ThredState, form: StateForm) -> Self {
        Self { state, form, version: false, participants: false, waits: false }
    }

    /// With the version, which the store keeps nowhere else.
    #[must_use]
    pub fn with_version(self) -> Self {
        Self { version: true, ..self }
    }

    /// With the participants, which the store keeps nowhere else.
    #[must_use]
    pub fn with_participants(self) -> Self {
        Self { participants: true, ..self }
    }

    /// With the wait keys, if the store keeps them nowhere else.
    #[must_use]
    pub fn with_waits_if(self, waits: bool) -> Self {
        Self { waits, ..self }
    }

    fn full(&self) -> ThredState {
        let mut state = ThredState { inbox: vec![], ..self.state.clone() };
        if !self.participants {
            state.participants = vec![];
        }
        if !self.waits {
            state.waits = ThinVec::new();
        }
        state
    }
}

impl Serialize for StateText<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.form == StateForm::Full {
            return self.full().serialize(serializer);
        }
        // Whoever adds a field to the state is to find this place, and the one that reads it.
        let ThredState {
            id: _,
            pattern: _,
            version,
            status: _,
            reaction: _,
            waits,
            entry,
            entered_at,
            expires_at,
            started_at,
            modified_at,
            locals,
            participants,
            errors,
            matched,
            inbox: _,
            label,
            description,
            display,
            parent,
            children,
        } = self.state;
        let mut map = serializer.serialize_map(None)?;
        if self.version {
            map.serialize_entry("v", version)?;
        }
        map.serialize_entry("e", entry)?;
        if self.form == StateForm::Short {
            map.serialize_entry("t", entered_at)?;
            if let Some(expires_at) = expires_at {
                map.serialize_entry("x", expires_at)?;
            }
            map.serialize_entry("m", modified_at)?;
        } else {
            let (entered, modified) =
                (since(*entered_at, *started_at), since(*modified_at, *entered_at));
            if entered != 0 {
                map.serialize_entry("+t", &entered)?;
            }
            if let Some(expires_at) = expires_at {
                map.serialize_entry("+x", &since(*expires_at, *entered_at))?;
            }
            if modified != 0 {
                map.serialize_entry("+m", &modified)?;
            }
        }
        if !locals.is_empty() {
            map.serialize_entry("l", locals)?;
        }
        if *errors != 0 {
            map.serialize_entry("r", errors)?;
        }
        if !matched.is_empty() {
            map.serialize_entry("o", matched)?;
        }
        if self.waits && !waits.is_empty() {
            map.serialize_entry("w", waits)?;
        }
        if self.participants && !participants.is_empty() {
            map.serialize_entry("p", participants)?;
        }
        for (name, text) in [("b", label), ("d", description), ("i", display)] {
            if let Some(text) = text {
                map.serialize_entry(name, text)?;
            }
        }
        if let Some(parent) = parent {
            map.serialize_entry("u", parent)?;
        }
        if !children.is_empty() {
            map.serialize_entry("c", children)?;
        }
        map.end()
    }
}

/// Any two times have a difference, whatever they are.
fn since(time: i64, start: i64) -> i64 {
    time.wrapping_sub(start)
}

/// What a store keeps of a state beside its text.
#[derive(Clone, Debug)]
pub struct StateFields {
    /// The thred.
    pub id: ThredId,
    /// The pattern that it runs.
    pub pattern: Arc<PatternKey>,
    /// Its version; `None` if the text has it.
    pub version: Option<u64>,
    /// Where it is in its life.
    pub status: Status,
    /// The name of its reaction.
    pub reaction: Arc<str>,
    /// When it started.
    pub started_at: i64,
    /// Who has taken part; none if the text has them.
    pub participants: Vec<ParticipantId>,
    /// What it is found by; none if the text has them.
    pub waits: ThinVec<WaitKey>,
    /// What it has consumed.
    pub inbox: Vec<Consumed>,
}

/// A text as it is read, in any form.
#[derive(Deserialize)]
struct TextAsRead {
    #[serde(rename = "v", alias = "version")]
    version: Option<u64>,
    #[serde(rename = "e", alias = "entry")]
    entry: u64,
    #[serde(rename = "t", alias = "enteredAt")]
    entered_at: Option<i64>,
    #[serde(rename = "x", alias = "expiresAt")]
    expires_at: Option<i64>,
    #[serde(rename = "m", alias = "modifiedAt")]
    modified_at: Option<i64>,
    #[serde(rename = "+t", default)]
    entered: i64,
    #[serde(rename = "+x")]
    expires: Option<i64>,
    #[serde(rename = "+m", default)]
    modified: i64,
    #[serde(rename = "l", alias = "locals", default = "no_locals")]
    locals: Locals,
    #[serde(rename = "r", alias = "errors", default)]
    errors: u8,
    #[serde(rename = "o", alias = "matched", default)]
    matched: ThinVec<u16>,
    #[serde(rename = "w", alias = "waits", default)]
    waits: ThinVec<WaitKey>,
    #[serde(rename = "p", alias = "participants", default)]
    participants: Vec<ParticipantId>,
    #[serde(rename = "b", alias = "label")]
    label: Option<Arc<str>>,
    #[serde(rename = "d", alias = "description")]
    description: Option<Arc<str>>,
    #[serde(rename = "i", alias = "display")]
    display: Option<Arc<str>>,
    #[serde(rename = "u", alias = "parent")]
    parent: Option<ThredId>,
    #[serde(rename = "c", alias = "children", default)]
    children: ThinVec<ThredId>,
}

impl StateFields {
    /// The state that these fields and a text make.
    ///
    /// # Errors
    /// The text is not the JSON of a state in any form.
    pub fn with_text(self, text: &[u8]) -> Result<ThredState, serde_json::Error> {
        let text: TextAsRead = serde_json::from_slice(text)?;
        let missing = serde_json::Error::missing_field;
        let (entered_at, modified_at, expires_at) = match (text.entered_at, text.modified_at) {
            (Some(entered_at), Some(modified_at)) => (entered_at, modified_at, text.expires_at),
            (None, None) => {
                let entered_at = self.started_at.wrapping_add(text.entered);
                let after = |time: i64| entered_at.wrapping_add(time);
                (entered_at, after(text.modified), text.expires.map(after))
            }
            (None, _) => return Err(missing("enteredAt")),
            (_, None) => return Err(missing("modifiedAt")),
        };
        let version = self.version.or(text.version).ok_or_else(|| missing("version"))?;
        let (waits, participants) = (text.waits, text.participants);
        Ok(ThredState {
            id: self.id,
            pattern: self.pattern,
            version,
            status: self.status,
            reaction: self.reaction,
            waits: if waits.is_empty() { self.waits } else { waits },
            entry: text.entry,
            entered_at,
            expires_at,
            started_at: self.started_at,
            modified_at,
            locals: text.locals,
            participants: if participants.is_empty() { self.participants } else { participants },
            errors: text.errors,
            matched: text.matched,
            inbox: self.inbox,
            label: text.label,
            description: text.description,
            display: text.display,
            parent: text.parent,
            children: text.children,
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn states() -> [ThredState; 3] {
        let plain = ThredState {
            id: "t".into(),
            pattern: Arc::new(PatternKey { id: "order".into(), revision: u64::MAX }),
            version: 7,
            status: Status::Active,
            reaction: "wait".into(),
            waits: ThinVec::new(),
            entry: 5,
            entered_at: 2_000,
            expires_at: None,
            started_at: 2_000,
            modified_at: 2_000,
            locals: no_locals(),
            participants: vec![],
            errors: 0,
            matched: ThinVec::new(),
            inbox: vec![],
            label: None,
            description: None,
            display: None,
            parent: None,
            children: ThinVec::new(),
        };
        let locals = json!({ "big": u64::MAX, "deep": [{ "t": 1 }], "+t": null });
        let Value::Object(locals) = locals else { unreachable!() };
        let full = ThredState {
            waits: [WaitKey::from_bytes([1; 16]), WaitKey::from_bytes([2; 16])].into(),
            entered_at: 2_345,
            expires_at: Some(2_345),
            modified_at: 2_340,
            locals: Arc::new(locals),
            participants: vec!["ann".into(), "erp".into()],
            errors: 3,
            matched: [1, 2].into(),
            label: Some("a".into()),
            description: Some("b".into()),
            display: Some("c".into()),
            parent: Some("p".into()),
            children: ["c1".into(), "c2".into()].into(),
            ..plain.clone()
        };
        let odd = ThredState {
            started_at: i64::MIN,
            entered_at: i64::MAX,
            modified_at: -1,
            expires_at: Some(i64::MIN),
            ..full.clone()
        };
        [plain, full, odd]
    }

    /// What a store that has all of it in fields keeps beside the text.
    fn beside(state: &ThredState) -> StateFields {
        StateFields {
            id: state.id.clone(),
            pattern: state.pattern.clone(),
            version: Some(state.version),
            status: state.status,
            reaction: state.reaction.clone(),
            started_at: state.started_at,
            participants: state.participants.clone(),
            waits: state.waits.clone(),
            inbox: state.inbox.clone(),
        }
    }

    #[test]
    fn every_form_comes_back() {
        for state in states() {
            for form in [StateForm::Full, StateForm::Short, StateForm::Compact] {
                let bare = serde_json::to_vec(&StateText::new(&state, form)).unwrap();
                assert_eq!(beside(&state).with_text(&bare).unwrap(), state, "{form:?}");
                let whole = StateText::new(&state, form).with_version().with_participants();
                let whole = serde_json::to_vec(&whole.with_waits_if(true)).unwrap();
                let less = StateFields {
                    version: None,
                    participants: vec![],
                    waits: ThinVec::new(),
                    ..beside(&state)
                };
                assert_eq!(less.with_text(&whole).unwrap(), state, "{form:?}");
            }
        }
    }

    #[test]
    fn what_stands_beside_is_in_no_compact_text() {
        let [plain, full, _] = states();
        let text =
            |state| serde_json::to_string(&StateText::new(state, StateForm::Compact)).unwrap();
        assert_eq!(text(&plain), r#"{"e":5}"#);
        let expected = r#"{"e":5,"+t":345,"+x":0,"+m":-5,"l":{"#;
        assert!(text(&full).starts_with(expected), "{}", text(&full));
        assert!(!text(&full).contains("ann"), "{}", text(&full));
    }

    /// Readers of format 2 know nothing else.
    #[test]
    fn the_forms_of_format_2_are_what_they_were() {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        #[allow(dead_code, reason = "only what is there counts")]
        struct ShortAsItWas {
            e: u64,
            t: i64,
            x: Option<i64>,
            m: i64,
            l: Option<Locals>,
            r: Option<u8>,
            o: Option<Vec<u16>>,
            w: Option<Vec<WaitKey>>,
            b: Option<String>,
            d: Option<String>,
            i: Option<String>,
            u: Option<String>,
            c: Option<Vec<String>>,
        }
        for state in states() {
            let text = StateText::new(&state, StateForm::Full).with_participants();
            let text = serde_json::to_string(&text.with_waits_if(true)).unwrap();
            assert_eq!(text, serde_json::to_string(&state).unwrap());
            let text = StateText::new(&state, StateForm::Short).with_waits_if(true);
            let text = serde_json::to_string(&text).unwrap();
            let read: ShortAsItWas = serde_json::from_str(&text).unwrap();
            assert_eq!(
                (read.t, read.m, read.x),
                (state.entered_at, state.modified_at, state.expires_at)
            );
            let compact = StateText::new(&state, StateForm::Compact);
            let compact = serde_json::to_string(&compact).unwrap();
            assert!(serde_json::from_str::<ShortAsItWas>(&compact).is_err());
            assert!(serde_json::from_str::<ThredState>(&compact).is_err());
        }
    }

    #[test]
    fn what_is_no_state_is_refused() {
        let [state, ..] = states();
        for text in ["", "{}", "[]", r#"{"e":1,"t":5}"#, r#"{"e":1,"m":5}"#, r#"{"e":1,"e":2}"#] {
            assert!(beside(&state).with_text(text.as_bytes()).is_err(), "{text}");
        }
        let fields = StateFields { version: None, ..beside(&state) };
        let error = fields.with_text(br#"{"e":5}"#).unwrap_err();
        assert!(error.to_string().contains("version"), "{error}");
    }
}
