//! What the daemon says while it works: lines of text, and bars that move where there is a terminal.
//!
//! A failure can come after the status line said 200: it is a message of the stream, and ends the command.
use std::collections::HashMap;
use std::io::{self, IsTerminal, Write};

use corten_api::client::Streaming;
use corten_api::messages::Message;
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use crate::failure::Failure;

/// Where messages go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    Stdout,
    Stderr,
}

/// Shows a stream of messages, and returns the last status line.
pub async fn show(mut body: Streaming, quiet: bool, target: Target) -> Result<Option<String>, Failure> {
    let mut screen = Screen::new(quiet, target);
    let mut last = None;
    let mut buffer = Vec::new();
    while let Some(piece) = body.next().await {
        buffer.extend_from_slice(&piece.map_err(|error| Failure::io("reading from the daemon", &error))?);
        let mut messages = serde_json::Deserializer::from_slice(&buffer).into_iter::<Message>();
        let mut used = 0;
        while let Some(Ok(message)) = messages.next() {
            used = messages.byte_offset();
            if let Some(text) = message.error {
                screen.finish();
                return Err(Failure::new(text));
            }
            if message.id.is_none() && !moves(&message) && message.status.is_some() {
                last.clone_from(&message.status);
            }
            screen.take(&message);
        }
        buffer.drain(..used);
    }
    screen.finish();
    Ok(last)
}

struct Screen {
    quiet: bool,
    target: Target,
    bars: Option<MultiProgress>,
    by_id: HashMap<String, ProgressBar>,
}

impl Screen {
    fn new(quiet: bool, target: Target) -> Screen {
        let terminal = match target {
            Target::Stdout => io::stdout().is_terminal(),
            Target::Stderr => io::stderr().is_terminal(),
        };
        let bars = (terminal && !quiet).then(MultiProgress::new);
        Screen {
            quiet,
            target,
            bars,
            by_id: HashMap::new(),
        }
    }

    fn take(&mut self, message: &Message) {
        if self.quiet {
            return;
        }
        if let Some(text) = &message.stream {
            self.print(text);
            return;
        }
        let Some(status) = &message.status else { return };
        let id = match &message.id {
            Some(id) => id.as_str(),
            None if moves(message) => "",
            None => return self.print(&format!("{status}\n")),
        };
        match &self.bars {
            Some(bars) => {
                let bar = self.by_id.entry(id.to_owned()).or_insert_with(|| bars.add(bar(id)));
                bar.set_message(status.clone());
                if let Some(detail) = &message.progress_detail {
                    bar.set_length(detail.total.unwrap_or(0));
                    bar.set_position(detail.current.unwrap_or(0));
                }
            }
            // Without a terminal only what is final is worth a line.
            None if !moves(message) => self.print(&format!("{id}: {status}\n")),
            None => {}
        }
    }

    fn print(&self, text: &str) {
        let write = || match self.target {
            Target::Stdout => io::stdout().write_all(text.as_bytes()),
            Target::Stderr => io::stderr().write_all(text.as_bytes()),
        };
        // Nobody to tell that nobody listens.
        let _ = match &self.bars {
            Some(bars) => bars.suspend(write),
            None => write(),
        };
    }

    fn finish(&mut self) {
        for bar in self.by_id.values() {
            bar.abandon();
        }
    }
}

/// Is it about something that goes on?
fn moves(message: &Message) -> bool {
    let detail = message.progress_detail.as_ref();
    detail.is_some_and(|detail| detail.current.is_some())
}

fn bar(id: &str) -> ProgressBar {
    let style = ProgressStyle::with_template("{prefix}{msg} [{bar:30}] {bytes}/{total_bytes}");
    let style = style.expect("the template is constant").progress_chars("=> ");
    let prefix = if id.is_empty() {
        String::new()
    } else {
        format!("{id}: ")
    };
    ProgressBar::new(0).with_style(style).with_prefix(prefix)
}
