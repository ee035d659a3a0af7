//! The container's streams: output into the log and to attachers, input from attachers.
//!
//! One block of output is read only when every attacher has taken the one before it, and the log has room where a
//! remote is to lose nothing: so memory is bounded. Buffers exist while data flows and are given back when it stops.
use std::{
    io,
    os::fd::{AsFd, OwnedFd},
};

use corten_linux::memory::Scratch;
use rustix::{
    io::Errno,
    pipe::fcntl_setpipe_size,
    termios::{Winsize, tcsetwinsize},
};

use super::{
    attach::Attacher,
    log::writer::{Log, Stream},
    poll::{Interest, Key, Poll, Ready},
};
use crate::process::launch::Streams;

/// What is read at once, and what a pipe is made to hold once it is full.
const BLOCK_BYTES: usize = 256 * 1024;
/// What a pipe holds that nobody has changed.
const PIPE_BYTES: usize = 64 * 1024;
/// From how many attachers that are gone input is kept while the process takes none: each costs a descriptor and the
/// buffers of a socket.
const LEGACIES: usize = 8;

pub(crate) struct Stdio {
    stdin: Option<OwnedFd>,
    stdout: Option<OwnedFd>,
    stderr: Option<OwnedFd>,
    /// Input and output at once; `_theirs` keeps it from hanging up.
    terminal: Option<OwnedFd>,
    _theirs: Option<OwnedFd>,
    is_terminal: bool,
    /// Do attachers get frames? Those of a terminal do not, unless they ask.
    framed: bool,
    /// Must the first attacher of standard input be its last?
    stdin_once: bool,
    /// Input that the process has not taken yet.
    pending: Vec<u8>,
    attachers: Vec<Attacher>,
    next_attacher: u32,
    pub log: Option<Log>,
    block: Scratch,
    /// Is output being read?
    reading: bool,
    /// Is the poll set waiting for room in standard input?
    awaiting_room: bool,
    /// Has anything flowed since [`Stdio::rest`]?
    pub busy: bool,
}

impl Stdio {
    pub fn new(
        streams: Streams,
        open_stdin: bool,
        stdin_once: bool,
        log: Option<Log>,
        poll: &Poll,
    ) -> io::Result<Stdio> {
        let mut stdio = Stdio {
            stdin: None,
            stdout: None,
            stderr: None,
            terminal: None,
            _theirs: None,
            is_terminal: false,
            framed: true,
            stdin_once,
            pending: Vec::new(),
            attachers: Vec::new(),
            next_attacher: 0,
            log,
            block: Scratch::new(BLOCK_BYTES)?,
            reading: false,
            awaiting_room: false,
            busy: false,
        };
        match streams {
            Streams::Pipes { stdin, stdout, stderr } => {
                stdio.stdin = stdin;
                stdio.stdout = stdout;
                stdio.stderr = stderr;
            }
            Streams::Terminal { ours, theirs } => {
                if open_stdin {
                    // Both directions are one descriptor, which can only be in the poll set once.
                    stdio.stdin = Some(ours.try_clone()?);
                }
                stdio.terminal = Some(ours);
                stdio._theirs = Some(theirs);
                stdio.is_terminal = true;
                stdio.framed = false;
            }
        }
        stdio.update(poll);
        Ok(stdio)
    }

    pub fn attach(&mut self, fd: OwnedFd, [stdin, stdout, stderr]: [bool; 3], poll: &Poll) {
        let number = self.next_attacher;
        self.next_attacher += 1;
        let mut attacher = Attacher::new(number, fd, [stdin, stdout, stderr]);
        if stdin && self.stdin.is_none() {
            attacher.refuse_input();
        }
        self.attachers.push(attacher);
        self.update(poll);
    }

    /// What attachers get from now on, frames or raw bytes, whatever the streams are.
    pub fn set_framed(&mut self, framed: bool) {
        self.framed = framed;
    }

    /// Gives attachers a word of ours, as if the process had printed it.
    pub fn say(&mut self, text: &str, poll: &Poll) {
        for attacher in &mut self.attachers {
            attacher.give(Stream::Stdout, text.as_bytes(), self.framed);
        }
        self.update(poll);
    }

