//! One more process in a container: cloned by the shim into the cgroup, joined to the namespaces by itself.
//!
//! The child is a copy of the single-threaded shim, not its shadow (`CLONE_VM`): it reads files of the container, which
//! may keep it waiting for ever (a file system of the container's own), and must then keep nobody else waiting. While it
//! still has our privileges it shares the container's PID namespace, so it is not dumpable, holds nothing but its streams
//! and the channel, and has no directory open when it goes to the working directory.
use std::{
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::Path,
};

use corten_linux::{
    namespace,
    process::{self, CloneFlags, Cloned},
    signal,
};
use rustix::{
    fs::{Mode, OFlags, fcntl_setfl, open},
    io::Errno,
    net::{AddressFamily, SocketFlags, SocketType, socketpair},
    pipe::{PipeFlags, pipe_with},
    process::{
        DumpableBehavior, Pid, Resource, Rlimit, chdir, getrlimit, set_dumpable_behavior, setrlimit, setsid, umask,
    },
};

use crate::{
    cgroup::manager::Cgroup,
    error::Context,
    process::{
        channel::{self, CHANNEL, FromChild},
        confine::{
            assume, become_root, drop_privileges, own_streams, set_limits, set_oom_score, stand_within_root,
            take_terminal, vector, with_home,
        },
        exec::{ExecPlan, JoinPlan},
        execute::{self, EXIT_CODE},
        identity, introduce,
        launch::{Child, Streams},
    },
    rootfs::devices,
    shim::protocol::{Failure, FailureKind},
};

const CLONE_NEWUSER: u64 = 0x1000_0000;
const CLONE_NEWPID: u64 = 0x2000_0000;
/// Mount, cgroup, UTS, IPC, network: all but the PID namespace, which takes effect on children only.
const JOINED: u64 = 0x0002_0000 | 0x0200_0000 | 0x0400_0000 | 0x0800_0000 | 0x4000_0000;

/// The place where execs of one container begin, prepared once.
pub(crate) struct Door {
    /// The soft limit of open files that the container began with; the shim's own is raised for the sake of its execs.
    open_files: Rlimit,
}

/// A child on its way to exec.
pub(crate) struct Joined {
    pub pid: Pid,
    pub pidfd: OwnedFd,
    pub channel: OwnedFd,
    /// Absent with a terminal: the child makes it, and sends it through the channel.
    pub streams: Option<Streams>,
}

impl Door {
    /// Children of this process begin in the container's PID namespace from now on.
    pub fn open(container: BorrowedFd) -> Result<Door, Failure> {
        namespace::enter(container, CLONE_NEWPID).context(|| "cannot join the container's PID namespace")?;
        // Inherited by every child: nobody in the container looks into it, not even for a moment.
        set_dumpable_behavior(DumpableBehavior::NotDumpable).context(|| "cannot hide from the container")?;
        let open_files = getrlimit(Resource::Nofile);
        let raised = Rlimit {
            current: open_files.maximum,
            ..open_files
        };
        // Each exec costs up to six descriptors. Not to be had means fewer at once.
        let _ = setrlimit(Resource::Nofile, raised);
        Ok(Door { open_files })
    }

    /// Clones the child, which sets to work at once.
    pub fn join(&self, container: &Child, plan: &ExecPlan) -> Result<Joined, Failure> {
        let say = || "cannot prepare the streams";
        let null = open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty()).context(say)?;
        let mut theirs = [None, None, None];
        let streams = match plan.terminal {
            Some(_) => None,
            None => Some(pipes(plan.streams, &mut theirs).context(say)?),
        };
        if let Some(maps) = &container.user {
            introduce::give_streams(&theirs, maps)?;
        }
        let (channel, child_channel) =
            socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).context(say)?;
        let cgroup = container.cgroup();
        let inheritance = Inheritance {
            plan: &plan.child,
            terminal: plan.terminal,
            container: container.pidfd.as_fd(),
            own_users: container.user.is_some(),
            cgroup,
            channel: child_channel.as_fd(),
            stdio: theirs.each_ref().map(|fd| fd.as_ref().unwrap_or(&null).as_fd()),
            open_files: &self.open_files,
        };
        match clone(cgroup.unified_fd(), inheritance) {
            Err(error) if busy(&error) => {
                // The container has made cgroups of its own beneath its own: then processes live in those.
                let own = cgroup
                    .directory_of_process(container.pid.as_raw_nonzero().get())
                    .map_err(|error| Failure::system("cannot find the container's cgroup", &error))?;
                clone(Some(own.as_fd()), inheritance)
            }
            cloned => cloned,
        }
        .map(|(pid, pidfd)| Joined {
            pid,
            pidfd,
            channel,
            streams,
        })
        .map_err(|error| Failure::system("cannot clone the process", &error))
    }
}

fn busy(error: &io::Error) -> bool {
    let errno = error.raw_os_error().map(Errno::from_raw_os_error);
    matches!(errno, Some(Errno::BUSY | Errno::OPNOTSUPP))
}

/// Our ends; `theirs` becomes the child's. Streams that nobody has stay absent.
fn pipes([stdin, stdout, stderr]: [bool; 3], theirs: &mut [Option<OwnedFd>; 3]) -> io::Result<Streams> {
    let mut ours = [None, None, None];
    for (number, wanted) in [stdin, stdout, stderr].into_iter().enumerate() {
        if wanted {
            let (reader, writer) = pipe_with(PipeFlags::CLOEXEC)?;
            let (our, their) = if number == 0 {
                (writer, reader)
            } else {
                (reader, writer)
            };
            fcntl_setfl(&our, OFlags::NONBLOCK)?;
            ours[number] = Some(our);
            theirs[number] = Some(their);
        }
    }
    let [stdin, stdout, stderr] = ours;
    Ok(Streams::Pipes { stdin, stdout, stderr })
}

