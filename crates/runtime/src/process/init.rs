//! The child, from clone to exec.
//!
//! It is a copy of a single-threaded shim, so it may allocate and use std. It never returns: whatever fails is told to
//! the shim in one sentence, and the process ends.
use std::{
    ffi::CString,
    fs,
    io::{self, Read, Seek},
    os::fd::{AsFd, BorrowedFd, OwnedFd, RawFd},
    path::Path,
};

use corten_linux::{namespace, process, seccomp, signal};
use rustix::{
    fs::{FileType, Gid, Mode, OFlags, Uid, fchown, fstat, makedev, open},
    io::Errno,
    process::{
        DumpableBehavior, Resource, Rlimit, chdir, fchdir, getcwd, ioctl_tiocsctty, set_dumpable_behavior, setrlimit,
        setsid, umask,
    },
    system::{setdomainname, sethostname},
    thread::{
        CapabilitySet, CapabilitySets, capabilities, configure_capability_in_ambient_set,
        remove_capability_from_bounding_set, set_capabilities, set_keep_capabilities, set_no_new_privs,
        set_thread_groups, set_thread_res_gid, set_thread_res_uid,
    },
};

use crate::{
    cgroup::manager::Cgroup,
    error::Context,
    process::{
        channel::{self, FromChild},
        execute,
        identity::{self, Identity},
        plan::{Capabilities, ChildPlan},
    },
    rootfs::{devices, mask, mounts, pivot},
    shim::protocol::{CgroupRecord, Failure, FailureKind},
};

/// What the shim hands its child. The descriptors are the shim's own, copied.
pub(crate) struct Inheritance<'a> {
    pub plan: BorrowedFd<'a>,
    /// Where the child's part begins in the plan's file.
    pub plan_offset: u64,
    pub channel: BorrowedFd<'a>,
    /// stdin, stdout, stderr.
    pub stdio: [BorrowedFd<'a>; 3],
    /// Was the network namespace made ahead of time?
    pub loopback_is_up: bool,
}

const CHANNEL: RawFd = 3;

/// What a shell says of a program that could not be executed.
const EXIT_CODE: i32 = 127;

/// Does everything in the plan and becomes the program.
pub(crate) fn run(inheritance: Inheritance) -> ! {
    let offset = inheritance.plan_offset;
    let Ok((channel, plan)) = settle(&inheritance) else {
        process::exit_now(EXIT_CODE)
    };
    let failure = match become_program(plan, offset, channel.as_fd(), inheritance.loopback_is_up) {
        Ok(never) => match never {},
        Err(failure) => failure,
    };
    let _ = channel::tell(channel.as_fd(), &FromChild::Failed(failure), &[]);
    process::exit_now(EXIT_CODE)
}

/// Leaves the child with five descriptors: its streams, the channel and the plan. The shim's own are closed, or a
/// waiting child would outlive a killed shim.
fn settle(inheritance: &Inheritance) -> io::Result<(OwnedFd, OwnedFd)> {
    for (number, stream) in (0..).zip(inheritance.stdio) {
        // SAFETY: nobody owns the standard streams.
        unsafe { process::place(stream, number, true)? };
    }
    // SAFETY: this process is a copy of the shim: what it holds besides is the shim's, and the caller never returns into
    // code that uses it.
    let mut kept = unsafe { process::keep_only(&[inheritance.channel, inheritance.plan], CHANNEL)? };
    signal::set_default(rustix::process::Signal::PIPE.as_raw());
    signal::set_default(rustix::process::Signal::CHILD.as_raw());
    let plan = kept.pop().ok_or(io::ErrorKind::NotFound)?;
    let channel = kept.pop().ok_or(io::ErrorKind::NotFound)?;
    Ok((channel, plan))
}

enum Never {}

