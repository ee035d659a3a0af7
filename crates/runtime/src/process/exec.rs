//! An exec: one more process in a container that runs. What the engine asks for, and the plan that it becomes.
//!
//! Compiled in the daemon, carried out by `join.rs`. Nothing is looked up in the container here: the user's name and the
//! working directory are resolved by the process itself, in the container's own files.
use std::{
    fs::File,
    io::{self, Write},
    os::{
        fd::{BorrowedFd, OwnedFd},
        unix::fs::FileExt,
    },
    path::PathBuf,
};

use oci_spec::runtime::Process;
use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};
use serde::{Deserialize, Serialize};

use crate::{
    error::Error,
    process::plan::{Capabilities, UMASK, capabilities, check_strings, rlimit},
    security::filter::Filter,
};

/// Larger plans are not believed: the kernel's own limit for arguments and environment is far below.
const PLAN_BYTES_MAX: u64 = 32 << 20;
/// Descriptions travel in one packet.
pub const DESCRIPTION_BYTES_MAX: usize = 32 << 10;

/// Everything that one exec needs to know.
#[derive(Debug, Clone)]
pub struct ExecRequest {
    /// Arguments, environment, working directory, capabilities, limits. Its user is not read.
    pub process: Process,
    /// As [`crate::process::task::TaskRequest::user`].
    pub user: String,
    pub additional_groups: Vec<String>,
    pub filter: Option<Filter>,
    /// A pseudo-terminal of this size (rows, columns) instead of pipes.
    pub terminal: Option<(u16, u16)>,
    /// Which of stdin, stdout, stderr the client has; the others are /dev/null. With a terminal the last is ignored.
    pub streams: [bool; 3],
    /// Does the client want stdcopy frames, or raw bytes?
    pub framed: bool,
    /// Given back to a daemon that finds the exec again; at most [`DESCRIPTION_BYTES_MAX`].
    pub description: Vec<u8>,
}

/// Checked, and flat.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExecPlan {
    pub(crate) terminal: Option<(u16, u16)>,
    pub(crate) streams: [bool; 3],
    pub(crate) framed: bool,
    pub(crate) description: Vec<u8>,
    pub(crate) child: JoinPlan,
}

/// What the child does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct JoinPlan {
    pub oom_score_adj: Option<i32>,
    pub rlimits: Vec<(u8, u64, u64)>,
    pub user: String,
    pub additional_groups: Vec<String>,
    pub working_directory: PathBuf,
    pub umask: u32,
    pub capabilities: Capabilities,
    pub no_new_privileges: bool,
    pub filter: Option<Filter>,
    pub arguments: Vec<String>,
    pub environment: Vec<String>,
}

/// Parses, checks and flattens a request.
pub fn compile(request: ExecRequest) -> Result<ExecPlan, Error> {
    let process = request.process;
    let arguments = process.args().clone().unwrap_or_default();
    let environment = process.env().clone().unwrap_or_default();
    check_strings(&arguments, &environment)?;
    let directory = process.cwd();
    if !directory.is_absolute() {
        return Err(Error::invalid(format!("Cwd must be an absolute path: {directory:?}")));
    }
    if request.description.len() > DESCRIPTION_BYTES_MAX {
        return Err(Error::invalid("the description of an exec is too large"));
    }
    let rlimits = process.rlimits().iter().flatten().map(rlimit);
    Ok(ExecPlan {
        terminal: request.terminal,
        streams: request.streams,
        framed: request.framed,
        description: request.description,
        child: JoinPlan {
            oom_score_adj: process.oom_score_adj(),
            rlimits: rlimits.collect::<Result<_, _>>()?,
            user: request.user,
            additional_groups: request.additional_groups,
            working_directory: directory.clone(),
            umask: process.user().umask().unwrap_or(UMASK),
            capabilities: capabilities(&process)?,
            no_new_privileges: process.no_new_privileges().unwrap_or(false),
            filter: request.filter,
            arguments,
            environment,
        },
    })
}

impl ExecPlan {
    /// A sealed file in memory: it can be passed on, and nobody can change it any more.
    pub fn memfd(&self) -> io::Result<OwnedFd> {
        let bytes = postcard::to_allocvec(self).map_err(io::Error::other)?;
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
        let mut file = File::from(memfd_create("corten-exec", flags)?);
        file.write_all(&bytes)?;
        let seals = SealFlags::WRITE | SealFlags::GROW | SealFlags::SHRINK | SealFlags::SEAL;
        fcntl_add_seals(&file, seals)?;
        Ok(file.into())
    }

    pub(crate) fn read(memfd: BorrowedFd) -> io::Result<ExecPlan> {
        let file = File::from(memfd.try_clone_to_owned()?);
        let length = file.metadata()?.len();
        if length > PLAN_BYTES_MAX {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "the plan is too large"));
        }
        let mut bytes = vec![0; length as usize];
        file.read_exact_at(&mut bytes, 0)?;
        postcard::from_bytes(&bytes).map_err(io::Error::other)
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use serde_json::json;

    use super::*;

    fn request(process: serde_json::Value) -> ExecRequest {
        ExecRequest {
            process: serde_json::from_value(process).unwrap(),
            user: "web".to_owned(),
            additional_groups: vec!["audio".to_owned()],
            filter: None,
            terminal: Some((24, 80)),
            streams: [true, true, false],
            framed: false,
            description: b"{}".to_vec(),
        }
    }

    #[test]
    fn a_plan_survives_its_file() {
        let process = json!({"args": ["sh"], "cwd": "/srv", "env": ["A=b"], "user": {"uid": 0, "gid": 0}});
        let plan = compile(request(process)).unwrap();
        assert_eq!(ExecPlan::read(plan.memfd().unwrap().as_fd()).unwrap(), plan);
        assert_eq!(plan.child.umask, 0o022);
    }

    #[test]
    fn what_cannot_be_is_refused() {
        let refused = |process| compile(request(process)).unwrap_err().to_string();
        let user = json!({"uid": 0, "gid": 0});
        let message = refused(json!({"args": ["sh"], "cwd": "srv", "user": user}));
        assert_eq!(message, "Cwd must be an absolute path: \"srv\"");
        let message = refused(json!({"args": ["a\u{0}b"], "cwd": "/", "user": user}));
        assert!(message.contains("NUL"), "{message}");
        assert_eq!(
            refused(json!({"args": [], "cwd": "/", "user": user})),
            "no command specified"
        );
    }
}
