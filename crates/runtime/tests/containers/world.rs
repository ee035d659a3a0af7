//! A world for one test: a directory, a root file system, a launcher, and what a daemon does with them.
use std::{
    cell::RefCell,
    fs,
    io::{Read, Write},
    net::Shutdown,
    os::{
        fd::{AsFd, OwnedFd},
        unix::{fs::symlink, net::UnixStream},
    },
    path::{Path, PathBuf},
    process,
    sync::{
        LazyLock,
        atomic::{AtomicU32, Ordering},
    },
};

use corten_runtime::{
    launcher::Launcher,
    process::{
        plan::{Plan, compile},
        task::{LogFile, LogFormat, Rootfs, Stdio, TaskRequest},
    },
    shim::{
        connection::{plan_memfd, receive, send},
        protocol::{Event, Exit, Failure, FromShim, Reply, TaskState, ToShim},
    },
};
use oci_spec::runtime::Spec;
use serde_json::{Value, json};
use tempfile::TempDir;

const BUSYBOX: &str = "/bin/busybox";

/// Docker's default set.
pub const CAPABILITIES: [&str; 14] = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FSETID",
    "CAP_FOWNER",
    "CAP_MKNOD",
    "CAP_NET_RAW",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETFCAP",
    "CAP_SETPCAP",
    "CAP_NET_BIND_SERVICE",
    "CAP_SYS_CHROOT",
    "CAP_KILL",
    "CAP_AUDIT_WRITE",
];

/// Why these tests cannot run here.
pub fn unavailable() -> Option<String> {
    if !rustix::process::geteuid().is_root() {
        return Some("containers need root".to_owned());
    }
    (!Path::new(BUSYBOX).exists()).then(|| format!("{BUSYBOX} is missing (Debian's busybox-static)"))
}

/// Removes what all containers of this process shared.
pub fn clear_up() {
    let name = format!("corten-test-{}", process::id());
    let hierarchies = fs::read_dir("/sys/fs/cgroup")
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path());
    for hierarchy in hierarchies.chain([PathBuf::from("/sys/fs/cgroup")]) {
        let _ = fs::remove_dir(hierarchy.join(&name));
    }
}

static LAUNCHER: LazyLock<Launcher> =
    LazyLock::new(|| Launcher::spawn_with(Path::new("/proc/self/exe")).expect("a launcher"));
static NUMBER: AtomicU32 = AtomicU32::new(0);

pub fn launcher() -> &'static Launcher {
    &LAUNCHER
}

/// One container to be.
pub struct World {
    pub directory: TempDir,
    pub request: RefCell<TaskRequest>,
    pub document: RefCell<Value>,
}

