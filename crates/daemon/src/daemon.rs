//! The daemon: open the engine, open the doors, serve until told to stop, close in order.
//!
//! Containers do not notice any of it: they go on when the daemon ends, and the next one finds them.
use std::{
    ffi::OsString,
    fs::{self, File, TryLockError},
    io::{self, IsTerminal, Write},
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use clap::{CommandFactory, FromArgMatches};
use corten_api::transport::{DEFAULT_SOCKET, DOCKER_SOCKET};
use corten_engine::engine::Engine;
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::watch,
    task::JoinSet,
};

use crate::{
    config::{Config, ConfigError},
    docker::{door::Door, routes, server, system::VERSION},
    flags::Flags,
    listener::{self, Address, ListenError, Listener},
};

/// How long clients that are being answered may take when the daemon ends. Streams never end by themselves.
const PATIENCE: Duration = Duration::from_secs(1);

/// Why a daemon ended before it should.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(transparent)]
    Listen(#[from] ListenError),
    #[error("cannot open the engine: {0}")]
    Engine(#[from] corten_engine::error::Error),
    #[error("process {pid} of {path} is still running: another daemon serves; stop it, or give --pidfile another path")]
    Running { pid: String, path: String },
    #[error("{what}")]
    System {
        what: String,
        #[source]
        source: io::Error,
    },
}

fn system(what: impl Into<String>) -> impl FnOnce(io::Error) -> Failure {
    let what = what.into();
    move |source| Failure::System { what, source }
}

/// `dockerd` and `corten daemon`: arguments begin with the program's name.
pub fn main(args: impl Iterator<Item = OsString>) -> ExitCode {
    let flags = match Flags::command()
        .try_get_matches_from(args)
        .and_then(|found| Flags::from_arg_matches(&found))
    {
        Ok(flags) => flags,
        Err(error) => {
            let _ = error.print();
            return ExitCode::from(u8::from(error.use_stderr()));
        }
    };
    if flags.version {
        println!("Docker version {VERSION}, build corten");
        return ExitCode::SUCCESS;
    }
    match start(&flags) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("failed to start daemon: {}", chain(&failure));
            ExitCode::FAILURE
        }
    }
}

/// A failure with its causes.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

fn start(flags: &Flags) -> Result<(), Failure> {
    let config = Config::load(flags)?;
    if flags.validate {
        println!("configuration OK");
        return Ok(());
    }
    log_to_stderr(config.level);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(system("cannot start the daemon's threads"))?;
    let result = runtime.block_on(run(config));
    // Attached clients and blocking work must not hold up the end.
    runtime.shutdown_timeout(PATIENCE);
    result
}

fn log_to_stderr(level: tracing::Level) {
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(level)
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal())
        .with_target(false)
        .finish();
    // An embedding program may have its own.
    let _ = tracing::subscriber::set_global_default(subscriber);
}

async fn run(config: Config) -> Result<(), Failure> {
    // Before anything that takes long: a signal must never find the default action.
    let mut terminate = signal(SignalKind::terminate()).map_err(system("cannot catch signals"))?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(system("cannot catch signals"))?;
    let _pidfile = PidFile::write(&config.pidfile)?;
    let engine = Engine::open(config.engine.clone()).await?;
    let listeners = open_doors(&config)?;
    let system = engine.info().await?;
    let router = routes::router(Door::new(engine.clone(), &system));
    let (close, closing) = watch::channel(false);
    let mut doors = JoinSet::new();
    for listener in listeners {
        tracing::info!("API listen on {}", listener.address);
        doors.spawn(serve(listener, router.clone(), closing.clone()));
    }
    tracing::info!(
        "daemon has completed initialization: {}",
        config.engine.data_root.display()
    );
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    tracing::info!("shutting down; containers go on");
    let _ = close.send(true);
    let _ = tokio::time::timeout(PATIENCE, async { while doors.join_next().await.is_some() {} }).await;
    doors.shutdown().await;
    engine.close().await;
    Ok(())
}

/// The sockets that were asked for; else our own, and Docker's where nobody else has it.
fn open_doors(config: &Config) -> Result<Vec<Listener>, Failure> {
    let group = config.group.as_deref();
    let mut listeners = Vec::new();
    for host in &config.hosts {
        listeners.extend(listener::open(&Address::parse(host)?, group)?);
    }
    if config.hosts.is_empty() {
        listeners.extend(listener::open(&Address::Unix(PathBuf::from(DEFAULT_SOCKET)), group)?);
        let docker = Path::new(DOCKER_SOCKET);
        if listener::is_taken(docker) {
            tracing::info!("{DOCKER_SOCKET} belongs to another engine: serving {DEFAULT_SOCKET} only");
        } else {
            match listener::open(&Address::Unix(docker.to_owned()), group) {
                Ok(found) => listeners.extend(found),
                Err(error) => tracing::warn!("not serving {DOCKER_SOCKET}: {}", chain(&error)),
            }
        }
    }
    Ok(listeners)
}

/// Takes clients in at one door until the daemon closes, then lets those that are being answered finish.
async fn serve(listener: Listener, router: axum::Router, mut closing: watch::Receiver<bool>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok(socket) => {
                    connections.spawn(server::serve(socket, router.clone(), closing.clone()));
                }
                Err(error) => {
                    // Out of file descriptors, most likely: waiting gives connections time to end.
                    tracing::error!("cannot accept a client on {}: {error}", listener.address);
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            },
            Some(_) = connections.join_next() => {}
            () = server::closed(&mut closing) => break,
        }
    }
    drop(listener);
    while connections.join_next().await.is_some() {}
}

/// The daemon's process id in a file, locked while the daemon lives; removed when dropped.
///
/// The lock and not the number tells whether another daemon serves: after a crash the number may be anybody's.
struct PidFile {
    path: PathBuf,
    _locked: File,
}

impl PidFile {
    fn write(path: &Path) -> Result<PidFile, Failure> {
        let failed = || system(format!("cannot write {}", path.display()));
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).map_err(failed())?;
        }
        let open = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path);
        let mut file = open.map_err(failed())?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let pid = fs::read_to_string(path).unwrap_or_default().trim().to_owned();
                return Err(Failure::Running {
                    pid,
                    path: path.display().to_string(),
                });
            }
            Err(TryLockError::Error(error)) => return Err(failed()(error)),
        }
        file.set_len(0)
            .and_then(|()| write!(file, "{}", std::process::id()))
            .map_err(failed())?;
        Ok(PidFile {
            path: path.to_owned(),
            _locked: file,
        })
    }
}

impl Drop for PidFile {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}
