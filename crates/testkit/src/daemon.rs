//! A daemon of one test's own: data root, run root, socket, cgroup parent and network namespace are nobody else's.
//!
//! Dropping it takes away everything that it and its containers made, whatever state they are in; when the test
//! panics, its log is printed first.
use std::{
    env,
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio, id},
    sync::atomic::{AtomicU32, Ordering},
    thread,
    time::UNIX_EPOCH,
};

use rustix::{
    mount::{UnmountFlags, unmount},
    process::Signal,
};
use serde_json::Value;
use tempfile::TempDir;

use crate::{
    api::Api,
    cgroup,
    command::{Output, run, run_with_input},
    image::Image,
    namespace::Namespace,
    process,
    terminal::Terminal,
    wait::wait_until,
};

/// How much of a log a failing test shows.
const LOG_LINES: usize = 60;

/// Arguments as one line, split at spaces, or as a list where a word has spaces in it.
pub trait Arguments {
    fn words(self) -> Vec<String>;
}

impl Arguments for &str {
    fn words(self) -> Vec<String> {
        self.split_ascii_whitespace().map(str::to_owned).collect()
    }
}

impl Arguments for &String {
    fn words(self) -> Vec<String> {
        self.as_str().words()
    }
}

impl<const N: usize> Arguments for [&str; N] {
    fn words(self) -> Vec<String> {
        self.map(str::to_owned).to_vec()
    }
}

impl Arguments for &[&str] {
    fn words(self) -> Vec<String> {
        self.iter().map(|&word| word.to_owned()).collect()
    }
}

impl Arguments for Vec<String> {
    fn words(self) -> Vec<String> {
        self
    }
}

/// What a daemon is started with.
pub struct Setup {
    binary: PathBuf,
    arguments: Vec<String>,
    data_root: Option<PathBuf>,
    wrapper: Vec<String>,
    network: Option<Namespace>,
}

impl Setup {
    /// `binary` is the program under test: `env!("CARGO_BIN_EXE_corten")`.
    pub fn new(binary: &str) -> Setup {
        Setup {
            binary: PathBuf::from(binary),
            arguments: Vec::new(),
            data_root: None,
            wrapper: Vec::new(),
            network: None,
        }
    }

    /// More of dockerd's flags.
    pub fn arguments(mut self, arguments: impl Arguments) -> Setup {
        self.arguments.extend(arguments.words());
        self
    }

    /// Keep state here and not in the test's directory.
    pub fn data_root(mut self, path: &Path) -> Setup {
        self.data_root = Some(path.to_owned());
        self
    }

    /// A program that executes the daemon, such as `unshare --mount`.
    pub fn wrapper(mut self, words: impl Arguments) -> Setup {
        self.wrapper = words.words();
        self
    }

    /// The network namespace that is its host; a new one otherwise.
    pub fn network(mut self, namespace: &Namespace) -> Setup {
        self.network = Some(namespace.clone());
        self
    }

    #[track_caller]
    pub fn start(self) -> Daemon {
        let mut daemon = Daemon::prepare(self);
        daemon.start_process();
        daemon
    }

    /// For a daemon that must refuse to start: what it printed, and its exit code.
    #[track_caller]
    pub fn start_in_vain(self) -> Output {
        let daemon = Daemon::prepare(self);
        let mut command = daemon.daemon_command();
        daemon.in_network(|| run(&mut command))
    }
}

/// A running daemon, its clients and its world.
pub struct Daemon {
    setup: Setup,
    directory: Option<TempDir>,
    root: PathBuf,
    network: Namespace,
    cgroup_parent: String,
    process: Option<Child>,
}

impl Daemon {
    /// A daemon without anything special.
    #[track_caller]
    pub fn start(binary: &str) -> Daemon {
        Setup::new(binary).start()
    }

    fn prepare(setup: Setup) -> Daemon {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let base = env::var_os("CORTEN_TEST_DIR").map_or_else(env::temp_dir, PathBuf::from);
        let directory = tempfile::Builder::new()
            .prefix("corten-")
            .tempdir_in(base)
            .expect("a temporary directory");
        let root = directory.path().canonicalize().expect("it was just made");
        fs::create_dir(root.join("docker")).expect("the directory is ours");
        Daemon {
            network: setup.network.clone().unwrap_or_default(),
            setup,
            directory: Some(directory),
            root,
            cgroup_parent: format!("/corten-test-{}-{}", id(), COUNT.fetch_add(1, Ordering::Relaxed)),
            process: None,
        }
    }

    // Where things are.

