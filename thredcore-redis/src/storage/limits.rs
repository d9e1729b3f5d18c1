//! Places of patterns.

use async_trait::async_trait;
use thredcore::port::{LimitStore, PortError, Reservation, Reserved};
use thredlib::{PatternId, ThredId};

use super::{RedisStorage, script, threds::at_most};
use crate::{connection::Request, error::Error, keys::Tag};

script!(RESERVE, "reserve.lua");

/// The threds that have places: a sorted set without scores.
fn taken(tag: &Tag) -> String {
    tag.key("taken")
}

#[async_trait]
impl LimitStore for RedisStorage {
    async fn reserve(&self, reservation: &Reservation) -> Result<Reserved, PortError> {
        let tag = self.0.shared.places(&reservation.pattern);
        let request = Request::script(&tag, &RESERVE, &[&taken(&tag), &tag.key("last")])
            .arg(reservation.thred.as_str())
            .arg(reservation.max_instances)
            .arg(reservation.interval)
            .arg(reservation.now);
        match self.one::<i64>("reserve a place", request).await? {
            0 => Ok(Reserved::Granted),
            1 => Ok(Reserved::Full),
            2 => Ok(Reserved::TooSoon),
            other => {
                let error = Error::Malformed(format!("reserve.lua answered {other}"));
                Err(error.of("reserve a place"))
            }
        }
    }

    async fn release(&self, places: &[(PatternId, ThredId)]) -> Result<(), PortError> {
        let mut requests: Vec<(&PatternId, Request)> = vec![];
        for (pattern, thred) in places {
            let place = requests.iter().position(|(of, _)| *of == pattern);
            let place = place.unwrap_or_else(|| {
                let tag = self.0.shared.places(pattern);
                let mut command = redis::cmd("ZREM");
                command.arg(taken(&tag));
                requests.push((pattern, Request::write(&tag, command)));
                requests.len() - 1
            });
            requests[place].1.push(thred.as_str());
        }
        let requests: Vec<_> = requests.into_iter().map(|(_, request)| request).collect();
        self.all::<i64>("release places", &requests).await.map(drop)
    }

    async fn reserved(
        &self,
        pattern: &PatternId,
        after: Option<&ThredId>,
        limit: usize,
    ) -> Result<Vec<ThredId>, PortError> {
        let tag = self.0.shared.places(pattern);
        let mut command = redis::cmd("ZRANGEBYLEX");
        let from = after.map_or_else(|| "-".into(), |thred| format!("({thred}"));
        command.arg(taken(&tag)).arg(from).arg("+").arg("LIMIT").arg(0).arg(at_most(limit));
        let threds: Vec<String> = self.one("list places", Request::read(&tag, command)).await?;
        Ok(threds.into_iter().map(ThredId::new).collect())
    }
}
