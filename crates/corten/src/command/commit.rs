//! `commit` and `diff`: what a container has become.
use corten_api::calls::CommitQuery;

use crate::arguments::{Arity, Command, Flag, Matches, Outcome};
use crate::failure::Failure;
use crate::outln;
use crate::session::Session;

pub static COMMIT: Command = Command {
    name: "commit",
    usage: "[OPTIONS] CONTAINER [REPOSITORY[:TAG]]",
    about: "Create a new image from a container's changes",
    aliases: &["container commit", "commit"],
    flags: &[&[
        Flag::single(
            "author",
            "string",
            "Author (e.g., \"John Hannibal Smith <hannibal@a-team.com>\")",
        )
        .short('a'),
        Flag::list("change", "list", "Apply Dockerfile instruction to the created image").short('c'),
        Flag::single("message", "string", "Commit message").short('m'),
        Flag::switch_on("pause", "Pause container during commit").short('p'),
    ]],
    arity: Arity::Between(1, 2),
    interspersed: true,
    run: |session, matches| Box::pin(commit(session, matches)),
};

async fn commit(session: Session, matches: Matches) -> Outcome {
    let (repository, tag) = match matches.arguments.get(1) {
        Some(reference) => split(reference)?,
        None => (String::new(), String::new()),
    };
    let query = CommitQuery {
        container: matches.argument(0).to_string(),
        repository,
        tag,
        author: matches.owned("author"),
        comment: matches.owned("message"),
        pause: matches.on_by_default("pause"),
        changes: matches.texts("change"),
    };
    outln!("{}", session.client().await?.commit(&query).await?);
    Ok(0)
}

/// Repository and tag; a port of the registry's is no tag.
fn split(reference: &str) -> Result<(String, String), Failure> {
    if reference.contains('@') {
        return Err(Failure::new("refusing to create a tag with a digest reference"));
    }
    let name = reference.rfind('/').map_or(0, |slash| slash + 1);
    Ok(match reference[name..].split_once(':') {
        Some((_, tag)) => {
            let repository = &reference[..reference.len() - tag.len() - 1];
            (repository.to_string(), tag.to_string())
        }
        None => (reference.to_string(), String::new()),
    })
}

pub static DIFF: Command = Command {
    name: "diff",
    usage: "CONTAINER",
    about: "Inspect changes to files or directories on a container's filesystem",
    aliases: &["container diff", "diff"],
    flags: &[],
    arity: Arity::Exactly(1),
    interspersed: true,
    run: |session, matches| Box::pin(diff(session, matches)),
};

async fn diff(session: Session, matches: Matches) -> Outcome {
    let container = matches.argument(0);
    if container.is_empty() {
        return Err(Failure::new("Container name cannot be empty"));
    }
    for change in session.client().await?.changes(container).await? {
        let letter = match change.kind {
            0 => 'C',
            1 => 'A',
            2 => 'D',
            _ => '?',
        };
        outln!("{letter} {}", change.path);
    }
    Ok(0)
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_port_is_no_tag() {
        let split = |text| super::split(text).map_err(|failure| failure.text);
        let pair = |one: &str, other: &str| Ok((one.to_string(), other.to_string()));
        assert_eq!(split("a"), pair("a", ""));
        assert_eq!(split("a:1"), pair("a", "1"));
        assert_eq!(split("host:5000/a"), pair("host:5000/a", ""));
        assert_eq!(split("host:5000/a/b:2"), pair("host:5000/a/b", "2"));
        assert!(split("a@sha256:1").is_err());
    }
}
