//! The sampler: what containers use, read for all who watch by one sweep a second; and at once for who asks only once.
//!
//! While nobody watches, nothing is read and nothing is kept. Who asks once is compared with the sweep's last reading; where
//! there is none, processor time is read twice, a moment apart, for all containers asked for together.
use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use corten_runtime::cgroup::manager::Cgroup;
use jiff::Timestamp;
use tokio::{
    sync::watch,
    time::{Instant, sleep, sleep_until},
};
use tokio_util::sync::CancellationToken;

use crate::{
    container::{
        handle::Handle,
        mode::NetworkMode,
        stats::{self, CpuSample, Earlier, Purpose, Reading, StatsSample},
    },
    context::blocking,
    host::Host,
};

/// Between two sweeps.
const PERIOD: Duration = Duration::from_secs(1);
/// Between two readings of processor time for who asks once: long against the kernel's ticks.
const MOMENT: Duration = Duration::from_millis(50);
/// The scheduler's period where a container has a quota and names none; what is read over a part of it says nothing.
const QUOTA_PERIOD_MICROSECONDS: i64 = 100_000;
/// Over how many of them a container with a quota is read, where they are not long. What it may use in two of them can come
/// in one piece, late in the one and early in the next: over a single period that would show as twice its quota.
const QUOTA_PERIODS: u32 = 4;
const LONG: Duration = Duration::from_millis(500);
/// A reading at least this old, and not older than two sweeps, is one to compare with; a younger one is as good as new.
const FRESH: Duration = Duration::from_millis(250);
/// Containers that one thread reads in a row.
const AT_A_STRETCH: usize = 64;

/// Clones are the same sampler.
#[derive(Clone)]
pub struct Sampler {
    shared: Arc<Shared>,
}

struct Shared {
    host: Host,
    closing: CancellationToken,
    watched: Mutex<Watched>,
}

#[derive(Default)]
struct Watched {
    by_id: HashMap<Arc<str>, One>,
    /// What was read of whom lately, by the sweep or for somebody who asked.
    recent: HashMap<Arc<str>, (Instant, Arc<Reading>)>,
    /// Whether the sweep is under way.
    sweeping: bool,
}

/// A container that somebody watches.
struct One {
    handle: Handle,
    readings: watch::Sender<Arc<Reading>>,
}

impl One {
    fn is_watched(&self) -> bool {
        self.readings.receiver_count() > 0
    }
}

impl Sampler {
    pub fn new(host: Host, closing: CancellationToken) -> Sampler {
        Sampler {
            shared: Arc::new(Shared {
                host,
                closing,
                watched: Mutex::default(),
            }),
        }
    }

    /// Follows a container: what it uses now, then once a second until it is removed. Who reads slowly misses readings.
    pub async fn follow(&self, handle: Handle) -> watch::Receiver<Arc<Reading>> {
        if let Some(receiver) = self.shared.join(&handle) {
            return receiver;
        }
        let first = self.shared.read(vec![handle.clone()], Purpose::Once).await;
        let first = first.into_iter().next().unwrap_or_default();
        self.shared.add(handle, first)
    }

    /// One reading of each, in order.
    pub async fn once(&self, handles: Vec<Handle>, purpose: Purpose) -> Vec<Arc<Reading>> {
        self.shared.read(handles, purpose).await
    }
}

