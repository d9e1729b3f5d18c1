//! Runs the scenarios of the pattern language, and those of the examples.

use std::{
    fs,
    path::{Path, PathBuf},
};

use thredcore::testing::run_scenario;

#[tokio::test]
async fn the_pattern_language_is_as_its_scenarios_say() {
    run_all("scenarios").await;
}

#[tokio::test]
async fn the_examples_do_what_their_scenarios_say() {
    run_all("../examples/scenarios").await;
}

async fn run_all(directory: &str) {
    let mut files = Vec::new();
    scenario_files(&Path::new(env!("CARGO_MANIFEST_DIR")).join(directory), &mut files);
    assert!(!files.is_empty(), "there are no scenarios in {directory}");
    let mut failures = Vec::new();
    for file in &files {
        match run_scenario(file).await {
            Ok(outcome) if outcome.passed() => {}
            Ok(outcome) => failures.push(outcome.to_string()),
            Err(error) => failures.push(error.to_string()),
        }
    }
    let count = failures.len();
    assert!(failures.is_empty(), "{count} of {} failed\n{}", files.len(), failures.join("\n"));
}

fn scenario_files(directory: &Path, found: &mut Vec<PathBuf>) {
    let entries = fs::read_dir(directory).unwrap_or_else(|error| panic!("{directory:?}: {error}"));
    let mut paths: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    for path in paths {
        if path.is_dir() {
            scenario_files(&path, found);
        } else if path.to_string_lossy().ends_with(".scenario.json") {
            found.push(path);
        }
    }
}
