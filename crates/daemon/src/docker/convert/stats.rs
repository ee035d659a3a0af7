//! A sample of what a container uses, as the Engine API shows it.
use std::collections::BTreeMap;

use corten_api::types::stats::{
    BlkioEntry, BlkioStats, CpuStats, CpuUsage, InterfaceStats, MemoryStats, PidsStats, Stats, ThrottlingData,
};
use corten_engine::container::stats::{CpuSample, InterfaceSample, IoSample, MemorySample, Reading};

use crate::docker::convert::time::rfc3339;

/// One document: a sample, and processor time before it (all zeroes when there is none).
pub fn stats(reading: &Reading, cgroup_version_2: bool) -> Stats {
    let (sample, before) = (&reading.sample, reading.earlier.as_ref());
    let mut stats = Stats {
        name: format!("/{}", sample.name),
        id: sample.id.clone(),
        read: rfc3339(sample.read),
        preread: rfc3339(before.map(|before| before.read)),
        ..Stats::default()
    };
    if let Some(before) = before {
        stats.precpu_stats = cpu(&before.cpu);
    }
    if sample.read.is_none() {
        return stats;
    }
    stats.pids_stats = PidsStats {
        current: Some(sample.pids),
        // Docker prints "no limit" as the largest number.
        limit: Some(if sample.pids_limit == 0 {
            u64::MAX
        } else {
            sample.pids_limit
        }),
    };
    stats.networks = sample.interfaces.as_deref().map(interfaces);
    stats.blkio_stats = blkio(&sample.io, cgroup_version_2);
    stats.cpu_stats = cpu(&sample.cpu);
    stats.memory_stats = memory(&sample.memory, cgroup_version_2);
    stats
}

fn interfaces(samples: &[InterfaceSample]) -> BTreeMap<String, InterfaceStats> {
    let entry = |sample: &InterfaceSample| {
        let stats = InterfaceStats {
            rx_bytes: sample.received.bytes,
            rx_packets: sample.received.packets,
            rx_errors: sample.received.errors,
            rx_dropped: sample.received.dropped,
            tx_bytes: sample.sent.bytes,
            tx_packets: sample.sent.packets,
            tx_errors: sample.sent.errors,
            tx_dropped: sample.sent.dropped,
        };
        (sample.name.clone(), stats)
    };
    samples.iter().map(entry).collect()
}

fn cpu(sample: &CpuSample) -> CpuStats {
    CpuStats {
        cpu_usage: CpuUsage {
            total_usage: sample.total,
            percpu_usage: Some(sample.per_cpu.clone()).filter(|list| !list.is_empty()),
            usage_in_kernelmode: sample.system,
            usage_in_usermode: sample.user,
        },
        system_cpu_usage: Some(sample.host_total),
        online_cpus: Some(sample.online_cpus),
        throttling_data: ThrottlingData {
            periods: sample.periods,
            throttled_periods: sample.throttled_periods,
            throttled_time: sample.throttled_nanoseconds,
        },
    }
}

fn memory(sample: &MemorySample, cgroup_version_2: bool) -> MemoryStats {
    MemoryStats {
        usage: Some(sample.usage),
        max_usage: sample.max_usage.filter(|_| !cgroup_version_2),
        stats: Some(sample.counters.iter().cloned().collect()),
        failcnt: Some(sample.failures).filter(|&count| count > 0),
        limit: Some(sample.limit),
    }
}

fn blkio(samples: &[IoSample], cgroup_version_2: bool) -> BlkioStats {
    let [read, write] = if cgroup_version_2 {
        ["read", "write"]
    } else {
        ["Read", "Write"]
    };
    let entries = |values: fn(&IoSample) -> [u64; 2]| {
        let lines = samples.iter().flat_map(|sample| {
            let entry = |op: &str, value| BlkioEntry {
                major: sample.major,
                minor: sample.minor,
                op: op.to_owned(),
                value,
            };
            let [first, second] = values(sample);
            [entry(read, first), entry(write, second)]
        });
        Some(lines.collect::<Vec<_>>())
    };
    let on_version_1 = || (!cgroup_version_2).then(Vec::new);
    BlkioStats {
        io_service_bytes_recursive: entries(|sample| [sample.read_bytes, sample.write_bytes]),
        io_serviced_recursive: match cgroup_version_2 {
            true => None,
            false => entries(|sample| [sample.read_operations, sample.write_operations]),
        },
        io_queue_recursive: on_version_1(),
        io_service_time_recursive: on_version_1(),
        io_wait_time_recursive: on_version_1(),
        io_merged_recursive: on_version_1(),
        io_time_recursive: on_version_1(),
        sectors_recursive: on_version_1(),
    }
}

#[cfg(test)]
mod tests {
    use corten_engine::container::stats::StatsSample;
    use jiff::Timestamp;

    use super::*;

    fn sample() -> StatsSample {
        StatsSample {
            id: "ab".to_owned(),
            name: "web".to_owned(),
            read: Some(Timestamp::UNIX_EPOCH),
            cpu: CpuSample {
                total: 30,
                host_total: 100,
                online_cpus: 2,
                ..CpuSample::default()
            },
            memory: MemorySample {
                usage: 4096,
                limit: 8192,
                counters: vec![("inactive_file".to_owned(), 7)],
                ..MemorySample::default()
            },
            pids: 3,
            pids_limit: 0,
            io: vec![IoSample {
                major: 8,
                read_bytes: 1,
                write_bytes: 2,
                ..IoSample::default()
            }],
            interfaces: Some(vec![InterfaceSample {
                name: "eth0".to_owned(),
                ..InterfaceSample::default()
            }]),
        }
    }

    #[test]
    fn the_names_that_clients_compute_with_are_there() {
        let reading = Reading {
            earlier: sample().earlier(),
            sample: sample(),
        };
        let value = serde_json::to_value(stats(&reading, true)).unwrap();
        assert_eq!(value["name"], "/web");
        assert_eq!(value["memory_stats"]["stats"]["inactive_file"], 7);
        assert_eq!(value["cpu_stats"]["cpu_usage"]["total_usage"], 30);
        assert_eq!(value["precpu_stats"]["system_cpu_usage"], 100);
        assert!(value["cpu_stats"]["cpu_usage"].get("percpu_usage").is_none());
        assert_eq!(value["blkio_stats"]["io_service_bytes_recursive"][1]["op"], "write");
        assert_eq!(value["pids_stats"]["limit"], u64::MAX);
        assert_eq!(value["networks"]["eth0"]["rx_bytes"], 0);
    }

    #[test]
    fn a_container_that_does_not_run_uses_nothing() {
        let value = serde_json::to_value(stats(&Reading::default(), true)).unwrap();
        assert_eq!(value["read"], "0001-01-01T00:00:00Z");
        assert_eq!(value["memory_stats"], serde_json::json!({}));
        assert_eq!(value["pids_stats"], serde_json::json!({}));
    }
}
