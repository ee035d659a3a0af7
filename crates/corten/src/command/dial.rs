//! `system dial-stdio`: a connection to the daemon on standard input and output. What `ssh://` runs on the other host.
use std::io::{self, Write};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt, split};
use tokio::task::spawn_blocking;

use crate::arguments::{Arity, Command, Outcome};
use crate::failure::Failure;
use crate::session::Session;
use crate::stream::read_stdin;

const CHUNK_BYTES: usize = 64 * 1024;

pub static DIAL_STDIO: Command = Command {
    name: "dial-stdio",
    usage: "",
    about: "Carry a connection to the daemon over standard input and output",
    aliases: &["system dial-stdio"],
    flags: &[],
    arity: Arity::Exactly(0),
    interspersed: true,
    run: |session, _| Box::pin(dial(session)),
};

/// Ends when the daemon has said its last word; the end of our input is only the end of what it hears.
async fn dial(session: Session) -> Outcome {
    // Starts a daemon where that is wanted; its connection is for HTTP alone.
    session.client().await?;
    let connection = session.endpoint.connect().await;
    let connection = connection.map_err(|error| Failure::io("unable to open a connection to the daemon", &error))?;
    let (from, mut to) = split(connection);
    let upstream = async {
        let mut input = read_stdin();
        while let Some(bytes) = input.recv().await {
            if to.write_all(&bytes).await.is_err() {
                break;
            }
        }
        let _ = to.shutdown().await;
        std::future::pending::<()>().await;
    };
    tokio::select! {
        () = upstream => Ok(0),
        copied = downstream(from) => match copied {
            Ok(()) => Ok(0),
            Err(error) => Err(Failure::io("the connection to the daemon broke", &error)),
        },
    }
}

/// Standard output blocks, and what the client sends must go on meanwhile.
async fn downstream(mut from: impl AsyncRead + Unpin) -> io::Result<()> {
    let mut buffer = vec![0; CHUNK_BYTES];
    loop {
        let count = from.read(&mut buffer).await?;
        if count == 0 {
            return Ok(());
        }
        buffer = spawn_blocking(move || {
            let mut output = io::stdout().lock();
            output.write_all(&buffer[..count])?;
            output.flush().map(|()| buffer)
        })
        .await
        .map_err(io::Error::other)??;
    }
}
