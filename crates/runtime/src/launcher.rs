//! The launcher: a small single-threaded process that forks a shim for each container, ahead of time.
//!
//! A few shims wait for work, each in a network namespace that nobody has used: what they wait with, a start need not
//! make. The daemon's socket is theirs as much as the launcher's; each takes one packet from it.
//!
//! It is our own binary executed once, through a read-only copy of the mount that it lies on: no container can reach a
//! writable path to it (CVE-2019-5736), whatever /proc/PID/exe it opens. Shims are its children and are reaped by the
//! kernel; they live on when it ends, which it does when the daemon's socket closes.
use std::{
    ffi::OsString,
    fs::File,
    io,
    os::fd::{AsFd, AsRawFd, OwnedFd},
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::Mutex,
    time::Duration,
};

use corten_linux::{
    mount::{self, Attributes},
    namespace, process, signal, socket,
};
use rustix::{
    event::{PollFd, PollFlags, poll},
    fs::{MemfdFlags, Mode, OFlags, SealFlags, fcntl_add_seals, memfd_create, open},
    io::fcntl_dupfd_cloexec,
    mount::MountAttrFlags,
    net::{AddressFamily, SocketFlags, SocketType, socketpair},
    pipe::{PipeFlags, pipe_with},
    process::{
        Pid, Signal, chdir, getpid, getppid, set_child_subreaper, set_parent_process_death_signal, setsid, umask,
    },
};

use crate::{process::launch::Birthplace, shim::monitor};

/// The argument that makes our binary a launcher.
pub const ARGUMENT: &str = "launcher";

/// The daemon's handle. Dropping it ends the launcher, never a shim.
pub struct Launcher {
    executable: PathBuf,
    running: Mutex<Running>,
}

struct Running {
    socket: OwnedFd,
    child: Child,
}

impl Launcher {
    /// Starts this very executable as `corten launcher`.
    pub fn spawn() -> io::Result<Launcher> {
        Launcher::spawn_with(Path::new("/proc/self/exe"))
    }

    /// Starts another executable that calls [`serve`] when its argument is [`ARGUMENT`].
    pub fn spawn_with(executable: &Path) -> io::Result<Launcher> {
        let running = Mutex::new(execute(executable)?);
        Ok(Launcher {
            executable: executable.to_owned(),
            running,
        })
    }

    /// The daemon's end of a new shim's connection.
    pub fn connect(&self) -> io::Result<OwnedFd> {
        let (ours, theirs) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
        let mut running = self.running.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let dead = running.child.try_wait()?.is_some();
        if dead || socket::send(running.socket.as_fd(), b"s", &[theirs.as_fd()]).is_err() {
            let _ = running.child.kill();
            let _ = running.child.wait();
            *running = execute(&self.executable)?;
            socket::send(running.socket.as_fd(), b"s", &[theirs.as_fd()])?;
        }
        Ok(ours)
    }

    /// The launcher's process, for diagnosis.
    pub fn pid(&self) -> u32 {
        self.running
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
            .child
            .id()
    }
}

impl Drop for Launcher {
    fn drop(&mut self) {
        let running = self.running.get_mut().unwrap_or_else(|poisoned| poisoned.into_inner());
        // It ends by itself when the socket closes; here it is only waited for.
        let _ = rustix::net::shutdown(&running.socket, rustix::net::Shutdown::Both);
        let _ = running.child.wait();
    }
}

fn execute(executable: &Path) -> io::Result<Running> {
    let (ours, theirs) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
    let sealed = seal(executable)?;
    let child = Command::new(format!("/proc/self/fd/{}", sealed.as_raw_fd()))
        .arg0("corten")
        .arg(OsString::from(ARGUMENT))
        .env_clear()
        .stdin(Stdio::from(theirs))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()?;
    Ok(Running { socket: ours, child })
}

/// The same executable where nobody can write to it: on a read-only mount of its own, or as a sealed copy in memory.
fn seal(executable: &Path) -> io::Result<OwnedFd> {
    let original = open(executable, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
    let read_only = Attributes {
        set: u64::from(MountAttrFlags::MOUNT_ATTR_RDONLY.bits()),
        ..Attributes::default()
    };
    let mounted = mount::clone_tree(original.as_fd(), false)
        .and_then(|copy| mount::set_attributes(copy.as_fd(), read_only, false).map(|()| copy));
    match mounted {
        Ok(copy) => Ok(copy),
        Err(_) => copy_to_memory(executable),
    }
}

fn copy_to_memory(executable: &Path) -> io::Result<OwnedFd> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let mut copy = File::from(memfd_create("corten", flags)?);
    io::copy(&mut File::open(executable)?, &mut copy)?;
    fcntl_add_seals(
        &copy,
        SealFlags::WRITE | SealFlags::GROW | SealFlags::SHRINK | SealFlags::SEAL,
    )?;
    // A file open for writing cannot be executed.
    Ok(open(
        format!("/proc/self/fd/{}", copy.as_raw_fd()),
        OFlags::RDONLY | OFlags::CLOEXEC,
        Mode::empty(),
    )?)
}

