//! An exec: one more process in a running container, from the moment that a client describes it.
//!
//! It has an id of its own and lives in memory only. Its phase is changed by its container's supervisor; whoever starts
//! it claims it first, so that it runs once.
use std::sync::Mutex;

use corten_runtime::shim::protocol::{ExecId, Failure, FailureKind};
use serde::{Deserialize, Serialize};
use tokio::{sync::watch, time::Instant};

use crate::{
    error::{Error, Kind, Result},
    names,
};

/// What clients ask for.
#[derive(Debug, Clone, Default)]
pub struct ExecOptions {
    /// The program and its arguments.
    pub argv: Vec<String>,
    pub tty: bool,
    /// The streams that a client that attaches gets: stdin, stdout, stderr.
    pub attach: [bool; 3],
    /// `NAME=value`, beside the container's own; a bare name takes one of those away.
    pub env: Vec<String>,
    /// Empty means the container's.
    pub user: String,
    /// Empty means the container's.
    pub working_dir: String,
    pub privileged: bool,
    pub detach_keys: Option<String>,
    /// Rows, columns.
    pub console_size: Option<(u16, u16)>,
}

/// What a start adds.
#[derive(Debug, Clone, Copy, Default)]
pub struct ExecStartOptions {
    /// Nobody attaches; answered when the program runs.
    pub detach: bool,
    /// Does the client read raw bytes?
    pub tty: bool,
    /// Rows, columns.
    pub console_size: Option<(u16, u16)>,
}

/// What is remembered of an exec: by the daemon until some time after its end, by its shim while it runs.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExecRecord {
    pub argv: Vec<String>,
    pub tty: bool,
    pub attach: [bool; 3],
    /// As asked, or the container's own.
    pub user: String,
    pub privileged: bool,
    pub detach_keys: Option<String>,
}

impl ExecRecord {
    /// How events name it.
    pub fn command(&self) -> String {
        let (program, arguments) = self
            .argv
            .split_first()
            .map_or(("", &[][..]), |(program, rest)| (program, rest));
        format!("{program} {}", arguments.join(" "))
    }

    /// For the shim, within what it takes.
    pub fn describe(&self, bytes_max: usize) -> Vec<u8> {
        let bytes = serde_json::to_vec(self).expect("a record always serializes");
        if bytes.len() <= bytes_max {
            return bytes;
        }
        let short = ExecRecord {
            argv: self
                .argv
                .iter()
                .take(1)
                .filter(|word| word.len() < 4096)
                .cloned()
                .collect(),
            detach_keys: None,
            user: String::new(),
            ..self.clone()
        };
        serde_json::to_vec(&short).expect("a record always serializes")
    }
}

#[derive(Debug, Clone)]
pub enum Phase {
    Created,
    Starting,
    /// `confirmed`: its program runs, as far as somebody asked.
    Running {
        pid: i32,
        confirmed: bool,
    },
    Ended(End),
}

#[derive(Debug, Clone)]
pub struct End {
    pub exit_code: i32,
    /// Why its program was never executed.
    pub failure: Option<Failure>,
    pub at: Instant,
}

#[derive(Debug)]
pub struct Exec {
    /// 64 hexadecimal digits.
    pub id: String,
    /// The container's id.
    pub container: String,
    pub record: ExecRecord,
    /// Until it starts.
    options: Mutex<Option<ExecOptions>>,
    phase: watch::Sender<Phase>,
}

impl Exec {
    pub fn new(container: &str, record: ExecRecord, options: ExecOptions) -> Exec {
        Exec {
            id: names::random_id(),
            container: container.to_owned(),
            record,
            options: Mutex::new(Some(options)),
            phase: watch::Sender::new(Phase::Created),
        }
    }

    /// One that a shim tells of.
    pub fn found(id: &ExecId, container: &str, record: ExecRecord, phase: Phase) -> Exec {
        Exec {
            id: id.iter().map(|byte| format!("{byte:02x}")).collect(),
            container: container.to_owned(),
            record,
            options: Mutex::default(),
            phase: watch::Sender::new(phase),
        }
    }

    /// What it was asked to be, once.
    pub fn take_options(&self) -> ExecOptions {
        let taken = self.options.lock().expect("no panic while locked").take();
        taken.unwrap_or_default()
    }

