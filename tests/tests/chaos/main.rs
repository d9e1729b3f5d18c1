//! Faults for real. Short by default; `THRED_CHAOS=long` asks for the long versions, and
//! `THRED_SEED` for another run than that of seed 1.

#![recursion_limit = "256"]

mod again;
mod agents;
mod brokers;
mod clocks;
mod clusters;
mod deployment;
mod failpoints;
mod frozen;
mod harness;
mod kills;
mod mongods;
mod oversized;
mod poison;
mod servers;
mod stops;
mod support;
mod timers;
mod unread;
mod unreadable;
