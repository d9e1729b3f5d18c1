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
    PUBLISH: "publish";
    REDRIVE: "redrive";
    // Events: the owner of a partition.
    JOIN: "join";
    ACQUIRE: "acquire";
    RENEW: "own", "renew";
    RELEASE: "own", "release";
    TAKE: "own", "take";
    PENDING: "own", "pending";
    AGAIN: "own", "again";
    BURY_EVENT: "own", "bury";
    // Messages: a living consumer of a topic.
    ENTER: "enter";
    LEAVE: "leave";
    BEAT: "member", "beat";
    DRAW: "member", "draw";
    MINE: "member", "mine";
    REDRAW: "member", "redraw";
    BURY_MESSAGE: "member", "bury";
    DONE: "done";
}
