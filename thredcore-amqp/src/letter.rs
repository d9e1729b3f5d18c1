//! What a dead letter looks like at the broker.

use lapin::{
    BasicProperties,
    message::Delivery,
    types::{AMQPValue, FieldTable},
};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use thredcore::port::{DeadLetter, Unreadable};
use thredlib::{ThredId, hash_parts};
use uuid::Uuid;

use crate::{
    AmqpError,
    cargo::{Cargo, json},
    counts::{header, integer, short_text, words},
};

/// Says that a letter is an [`Envelope`], or else the bytes as they came.
const FORM: &str = "thredcore-letter";
const ENVELOPE: &str = "envelope";
const RAW: &str = "raw";

const REASON: &str = "thredcore-reason";
const AT: &str = "thredcore-at";
const ATTEMPTS: &str = "thredcore-attempts";
const ORIGIN: &str = "thredcore-origin";
/// Who had sent it, as the broker knew it then.
pub(crate) const USER: &str = "thredcore-user";

/// The id that it was published with.
pub(crate) const ID: &str = "thredcore-id";

/// Why a message is dead that has waited for too long.
pub(crate) const EXPIRED: &str = "EXPIRED";

/// Why an item is dead, and what it has done before.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Obituary {
    pub(crate) reason: String,
    pub(crate) at: i64,
    pub(crate) attempts: u32,
    #[serde(default)]
    pub(crate) times: u32,
    #[serde(default)]
    pub(crate) moved: Vec<ThredId>,
    #[serde(default)]
    pub(crate) origin: String,
}

/// A letter of an item that could be read. Headers would not do: they have to fit into a frame.
#[derive(Serialize, Deserialize)]
struct Envelope<P> {
    #[serde(flatten)]
    obituary: Obituary,
    payload: P,
}

/// The body and the headers of a letter of an item.
pub(crate) fn enveloped(
    obituary: &Obituary,
    payload: Vec<u8>,
) -> Result<(Vec<u8>, FieldTable), AmqpError> {
    let payload = String::from_utf8(payload).map_err(|error| AmqpError::Json(error.to_string()))?;
    let payload = RawValue::from_string(payload).map_err(|it| AmqpError::Json(it.to_string()))?;
    let mut headers = FieldTable::default();
    headers.insert(FORM.into(), short_text(ENVELOPE));
    headers.insert(REASON.into(), short_text(&obituary.reason));
    let body = json(&Envelope { obituary: obituary.clone(), payload: &*payload })?;
    Ok((body, headers))
}

/// How something was published that cannot be read or is refused.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Published<'a> {
    /// The user of the broker.
    pub(crate) user: Option<&'a str>,
    /// The id: that of a letter is its own.
    pub(crate) id: Option<&'a str>,
}

/// The headers of a letter that is the bytes as they came.
pub(crate) fn raw(obituary: &Obituary, published: Published<'_>) -> FieldTable {
    let mut headers = FieldTable::default();
    let mut set = |key: &str, value| _ = headers.insert(key.into(), value);
    set(FORM, short_text(RAW));
    set(REASON, short_text(&obituary.reason));
    set(AT, AMQPValue::LongLongInt(obituary.at));
    set(ATTEMPTS, AMQPValue::LongLongInt(obituary.attempts.into()));
    set(ORIGIN, short_text(&obituary.origin));
    if let Some(user) = published.user {
        set(USER, short_text(user));
    }
    if let Some(id) = published.id {
        set(ID, short_text(id));
    }
    headers
}

