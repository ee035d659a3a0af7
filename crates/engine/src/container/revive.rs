//! Containers that come back after a start of the daemon: each after those that it depends on, some at a time.
//!
//! Dependencies are what the containers say themselves (links, shared namespaces, volumes of others) and what Compose
//! wrote into their labels. Nobody waits for this: the daemon serves meanwhile, and a container that waits for its turn
//! is `restarting`, so it can be stopped and removed.
use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Duration,
};

use tokio::{
    sync::Semaphore,
    task::JoinSet,
    time::{Instant, timeout, timeout_at},
};
use tokio_util::sync::CancellationToken;

use crate::container::{
    handle::{Command, Handle, Snapshot},
    health::Status,
    record::Record,
    state::Phase,
    table::Table,
};

/// How many start at the same time.
const STARTS_AT_ONCE: usize = 8;
/// How long others wait for what should be healthy, or done, before them.
const PATIENCE: Duration = Duration::from_secs(60);

const PROJECT: &str = "com.docker.compose.project";
const SERVICE: &str = "com.docker.compose.service";
const DEPENDS_ON: &str = "com.docker.compose.depends_on";

/// How far a container must have come before one that depends on it may start. In this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Milestone {
    /// Its start was tried.
    Started,
    /// It is healthy, or has done its work: or it was waited for long enough.
    Ready(Wanted),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Wanted {
    Healthy,
    Completed,
}

/// Who waits for whom. A container that waits for nobody any more is ready.
#[derive(Debug, Default)]
struct Order {
    /// By container: how many of its dependencies are open. Absent once it was handed out.
    open: Vec<Option<usize>>,
    /// By container: who waits until it has come how far.
    waiting: Vec<Vec<(Milestone, usize)>>,
}

impl Order {
    fn new(count: usize, edges: impl IntoIterator<Item = (usize, usize, Milestone)>) -> Order {
        let mut order = Order {
            open: vec![Some(0); count],
            waiting: vec![Vec::new(); count],
        };
        for (dependent, dependency, milestone) in edges {
            if dependent == dependency || order.waiting[dependency].contains(&(milestone, dependent)) {
                continue;
            }
            order.waiting[dependency].push((milestone, dependent));
            order.open[dependent] = order.open[dependent].map(|open| open + 1);
        }
        order
    }

    /// Everyone whose turn it is.
    fn take_ready(&mut self) -> Vec<usize> {
        let ready: Vec<_> = (0..self.open.len())
            .filter(|&index| self.open[index] == Some(0))
            .collect();
        for &index in &ready {
            self.open[index] = None;
        }
        ready
    }

    /// Of those that wait for each other in a circle, the first.
    fn break_circle(&mut self) -> Option<usize> {
        let first = self.open.iter().position(Option::is_some)?;
        self.open[first] = None;
        Some(first)
    }

    fn reached(&mut self, index: usize, milestone: Milestone) {
        for (_, dependent) in self.waiting[index].extract_if(.., |(wanted, _)| *wanted == milestone) {
            self.open[dependent] = self.open[dependent].map(|open| open.saturating_sub(1));
        }
    }

    /// What others still wait for.
    fn milestones(&self, index: usize) -> Vec<Milestone> {
        let mut all: Vec<_> = self.waiting[index].iter().map(|(milestone, _)| *milestone).collect();
        all.sort_unstable();
        all.dedup();
        all
    }
}

/// Starts every container that waits for its turn.
pub async fn revive(table: Arc<Table>, closing: CancellationToken) {
    let mut waiting = table.handles();
    waiting.retain(|handle| handle.snapshot().state.phase == Phase::Restarting);
    waiting.sort_by_key(|handle| handle.record().created);
    if waiting.is_empty() {
        return;
    }
    tracing::info!("starting {} containers by their restart policies", waiting.len());
    tokio::select! {
        () = in_order(&table, waiting) => {}
        () = closing.cancelled() => {}
    }
}

async fn in_order(table: &Table, waiting: Vec<Handle>) {
    let mut order = Order::new(waiting.len(), edges(table, &waiting));
    let slots = Arc::new(Semaphore::new(STARTS_AT_ONCE));
    let mut under_way = JoinSet::new();
    loop {
        let mut next = order.take_ready();
        if next.is_empty() && under_way.is_empty() {
            match order.break_circle() {
                Some(index) => next.push(index),
                None => return,
            }
        }
        for index in next {
            let (handle, slots) = (waiting[index].clone(), Arc::clone(&slots));
            under_way.spawn(async move {
                let _slot = slots.acquire().await;
                // One that was removed meanwhile holds nobody up.
                let _ = handle.ask(|reply| Command::Retry { reply }).await;
                (index, Milestone::Started)
            });
        }
        let Some(Ok((index, milestone))) = under_way.join_next().await else {
            continue;
        };
        order.reached(index, milestone);
        if milestone == Milestone::Started {
            for wanted in order.milestones(index) {
                let handle = waiting[index].clone();
                under_way.spawn(async move {
                    wait_for(&handle, wanted).await;
                    (index, wanted)
                });
            }
        }
    }
}

