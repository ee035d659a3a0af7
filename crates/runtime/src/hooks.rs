//! Hooks: programs of the host's that a specification wants run at certain moments of a container's life.
//!
//! A hook is told the container's state, as JSON, on standard input. One that fails, or takes too long, fails the start.
use std::{
    collections::BTreeMap,
    ffi::OsStr,
    fs::File,
    io::{self, Read, Seek, SeekFrom, Write},
    os::{
        fd::{AsFd, BorrowedFd},
        unix::process::{CommandExt, ExitStatusExt},
    },
    path::PathBuf,
    process::{Child, Command, ExitStatus, Stdio},
    time::{Duration, Instant},
};

use oci_spec::runtime::{Hook, Hooks, Spec};
use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, ftruncate, memfd_create};
use serde::{Deserialize, Serialize};

use crate::{error::Error, shim::protocol::Failure};

/// How long a hook may take that does not say so itself.
const DEFAULT_TIMEOUT_SECONDS: u64 = 120;
/// Of what a hook complains about, this much is kept.
const COMPLAINT_BYTES: u64 = 16 * 1024;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct HookPlan {
    path: PathBuf,
    /// With the program's own name first.
    arguments: Vec<String>,
    environment: Vec<(String, String)>,
    timeout_seconds: u64,
}

/// What every hook of one container is told.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Story {
    version: String,
    id: String,
    /// Where `config.json` is: it says where the root file system is.
    bundle: PathBuf,
    annotations: BTreeMap<String, String>,
}

/// Run by the shim, in the host's namespaces.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RuntimeHooks {
    pub story: Story,
    /// `prestart` and `createRuntime`: the root file system is whole, and nothing of the container has run.
    pub create: Vec<HookPlan>,
    pub poststart: Vec<HookPlan>,
    pub poststop: Vec<HookPlan>,
}

/// Run by the container's first process itself.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ContainerHooks {
    pub story: Story,
    /// Whether the shim has something to do when the root file system is whole.
    pub shim_is_waited_for: bool,
    /// `createContainer`: in the container's namespaces, before the root changes.
    pub create: Vec<HookPlan>,
    /// `startContainer`: at the very end, when the program is all that is missing.
    pub start: Vec<HookPlan>,
}

/// Sorts a specification's hooks by who runs them.
pub(crate) fn compile(
    spec: &Spec,
    id: &str,
    bundle: Option<&PathBuf>,
) -> Result<(RuntimeHooks, ContainerHooks), Error> {
    let Some(hooks) = spec.hooks().as_ref().filter(|hooks| any(hooks)) else {
        return Ok(Default::default());
    };
    let bundle = bundle.ok_or_else(|| Error::invalid("hooks need a bundle to be told of"))?;
    let story = Story {
        version: spec.version().clone(),
        id: id.to_owned(),
        bundle: bundle.clone(),
        annotations: spec
            .annotations()
            .iter()
            .flatten()
            .map(|(k, v)| (k.clone(), v.clone()))
            .collect(),
    };
    #[allow(deprecated)]
    let mut create = list("prestart", hooks.prestart())?;
    create.extend(list("createRuntime", hooks.create_runtime())?);
    let container = ContainerHooks {
        story: story.clone(),
        shim_is_waited_for: !create.is_empty(),
        create: list("createContainer", hooks.create_container())?,
        start: list("startContainer", hooks.start_container())?,
    };
    let runtime = RuntimeHooks {
        story,
        create,
        poststart: list("poststart", hooks.poststart())?,
        poststop: list("poststop", hooks.poststop())?,
    };
    Ok((runtime, container))
}

/// Has a specification hooks at all?
pub fn any(hooks: &Hooks) -> bool {
    #[allow(deprecated)]
    let lists = [
        hooks.prestart(),
        hooks.create_runtime(),
        hooks.create_container(),
        hooks.start_container(),
        hooks.poststart(),
        hooks.poststop(),
    ];
    lists.into_iter().flatten().any(|list| !list.is_empty())
}

fn list(kind: &str, hooks: &Option<Vec<Hook>>) -> Result<Vec<HookPlan>, Error> {
    hooks.iter().flatten().map(|hook| plan(kind, hook)).collect()
}