impl Shared {
    fn lock(&self) -> std::sync::MutexGuard<'_, Watched> {
        self.watched.lock().expect("no panic while locked")
    }

    /// A place beside those who watch it already.
    fn join(&self, handle: &Handle) -> Option<watch::Receiver<Arc<Reading>>> {
        let watched = self.lock();
        let one = watched.by_id.get(&handle.id).filter(|one| one.is_watched())?;
        Some(one.readings.subscribe())
    }

    fn add(self: &Arc<Self>, handle: Handle, first: Arc<Reading>) -> watch::Receiver<Arc<Reading>> {
        let mut watched = self.lock();
        if let Some(one) = watched.by_id.get(&handle.id).filter(|one| one.is_watched()) {
            return one.readings.subscribe();
        }
        let (readings, receiver) = watch::channel(first);
        watched.by_id.insert(handle.id.clone(), One { handle, readings });
        if !watched.sweeping {
            watched.sweeping = true;
            tokio::spawn(sweep(Arc::clone(self)));
        }
        receiver
    }

    /// Whose turn it is. Absent when nobody watches any more: then the sweep is over.
    fn next_sweep(&self) -> Option<Vec<Handle>> {
        let mut watched = self.lock();
        // Who watches one whose sender is dropped hears that the container is gone.
        let alive = |one: &One| one.is_watched() && !one.handle.watch.borrow().removed;
        watched.by_id.retain(|_, one| alive(one));
        watched.sweeping = !watched.by_id.is_empty();
        let handles = || watched.by_id.values().map(|one| one.handle.clone()).collect();
        watched.sweeping.then(handles)
    }

    async fn read(&self, handles: Vec<Handle>, purpose: Purpose) -> Vec<Arc<Reading>> {
        let known = self.recent(&handles);
        let fresh = |age: Duration| purpose == Purpose::Watch && age < FRESH;
        let (mut old, mut earlier) = (Vec::new(), Vec::new());
        for (handle, known) in handles.iter().zip(&known) {
            if known.as_ref().is_some_and(|(age, _)| fresh(*age)) {
                continue;
            }
            let comparable = known
                .as_ref()
                .filter(|(age, _)| *age >= FRESH.max(moment(handle).min(LONG)));
            earlier.push(comparable.and_then(|(_, reading)| reading.sample.earlier()));
            old.push(handle.clone());
        }
        if purpose == Purpose::OneShot {
            earlier.fill(None);
        }
        let samples = self.compared(&old, &mut earlier, purpose != Purpose::OneShot).await;
        let readings = samples.into_iter().zip(earlier);
        let readings: Vec<_> = readings
            .map(|(sample, earlier)| Arc::new(Reading { sample, earlier }))
            .collect();
        self.remember(&old, &readings);
        let mut readings = readings.into_iter();
        let mut each = |known: Option<(Duration, Arc<Reading>)>| match known {
            Some((age, reading)) if fresh(age) => reading,
            _ => readings.next().unwrap_or_default(),
        };
        known.into_iter().map(&mut each).collect()
    }

    /// Reads all of each; where nothing is known from earlier, `wanted` makes that be read too, a moment before.
    async fn compared(&self, handles: &[Handle], earlier: &mut [Option<Earlier>], wanted: bool) -> Vec<StatsSample> {
        let unknown: Vec<usize> = (0..handles.len())
            .filter(|&index| wanted && earlier[index].is_none() && is_running(&handles[index]))
            .collect();
        if unknown.is_empty() {
            let rest = self.read_rest(handles).await;
            return self.read_processors(handles, rest).await;
        }
        let cpus = self.host.cpus;
        let subjects = unknown.iter().map(|&index| Subject::of(&handles[index])).collect();
        let before = in_stretches(subjects, move |subject: Subject| subject.read_processors(cpus)).await;
        for (index, read) in unknown.iter().zip(before) {
            earlier[*index] = read;
        }
        let begun = Instant::now();
        // What takes no comparison is read while that moment passes.
        let rest = self.read_rest(handles).await;
        let moment = unknown.iter().map(|&index| moment(&handles[index])).max();
        sleep(moment.unwrap_or_default().saturating_sub(begun.elapsed())).await;
        self.read_processors(handles, rest).await
    }

    /// How old the last reading of each is, where it is of use.
    fn recent(&self, handles: &[Handle]) -> Vec<Option<(Duration, Arc<Reading>)>> {
        let watched = self.lock();
        let recent = |handle: &Handle| {
            let (at, reading) = watched.recent.get(&handle.id)?;
            let age = at.elapsed();
            (age < PERIOD * 2).then(|| (age, Arc::clone(reading)))
        };
        handles.iter().map(recent).collect()
    }

    fn remember(&self, handles: &[Handle], readings: &[Arc<Reading>]) {
        let mut watched = self.lock();
        watched.recent.retain(|_, (at, _)| at.elapsed() < PERIOD * 2);
        for (handle, reading) in handles.iter().zip(readings) {
            let entry = (Instant::now(), Arc::clone(reading));
            watched.recent.insert(handle.id.clone(), entry);
        }
    }

    async fn read_rest(&self, handles: &[Handle]) -> Vec<StatsSample> {
        let subjects = handles.iter().map(Subject::of).collect();
        let memory = self.host.memory;
        in_stretches(subjects, move |subject: Subject| subject.read_rest(memory)).await
    }

    async fn read_processors(&self, handles: &[Handle], samples: Vec<StatsSample>) -> Vec<StatsSample> {
        let cpus = self.host.cpus;
        let subjects = handles.iter().map(Subject::of).zip(samples).collect();
        in_stretches(subjects, move |(subject, mut sample): (Subject, StatsSample)| {
            match subject.read_processors(cpus) {
                Some(read) => (sample.read, sample.cpu) = (Some(read.read), read.cpu),
                None => sample = StatsSample::of(&subject.id, &subject.name),
            }
            sample
        })
        .await
    }
}

