//! One exec as its shim holds it: its process, its streams, and how it ended.
//!
//! Its process's end is its end. Children that it leaves may print for a moment longer; then its streams close.
use std::{
    io,
    os::fd::{AsFd, OwnedFd},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use corten_linux::process::pidfd_send_signal;
use rustix::{
    io::Errno,
    process::{Signal, WaitId, WaitIdOptions, waitid},
};

use super::{
    poll::{Interest, Key, Poll, Ready},
    protocol::{ExecExit, ExecId, ExecState, Failure, FailureKind},
    stdio::Stdio,
};
use crate::{
    error::Context,
    process::{
        channel::{self, FromChild},
        exec::ExecPlan,
        join::Joined,
        launch::{Streams, exit_code},
    },
};

/// How long children of a process that has ended may print, as with Docker.
const AFTERMATH: Duration = Duration::from_secs(2);

pub(crate) struct Exec {
    id: ExecId,
    number: u32,
    pid: i32,
    pidfd: OwnedFd,
    /// Until the execve, or the word that it failed.
    channel: Option<OwnedFd>,
    failure: Option<Failure>,
    /// Must somebody be told that the program runs?
    confirm: bool,
    /// Until all of its output has been taken.
    stdio: Option<Stdio>,
    /// A client that waits for its terminal to be made.
    client: Option<OwnedFd>,
    /// The size that a terminal gets as soon as it is there.
    size: Option<(u16, u16)>,
    streams: [bool; 3],
    framed: bool,
    /// Set when its process has ended: until when its children may print.
    aftermath: Option<Instant>,
    exit: Option<ExecExit>,
    description: Vec<u8>,
    poll: Poll,
}

/// What happened to an exec that others want to know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum News {
    Nothing,
    Runs,
    Ended,
}

impl Exec {
    pub fn new(
        (number, id): (u32, ExecId),
        joined: Joined,
        plan: ExecPlan,
        client: Option<OwnedFd>,
        confirm: bool,
        poll: Poll,
    ) -> io::Result<Exec> {
        let mut exec = Exec {
            id,
            number,
            pid: joined.pid.as_raw_nonzero().get(),
            pidfd: joined.pidfd,
            channel: Some(joined.channel),
            failure: None,
            confirm,
            stdio: None,
            client,
            size: None,
            streams: plan.streams,
            framed: plan.framed,
            aftermath: None,
            exit: None,
            description: plan.description,
            poll,
        };
        exec.watch(joined.streams).inspect_err(|_| {
            let _ = exec.signal(Signal::KILL.as_raw());
            let _ = exec.wait();
        })?;
        Ok(exec)
    }

    fn watch(&mut self, streams: Option<Streams>) -> io::Result<()> {
        self.poll.add(self.pidfd.as_fd(), Key::Process, Interest::READ)?;
        if let Some(channel) = &self.channel {
            self.poll.add(channel.as_fd(), Key::Channel, Interest::READ)?;
        }
        match streams {
            Some(streams) => self.connect(streams),
            None => Ok(()),
        }
    }

    /// Its streams are there: its client gets them.
    fn connect(&mut self, streams: Streams) -> io::Result<()> {
        let [stdin, ..] = self.streams;
        let mut stdio = Stdio::new(streams, stdin, true, None, &self.poll)?;
        stdio.set_framed(self.framed);
        if let Some(client) = self.client.take() {
            stdio.attach(client, self.streams, &self.poll);
        }
        if let Some((rows, columns)) = self.size.take() {
            let _ = stdio.resize(rows, columns);
        }
        self.stdio = Some(stdio);
        Ok(())
    }

    pub fn pid(&self) -> i32 {
        self.pid
    }

    pub fn id(&self) -> &ExecId {
        &self.id
    }

    pub fn exit(&self) -> Option<&ExecExit> {
        self.exit.as_ref()
    }

    /// The exit has been told.
    pub fn take_exit(&mut self) {
        self.exit = None;
    }

    pub fn has_ended(&self) -> bool {
        self.aftermath.is_some()
    }

    /// Is nothing of it left to be done?
    pub fn is_over(&self) -> bool {
        self.has_ended() && self.exit.is_none() && self.stdio.is_none()
    }

    /// When its children have printed long enough.
    pub fn deadline(&self) -> Option<Instant> {
        self.aftermath.filter(|_| self.is_printing())
    }

    fn is_printing(&self) -> bool {
        self.stdio.as_ref().is_some_and(|stdio| !stdio.is_closed())
    }

    /// Has its client still output to take?
    pub fn is_behind(&self) -> bool {
        self.stdio.as_ref().is_some_and(Stdio::is_behind)
    }

    pub fn is_busy(&self) -> bool {
        self.stdio.as_ref().is_some_and(|stdio| stdio.busy)
    }

    /// Gives memory back while nothing flows.
    pub fn rest(&mut self) {
        if let Some(stdio) = &mut self.stdio {
            stdio.rest();
        }
    }

    pub fn state(&self) -> ExecState {
        ExecState {
            number: self.number,
            id: self.id,
            pid: if self.has_ended() { 0 } else { self.pid },
            exit: self.exit.clone(),
            description: self.description.clone(),
        }
    }

