//! Faults for real: engines are processes, they are killed, and so are the servers below them.
//! Whatever happens, an [`oracle`] must find that nothing was lost, doubled or turned around.
//!
//! Every event carries a [`Mark`](oracle::Mark): its source, its thred, its number. The thred
//! records the mark and answers with it. A run keeps account of what was accepted and what was
//! received; in the end that is held against what is stored.

pub mod archive;
pub mod backend;
pub mod backlog;
pub mod broker;
pub mod cluster;
pub mod deadly;
pub mod distributed;
pub mod fleet;
pub mod ledger;
pub mod load;
pub mod mongod;
pub mod node;
pub mod oracle;
pub mod patterns;
pub mod process;
pub mod protocol;
pub mod proxy;
pub mod recorder;
pub mod redis_server;
pub mod services;
pub mod spoil;
pub mod verdict;

/// Whether the long versions were asked for: `THRED_CHAOS=long`.
///
/// # Panics
/// When `THRED_CHAOS` is anything else than `short` or `long`.
pub fn is_long() -> bool {
    match std::env::var("THRED_CHAOS").as_deref() {
        Ok("long") => true,
        Ok("short") | Err(_) => false,
        Ok(other) => panic!("THRED_CHAOS is `{other}`; it is `short` or `long`"),
    }
}

/// One of two numbers: that of the short version, that of the long one.
pub fn scale<T>(short: T, long: T) -> T {
    if is_long() { long } else { short }
}
