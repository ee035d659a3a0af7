//! The child, from clone to exec.
//!
//! It is a copy of a single-threaded shim, so it may allocate and use std. It never returns: whatever fails is told to
//! the shim in one sentence, and the process ends.
use std::{
    fs,
    io::{self, Read, Seek},
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::Path,
};

use corten_linux::{namespace, process, signal};
use rustix::{
    fs::{Mode, OFlags, open},
    io::Errno,
    process::{DumpableBehavior, chdir, fchdir, getpid, set_dumpable_behavior, setsid, umask},
    system::{setdomainname, sethostname},
};

use crate::{
    error::Context,
    hooks::{self, ContainerHooks, Moment},
    process::{
        channel::{self, CHANNEL, FromChild},
        confine::{
            assume, become_root, drop_privileges, own_streams, set_limits, set_oom_score, stand_within_root,
            take_terminal, vector, with_home,
        },
        execute::{self, EXIT_CODE},
        gate::Gate,
        identity,
        plan::ChildPlan,
    },
    rootfs::{
        devices, mask,
        mounts::{self, Sources},
        pivot, traces,
    },
    shim::protocol::Failure,
};

/// What the shim hands its child. The descriptors are the shim's own, copied.
pub(crate) struct Inheritance<'a> {
    pub plan: BorrowedFd<'a>,
    /// Where the child's part begins in the plan's file.
    pub plan_offset: u64,
    pub channel: BorrowedFd<'a>,
    /// stdin, stdout, stderr.
    pub stdio: [BorrowedFd<'a>; 3],
    /// Detached mounts that came with the plan.
    pub handed: &'a [OwnedFd],
    /// Was the network namespace made ahead of time?
    pub loopback_is_up: bool,
}

/// Does everything in the plan and becomes the program.
pub(crate) fn run(inheritance: Inheritance) -> ! {
    let offset = inheritance.plan_offset;
    let Ok(kept) = settle(&inheritance) else {
        process::exit_now(EXIT_CODE)
    };
    let channel = kept.channel;
    let (plan, handed) = (kept.plan, kept.handed);
    let failure = match become_program(plan, offset, channel.as_fd(), handed, inheritance.loopback_is_up) {
        Ok(never) => match never {},
        Err(failure) => failure,
    };
    let _ = channel::tell(channel.as_fd(), &FromChild::Failed(failure), &[]);
    process::exit_now(EXIT_CODE)
}

/// What the child has left of the shim's, beside its streams.
struct Kept {
    channel: OwnedFd,
    plan: OwnedFd,
    handed: Vec<OwnedFd>,
}

/// Leaves the child with its streams, the channel, the plan and the mounts that belong to it. The shim's own are closed,
/// or a waiting child would outlive a killed shim.
fn settle(inheritance: &Inheritance) -> io::Result<Kept> {
    for (number, stream) in (0..).zip(inheritance.stdio) {
        // SAFETY: nobody owns the standard streams.
        unsafe { process::place(stream, number, true)? };
    }
    let mut keep = vec![inheritance.channel, inheritance.plan];
    keep.extend(inheritance.handed.iter().map(|mount| mount.as_fd()));
    // SAFETY: this process is a copy of the shim: what it holds besides is the shim's, and the caller never returns into
    // code that uses it.
    let mut kept = unsafe { process::keep_only(&keep, CHANNEL)? }.into_iter();
    signal::set_default(rustix::process::Signal::PIPE.as_raw());
    signal::set_default(rustix::process::Signal::CHILD.as_raw());
    Ok(Kept {
        channel: kept.next().ok_or(io::ErrorKind::NotFound)?,
        plan: kept.next().ok_or(io::ErrorKind::NotFound)?,
        handed: kept.collect(),
    })
}

enum Never {}

fn become_program(
    plan: OwnedFd,
    offset: u64,
    channel: BorrowedFd,
    handed: Vec<OwnedFd>,
    loopback_is_up: bool,
) -> Result<Never, Failure> {
    let plan = plan_at(plan, offset).context(|| "cannot read the plan")?;
    let _ = set_dumpable_behavior(DumpableBehavior::NotDumpable);
    let null = devices::null().context(|| "cannot open /dev/null")?;
    enter_namespaces(&plan, loopback_is_up)?;
    umask(Mode::empty());
    let mut gate = Gate::new(channel, &plan);
    let sources = if plan.user_namespace {
        // Until the shim has introduced us we are nobody.
        gate.enter_cgroup()?;
        become_root()?;
        write_host_files(&plan)?;
        Sources::received(&plan, handed)?
    } else {
        write_host_files(&plan)?;
        set_limits(None, &plan.rlimits)?;
        mounts::open_sources(&plan, handed)?
    };
    mounts::cut_off()?;
    let root = mounts::assemble(&plan, sources, &mut gate)?;
    gate.enter_cgroup()?;
    if plan.traces {
        traces::leave(root.as_fd());
    }
    devices::make(&plan, root.as_fd())?;
    let terminal = plan
        .terminal
        .map(|size| devices::console(size, root.as_fd()))
        .transpose()?;
    mask::apply(&plan, root.as_fd(), null.as_fd())?;
    run_create_hooks(&plan.hooks, channel)?;
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
    assume(&identity, plan.capabilities.bounding)?;
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
    hooks::run(
        &plan.hooks.start,
        &plan.hooks.story,
        moment("startContainer", "created"),
    )?;
    Err(execute::execute(&program, &arguments, &environment))
}

/// Lets the shim's hooks run, and then those that belong into the container's namespaces.
fn run_create_hooks(hooks: &ContainerHooks, channel: BorrowedFd) -> Result<(), Failure> {
    if hooks.shim_is_waited_for {
        channel::tell(channel, &FromChild::Assembled, &[]).context(|| "cannot speak to the shim")?;
        if !channel::wait_for_release(channel).unwrap_or(false) {
            process::exit_now(EXIT_CODE);
        }
    }
    if hooks.create.is_empty() {
        return Ok(());
    }
    let before = umask(Mode::from_raw_mode(0o022));
    let result = hooks::run(&hooks.create, &hooks.story, moment("createContainer", "creating"));
    umask(before);
    result
}

/// For hooks that this process runs: it names itself.
fn moment<'a>(kind: &'a str, status: &'a str) -> Moment<'a> {
    Moment {
        kind,
        status,
        pid: Some(getpid().as_raw_nonzero().get()),
        network: None,
    }
}

fn plan_at(plan: OwnedFd, offset: u64) -> io::Result<ChildPlan> {
    let mut file = fs::File::from(plan);
    file.seek(io::SeekFrom::Start(offset))?;
    read_plan(file)
}

/// From where the file stands.
pub(crate) fn read_plan(mut file: fs::File) -> io::Result<ChildPlan> {
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    postcard::from_bytes(&bytes).map_err(io::Error::other)
}

fn enter_namespaces(plan: &ChildPlan, loopback_is_up: bool) -> Result<(), Failure> {
    // Of a container in a user namespace, the shim has joined them.
    for (kind, path) in plan.join.iter().filter(|_| !plan.user_namespace) {
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
    set_oom_score(plan.oom_score_adj.filter(|_| !plan.user_namespace))?;
    for (path, value) in &plan.sysctls {
        fs::write(Path::new("/proc/sys").join(path), value)
            .context(|| format!("cannot set sysctl {} to {value:?}", path.replace('/', ".")))?;
    }
    Ok(())
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