    pub fn resize(&self, rows: u16, columns: u16) -> io::Result<()> {
        // Clients resize before they know: without a terminal there is nothing to do, as with Docker.
        let Some(terminal) = &self.terminal else { return Ok(()) };
        Ok(tcsetwinsize(
            terminal,
            Winsize {
                ws_row: rows,
                ws_col: columns,
                ws_xpixel: 0,
                ws_ypixel: 0,
            },
        )?)
    }

    /// Deals with what happened at one of the streams or attachers.
    pub fn handle(&mut self, ready: Ready, poll: &Poll) {
        self.busy = true;
        match ready.key {
            Key::Stdout => self.copy_output(Key::Stdout, poll),
            Key::Stderr => self.copy_output(Key::Stderr, poll),
            Key::Terminal => self.copy_output(Key::Terminal, poll),
            Key::Stdin => self.write_pending(poll),
            Key::Attacher(number) => self.handle_attacher(number, ready, poll),
            _ => {}
        }
        self.update(poll);
    }

    fn handle_attacher(&mut self, number: u32, ready: Ready, poll: &Poll) {
        let has_room = self.pending.is_empty();
        let Some(attacher) = self.attachers.iter_mut().find(|attacher| attacher.number == number) else {
            return;
        };
        if ready.writable {
            attacher.flush();
        }
        if (ready.readable || ready.hung_up) && attacher.stdin && has_room {
            let input = attacher.read(&mut self.block);
            match input {
                None => {}
                Some(0) => {
                    attacher.stdin = false;
                    if self.stdin_once && !self.is_terminal {
                        self.close_stdin(poll);
                    }
                }
                Some(length) => {
                    self.pending.extend_from_slice(&self.block[..length]);
                    self.write_pending(poll);
                }
            }
        }
        if ready.hung_up
            && let Some(attacher) = self.attachers.iter_mut().find(|attacher| attacher.number == number)
        {
            attacher.stop_listening();
        }
    }

    fn copy_output(&mut self, key: Key, poll: &Poll) {
        if !self.is_held_up() {
            self.read_block(key, poll);
        }
    }

    /// More of the log has been delivered: the container may be able to go on.
    pub fn look_at_log(&mut self, poll: &Poll) {
        if let Some(log) = &mut self.log {
            log.look_again();
        }
        self.update(poll);
    }

    /// Reads one block; false when there was nothing to read.
    fn read_block(&mut self, key: Key, poll: &Poll) -> bool {
        let (source, stream) = match key {
            Key::Stdout => (&mut self.stdout, Stream::Stdout),
            Key::Stderr => (&mut self.stderr, Stream::Stderr),
            _ => (&mut self.terminal, Stream::Stdout),
        };
        let Some(fd) = source else { return false };
        let length = match rustix::io::read(&*fd, &mut *self.block) {
            Ok(0) | Err(Errno::IO) => {
                poll.remove(fd.as_fd());
                *source = None;
                return false;
            }
            Ok(length) => length,
            Err(Errno::INTR) => return true,
            Err(_) => return false,
        };
        if length == PIPE_BYTES && key != Key::Terminal {
            // It was full: who prints that much is to wait less often. Costs memory only while it is full again.
            let _ = fcntl_setpipe_size(&*fd, BLOCK_BYTES);
        }
        let data = &self.block[..length];
        for attacher in &mut self.attachers {
            attacher.give(stream, data, self.framed);
        }
        if let Some(log) = &mut self.log {
            log.feed(stream, data);
        }
        true
    }

    fn write_pending(&mut self, poll: &Poll) {
        let Some(stdin) = &self.stdin else {
            self.pending = Vec::new();
            return;
        };
        let mut written = 0;
        while written < self.pending.len() {
            match rustix::io::write(stdin, &self.pending[written..]) {
                Ok(length) => written += length,
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => break,
                Err(_) => {
                    self.close_stdin(poll);
                    return;
                }
            }
        }
        if written == self.pending.len() {
            self.pending.clear();
        } else {
            self.pending.drain(..written);
        }
    }

