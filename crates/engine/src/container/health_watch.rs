//! The task that checks a running container's health: it sleeps, executes the check in the container, and tells the
//! supervisor what came of it.
//!
//! Docker leaves an unhealthy container alone; here a container that asks for it is restarted.
use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use tokio::{
    io::AsyncReadExt,
    net::UnixStream,
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use crate::{
    container::{
        exec::{Exec, ExecOptions},
        execute,
        handle::{Command, Handle},
        health::{Health, Probe, Status},
        health_check::{Check, go_duration},
        record::Record,
        state::Phase,
        stop,
        supervised::Supervised,
        table::Table,
    },
    context::Context,
    error::{Error, Kind},
    signal,
    task::exec,
};

/// A label or an annotation: `true` restarts the container when it becomes unhealthy.
pub const RESTART_UNHEALTHY: &str = "corten.restart-unhealthy";

/// More is cut off.
const OUTPUT_BYTES: usize = 4096;

impl Supervised {
    /// It has just begun to run.
    pub fn begin_health(&mut self) {
        self.state.health = Check::of(&self.record.config).map(|_| Health::default());
        self.resume_health();
    }

    /// It runs, after a pause, or since a daemon before this one.
    pub fn resume_health(&mut self) {
        self.health_watch = None;
        let Some(check) = Check::of(&self.record.config).filter(|_| self.state.phase == Phase::Running) else {
            return;
        };
        self.state.health.get_or_insert_default();
        let stopping = CancellationToken::new();
        let watch = Watch {
            context: Arc::clone(&self.context),
            table: Arc::clone(&self.table),
            id: self.record.id.clone(),
            started_at: self.state.started_at.unwrap_or_default(),
            stopping: stopping.clone(),
            check,
        };
        tokio::spawn(watch.run());
        self.health_watch = Some(stopping.drop_guard());
    }

    /// Nobody looks any more.
    pub fn pause_health(&mut self) {
        self.health_watch = None;
    }

    /// What does not run is not healthy.
    pub fn end_health(&mut self) {
        self.health_watch = None;
        if let Some(health) = &mut self.state.health {
            health.status = Status::Unhealthy;
        }
    }

    /// A check has found something. The status where that changed it.
    pub fn note_probe(&mut self, probe: Probe) -> Option<Status> {
        if self.state.phase != Phase::Running {
            return None;
        }
        let check = Check::of(&self.record.config)?;
        let age = age(self.state.started_at.unwrap_or_default(), probe.start);
        let health = self.state.health.get_or_insert_default();
        let changed = health.note(probe, age, check.start_period, check.retries);
        if let Some(status) = changed {
            self.save_or_warn();
            self.tell(&format!("health_status: {}", status.name()), &[]);
        }
        self.show();
        changed
    }
}

fn age(started: Timestamp, now: Timestamp) -> Duration {
    Duration::try_from(now.duration_since(started)).unwrap_or_default()
}

struct Watch {
    context: Arc<Context>,
    table: Arc<Table>,
    id: String,
    check: Check,
    started_at: Timestamp,
    stopping: CancellationToken,
}

impl Watch {
    async fn run(self) {
        let Ok(handle) = self.table.find(&self.id) else { return };
        loop {
            let status = handle.watch.borrow().state.health.as_ref().map(|health| health.status);
            let pause = self.check.pause(
                status.unwrap_or(Status::Starting),
                age(self.started_at, Timestamp::now()),
            );
            tokio::select! {
                () = sleep(pause) => {}
                () = self.stopping.cancelled() => return,
            }
            let Some(probe) = self.probe(&handle).await else { return };
            let noted = handle.ask(|reply| Command::Probe { probe, reply }).await;
            match noted {
                Ok(Some(Status::Unhealthy)) if wants_restart(&handle.record()) => return restart(&handle).await,
                Ok(_) => {}
                Err(_) => return,
            }
        }
    }

    /// One check; absent when the container is not to be checked any more.
    async fn probe(&self, handle: &Handle) -> Option<Probe> {
        let start = Timestamp::now();
        let options = ExecOptions {
            argv: self.check.argv.clone(),
            attach: [false, true, true],
            ..ExecOptions::default()
        };
        let record = exec::record(&handle.record(), &options);
        let exec = Arc::new(Exec::new(&self.id, record, options));
        let (exit_code, output) = tokio::select! {
            found = self.look(handle, &exec) => found,
            () = self.stopping.cancelled() => {
                kill(handle, &exec).await;
                return None;
            }
        };
        Some(Probe {
            start,
            end: Timestamp::now(),
            exit_code,
            output,
        })
    }

    async fn look(&self, handle: &Handle, exec: &Arc<Exec>) -> (i32, String) {
        let stream = match self.start(handle, exec).await {
            Ok(stream) => stream,
            Err(error) => return (-1, error.to_string()),
        };
        let mut output = Output::default();
        let ended = timeout(self.check.timeout, async {
            output.read(stream).await;
            exec.wait_for_end().await
        });
        match ended.await {
            Ok(end) => match end.trouble() {
                Some(error) => (-1, error.to_string()),
                None => (end.exit_code, output.text()),
            },
            Err(_) => {
                kill(handle, exec).await;
                exec.wait_for_end().await;
                let text = format!("Health check exceeded timeout ({})", go_duration(self.check.timeout));
                match output.text().as_str() {
                    "" => (-1, text),
                    said => (-1, format!("{text}: {said}")),
                }
            }
        }
    }

    async fn start(&self, handle: &Handle, exec: &Arc<Exec>) -> Result<UnixStream, Error> {
        execute::announce(&self.context, handle, exec).await?;
        execute::start_captured(&self.context, &self.table, exec).await
    }
}

async fn kill(handle: &Handle, exec: &Arc<Exec>) {
    let (exec, number) = (Arc::clone(exec), signal::KILL);
    // It may have ended by itself.
    let _ = handle.ask(|reply| Command::SignalExec { exec, number, reply }).await;
}

/// What a check printed, as much as is kept of it.
#[derive(Default)]
struct Output {
    kept: Vec<u8>,
    cut: bool,
}

impl Output {
    /// To its end: what is not kept must not hold the process up.
    async fn read(&mut self, mut stream: UnixStream) {
        let mut buffer = [0; OUTPUT_BYTES];
        while let Ok(count @ 1..) = stream.read(&mut buffer).await {
            let room = OUTPUT_BYTES - self.kept.len();
            self.kept.extend_from_slice(&buffer[..count.min(room)]);
            self.cut |= count > room;
        }
    }

    fn text(&self) -> String {
        let mut text = String::from_utf8_lossy(&self.kept).into_owned();
        if self.cut {
            text.push_str("...");
        }
        text
    }
}

/// One that goes at its end cannot come back.
fn wants_restart(record: &Record) -> bool {
    let annotations = record.host_config.annotations.as_ref();
    let asked = [
        record.config.labels.get(RESTART_UNHEALTHY),
        annotations.and_then(|all| all.get(RESTART_UNHEALTHY)),
    ];
    !record.host_config.auto_remove && asked.into_iter().flatten().any(|value| value == "true")
}

async fn restart(handle: &Handle) {
    match stop::restart(handle, None, None).await {
        Ok(()) => {}
        Err(error) if error.kind() == Kind::NotFound => {}
        Err(error) => tracing::error!(container = %handle.id, %error, "cannot restart an unhealthy container"),
    }
}
