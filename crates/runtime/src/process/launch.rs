//! The shim's half of a start: cgroup, streams, one clone3, and undoing all of it when the child fails.
use std::{
    fs::File,
    io, mem,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

use corten_linux::{
    namespace,
    process::{self, CloneFlags, Cloned, NamespaceKind},
};
use rustix::{
    fs::{Mode, OFlags, fcntl_setfl, open},
    io::Errno,
    net::{AddressFamily, SocketFlags, SocketType, socketpair},
    pipe::{PipeFlags, pipe_with},
    process::{Pid, Signal, WaitId, WaitIdOptions, WaitIdStatus, umask, waitid},
};

use crate::{
    cgroup::manager::{self, Cgroup},
    error::Context,
    process::{
        channel::{self, FromChild},
        init::{self, Inheritance},
        introduce::{self, Stranger},
        plan::ShimPlan,
    },
    rootfs::{
        owners::{self, IdMaps},
        stranger::become_for_files,
    },
    shim::protocol::{Failure, FailureKind},
};

/// Our ends of the process's standard streams.
#[derive(Debug)]
pub(crate) enum Streams {
    Pipes {
        stdin: Option<OwnedFd>,
        stdout: Option<OwnedFd>,
        stderr: Option<OwnedFd>,
    },
    /// The container's end is kept open so that ours never reports a hang-up while the container lives.
    Terminal { ours: OwnedFd, theirs: OwnedFd },
}

/// A cloned child: first on its way to exec, then the container's first process. Dropping it undoes the start.
pub(crate) struct Child {
    pub pid: Pid,
    pub pidfd: OwnedFd,
    /// There from the clone on, or from shortly after it.
    cgroup: Option<Cgroup>,
    channel: Option<OwnedFd>,
    streams: Option<Streams>,
    /// Who is who in its user namespace.
    pub user: Option<IdMaps>,
    /// The container's namespaces, held so that its exit need not wait for their teardown.
    _held: Vec<OwnedFd>,
    undo: bool,
}

const CLONE_NEWPID: u64 = 0x2000_0000;
const CLONE_NEWNET: u64 = 0x4000_0000;

/// Where the shim was born: its network namespace may be one that nobody has used.
pub(crate) struct Birthplace {
    /// Made ahead of time, loopback up: the next container's, if it wants one.
    pub fresh_network: bool,
    /// The way back.
    pub host_network: Option<OwnedFd>,
}

impl Birthplace {
    /// Is the namespace that this process waits in the container's?
    pub fn is_home(&self, plan: &ShimPlan) -> bool {
        self.fresh_network && has_own_network(plan) && plan.user.is_none()
    }

    /// Takes care of the child's network namespace; what is left for clone3 to make.
    fn settle(&self, plan: &ShimPlan) -> Result<u64, Failure> {
        let namespaces = plan.namespaces;
        if !self.fresh_network {
            return Ok(namespaces);
        }
        if self.is_home(plan) {
            return Ok(namespaces & !CLONE_NEWNET);
        }
        let say = || "cannot return to the host's network namespace";
        let host = self
            .host_network
            .as_ref()
            .ok_or_else(|| Failure::new(FailureKind::System, say()))?;
        namespace::enter(host.as_fd(), CLONE_NEWNET).context(say)?;
        Ok(namespaces)
    }
}

/// Has the container a network namespace of its own, new?
pub(crate) fn has_own_network(plan: &ShimPlan) -> bool {
    plan.namespaces & CLONE_NEWNET != 0
}

/// Makes the cgroup and clones the child, which sets to work at once: see [`Child::wait_until_ready`].
///
/// A v1 cgroup, which is many directories, is made while the child already works: it joins when it needs to.
pub(crate) fn clone_child(
    plan: &ShimPlan,
    file: BorrowedFd,
    child_offset: u64,
    handed: Vec<OwnedFd>,
    birthplace: &Birthplace,
) -> Result<Child, Failure> {
    let say = || "cannot prepare the container's streams";
    let null = open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty()).context(say)?;
    let mut theirs = [None, None, None];
    let streams = if plan.terminal {
        None
    } else {
        let (stdout, out) = pipe_with(PipeFlags::CLOEXEC).context(say)?;
        let (stderr, err) = pipe_with(PipeFlags::CLOEXEC).context(say)?;
        let mut stdin = None;
        if plan.open_stdin {
            let (reader, writer) = pipe_with(PipeFlags::CLOEXEC).context(say)?;
            fcntl_setfl(&writer, OFlags::NONBLOCK).context(say)?;
            theirs[0] = Some(reader);
            stdin = Some(writer);
        }
        for ours in [&stdout, &stderr] {
            fcntl_setfl(ours, OFlags::NONBLOCK).context(say)?;
        }
        theirs[1] = Some(out);
        theirs[2] = Some(err);
        Some(Streams::Pipes {
            stdin,
            stdout: Some(stdout),
            stderr: Some(stderr),
        })
    };
    let (channel, child_channel) =
        socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).context(say)?;
    if let Some(path) = &plan.pid_namespace {
        let say = || format!("cannot join the namespace {}", path.display());
        let fd = File::open(path).context(say)?;
        namespace::enter(fd.as_fd(), CLONE_NEWPID).context(say)?;
    }
    let namespaces = birthplace.settle(plan)?;
    let (stranger, handed) = match &plan.user {
        None => (None, handed),
        Some(maps) => {
            let mut stranger = Stranger::prepare(maps, file, child_offset, handed)?;
            introduce::give_streams(&theirs, maps)?;
            let sources = std::mem::take(&mut stranger.sources);
            (Some(stranger), sources)
        }
    };
    let cgroup = plan.cgroup.unified.is_some().then(|| make_cgroup(plan)).transpose()?;
    let into = cgroup.as_ref().and_then(Cgroup::unified_fd);
    if let Some(maps) = &plan.user {
        // What a new namespace begins with, such as the directory of message queues, belongs to whoever makes it.
        let (user, group) = maps.root();
        become_for_files(user, group).context(|| "cannot be the container's root for files")?;
    }
    // SAFETY: the shim has one thread.
    let cloned = unsafe { process::clone3(CloneFlags::from_bits_retain(namespaces), into) };
    if plan.user.is_some() && !matches!(cloned, Ok(Cloned::Child)) {
        become_for_files(0, 0).context(|| "cannot be the host's root again")?;
    }
    let mut child = match cloned {
        Ok(Cloned::Child) => init::run(Inheritance {
            plan: file,
            plan_offset: child_offset,
            channel: child_channel.as_fd(),
            stdio: theirs.each_ref().map(|fd| fd.as_ref().unwrap_or(&null).as_fd()),
            handed: &handed,
            loopback_is_up: birthplace.is_home(plan),
        }),
        Ok(Cloned::Parent { pid, pidfd }) => Child {
            pid,
            pidfd,
            cgroup,
            channel: Some(channel),
            streams,
            user: plan.user.clone(),
            _held: Vec::new(),
            undo: true,
        },
        Err(error) => {
            let _ = cgroup.map(|cgroup| cgroup.delete());
            return Err(Failure::system("cannot clone the container's process", &error));
        }
    };
    if child.cgroup.is_none() {
        child.cgroup = Some(make_cgroup(plan)?);
    }
    if let Some(stranger) = &stranger {
        stranger.introduce(child.pid, child.cgroup())?;
    }
    let channel = child.channel.as_ref().expect("it was just put there");
    // A child that is gone already is found out when its word is waited for.
    let _ = channel::show_cgroup(channel.as_fd(), &child.cgroup().record());
    child.hold_namespaces();
    Ok(child)
}

