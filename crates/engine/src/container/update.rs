//! `update`: other limits and another restart policy for a container that exists, at once where it runs.
//!
//! The record is written before the cgroup, with the limits that were there until then beside it: whoever finds both
//! knows that the cgroup may say either, and makes it say what the record says.
use std::sync::Arc;

use corten_api::types::container::HostConfig;
use corten_runtime::cgroup::manager::Cgroup;
use oci_spec::runtime::{LinuxPids, LinuxResources};

use crate::{
    container::{
        limits,
        record::Record,
        restart,
        state::{Phase, State},
        supervised::Supervised,
        view::UpdateOptions,
    },
    context::blocking,
    error::{Error, Kind, Result, causes},
    host::Host,
    task::resources,
};

/// What can be said without knowing the container; answers with warnings.
pub fn check(options: &mut UpdateOptions, host: &Host) -> Result<Vec<String>> {
    let mut warnings = Vec::new();
    limits::check_change(&mut options.resources, host, &mut warnings)?;
    restart::check(&options.restart_policy)?;
    Ok(warnings)
}

/// What a container's configuration becomes; refused where the two contradict each other.
fn merge(present: &HostConfig, options: &UpdateOptions) -> Result<HostConfig> {
    let asked = &options.resources;
    for (conflict, message) in [
        (
            asked.nano_cpus > 0 && present.cpu_period > 0,
            "Conflicting options: Nano CPUs cannot be updated as CPU Period has already been set",
        ),
        (
            asked.nano_cpus > 0 && present.cpu_quota > 0,
            "Conflicting options: Nano CPUs cannot be updated as CPU Quota has already been set",
        ),
        (
            asked.cpu_period > 0 && present.nano_cpus > 0,
            "Conflicting options: CPU Period cannot be updated as NanoCPUs has already been set",
        ),
        (
            asked.cpu_quota > 0 && present.nano_cpus > 0,
            "Conflicting options: CPU Quota cannot be updated as NanoCPUs has already been set",
        ),
        (
            asked.memory_swap == 0 && present.memory_swap >= 0 && asked.memory > present.memory_swap,
            "Memory limit should be smaller than already set memoryswap limit, update the memoryswap at the same time",
        ),
        (
            present.auto_remove && !matches!(options.restart_policy.name.as_str(), "" | "no"),
            "Restart policy cannot be updated because AutoRemove is enabled for the container",
        ),
    ] {
        if conflict {
            return Err(Error::conflict(message));
        }
    }
    let mut merged = present.clone();
    let number = |place: &mut i64, value: i64| {
        if value != 0 {
            *place = value;
        }
    };
    number(&mut merged.memory, asked.memory);
    number(&mut merged.memory_swap, asked.memory_swap);
    number(&mut merged.memory_reservation, asked.memory_reservation);
    number(&mut merged.cpu_shares, asked.cpu_shares);
    number(&mut merged.nano_cpus, asked.nano_cpus);
    number(&mut merged.cpu_period, asked.cpu_period);
    number(&mut merged.cpu_quota, asked.cpu_quota);
    number(&mut merged.cpu_realtime_period, asked.cpu_realtime_period);
    number(&mut merged.cpu_realtime_runtime, asked.cpu_realtime_runtime);
    for (place, value) in [
        (&mut merged.cpuset_cpus, &asked.cpuset_cpus),
        (&mut merged.cpuset_mems, &asked.cpuset_mems),
    ] {
        if !value.is_empty() {
            place.clone_from(value);
        }
    }
    if asked.blkio_weight != 0 {
        merged.blkio_weight = asked.blkio_weight;
    }
    for limit in asked.hugepage_limits.iter().flatten() {
        let all = merged.hugepage_limits.get_or_insert_default();
        all.retain(|known| known.page_size != limit.page_size);
        all.push(limit.clone());
    }
    merged.pids_limit = asked.pids_limit.or(present.pids_limit);
    if !options.restart_policy.name.is_empty() {
        merged.restart_policy = options.restart_policy.clone();
    }
    check_whole(&merged)?;
    Ok(merged)
}

/// Old and new limits together may be what neither is alone.
fn check_whole(merged: &HostConfig) -> Result<()> {
    if merged.memory > 0 && merged.memory_swap > 0 && merged.memory_swap < merged.memory {
        return Err(Error::invalid(
            "Minimum memoryswap limit should be larger than memory limit, see usage",
        ));
    }
    if merged.memory > 0 && merged.memory_reservation > merged.memory {
        return Err(Error::invalid(
            "Minimum memory limit can not be less than memory reservation limit, see usage",
        ));
    }
    if merged.memory == 0 && merged.memory_swap > 0 {
        return Err(Error::invalid(
            "You should always set the Memory limit when using Memoryswap limit, see usage",
        ));
    }
    Ok(())
}

/// The limits of a configuration, where "none" is said as such: it may be what changes.
fn explicit(host: &HostConfig) -> Result<LinuxResources> {
    let mut all = resources::limits(host)?;
    if host.pids_limit.is_some() && all.pids().is_none() {
        let mut pids = LinuxPids::default();
        pids.set_limit(-1);
        all.set_pids(Some(pids));
    }
    Ok(all)
}

