//! User namespaces: who is who within one, written once, by somebody outside of it.
use std::{
    ffi::c_long,
    fs::File,
    io::{self, Read, Write},
    os::fd::{AsFd, OwnedFd},
};

use rustix::{
    fs::{Mode, OFlags, open},
    io::Errno,
    pipe::{PipeFlags, pipe_with},
    process::{Pid, Signal, WaitId, WaitIdOptions, pidfd_send_signal, waitid},
};

use linux_raw_sys::general as raw;

use crate::{
    process::{CloneFlags, Cloned, clone3, exit_now},
    syscall::syscall,
};

/// `count` ids from `inside` on are those from `outside` on of the parent namespace.
///
/// On a mount that is mapped, `inside` is what the file system says and `outside` what everybody sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IdRange {
    pub inside: u32,
    pub outside: u32,
    pub count: u32,
}

/// Says who a process's user namespace, which has no maps yet, consists of.
pub fn write_maps(process: Pid, users: &[IdRange], groups: &[IdRange]) -> io::Result<()> {
    let write = |name: &str, ranges: &[IdRange]| {
        let lines: String = ranges
            .iter()
            .map(|range| format!("{} {} {}\n", range.inside, range.outside, range.count))
            .collect();
        // The kernel takes a map in one write or not at all.
        let path = format!("/proc/{}/{name}", process.as_raw_nonzero());
        File::options().write(true).open(path)?.write_all(lines.as_bytes())
    };
    write("uid_map", users)?;
    write("gid_map", groups)
}

/// `setfsuid(2)` and `setfsgid(2)`: who this thread is when it makes files. Whoever is not root loses capabilities over
/// files, as far as they are in effect.
pub fn set_file_system_ids(user: u32, group: u32) -> io::Result<()> {
    for (number, id) in [(raw::__NR_setfsgid, group), (raw::__NR_setfsuid, user)] {
        // SAFETY: changes nothing but the thread's credentials. The first call answers with what was before, the second
        // with what the first has done: errors are not told.
        let now = unsafe {
            syscall(c_long::from(number), c_long::from(id));
            syscall(c_long::from(number), c_long::from(id))
        };
        if now != c_long::from(id) {
            return Err(Errno::PERM.into());
        }
    }
    Ok(())
}

/// A user namespace that nobody is in, with these maps: for mounts.
///
/// # Safety
/// The caller must be the only thread of its process.
pub unsafe fn make(users: &[IdRange], groups: &[IdRange]) -> io::Result<OwnedFd> {
    let (reader, writer) = pipe_with(PipeFlags::CLOEXEC)?;
    // SAFETY: the caller is single-threaded.
    match unsafe { clone3(CloneFlags::NEWUSER, None)? } {
        Cloned::Child => {
            drop(writer);
            // Ends with its maker, should that one die.
            let _ = File::from(reader).read(&mut [0]);
            exit_now(0)
        }
        Cloned::Parent { pid, pidfd } => {
            drop(reader);
            let made = write_maps(pid, users, groups).and_then(|()| {
                let path = format!("/proc/{}/ns/user", pid.as_raw_nonzero());
                Ok(open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?)
            });
            let _ = pidfd_send_signal(&pidfd, Signal::KILL);
            drop(writer);
            while let Err(Errno::INTR) = waitid(WaitId::PidFd(pidfd.as_fd()), WaitIdOptions::EXITED) {}
            made
        }
    }
}