fn make_cgroup(plan: &ShimPlan) -> Result<Cgroup, Failure> {
    // A container whose root is not the host's looks into it as anybody may.
    let before = umask(Mode::from_raw_mode(0o022));
    let made = manager::create(&plan.cgroup);
    umask(before);
    made.map_err(|error| Failure {
        kind: FailureKind::Invalid,
        ..Failure::system("cannot make the cgroup", &error)
    })
}

impl Child {
    pub fn cgroup(&self) -> &Cgroup {
        self.cgroup.as_ref().expect("clone_child made it")
    }

    /// Waits until only the program is missing. `assembled` is called when the root file system is whole, where somebody
    /// has something to do then.
    pub fn wait_until_ready(&mut self, assembled: impl FnOnce(Pid) -> Result<(), Failure>) -> Result<(), Failure> {
        let channel = self.channel.as_ref().expect("the channel is there until the start");
        let mut assembled = Some(assembled);
        loop {
            match channel::hear(channel.as_fd()).context(|| "cannot hear from the container's process")? {
                Some((FromChild::Ready, fds)) => {
                    let mut fds = fds.into_iter();
                    if let (Some(ours), Some(theirs)) = (fds.next(), fds.next()) {
                        self.streams = Some(Streams::Terminal { ours, theirs });
                    }
                    return Ok(());
                }
                Some((FromChild::Assembled, _)) => {
                    let Some(assembled) = assembled.take() else {
                        return Err(self.died_early());
                    };
                    assembled(self.pid)?;
                    // One that is gone is found out by what it says next.
                    let _ = channel::release(channel.as_fd());
                }
                Some((FromChild::Map(request), fds)) => {
                    let trouble = match fds.first() {
                        Some(tree) => owners::answer(&request, tree.as_fd(), self.user.as_ref()).err(),
                        None => Some("the mount did not come".to_owned()),
                    };
                    // A child that is gone already is found out when its next word is waited for.
                    let _ = channel::mapped(channel.as_fd(), trouble.as_deref());
                }
                Some((FromChild::Failed(failure), _)) => return Err(failure),
                None => return Err(self.died_early()),
            }
        }
    }

