//! Which version of the stored forms a namespace has.

use redis::{FromRedisValue, Value};
use thredcore::format::Formats;

use crate::{Connection, Error, Request, Tag};

/// The versions that are read. A version is raised with every change of what is stored that an older
/// program does not read as it is meant; the one before is still read, and a namespace that has it
/// keeps it.
///
/// The first version was never released, and is not read.
pub(crate) const FORMATS: Formats = Formats::new(2, 2);

/// The version of namespaces that were made before there was a number.
const FIRST: u32 = 1;

/// Finds out the version of a namespace. One that is new gets the newest.
pub(crate) async fn agree(connection: &Connection) -> Result<u32, Error> {
    let namespace = &*connection.config().namespace;
    let meta = Tag::new(namespace, "meta");
    let key = meta.key("format");
    let events = Tag::new(namespace, "events");
    let read = |tag: &Tag, key: &str| {
        let mut get = redis::cmd("GET");
        get.arg(key);
        Request::read(tag, get)
    };
    let asked = [
        read(&meta, &key),
        read(&meta, &meta.key("partitions")),
        read(&events, &events.key("partitions")),
    ];
    let mut answers = connection.send(&asked).await.into_iter();
    let mut next = || number(answers.next().unwrap_or(Ok(Value::Nil)));
    let (found, threds, queues) = (next()?, next()?, next()?);
    let is_used = threds.is_some() || queues.is_some();
    let found = match found {
        Some(found) => found,
        None if !connection.config().create => match is_used {
            true => FIRST.into(),
            false => return Err(nothing(namespace)),
        },
        None => {
            let version = if is_used { FIRST } else { FORMATS.newest() };
            let mut set = redis::cmd("SET");
            set.arg(&key).arg(version).arg("NX").arg("GET");
            let answer = connection.send(&[Request::write(&meta, set)]).await.pop();
            // Another process may have been faster.
            number(answer.unwrap_or(Ok(Value::Nil)))?.unwrap_or(version.into())
        }
    };
    if !connection.config().create && !is_used {
        return Err(nothing(namespace));
    }
    FORMATS
        .check(found)
        .map_err(|problem| Error::Format { namespace: namespace.to_owned(), problem })
}

fn nothing(namespace: &str) -> Error {
    Error::Config(format!(
        "nothing is stored in the namespace `{namespace}`; check it, and the URL"
    ))
}

fn number(answer: Result<Value, Error>) -> Result<Option<u64>, Error> {
    Option::<u64>::from_redis_value(answer?).map_err(|error| Error::Malformed(error.to_string()))
}
