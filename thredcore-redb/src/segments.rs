//! Numbered items, written together.
//!
//! A page of a B-tree is copied when anything in it changes, so an entry for each item would cost
//! more than the item. The items of a group stand together in *segments* of up to
//! [`SEGMENT_BYTES`], and a bit for each says whether it is live. Adding is one entry for many
//! items; removing is a bit, and the whole segment goes with its last live item.

use std::collections::{BTreeMap, BTreeSet};

use redb::{ReadableTable, WriteTransaction};

use crate::{error::RedbError, tables::Kind};

/// The size that a segment grows to: eight pages with what the database adds.
const SEGMENT_BYTES: usize = 32_000;

/// The segments of one kind, as the writer sees them.
pub(crate) struct Segments {
    kind: Kind,
    /// Those with live items; of a kind that keeps there may be many others.
    written: BTreeMap<u64, Segment>,
    /// What is not written yet; gaps between the numbers are allowed.
    fresh: Vec<Fresh>,
    touched: BTreeSet<u64>,
    /// Segments that have become nearly empty.
    sparse: Vec<u64>,
    next: u64,
    /// Of a kind that keeps: what begins below is gone, or goes with its last live item.
    pruned: u64,
    /// From when on there is something to prune.
    prune_at: u64,
}

struct Segment {
    /// How many numbers it spans.
    span: u64,
    live: Bits,
    left: u64,
}

struct Fresh {
    number: u64,
    /// A word for whoever writes, beside what the caller has made.
    prefix: u64,
    body: Option<Body>,
    live: bool,
}

/// The text of an item.
pub(crate) type Body = std::sync::Arc<Vec<u8>>;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Bits(Vec<u8>);

impl Bits {
    fn set(&mut self, place: u64) {
        let byte = (place / 8) as usize;
        if self.0.len() <= byte {
            self.0.resize(byte + 1, 0);
        }
        self.0[byte] |= 1 << (place % 8);
    }

    /// Says whether it was set.
    fn clear(&mut self, place: u64) -> bool {
        let Some(byte) = self.0.get_mut((place / 8) as usize) else { return false };
        let bit = 1 << (place % 8);
        let was = *byte & bit != 0;
        *byte &= !bit;
        was
    }

    fn count(&self) -> u64 {
        self.0.iter().map(|byte| u64::from(byte.count_ones())).sum()
    }

    fn places(&self) -> impl Iterator<Item = u64> + '_ {
        let bytes = self.0.iter().enumerate();
        bytes.flat_map(|(place, byte)| {
            (0..8).filter(move |bit| byte & (1 << bit) != 0).map(move |bit| place as u64 * 8 + bit)
        })
    }
}

impl Segments {
    /// Reads which segments there are, of a file that was written before.
    pub(crate) fn load(kind: Kind, txn: &WriteTransaction) -> Result<Self, RedbError> {
        let (data, live) = (txn.open_table(kind.data)?, txn.open_table(kind.live)?);
        let mut written = BTreeMap::new();
        let mut next = 1;
        for row in live.iter()? {
            let (first, bits) = row?;
            let (first, live) = (first.value(), Bits(bits.value().to_vec()));
            // The last live one tells enough: what is behind it is not asked for.
            let span = live.places().last().map_or(0, |last| last + 1);
            let left = live.count();
            written.insert(first, Segment { span, live, left });
            next = first + span;
        }
        if let Some((first, value)) = data.last()? {
            next = next.max(first.value() + Segmented(value.value()).span());
        }
        drop((data, live));
        Ok(Self {
            kind,
            written,
            fresh: vec![],
            touched: BTreeSet::new(),
            sparse: vec![],
            next,
            pruned: 0,
            prune_at: 0,
        })
    }

    /// The number for the next item.
    pub(crate) fn next(&self) -> u64 {
        self.next
    }

    /// Adds an item; its number is [`next`](Self::next) or higher.
    pub(crate) fn push(&mut self, number: u64, prefix: u64, body: Body, live: bool) {
        debug_assert!(number >= self.next, "numbers rise");
        self.next = number + 1;
        self.fresh.push(Fresh { number, prefix, body: Some(body), live });
    }

