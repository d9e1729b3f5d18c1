//! Adding items: those of one partition or topic that meet share a call.

use std::{ops::Range, sync::Arc};

use tokio::sync::oneshot;

use super::{items::Items, scripts::PUBLISH};
use crate::{Connection, Error, Request};

/// How many items, and how many bytes of them, are added by one call of a script. The server does
/// nothing else meanwhile, and Lua takes no more than some thousand arguments.
const ITEMS: usize = 256;
const BYTES: usize = 1 << 20;

/// What one caller publishes with one call.
#[derive(Debug)]
pub(super) struct Portion {
    texts: Arc<Vec<Vec<u8>>>,
    which: Range<usize>,
    answer: oneshot::Sender<Result<usize, Error>>,
}

impl Portion {
    fn texts(&self) -> &[Vec<u8>] {
        &self.texts[self.which.clone()]
    }
}

/// How much goes into one call.
#[derive(Default)]
struct Load {
    items: usize,
    bytes: usize,
}

impl Load {
    /// Whether some more go along.
    fn takes(&mut self, texts: &[Vec<u8>]) -> bool {
        self.items += texts.len();
        self.bytes += texts.iter().map(Vec::len).sum::<usize>();
        self.items <= ITEMS && self.bytes <= BYTES
    }
}

/// Which texts, from a place on, go into one call: at least one, if there is one.
pub(super) fn portion(texts: &[Vec<u8>], from: usize) -> Range<usize> {
    let mut load = Load::default();
    let rest = &texts[from..];
    let fits = rest.iter().take_while(|text| load.takes(std::slice::from_ref(text))).count();
    from..from + fits.max(1).min(rest.len())
}

impl Items {
    /// Adds a [portion] of texts; with a capacity, as far as there is room. Says how many. All
    /// callers must name the same capacity.
    pub(super) async fn publish(
        self: &Arc<Self>,
        connection: &Connection,
        capacity: Option<usize>,
        texts: &Arc<Vec<Vec<u8>>>,
        which: Range<usize>,
    ) -> Result<usize, Error> {
        let (answer, answered) = oneshot::channel();
        if self.publishing.add(Portion { texts: texts.clone(), which, answer }) {
            // A task of its own: whoever asked may be gone before the others have their answers.
            tokio::spawn(self.clone().send_portions(connection.clone(), capacity));
        }
        let lost = |_| Err(Error::Malformed("publishing has no answer".into()));
        answered.await.unwrap_or_else(lost)
    }

    async fn send_portions(self: Arc<Self>, connection: Connection, capacity: Option<usize>) {
        while self.publishing.has_more() {
            let mut load = Load::default();
            let portions = self.publishing.next(|portion| load.takes(portion.texts()));
            let keys = [&*self.items, &self.order, &self.waiting, &self.last];
            let mut request = Request::script(&self.tag, &PUBLISH, &keys).arg(&self.label);
            match capacity {
                Some(capacity) => request.push(capacity),
                None => request.push(-1),
            }
            for text in portions.iter().flat_map(Portion::texts) {
                request.push(&**text);
            }
            let mut added = connection.ask::<usize>(request).await;
            for Portion { which, answer, .. } in portions {
                let done = match &mut added {
                    Ok(left) => {
                        let done = which.len().min(*left);
                        *left -= done;
                        Ok(done)
                    }
                    Err(error) => Err(error.clone()),
                };
                // Whoever does not wait any more does not care.
                let _ = answer.send(done);
            }
        }
    }
}