    /// The kernel tears namespaces down before it tells a parent of the exit, unless someone else holds them; that was
    /// measured as most of the time from exit to report. Older kernels cannot hand them out: then they are not held.
    fn hold_namespaces(&mut self) {
        for kind in [NamespaceKind::Mount, NamespaceKind::Net, NamespaceKind::Ipc] {
            match process::pidfd_namespace(self.pidfd.as_fd(), kind) {
                Ok(fd) => self._held.push(fd),
                Err(_) => return,
            }
        }
    }

    fn died_early(&self) -> Failure {
        match self.wait() {
            Ok(code) if self.cgroup().oom_kills().unwrap_or(0) > 0 => Failure::invalid(format!(
                "the memory limit is too low: the kernel killed the container's process before it could start (exit \
                 code {code})"
            )),
            Ok(code) => Failure::new(
                FailureKind::System,
                format!("the container's process ended with exit code {code} before it could start"),
            ),
            Err(error) => Failure::system("the container's process cannot be waited for", &error),
        }
    }

    /// Lets the child execute its program and waits until it has.
    pub fn start(&mut self) -> Result<(), Failure> {
        let Some(channel) = self.channel.take() else {
            return Err(Failure::invalid("the container has been started already"));
        };
        channel::release(channel.as_fd())
            .map_err(|_| Failure::new(FailureKind::Gone, "the container's process has ended"))?;
        match channel::hear(channel.as_fd()).context(|| "cannot hear from the container's process")? {
            Some((FromChild::Failed(failure), _)) => Err(failure),
            _ => Ok(()),
        }
    }

    pub fn is_started(&self) -> bool {
        self.channel.is_none()
    }

    /// Our ends of the streams; there until taken.
    pub fn take_streams(&mut self) -> Streams {
        self.streams.take().expect("a child that is ready has streams")
    }

    pub fn signal(&self, number: i32) -> io::Result<()> {
        process::pidfd_send_signal(self.pidfd.as_fd(), number)
    }

    /// Waits for the end of the process: 0-255, 128+n for a signal.
    pub fn wait(&self) -> io::Result<i32> {
        loop {
            match waitid(WaitId::PidFd(self.pidfd.as_fd()), WaitIdOptions::EXITED) {
                Ok(Some(status)) => return Ok(exit_code(&status)),
                Ok(None) | Err(Errno::INTR) => continue,
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Kills the child and frees the cgroup.
    pub fn undo(&mut self) {
        if mem::replace(&mut self.undo, false) {
            let _ = self.signal(Signal::KILL.as_raw());
            let _ = self.wait();
            if let Some(cgroup) = &self.cgroup {
                let _ = cgroup.kill_all();
                let _ = cgroup.delete();
            }
        }
    }

    /// The container has ended and all of it was undone: nothing is left for drop.
    pub fn forget(&mut self) {
        self.undo = false;
    }
}

pub(crate) fn exit_code(status: &WaitIdStatus) -> i32 {
    match (status.exit_status(), status.terminating_signal()) {
        (Some(code), _) => code,
        (None, Some(signal)) => 128 + signal,
        (None, None) => 255,
    }
}

/// A start that fails half way leaves no process and no cgroup.
impl Drop for Child {
    fn drop(&mut self) {
        self.undo();
    }
}
