//! All execs, by id. Those that have ended are remembered for a while, so that their exit codes can be asked for.
//!
//! Bounded whatever clients do: old ends give way to new ones, and so do execs that nobody starts.
use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::time::Instant;

use crate::{
    container::exec::{Exec, Phase},
    error::{Error, Result},
};

/// As long as Docker's at most.
const REMEMBERED: Duration = Duration::from_secs(600);
const ENDED_MAX: usize = 4096;
const UNSTARTED_MAX: usize = 1024;

#[derive(Debug, Default)]
pub struct Execs {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    by_id: HashMap<String, Arc<Exec>>,
    by_container: HashMap<String, Vec<Arc<Exec>>>,
    /// In the order of their making; also such as were started or removed meanwhile, at the end only.
    unstarted: VecDeque<Arc<Exec>>,
    /// In the order of their ends.
    ended: VecDeque<(Instant, String)>,
}

impl Execs {
    pub fn insert(&self, exec: Arc<Exec>) {
        let mut inner = self.inner.lock().expect("no panic while locked");
        inner.tidy();
        if matches!(exec.phase(), Phase::Created) {
            inner.unstarted.push_back(Arc::clone(&exec));
        }
        let of = inner.by_container.entry(exec.container.clone()).or_default();
        of.push(Arc::clone(&exec));
        inner.by_id.insert(exec.id.clone(), exec);
    }

    pub fn find(&self, id: &str) -> Result<Arc<Exec>> {
        let mut inner = self.inner.lock().expect("no panic while locked");
        inner.tidy();
        let found = inner.by_id.get(id).cloned();
        found.ok_or_else(|| Error::not_found(format!("No such exec instance: {id}")))
    }

    /// The ids of a container's execs that have not ended.
    pub fn living(&self, container: &str) -> Vec<String> {
        let inner = self.inner.lock().expect("no panic while locked");
        let of = inner.by_container.get(container).into_iter().flatten();
        of.filter(|exec| !exec.has_ended())
            .map(|exec| exec.id.clone())
            .collect()
    }

    /// One has ended. Absent where it is not known, or had ended before.
    pub fn end(&self, id: &str, end: impl FnOnce(&Exec) -> bool) -> Option<Arc<Exec>> {
        let mut inner = self.inner.lock().expect("no panic while locked");
        let exec = inner.by_id.get(id).cloned()?;
        if !end(&exec) {
            return None;
        }
        inner.ended.push_back((Instant::now(), exec.id.clone()));
        inner.tidy();
        Some(exec)
    }

    /// The container has ended: what was not started never will be. Gives those that ran.
    pub fn container_ended(&self, container: &str) -> Vec<Arc<Exec>> {
        let mut inner = self.inner.lock().expect("no panic while locked");
        let of = inner.by_container.get(container).cloned().unwrap_or_default();
        let mut ran = Vec::new();
        for exec in of {
            match exec.phase() {
                Phase::Created => inner.remove(&exec.id),
                Phase::Ended(_) => {}
                Phase::Starting | Phase::Running { .. } => ran.push(exec),
            }
        }
        ran
    }

    /// The container is gone.
    pub fn container_removed(&self, container: &str) {
        let mut inner = self.inner.lock().expect("no panic while locked");
        for exec in inner.by_container.remove(container).unwrap_or_default() {
            inner.by_id.remove(&exec.id);
        }
    }
}

impl Inner {
    fn remove(&mut self, id: &str) {
        let Some(exec) = self.by_id.remove(id) else { return };
        if let Some(of) = self.by_container.get_mut(&exec.container) {
            of.retain(|other| other.id != id);
            if of.is_empty() {
                self.by_container.remove(&exec.container);
            }
        }
    }

    fn tidy(&mut self) {
        let now = Instant::now();
        while let Some((at, _)) = self.ended.front()
            && (now.duration_since(*at) > REMEMBERED || self.ended.len() > ENDED_MAX)
        {
            if let Some((_, id)) = self.ended.pop_front() {
                self.remove(&id);
            }
        }
        let is_idle = |exec: &Exec| matches!(exec.phase(), Phase::Created);
        while let Some(first) = self.unstarted.front() {
            let known = self.by_id.contains_key(&first.id) && is_idle(first);
            if known && self.unstarted.len() <= UNSTARTED_MAX {
                break;
            }
            if let Some(first) = self.unstarted.pop_front()
                && is_idle(&first)
            {
                self.remove(&first.id);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::container::exec::{ExecOptions, ExecRecord};

    fn add(execs: &Execs, container: &str) -> Arc<Exec> {
        let exec = Arc::new(Exec::new(container, ExecRecord::default(), ExecOptions::default()));
        execs.insert(Arc::clone(&exec));
        exec
    }

    #[test]
    fn what_nobody_starts_is_forgotten_in_the_end() {
        let execs = Execs::default();
        let first = add(&execs, "box");
        let started = add(&execs, "box");
        started.claim().expect("new");
        for _ in 0..UNSTARTED_MAX + 10 {
            add(&execs, "other");
        }
        assert!(execs.find(&first.id).is_err());
        assert!(execs.find(&started.id).is_ok());
        let inner = execs.inner.lock().unwrap();
        assert!(inner.by_id.len() <= UNSTARTED_MAX + 2 && inner.unstarted.len() <= UNSTARTED_MAX + 1);
    }

    #[test]
    fn ends_are_remembered_but_not_for_ever() {
        let execs = Execs::default();
        let mut ended = Vec::new();
        for _ in 0..ENDED_MAX + 10 {
            let exec = add(&execs, "box");
            exec.claim().expect("new");
            execs.end(&exec.id, |exec| exec.end(0, None)).expect("known");
            ended.push(exec);
        }
        assert!(execs.find(&ended[0].id).is_err());
        assert!(execs.find(&ended[ENDED_MAX].id).is_ok());
        assert!(execs.end(&ended[ENDED_MAX].id, |exec| exec.end(1, None)).is_none());
        let inner = execs.inner.lock().unwrap();
        assert_eq!(inner.by_id.len(), ENDED_MAX);
        assert_eq!(inner.by_container["box"].len(), ENDED_MAX);
    }

    #[test]
    fn execs_go_with_their_container() {
        let execs = Execs::default();
        let (idle, running) = (add(&execs, "box"), add(&execs, "box"));
        running.claim().expect("new");
        assert_eq!(execs.living("box").len(), 2);
        assert_eq!(execs.container_ended("box").len(), 1);
        assert!(execs.find(&idle.id).is_err());
        assert!(execs.find(&running.id).is_ok());
        execs.container_removed("box");
        assert!(execs.find(&running.id).is_err());
        assert!(execs.living("box").is_empty());
    }
}
