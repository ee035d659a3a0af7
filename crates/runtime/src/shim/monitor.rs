//! The shim's life: launch, watch, report, end.
//!
//! It answers one connection at a time in order, and outlives all of them: a daemon that is gone changes nothing for a
//! container that runs. Only a container that was never started ends with its daemon.
use std::{
    fs::File,
    io::{self, Write},
    os::{
        fd::{AsFd, OwnedFd},
        unix::fs::FileExt,
    },
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use corten_linux::process::exit_now;
use rustix::{
    fs::{AtFlags, Mode, OFlags, fcntl_setfl, open, openat, renameat, unlinkat},
    io::Errno,
    net::{SocketFlags, accept_with},
    process::{Pid, getpid},
};
use serde::Serialize;

use super::{
    connection::{listen_in, read_shim_plan, receive_request, send_any},
    execs::Execs,
    log::writer::Log,
    poll::{CONTAINER, Interest, Key, Poll, Ready},
    protocol::{Event, Exit, Failure, FailureKind, FromShim, Reply, TaskState, ToShim, files, level},
    stdio::Stdio,
};
use crate::{
    cgroup::oom::OomWatch,
    error::Context,
    hooks::{self, HookPlan, Moment, RuntimeHooks},
    process::{
        launch::{Birthplace, Child, clone_child, has_own_network},
        plan::ShimPlan,
    },
    state::start_ticks,
};

/// After this long without data, buffers are given back.
const REST_AFTER: Duration = Duration::from_secs(1);
/// A memory kill is counted a moment after it is announced: how long and how often it is looked for.
const OOM_LOOK: Duration = Duration::from_millis(200);
const OOM_LOOK_APART: Duration = Duration::from_millis(10);
/// How long attachers may take to fetch the last output of a container that has ended.
const LINGER: Duration = Duration::from_secs(30);

/// A fresh shim's whole life on its first connection.
///
/// `taken` tells the launcher, by being dropped, that it needs another shim in waiting: once the start is done, so that
/// making that one costs the start nothing.
pub(crate) fn run(connection: OwnedFd, birthplace: Birthplace, taken: OwnedFd) -> ! {
    let _ = rustix::thread::set_name(c"corten-shim");
    if let Ok(Some((ToShim::Launch, fds))) = receive_request(connection.as_fd()) {
        match launch(&connection, fds, birthplace) {
            Ok(monitor) => monitor.watch(connection, taken),
            Err(failure) => reply(&connection, Reply::Failed(failure), &[]),
        }
    }
    exit_now(0)
}

fn reply(connection: &OwnedFd, reply: Reply, fds: &[std::os::fd::BorrowedFd]) {
    let _ = send_any(connection.as_fd(), &FromShim::Reply(reply), fds);
}

struct Monitor {
    poll: Poll,
    directory: OwnedFd,
    state: TaskState,
    /// Open while the state may still change: between `Created` and `Started`.
    state_file: Option<File>,
    listener: OwnedFd,
    connections: Vec<(u32, OwnedFd)>,
    next_connection: u32,
    stdio: Stdio,
    child: Child,
    execs: Execs,
    /// Connections whose daemon knows the execs, and is told what becomes of them.
    followers: Vec<u32>,
    /// Those of them that do not keep up with what they are told.
    full: Vec<u32>,
    held: Vec<OwnedFd>,
    own_pid_namespace: bool,
    oom: OomMonitor,
    later_hooks: Option<Box<LaterHooks>>,
}

/// Memory kills while the container goes on.
struct OomMonitor {
    watch: Option<OomWatch>,
    /// How many have been told.
    told: u64,
    /// Until when one that was announced is looked for.
    awaited: Option<Instant>,
}

impl OomMonitor {
    /// A container whose memory kills cannot be watched still has them in its exit.
    fn new(child: &Child, poll: &Poll) -> OomMonitor {
        let watch = OomWatch::of(child.cgroup()).ok().flatten();
        let watch = watch.filter(|watch| {
            let added = match watch.is_urgent() {
                true => poll.add_urgent(watch.as_fd(), Key::OutOfMemory),
                false => poll.add(watch.as_fd(), Key::OutOfMemory, Interest::READ),
            };
            added.is_ok()
        });
        OomMonitor {
            watch,
            told: 0,
            awaited: None,
        }
    }
}

/// Hooks that run when the container does, or does no more; few containers have any.
struct LaterHooks {
    hooks: RuntimeHooks,
    host_network: Option<OwnedFd>,
}

impl LaterHooks {
    fn of(hooks: RuntimeHooks, host_network: Option<OwnedFd>) -> Option<Box<LaterHooks>> {
        let any = !(hooks.poststart.is_empty() && hooks.poststop.is_empty());
        any.then(|| Box::new(LaterHooks { hooks, host_network }))
    }

    fn started(&self, pid: i32) -> Result<(), Failure> {
        self.run(&self.hooks.poststart, "poststart", "running", Some(pid))
    }

    fn stopped(&self) -> Result<(), Failure> {
        self.run(&self.hooks.poststop, "poststop", "stopped", None)
    }

    fn run(&self, hooks: &[HookPlan], kind: &str, status: &str, pid: Option<i32>) -> Result<(), Failure> {
        let network = self.host_network.as_ref().map(|fd| fd.as_fd());
        let moment = Moment {
            kind,
            status,
            pid,
            network,
        };
        hooks::run(hooks, &self.hooks.story, moment)
    }
}

/// Makes the container, up to the point where only the program is missing.
fn launch(connection: &OwnedFd, fds: Vec<OwnedFd>, birthplace: Birthplace) -> Result<Monitor, Failure> {
    let mut fds = fds.into_iter();
    let file = fds.next().ok_or_else(|| Failure::invalid("a launch without a plan"))?;
    let (plan, child_offset) = read_shim_plan(file.as_fd()).context(|| "cannot read the plan")?;
    let directory = open(
        &plan.directory,
        OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
        Mode::empty(),
    )
    .context(|| format!("cannot open {}", plan.directory.display()))?;
    let same = directory.try_clone().context(|| "cannot set the shim up")?;
    let handed = fds.by_ref().take(plan.handed as usize).collect();
    let gifts = Gifts {
        handed,
        held: fds.collect(),
    };
    match set_up(connection, plan, same, &file, child_offset, gifts, birthplace) {
        Ok(monitor) => Ok(monitor),
        Err(failure) => {
            remove_files(&directory);
            Err(failure)
        }
    }
}

/// What came beside a plan.
struct Gifts {
    /// Mounts for the container.
    handed: Vec<OwnedFd>,
    /// What is to be there as long as the container, and for a daemon that comes back.
    held: Vec<OwnedFd>,
}

fn set_up(
    connection: &OwnedFd,
    plan: ShimPlan,
    directory: OwnedFd,
    file: &OwnedFd,
    child_offset: u64,
    gifts: Gifts,
    birthplace: Birthplace,
) -> Result<Monitor, Failure> {
    let at_home = birthplace.is_home(&plan);
    if at_home {
        show_network(connection, getpid());
    }
    let Gifts { handed, held } = gifts;
    let mut child = clone_child(&plan, file.as_fd(), child_offset, handed, &birthplace)?;
    let host_network = birthplace.host_network;
    if has_own_network(&plan) && !at_home {
        show_network(connection, child.pid);
    }
    // The child is at work: what follows costs no time of its own.
    let prepared = prepare(&plan, &directory, &child);
    child.wait_until_ready(|pid| {
        let moment = Moment {
            kind: "createRuntime",
            status: "creating",
            pid: Some(pid.as_raw_nonzero().get()),
            network: host_network.as_ref().map(|fd| fd.as_fd()),
        };
        hooks::run(&plan.hooks.create, &plan.hooks.story, moment)
    })?;
    let (poll, listener, log, state, state_file, oom) = prepared?;
    let say = || "cannot set the shim up";
    let stdio = Stdio::new(child.take_streams(), plan.open_stdin, plan.stdin_once, log, &poll).context(say)?;
    poll.add(child.pidfd.as_fd(), Key::Process, Interest::READ)
        .context(say)?;
    poll.add(listener.as_fd(), Key::Listener, Interest::READ).context(say)?;
    poll.add(connection.as_fd(), Key::Connection(0), Interest::READ)
        .context(say)?;
    // A daemon that does not read must not hold the container up.
    fcntl_setfl(connection, OFlags::NONBLOCK).context(say)?;
    const CLONE_NEWPID: u64 = 0x2000_0000;
    Ok(Monitor {
        poll,
        directory,
        state,
        state_file: Some(state_file),
        listener,
        connections: Vec::new(),
        next_connection: 1,
        stdio,
        child,
        execs: Execs::default(),
        followers: vec![0],
        full: Vec::new(),
        held,
        own_pid_namespace: plan.namespaces & CLONE_NEWPID != 0,
        oom,
        later_hooks: LaterHooks::of(plan.hooks, host_network),
    })
}

/// A daemon that is gone is found out later.
fn show_network(connection: &OwnedFd, process: Pid) {
    let pid = process.as_raw_nonzero().get();
    let _ = send_any(connection.as_fd(), &FromShim::Event(Event::Network { pid }), &[]);
}

type Prepared = (Poll, OwnedFd, Option<Log>, TaskState, File, OomMonitor);

fn prepare(plan: &ShimPlan, directory: &OwnedFd, child: &Child) -> Result<Prepared, Failure> {
    let say = || "cannot set the shim up";
    let poll = Poll::new().context(say)?;
    let listener = listen_in(directory.as_fd()).context(say)?;
    let log = match &plan.log {
        Some(plan) => Some(Log::open(plan).context(|| format!("cannot open the log {}", plan.path.display()))?),
        None => None,
    };
    let (pid, shim) = (child.pid.as_raw_nonzero().get(), getpid().as_raw_nonzero().get());
    let state = TaskState {
        pid,
        pid_start_ticks: start_ticks(pid).context(say)?,
        shim_pid: shim,
        shim_start_ticks: start_ticks(shim).context(say)?,
        started: false,
        terminal: plan.terminal,
        cgroup: child.cgroup().record(),
    };
    let state_file = write_file(directory, files::STATE, &state).context(say)?;
    let oom = OomMonitor::new(child, &poll);
    Ok((poll, listener, log, state, state_file, oom))
}

/// Whole or not at all: written beside and renamed.
fn write_file<T: Serialize>(directory: &OwnedFd, name: &str, value: &T) -> io::Result<File> {
    let bytes = postcard::to_allocvec(value).map_err(io::Error::other)?;
    let temporary = format!("{name}.new");
    let flags = OFlags::CREATE | OFlags::TRUNC | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut file = File::from(openat(directory, &temporary, flags, Mode::from_raw_mode(0o600))?);
    file.write_all(&bytes)?;
    renameat(directory, &temporary, directory, name)?;
    Ok(file)
}

/// A start that failed leaves its directory as it was.
fn remove_files(directory: &OwnedFd) {
    for name in [files::SOCKET, files::STATE] {
        let _ = unlinkat(directory, name, AtFlags::empty());
    }
}

impl Monitor {
    fn watch(mut self, connection: OwnedFd, taken: OwnedFd) -> ! {
        reply(
            &connection,
            Reply::Created(self.state.clone()),
            &[self.child.pidfd.as_fd()],
        );
        drop(taken);
        self.connections.push((0, connection));
        loop {
            let busy = self.stdio.busy || self.execs.is_busy();
            let patience = self.execs.patience();
            let look = self.oom.awaited.map(|_| OOM_LOOK_APART);
            let rest = busy.then_some(REST_AFTER);
            let timeout = [patience, look, rest].into_iter().flatten().min();
            let mut ready = Vec::new();
            let waited = self.poll.wait(timeout, |event| ready.push(event));
            match waited {
                Ok(true) => {}
                Ok(false) if patience.is_none() && look.is_none() => self.rest(),
                Ok(false) => {}
                Err(_) => exit_now(1),
            }
            let mut ended = false;
            for event in ready {
                ended |= self.handle(event);
            }
            self.execs.expire();
            self.tell_ends_of_execs();
            if ended {
                self.finish();
            }
            if self.oom.awaited.is_some() {
                self.look_for_memory_kills();
            }
        }
    }

    fn look_for_memory_kills(&mut self) {
        let kills = self.child.cgroup().oom_kills().unwrap_or(0);
        if kills <= self.oom.told {
            self.oom.awaited = self.oom.awaited.filter(|until| Instant::now() < *until);
            return;
        }
        self.oom.told = kills;
        self.oom.awaited = None;
        self.tell(Event::OutOfMemory);
    }

    /// True when the container's process has ended.
    fn handle(&mut self, ready: Ready) -> bool {
        match ready.key {
            _ if ready.owner != CONTAINER => {
                if let Some(event) = self.execs.handle(ready) {
                    // Whoever asked to be told has started it.
                    self.tell(event);
                }
            }
            Key::Process => return true,
            Key::Listener => self.accept(),
            Key::Connection(number) => {
                if ready.writable {
                    self.may_be_told_again(number);
                }
                if ready.readable || ready.hung_up {
                    self.handle_request(number);
                }
            }
            Key::OutOfMemory => {
                self.oom.watch.iter().for_each(OomWatch::acknowledge);
                self.oom.awaited = Some(Instant::now() + OOM_LOOK);
            }
            _ => self.stdio.handle(ready, &self.poll),
        }
        false
    }

    /// Gives memory back while nothing flows.
    fn rest(&mut self) {
        self.stdio.rest();
        self.execs.rest();
    }

    /// What every daemon that listens should know; one that does not keep up finds out by itself.
    fn tell(&self, event: Event) {
        let message = FromShim::Event(event);
        for (_, connection) in &self.connections {
            let _ = send_any(connection.as_fd(), &message, &[]);
        }
    }

    /// An exec is kept until somebody has heard of its end.
    fn tell_ends_of_execs(&mut self) {
        if self.followers.len() == self.full.len() {
            return;
        }
        for (number, event) in self.execs.untold() {
            let message = FromShim::Event(event);
            let mut told = false;
            let followers = self.connections.iter();
            for (connection_number, connection) in followers.filter(|(number, _)| self.followers.contains(number)) {
                match send_any(connection.as_fd(), &message, &[]) {
                    Ok(()) => told = true,
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                        self.full.push(*connection_number);
                    }
                    // It is gone, as will be seen soon.
                    Err(_) => {}
                }
            }
            self.mute_full_connections();
            if told {
                self.execs.told(number);
            } else {
                return;
            }
        }
    }

    /// Waits for room in connections that have none.
    fn mute_full_connections(&mut self) {
        const BOTH: Interest = Interest {
            read: true,
            write: true,
        };
        self.full.sort_unstable();
        self.full.dedup();
        for (number, connection) in &self.connections {
            if self.full.contains(number) {
                let _ = self.poll.change(connection.as_fd(), Key::Connection(*number), BOTH);
            }
        }
    }

    fn may_be_told_again(&mut self, number: u32) {
        self.full.retain(|full| *full != number);
        for (known, connection) in &self.connections {
            if *known == number {
                let _ = self
                    .poll
                    .change(connection.as_fd(), Key::Connection(number), Interest::READ);
            }
        }
    }

    fn accept(&mut self) {
        let Ok(connection) = accept_with(&self.listener, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK) else {
            return;
        };
        let number = self.next_connection;
        self.next_connection += 1;
        if self
            .poll
            .add(connection.as_fd(), Key::Connection(number), Interest::READ)
            .is_ok()
        {
            self.connections.push((number, connection));
        }
    }

    fn handle_request(&mut self, number: u32) {
        let Some(index) = self.connections.iter().position(|(known, _)| *known == number) else {
            return;
        };
        let (request, fds) = match receive_request(self.connections[index].1.as_fd()) {
            Ok(Some(request)) => request,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
            Ok(None) | Err(_) => {
                let (_, connection) = self.connections.swap_remove(index);
                self.poll.remove(connection.as_fd());
                self.full.retain(|full| *full != number);
                self.followers.retain(|follower| *follower != number);
                if self.connections.is_empty() && !self.child.is_started() {
                    // Nobody knows of this container, and nobody will start it.
                    self.abandon();
                }
                return;
            }
        };
        match request {
            ToShim::Hello => {
                let here = Reply::HereAt {
                    state: self.state.clone(),
                    level: level::PRESENT,
                };
                self.reply(index, here, true);
            }
            ToShim::Start => self.start(index),
            ToShim::Exec { id, confirm } => {
                let started = self.execs.start(id, confirm, fds, &self.child, &self.poll);
                let answer = match started {
                    Ok(pid) => Reply::ExecStarted { pid },
                    Err(failure) => Reply::Failed(failure),
                };
                self.reply(index, answer, false);
            }
            ToShim::NextExec { from } => {
                let next = self.execs.next(from);
                if next.is_none() && !self.followers.contains(&number) {
                    self.followers.push(number);
                }
                self.reply(index, Reply::NextExec(next), false);
            }
            ToShim::ShowHeld => {
                let held: Vec<_> = self.held.iter().map(|fd| fd.as_fd()).collect();
                reply(&self.connections[index].1, Reply::Held, &held);
            }
            other => {
                let answer = match self.carry_out(other, fds) {
                    Ok(()) => Reply::Done,
                    Err(failure) => Reply::Failed(failure),
                };
                self.reply(index, answer, false);
            }
        }
    }

    fn reply(&self, index: usize, answer: Reply, with_pidfd: bool) {
        let pidfd = [self.child.pidfd.as_fd()];
        reply(
            &self.connections[index].1,
            answer,
            if with_pidfd { &pidfd } else { &[] },
        );
    }

    fn start(&mut self, index: usize) {
        if self.child.is_started() {
            let failure = Failure::invalid("the container has been started already");
            return self.reply(index, Reply::Failed(failure), false);
        }
        // On disk before the process may run: it never runs unknown.
        self.state.started = true;
        if let Some(file) = self.state_file.take() {
            // The same length as before, for only a flag has changed.
            let _ = postcard::to_allocvec(&self.state).map(|bytes| file.write_all_at(&bytes, 0));
        }
        let later = self.later_hooks.as_ref();
        let started = self.child.start();
        let started = started.and_then(|()| later.map_or(Ok(()), |hooks| hooks.started(self.state.pid)));
        match started {
            Ok(()) => self.reply(index, Reply::Started, false),
            Err(failure) => {
                self.child.undo();
                remove_files(&self.directory);
                self.reply(index, Reply::Failed(failure), false);
                exit_now(0)
            }
        }
    }

    fn carry_out(&mut self, request: ToShim, fds: Vec<OwnedFd>) -> Result<(), Failure> {
        match request {
            ToShim::Attach { stdin, stdout, stderr } => {
                let fd = fds
                    .into_iter()
                    .next()
                    .ok_or_else(|| Failure::invalid("an attach without a socket"))?;
                self.stdio.attach(fd, [stdin, stdout, stderr], &self.poll);
                Ok(())
            }
            ToShim::Resize { rows, columns } => self
                .stdio
                .resize(rows, columns)
                .context(|| "cannot resize the terminal"),
            ToShim::Signal { number } => match self.child.signal(number) {
                Err(error) if error.raw_os_error() == Some(Errno::SRCH.raw_os_error()) => {
                    Err(Failure::new(FailureKind::Gone, "the container's process has ended"))
                }
                result => result.context(|| format!("cannot send signal {number}")),
            },
            ToShim::KillAll => self
                .child
                .cgroup()
                .kill_all()
                .map_err(|error| Failure::system("cannot kill the container", &error)),
            ToShim::ReopenLog => match &mut self.stdio.log {
                Some(log) => log.reopen().context(|| "cannot reopen the log"),
                None => Ok(()),
            },
            ToShim::LogDelivered => {
                self.stdio.look_at_log(&self.poll);
                Ok(())
            }
            ToShim::ResizeExec { id, rows, columns } => self.execs.find(&id)?.resize(rows, columns),
            ToShim::SignalExec { id, number } => self.execs.find(&id)?.signal(number),
            ToShim::Launch
            | ToShim::Hello
            | ToShim::Start
            | ToShim::Exec { .. }
            | ToShim::NextExec { .. }
            | ToShim::ShowHeld => Err(Failure::invalid("not now")),
        }
    }

    /// The container was made but never started, and the daemon that made it is gone.
    fn abandon(&mut self) -> ! {
        self.child.undo();
        remove_files(&self.directory);
        exit_now(0)
    }

    /// The first process has ended, and with it everything in its PID namespace.
    fn finish(mut self) -> ! {
        let code = self.child.wait().unwrap_or(255);
        let at_nanoseconds = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |since| since.as_nanos() as i64);
        // One that has not entered the cgroup yet would be missed there.
        self.execs.end_all();
        let mut reason = None;
        if !self.own_pid_namespace
            && let Err(error) = self.child.cgroup().kill_all()
        {
            reason = Some(format!("processes were left behind: {error}"));
        }
        self.stdio.drain(&self.poll);
        let out_of_memory = self.child.cgroup().oom_kills().is_ok_and(|kills| kills > 0);
        if let Err(error) = self.child.cgroup().delete() {
            reason = Some(format!("the cgroup was left behind: {error}"));
        }
        self.child.forget();
        if let Some(Err(failure)) = self.later_hooks.as_ref().map(|hooks| hooks.stopped()) {
            reason = Some(failure.message);
        }
        let exit = Exit {
            code,
            out_of_memory,
            at_nanoseconds,
            reason,
        };
        let _ = write_file(&self.directory, files::EXIT, &exit);
        self.tell_ends_of_execs();
        self.tell(Event::Exited(exit));
        self.linger();
        exit_now(0)
    }

    /// Slow attachers may still fetch what they have not taken.
    fn linger(&mut self) {
        let deadline = Instant::now() + LINGER;
        while self.stdio.is_behind() || self.execs.is_behind() {
            let left = deadline.saturating_duration_since(Instant::now());
            let mut ready = Vec::new();
            if left.is_zero() || !self.poll.wait(Some(left), |event| ready.push(event)).unwrap_or(false) {
                return;
            }
            for event in ready {
                match event.key {
                    _ if event.owner != CONTAINER => drop(self.execs.handle(event)),
                    Key::Attacher(_) => self.stdio.handle(event, &self.poll),
                    Key::Process => self.poll.remove(self.child.pidfd.as_fd()),
                    Key::Listener => self.poll.remove(self.listener.as_fd()),
                    Key::Connection(number) => {
                        self.connections.retain(|(known, _)| *known != number);
                    }
                    _ => {}
                }
            }
        }
    }
}
