//! What a command knows about the world: who it is called, which daemon it talks to, and how to start one.
//!
//! A daemon is only ever started for root, on the default socket, and when nobody named another: whoever names a
//! daemon wants that one and no other.
use std::cell::OnceCell;
use std::fs;
use std::io;
use std::os::unix::process::CommandExt;
use std::process::{Child, Stdio};
use std::rc::Rc;
use std::time::{Duration, Instant};

use corten_api::client::{Client, Error};
use corten_api::transport::Endpoint;

use crate::context::{resolve::Resolved, store::Store};

/// How long a daemon that we started may take to listen.
const START_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a daemon that another command started may take, after ours gave way to it.
const RIVAL_TIMEOUT: Duration = Duration::from_secs(1);
const START_POLL: Duration = Duration::from_millis(2);
/// Standard output and error of a daemon started on demand.
const DAEMON_LOG: &str = "/run/corten/daemon.log";

/// What a command runs with.
pub struct Session {
    /// `corten`, or `docker` where we are called so.
    pub program: &'static str,
    /// The words that named the command: `run`, `container run`.
    pub path: String,
    /// The client's settings, contexts among them.
    pub settings: Store,
    /// The name of the context in use, which may not exist where the command is about contexts.
    pub context: String,
    pub endpoint: Endpoint,
    /// Whether a daemon may be started when none answers.
    pub start_daemon: bool,
    pub api_version: Option<String>,
    pub client: OnceCell<Rc<Client>>,
}

impl Session {
    pub fn new(program: &'static str, path: String, settings: Store, resolved: Resolved) -> Session {
        let api_version = std::env::var("DOCKER_API_VERSION").ok();
        let api_version = api_version.filter(|version| !version.is_empty());
        Session {
            program,
            path,
            settings,
            context: resolved.context,
            endpoint: resolved.endpoint,
            start_daemon: resolved.by_default && rustix::process::geteuid().is_root(),
            api_version: api_version.map(|version| version.trim_start_matches('v').to_string()),
            client: OnceCell::new(),
        }
    }

    /// A client with a live connection.
    pub async fn client(&self) -> Result<Rc<Client>, Error> {
        if let Some(client) = self.client.get() {
            return Ok(client.clone());
        }
        let client = Rc::new(Client::new(self.endpoint.clone(), self.api_version.clone()));
        match client.warm_up().await {
            Ok(()) => {}
            Err(error) if self.start_daemon && absent(&error) => self.start(&client, error).await?,
            Err(error) => return Err(error),
        }
        Ok(self.client.get_or_init(|| client).clone())
    }

    /// `Run 'corten run --help' for more information`.
    pub fn hint(&self) -> String {
        format!("Run '{} {} --help' for more information", self.program, self.path)
    }

    async fn start(&self, client: &Client, error: Error) -> Result<(), Error> {
        let told = |error: io::Error| Error::NotStarted {
            reason: format!("{error}"),
            log: DAEMON_LOG.to_string(),
        };
        let mut daemon = spawn_daemon().map_err(told)?;
        let begun = Instant::now();
        let mut ended = None;
        let mut last = error;
        while begun.elapsed() < START_TIMEOUT {
            tokio::time::sleep(START_POLL).await;
            match client.warm_up().await {
                Ok(()) => return Ok(()),
                Err(error) if absent(&error) => last = error,
                Err(error) => return Err(error),
            }
            if ended.is_none() {
                let status = daemon.try_wait().map_err(told)?;
                ended = status.map(|status| (status, Instant::now()));
            }
            // Two commands may start a daemon at once: ours gives way, and the other one needs a moment more.
            if let Some((status, since)) = ended
                && since.elapsed() > RIVAL_TIMEOUT
            {
                let reason = last_words().unwrap_or_else(|| status.to_string());
                return Err(Error::NotStarted {
                    reason,
                    log: DAEMON_LOG.to_string(),
                });
            }
        }
        Err(last)
    }
}

fn absent(error: &Error) -> bool {
    let Error::Unreachable { source, .. } = error else {
        return false;
    };
    matches!(
        source.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused
    )
}

fn spawn_daemon() -> io::Result<Child> {
    fs::create_dir_all("/run/corten")?;
    let log = fs::OpenOptions::new().create(true).append(true).open(DAEMON_LOG)?;
    std::process::Command::new("/proc/self/exe")
        .arg0("corten")
        .arg("detached-daemon")
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .spawn()
}

/// The last line of the daemon's log.
fn last_words() -> Option<String> {
    let log = fs::read_to_string(DAEMON_LOG).ok()?;
    log.lines()
        .rev()
        .find(|line| !line.trim().is_empty())
        .map(str::to_string)
}