impl World {
    pub fn new() -> World {
        let directory = tempfile::tempdir().unwrap();
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let id = format!("{:08x}{number:056x}", process::id());
        for name in ["lower", "upper", "work", "task"] {
            fs::create_dir(directory.path().join(name)).unwrap();
        }
        busybox_root(&directory.path().join("lower"));
        let document = document(&format!("/corten-test-{}/{number}", process::id()));
        let request = TaskRequest {
            shared_memory: None,
            id,
            directory: directory.path().join("task"),
            spec: Spec::default(),
            rootfs: Rootfs::Overlay {
                lowers: vec![directory.path().join("lower")],
                upper: directory.path().join("upper"),
                work: directory.path().join("work"),
                volatile: false,
            },
            bundle: Some(directory.path().to_owned()),
            user: String::new(),
            additional_groups: Vec::new(),
            handed: Vec::new(),
            owners: Vec::new(),
            create_working_directory: false,
            traces: false,
            stdio: Stdio {
                log: Some(LogFile {
                    format: LogFormat::Json {
                        attributes: String::new(),
                    },
                    hold: false,
                    path: directory.path().join("log"),
                    max_bytes: None,
                    max_files: 1,
                }),
                ..Stdio::default()
            },
        };
        World {
            directory,
            request: RefCell::new(request),
            document: RefCell::new(document),
        }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub fn lower(&self) -> PathBuf {
        self.path("lower")
    }

    pub fn arguments(&self, arguments: &[&str]) -> &World {
        self.document.borrow_mut()["process"]["args"] = json!(arguments);
        self
    }

    /// A shell script as the program.
    pub fn script(&self, script: &str) -> &World {
        self.arguments(&["sh", "-c", script])
    }

    pub fn edit(&self, edit: impl FnOnce(&mut Value)) -> &World {
        edit(&mut self.document.borrow_mut());
        self
    }

    pub fn request(&self, edit: impl FnOnce(&mut TaskRequest)) -> &World {
        edit(&mut self.request.borrow_mut());
        self
    }

    pub fn mount(&self, mount: Value) -> &World {
        self.edit(|document| document["mounts"].as_array_mut().unwrap().push(mount))
    }

    pub fn plan(&self) -> Result<Plan, Failure> {
        let mut request = self.request.borrow().clone();
        request.spec = serde_json::from_value(self.document.borrow().clone()).unwrap();
        compile(&request).map_err(Failure::from)
    }

    /// Launched, and waiting for its start.
    pub fn create(&self) -> Result<Container, Failure> {
        launch(&self.plan()?)
    }

    pub fn start(&self) -> Result<Container, Failure> {
        let mut container = self.create()?;
        container.start()?;
        Ok(container)
    }

    /// Runs it to its end: exit code, and what it printed on both streams according to the log.
    pub fn run(&self) -> (i32, String) {
        let mut container = self.start().unwrap_or_else(|failure| panic!("{failure:?}"));
        let exit = container.wait();
        (exit.code, self.printed())
    }

    pub fn failure(&self) -> Failure {
        match self.start() {
            Ok(_) => panic!("it started"),
            Err(failure) => failure,
        }
    }

    /// The lines that are whole: the shim may be in the midst of writing another.
    pub fn log_lines(&self) -> Vec<Value> {
        let text = fs::read_to_string(self.path("log")).unwrap_or_default();
        text.split_inclusive('\n')
            .filter(|line| line.ends_with('\n'))
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }

    pub fn printed(&self) -> String {
        self.log_lines()
            .iter()
            .map(|line| line["log"].as_str().unwrap())
            .collect()
    }

    /// Nothing of the container is left: no process, cgroup, mount or file but those of a daemon.
    pub fn assert_nothing_left(&self) {
        let left: Vec<_> = fs::read_dir(self.path("task"))
            .unwrap()
            .map(|entry| entry.unwrap().file_name())
            .collect();
        assert!(left.is_empty(), "left in the task's directory: {left:?}");
        self.assert_no_cgroup();
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        assert!(!mounts.contains(self.directory.path().to_str().unwrap()), "{mounts}");
    }

    pub fn assert_no_cgroup(&self) {
        let path = self.document.borrow()["linux"]["cgroupsPath"].as_str().unwrap()[1..].to_owned();
        let hierarchies = fs::read_dir("/sys/fs/cgroup")
            .unwrap()
            .map(|entry| entry.unwrap().path());
        for hierarchy in hierarchies.chain([PathBuf::from("/sys/fs/cgroup")]) {
            assert!(
                !hierarchy.join(&path).exists(),
                "{} is left",
                hierarchy.join(&path).display()
            );
        }
    }
}

/// What a daemon does with a plan.
pub fn launch(plan: &Plan) -> Result<Container, Failure> {
    let connection = launcher().connect().unwrap();
    let file = plan_memfd(plan).unwrap();
    send(connection.as_fd(), &ToShim::Launch, &[file.as_fd()]).unwrap();
    let mut container = Container {
        connection,
        pidfd: None,
        state: None,
        exit: None,
    };
    match container.reply() {
        Reply::Created(state) => {
            container.state = Some(state);
            Ok(container)
        }
        Reply::Failed(failure) => Err(failure),
        other => panic!("{other:?}"),
    }
}

fn busybox_root(root: &Path) {
    for name in ["bin", "dev", "etc", "proc", "sys", "tmp", "root", "var/www"] {
        fs::create_dir_all(root.join(name)).unwrap();
    }
    fs::copy(BUSYBOX, root.join("bin/busybox")).unwrap();
    let applets = "sh true false cat echo id ls env stat mount hostname sleep head tail seq stty readlink touch mkdir rm \
                   sha256sum wc kill ps mknod ip pwd grep sysctl chmod ulimit yes dd trap tty";
    for applet in applets.split_whitespace() {
        symlink("busybox", root.join("bin").join(applet)).unwrap();
    }
    fs::write(
        root.join("etc/passwd"),
        "root:x:0:0:root:/root:/bin/sh\nweb:x:33:33:web:/var/www:/bin/sh\n",
    )
    .unwrap();
    fs::write(
        root.join("etc/group"),
        "root:x:0:\naudio:x:29:web\nweb:x:33:\nstaff:x:50:\n",
    )
    .unwrap();
}

/// What Docker asks its runtime for, in essence.
fn document(cgroup: &str) -> Value {
    let mount = |destination: &str, kind: &str, options: &[&str]| json!({"destination": destination, "type": kind, "source": kind, "options": options});
    let namespaces = ["pid", "network", "ipc", "uts", "mount", "cgroup"].map(|kind| json!({"type": kind}));
    json!({
        "ociVersion": "1.2.0",
        "hostname": "corten-test",
        "root": {"path": "unused"},
        "process": {
            "args": ["true"],
            "cwd": "/",
            "env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"],
            "user": {"uid": 0, "gid": 0},
            "capabilities": {"bounding": CAPABILITIES, "effective": CAPABILITIES, "permitted": CAPABILITIES},
        },
        "mounts": [
            mount("/proc", "proc", &["nosuid", "noexec", "nodev"]),
            mount("/dev", "tmpfs", &["nosuid", "strictatime", "mode=755", "size=65536k"]),
            mount("/dev/pts", "devpts", &["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]),
            mount("/sys", "sysfs", &["nosuid", "noexec", "nodev", "ro"]),
            mount("/sys/fs/cgroup", "cgroup", &["ro", "nosuid", "noexec", "nodev"]),
            mount("/dev/mqueue", "mqueue", &["nosuid", "noexec", "nodev"]),
            mount("/dev/shm", "tmpfs", &["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"]),
        ],
        "linux": {
            "cgroupsPath": cgroup,
            "resources": {},
            "namespaces": namespaces,
            "maskedPaths": ["/proc/acpi", "/proc/kcore", "/proc/keys", "/proc/timer_list", "/proc/scsi", "/sys/firmware"],
            "readonlyPaths": ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"],
        },
    })
}

/// A daemon's view of one shim.
pub struct Container {
    pub connection: OwnedFd,
    pub pidfd: Option<OwnedFd>,
    pub state: Option<TaskState>,
    pub exit: Option<Exit>,
}

impl Container {
    pub fn state(&self) -> &TaskState {
        self.state.as_ref().unwrap()
    }

    /// The next reply; events before it are kept.
    fn reply(&mut self) -> Reply {
        loop {
            let (message, fds) = receive(self.connection.as_fd()).unwrap().expect("the shim is gone");
            if let Some(fd) = fds.into_iter().next() {
                self.pidfd = Some(fd);
            }
            match message {
                FromShim::Reply(reply) => return reply,
                FromShim::Event(Event::Exited(exit)) => self.exit = Some(exit),
                FromShim::Event(_) => {}
            }
        }
    }

    pub fn ask(&mut self, request: ToShim, fds: &[std::os::fd::BorrowedFd]) -> Result<Reply, Failure> {
        send(self.connection.as_fd(), &request, fds).unwrap();
        match self.reply() {
            Reply::Failed(failure) => Err(failure),
            reply => Ok(reply),
        }
    }

    pub fn start(&mut self) -> Result<(), Failure> {
        self.ask(ToShim::Start, &[])
            .map(|reply| assert_eq!(reply, Reply::Started))
    }

    pub fn signal(&mut self, number: i32) {
        self.ask(ToShim::Signal { number }, &[]).unwrap();
    }

    pub fn attach(&mut self, [stdin, stdout, stderr]: [bool; 3]) -> UnixStream {
        let (ours, theirs) = UnixStream::pair().unwrap();
        self.ask(ToShim::Attach { stdin, stdout, stderr }, &[theirs.as_fd()])
            .unwrap();
        ours
    }

    pub fn wait(&mut self) -> Exit {
        loop {
            if let Some(exit) = &self.exit {
                return exit.clone();
            }
            match receive(self.connection.as_fd()).unwrap() {
                Some((FromShim::Event(Event::Exited(exit)), _)) => self.exit = Some(exit),
                Some(other) => panic!("{other:?}"),
                None => panic!("the shim died without a word"),
            }
        }
    }
}

/// Sends input, ends it, and reads all output.
pub fn exchange(mut stream: UnixStream, input: Vec<u8>) -> Vec<u8> {
    let mut writer = stream.try_clone().unwrap();
    let sender = std::thread::spawn(move || {
        let _ = writer.write_all(&input);
        let _ = writer.shutdown(Shutdown::Write);
    });
    let mut output = Vec::new();
    stream.read_to_end(&mut output).unwrap();
    sender.join().unwrap();
    output
}

/// What one stream printed, out of stdcopy frames.
pub fn unframe(mut frames: &[u8], stream: u8) -> Vec<u8> {
    let mut data = Vec::new();
    while !frames.is_empty() {
        let length = u32::from_be_bytes(frames[4..8].try_into().unwrap()) as usize;
        if frames[0] == stream {
            data.extend_from_slice(&frames[8..8 + length]);
        }
        frames = &frames[8 + length..];
    }
    data
}
