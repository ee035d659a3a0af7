//! The flags themselves, in alphabetical order.
use crate::arguments::{Flag, integer, unsigned, unsigned16};
use crate::flags::{devices, environment, limits, mounts, network, security};
use crate::units::{bytes, duration};

/// Flags that `run` has and `create` has not.
pub static RUN_ONLY: &[Flag] = &[
    Flag::switch("detach", "Leave the container running and print its id").short('d'),
    Flag::single(
        "detach-keys",
        "string",
        "Keys that detach from the container (default \"ctrl-p,ctrl-q\")",
    ),
    Flag::switch_on("sig-proxy", "Hand signals on to the process"),
];

/// Flags of both.
pub static CREATE: &[Flag] = &[
    Flag::list("add-host", "list", "Add a name and its address (host:ip) to /etc/hosts").check(network::host),
    Flag::list("annotation", "map", "Add an annotation, handed on to the OCI runtime"),
    Flag::list("attach", "list", "Attach to STDIN, STDOUT or STDERR")
        .short('a')
        .check(stream),
    Flag::single("blkio-weight", "uint16", "Weight of block I/O, 10 to 1000, 0 for none").check(unsigned16),
    Flag::list(
        "blkio-weight-device",
        "list",
        "Weight of block I/O of one device (/dev/sda:200)",
    )
    .check(limits::weight),
    Flag::list("cap-add", "list", "Add capabilities"),
    Flag::list("cap-drop", "list", "Drop capabilities"),
    Flag::single("cgroup-parent", "string", "Parent of the container's cgroup"),
    Flag::single(
        "cgroupns",
        "string",
        "Cgroup namespace: 'host', 'private', or '' as the daemon is set up",
    ),
    Flag::single("cidfile", "string", "Write the container's id to a file"),
    Flag::single("cpu-count", "int", "Number of processors (Windows only)").check(integer),
    Flag::single("cpu-percent", "int", "Share of processors (Windows only)").check(integer),
    Flag::single("cpu-period", "int", "Period of the scheduler's limit in microseconds").check(integer),
    Flag::single("cpu-quota", "int", "Time per period in microseconds").check(integer),
    Flag::single("cpu-rt-period", "int", "Period of the real-time limit in microseconds").check(integer),
    Flag::single("cpu-rt-runtime", "int", "Real time per period in microseconds").check(integer),
    Flag::single("cpu-shares", "int", "Weight of processor time")
        .short('c')
        .check(integer),
    Flag::single("cpus", "decimal", "Number of processors").check(limits::cpus),
    Flag::single("cpuset-cpus", "string", "Processors to run on (0-3, 0,1)"),
    Flag::single("cpuset-mems", "string", "Memory nodes to allocate from (0-3, 0,1)"),
    Flag::list("device", "list", "Give a device of the host to the container"),
    Flag::list(
        "device-cgroup-rule",
        "list",
        "Add a rule to the list of allowed devices (c 1:3 rwm)",
    )
    .check(devices::cgroup_rule),
    Flag::list("device-read-bps", "list", "Limit bytes read per second from a device").check(limits::byte_rate),
    Flag::list("device-read-iops", "list", "Limit reads per second from a device").check(limits::operation_rate),
    Flag::list("device-write-bps", "list", "Limit bytes written per second to a device").check(limits::byte_rate),
    Flag::list("device-write-iops", "list", "Limit writes per second to a device").check(limits::operation_rate),
    Flag::switch_on("disable-content-trust", "Do not verify images"),
    Flag::list("dns", "list", "Name server").check(network::address),
    Flag::list("dns-option", "list", "Option of the resolver").former("dns-opt"),
    Flag::list("dns-search", "list", "Domain to search names in").check(network::search_domain),
    Flag::single("domainname", "string", "NIS domain name"),
    Flag::single("entrypoint", "string", "Replace the image's ENTRYPOINT"),
    Flag::list(
        "env",
        "list",
        "Set an environment variable; a bare name takes the client's value",
    )
    .short('e')
    .check(environment::check_variable),
    Flag::list("env-file", "list", "Read environment variables from a file"),
    Flag::list("expose", "list", "Declare a port or a range of ports"),
    Flag::list(
        "gpus",
        "gpu-request",
        "GPUs to give to the container ('all' for all of them)",
    )
    .check(devices::gpus),
    Flag::list("group-add", "list", "Add a group to the process"),
    Flag::single("health-cmd", "string", "Command that checks health"),
    Flag::single("health-interval", "duration", "Time between two checks (ms|s|m|h)").check(duration),
    Flag::single("health-retries", "int", "Failures in a row that mean unhealthy").check(integer),
    Flag::single(
        "health-start-interval",
        "duration",
        "Time between two checks while starting",
    )
    .check(duration),
    Flag::single(
        "health-start-period",
        "duration",
        "Time to start in before failures count",
    )
    .check(duration),
    Flag::single("health-timeout", "duration", "Longest time that a check may take").check(duration),
    Flag::single("hostname", "string", "Host name").short('h'),
    Flag::list("hugepages", "list", limits::HUGEPAGES_HELP).check(limits::hugepage),
    Flag::switch("init", "Run a small init that forwards signals and reaps processes"),
    Flag::switch("interactive", "Keep STDIN open").short('i'),
    Flag::single("io-maxbandwidth", "bytes", "Limit of I/O bandwidth (Windows only)").check(bytes),
    Flag::single("io-maxiops", "uint", "Limit of I/O operations (Windows only)").check(unsigned),
    Flag::single("ip", "string", "IPv4 address (172.30.100.104)"),
    Flag::single("ip6", "string", "IPv6 address (2001:db8::33)"),
    Flag::single("ipc", "string", "IPC namespace to use"),
    Flag::single("isolation", "string", "Technology of isolation"),
    Flag::single("kernel-memory", "bytes", "Limit of kernel memory (without effect)").check(bytes),
    Flag::list("label", "list", "Set a label")
        .short('l')
        .check(environment::check_label),
    Flag::list("label-file", "list", "Read labels from a file"),
    Flag::list("link", "list", "Link to another container").check(network::link),
    Flag::list("link-local-ip", "list", "Link-local address"),
    Flag::single("log-driver", "string", "Driver of the log"),
    Flag::list("log-opt", "list", "Option of the log's driver"),
    Flag::single("mac-address", "string", "MAC address (92:d0:c6:0a:29:33)"),
    Flag::single("memory", "bytes", "Limit of memory")
        .short('m')
        .check(bytes),
    Flag::single("memory-reservation", "bytes", "Soft limit of memory").check(bytes),
    Flag::single("memory-swap", "bytes", "Limit of memory and swap together, -1 for none").check(limits::swap),
    Flag::single("memory-swappiness", "int", "Tendency to swap, 0 to 100 (default -1)").check(integer),
    Flag::list("mount", "mount", "Mount a directory, a volume or a tmpfs").check(mounts::mount),
    Flag::single("name", "string", "Name of the container"),
    Flag::list("network", "network", "Network to connect to")
        .former("net")
        .check(network::network),
    Flag::list("network-alias", "list", "Another name in the network").former("net-alias"),
    Flag::switch("no-healthcheck", "Ignore the image's HEALTHCHECK"),
    Flag::switch("oom-kill-disable", "Do not kill processes when memory runs out"),
    Flag::single(
        "oom-score-adj",
        "int",
        "Preference when memory runs out (-1000 to 1000)",
    )
    .check(integer),
    Flag::single("pid", "string", "PID namespace to use"),
    Flag::single("pids-limit", "int", "Limit of processes, -1 for none").check(integer),
    Flag::single("platform", "string", "Platform of the image"),
    Flag::switch("privileged", "Give all privileges of the host"),
    Flag::list("publish", "list", "Publish a port on the host").short('p'),
    Flag::switch("publish-all", "Publish all declared ports on free ports of the host").short('P'),
    Flag::single(
        "pull",
        "string",
        "When to pull the image (\"always\", \"missing\", \"never\") (default \"missing\")",
    ),
    Flag::switch("quiet", "Do not show progress of pulling").short('q'),
    Flag::switch("read-only", "Make the root file system read-only"),
    Flag::single(
        "restart",
        "string",
        "What to do when the container exits (default \"no\")",
    ),
    Flag::switch("rm", "Remove the container and its anonymous volumes when it exits"),
    Flag::single("runtime", "string", "Runtime to use"),
    Flag::list("security-opt", "list", "Security option"),
    Flag::single("shm-size", "bytes", "Size of /dev/shm").check(bytes),
    Flag::single("stop-signal", "string", "Signal that stops the container"),
    Flag::single("stop-timeout", "int", "Seconds between the stop signal and SIGKILL").check(integer),
    Flag::list("storage-opt", "list", "Option of the storage driver"),
    Flag::list("sysctl", "map", "Kernel parameter of the container's namespaces").check(security::sysctl),
    Flag::list("tmpfs", "list", "Mount a tmpfs (/path[:options])"),
    Flag::switch("tty", "Give the process a terminal").short('t'),
    Flag::list("ulimit", "ulimit", "Resource limit (name=soft[:hard])").check(limits::ulimit),
    Flag::switch("use-api-socket", "Mount the daemon's socket"),
    Flag::single("user", "string", "User, and group (<name|uid>[:<group|gid>])").short('u'),
    Flag::single("userns", "string", "User namespace to use"),
    Flag::single("uts", "string", "UTS namespace to use"),
    Flag::list("volume", "list", "Mount a directory of the host or a volume").short('v'),
    Flag::single("volume-driver", "string", "Driver of volumes"),
    Flag::list("volumes-from", "list", "Mount the volumes of other containers"),
    Flag::single("workdir", "string", "Working directory").short('w'),
];

fn stream(text: &str) -> Result<(), String> {
    match text.to_lowercase().as_str() {
        "stdin" | "stdout" | "stderr" => Ok(()),
        _ => Err("valid streams are STDIN, STDOUT and STDERR".to_string()),
    }
}
