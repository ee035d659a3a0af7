//! `__names`: what completion offers, one name a line. Not for people, and it never starts a daemon.
use corten_api::client::Call;
use serde_json::Value;

use crate::arguments::{Arity, Command, Matches, Outcome};
use crate::context::store::DEFAULT;
use crate::failure::Failure;
use crate::outln;
use crate::session::Session;

pub static NAMES: Command = Command {
    name: "__names",
    usage: "KIND",
    about: "Names for completion",
    aliases: &["__names"],
    flags: &[],
    arity: Arity::Exactly(1),
    interspersed: true,
    run: |session, matches| Box::pin(names(session, matches)),
};

async fn names(mut session: Session, matches: Matches) -> Outcome {
    session.start_daemon = false;
    let found = match matches.argument(0) {
        "contexts" => contexts(&session),
        "containers" => members(&session, "/containers/json?all=1", "Names").await?,
        "images" => members(&session, "/images/json", "RepoTags").await?,
        "networks" => members(&session, "/networks", "Name").await?,
        "volumes" => members(&session, "/volumes", "Name").await?,
        _ => Vec::new(),
    };
    for name in found {
        outln!("{}", name.trim_start_matches('/'));
    }
    Ok(0)
}

fn contexts(session: &Session) -> Vec<String> {
    let all = session.settings.all().into_iter().map(|meta| meta.name);
    std::iter::once(DEFAULT.to_owned()).chain(all).collect()
}

/// The member `name` of each document of a list; where it is a list, all of it.
async fn members(session: &Session, path: &str, name: &str) -> Result<Vec<String>, Failure> {
    let bytes = session.client().await?.bytes(Call::get(path)).await?;
    let answer: Value = serde_json::from_slice(&bytes).map_err(|error| Failure::new(error.to_string()))?;
    // Volumes come in an object.
    let list = answer.get("Volumes").unwrap_or(&answer);
    let found = list.as_array().into_iter().flatten().filter_map(|item| item.get(name));
    let words = found.flat_map(|value| match value {
        Value::Array(several) => several.iter().collect(),
        one => vec![one],
    });
    Ok(words.filter_map(Value::as_str).map(str::to_owned).collect())
}