    /// Ends the process's standard input for good, once it has what was sent before.
    fn close_stdin(&mut self, poll: &Poll) {
        if let Some(stdin) = self.stdin.take()
            && self.awaiting_room
        {
            poll.remove(stdin.as_fd());
            self.awaiting_room = false;
        }
        self.pending = Vec::new();
        for attacher in self.attachers.iter_mut().filter(|attacher| attacher.stdin) {
            attacher.refuse_input();
        }
    }

    fn is_held_up(&self) -> bool {
        self.attachers.iter().any(Attacher::is_behind) || self.log.as_ref().is_some_and(Log::is_held)
    }

    /// Brings the poll set in line with what can be done now.
    fn update(&mut self, poll: &Poll) {
        self.attachers.retain(|attacher| !attacher.is_done());
        self.bound_legacies();
        let read = !self.is_held_up();
        if read != self.reading {
            let sources = [
                (&self.stdout, Key::Stdout),
                (&self.stderr, Key::Stderr),
                (&self.terminal, Key::Terminal),
            ];
            for (fd, key) in sources {
                match fd {
                    // Removed rather than muted: a pipe without writers reports that whether asked or not.
                    Some(fd) if !read => poll.remove(fd.as_fd()),
                    Some(fd) => drop(poll.add(fd.as_fd(), key, Interest::READ)),
                    None => {}
                }
            }
            self.reading = read;
        }
        let has_room = self.pending.is_empty();
        if let Some(stdin) = &self.stdin
            && self.awaiting_room == has_room
        {
            match has_room {
                true => poll.remove(stdin.as_fd()),
                false => drop(poll.add(
                    stdin.as_fd(),
                    Key::Stdin,
                    Interest {
                        read: false,
                        write: true,
                    },
                )),
            }
            self.awaiting_room = !has_room;
        }
        for attacher in &mut self.attachers {
            attacher.register(poll, has_room);
        }
    }

    /// As at a terminal, what is typed beyond what is kept for a process that reads nothing is lost: of those that came
    /// last.
    fn bound_legacies(&mut self) {
        if self.pending.is_empty() {
            return;
        }
        let mut legacies = 0;
        self.attachers.retain(|attacher| {
            legacies += usize::from(attacher.is_legacy());
            !attacher.is_legacy() || legacies <= LEGACIES
        });
    }

    /// The process has ended: input ends, and what is there is read, even past slow attachers, whose queues hold it.
    /// Children of the process may print on, for as long as the streams are not closed.
    pub fn read_out(&mut self, poll: &Poll) {
        self.close_stdin(poll);
        // Held open by us, it would never end.
        self._theirs = None;
        for key in [Key::Stdout, Key::Stderr, Key::Terminal] {
            while self.read_block(key, poll) {}
        }
        self.update(poll);
    }

    /// Can nobody print any more?
    pub fn is_closed(&self) -> bool {
        self.stdout.is_none() && self.stderr.is_none() && self.terminal.is_none()
    }

    /// The process has ended: reads what it left, even past slow attachers, whose queues hold it. Bounded by what the
    /// kernel's pipes hold.
    pub fn drain(&mut self, poll: &Poll) {
        self.close_stdin(poll);
        for key in [Key::Stdout, Key::Stderr, Key::Terminal] {
            while self.read_block(key, poll) {}
        }
        self.stdout = None;
        self.stderr = None;
        self.terminal = None;
        self._theirs = None;
        if let Some(log) = &mut self.log {
            log.finish();
        }
        for attacher in &mut self.attachers {
            attacher.end();
        }
        self.update(poll);
    }

    /// Do attachers still have output to take?
    pub fn is_behind(&self) -> bool {
        self.attachers.iter().any(Attacher::is_behind)
    }

    /// Gives memory back while nothing flows.
    pub fn rest(&mut self) {
        self.block.release();
        self.pending.shrink_to_fit();
        if let Some(log) = &mut self.log {
            log.rest();
        }
        self.busy = false;
    }
}
