//! The documents that templates see, as Docker's types shape them: what may be left out of them, or null.
use crate::template::shape::Shape::{self, Any, Flag, List, Map, Number, Pointer, Struct, Text};

/// The shape of what `inspect` shows of a kind of object.
pub fn of_kind(kind: &str) -> &'static Shape {
    match kind {
        "container" => &CONTAINER,
        "image" => &IMAGE,
        "network" => &NETWORK,
        "volume" => &VOLUME,
        _ => &Any,
    }
}

pub static EVENT: Shape = Struct(&[
    ("Actor", Struct(&[("Attributes", Map(&Any))])),
    ("from", Text),
    ("id", Text),
    ("scope", Text),
    ("status", Text),
]);

static CONTAINER: Shape = Struct(&[
    ("Args", List(&Any)),
    ("Config", CONFIG),
    ("ExecIDs", List(&Any)),
    ("GraphDriver", GRAPH_DRIVER),
    ("HostConfig", HOST_CONFIG),
    ("ImageManifestDescriptor", Pointer(&Any)),
    ("Mounts", List(&MOUNT_POINT)),
    ("NetworkSettings", NETWORK_SETTINGS),
    ("SizeRootFs", Pointer(&Any)),
    ("SizeRw", Pointer(&Any)),
    ("State", Struct(&[("Health", Pointer(&HEALTH))])),
]);

static HEALTH: Shape = Struct(&[("Log", List(&Any))]);

/// Of containers, and of images.
const CONFIG: Shape = Struct(&[
    ("ArgsEscaped", Flag),
    ("Cmd", List(&Any)),
    ("Entrypoint", List(&Any)),
    ("Env", List(&Any)),
    ("ExposedPorts", Map(&Any)),
    ("Healthcheck", Pointer(&HEALTHCHECK)),
    ("Labels", Map(&Any)),
    ("MacAddress", Text),
    ("NetworkDisabled", Flag),
    ("OnBuild", List(&Any)),
    ("Shell", List(&Any)),
    ("StopSignal", Text),
    ("StopTimeout", Pointer(&Any)),
    ("User", Text),
    ("Volumes", Map(&Any)),
    ("WorkingDir", Text),
]);

static HEALTHCHECK: Shape = Struct(&[
    ("Interval", Number),
    ("Retries", Number),
    ("StartInterval", Number),
    ("StartPeriod", Number),
    ("Test", List(&Any)),
    ("Timeout", Number),
]);

const HOST_CONFIG: Shape = Struct(&[
    ("Annotations", Map(&Any)),
    ("Binds", List(&Any)),
    ("BlkioDeviceReadBps", List(&Any)),
    ("BlkioDeviceReadIOps", List(&Any)),
    ("BlkioDeviceWriteBps", List(&Any)),
    ("BlkioDeviceWriteIOps", List(&Any)),
    ("BlkioWeightDevice", List(&Any)),
    ("CapAdd", List(&Any)),
    ("CapDrop", List(&Any)),
    ("DeviceCgroupRules", List(&Any)),
    ("DeviceRequests", List(&DEVICE_REQUEST)),
    ("Devices", List(&Any)),
    ("Dns", List(&Any)),
    ("DnsOptions", List(&Any)),
    ("DnsSearch", List(&Any)),
    ("ExtraHosts", List(&Any)),
    ("GroupAdd", List(&Any)),
    ("HugepageLimits", List(&Any)),
    ("Init", Pointer(&Any)),
    ("KernelMemory", Number),
    ("KernelMemoryTCP", Number),
    ("Links", List(&Any)),
    ("LogConfig", Struct(&[("Config", Map(&Any))])),
    ("MaskedPaths", List(&Any)),
    ("MemorySwappiness", Pointer(&Any)),
    ("Mounts", List(&MOUNT)),
    ("OomKillDisable", Pointer(&Any)),
    ("PidsLimit", Pointer(&Any)),
    ("PortBindings", Map(&List(&Any))),
    ("ReadonlyPaths", List(&Any)),
    ("Runtime", Text),
    ("SecurityOpt", List(&Any)),
    ("StorageOpt", Map(&Any)),
    ("Sysctls", Map(&Any)),
    ("Tmpfs", Map(&Any)),
    ("Ulimits", List(&Any)),
    ("VolumesFrom", List(&Any)),
]);