    /// Its id as shims write it.
    pub fn raw_id(&self) -> ExecId {
        let mut raw = ExecId::default();
        for (byte, digits) in raw.iter_mut().zip(self.id.as_bytes().chunks_exact(2)) {
            let digit = |digit: u8| char::from(digit).to_digit(16).unwrap_or_default() as u8;
            *byte = digit(digits[0]) << 4 | digit(digits[1]);
        }
        raw
    }

    pub fn phase(&self) -> Phase {
        self.phase.borrow().clone()
    }

    pub fn has_ended(&self) -> bool {
        matches!(*self.phase.borrow(), Phase::Ended(_))
    }

    /// Takes the right to start it. Whoever has it goes on to `Running` or `Ended`.
    pub fn claim(&self) -> Result<()> {
        let mut refusal = None;
        self.phase.send_if_modified(|phase| {
            refusal = match phase {
                Phase::Created => None,
                Phase::Ended(_) => Some("has already run"),
                _ => Some("is already running"),
            };
            if refusal.is_none() {
                *phase = Phase::Starting;
            }
            refusal.is_none()
        });
        match refusal {
            None => Ok(()),
            Some(why) => Err(Error::conflict(format!("Error: Exec command {} {why}", self.id))),
        }
    }

    pub fn set_running(&self, pid: i32) {
        self.phase.send_replace(Phase::Running { pid, confirmed: false });
    }

    pub fn confirm(&self) {
        self.phase.send_if_modified(|phase| match phase {
            Phase::Running { confirmed, .. } => !std::mem::replace(confirmed, true),
            _ => false,
        });
    }

    /// Only the first end counts; false for any other.
    pub fn end(&self, exit_code: i32, failure: Option<Failure>) -> bool {
        self.phase.send_if_modified(|phase| {
            if matches!(phase, Phase::Ended(_)) {
                return false;
            }
            *phase = Phase::Ended(End {
                exit_code,
                failure,
                at: Instant::now(),
            });
            true
        })
    }

    /// Waits until its phase is as `wanted`.
    pub async fn wait_until(&self, wanted: impl FnMut(&Phase) -> bool) -> Phase {
        let mut watch = self.phase.subscribe();
        let found = watch.wait_for(wanted).await.map(|phase| phase.clone());
        found.unwrap_or_else(|_| self.phase())
    }

    pub async fn wait_for_end(&self) -> End {
        match self.wait_until(|phase| matches!(phase, Phase::Ended(_))).await {
            Phase::Ended(end) => end,
            _ => unreachable!("it was waited for"),
        }
    }
}

impl End {
    /// As an error of the start, where its program was never executed.
    pub fn trouble(&self) -> Option<Error> {
        let failure = self.failure.as_ref()?;
        let kind = match failure.kind {
            FailureKind::Gone => Kind::Conflict,
            FailureKind::System => Kind::System,
            _ => Kind::Invalid,
        };
        Some(Error::new(kind, failure.as_exec_error()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exec() -> Exec {
        Exec::new("box", ExecRecord::default(), ExecOptions::default())
    }

    #[test]
    fn an_id_has_two_spellings() {
        let exec = exec();
        let found = Exec::found(&exec.raw_id(), "box", ExecRecord::default(), Phase::Created);
        assert_eq!(found.id, exec.id);
    }

    #[test]
    fn it_runs_once() {
        let exec = exec();
        exec.claim().expect("new");
        let again = exec.claim().expect_err("claimed").to_string();
        assert_eq!(again, format!("Error: Exec command {} is already running", exec.id));
        exec.set_running(1);
        assert!(exec.end(3, None) && !exec.end(4, None));
        let again = exec.claim().expect_err("ended").to_string();
        assert_eq!(again, format!("Error: Exec command {} has already run", exec.id));
        assert!(matches!(exec.phase(), Phase::Ended(End { exit_code: 3, .. })));
    }

    #[test]
    fn a_description_fits() {
        let record = ExecRecord {
            argv: vec!["sh".to_owned(), "x".repeat(100_000)],
            ..ExecRecord::default()
        };
        assert!(record.describe(1000).len() <= 1000);
        let read: ExecRecord = serde_json::from_slice(&record.describe(200_000)).expect("valid");
        assert_eq!(read, record);
        assert_eq!(record.command().len(), 100_003);
    }
}