/// Reads what is watched, once a second, for as long as anything is.
async fn sweep(shared: Arc<Shared>) {
    let mut due = Instant::now() + PERIOD;
    loop {
        tokio::select! {
            () = sleep_until(due) => {}
            () = shared.closing.cancelled() => return,
        }
        // A host that is too slow for a sweep a second has fewer of them.
        due = (due + PERIOD).max(Instant::now());
        let Some(handles) = shared.next_sweep() else { return };
        let readings = shared.read(handles.clone(), Purpose::Watch).await;
        let watched = shared.lock();
        for (handle, reading) in handles.iter().zip(readings) {
            if let Some(one) = watched.by_id.get(&handle.id) {
                one.readings.send_replace(reading);
            }
        }
    }
}

fn is_running(handle: &Handle) -> bool {
    handle.watch.borrow().state.phase.is_running()
}

/// How far apart two readings of a container's processor time must be to say something.
fn moment(handle: &Handle) -> Duration {
    let snapshot = handle.watch.borrow();
    let host = &snapshot.record.host_config;
    let period = match (host.nano_cpus > 0, host.cpu_quota > 0, host.cpu_period) {
        (true, _, _) | (_, true, 0) => QUOTA_PERIOD_MICROSECONDS,
        (_, true, period) => period,
        _ => 0,
    };
    let period = Duration::from_micros(period.unsigned_abs());
    MOMENT.max(period).max((period * QUOTA_PERIODS).min(LONG))
}

/// Where a container's figures are.
#[derive(Clone)]
struct Subject {
    id: Arc<str>,
    name: String,
    /// While it runs.
    cgroup: Option<Arc<Cgroup>>,
    /// Whose network namespace has its interfaces, where they are its own.
    network: Option<i32>,
}

impl Subject {
    fn of(handle: &Handle) -> Subject {
        let snapshot = handle.watch.borrow();
        let record = &snapshot.record;
        let own_network = NetworkMode::of(&record.config, &record.host_config) != NetworkMode::Host;
        Subject {
            id: handle.id.clone(),
            name: record.name.clone(),
            cgroup: snapshot.cgroup.clone(),
            network: own_network.then_some(snapshot.state.pid).filter(|pid| *pid > 0),
        }
    }

    /// Nothing of one that does not run, or ended meanwhile.
    fn read_processors(&self, cpus: usize) -> Option<Earlier> {
        let cpu = self.cgroup.as_ref()?.processor_time().ok()??;
        Some(Earlier {
            read: Timestamp::now(),
            cpu: CpuSample::of(cpu, cpus),
        })
    }

    fn read_rest(&self, host_memory: u64) -> StatsSample {
        let mut sample = StatsSample::of(&self.id, &self.name);
        if let Some(Ok(figures)) = self.cgroup.as_ref().map(|cgroup| cgroup.other_stats()) {
            sample.interfaces = self.network.and_then(stats::interfaces);
            sample.fill(figures, host_memory);
        }
        sample
    }
}

/// Does something that reads files with each item, away from the threads that serve everybody, and on several at once.
async fn in_stretches<T, R>(items: Vec<T>, work: impl Fn(T) -> R + Clone + Send + 'static) -> Vec<R>
where
    T: Send + 'static,
    R: Send + 'static,
{
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let stretch = items.len().div_ceil(threads).max(AT_A_STRETCH);
    let mut items = items.into_iter();
    let mut tasks = Vec::new();
    loop {
        let part: Vec<T> = items.by_ref().take(stretch).collect();
        if part.is_empty() {
            break;
        }
        let work = work.clone();
        tasks.push(tokio::spawn(blocking(move || {
            Ok(part.into_iter().map(work).collect::<Vec<R>>())
        })));
    }
    let mut done = Vec::new();
    for task in tasks {
        // One that panicked has said so.
        if let Ok(Ok(part)) = task.await {
            done.extend(part);
        }
    }
    done
}
