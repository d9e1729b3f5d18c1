//! Which version of the stored forms a namespace has.

use std::{sync::LazyLock, time::Duration};

use redis::{FromRedisValue, Value};
use thredcore::{
    format::{Attendance, FORMATS, StoreFormat},
    port::{Clock, SystemClock},
};

use crate::{
    Connection, Error, Request, Tag,
    connection::{Script, Weak},
};

static ATTEND: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("scripts/attend.lua")));
static UPGRADE: LazyLock<Script> =
    LazyLock::new(|| Script::new(include_str!("scripts/upgrade.lua")));

/// The version of namespaces that were made before there was a number.
const FIRST: u32 = 1;

/// Where the version stands, and who is there.
struct Names {
    tag: Tag,
    format: String,
    /// Hash: process → the newest format that it reads, and when it was there last.
    processes: String,
}

impl Names {
    fn of(connection: &Connection) -> Self {
        let tag = Tag::new(&connection.config().namespace, "meta");
        Self { format: tag.key("format"), processes: tag.key("processes"), tag }
    }
}

/// Finds out the version of a namespace. One that is new gets the newest, or the one that is asked
/// for.
pub(crate) async fn agree(connection: &Connection) -> Result<u32, Error> {
    let config = connection.config();
    let namespace = &*config.namespace;
    let Names { tag: meta, format: key, .. } = Names::of(connection);
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
        None if !config.create => {
            if is_used {
                FIRST.into()
            } else {
                return Err(nothing(namespace));
            }
        }
        None => {
            let version = if is_used { FIRST } else { FORMATS.make(config.make_format) };
            let mut set = redis::cmd("SET");
            set.arg(&key).arg(version).arg("NX").arg("GET");
            let answer = connection.send(&[Request::write(&meta, set)]).await.pop();
            // Another process may have been faster.
            number(answer.unwrap_or(Ok(Value::Nil)))?.unwrap_or(version.into())
        }
    };
    if !config.create && !is_used {
        return Err(nothing(namespace));
    }
    let checked = |found| {
        let problem = |problem| Error::Format { namespace: namespace.to_owned(), problem };
        FORMATS.check(found).map_err(problem)
    };
    let version = checked(found)?;
    if !config.create {
        return Ok(version);
    }
    // Whoever upgrades after this sees this process.
    checked(attend(connection).await?)
}

/// Notes that this process is there. Answers the version that the namespace has.
async fn attend(connection: &Connection) -> Result<u64, Error> {
    let Names { tag, format, processes } = Names::of(connection);
    let request = Request::asking_script(&tag, &ATTEND, &[&format, &processes]);
    let request = request.arg(connection.process()).arg(FORMATS.newest()).arg(now()).arg(lasts());
    let answer = connection.ask::<Option<u64>>(request).await?;
    Ok(answer.unwrap_or(FORMATS.newest().into()))
}

/// For servers that do not tell theirs.
fn now() -> i64 {
    SystemClock.now()
}

fn lasts() -> u64 {
    u64::try_from(Attendance::LASTS.as_millis()).unwrap_or(u64::MAX)
}

/// Notes again and again that this process is there, as long as somebody uses the connection. A
/// namespace that was upgraded beyond this program is worked on no more.
pub(crate) fn keep_attending(connection: Weak) {
    const EVERY: Duration = Attendance::EVERY;
    tokio::spawn(async move {
        loop {
            tokio::time::sleep(EVERY).await;
            let Some(connection) = connection.upgrade() else { return };
            match attend(&connection).await {
                Ok(format) => connection.attendance().found(FORMATS, format),
                // The next one may get through.
                Err(error) => tracing::debug!(%error, "could not note that this process is there"),
            }
        }
    });
}

/// The version of a namespace, which is raised first if it can be.
pub(crate) async fn stand(connection: &Connection, upgrade: bool) -> Result<StoreFormat, Error> {
    let Names { tag, format, processes } = Names::of(connection);
    let newest = FORMATS.newest();
    let keys = [&*format, &*processes];
    let request = if upgrade {
        Request::script(&tag, &UPGRADE, &keys)
    } else {
        Request::asking_script(&tag, &UPGRADE, &keys)
    };
    let request = request.arg(if upgrade { newest } else { 0 }).arg(now()).arg(lasts());
    let (format, processes): (u32, Vec<u32>) = connection.ask(request).await?;
    if format > 0 {
        connection.attendance().found(FORMATS, format.into());
    }
    Ok(StoreFormat { format, newest, processes })
}

fn nothing(namespace: &str) -> Error {
    Error::Config(format!(
        "nothing is stored in the namespace `{namespace}`; check it, and the URL"
    ))
}

fn number(answer: Result<Value, Error>) -> Result<Option<u64>, Error> {
    Option::<u64>::from_redis_value(answer?).map_err(|error| Error::Malformed(error.to_string()))
}
