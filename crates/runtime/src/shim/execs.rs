//! The further processes of a container, all of them, beside its first.
//!
//! An exec that has ended is forgotten as soon as a daemon has been told; while no daemon listens it waits for the next.
use std::{
    collections::BTreeMap,
    os::fd::{AsFd, OwnedFd},
    time::{Duration, Instant},
};

use rustix::process::Signal;

use super::{
    exec::{Exec, News},
    poll::{OWNERS, Poll, Ready},
    protocol::{Event, ExecId, ExecState, Failure, FailureKind},
};
use crate::{
    error::Context,
    process::{exec::ExecPlan, join::Door, launch::Child},
};

#[derive(Default)]
pub(crate) struct Execs {
    /// Open since the first exec.
    door: Option<Door>,
    all: BTreeMap<u32, Exec>,
    last: u32,
}

impl Execs {
    /// Starts one; its process's number when it exists.
    pub fn start(
        &mut self,
        id: ExecId,
        confirm: bool,
        fds: Vec<OwnedFd>,
        container: &Child,
        poll: &Poll,
    ) -> Result<i32, Failure> {
        if !container.is_started() {
            return Err(Failure::new(FailureKind::Gone, "the container does not run"));
        }
        let mut fds = fds.into_iter();
        let memfd = fds.next().ok_or_else(|| Failure::invalid("an exec without a plan"))?;
        let plan = ExecPlan::read(memfd.as_fd()).context(|| "cannot read the plan")?;
        if self.door.is_none() {
            self.door = Some(Door::open(container.pidfd.as_fd())?);
        }
        let door = self.door.as_ref().expect("it was just opened");
        let joined = door.join(container, &plan)?;
        let number = self.next_number();
        let exec = Exec::new((number, id), joined, plan, fds.next(), confirm, poll.of(number))
            .context(|| "cannot watch the process")?;
        let pid = exec.pid();
        self.all.insert(number, exec);
        Ok(pid)
    }

    fn next_number(&mut self) -> u32 {
        loop {
            self.last = (self.last + 1) % OWNERS;
            if self.last != 0 && !self.all.contains_key(&self.last) {
                return self.last;
            }
        }
    }

    /// Deals with what happened at one of their descriptors; what there is to tell.
    pub fn handle(&mut self, ready: Ready) -> Option<Event> {
        let exec = self.all.get_mut(&ready.owner)?;
        let event = match exec.handle(ready) {
            News::Runs => Some(Event::ExecRuns { id: *exec.id() }),
            // Told by `untold`, as often as it takes.
            News::Nothing | News::Ended => None,
        };
        self.forget_if_over(ready.owner);
        event
    }

    /// Those whose end nobody knows yet.
    pub fn untold(&self) -> Vec<(u32, Event)> {
        let ended = self.all.iter();
        ended
            .filter_map(|(number, exec)| Some((*number, Event::ExecEnded(exec.exit()?.clone()))))
            .collect()
    }

    /// Somebody has been told how it ended.
    pub fn told(&mut self, number: u32) {
        if let Some(exec) = self.all.get_mut(&number) {
            exec.take_exit();
        }
        self.forget_if_over(number);
    }

    fn forget_if_over(&mut self, number: u32) {
        if self.all.get(&number).is_some_and(Exec::is_over) {
            self.all.remove(&number);
        }
    }

    /// The first whose number is at least this one, for a daemon that comes back.
    pub fn next(&mut self, from: u32) -> Option<ExecState> {
        let (number, exec) = self
            .all
            .range(from..)
            .find(|(_, exec)| !exec.has_ended() || exec.exit().is_some())?;
        let (number, state) = (*number, exec.state());
        self.told(number);
        Some(state)
    }

    pub fn find(&mut self, id: &ExecId) -> Result<&mut Exec, Failure> {
        let mut living = self.all.values_mut().filter(|exec| !exec.has_ended());
        living
            .find(|exec| exec.id() == id)
            .ok_or_else(|| Failure::new(FailureKind::Gone, "the process has ended"))
    }

    /// How long nothing need be done for them of its own accord.
    pub fn patience(&self) -> Option<Duration> {
        let first = self.all.values().filter_map(Exec::deadline).min()?;
        Some(first.saturating_duration_since(Instant::now()))
    }

    /// Closes the streams of those whose children have printed long enough.
    pub fn expire(&mut self) {
        let now = Instant::now();
        let late = |exec: &Exec| exec.deadline().is_some_and(|deadline| deadline <= now);
        let expired: Vec<u32> = self
            .all
            .iter()
            .filter(|(_, exec)| late(exec))
            .map(|(number, _)| *number)
            .collect();
        for number in expired {
            if let Some(exec) = self.all.get_mut(&number) {
                exec.close();
            }
            self.forget_if_over(number);
        }
    }

    pub fn is_busy(&self) -> bool {
        self.all.values().any(Exec::is_busy)
    }

    pub fn rest(&mut self) {
        self.all.values_mut().for_each(Exec::rest);
    }

    /// The container has ended, and they with it.
    pub fn end_all(&mut self) {
        for exec in self.all.values_mut() {
            if !exec.has_ended() {
                let _ = exec.signal(Signal::KILL.as_raw());
                exec.end();
            }
            exec.close();
        }
    }

    /// Do clients still have output to take?
    pub fn is_behind(&self) -> bool {
        self.all.values().any(Exec::is_behind)
    }
}