static DEVICE_REQUEST: Shape = Struct(&[
    ("Capabilities", List(&Any)),
    ("DeviceIDs", List(&Any)),
    ("Options", Map(&Any)),
]);

static MOUNT: Shape = Struct(&[
    ("BindOptions", Pointer(&BIND_OPTIONS)),
    ("ClusterOptions", Pointer(&Any)),
    ("Consistency", Text),
    ("ImageOptions", Pointer(&SUBPATH)),
    ("ReadOnly", Flag),
    ("Source", Text),
    ("Target", Text),
    ("TmpfsOptions", Pointer(&TMPFS_OPTIONS)),
    ("Type", Text),
    ("VolumeOptions", Pointer(&VOLUME_OPTIONS)),
]);

static BIND_OPTIONS: Shape = Struct(&[
    ("CreateMountpoint", Flag),
    ("IDMapping", Pointer(&Any)),
    ("NonRecursive", Flag),
    ("Propagation", Text),
    ("ReadOnlyForceRecursive", Flag),
    ("ReadOnlyNonRecursive", Flag),
]);

static SUBPATH: Shape = Struct(&[("Subpath", Text)]);

static TMPFS_OPTIONS: Shape = Struct(&[("Mode", Number), ("Options", List(&Any)), ("SizeBytes", Number)]);

static VOLUME_OPTIONS: Shape = Struct(&[
    ("DriverConfig", Pointer(&DRIVER_CONFIG)),
    ("Labels", Map(&Any)),
    ("NoCopy", Flag),
    ("Subpath", Text),
]);

static DRIVER_CONFIG: Shape = Struct(&[("Name", Text), ("Options", Map(&Any))]);

static MOUNT_POINT: Shape = Struct(&[("Driver", Text), ("Name", Text), ("Source", Text), ("Type", Text)]);

const GRAPH_DRIVER: Shape = Struct(&[("Data", Map(&Any))]);

const NETWORK_SETTINGS: Shape = Struct(&[
    ("Networks", Map(&ENDPOINT)),
    ("Ports", Map(&List(&Any))),
    ("SecondaryIPAddresses", List(&Any)),
    ("SecondaryIPv6Addresses", List(&Any)),
]);

static ENDPOINT: Shape = Struct(&[
    ("Aliases", List(&Any)),
    ("DNSNames", List(&Any)),
    ("DriverOpts", Map(&Any)),
    ("GwPriority", Number),
    ("IPAMConfig", Pointer(&ENDPOINT_IPAM)),
    ("Links", List(&Any)),
]);

static ENDPOINT_IPAM: Shape = Struct(&[
    ("IPv4Address", Text),
    ("IPv6Address", Text),
    ("LinkLocalIPs", List(&Any)),
]);

static IMAGE: Shape = Struct(&[
    ("Author", Text),
    ("Comment", Text),
    ("Config", CONFIG),
    ("Container", Text),
    ("Created", Text),
    ("Descriptor", Pointer(&Any)),
    ("DockerVersion", Text),
    ("GraphDriver", GRAPH_DRIVER),
    ("Manifests", List(&Any)),
    ("OsVersion", Text),
    ("Parent", Text),
    ("RepoDigests", List(&Any)),
    ("RepoTags", List(&Any)),
    ("RootFS", Struct(&[("Layers", List(&Any))])),
    ("Variant", Text),
    ("VirtualSize", Number),
]);

static NETWORK: Shape = Struct(&[
    ("Containers", Map(&Any)),
    ("IPAM", Struct(&[("Config", List(&POOL)), ("Options", Map(&Any))])),
    ("Labels", Map(&Any)),
    ("Options", Map(&Any)),
    ("Peers", List(&Any)),
    ("Services", Map(&Any)),
]);

static POOL: Shape = Struct(&[
    ("AuxiliaryAddresses", Map(&Any)),
    ("Gateway", Text),
    ("IPRange", Text),
    ("Subnet", Text),
]);

static VOLUME: Shape = Struct(&[
    ("ClusterVolume", Pointer(&Any)),
    ("CreatedAt", Text),
    ("Labels", Map(&Any)),
    ("Options", Map(&Any)),
    ("Status", Map(&Any)),
    ("UsageData", Pointer(&Any)),
]);
