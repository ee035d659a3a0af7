//! Network namespaces as hosts of their own: what one sees of another is what a packet on the wire sees.
//!
//! A socket stays in the namespace where it was made. So servers and clients are opened inside, on a thread that went
//! there for it, and used from anywhere.
use std::{
    fs::File,
    io::{self, BufRead, BufReader},
    os::fd::{AsFd, AsRawFd},
    os::unix::fs::MetadataExt,
    process::{Command, Stdio, id},
    sync::Arc,
    thread,
};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::{
    command::{Output, run},
    daemon::Arguments,
};

/// A network namespace; it lives as long as something in it, or one of these.
#[derive(Debug, Clone)]
pub struct Namespace {
    file: Arc<File>,
}

impl Namespace {
    /// A new one with nothing but loopback in it.
    pub fn new() -> Namespace {
        let script = "busybox ip link set lo up && echo ready && exec cat";
        let mut holder = Command::new("unshare")
            .args(["--net", "sh", "-c", script])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("unshare(1) is installed");
        let mut line = String::new();
        let stdout = holder.stdout.take().expect("it is piped");
        BufReader::new(stdout).read_line(&mut line).expect("pipes can be read");
        assert_eq!(line, "ready\n", "tests run as root, with a busybox");
        let namespace = Namespace::of(holder.id() as i32);
        drop(holder.stdin.take());
        holder.wait().expect("the child is ours");
        namespace
    }

    /// That of a process, such as a container's first.
    #[track_caller]
    pub fn of(pid: i32) -> Namespace {
        let file = File::open(format!("/proc/{pid}/ns/net")).expect("the process lives");
        Namespace { file: Arc::new(file) }
    }

    /// The number that identifies it.
    pub fn inode(&self) -> u64 {
        self.file.metadata().expect("it is open").ino()
    }

    /// A path that leads to it, for programs started by this process.
    pub fn path(&self) -> String {
        format!("/proc/{}/fd/{}", id(), self.file.as_raw_fd())
    }

    /// Does something inside: what it opens, and what it starts, belongs to this namespace.
    pub fn inside<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        let network = self.file.as_fd();
        let enter_and_work = || {
            move_into_link_name_space(network, Some(LinkNameSpaceType::Network)).expect("tests run as root");
            work()
        };
        thread::scope(|scope| scope.spawn(enter_and_work).join())
            .unwrap_or_else(|cause| std::panic::resume_unwind(cause))
    }

    /// Runs a program inside.
    #[track_caller]
    pub fn run(&self, arguments: impl Arguments) -> Output {
        let words = arguments.words();
        self.inside(|| run(Command::new(&words[0]).args(&words[1..])))
    }

    /// `ip ARGUMENTS` inside, which must succeed; what it printed.
    #[track_caller]
    pub fn ip(&self, arguments: impl Arguments) -> String {
        let mut words = vec!["ip".to_owned()];
        words.extend(arguments.words());
        self.run(words).ok()
    }

    /// A setting beneath /proc/sys/net, such as `ipv4/ip_forward`; nothing where this kernel has no such setting.
    pub fn sysctl(&self, name: &str) -> Option<String> {
        let text = self
            .inside(|| std::fs::read_to_string(format!("/proc/sys/net/{name}")))
            .ok()?;
        Some(text.trim_end().to_owned())
    }

    pub fn set_sysctl(&self, name: &str, value: &str) -> io::Result<()> {
        self.inside(|| std::fs::write(format!("/proc/sys/net/{name}"), value))
    }

    /// The names of its interfaces.
    pub fn interfaces(&self) -> Vec<String> {
        let table = self.inside(|| std::fs::read_to_string("/proc/thread-self/net/dev"));
        let table = table.expect("/proc is mounted");
        let names = table.lines().filter_map(|line| line.split_once(':'));
        let mut names: Vec<String> = names.map(|(name, _)| name.trim().to_owned()).collect();
        names.sort();
        names
    }

    /// Joins two namespaces by a cable: `name` here, `other_name` there, both up.
    pub fn join(&self, name: &str, other: &Namespace, other_name: &str) {
        let path = other.path();
        self.ip([
            "link", "add", name, "type", "veth", "peer", "name", other_name, "netns", &path,
        ]);
        self.ip(["link", "set", name, "up"]);
        other.ip(["link", "set", other_name, "up"]);
    }

    /// Gives an interface an address with its prefix, usable at once, unless it has it.
    pub fn add_address(&self, interface: &str, address: &str) {
        let mut words = vec!["address", "replace", address, "dev", interface];
        if address.contains(':') {
            words.push("nodad");
        }
        self.ip(words.as_slice());
    }
}

impl Default for Namespace {
    fn default() -> Namespace {
        Namespace::new()
    }
}
