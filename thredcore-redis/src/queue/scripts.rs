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
    // Events: the owner of a partition.
    JOIN: "join";
    ACQUIRE: "acquire";
    RENEW: "own", "renew";
    RELEASE: "own", "release";
    // Messages: a living consumer of a topic.
    ENTER: "enter";
    LEAVE: "leave";
    BEAT: "member", "left", "beat";
}

/// What those may do who pass a fence.
#[derive(Debug)]
pub(super) struct Fenced {
    pub(super) draw: Script,
    pub(super) held: Script,
    pub(super) again: Script,
    pub(super) bury: Script,
}

macro_rules! fenced {
    ($($name:ident: $fence:literal;)*) => {$(
        pub(super) static $name: LazyLock<Fenced> = LazyLock::new(|| Fenced {
            draw: fenced!($fence, "draw"),
            held: fenced!($fence, "left", "held"),
            again: fenced!($fence, "again"),
            bury: fenced!($fence, "bury"),
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
