//! `version`: who talks to whom.
use crate::arguments::{Arity, Command, Flag, Matches, Outcome};
use crate::session::Session;

pub static VERSION: Command = Command {
    name: "version",
    usage: "[OPTIONS]",
    about: "Show the versions of client and daemon",
    aliases: &["version"],
    flags: &[&[Flag::single("format", "string", "'json' or a template in Go's language").short('f')]],
    arity: Arity::Exactly(0),
    interspersed: true,
    run: |session, matches| Box::pin(version(session, matches)),
};

async fn version(session: Session, _matches: Matches) -> Outcome {
    println!("Client:\n Version:           {}", env!("CARGO_PKG_VERSION"));
    let server = session.client().await?.server_version().await?;
    println!("\nServer:\n Version:           {}", server.version);
    Ok(0)
}
