//! Programs that go on, read line by line: `docker logs --follow`, `docker events`, `docker attach`.
use std::{
    io::{self, BufRead, BufReader, Write},
    process::{Child, ChildStdout, Command, Stdio},
};

use rustix::process::Signal;

use crate::{process, wait::wait_for};

/// A running program, ended when this is dropped.
pub struct Follower {
    child: Child,
    lines: BufReader<ChildStdout>,
}

impl Follower {
    pub fn run(command: &mut Command) -> Follower {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("it is installed");
        let lines = BufReader::new(child.stdout.take().expect("it is piped"));
        Follower { child, lines }
    }

    /// The next line, without its newline; empty at the end.
    pub fn line(&mut self) -> String {
        let mut line = String::new();
        self.lines.read_line(&mut line).expect("pipes can be read");
        line.trim_end_matches('\n').to_owned()
    }

    pub fn write(&mut self, text: &str) -> io::Result<()> {
        self.child
            .stdin
            .as_mut()
            .expect("it is piped")
            .write_all(text.as_bytes())
    }

    /// Closes its standard input.
    pub fn close_input(&mut self) {
        drop(self.child.stdin.take());
    }

    /// Sends a signal to the program.
    pub fn signal(&self, signal: Signal) {
        process::signal(self.child.id() as i32, signal);
    }

    /// The exit code, once it ends.
    #[track_caller]
    pub fn wait(mut self) -> i32 {
        let status = wait_for("the program ends", || self.child.try_wait().expect("the child is ours"));
        status.code().unwrap_or(-1)
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
