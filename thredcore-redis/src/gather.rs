//! Gathering what comes while a call is under way.
//!
//! A call of a script costs the server as much as ten of the things that it is to do. So each place
//! has one call under way at a time, and all that comes meanwhile goes with the next one. Nothing
//! waits while none is under way.

use std::collections::VecDeque;

use parking_lot::Mutex;

/// What waits to be sent to one place, in order.
#[derive(Debug)]
pub(crate) struct Gathering<P>(Mutex<State<P>>);

#[derive(Debug)]
struct State<P> {
    waiting: VecDeque<P>,
    under_way: bool,
}

impl<P> Default for Gathering<P> {
    fn default() -> Self {
        Self(Mutex::new(State { waiting: VecDeque::new(), under_way: false }))
    }
}

impl<P> Gathering<P> {
    /// Adds what one caller wants; says whether nobody is sending, so that a task is to be started
    /// that sends as long as there [is more](Self::has_more).
    pub(crate) fn add(&self, part: P) -> bool {
        let mut state = self.0.lock();
        state.waiting.push_back(part);
        !std::mem::replace(&mut state.under_way, true)
    }

    /// Whether something waits; otherwise nobody is sending any more.
    pub(crate) fn has_more(&self) -> bool {
        let mut state = self.0.lock();
        state.under_way = !state.waiting.is_empty();
        state.under_way
    }

    /// What goes with the next call: the first part, and those behind it as far as they fit.
    pub(crate) fn next(&self, mut fits: impl FnMut(&P) -> bool) -> Vec<P> {
        let mut state = self.0.lock();
        let mut parts = vec![];
        while let Some(part) = state.waiting.front()
            && (fits(part) || parts.is_empty())
        {
            parts.extend(state.waiting.pop_front());
        }
        parts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_sends_what_all_want() {
        let gathering = Gathering::default();
        assert!(gathering.add(7));
        assert!(!gathering.add(2) && !gathering.add(1) && !gathering.add(4));
        let mut room = 3;
        let mut fits = |part: &i32| {
            room -= part;
            room >= 0
        };
        assert_eq!(gathering.next(&mut fits), [7], "the first one goes in any case");
        room = 3;
        assert_eq!(
            gathering.next(|part| {
                room -= part;
                room >= 0
            }),
            [2, 1]
        );
        assert!(gathering.has_more());
        assert_eq!(gathering.next(|_| true), [4]);
        assert!(!gathering.has_more());
        assert!(gathering.add(5), "somebody has to send again");
    }
}
