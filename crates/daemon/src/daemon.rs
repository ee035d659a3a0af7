//! The daemon: open the engine, open the doors, serve until told to stop, close in order.
//!
//! Containers do not notice any of it unless the operator wants them to (`live-restore: false`): they go on when the
//! daemon ends, and the next one finds them.
use std::{ffi::OsString, io, process::ExitCode, sync::Arc, time::Duration};

use clap::{CommandFactory, FromArgMatches};
use corten_engine::engine::Engine;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::{
    config::{error::ConfigError, flags::Flags, load::Config},
    docker::{door::Door, routes, system::VERSION},
    doors::{self, Doors},
    listen::{listener::ListenError, tls::TlsError},
    log,
    metrics::Metrics,
    metrics_page, notify,
    pidfile::{PidFile, PidFileError},
    reload::Reload,
};

/// How long attached clients and blocking work may take once everything else has ended.
const PATIENCE: Duration = Duration::from_secs(1);

/// Why a daemon ended before it should.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(transparent)]
    Listen(#[from] ListenError),
    #[error(transparent)]
    Tls(#[from] TlsError),
    #[error("cannot open the engine: {0}")]
    Engine(#[from] corten_engine::error::Error),
    #[error(transparent)]
    PidFile(#[from] PidFileError),
    #[error("{what}")]
    System {
        what: &'static str,
        #[source]
        source: io::Error,
    },
}

fn system(what: &'static str) -> impl FnOnce(io::Error) -> Failure {
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
    let only_validate = flags.validate;
    match start(flags) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            // As dockerd: what is wrong with the configuration stands for itself.
            let is_configuration = matches!(failure, Failure::Config(_) | Failure::Tls(_)) || only_validate;
            let prefix = if is_configuration {
                ""
            } else {
                "failed to start daemon: "
            };
            eprintln!("{prefix}{}", chain(&failure));
            ExitCode::FAILURE
        }
    }
}

/// A failure with its causes.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

fn start(flags: Flags) -> Result<(), Failure> {
    let config = Config::load(&flags)?;
    if flags.validate {
        doors::check(&config)?;
        eprintln!("configuration OK");
        return Ok(());
    }
    log::start(&config.log);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(system("cannot start the daemon's threads"))?;
    let result = runtime.block_on(run(flags, config));
    // Attached clients and blocking work must not hold up the end.
    runtime.shutdown_timeout(PATIENCE);
    result
}

/// The signals that tell the daemon to end.
struct Ending {
    terminate: Signal,
    interrupt: Signal,
}

impl Ending {
    fn catch() -> Result<Ending, Failure> {
        Ok(Ending {
            terminate: catch(SignalKind::terminate())?,
            interrupt: catch(SignalKind::interrupt())?,
        })
    }

    async fn told(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

fn catch(kind: SignalKind) -> Result<Signal, Failure> {
    signal(kind).map_err(system("cannot catch signals"))
}

async fn run(flags: Flags, config: Config) -> Result<(), Failure> {
    // Before anything that takes long: a signal must never find the default action.
    let (mut ending, mut hang_up) = (Ending::catch()?, catch(SignalKind::hangup())?);
    let _pidfile = PidFile::write(&config.pidfile)?;
    let engine = Engine::open(config.engine.clone()).await?;
    let metrics = Arc::new(Metrics::default());
    let mut doors = Doors::open(&config)?;
    let system = engine.info().await?;
    let door = Door::new(engine.clone(), &system, doors.warnings());
    // Who has an answer at one door finds them all open.
    if let Some(address) = &config.metrics_address {
        let page = metrics_page::router(engine.clone(), Arc::clone(&metrics));
        doors.serve_metrics(address, page)?;
    }
    doors.serve(routes::router(door, Arc::clone(&metrics)), &metrics);
    tracing::info!(
        "daemon has completed initialization: {}",
        config.engine.data_root.display()
    );
    notify::ready();
    let mut reload = Reload::new(flags, config, engine.clone(), doors.tls());
    tokio::select! {
        () = ending.told() => {}
        () = notify::keep_alive() => {}
        () = reload.serve(&mut hang_up) => {}
    }
    notify::stopping();
    tokio::select! {
        () = close(&engine, doors) => {}
        () = ending.told() => {
            tracing::warn!("told twice to end: what clients and containers were at is cut off");
            std::process::exit(1);
        }
    }
    Ok(())
}

/// No new clients; those at work finish; containers go on or are stopped; then nothing.
async fn close(engine: &Engine, doors: Doors) {
    let live = engine.live();
    match live.live_restore {
        true => tracing::info!("shutting down; containers go on"),
        false => tracing::info!("shutting down; stopping containers (live-restore is off)"),
    }
    doors.close().await;
    if !live.live_restore {
        engine.stop_containers(live.shutdown_timeout_seconds).await;
    }
    engine.close().await;
}
