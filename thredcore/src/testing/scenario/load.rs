//! Reads the patterns of a scenario.

use std::{fs, path::Path};

use serde_json::Value;
use thredlib::PatternModel;

use super::model::{PatternSource, ScenarioError};

/// The patterns, in order. `scenario` is the file that errors about inline patterns name.
pub(super) fn load_patterns(
    sources: &[PatternSource],
    scenario: &Path,
) -> Result<Vec<PatternModel>, ScenarioError> {
    let sources = sources.iter().enumerate();
    sources
        .map(|(index, source)| match source {
            PatternSource::Inline(pattern) => {
                read(pattern, scenario, &format!("$.patterns[{index}]"))
            }
            PatternSource::File(path) => {
                let text = fs::read_to_string(path)
                    .map_err(|error| ScenarioError::unreadable(path, &error))?;
                let text = text.trim_start_matches('\u{feff}');
                let pattern = serde_json::from_str(text).map_err(|error| {
                    ScenarioError::new(path, "", format!("this is no JSON: {error}"))
                })?;
                read(&pattern, path, "$")
            }
        })
        .collect()
}

fn read(pattern: &Value, path: &Path, at: &str) -> Result<PatternModel, ScenarioError> {
    serde_path_to_error::deserialize(pattern).map_err(|error| {
        let place = error.path().to_string();
        let at = if place == "." { at.to_owned() } else { format!("{at}.{place}") };
        ScenarioError::new(path, at, error.inner().to_string())
    })
}