/// The body of `corten launcher`: the daemon's socket is standard input. Call it before any thread exists.
pub fn serve() -> ! {
    // Here and in everything forked from here a panic ends the process at once: nothing unwinds into a container.
    std::panic::set_hook(Box::new(|_| std::process::abort()));
    let code = match settle() {
        Ok(socket) => keep_spares(&socket),
        Err(_) => 1,
    };
    process::exit_now(code)
}

/// Cuts everything that ties this process to the daemon's terminal, directory and signals.
fn settle() -> io::Result<OwnedFd> {
    let socket = fcntl_dupfd_cloexec(rustix::stdio::stdin(), 3)?;
    let null = open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?;
    for number in 0..3 {
        // SAFETY: nobody owns the standard streams.
        unsafe { process::place(null.as_fd(), number, true)? };
    }
    drop(null);
    signal::reset_all()?;
    signal::ignore(Signal::PIPE.as_raw());
    // Ended shims disappear by themselves.
    signal::ignore(Signal::CHILD.as_raw());
    // A child of a shim that was killed becomes ours, and disappears the same way.
    set_child_subreaper(Some(getpid()))?;
    let _ = setsid();
    chdir("/")?;
    umask(Mode::from_raw_mode(0o027));
    let _ = rustix::thread::set_name(c"corten-launcher");
    Ok(socket)
}

/// How many shims wait for work: as many as can start containers at once.
const SPARES_MAX: usize = 8;

/// Keeps shims in waiting, each of which takes one packet from the daemon's socket. Ends with the daemon.
fn keep_spares(socket: &OwnedFd) -> i32 {
    let host_network = open("/proc/self/ns/net", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).ok();
    let wanted = std::thread::available_parallelism()
        .map_or(2, usize::from)
        .clamp(2, SPARES_MAX);
    // The other end of each closes when its shim is taken, or dead.
    let mut spares: Vec<OwnedFd> = Vec::with_capacity(wanted);
    loop {
        while spares.len() < wanted {
            match fork_spare(socket, host_network.as_ref()) {
                Ok(spare) => spares.push(spare),
                // Out of memory or processes: whoever waits for a shim gets it when there is room again.
                Err(_) if spares.is_empty() => std::thread::sleep(Duration::from_millis(10)),
                Err(_) => break,
            }
        }
        let mut sources: Vec<_> = spares.iter().map(|spare| PollFd::new(spare, PollFlags::IN)).collect();
        sources.push(PollFd::new(socket, PollFlags::empty()));
        if poll(&mut sources, None).is_err() {
            continue;
        }
        let ready: Vec<_> = sources.iter().map(|source| !source.revents().is_empty()).collect();
        if ready.last() == Some(&true) {
            return 0;
        }
        let mut ready = ready.into_iter();
        spares.retain(|_| ready.next() == Some(false));
    }
}

fn fork_spare(socket: &OwnedFd, host_network: Option<&OwnedFd>) -> io::Result<OwnedFd> {
    let (ours, theirs) = pipe_with(PipeFlags::CLOEXEC)?;
    let launcher = getpid();
    // SAFETY: this process never makes a thread.
    match unsafe { process::fork()? } {
        Some(_) => Ok(ours),
        None => {
            drop(ours);
            wait_for_work(socket, theirs, host_network, launcher)
        }
    }
}

/// A shim before it has a container: everything that can be made ahead of time, then one packet.
fn wait_for_work(socket: &OwnedFd, taken: OwnedFd, host_network: Option<&OwnedFd>, launcher: Pid) -> ! {
    let _ = rustix::thread::set_name(c"corten-spare");
    let _ = set_parent_process_death_signal(Some(Signal::KILL));
    if getppid() != Some(launcher) {
        process::exit_now(0);
    }
    let _ = setsid();
    signal::set_default(Signal::CHILD.as_raw());
    let mut keep = vec![socket.as_fd(), taken.as_fd()];
    keep.extend(host_network.map(|fd| fd.as_fd()));
    // SAFETY: this process is a copy: what it holds besides is the launcher's, and used by nobody after this.
    let Ok(kept) = (unsafe { process::keep_only(&keep, 3) }) else {
        process::exit_now(1)
    };
    std::mem::forget(taken);
    let mut kept = kept.into_iter();
    let (Some(socket), Some(taken)) = (kept.next(), kept.next()) else {
        process::exit_now(1)
    };
    let host_network = kept.next();
    let fresh_network = host_network.is_some() && make_network();
    let mut byte = [0; 1];
    let connection = match socket::receive(socket.as_fd(), &mut byte) {
        Ok((1, mut fds)) => fds.pop(),
        _ => None,
    };
    let Some(connection) = connection else {
        process::exit_now(0)
    };
    let _ = set_parent_process_death_signal(None);
    drop(socket);
    monitor::run(
        connection,
        Birthplace {
            fresh_network,
            host_network,
        },
        taken,
    )
}

/// A network namespace is the dearest part of a container, and the same for all of them.
fn make_network() -> bool {
    const CLONE_NEWNET: u64 = 0x4000_0000;
    namespace::unshare(CLONE_NEWNET)
        .and_then(|()| namespace::bring_loopback_up())
        .is_ok()
}