    /// Ends an item's life; what is not there is ignored.
    pub(crate) fn remove(&mut self, number: u64) {
        if let Some(first) = self.fresh.first()
            && number >= first.number
        {
            if let Ok(place) = self.fresh.binary_search_by_key(&number, |fresh| fresh.number) {
                self.fresh[place].live = false;
                if !self.kind.keeps {
                    self.fresh[place].body = None;
                }
            }
            return;
        }
        let Some((first, segment)) = self.written.range_mut(..=number).next_back() else { return };
        if segment.live.clear(number - first) {
            segment.left -= 1;
            self.touched.insert(*first);
            if self.kind.gathers && segment.left == segment.span / 8 && segment.left > 0 {
                self.sparse.push(*first);
            }
        }
    }

    /// Whether an item is live.
    pub(crate) fn is_live(&self, number: u64) -> bool {
        if let Ok(place) = self.fresh.binary_search_by_key(&number, |fresh| fresh.number) {
            return self.fresh[place].live;
        }
        let segment = self.written.range(..=number).next_back();
        segment.is_some_and(|(first, segment)| {
            let place = number - first;
            segment.live.0.get((place / 8) as usize).is_some_and(|b| b & (1 << (place % 8)) != 0)
        })
    }

    /// Whether there is anything to write.
    pub(crate) fn is_dirty(&self) -> bool {
        !self.touched.is_empty() || self.fresh.iter().any(|fresh| fresh.body.is_some())
    }

    /// The segments that have become nearly empty since the last call, each with what is live.
    pub(crate) fn take_sparse(&mut self) -> Vec<(u64, Vec<u64>)> {
        let sparse = std::mem::take(&mut self.sparse);
        let numbers = |first: u64| {
            let segment = self.written.get(&first).filter(|segment| segment.left > 0)?;
            Some((first, segment.live.places().map(|place| first + place).collect()))
        };
        sparse.into_iter().filter_map(numbers).collect()
    }

    /// Forgets the segments that end below a number, unless they hold something live; some of them,
    /// when there are many. Only what goes is read.
    pub(crate) fn prune(&mut self, below: u64, txn: &WriteTransaction) -> Result<(), RedbError> {
        const MOST: usize = 256;
        let mut data = txn.open_table(self.kind.data)?;
        let mut firsts = vec![];
        for row in data.range(self.pruned..below)?.take(MOST) {
            firsts.push(row?.0.value());
        }
        let all_seen = firsts.len() < MOST;
        self.prune_at = below + 1;
        for (place, first) in firsts.iter().enumerate() {
            let end = match firsts.get(place + 1) {
                Some(next) => *next,
                None if all_seen => {
                    let behind = data.range(below..)?.next().transpose()?;
                    behind.map_or(self.next, |(next, _)| next.value())
                }
                None => break,
            };
            if end > below {
                self.prune_at = end;
                break;
            }
            self.pruned = end;
            if !self.written.contains_key(first) {
                data.remove(first)?;
            }
        }
        if !all_seen {
            self.prune_at = below;
        }
        Ok(())
    }

    /// Whether [`prune`](Self::prune) may find anything.
    pub(crate) fn is_prunable(&self, below: u64) -> bool {
        below >= self.prune_at
    }

    /// Takes the body out of an item; what stands before and after it in its segment stays.
    pub(crate) fn hollow(&mut self, number: u64, txn: &WriteTransaction) -> Result<(), RedbError> {
        self.remove(number);
        if !self.kind.keeps {
            return Ok(());
        }
        let mut data = txn.open_table(self.kind.data)?;
        let rebuilt = {
            let Some(row) = data.range(..=number)?.next_back() else { return Ok(()) };
            let (first, value) = row?;
            let (first, segment) = (first.value(), Segmented(value.value()));
            let items = (0..segment.span()).filter_map(|place| {
                let (prefix, body) = segment.item(place)?;
                let number_here = first + place;
                let body = if number_here == number { &[] } else { body };
                let body = Some(Body::new(body.to_vec()));
                Some(Fresh { number: number_here, prefix, body, live: false })
            });
            let items: Vec<_> = items.collect();
            let is_here = items.iter().any(|item| item.number == number);
            (is_here && items[0].number == first).then(|| (first, build(&items).0))
        };
        if let Some((first, bytes)) = rebuilt {
            data.insert(first, &*bytes)?;
        }
        Ok(())
    }

