//! docs/openapi.json describes what the daemon serves: the router's routes, and the types that requests are read into.
use std::{path::Path, process::Command};

use corten_testkit::command::run;
use serde_json::Value;

use crate::daemon;

const DOCUMENT: &str = include_str!("../../../../docs/openapi.json");

#[test]
fn the_document_is_what_the_code_has() {
    let generate = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../ci/openapi/generate");
    let output = run(Command::new("python3").arg(generate).arg("--check"));
    assert_eq!(output.code, 0, "{}", output.error());
}

#[test]
fn every_operation_of_the_document_is_answered_with_a_message_or_as_it_says() {
    let daemon = daemon();
    let document: Value = serde_json::from_str(DOCUMENT).unwrap();
    let mut wrong = Vec::new();
    for (path, methods) in document["paths"].as_object().unwrap() {
        for (method, operation) in methods.as_object().unwrap() {
            let method = method.to_uppercase();
            // Nothing has this name: what needs something says so.
            let mut asked = path.replace("{name}", "nothing").replace("{id}", "nothing");
            asked = asked.replace("{checkpoint}", "nothing");
            if path == "/events" {
                asked.push_str("?until=1");
            }
            let answer = daemon.api().request(&method, &asked, None);
            let expected = operation["responses"].get(answer.status.to_string()).is_some();
            let is_message = method == "HEAD" || answer.body.starts_with(b"{\"message\":");
            let is_unknown = answer.status == 404 && answer.text().contains("page not found");
            if is_unknown || answer.status == 500 || !(expected || (answer.status >= 400 && is_message)) {
                wrong.push(format!("{method} {asked}: {} {}", answer.status, answer.text()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
