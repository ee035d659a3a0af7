//! The launcher: a small single-threaded process that forks a shim for each container.
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
};

use corten_linux::{
    mount::{self, Attributes},
    process, signal, socket,
};
use rustix::{
    fs::{MemfdFlags, Mode, OFlags, SealFlags, fcntl_add_seals, memfd_create, open},
    io::fcntl_dupfd_cloexec,
    mount::MountAttrFlags,
    net::{AddressFamily, SocketFlags, SocketType, socketpair},
    process::{Signal, chdir, getpid, set_child_subreaper, setsid, umask},
};

use crate::shim::monitor;

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
        if socket::send(running.socket.as_fd(), b"s", &[theirs.as_fd()]).is_err() {
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
    let code = match settle() {
        Ok(socket) => fork_shims(&socket),
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

/// One packet, one descriptor, one shim; until the daemon is gone.
fn fork_shims(socket: &OwnedFd) -> i32 {
    loop {
        let mut byte = [0; 1];
        let mut fds = match socket::receive(socket.as_fd(), &mut byte) {
            Ok((1, fds)) => fds,
            Ok(_) => return 0,
            Err(_) => return 1,
        };
        let Some(connection) = fds.pop() else { continue };
        // SAFETY: this process never makes a thread. When it fails, the daemon sees the connection close.
        if let Ok(None) = unsafe { process::fork() } {
            become_shim(socket, connection);
        }
    }
}

fn become_shim(launcher_socket: &OwnedFd, connection: OwnedFd) -> ! {
    // SAFETY: this copy of the descriptor is used by nobody after this; the launcher has its own.
    unsafe { process::close(launcher_socket.as_raw_fd()) };
    let _ = setsid();
    signal::set_default(Signal::CHILD.as_raw());
    monitor::run(connection)
}
