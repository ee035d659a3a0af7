//! What every process of a container goes through before its program: limits, user, capabilities, filter.
//!
//! The order matters and is the caller's: limits while we may raise them, the user before capabilities go, the filter
//! last of all.
use std::{ffi::CString, fs, io, os::fd::BorrowedFd};

use corten_linux::{process, seccomp};
use rustix::{
    fs::{FileType, Gid, Uid, fchown, fstat, makedev},
    io::Errno,
    process::{DumpableBehavior, Pid, Resource, Rlimit, getcwd, ioctl_tiocsctty, prlimit, set_dumpable_behavior},
    thread::{
        CapabilitySet, CapabilitySets, capabilities, configure_capability_in_ambient_set,
        remove_capability_from_bounding_set, set_capabilities, set_keep_capabilities, set_no_new_privs,
        set_thread_groups, set_thread_res_gid, set_thread_res_uid,
    },
};

use crate::{
    error::Context,
    process::{channel::CHANNEL, identity::Identity, plan::Capabilities},
    security::filter::Filter,
    shim::protocol::Failure,
};

/// Through the host's own /proc, which nobody can have tampered with.
pub(crate) fn set_oom_score(adjustment: Option<i32>) -> Result<(), Failure> {
    let Some(adjustment) = adjustment else { return Ok(()) };
    let say = || format!("cannot set oom_score_adj to {adjustment}");
    match fs::write("/proc/self/oom_score_adj", adjustment.to_string()) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            let hint = "lowering it needs CAP_SYS_RESOURCE, which the daemon lacks";
            Err(Failure::invalid(format!("{}: {error} ({hint})", say())))
        }
        result => result.context(say),
    }
}

const RESOURCES: [(Resource, &str); 16] = [
    (Resource::Cpu, "cpu"),
    (Resource::Fsize, "fsize"),
    (Resource::Data, "data"),
    (Resource::Stack, "stack"),
    (Resource::Core, "core"),
    (Resource::Rss, "rss"),
    (Resource::Nproc, "nproc"),
    (Resource::Nofile, "nofile"),
    (Resource::Memlock, "memlock"),
    (Resource::As, "as"),
    (Resource::Locks, "locks"),
    (Resource::Sigpending, "sigpending"),
    (Resource::Msgqueue, "msgqueue"),
    (Resource::Nice, "nice"),
    (Resource::Rtprio, "rtprio"),
    (Resource::Rttime, "rttime"),
];

/// Of a process, or of this one.
pub(crate) fn set_limits(process: Option<Pid>, limits: &[(u8, u64, u64)]) -> Result<(), Failure> {
    let finite = |value: u64| (value != u64::MAX).then_some(value);
    for &(number, soft, hard) in limits {
        let (resource, name) = RESOURCES[usize::from(number)];
        prlimit(
            process,
            resource,
            Rlimit {
                current: finite(soft),
                maximum: finite(hard),
            },
        )
        .map_err(|errno| {
            let hint = match errno {
                Errno::PERM => " (raising a hard limit needs CAP_SYS_RESOURCE, which the daemon lacks)",
                _ => "",
            };
            let what = format!("cannot set ulimit {name} to {soft}:{hard}");
            Failure::invalid(format!("{what}: {}{hint}", io::Error::from(errno)))
        })?;
    }
    Ok(())
}

/// Makes a terminal the session's, and its standard streams.
pub(crate) fn take_terminal(theirs: BorrowedFd) -> io::Result<()> {
    ioctl_tiocsctty(theirs)?;
    for number in 0..CHANNEL {
        // SAFETY: nobody owns the standard streams.
        unsafe { process::place(theirs, number, true)? };
    }
    Ok(())
}

/// So that `/dev/stdout` can be opened by a user who is not root. The null device stays as it is.
pub(crate) fn own_streams(uid: u32) {
    if uid == 0 {
        return;
    }
    let streams: [BorrowedFd; 3] = [rustix::stdio::stdin(), rustix::stdio::stdout(), rustix::stdio::stderr()];
    for stream in streams {
        let Ok(found) = fstat(stream) else { continue };
        let null =
            FileType::from_raw_mode(found.st_mode) == FileType::CharacterDevice && found.st_rdev == makedev(1, 3);
        if !null && found.st_uid != uid {
            let _ = fchown(stream, Some(Uid::from_raw(uid)), None);
        }
    }
}

