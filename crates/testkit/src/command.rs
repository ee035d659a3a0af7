//! Commands with an end: each has a time limit, and its output is collected whole.
use std::{
    fmt,
    io::{Read, Write},
    os::unix::process::ExitStatusExt,
    process::{Child, Command, Stdio},
    thread,
    time::Duration,
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    process::{Pid, PidfdFlags, pidfd_open},
};

/// No command of a test takes this long unless it hangs.
const LIMIT: Duration = Duration::from_secs(120);

/// What a command printed, and how it ended.
#[derive(Clone)]
pub struct Output {
    /// The command line, for messages.
    pub line: String,
    /// As a shell reports it: 128+n for a signal.
    pub code: i32,
    pub stdout: Vec<u8>,
    pub stderr: Vec<u8>,
}

impl Output {
    /// Standard output without the last newline, of a command that must have succeeded.
    #[track_caller]
    pub fn ok(self) -> String {
        assert!(self.code == 0, "should have succeeded: {self:?}");
        self.text()
    }

    /// Standard error, of a command that must have failed with this code.
    #[track_caller]
    pub fn fails(self, code: i32) -> String {
        assert!(self.code == code, "should have failed with {code}: {self:?}");
        self.error()
    }

    /// Standard output as text, without the last newline.
    pub fn text(&self) -> String {
        trimmed(&self.stdout)
    }

    /// Standard error as text, without the last newline.
    pub fn error(&self) -> String {
        trimmed(&self.stderr)
    }

    #[track_caller]
    pub fn json(self) -> serde_json::Value {
        let text = self.ok();
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("not JSON ({error}): {text}"))
    }
}

impl fmt::Debug for Output {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Output { line, code, .. } = self;
        write!(
            f,
            "`{line}` ended with {code}\n--- stdout\n{}\n--- stderr\n{}",
            self.text(),
            self.error()
        )
    }
}

fn trimmed(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    text.strip_suffix('\n').unwrap_or(&text).to_owned()
}

/// Runs a command with nothing on its standard input.
#[track_caller]
pub fn run(command: &mut Command) -> Output {
    run_with_input(command, &[])
}

/// Runs a command that reads `input`.
#[track_caller]
pub fn run_with_input(command: &mut Command, input: &[u8]) -> Output {
    let line = line_of(command);
    command.stdin(if input.is_empty() {
        Stdio::null()
    } else {
        Stdio::piped()
    });
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command
        .spawn()
        .unwrap_or_else(|error| panic!("cannot run `{line}`: {error}"));
    let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    thread::scope(|scope| {
        // A command may end before it has read everything.
        scope.spawn(move || stdin.map(|mut pipe| pipe.write_all(input)));
        let stdout = scope.spawn(move || drain(stdout));
        let stderr = scope.spawn(move || drain(stderr));
        let in_time = ended_within(&child, LIMIT);
        if !in_time {
            let _ = child.kill();
        }
        let status = child.wait().expect("the child is ours");
        let code = status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0));
        let output = Output {
            line,
            code,
            stdout: stdout.join().expect("reading does not panic"),
            stderr: stderr.join().expect("reading does not panic"),
        };
        assert!(in_time, "hangs: {output:?}");
        output
    })
}

/// Whether a child ended in time. It stays to be waited for.
pub fn ended_within(child: &Child, limit: Duration) -> bool {
    let pid = Pid::from_child(child);
    let pidfd = pidfd_open(pid, PidfdFlags::empty()).expect("an unwaited child exists");
    let limit = Timespec {
        tv_sec: limit.as_secs() as i64,
        tv_nsec: limit.subsec_nanos().into(),
    };
    let mut fds = [PollFd::new(&pidfd, PollFlags::IN)];
    loop {
        match poll(&mut fds, Some(&limit)) {
            Ok(count) => return count > 0,
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => panic!("poll: {error}"),
        }
    }
}

fn drain(pipe: Option<impl Read>) -> Vec<u8> {
    let mut bytes = Vec::new();
    if let Some(mut pipe) = pipe {
        let _ = pipe.read_to_end(&mut bytes);
    }
    bytes
}

pub fn line_of(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words
        .map(|word| word.to_string_lossy().into_owned())
        .collect::<Vec<_>>()
        .join(" ")
}