    /// The test's directory: a place for files that need one.
    pub fn root(&self) -> &Path {
        &self.root
    }

    pub fn data_root(&self) -> PathBuf {
        self.setup.data_root.clone().unwrap_or_else(|| self.root.join("data"))
    }

    pub fn run_root(&self) -> PathBuf {
        self.root.join("run")
    }

    pub fn socket(&self) -> PathBuf {
        self.root.join("sock")
    }

    pub fn pid_file(&self) -> PathBuf {
        self.root.join("pid")
    }

    pub fn cgroup_parent(&self) -> &str {
        &self.cgroup_parent
    }

    fn log_path(&self) -> PathBuf {
        self.root.join("log")
    }

    /// What the daemon has printed.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(self.log_path()).unwrap_or_default()).into_owned()
    }

    // Its life.

    /// The daemon's process. Panics while there is none.
    #[track_caller]
    pub fn pid(&self) -> i32 {
        self.process
            .as_ref()
            .expect("the daemon runs")
            .id()
            .try_into()
            .expect("pids are small")
    }

    /// `kill -9` of the daemon alone; containers go on.
    pub fn kill(&mut self) {
        self.end(Signal::KILL);
    }

    /// Ends the daemon as an init system does; containers go on.
    pub fn stop(&mut self) {
        self.end(Signal::TERM);
    }

    fn end(&mut self, signal: Signal) {
        if let Some(mut child) = self.process.take() {
            process::signal(child.id() as i32, signal);
            let in_time = crate::command::ended_within(&child, crate::wait::PATIENCE);
            assert!(in_time, "the daemon does not end on {signal:?}");
            child.wait().expect("the child is ours");
        }
    }

    /// A new daemon on the same roots, once the old one was ended.
    #[track_caller]
    pub fn start_process(&mut self) {
        assert!(self.process.is_none(), "the daemon runs already");
        let log = File::options()
            .create(true)
            .append(true)
            .open(self.log_path())
            .expect("the directory is ours");
        let mut command = self.daemon_command();
        command
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("files can be shared"))
            .stderr(log);
        let child = self.in_network(|| command.spawn());
        self.process = Some(child.unwrap_or_else(|error| panic!("cannot run {command:?}: {error}")));
        let api = self.api();
        wait_until("the daemon answers", || {
            let child = self.process.as_mut().expect("it was just started");
            if let Some(status) = child.try_wait().expect("the child is ours") {
                panic!("the daemon ended with {status}");
            }
            // A connection may be refused, or cut when the daemon dies: ask again only when there is a listener.
            std::os::unix::net::UnixStream::connect(self.root.join("sock")).is_ok() && api.get("/_ping").status == 200
        });
    }

    /// `kill -9`, then a new daemon.
    #[track_caller]
    pub fn kill_and_start(&mut self) {
        self.kill();
        self.start_process();
    }

    fn daemon_command(&self) -> Command {
        let binary = self.setup.binary.to_string_lossy().into_owned();
        let mut words = self.setup.wrapper.clone();
        words.extend([binary, "daemon".to_owned()]);
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]);
        command.arg("-H").arg(format!("unix://{}", self.socket().display()));
        command
            .arg("--data-root")
            .arg(self.data_root())
            .arg("--exec-root")
            .arg(self.run_root());
        command
            .arg("--pidfile")
            .arg(self.pid_file())
            .arg("--cgroup-parent")
            .arg(&self.cgroup_parent);
        command.arg("--debug").args(&self.setup.arguments);
        command.env_remove("DOCKER_HOST");
        command
    }

    // Its clients.

    /// Prepared `docker` command line.
    pub fn docker_command(&self, arguments: impl Arguments) -> Command {
        let mut command = Command::new(env::var_os("DOCKER_CLI").unwrap_or_else(|| "docker".into()));
        command.args(arguments.words());
        self.client(command)
    }

    /// The same by the program under test.
    pub fn corten_command(&self, arguments: impl Arguments) -> Command {
        let mut command = Command::new(&self.setup.binary);
        command.args(arguments.words());
        self.client(command)
    }

    fn client(&self, mut command: Command) -> Command {
        for (key, _) in env::vars_os().filter(|(key, _)| key.to_string_lossy().starts_with("DOCKER_")) {
            command.env_remove(key);
        }
        command.env("DOCKER_HOST", format!("unix://{}", self.socket().display()));
        command.env("DOCKER_CONFIG", self.root.join("docker"));
        command
    }

    #[track_caller]
    pub fn docker(&self, arguments: impl Arguments) -> Output {
        run(&mut self.docker_command(arguments))
    }

    #[track_caller]
    pub fn docker_with_input(&self, arguments: impl Arguments, input: &[u8]) -> Output {
        run_with_input(&mut self.docker_command(arguments), input)
    }

    #[track_caller]
    pub fn corten(&self, arguments: impl Arguments) -> Output {
        run(&mut self.corten_command(arguments))
    }

    #[track_caller]
    pub fn corten_with_input(&self, arguments: impl Arguments, input: &[u8]) -> Output {
        run_with_input(&mut self.corten_command(arguments), input)
    }

    /// The docker client at a terminal of 24 rows and 80 columns.
    pub fn docker_terminal(&self, arguments: impl Arguments) -> Terminal {
        Terminal::run(&self.docker_command(arguments), 24, 80)
    }

    pub fn corten_terminal(&self, arguments: impl Arguments) -> Terminal {
        Terminal::run(&self.corten_command(arguments), 24, 80)
    }

    pub fn api(&self) -> Api {
        Api::new(&self.socket())
    }

    /// Loads an image from a docker archive.
    #[track_caller]
    pub fn load(&self, image: &Image) {
        self.docker_with_input("load", &image.docker_archive()).ok();
    }

    // Its containers.

    #[track_caller]
    pub fn inspect(&self, reference: &str) -> Value {
        self.api()
            .get(&format!("/containers/{reference}/json"))
            .expect(200)
            .json()
    }

    /// The status of a container in one word: `running`, `exited`, …
    #[track_caller]
    pub fn status(&self, reference: &str) -> String {
        self.inspect(reference)["State"]["Status"]
            .as_str()
            .expect("a status is text")
            .to_owned()
    }

    #[track_caller]
    pub fn wait_for_status(&self, reference: &str, status: &str) {
        wait_until(&format!("{reference} is {status}"), || self.status(reference) == status);
    }

    /// What this daemon has told so far, oldest first; `filters` as the API takes them, `{}` for everything.
    #[track_caller]
    pub fn events(&self, filters: &Value) -> Vec<Value> {
        let now = UNIX_EPOCH.elapsed().expect("the clock is right");
        let path = format!(
            "/events?since=0&until={}.{:09}&filters={filters}",
            now.as_secs(),
            now.subsec_nanos()
        );
        let answer = self.api().get(&path).expect(200);
        let lines = answer.body.split(|&byte| byte == b'\n').filter(|line| !line.is_empty());
        lines
            .map(|line| serde_json::from_slice(line).expect("events are JSON"))
            .collect()
    }

    /// The first process of a running container.
    #[track_caller]
    pub fn container_pid(&self, reference: &str) -> i32 {
        let pid = self.inspect(reference)["State"]["Pid"]
            .as_i64()
            .expect("a pid is a number");
        assert!(pid > 0, "{reference} does not run");
        pid.try_into().expect("pids are small")
    }

    /// The companion of a running container.
    #[track_caller]
    pub fn shim_pid(&self, reference: &str) -> i32 {
        process::parent(self.container_pid(reference)).expect("the container runs")
    }

    /// Waits until the log of a container has this text.
    #[track_caller]
    pub fn wait_for_log(&self, reference: &str, text: &str) {
        wait_until(&format!("{reference} prints {text:?}"), || {
            let output = self.docker(["logs", reference]);
            output.text().contains(text) || output.error().contains(text)
        });
    }

    /// The cgroup directories of a container, one in each hierarchy that is used.
    pub fn cgroups(&self, id: &str) -> Vec<PathBuf> {
        cgroup::directories(&self.cgroup_parent)
            .into_iter()
            .filter(|path| path.ends_with(id))
            .collect()
    }

    /// Does something from within the daemon's network namespace: host networking's ports are only reachable there.
    pub fn in_network<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        self.network.inside(work)
    }

    /// The network namespace that is this daemon's host.
    pub fn network(&self) -> &Namespace {
        &self.network
    }

    /// The network namespace of a running container.
    #[track_caller]
    pub fn network_of(&self, reference: &str) -> Namespace {
        Namespace::of(self.container_pid(reference))
    }

    /// Runs a program of a container's root file system in all its namespaces.
    #[track_caller]
    pub fn exec(&self, reference: &str, arguments: impl Arguments) -> Output {
        let pid = self.container_pid(reference).to_string();
        let mut command = Command::new("nsenter");
        command
            .args(["--target", &pid, "--all", "--wd", "--"])
            .args(arguments.words());
        command.env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
        run(&mut command)
    }

    /// A power cut and a new start of the machine: every process ends, what was in memory is gone, disks are not.
    /// The host has no interfaces but loopback afterwards; a daemon is not started.
    pub fn reboot(&mut self) {
        self.kill();
        self.end_everything();
        let _ = fs::remove_dir_all(self.run_root());
        let _ = fs::remove_file(self.socket());
        let _ = fs::remove_file(self.pid_file());
        for interface in self.network.interfaces() {
            if interface != "lo" && self.network.interfaces().contains(&interface) {
                self.network.run(["ip", "link", "delete", &interface]);
            }
        }
        self.network.run("nft flush ruleset").ok();
        wait_until("the host has no interfaces", || self.network.interfaces() == ["lo"]);
    }

    /// The daemon, its launcher, its shims, and containers with host networking.
    pub fn processes(&self) -> Vec<i32> {
        process::in_network(self.network.inode())
    }

    /// Kills everything that runs in the daemon's world but the daemon.
    fn end_everything(&self) {
        for _ in 0..100 {
            let left = self.processes();
            if left.is_empty() {
                break;
            }
            left.into_iter()
                .filter(|&pid| process::is_alive(pid))
                .for_each(|pid| process::signal(pid, Signal::KILL));
            cgroup::destroy(&self.cgroup_parent);
            thread::sleep(std::time::Duration::from_millis(5));
        }
        cgroup::destroy(&self.cgroup_parent);
    }

    /// Panics unless nothing of any container is left: shims, cgroups, mounts, directories of tasks and layers.
    #[track_caller]
    pub fn assert_nothing_remains(&self) {
        if is_foreign() {
            return;
        }
        self.assert_nothing_runs();
        // One that goes with its end is gone a moment after its task.
        wait_until("no container is left", || self.docker("ps -aq").ok().is_empty());
        for room in ["containers", "active"] {
            let directory = self.data_root().join(room);
            // Writable layers are deleted behind the caller's back.
            wait_until(&format!("{} is empty", directory.display()), || {
                names_in(&directory).is_empty()
            });
        }
    }

    /// Panics unless no container has anything in the kernel: it may still have a record, a layer and a log.
    #[track_caller]
    pub fn assert_nothing_runs(&self) {
        if is_foreign() {
            return;
        }
        wait_until("no cgroup of a container is left", || {
            let directories = cgroup::directories(&self.cgroup_parent);
            directories
                .iter()
                .all(|path| path.ends_with(self.cgroup_parent.trim_start_matches('/')))
        });
        let tasks = self.run_root().join("tasks");
        wait_until("no task is left", || names_in(&tasks).is_empty());
        wait_until("no shim is left", || {
            let mut others = self.processes();
            others.retain(|&pid| Some(pid) != self.process.as_ref().map(|child| child.id() as i32));
            // The launcher stays: it is a child of the daemon, and the only one.
            others.iter().all(|&pid| process::parent(pid) == Some(self.pid())) && others.len() <= 1
        });
        let mounts = process::mounts_beneath("self", &self.root);
        assert!(mounts.is_empty(), "mounts are left on the host: {mounts:?}");
        let mounts = process::mounts_beneath(&self.pid().to_string(), &self.root);
        assert!(mounts.is_empty(), "mounts are left in the daemon: {mounts:?}");
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if thread::panicking() {
            let log = self.log();
            let lines: Vec<&str> = log.lines().collect();
            let last = &lines[lines.len().saturating_sub(LOG_LINES)..];
            eprintln!("--- the last lines of the daemon's log\n{}", last.join("\n"));
        }
        if let Some(mut child) = self.process.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
        self.end_everything();
        for target in process::mounts_beneath("self", &self.root).iter().rev() {
            let _ = unmount(target.as_str(), UnmountFlags::DETACH);
        }
        if let Some(directory) = self.directory.take() {
            if thread::panicking() && env::var_os("CORTEN_TEST_KEEP").is_some() {
                eprintln!("--- kept: {}", directory.keep().display());
            } else if let Err(error) = directory.close() {
                eprintln!("cannot remove {}: {error}", self.root.display());
            }
        }
    }
}

/// Whether the program under test is another engine, whose directories and processes we do not know: that is how an
/// expectation of a test is checked against Docker itself.
fn is_foreign() -> bool {
    env::var_os("CORTEN_TEST_FOREIGN").is_some()
}

/// The names in a directory; none where there is no directory.
pub fn names_in(directory: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(directory) else {
        return Vec::new();
    };
    entries
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect()
}
