//! `logs`: what a container wrote.
use corten_api::calls::LogsQuery;
use jiff::Timestamp;

use crate::arguments::{Arity, Command, Flag, Matches, Outcome};
use crate::session::Session;
use crate::stream;
use crate::units;

pub static LOGS: Command = Command {
    name: "logs",
    usage: "[OPTIONS] CONTAINER",
    about: "Show what a container wrote",
    aliases: &["container logs", "logs"],
    flags: &[&[
        Flag::switch("details", "Show what the log's driver knows beside the text"),
        Flag::switch("follow", "Go on with what is written from now on").short('f'),
        Flag::single(
            "since",
            "string",
            "From a time (\"2013-01-02T13:23:37Z\") or that long ago (\"42m\")",
        ),
        Flag::single("tail", "string", "Number of lines from the end (default \"all\")").short('n'),
        Flag::switch("timestamps", "Show when each line was written").short('t'),
        Flag::single(
            "until",
            "string",
            "Up to a time (\"2013-01-02T13:23:37Z\") or that long ago (\"42m\")",
        ),
    ]],
    arity: Arity::Exactly(1),
    interspersed: true,
    run: |session, matches| Box::pin(logs(session, matches)),
};

async fn logs(session: Session, matches: Matches) -> Outcome {
    let now = Timestamp::now();
    let time = |name: &str| {
        let point = matches
            .some(name)
            .map(|text| units::point_in_time(text, now))
            .transpose();
        point.map_err(|reason| format!("invalid value for \"{name}\": {reason}"))
    };
    let query = LogsQuery {
        follow: matches.on("follow"),
        timestamps: matches.on("timestamps"),
        details: matches.on("details"),
        since: time("since")?,
        until: time("until")?,
        tail: Some(matches.text("tail").unwrap_or("all").to_string()),
    };
    let client = session.client().await?;
    let container = client.inspect_container(matches.argument(0)).await?;
    let body = client.logs(&container.id, &query).await?;
    stream::print(body, container.config.tty).await?;
    Ok(0)
}
