//! Examples of thredcore, from a greeting to one's own tests; see the files `01_hello.rs` to
//! `07_servers.rs` beside this package's `Cargo.toml`, in this order.
//!
//! Each says on top how to run it and what it prints; a test compares the two. The patterns are in
//! `patterns`, scenarios that test them in `scenarios`.