fn plan(kind: &str, hook: &Hook) -> Result<HookPlan, Error> {
    let refuse = |reason: &str| {
        Err(Error::invalid(format!(
            "invalid {kind} hook {:?}: {reason}",
            hook.path()
        )))
    };
    if !hook.path().is_absolute() {
        return refuse("its path is not absolute");
    }
    let timeout_seconds = match hook.timeout() {
        None => DEFAULT_TIMEOUT_SECONDS,
        Some(seconds) => match u64::try_from(seconds) {
            Ok(seconds) if seconds > 0 => seconds,
            _ => return refuse("its timeout is not positive"),
        },
    };
    let mut environment = Vec::new();
    for variable in hook.env().iter().flatten() {
        match variable.split_once('=') {
            Some((name, value)) if !name.is_empty() => environment.push((name.to_owned(), value.to_owned())),
            _ => return refuse("its environment has something that is not NAME=value"),
        }
    }
    let arguments = match hook.args().clone().unwrap_or_default() {
        none if none.is_empty() => vec![hook.path().to_string_lossy().into_owned()],
        arguments => arguments,
    };
    let words = arguments
        .iter()
        .chain(environment.iter().flat_map(|(name, value)| [name, value]));
    if words.into_iter().any(|word| word.contains('\0')) {
        return refuse("it has a NUL byte");
    }
    Ok(HookPlan {
        path: hook.path().clone(),
        arguments,
        environment,
        timeout_seconds,
    })
}

/// What a hook reads.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct State<'a> {
    oci_version: &'a str,
    id: &'a str,
    status: &'a str,
    /// As this process sees it; none when the container has ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pid: Option<i32>,
    bundle: &'a PathBuf,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    annotations: &'a BTreeMap<String, String>,
}

/// Where a hook runs.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Moment<'a> {
    /// For errors: `createRuntime`.
    pub kind: &'a str,
    /// `creating`, `created`, `running` or `stopped`.
    pub status: &'a str,
    pub pid: Option<i32>,
    /// A network namespace to run in, where that is not this process's own.
    pub network: Option<BorrowedFd<'a>>,
}

/// Runs hooks, one after the other, up to the first that fails.
pub(crate) fn run(hooks: &[HookPlan], story: &Story, moment: Moment) -> Result<(), Failure> {
    hooks.iter().try_for_each(|hook| run_one(hook, story, moment))
}

fn run_one(hook: &HookPlan, story: &Story, moment: Moment) -> Result<(), Failure> {
    let state = State {
        oci_version: &story.version,
        id: &story.id,
        status: moment.status,
        pid: moment.pid,
        bundle: &story.bundle,
        annotations: &story.annotations,
    };
    let said = |reason: String| {
        let kind = moment.kind;
        Failure::invalid(format!("error running {kind} hook {}: {reason}", hook.path.display()))
    };
    let (mut child, mut complaint) = spawn(hook, &state, moment.network).map_err(|error| said(error.to_string()))?;
    let ended = wait(&mut child, Duration::from_secs(hook.timeout_seconds));
    match ended.map_err(|error| said(error.to_string()))? {
        Some(status) if status.success() => Ok(()),
        Some(status) => Err(said(format!("{}{}", describe(status), read_back(&mut complaint)))),
        None => Err(said(format!("it took longer than {} s", hook.timeout_seconds))),
    }
}

fn spawn(hook: &HookPlan, state: &State, network: Option<BorrowedFd>) -> io::Result<(Child, File)> {
    // Files in memory: nobody waits for a reader or a writer.
    let mut input = File::from(memfd_create("hook-state", MemfdFlags::CLOEXEC)?);
    input.write_all(&serde_json::to_vec(state)?)?;
    input.seek(SeekFrom::Start(0))?;
    let complaint = File::from(memfd_create(
        "hook-stderr",
        MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING,
    )?);
    ftruncate(&complaint, COMPLAINT_BYTES)?;
    fcntl_add_seals(&complaint, SealFlags::GROW | SealFlags::SHRINK)?;
    let mut command = Command::new(&hook.path);
    command
        .arg0(OsStr::new(&hook.arguments[0]))
        .args(&hook.arguments[1..])
        .env_clear()
        .envs(hook.environment.iter().map(|(name, value)| (name, value)))
        .stdin(Stdio::from(input))
        .stdout(Stdio::null())
        .stderr(Stdio::from(complaint.try_clone()?));
    if let Some(network) = network {
        corten_linux::process::start_in_network(&mut command, network.try_clone_to_owned()?);
    }
    Ok((command.spawn()?, complaint))
}

