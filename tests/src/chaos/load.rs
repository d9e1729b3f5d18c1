//! The events of a run and those who send them.

use std::{sync::Arc, time::Duration};

use futures::future::join_all;
use thredlib::Event;

use super::{
    fleet::Fleet,
    oracle::Mark,
    patterns::{PAIRS, event, home},
};
use crate::seed::Dice;

/// So many threds with so many events each; of each thred two sources tell in turn.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    /// The number of the first thred.
    pub first: u32,
    /// How many threds.
    pub threds: u32,
    /// How many events of each.
    pub events: u32,
    /// How many events are accepted together, all of different threds.
    pub together: usize,
    /// How many accepted events may be without an answer.
    pub ahead: usize,
    /// How many events a second, at most.
    pub pace: Option<u32>,
}

/// How long nothing may happen before a run is taken to be stuck.
pub const PATIENCE: Duration = Duration::from_secs(100);

impl Load {
    /// A load without bounds on the pace.
    pub fn new(threds: u32, events: u32) -> Self {
        Self { first: 0, threds, events, together: 16, ahead: 200, pace: None }
    }

    /// The same with other threds: those from a number on.
    #[must_use]
    pub fn from(self, first: u32) -> Self {
        Self { first, ..self }
    }

    /// How many events that is.
    pub fn total(&self) -> usize {
        self.threds as usize * self.events as usize
    }

    /// Starts the threds, and has all sources tell them things, each in its own order.
    ///
    /// # Panics
    /// When the run is stuck.
    pub async fn run(self, fleet: Arc<Fleet>, dice: &mut Dice) {
        let starts = (0..PAIRS).map(|pair| {
            let marks: Vec<_> = self.of_pair(pair).map(start).collect();
            self.send(&fleet, vec![marks], Dice::new(dice.below(u64::MAX)), true)
        });
        join_all(starts).await;
        // Events for a thred that is not there yet would find nobody: they go another way.
        let starts: Vec<_> = self.all().map(start).collect();
        fleet.ledger.answer(&starts, PATIENCE).await;
        let sources = (0..2 * PAIRS).map(|source| {
            let rounds = self.rounds(source).collect();
            self.send(&fleet, rounds, Dice::new(dice.below(u64::MAX)), false)
        });
        join_all(sources).await;
        for source in 0..2 * PAIRS {
            let marks: Vec<_> = self.rounds(source).flatten().collect();
            fleet.ledger.answer(&marks, PATIENCE).await;
        }
    }

    fn all(self) -> impl Iterator<Item = u32> {
        self.first..self.first + self.threds
    }

    /// The threds of a pair of sources.
    fn of_pair(self, pair: u32) -> impl Iterator<Item = u32> {
        self.all().filter(move |thred| home(*thred) == 2 * pair)
    }

    /// What a source tells after the start: in each round one event for each of its threds.
    fn rounds(self, source: u32) -> impl Iterator<Item = Vec<Mark>> {
        let (first, count) = match source % 2 {
            0 => (1, self.events - 1 - self.events / 2),
            _ => (0, self.events / 2),
        };
        (0..count).map(move |round| {
            let threds = self.of_pair(source / 2);
            threds.map(|thred| Mark { source, thred, number: first + round }).collect()
        })
    }

    async fn send(self, fleet: &Fleet, rounds: Vec<Vec<Mark>>, mut dice: Dice, starts: bool) {
        let mut clock = tokio::time::interval(self.interval());
        for mut round in rounds {
            dice.shuffle(&mut round);
            for marks in round.chunks(self.together) {
                if self.pace.is_some() {
                    clock.tick().await;
                }
                fleet.ledger.keep_up(self.ahead, PATIENCE).await;
                let events: Vec<Event> = marks.iter().map(|mark| event(*mark, starts)).collect();
                fleet.accept(events).await;
            }
        }
    }

    /// Between two batches of one source.
    fn interval(self) -> Duration {
        let sources = f64::from(2 * PAIRS);
        let pace = f64::from(self.pace.unwrap_or(u32::MAX));
        Duration::from_secs_f64((self.together as f64 * sources / pace).max(1e-6))
    }
}

fn start(thred: u32) -> Mark {
    Mark { source: home(thred), thred, number: 0 }
}