/// Makes a running container's cgroup say what `after` says; all of it, or nothing of it.
async fn apply(cgroup: Arc<Cgroup>, before: LinuxResources, after: LinuxResources) -> Result<()> {
    blocking(move || match cgroup.update(&before, &after) {
        // It has ended meanwhile: the next start will have the new limits.
        Err(error) if error.is_gone() => Ok(()),
        result => result.map_err(|error| Error::system(causes(&error))),
    })
    .await
}

impl Supervised {
    pub async fn update(&mut self, options: UpdateOptions) -> Result<()> {
        let named = |error: Error| {
            let kind = error.kind();
            Error::new(kind, format!("Cannot update container {}: {error}", self.record.id))
        };
        if matches!(self.state.phase, Phase::Removing | Phase::Dead) {
            return Err(named(Error::conflict(
                "container is marked for removal and cannot be \"update\"",
            )));
        }
        let before = Arc::clone(&self.record);
        let merged = merge(&before.host_config, &options).map_err(named)?;
        let limits = (
            explicit(&before.host_config).map_err(named)?,
            explicit(&merged).map_err(named)?,
        );
        self.record = Arc::new(Record {
            host_config: merged,
            ..Record::clone(&before)
        });
        let running = self.task.as_ref().map(|task| Arc::clone(&task.cgroup));
        if let Some(cgroup) = running.filter(|_| limits.0 != limits.1) {
            self.state.former_limits = Some(Box::new(before.host_config.clone()));
            let changed = match self.save() {
                Ok(()) => apply(cgroup, limits.0, limits.1).await,
                Err(error) => Err(error),
            };
            self.state.former_limits = None;
            if let Err(error) = changed {
                self.record = before;
                self.save_or_warn();
                return Err(Error::new(
                    Kind::System,
                    format!("Cannot update container {}: {error}", self.record.id),
                ));
            }
            self.save_or_warn();
        } else if let Err(error) = self.save() {
            self.record = before;
            return Err(error);
        }
        if !options.restart_policy.name.is_empty() {
            self.policy_changed();
        }
        self.show();
        self.tell("update", &[]);
        Ok(())
    }
}

/// Finishes an update that a daemon died in: of a container that runs, the cgroup is made to say what the record says.
/// Where that cannot be, the record says again what the cgroup said.
pub async fn finish(record: &mut Record, state: &mut State, cgroup: Option<Arc<Cgroup>>) {
    let (Some(former), Some(cgroup)) = (state.former_limits.take(), cgroup) else {
        return;
    };
    let limits = explicit(&record.host_config);
    let finished = match limits {
        // Nothing is known to be written already.
        Ok(limits) => apply(cgroup, LinuxResources::default(), limits).await,
        Err(error) => Err(error),
    };
    if let Err(error) = finished {
        tracing::error!(container = %record.id, %error, "cannot finish an update of limits: it is taken back");
        record.host_config = *former;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(change: impl Fn(&mut HostConfig)) -> UpdateOptions {
        let mut options = UpdateOptions::default();
        change(&mut options.resources);
        options
    }

    fn present() -> HostConfig {
        HostConfig {
            memory: 64 << 20,
            memory_swap: 128 << 20,
            cpu_quota: 50_000,
            pids_limit: Some(50),
            ..HostConfig::default()
        }
    }

    #[test]
    fn what_is_not_asked_for_stays() {
        let merged = merge(&present(), &asked(|host| host.cpu_shares = 512)).expect("fits");
        let expected = HostConfig {
            cpu_shares: 512,
            ..present()
        };
        assert_eq!(merged, expected);
    }

    #[test]
    fn contradictions_are_refused_in_dockers_words() {
        let refusal = |present: &HostConfig, options: &UpdateOptions| {
            let error = merge(present, options).expect_err("refused");
            assert_eq!(error.kind(), Kind::Conflict);
            error.to_string()
        };
        assert_eq!(
            refusal(&present(), &asked(|host| host.memory = 200 << 20)),
            "Memory limit should be smaller than already set memoryswap limit, update the memoryswap at the same time"
        );
        assert_eq!(
            refusal(&present(), &asked(|host| host.nano_cpus = 1_000_000_000)),
            "Conflicting options: Nano CPUs cannot be updated as CPU Quota has already been set"
        );
        let removed = HostConfig {
            auto_remove: true,
            ..HostConfig::default()
        };
        let mut options = UpdateOptions::default();
        "always".clone_into(&mut options.restart_policy.name);
        assert!(refusal(&removed, &options).starts_with("Restart policy cannot be updated because AutoRemove"));
    }

    #[test]
    fn both_of_a_pair_may_change_at_once() {
        let merged = merge(
            &present(),
            &asked(|host| (host.memory, host.memory_swap) = (200 << 20, 300 << 20)),
        );
        assert_eq!(merged.expect("fits").memory_swap, 300 << 20);
        // Unlimited swap leaves room for any limit of memory.
        let unlimited = HostConfig {
            memory_swap: -1,
            ..present()
        };
        assert!(merge(&unlimited, &asked(|host| host.memory = 1 << 30)).is_ok());
        assert!(merge(&present(), &asked(|host| host.memory_swap = 32 << 20)).is_err());
    }

    #[test]
    fn no_limit_of_processes_is_a_limit_to_be_written() {
        let merged = merge(&present(), &asked(|host| host.pids_limit = Some(0))).expect("fits");
        let limits = explicit(&merged).expect("resolves");
        assert_eq!(limits.pids().as_ref().map(LinuxPids::limit), Some(-1));
    }
}
