//! The schemas in `schema/` are what `srvthreds schema` prints.

use std::{path::Path, process::Command};

#[test]
fn kept_schemas_are_current() {
    let kept = Path::new(env!("CARGO_MANIFEST_DIR")).join("../schema");
    for name in ["pattern", "event", "message"] {
        let program = env!("CARGO_BIN_EXE_srvthreds");
        let output = Command::new(program).args(["schema", name]).output().unwrap();
        let path = kept.join(format!("{name}.schema.json"));
        let text = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(
            output.stdout == text.as_bytes(),
            "{} is out of date: cargo run -p srvthreds -- schema {name} > schema/{name}.schema.json",
            path.display(),
        );
    }
}
