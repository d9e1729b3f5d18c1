//! Each example prints what its head says.

use std::{env, fs, path::Path, process::Command};

/// The block between the lines "```text" and "```" of the head.
fn promised(source: &str) -> String {
    let head = source.lines().map_while(|line| line.strip_prefix("//!"));
    let block = head
        .map(|line| line.strip_prefix(' ').unwrap_or(line))
        .skip_while(|line| *line != "```text")
        .skip(1)
        .take_while(|line| *line != "```");
    block.map(|line| format!("{line}\n")).collect()
}

fn check(name: &str) {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("{}.rs", name.replace('-', "_")));
    let promised = promised(&fs::read_to_string(file).unwrap());
    // This test is target/…/deps/printed-…, and cargo builds the examples with it.
    let test = env::current_exe().unwrap();
    let examples = test.parent().unwrap().parent().unwrap().join("examples");
    let program = examples.join(format!("{name}{}", env::consts::EXE_SUFFIX));
    let output = Command::new(&program).output().unwrap_or_else(|error| {
        panic!("{error}; build it: cargo build -p thred-examples --examples")
    });
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    assert_eq!(String::from_utf8_lossy(&output.stdout), promised, "{name}");
    assert!(output.status.success());
    assert!(!promised.is_empty());
}

macro_rules! examples {
    ($($test:ident $name:literal)*) => {
        $(#[test] fn $test() { check($name); })*
    };
}

examples! {
    hello "01-hello"
    approval "02-approval"
    uav "03-uav"
    downtime "04-downtime"
    order "05-order"
}

#[cfg(feature = "servers")]
examples! {
    servers "07-servers"
}