/// What the shim hands its child. The descriptors are the shim's own, copied.
#[derive(Clone, Copy)]
struct Inheritance<'a> {
    plan: &'a JoinPlan,
    terminal: Option<(u16, u16)>,
    container: BorrowedFd<'a>,
    /// Is the container in a user namespace of its own?
    own_users: bool,
    cgroup: &'a Cgroup,
    channel: BorrowedFd<'a>,
    stdio: [BorrowedFd<'a>; 3],
    open_files: &'a Rlimit,
}

fn clone(into: Option<BorrowedFd>, inheritance: Inheritance) -> io::Result<(Pid, OwnedFd)> {
    // SAFETY: the shim has one thread.
    match unsafe { process::clone3(CloneFlags::empty(), into)? } {
        Cloned::Child => run(inheritance),
        Cloned::Parent { pid, pidfd } => Ok((pid, pidfd)),
    }
}

/// Never returns: whatever fails is told to the shim in one sentence, and the process ends.
fn run(inheritance: Inheritance) -> ! {
    let Ok((channel, container)) = settle(&inheritance) else {
        process::exit_now(EXIT_CODE)
    };
    let failure = match become_program(&inheritance, channel.as_fd(), container) {
        Ok(never) => match never {},
        Err(failure) => failure,
    };
    let _ = channel::tell(channel.as_fd(), &FromChild::Failed(failure), &[]);
    process::exit_now(EXIT_CODE)
}

/// Leaves the child with five descriptors: its streams, the channel, and the container's process.
fn settle(inheritance: &Inheritance) -> io::Result<(OwnedFd, OwnedFd)> {
    for (number, stream) in (0..).zip(inheritance.stdio) {
        // SAFETY: nobody owns the standard streams.
        unsafe { process::place(stream, number, true)? };
    }
    let keep = [inheritance.channel, inheritance.container];
    // SAFETY: this process is a copy of the shim: what it holds besides is the shim's, and the caller never returns into
    // code that uses it.
    let mut kept = unsafe { process::keep_only(&keep, CHANNEL)? };
    signal::set_default(rustix::process::Signal::PIPE.as_raw());
    signal::set_default(rustix::process::Signal::CHILD.as_raw());
    let container = kept.pop().ok_or(io::ErrorKind::NotFound)?;
    let channel = kept.pop().ok_or(io::ErrorKind::NotFound)?;
    Ok((channel, container))
}

enum Never {}

fn become_program(inheritance: &Inheritance, channel: BorrowedFd, container: OwnedFd) -> Result<Never, Failure> {
    let plan = inheritance.plan;
    set_oom_score(plan.oom_score_adj)?;
    // By the child itself, which is the fast way; where there is v2, the clone has done it.
    inheritance
        .cgroup
        .enter_legacy(0)
        .map_err(|error| Failure::system("cannot enter the cgroup", &error))?;
    setrlimit(Resource::Nofile, *inheritance.open_files).context(|| "cannot set the limit of open files")?;
    set_limits(None, &plan.rlimits)?;
    // In one call: it takes the host's capabilities to enter what may belong to several user namespaces, and they are gone
    // with the user namespace.
    let users = if inheritance.own_users { CLONE_NEWUSER } else { 0 };
    namespace::enter(container.as_fd(), JOINED | users).map_err(|error| match error.raw_os_error() {
        Some(number) if number == Errno::SRCH.raw_os_error() => {
            Failure::new(FailureKind::Gone, "the container has ended")
        }
        _ => Failure::system("cannot join the container's namespaces", &error),
    })?;
    drop(container);
    if inheritance.own_users {
        become_root()?;
    }
    let directory = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = open("/", directory, Mode::empty()).context(|| "cannot open the container's root")?;
    setsid().context(|| "cannot make a session")?;
    if let Some(size) = inheritance.terminal {
        let (ours, theirs) = devices::terminal(size, root.as_fd())?;
        take_terminal(theirs.as_fd()).context(|| "cannot take the terminal")?;
        channel::tell(channel, &FromChild::Ready, &[ours.as_fd(), theirs.as_fd()])
            .context(|| "cannot speak to the shim")?;
    }
    let identity = identity::look_up(root.as_fd(), &plan.user, &plan.additional_groups)?;
    own_streams(identity.uid);
    // No directory stays open: /proc/self/fd/N is no way into any.
    drop(root);
    umask(Mode::from_raw_mode(plan.umask));
    let arrived = chdir(&plan.working_directory);
    assume(&identity, plan.capabilities.bounding)?;
    if arrived.is_err() {
        // The user may be allowed where root without capabilities is not.
        chdir(&plan.working_directory).map_err(|errno| no_directory(&plan.working_directory, errno))?;
    }
    stand_within_root()?;
    let program = execute::find(&plan.arguments[0], &plan.environment)?;
    let arguments = vector(&plan.arguments);
    let environment = vector(&with_home(plan.environment.clone(), &identity.home));
    process::close_range_on_exec(CHANNEL).context(|| "cannot mark descriptors")?;
    drop_privileges(&plan.capabilities, plan.no_new_privileges, plan.filter.as_ref())?;
    Err(execute::execute(&program, &arguments, &environment))
}

/// In the words that clients turn into exit codes.
fn no_directory(path: &Path, errno: Errno) -> Failure {
    let kind = match errno {
        Errno::NOENT => FailureKind::NotFound,
        _ => FailureKind::NotExecutable,
    };
    let reason = execute::reason(errno.into());
    let path = path.display();
    Failure::new(
        kind,
        format!("chdir to cwd (\"{path}\") set in config.json failed: {reason}"),
    )
}
