//! Signals that the client hands on to the container, and the terminal's changes of size.
use std::rc::Rc;

use corten_api::client::Client;
use futures_util::StreamExt;
use futures_util::stream::SelectAll;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::task::AbortHandle;

use crate::failure::Failure;
use crate::terminal;

/// By number on every architecture that we build for; others keep their default effect on the client.
const FORWARDED: [(i32, &str); 9] = [
    (1, "HUP"),
    (2, "INT"),
    (3, "QUIT"),
    (10, "USR1"),
    (12, "USR2"),
    (14, "ALRM"),
    (15, "TERM"),
    (18, "CONT"),
    (20, "TSTP"),
];

/// A task that ends when this value goes.
pub struct Watch(AbortHandle);

impl Drop for Watch {
    fn drop(&mut self) {
        self.0.abort();
    }
}

fn failed(error: std::io::Error) -> Failure {
    Failure::io("cannot watch for signals", &error)
}

/// Hands signals on to a container, from now until the value is dropped.
pub fn forward(client: Rc<Client>, container: String) -> Result<Watch, Failure> {
    let mut signals = SelectAll::new();
    for (number, name) in FORWARDED {
        let arriving = signal(SignalKind::from_raw(number)).map_err(failed)?;
        signals.push(Box::pin(futures_util::stream::unfold(
            arriving,
            move |mut arriving: Signal| async move {
                arriving.recv().await?;
                Some((name, arriving))
            },
        )));
    }
    let task = tokio::task::spawn_local(async move {
        while let Some(name) = signals.next().await {
            // A container that has ended, or does not run yet, misses nothing.
            let _ = client.kill(&container, Some(name)).await;
        }
    });
    Ok(Watch(task.abort_handle()))
}

/// What has a terminal whose size follows the user's.
pub enum Sized {
    Container(String),
    Exec(String),
}

/// Keeps a terminal as large as the user's, from now until the value is dropped.
pub async fn follow_size(client: Rc<Client>, sized: Sized) -> Result<Watch, Failure> {
    let mut changes = signal(SignalKind::window_change()).map_err(failed)?;
    resize(&client, &sized).await;
    let task = tokio::task::spawn_local(async move {
        while changes.recv().await.is_some() {
            resize(&client, &sized).await;
        }
    });
    Ok(Watch(task.abort_handle()))
}

async fn resize(client: &Client, sized: &Sized) {
    if let Some((rows, columns)) = terminal::size() {
        // What has just ended has no terminal any more.
        let _ = match sized {
            Sized::Container(name) => client.resize(name, rows, columns).await,
            Sized::Exec(id) => client.resize_exec(id, rows, columns).await,
        };
    }
}