    /// Writes what has changed.
    pub(crate) fn write(&mut self, txn: &WriteTransaction) -> Result<(), RedbError> {
        if !self.is_dirty() {
            self.fresh.clear();
            return Ok(());
        }
        let mut data = txn.open_table(self.kind.data)?;
        let mut live = txn.open_table(self.kind.live)?;
        for first in std::mem::take(&mut self.touched) {
            let Some(segment) = self.written.get(&first) else { continue };
            if segment.left > 0 {
                live.insert(first, &*segment.live.0)?;
                continue;
            }
            live.remove(first)?;
            self.written.remove(&first);
            if !self.kind.keeps || first < self.pruned {
                data.remove(first)?;
            }
        }
        let fresh = std::mem::take(&mut self.fresh);
        let fresh: Vec<_> = fresh.into_iter().filter(|fresh| fresh.body.is_some()).collect();
        let mut rest = &*fresh;
        while !rest.is_empty() {
            let (segment, later) = rest.split_at(first_segment(rest));
            rest = later;
            let first = segment[0].number;
            let (bytes, made) = build(segment);
            data.insert(first, &*bytes)?;
            if made.left > 0 {
                live.insert(first, &*made.live.0)?;
                self.written.insert(first, made);
            }
        }
        Ok(())
    }
}

/// How many items the first segment takes.
fn first_segment(items: &[Fresh]) -> usize {
    let mut bytes = 4;
    for (place, item) in items.iter().enumerate() {
        let gap = item.number - items[place.saturating_sub(1)].number;
        bytes += gap as usize * 4 + 12 + item.body.as_ref().map_or(0, |body| body.len());
        if place > 0 && (bytes > SEGMENT_BYTES || gap > 1024) {
            return place;
        }
    }
    items.len()
}

/// A count, the end of each item's bytes, and these: the prefix and the body. A gap is empty.
fn build(items: &[Fresh]) -> (Vec<u8>, Segment) {
    let first = items[0].number;
    let span = items[items.len() - 1].number - first + 1;
    let mut live = Bits::default();
    let text: usize = items.iter().map(|item| item.body.as_ref().map_or(0, |b| b.len() + 8)).sum();
    let head = 4 + 4 * span as usize;
    let mut bytes = Vec::with_capacity(head + text);
    bytes.extend((span as u32).to_le_bytes());
    let mut end = 0_u32;
    let mut number = first;
    for item in items {
        while number < item.number {
            bytes.extend(end.to_le_bytes());
            number += 1;
        }
        end += item.body.as_ref().map_or(0, |body| body.len() + 8) as u32;
        bytes.extend(end.to_le_bytes());
        number += 1;
        if item.live {
            live.set(item.number - first);
        }
    }
    for item in items {
        if let Some(body) = &item.body {
            bytes.extend(item.prefix.to_le_bytes());
            bytes.extend_from_slice(body);
        }
    }
    let left = live.count();
    (bytes, Segment { span, live, left })
}

/// A segment as it was written.
pub(crate) struct Segmented<'a>(pub(crate) &'a [u8]);

impl<'a> Segmented<'a> {
    /// How many numbers it spans.
    pub(crate) fn span(&self) -> u64 {
        // No more than there is room for, whatever it says.
        u64::from(self.word(0)).min(self.0.len() as u64 / 4)
    }

    fn word(&self, place: usize) -> u32 {
        let bytes = self.0.get(place * 4..place * 4 + 4).and_then(|bytes| bytes.try_into().ok());
        bytes.map_or(0, u32::from_le_bytes)
    }

    /// An item by its place: the prefix and the body.
    pub(crate) fn item(&self, place: u64) -> Option<(u64, &'a [u8])> {
        if place >= self.span() {
            return None;
        }
        let place = place as usize;
        let text = 4 + 4 * self.span() as usize;
        let start = if place == 0 { 0 } else { self.word(place) as usize };
        let bytes = self.0.get(text + start..text + self.word(place + 1) as usize)?;
        let (prefix, body) = bytes.split_first_chunk::<8>()?;
        Some((u64::from_le_bytes(*prefix), body))
    }
}

