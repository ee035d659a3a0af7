//! What daemon and shim say to each other, over one SEQPACKET connection a shim.
//!
//! A request is answered by exactly one [`Reply`], in order; [`Event`]s come between replies, unasked. A message is one
//! packet: `postcard` bytes of [`ToShim`] or [`FromShim`], file descriptors beside it (SCM_RIGHTS).
//!
//! A new daemon talks to shims of an old one, so both enums only ever grow at their end, and a variant's fields never
//! change: what needs new fields becomes a new variant.
use serde::{Deserialize, Serialize};

/// Larger packets are refused; plans travel in a memfd.
pub const MAX_PACKET_BYTES: usize = 64 * 1024;

/// The file names in a task's directory (`<run root>/tasks/<id>/`).
pub mod files {
    /// The shim listens here for a daemon that comes back.
    pub const SOCKET: &str = "shim.sock";
    /// [`super::TaskState`], written before the process may run.
    pub const STATE: &str = "state";
    /// [`super::Exit`], written (atomically) once the process has ended, its output is in the log and its cgroup is gone.
    pub const EXIT: &str = "exit";
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ToShim {
    /// First message of a new shim. Beside it: a memfd with the compiled plan, the mounts that it speaks of, and what is
    /// to be held while the container lives. Answered by `Created` or `Failed`.
    Launch,
    /// First message of a daemon that comes back. Answered by `Here`.
    Hello,
    /// Let the created process execute. Answered by `Started` once execve succeeded, else `Failed`.
    Start,
    /// Beside it: a connected stream socket. What the process prints from now on goes there, as stdcopy frames
    /// (raw bytes with a terminal); what is read from there is standard input. Half-closing it ends standard input.
    /// Answered by `Done`.
    Attach { stdin: bool, stdout: bool, stderr: bool },
    /// New size of the terminal. Answered by `Done`, or `Failed` where there is none.
    Resize { rows: u16, columns: u16 },
    /// Send a signal to the first process. Answered by `Done`, or `Failed` when it has ended.
    Signal { number: i32 },
    /// SIGKILL to every process of the container's cgroup. Answered by `Done`.
    KillAll,
    /// Write the log to a new file from now on: the present one was moved or cut. Answered by `Done`.
    ReopenLog,
    /// More of the log has been delivered to a remote, or the container need not wait for that any more: look at the
    /// log's position again. Answered by `Done`.
    LogDelivered,
    /// Run one more process in the container. Beside it: a memfd with the compiled plan and, for a client, a connected
    /// stream socket. Answered by `ExecStarted` when the process exists, which is before its execve; the end of it, and
    /// an execve that fails, come as events.
    Exec {
        id: ExecId,
        /// Say by `Event::ExecRuns` that the execve succeeded.
        confirm: bool,
    },
    /// New size of an exec's terminal, now or when it has one. Answered by `Done`, or `Failed` when the exec has ended.
    ResizeExec { id: ExecId, rows: u16, columns: u16 },
    /// Send a signal to an exec's process. Answered by `Done`, or `Failed` when it has ended.
    SignalExec { id: ExecId, number: i32 },
    /// For a daemon that comes back: answered by `NextExec`, the first exec whose number is at least this one.
    /// An exec that has ended is told of once, and forgotten.
    NextExec { from: u32 },
    /// Answered by `Held`; by a shim of a version before this message not at all: it closes the connection.
    ShowHeld,
}

/// Names one exec: what clients see as 64 hexadecimal digits.
pub type ExecId = [u8; 32];

/// What a shim understands beyond its first protocol.
pub mod level {
    /// `Exec` and what belongs to it.
    pub const EXEC: u32 = 1;
    /// This version's.
    pub const PRESENT: u32 = EXEC;
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum FromShim {
    Reply(Reply),
    Event(Event),
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reply {
    /// The process exists, with everything around it, and waits before its execve. Beside it: its pidfd.
    Created(TaskState),
    /// The process runs.
    Started,
    /// Answer to `Hello`. Beside it: the process's pidfd.
    Here(TaskState),
    Done,
    /// Nothing of what was asked remains. After a failed `Launch` or `Start` the shim has undone everything and ends.
    Failed(Failure),
    /// Answer to `Hello` of a shim that has a [`level`]; those of the first protocol say `Here`. Beside it: the
    /// process's pidfd.
    HereAt {
        state: TaskState,
        level: u32,
    },
    /// The exec's process exists.
    ExecStarted {
        /// In the daemon's PID namespace.
        pid: i32,
    },
    /// Answer to `NextExec`; absent when there is no more.
    NextExec(Option<ExecState>),
    /// Beside it: what came with `Launch` to be held.
    Held,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Event {
    /// The last message of a shim: the exit record is on disk, the cgroup is gone, the log is complete.
    Exited(Exit),
    /// The kernel killed a process of the container for want of memory; the container may go on.
    OutOfMemory,
    /// Only between `Launch` and its reply: the container's own network namespace is there, that of this process. What
    /// is made in it from now on costs the start no time of its own.
    Network { pid: i32 },
    /// The exec's program runs. Only where it was asked for.
    ExecRuns { id: ExecId },
    /// The exec has ended. What it printed has been read, though its client may not have taken all of it yet.
    ExecEnded(ExecExit),
}

/// One exec, as its shim knows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExecState {
    pub number: u32,
    pub id: ExecId,
    /// 0 when it has ended.
    pub pid: i32,
    pub exit: Option<ExecExit>,
    /// What the daemon wrote into the plan for its successors.
    pub description: Vec<u8>,
}

/// How an exec ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExecExit {
    pub id: ExecId,
    /// As a shell reports it: 0-255, 128+n for a signal; 127 or 126 where the program could not be executed.
    pub code: i32,
    /// Nanoseconds since the epoch.
    pub at_nanoseconds: i64,
    /// Why the program was never executed.
    pub failure: Option<Failure>,
}

/// A living container, as its shim knows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskState {
    /// In the daemon's PID namespace.
    pub pid: i32,
    /// Field 22 of /proc/PID/stat: tells the process from a later one with the same number.
    pub pid_start_ticks: u64,
    pub shim_pid: i32,
    pub shim_start_ticks: u64,
    /// False between `Created` and `Started`.
    pub started: bool,
    pub terminal: bool,
    /// What [`crate::cgroup::manager`] needs to find the container's cgroup again.
    pub cgroup: CgroupRecord,
}

/// Where a container's cgroup is: directories of the host, by hierarchy.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CgroupRecord {
    /// The directory in the cgroup2 hierarchy, where it is used.
    pub unified: Option<String>,
    /// v1: (`memory`, `/sys/fs/cgroup/memory/docker/<id>`) and so on.
    pub legacy: Vec<(String, String)>,
}

/// How a container ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exit {
    /// As a shell reports it: 0-255, 128+n for a signal.
    pub code: i32,
    /// The kernel killed a process of the container for want of memory.
    pub out_of_memory: bool,
    /// Nanoseconds since the epoch.
    pub at_nanoseconds: i64,
    /// Set when the container ended for a reason of ours.
    pub reason: Option<String>,
}

/// Why a request could not be fulfilled.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    pub kind: FailureKind,
    /// One sentence, context first, the system's reason last: `exec: "foo": executable file not found in $PATH`.
    pub message: String,
}

/// What clients tell apart by exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum FailureKind {
    /// No such program (127).
    NotFound,
    /// A program that may not or cannot be executed (126).
    NotExecutable,
    /// The user, group, device, limit or mount asked for cannot be had.
    Invalid,
    /// The process has ended.
    Gone,
    /// Anything else.
    System,
}
