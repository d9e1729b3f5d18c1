//! Tasks: what a persistence agent is asked to do, in a safe, typed form.
//!
//! `data.content.tasks` of an event is a list of tasks; a list inside it is one transaction.
//! [`TaskList::from_value`] reads it into types that hold no operator as text, so that a store
//! translates what these types say and nothing else: an operator never reaches a database from
//! event data.
//!
//! ```
//! use serde_json::json;
//! use thredlib::task::TaskList;
//!
//! let tasks = TaskList::from_value(&json!([
//!     { "op": "put", "params": { "type": "order", "values": { "id": "o1", "amount": 10 } } },
//!     [
//!         { "op": "update", "params": { "type": "order", "matcher": { "amount": { "$lt": 50 } },
//!                                       "values": { "state": "small", "$inc": { "checks": 1 } } } },
//!         { "op": "count", "params": { "type": "order", "matcher": { "state": "small" } } }
//!     ]
//! ]))?;
//! assert_eq!(tasks.groups().len(), 2);
//!
//! let refused = json!([{ "op": "get", "params": { "type": "order", "matcher": { "$where": "1" } } }]);
//! let error = TaskList::from_value(&refused).unwrap_err();
//! assert_eq!(error.path, "tasks[0].params.matcher.$where");
//! # Ok::<(), thredlib::task::TaskError>(())
//! ```
//!
//! # Operations
//!
//! | op | does | gives |
//! |---|---|---|
//! | `put` | creates records, or overwrites those of the same `id` | the id; a list of ids if `values` is a list |
//! | `getOne` | finds the first record | the record or null |
//! | `get` | finds records | a list |
//! | `update` | changes every record that matches | how many matched |
//! | `upsert` | changes the first record that matches, or creates one from the matcher's equalities and the values | its id |
//! | `replace` | replaces the first record that matches, or creates it | its id |
//! | `delete` | removes every record that matches | how many it removed |
//! | `count` | counts | a number |
//! | `run` | calls the procedure that the task's `name` names, with `values` | what that gives |
//!
//! "First" is by the collector's order. Without a `sort`, and between equals, records stand in the
//! order of their ids. `update`, `upsert`, `replace` and `delete` need a matcher; `{}` stands for
//! all records. `get` without a `limit` gives at most [`TaskLimits::default_results`] records.
//! Parameters that an operation does not use are ignored, as are unknown ones.
//!
//! # Records
//!
//! A record is a JSON object in the set that `type` names. Its key is `id`, a text. A record that
//! comes without one gets an id derived from the message and the place of the task, so that the
//! same message delivered again makes no second record. `created` and `modified` (milliseconds
//! since the Unix epoch) are kept by the store: an overwritten or replaced record keeps its
//! `created`. A record that was read may be written back as it is: what it says under these two
//! names is ignored, as is an `id` among the values of an update.
//!
//! Objects have no order of keys: they are kept and compared with sorted keys. Integers must fit
//! 64 bits with sign.
//!
//! # Matching
//!
//! A matcher is an object; every entry must hold. An entry is a field path with dots and a value
//! that it must equal or an object of tests (`$gt $gte $lt $lte $ne $not $in $nin $re`), or `$or`
//! with a list of matchers. The meaning is MongoDB's, which an evaluator in memory shares:
//!
//! - A path leads through objects, through all objects in a list, and to a list's item by its
//!   number. A test holds if it holds for one of the values found. A list at the end of the path is
//!   tested item by item and as a whole.
//! - Equality with null holds for a missing field too. Numbers are equal by value (`1` and `1.0`).
//! - `$gt $gte $lt $lte` take a number, a text or a boolean and hold among values of that type
//!   alone; texts compare by code point.
//! - `$ne`, `$nin` and `$not` hold where their opposite does not, also for a missing field.
//! - `$re` is a regular expression for texts, unanchored, case-insensitive, in linear time; no
//!   look-around, no back-references.
//!
//! # Changing
//!
//! In the values of `update` and `upsert` a plain key (a field path) is set. Operators stand at the
//! top, each with an object of field paths: `{"state": "paid", "$inc": {"totals.paid": 1}}`.
//!
//! | operator | does | where the field is missing |
//! |---|---|---|
//! | `$add` | appends a value to a list unless it is there | makes the list |
//! | `$push` | appends a value to a list | makes the list |
//! | `$remove` | removes the items that equal the value, or, for an object, match it as a matcher | nothing |
//! | `$now` | sets the time (the operand is `true`) | sets it |
//! | `$inc`, `$mul` | adds to, multiplies a number | sets the operand; sets 0 |
//! | `$min`, `$max` | sets the value if it is less, greater | sets it |
//!
//! An operator on a field of another type fails the task; so does a path through a plain value. No
//! two changes of one task may touch the same field.
//!
//! # Order
//!
//! Values of different types sort as null and missing, numbers, texts, objects, lists, booleans. A
//! list sorts by its least item, in descending order by its greatest; an empty one before null.

mod collector;
mod compare;
mod error;
mod limits;
mod list;
mod matcher;
mod matching;
mod path;
mod read;
mod record;
mod selector;
mod update;
mod updating;

#[cfg(test)]
mod tests;

pub use collector::{Collector, SortKey};
pub use compare::{compare, same};
pub use error::{TaskError, UpdateError};
pub use limits::TaskLimits;
pub use list::{Op, Query, Records, Target, Task, TaskGroup, TaskList};
pub use matcher::{Clause, Matcher, Test, TextPattern};
pub use path::FieldPath;
pub use record::{CREATED, ID, MODIFIED, Record, RecordType};
pub use selector::Selector;
pub use update::{Change, Removal, Update};