/// Waits, with a limit; a hook that is over it is killed.
fn wait(child: &mut Child, limit: Duration) -> io::Result<Option<ExitStatus>> {
    let started = Instant::now();
    let mut pause = Duration::from_micros(200);
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if started.elapsed() > limit {
            child.kill()?;
            child.wait()?;
            return Ok(None);
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(10));
    }
}

fn describe(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit status {code}"),
        (None, signal) => format!("killed by signal {}", signal.unwrap_or_default()),
    }
}

/// `: what it said`, on one line.
fn read_back(complaint: &mut File) -> String {
    let mut bytes = Vec::new();
    let read = complaint
        .seek(SeekFrom::Start(0))
        .and_then(|_| complaint.as_fd().try_clone_to_owned())
        .and_then(|fd| File::from(fd).take(COMPLAINT_BYTES).read_to_end(&mut bytes));
    let text = String::from_utf8_lossy(&bytes);
    let text = text.trim_end_matches('\0').trim();
    match read {
        Ok(_) if !text.is_empty() => format!(": {}", text.replace('\n', "; ")),
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn hook(script: &str, timeout: i64) -> HookPlan {
        let hook = json!({"path": "/bin/sh", "args": ["sh", "-c", script], "env": ["A=b"], "timeout": timeout});
        plan("createRuntime", &serde_json::from_value(hook).unwrap()).unwrap()
    }

    fn run_it(script: &str, timeout: i64) -> Result<(), String> {
        let story = Story {
            version: "1.2.0".to_owned(),
            id: "abc".to_owned(),
            bundle: "/the/bundle".into(),
            annotations: BTreeMap::new(),
        };
        let moment = Moment {
            kind: "createRuntime",
            status: "creating",
            pid: Some(7),
            network: None,
        };
        run(&[hook(script, timeout)], &story, moment).map_err(|failure| failure.message)
    }

    #[test]
    fn a_hook_reads_the_state_and_has_its_own_environment_only() {
        let wanted = r#"{"ociVersion":"1.2.0","id":"abc","status":"creating","pid":7,"bundle":"/the/bundle"}"#;
        let script = format!("[ \"$(cat)\" = '{wanted}' ] && [ \"$A\" = b ] && [ -z \"$HOME\" ]");
        assert_eq!(run_it(&script, 10), Ok(()));
    }

    #[test]
    fn a_hook_that_fails_is_quoted() {
        assert_eq!(
            run_it("echo no such card >&2; exit 3", 10),
            Err("error running createRuntime hook /bin/sh: exit status 3: no such card".to_owned())
        );
        assert_eq!(
            run_it("kill -9 $$", 10),
            Err("error running createRuntime hook /bin/sh: killed by signal 9".to_owned())
        );
        // Whatever it says beyond what is kept does not stop it.
        assert!(run_it("head -c 100000 /dev/zero >&2; exit 1", 10).is_err());
    }

    #[test]
    fn a_hook_that_hangs_is_killed() {
        assert_eq!(
            run_it("exec sleep 1000", 1),
            Err("error running createRuntime hook /bin/sh: it took longer than 1 s".to_owned())
        );
    }

    #[test]
    fn nonsense_is_refused_before_anything_starts() {
        let refusal = |value| {
            plan("poststop", &serde_json::from_value(value).unwrap())
                .unwrap_err()
                .to_string()
        };
        assert!(refusal(json!({"path": "sh"})).contains("not absolute"));
        assert!(refusal(json!({"path": "/sh", "timeout": 0})).contains("timeout"));
        assert!(refusal(json!({"path": "/sh", "env": ["A"]})).contains("NAME=value"));
    }
}
