//! The steps that must be whole, as Lua. Those that begin with a fence are refused to a consumer
//! that is not one any more, however late they arrive.

use std::sync::LazyLock;

use crate::Script;

macro_rules! scripts {
    ($($name:ident: $($file:literal),+;)*) => {$(
        pub(super) static $name: LazyLock<Script> =
            LazyLock::new(|| Script::new(concat!($(include_str!(concat!("lua/", $file, ".lua"))),+)));
    )*};
}

scripts! {
    PUBLISH: "add", "publish";
    REDRIVE: "add", "redrive";
    DISCARD: "discard";
    TRIM: "letters", "trim";
    OLDEST: "oldest";
    BURY_NEW: "letters", "bury_new";
    BACKLOG: "backlog";
    // Events: the owner of a partition.
    JOIN: "join";
    ACQUIRE: "acquire";
    STILL: "own", "still";
    RELEASE: "own", "release";
    // Messages: a living consumer of a topic.
    ENTER: "enter";
    LEAVE: "leave";
    BEAT: "member", "left", "beat";
    DELAY: "member", "delay";
    PURGE: "purge";
    DELETE: "delete";
    EXPIRE: "letters", "expire", "expire_items";
}

/// What those may do who pass a fence.
#[derive(Debug)]
pub(super) struct Fenced {
    pub(super) draw: Script,
    pub(super) held: Script,
    pub(super) again: Script,
    pub(super) bury: Script,
    pub(super) set_aside: Script,
}

macro_rules! fenced {
    ($($name:ident: $fence:literal;)*) => {$(
        pub(super) static $name: LazyLock<Fenced> = LazyLock::new(|| Fenced {
            draw: fenced!($fence, "letters", "expire", "draw"),
            held: fenced!($fence, "left", "held"),
            again: fenced!($fence, "again"),
            bury: fenced!($fence, "letters", "bury"),
            set_aside: fenced!($fence, "set_aside"),
        });
    )*};
    ($($file:literal),+) => {
        Script::new(concat!($(include_str!(concat!("lua/", $file, ".lua"))),+))
    };
}

fenced! {
    OWNER: "own";
    MEMBER: "member";
}