fn become_program(plan: OwnedFd, offset: u64, channel: BorrowedFd, loopback_is_up: bool) -> Result<Never, Failure> {
    let plan = read_plan(plan, offset).context(|| "cannot read the plan")?;
    let _ = set_dumpable_behavior(DumpableBehavior::NotDumpable);
    let null = devices::null().context(|| "cannot open /dev/null")?;
    enter_namespaces(&plan, loopback_is_up)?;
    write_host_files(&plan)?;
    set_limits(&plan)?;
    umask(Mode::empty());
    let sources = mounts::open_sources(&plan)?;
    mounts::cut_off()?;
    let mut cgroup = CgroupGate {
        channel,
        new_namespace: plan.new_cgroup_namespace,
        record: None,
    };
    let root = mounts::assemble(&plan, sources, &mut cgroup)?;
    cgroup.enter()?;
    devices::make(&plan, root.as_fd())?;
    let terminal = plan
        .terminal
        .map(|size| devices::console(size, root.as_fd()))
        .transpose()?;
    mask::apply(&plan, root.as_fd(), null.as_fd())?;
    pivot::pivot(root.as_fd())?;
    setsid().context(|| "cannot make a session")?;
    if let Some((_, theirs)) = &terminal {
        take_terminal(theirs.as_fd()).context(|| "cannot take the terminal")?;
    }
    let identity = identity::look_up(root.as_fd(), &plan.user, &plan.additional_groups)?;
    own_streams(identity.uid);
    // No directory stays open: /proc/self/fd/N is no way into any.
    drop((root, null));
    umask(Mode::from_raw_mode(plan.umask));
    let arrived = go_to_working_directory(&plan);
    assume(&identity, &plan)?;
    if let Err(failure) = arrived {
        // The user may be allowed where root without capabilities is not.
        chdir(&plan.working_directory).map_err(|_| failure)?;
    }
    stand_within_root()?;
    let program = execute::find(&plan.arguments[0], &plan.environment)?;
    let arguments = vector(&plan.arguments);
    let environment = vector(&with_home(plan.environment, &identity.home));
    let fds: Vec<_> = terminal
        .iter()
        .flat_map(|(ours, theirs)| [ours.as_fd(), theirs.as_fd()])
        .collect();
    channel::tell(channel, &FromChild::Ready, &fds).context(|| "cannot speak to the shim")?;
    if !channel::wait_for_release(channel).unwrap_or(false) {
        process::exit_now(EXIT_CODE);
    }
    process::close_range_on_exec(CHANNEL).context(|| "cannot mark descriptors")?;
    drop_privileges(&plan.capabilities, plan.no_new_privileges, plan.filter.as_ref())?;
    Err(execute::execute(&program, &arguments, &environment))
}

/// The way into the container's cgroup, taken when it is needed and at the latest before anything of the container can
/// run.
pub(crate) struct CgroupGate<'a> {
    channel: BorrowedFd<'a>,
    new_namespace: bool,
    record: Option<CgroupRecord>,
}

impl CgroupGate<'_> {
    pub fn enter(&mut self) -> Result<&CgroupRecord, Failure> {
        const CLONE_NEWCGROUP: u64 = 0x0200_0000;
        if self.record.is_none() {
            let say = || "cannot hear from the shim";
            let Some(record) = channel::wait_for_cgroup(self.channel).context(say)? else {
                return Err(Failure::new(FailureKind::System, say()));
            };
            Cgroup::open(&record)
                .and_then(|cgroup| cgroup.enter_legacy(0))
                .map_err(|error| Failure::system("cannot enter the cgroup", &error))?;
            if self.new_namespace {
                // Only now: its root is where its maker is.
                namespace::unshare(CLONE_NEWCGROUP).context(|| "cannot make a cgroup namespace")?;
            }
            self.record = Some(record);
        }
        Ok(self.record.as_ref().expect("it was just put there"))
    }
}

fn read_plan(plan: OwnedFd, offset: u64) -> io::Result<ChildPlan> {
    let mut file = fs::File::from(plan);
    let mut bytes = Vec::new();
    file.seek(io::SeekFrom::Start(offset))?;
    file.read_to_end(&mut bytes)?;
    postcard::from_bytes(&bytes).map_err(io::Error::other)
}

fn enter_namespaces(plan: &ChildPlan, loopback_is_up: bool) -> Result<(), Failure> {
    for (kind, path) in &plan.join {
        let say = || format!("cannot join the namespace {}", path.display());
        let fd = open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).context(say)?;
        namespace::enter(fd.as_fd(), *kind).context(say)?;
    }
    if plan.loopback && !loopback_is_up {
        namespace::bring_loopback_up().context(|| "cannot bring the loopback interface up")?;
    }
    if let Some(name) = &plan.hostname {
        sethostname(name.as_bytes()).context(|| format!("cannot set the hostname {name:?}"))?;
    }
    if let Some(name) = &plan.domainname {
        setdomainname(name.as_bytes()).context(|| format!("cannot set the domain name {name:?}"))?;
    }
    Ok(())
}