/// Until it has come so far, or will not.
async fn wait_for(handle: &Handle, milestone: Milestone) {
    let deadline = Instant::now() + PATIENCE;
    let _ = match milestone {
        Milestone::Started => return,
        Milestone::Ready(Wanted::Healthy) => timeout_at(deadline, handle.wait_until(is_healthy)).await,
        Milestone::Ready(Wanted::Completed) => {
            timeout(PATIENCE, handle.wait_until(|now| !now.state.phase.is_up())).await
        }
    };
}

/// One without a health check is as healthy as it will ever be.
fn is_healthy(now: &Snapshot) -> bool {
    let health = now.state.health.as_ref();
    let is_well = health.is_none_or(|health| health.status == Status::Healthy);
    !now.state.phase.is_up() || (now.state.phase.is_running() && is_well)
}

/// Who waits for whom, among those that are to be started: dependent, dependency, how far it must have come.
fn edges(table: &Table, waiting: &[Handle]) -> Vec<(usize, usize, Milestone)> {
    let records: Vec<_> = waiting.iter().map(Handle::record).collect();
    let by_id: HashMap<_, _> = records
        .iter()
        .enumerate()
        .map(|(index, record)| (record.id.clone(), index))
        .collect();
    let mut services: BTreeMap<(&str, &str), Vec<usize>> = BTreeMap::new();
    for (index, record) in records.iter().enumerate() {
        let labels = &record.config.labels;
        if let (Some(project), Some(service)) = (labels.get(PROJECT), labels.get(SERVICE)) {
            services.entry((project, service)).or_default().push(index);
        }
    }
    let mut edges = Vec::new();
    for (index, record) in records.iter().enumerate() {
        let named = references(record).into_iter();
        let ids = named.filter_map(|name| Some(table.find(name).ok()?.id.to_string()));
        let linked = record.links.iter().map(|link| link.container.clone());
        for id in ids.chain(linked) {
            edges.extend(by_id.get(&id).map(|&other| (index, other, Milestone::Started)));
        }
        let project = record
            .config
            .labels
            .get(PROJECT)
            .map(String::as_str)
            .unwrap_or_default();
        for (service, milestone) in depends_on(record) {
            let others = services.get(&(project, service)).into_iter().flatten();
            edges.extend(others.map(|&other| (index, other, milestone)));
        }
    }
    edges
}

/// Other containers that a container's own options name.
fn references(record: &Record) -> Vec<&str> {
    let host = &record.host_config;
    let modes = [&host.network_mode, &host.pid_mode, &host.ipc_mode];
    let shared = modes.into_iter().filter_map(|mode| mode.strip_prefix("container:"));
    let volumes = host.volumes_from.iter().flatten();
    let volumes = volumes.map(|from| from.split_once(':').map_or(from.as_str(), |(name, _)| name));
    let networks = record.networking.endpoints_config.values().flatten();
    let links = networks.flat_map(|wish| wish.links.iter().flatten());
    let links = links.map(|link| link.split_once(':').map_or(link.as_str(), |(name, _)| name));
    shared.chain(volumes).chain(links).collect()
}

/// Compose's `depends_on`: `db:service_healthy:true,cache:service_started:false`.
fn depends_on(record: &Record) -> Vec<(&str, Milestone)> {
    let text = record
        .config
        .labels
        .get(DEPENDS_ON)
        .map(String::as_str)
        .unwrap_or_default();
    let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
    let dependency = |part| {
        let mut words = str::split(part, ':');
        let service = words.next().unwrap_or_default();
        let milestone = match words.next() {
            Some("service_healthy") => Milestone::Ready(Wanted::Healthy),
            Some("service_completed_successfully") => Milestone::Ready(Wanted::Completed),
            _ => Milestone::Started,
        };
        (service, milestone)
    };
    parts.map(dependency).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const STARTED: Milestone = Milestone::Started;
    const HEALTHY: Milestone = Milestone::Ready(Wanted::Healthy);

    #[test]
    fn everyone_starts_after_those_that_it_depends_on() {
        // 0 needs 1 and 2; 1 needs 2 to be healthy.
        let mut order = Order::new(4, [(0, 1, STARTED), (0, 2, STARTED), (1, 2, HEALTHY)]);
        assert_eq!(order.take_ready(), [2, 3]);
        assert_eq!(order.milestones(2), [STARTED, HEALTHY]);
        order.reached(2, STARTED);
        assert_eq!(order.milestones(2), [HEALTHY]);
        assert!(order.take_ready().is_empty());
        order.reached(2, HEALTHY);
        assert_eq!(order.take_ready(), [1]);
        order.reached(1, STARTED);
        assert_eq!(order.take_ready(), [0]);
        assert_eq!(order.break_circle(), None);
    }

    #[test]
    fn a_circle_is_broken_at_its_oldest() {
        let mut order = Order::new(3, [(1, 2, STARTED), (2, 1, STARTED), (0, 0, STARTED)]);
        assert_eq!(order.take_ready(), [0]);
        order.reached(0, STARTED);
        assert!(order.take_ready().is_empty());
        assert_eq!(order.break_circle(), Some(1));
        order.reached(1, STARTED);
        assert_eq!(order.take_ready(), [2]);
        order.reached(2, STARTED);
        assert_eq!((order.take_ready(), order.break_circle()), (vec![], None));
    }
}
