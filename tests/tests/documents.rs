//! What the documents show is what the code does.

use std::{fs, path::Path};

use serde_json::Value;
use thredcore::{port::Directory, testing::scenario::Scenario};
use thredlib::{Event, task::TaskList, validate};

/// The JSON blocks of a document, in order.
fn blocks(document: &str) -> Vec<Value> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs").join(document);
    let text = fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let blocks = text.split("```json\n").skip(1).map(|rest| rest.split("```").next().unwrap());
    blocks
        .map(|json| {
            serde_json::from_str(json).unwrap_or_else(|e| panic!("{document}: {e}: {json}"))
        })
        .collect()
}

#[test]
fn the_reference_holds_valid_json_of_each_kind() {
    let blocks = blocks("pattern-language.md");
    let mut seen = [0; 5];
    for block in &blocks {
        let text = block.to_string();
        if block.get("reactions").is_some() {
            let report = validate::validate(block);
            assert!(report.findings().is_empty(), "{report}\n{text}");
            seen[0] += 1;
        } else if block.get("source").is_some() {
            let event: Event = serde_json::from_value(block.clone()).expect(&text);
            assert_eq!(serde_json::to_value(&event).unwrap(), *block);
            seen[1] += 1;
        } else if block.is_array() {
            TaskList::from_value(block).expect(&text);
            seen[2] += 1;
        } else if block.get("groups").is_some() {
            serde_json::from_value::<Directory>(block.clone()).expect(&text);
            seen[3] += 1;
        } else if matches!(block["type"].as_str(), Some("filter" | "and")) {
            let reactions = serde_json::json!([{ "condition": block }]);
            let pattern = serde_json::json!({ "name": "p", "reactions": reactions });
            let report = validate::validate(&pattern);
            assert!(report.is_valid(), "{report}\n{text}");
            seen[4] += 1;
        }
    }
    assert!(seen.iter().all(|count| *count > 0), "a kind of example is gone: {seen:?}");
}

#[tokio::test]
async fn the_scenario_of_the_documents_passes_with_the_pattern_of_the_reference() {
    let directory = tempfile::tempdir().unwrap();
    let write = |name: &str, json: &Value| {
        let path = directory.path().join(name);
        fs::write(&path, json.to_string()).unwrap();
        path
    };
    write("approval.pattern.json", &blocks("pattern-language.md")[0]);
    let path = write("approval.scenario.json", &blocks("scenarios.md")[0]);
    let outcome = Scenario::load(&path).unwrap().run(&path).await.unwrap();
    assert!(outcome.passed(), "{outcome:?}");
}
