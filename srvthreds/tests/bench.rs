//! `srvthreds bench`, run as a program.

use std::{
    fs,
    path::Path,
    process::{Command, Output},
};

fn bench(directory: &Path, args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_srvthreds"))
        .current_dir(directory)
        .args(["bench", "--workload", "W1", "--events", "300"])
        .args(args)
        .output()
        .unwrap()
}

#[test]
fn a_directory_that_is_missing_is_made() {
    let directory = tempfile::tempdir().unwrap();
    let args = ["--store", "embedded", "--data", "some/where"];
    let output = bench(directory.path(), &args);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let left = fs::read_dir(directory.path().join("some/where")).unwrap();
    assert_eq!(left.count(), 0, "the store's own directory is removed");

    fs::write(directory.path().join("file"), "").unwrap();
    let output = bench(directory.path(), &["--store", "embedded", "--data", "file"]);
    assert_eq!(output.status.code(), Some(1));
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(stderr.starts_with("error: W1: cannot make a directory in file: "), "{stderr}");
}

#[test]
fn partitions_without_servers_are_refused() {
    let directory = tempfile::tempdir().unwrap();
    for store in ["memory", "embedded"] {
        let args = ["--store", store, "--data", "data", "--partitions", "4"];
        let output = bench(directory.path(), &args);
        assert_eq!(output.status.code(), Some(1));
        let stderr = String::from_utf8(output.stderr).unwrap();
        let expected = "error: W1: --partitions goes with a store or queue on servers; ";
        assert!(stderr.starts_with(expected), "{stderr}");
    }
}