/// Through the host's own /proc, which nobody can have tampered with; sysctls go to this process's namespaces.
fn write_host_files(plan: &ChildPlan) -> Result<(), Failure> {
    if let Some(adjustment) = plan.oom_score_adj {
        match fs::write("/proc/self/oom_score_adj", adjustment.to_string()) {
            // Lowering it takes CAP_SYS_RESOURCE, which a host may withhold from us.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {}
            result => result.context(|| format!("cannot set oom_score_adj to {adjustment}"))?,
        }
    }
    for (path, value) in &plan.sysctls {
        fs::write(Path::new("/proc/sys").join(path), value)
            .context(|| format!("cannot set sysctl {} to {value:?}", path.replace('/', ".")))?;
    }
    Ok(())
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

fn set_limits(plan: &ChildPlan) -> Result<(), Failure> {
    let finite = |value: u64| (value != u64::MAX).then_some(value);
    for &(number, soft, hard) in &plan.rlimits {
        let (resource, name) = RESOURCES[usize::from(number)];
        setrlimit(
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

fn take_terminal(theirs: BorrowedFd) -> io::Result<()> {
    ioctl_tiocsctty(theirs)?;
    for number in 0..CHANNEL {
        // SAFETY: nobody owns the standard streams.
        unsafe { process::place(theirs, number, true)? };
    }
    Ok(())
}

/// So that `/dev/stdout` can be opened by a user who is not root. The null device stays as it is.
fn own_streams(uid: u32) {
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

fn go_to_working_directory(plan: &ChildPlan) -> Result<(), Failure> {
    let path = &plan.working_directory;
    let say = || format!("cannot change to the working directory {}", path.display());
    match chdir(path) {
        Err(Errno::NOENT) if plan.create_working_directory => {
            let root = open("/", OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).context(say)?;
            let made = corten_linux::fd::ensure(root.as_fd(), path, corten_linux::fd::Make::Directory).context(say)?;
            fchdir(made).context(say)
        }
        result => result.context(say),
    }
}

/// A working directory like /proc/self/fd/7 would leave the process standing outside of its root.
fn stand_within_root() -> Result<(), Failure> {
    let say = || "the working directory is outside of the container";
    let here = getcwd(Vec::new()).context(say)?;
    if here.as_bytes().starts_with(b"/") {
        Ok(())
    } else {
        Err(Failure::invalid(say()))
    }
}

/// Becomes the user, keeping for the moment what is needed to limit itself further.
fn assume(identity: &Identity, plan: &ChildPlan) -> Result<(), Failure> {
    let say = || format!("cannot become user {} of group {}", identity.uid, identity.gid);
    set_keep_capabilities(true).context(say)?;
    drop_bounding_set(plan.capabilities.bounding).context(|| "cannot limit capabilities")?;
    let groups: Vec<_> = identity.groups.iter().map(|&gid| Gid::from_raw(gid)).collect();
    set_thread_groups(&groups).context(say)?;
    let (uid, gid) = (Uid::from_raw(identity.uid), Gid::from_raw(identity.gid));
    set_thread_res_gid(gid, gid, gid).context(say)?;
    set_thread_res_uid(uid, uid, uid).context(say)
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
fn drop_privileges(
    wanted: &Capabilities,
    no_new_privileges: bool,
    filter: Option<&crate::security::filter::Filter>,
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

fn vector(strings: &[String]) -> process::Vector {
    let strings = strings
        .iter()
        .map(|string| CString::new(string.as_str()).expect("the plan's strings have no NUL"));
    process::Vector::new(strings.collect())
}

fn with_home(mut environment: Vec<String>, home: &str) -> Vec<String> {
    if !environment.iter().any(|variable| variable.starts_with("HOME=")) {
        environment.push(format!("HOME={}", home.replace('\0', "")));
    }
    environment
}