/// Reads a letter, also one that the broker has put there. `is_ours` says whether a user of the
/// broker may publish such items.
pub(crate) fn read<T: Cargo>(
    delivery: &Delivery,
    is_ours: impl Fn(Option<&str>) -> bool,
) -> Result<DeadLetter<T>, String> {
    let properties = &delivery.properties;
    let get = |key: &str| header(properties, key).and_then(words);
    let user = properties.user_id().as_ref().map(|user| user.as_str());
    if T::KIND == "event" && !is_ours(user) {
        return Err(format!("it was sent by {}, who is no engine", user.unwrap_or("nobody")));
    }
    if get(FORM).as_deref() == Some(ENVELOPE) {
        let read: Envelope<&RawValue> =
            serde_json::from_slice(&delivery.data).map_err(|error| error.to_string())?;
        let body = read.payload.get().as_bytes();
        let payload = T::read(&read.obituary.origin, properties, body)?;
        return Ok(letter(key(delivery), payload, read.obituary));
    }
    let obituary = obituary(properties);
    // As bytes are set aside that are no item, or not from whom they should be.
    if get(FORM).is_some() && T::KIND != crate::ingress::KIND {
        return Err(obituary.reason);
    }
    let payload = T::read(&obituary.origin, properties, &delivery.data)?;
    Ok(letter(key(delivery), payload, obituary))
}

fn letter<T: Cargo>(id: String, payload: T, obituary: Obituary) -> DeadLetter<T> {
    let past = payload.past();
    let is_event = T::KIND == "event";
    let moved = if obituary.moved.is_empty() { past.moved } else { obituary.moved };
    let times = if obituary.times == 0 && is_event { past.times + 1 } else { obituary.times };
    let Obituary { reason, at, attempts, .. } = obituary;
    DeadLetter { id, payload, reason, at, attempts, times, moved }
}

/// What is not in an envelope: from the headers, the broker's own included.
fn obituary(properties: &BasicProperties) -> Obituary {
    let get = |key: &str| header(properties, key);
    let death = get("x-death").and_then(|deaths| match deaths {
        // The latest first.
        AMQPValue::FieldArray(deaths) => deaths.as_slice().first()?.as_field_table(),
        _ => None,
    });
    let of_death = |key: &str| death.and_then(|death| death.inner().get(key));
    let origin = get(ORIGIN).and_then(words).or_else(|| {
        let keys = of_death("routing-keys")?.as_array()?;
        words(keys.as_slice().first()?)
    });
    let reason = get(REASON).and_then(words).unwrap_or_else(|| {
        match of_death("reason").and_then(words).as_deref() {
            Some("expired") => EXPIRED.to_owned(),
            Some(reason) => format!("the broker says: {reason}"),
            None => "unknown".to_owned(),
        }
    });
    let at = get(AT).and_then(integer);
    let at = at.or_else(|| integer(of_death("time")?)?.checked_mul(1_000)).unwrap_or(0);
    let attempts = get(ATTEMPTS).and_then(integer).unwrap_or(0);
    let attempts = u32::try_from(attempts).unwrap_or(0);
    Obituary { reason, at, attempts, origin: origin.unwrap_or_default(), ..Obituary::default() }
}

/// Names a letter: in the order of time.
pub(crate) fn key(delivery: &Delivery) -> String {
    let properties = &delivery.properties;
    if header(properties, FORM).is_some()
        && let Some(id) = properties.message_id()
    {
        return id.to_string();
    }
    // The broker's own: told apart by what they are.

    let hash = hash_parts("dead letter", [&*delivery.data]);
    let mut tail = [0; 10];
    tail.copy_from_slice(&hash[..10]);
    let at = u64::try_from(obituary(properties).at).unwrap_or(0);
    uuid::Builder::from_unix_timestamp_millis(at, &tail).into_uuid().to_string()
}

/// A name for a new letter.
pub(crate) fn new_key() -> String {
    Uuid::now_v7().to_string()
}

/// A letter that cannot be read, as it is shown.
pub(crate) fn unreadable(kind: &str, delivery: &Delivery, reason: String) -> Unreadable {
    let content = Unreadable::excerpt(&delivery.data);
    Unreadable { kind: kind.to_owned(), key: key(delivery), reason, content }
}
