//! srvthreds
fn main() {}