    pub fn resize(&mut self, rows: u16, columns: u16) -> Result<(), Failure> {
        if self.has_ended() {
            return Err(Failure::new(FailureKind::Gone, "the process has ended"));
        }
        match &self.stdio {
            Some(stdio) => stdio.resize(rows, columns).context(|| "cannot resize the terminal"),
            None => {
                self.size = Some((rows, columns));
                Ok(())
            }
        }
    }

    pub fn signal(&self, number: i32) -> Result<(), Failure> {
        match pidfd_send_signal(self.pidfd.as_fd(), number) {
            Err(error) if error.raw_os_error() == Some(Errno::SRCH.raw_os_error()) => {
                Err(Failure::new(FailureKind::Gone, "the process has ended"))
            }
            result => result.context(|| format!("cannot send signal {number}")),
        }
    }

    /// Deals with what happened at one of its descriptors.
    pub fn handle(&mut self, ready: Ready) -> News {
        match ready.key {
            Key::Process => self.end(),
            Key::Channel => self.listen(),
            _ => {
                if let Some(stdio) = &mut self.stdio {
                    stdio.handle(ready, &self.poll);
                }
                self.settle()
            }
        }
    }

    /// The child says that its terminal is there, that it failed, or, by closing its end, that the program runs.
    fn listen(&mut self) -> News {
        let Some(channel) = &self.channel else {
            return News::Nothing;
        };
        match channel::hear(channel.as_fd()) {
            Ok(Some((FromChild::Ready, fds))) => {
                let mut fds = fds.into_iter();
                if let (Some(ours), Some(theirs)) = (fds.next(), fds.next())
                    && let Err(error) = self.connect(Streams::Terminal { ours, theirs })
                {
                    self.failure = Some(Failure::system("cannot connect the terminal", &error));
                    let _ = self.signal(Signal::KILL.as_raw());
                }
                News::Nothing
            }
            Ok(Some((FromChild::Failed(failure), _))) => {
                self.failure = Some(failure);
                self.hang_up();
                News::Nothing
            }
            // Of a container's first process alone.
            Ok(Some((FromChild::Assembled, _))) => News::Nothing,
            // Nothing of its own is mounted for an exec.
            Ok(Some((FromChild::Map(_), _))) => {
                self.hang_up();
                News::Nothing
            }
            Ok(None) | Err(_) => {
                self.hang_up();
                if self.confirm { News::Runs } else { News::Nothing }
            }
        }
    }

    fn hang_up(&mut self) {
        if let Some(channel) = self.channel.take() {
            self.poll.remove(channel.as_fd());
        }
    }

    /// Its process has ended.
    pub fn end(&mut self) -> News {
        if self.has_ended() {
            return News::Nothing;
        }
        self.poll.remove(self.pidfd.as_fd());
        // What the child said last may still be unheard.
        self.confirm = false;
        while self.channel.is_some() {
            self.listen();
        }
        let mut code = self.wait().unwrap_or(255);
        if let Some(failure) = &self.failure {
            code = match failure.kind {
                FailureKind::NotFound => 127,
                _ => 126,
            };
            let text = format!("{}\r\n", failure.as_exec_error());
            match (&mut self.stdio, self.client.take()) {
                (Some(stdio), _) => stdio.say(&text, &self.poll),
                (None, Some(client)) => self.refuse(client, &text),
                (None, None) => {}
            }
        }
        let at_nanoseconds = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |since| since.as_nanos() as i64);
        self.aftermath = Some(Instant::now() + AFTERMATH);
        self.exit = Some(ExecExit {
            id: self.id,
            code,
            at_nanoseconds,
            failure: self.failure.take(),
        });
        self.client = None;
        if let Some(stdio) = &mut self.stdio {
            stdio.read_out(&self.poll);
        }
        self.settle();
        News::Ended
    }

    /// A terminal that was never made has nothing to say why through.
    fn refuse(&mut self, client: OwnedFd, text: &str) {
        let nothing = Streams::Pipes {
            stdin: None,
            stdout: None,
            stderr: None,
        };
        if let Ok(mut stdio) = Stdio::new(nothing, false, true, None, &self.poll) {
            stdio.set_framed(self.framed);
            stdio.attach(client, self.streams, &self.poll);
            stdio.say(text, &self.poll);
            self.stdio = Some(stdio);
        }
    }

    /// Closes the streams of a process that has ended when nobody prints any more, and forgets them when all has been
    /// taken.
    fn settle(&mut self) -> News {
        if !self.has_ended() {
            return News::Nothing;
        }
        if !self.is_printing() {
            self.close();
        }
        News::Nothing
    }

    /// Its children have printed long enough, or there are none any more.
    pub fn close(&mut self) {
        if let Some(stdio) = &mut self.stdio {
            stdio.drain(&self.poll);
            if !stdio.is_behind() {
                self.stdio = None;
            }
        }
    }

    fn wait(&self) -> io::Result<i32> {
        loop {
            match waitid(WaitId::PidFd(self.pidfd.as_fd()), WaitIdOptions::EXITED) {
                Ok(Some(status)) => return Ok(exit_code(&status)),
                Ok(None) | Err(Errno::INTR) => continue,
                Err(error) => return Err(error.into()),
            }
        }
    }
}
