//! docs/compatibility.md is true: every line of its tables is tried.
use corten_testkit::api::Response;

use crate::{WAIT, background, daemon};

const PAGE: &str = include_str!("../../../../docs/compatibility.md");

/// First and second column of every table row whose first column is code.
fn lines() -> impl Iterator<Item = (&'static str, &'static str)> {
    PAGE.lines()
        .filter_map(|line| line.strip_prefix("| `")?.strip_suffix(" |")?.split_once("` | "))
}

fn is_endpoint(entry: &str) -> bool {
    entry.contains(" /")
}

/// Was it refused as something that this version does not have?
fn is_absent(answer: &Response) -> bool {
    answer.status == 501 || answer.text().contains("page not found")
}

#[test]
fn every_endpoint_of_the_page_is_as_the_page_says() {
    let daemon = daemon();
    let mut wrong = Vec::new();
    for (entry, status) in lines().filter(|(entry, _)| is_endpoint(entry)) {
        let (method, path) = entry.split_once(' ').expect("method and path");
        let path = path
            .replace("{id}", "subject")
            .replace("{name}", "busybox")
            .replace("{checkpoint}", "one");
        let path = match path.as_str() {
            "/events" => "/events?since=1&until=2".to_owned(),
            "/images/create" => "/images/create?fromSrc=-".to_owned(),
            "/containers/subject/logs" => "/containers/subject/logs?stdout=1".to_owned(),
            "/containers/subject/stats" => "/containers/subject/stats?stream=0&one-shot=1".to_owned(),
            // Something that ends: no container is waited for that runs on.
            "/containers/subject/wait" => "/containers/none/wait".to_owned(),
            "/containers/subject" => "/containers/subject?force=1".to_owned(),
            _ => path,
        };
        let needs_container = path.starts_with("/containers/subject");
        if needs_container {
            background(&daemon, "--name subject", WAIT);
        }
        let mut connection = daemon.api().open();
        connection.send(method, &path, None);
        let answer = match path.ends_with("/attach") {
            true => connection.head(),
            false => connection.response(method),
        };
        if is_absent(&answer) != (status == "not yet") {
            wrong.push(format!(
                "{entry} is said to be {status:?}: {} {}",
                answer.status,
                answer.text()
            ));
        }
        if answer.status == 501 && method != "HEAD" && !answer.message().contains("not implemented") {
            wrong.push(format!(
                "{entry} does not say clearly that it is missing: {}",
                answer.text()
            ));
        }
        if needs_container {
            daemon.docker("rm -f subject");
        } else if method == "DELETE" {
            daemon.load(&corten_testkit::image::busybox());
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_command_of_the_page_is_as_the_page_says() {
    let daemon = daemon();
    let mut wrong = Vec::new();
    for (entry, status) in lines().filter(|(entry, _)| !is_endpoint(entry)) {
        let output = daemon.corten(&format!("{entry} --help"));
        let absent = output.error().contains("not implemented yet");
        if absent != (status == "not yet") || (output.code == 0) == absent {
            wrong.push(format!("{entry} is said to be {status:?}: {output:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