/// The root of the user namespace: whatever is made from now on is the container's.
pub(crate) fn become_root() -> Result<(), Failure> {
    let say = || "cannot become root of the user namespace";
    set_thread_groups(&[]).context(say)?;
    set_thread_res_gid(Gid::ROOT, Gid::ROOT, Gid::ROOT).context(say)?;
    set_thread_res_uid(Uid::ROOT, Uid::ROOT, Uid::ROOT).context(say)?;
    // A change of user lets fs.suid_dumpable decide anew who may look into this process.
    set_dumpable_behavior(DumpableBehavior::NotDumpable).context(say)
}

/// A working directory like /proc/self/fd/7 would leave the process standing outside of its root.
pub(crate) fn stand_within_root() -> Result<(), Failure> {
    let say = || "the working directory is outside of the container";
    let here = getcwd(Vec::new()).context(say)?;
    if here.as_bytes().starts_with(b"/") {
        Ok(())
    } else {
        Err(Failure::invalid(say()))
    }
}

/// Becomes the user, keeping for the moment what is needed to limit itself further.
pub(crate) fn assume(identity: &Identity, bounding: u64) -> Result<(), Failure> {
    let say = || format!("cannot become user {} of group {}", identity.uid, identity.gid);
    set_keep_capabilities(true).context(say)?;
    drop_bounding_set(bounding).context(|| "cannot limit capabilities")?;
    let groups: Vec<_> = identity.groups.iter().map(|&gid| Gid::from_raw(gid)).collect();
    let (uid, gid) = (Uid::from_raw(identity.uid), Gid::from_raw(identity.gid));
    set_thread_groups(&groups)
        .and_then(|()| set_thread_res_gid(gid, gid, gid))
        .and_then(|()| set_thread_res_uid(uid, uid, uid))
        .map_err(|errno| match errno {
            Errno::INVAL => Failure::invalid(format!("{}: not in the container's user namespace", say())),
            errno => Failure::system(say(), &io::Error::from(errno)),
        })
}

fn drop_bounding_set(keep: u64) -> io::Result<()> {
    for number in 0..64 {
        let capability = CapabilitySet::from_bits_retain(1 << number);
        if keep & capability.bits() == 0 {
            match remove_capability_from_bounding_set(capability) {
                Ok(()) => {}
                // Beyond the last one that the kernel knows.
                Err(Errno::INVAL) => break,
                Err(error) => return Err(error.into()),
            }
        }
    }
    Ok(())
}

/// The last steps. A filter without no_new_privs takes CAP_SYS_ADMIN, so that one goes after the filter.
pub(crate) fn drop_privileges(
    wanted: &Capabilities,
    no_new_privileges: bool,
    filter: Option<&Filter>,
) -> Result<(), Failure> {
    let say = || "cannot set capabilities";
    let held = capabilities(None).context(say)?.permitted;
    let set = |bits: u64| CapabilitySet::from_bits_retain(bits) & held;
    let last = CapabilitySets {
        effective: set(wanted.effective),
        permitted: set(wanted.permitted),
        inheritable: set(wanted.inheritable),
    };
    let with_admin = CapabilitySets {
        effective: last.effective | held & CapabilitySet::SYS_ADMIN,
        permitted: last.permitted | held & CapabilitySet::SYS_ADMIN,
        ..last
    };
    let admin_for_filter = filter.is_some() && !no_new_privileges;
    set_capabilities(None, if admin_for_filter { with_admin } else { last }).context(say)?;
    for capability in set(wanted.ambient & wanted.inheritable & wanted.permitted).iter() {
        configure_capability_in_ambient_set(capability, true).context(say)?;
    }
    if no_new_privileges {
        set_no_new_privs(true).context(|| "cannot set no_new_privs")?;
    }
    if let Some(filter) = filter {
        seccomp::set_filter(&filter.program, filter.flags).context(|| "cannot load the seccomp filter")?;
    }
    if admin_for_filter && with_admin != last {
        set_capabilities(None, last).context(say)?;
    }
    Ok(())
}

pub(crate) fn vector(strings: &[String]) -> process::Vector {
    let strings = strings
        .iter()
        .map(|string| CString::new(string.as_str()).expect("the plan's strings have no NUL"));
    process::Vector::new(strings.collect())
}

pub(crate) fn with_home(mut environment: Vec<String>, home: &str) -> Vec<String> {
    if !environment.iter().any(|variable| variable.starts_with("HOME=")) {
        environment.push(format!("HOME={}", home.replace('\0', "")));
    }
    environment
}