/// Reads one item of a kind and does something with its prefix and body.
pub(crate) fn read<T>(
    data: &impl ReadableTable<u64, &'static [u8]>,
    number: u64,
    then: impl FnOnce(u64, &[u8]) -> T,
) -> Result<Option<T>, RedbError> {
    let Some(row) = data.range(..=number)?.next_back() else { return Ok(None) };
    let (first, value) = row?;
    let item = Segmented(value.value()).item(number - first.value());
    Ok(item.map(|(prefix, body)| then(prefix, body)))
}

/// Goes through all live items, in the order of their numbers. One whose bytes are not there comes
/// without any.
pub(crate) fn each_live<E: From<redb::StorageError>>(
    data: &impl ReadableTable<u64, &'static [u8]>,
    live: &impl ReadableTable<u64, &'static [u8]>,
    each: impl FnMut(u64, u64, &[u8]) -> Result<(), E>,
) -> Result<(), E> {
    each_live_if(data, live, |_| true, each)
}

/// Like [`each_live`], of some items; segments without any are not read.
pub(crate) fn each_live_if<E: From<redb::StorageError>>(
    data: &impl ReadableTable<u64, &'static [u8]>,
    live: &impl ReadableTable<u64, &'static [u8]>,
    mut is_meant: impl FnMut(u64) -> bool,
    mut each: impl FnMut(u64, u64, &[u8]) -> Result<(), E>,
) -> Result<(), E> {
    for row in live.iter()? {
        let (first, bits) = row?;
        let first = first.value();
        let mut places = vec![];
        places.extend(Bits(bits.value().to_vec()).places().filter(|at| is_meant(first + at)));
        if places.is_empty() {
            continue;
        }
        let value = data.get(first)?;
        for place in places {
            let item = value.as_ref().and_then(|value| Segmented(value.value()).item(place));
            let (prefix, body) = item.unwrap_or_default();
            each(first + place, prefix, body)?;
        }
    }
    Ok(())
}

/// Goes through all items with a body, live or not, from the latest back, as long as it is told to.
pub(crate) fn each_back<E: From<redb::StorageError>>(
    data: &impl ReadableTable<u64, &'static [u8]>,
    mut each: impl FnMut(u64, &[u8]) -> Result<bool, E>,
) -> Result<(), E> {
    for row in data.iter()?.rev() {
        let (first, value) = row?;
        let segment = Segmented(value.value());
        for place in (0..segment.span()).rev() {
            if let Some((_, body)) = segment.item(place)
                && !body.is_empty()
                && !each(first.value() + place, body)?
            {
                return Ok(());
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_segment_gives_its_items_and_gaps() {
        let item = |number, body: &str| Fresh {
            number,
            prefix: number * 10,
            body: Some(Body::new(body.as_bytes().to_vec())),
            live: number != 9,
        };
        let (bytes, segment) = build(&[item(5, "five"), item(8, ""), item(9, "nine")]);
        let read = Segmented(&bytes);
        assert_eq!(read.span(), 5);
        assert_eq!(read.item(0), Some((50, &b"five"[..])));
        assert_eq!(read.item(1), None);
        assert_eq!(read.item(3), Some((80, &b""[..])));
        assert_eq!(read.item(4), Some((90, &b"nine"[..])));
        assert_eq!(read.item(5), None);
        assert_eq!(segment.live.places().collect::<Vec<_>>(), [0, 3]);
    }

    #[test]
    fn segments_have_a_size() {
        let item = |number| Fresh {
            number,
            prefix: 0,
            body: Some(Body::new(vec![0; 10_000])),
            live: true,
        };
        let items: Vec<_> = (1..=7).map(item).collect();
        assert_eq!(first_segment(&items), 3);
        assert_eq!(first_segment(&items[..2]), 2);
        let far = [item(1), item(5_000)];
        assert_eq!(first_segment(&far), 1, "a wide gap begins a segment");
    }
}
