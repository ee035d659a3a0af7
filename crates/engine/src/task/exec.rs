//! An exec as a request to the runtime: the container's own confinement around another program.
use corten_runtime::process::exec::{DESCRIPTION_BYTES_MAX, ExecRequest};
use oci_spec::runtime::Process;

use crate::{
    container::{
        exec::{ExecOptions, ExecRecord, ExecStartOptions},
        record::Record,
    },
    context::Context,
    error::Result,
    task::{capabilities, security, spec},
};

/// What the exec is from the moment that it is described.
pub fn record(record: &Record, options: &ExecOptions) -> ExecRecord {
    let own = |asked: &str, default: &str| if asked.is_empty() { default } else { asked }.to_owned();
    ExecRecord {
        argv: options.argv.clone(),
        tty: options.tty,
        attach: options.attach,
        user: own(&options.user, &record.config.user),
        privileged: options.privileged,
        detach_keys: options.detach_keys.clone(),
    }
}

/// `links` are variables of linked containers.
pub fn request(
    context: &Context,
    record: &Record,
    links: &[String],
    exec: &ExecRecord,
    options: ExecOptions,
    start: ExecStartOptions,
) -> Result<ExecRequest> {
    let host = &record.host_config;
    let security = security::parse(host.security_opt.as_deref().unwrap_or_default())?;
    // The filter stays the container's own, also of a privileged exec.
    let (profile, own) = spec::confinement(record, &context.config.seccomp)?;
    let filter = context.profiles.filter(&profile, &own)?;
    let granted = if exec.privileged {
        capabilities::resolve(true, &[], &[])?
    } else {
        own
    };
    let mut environment = spec::environment(record, links, exec.tty);
    spec::replace_variables(&mut environment, &options.env);
    let directory = [options.working_dir.as_str(), &record.config.working_dir, "/"];
    let directory = directory.into_iter().find(|directory| !directory.is_empty());
    let rlimits = spec::rlimits(record, &context.config.default_ulimits)?;
    let mut process = Process::default();
    process.set_args(Some(options.argv));
    process.set_env(Some(environment));
    process.set_cwd(directory.unwrap_or("/").into());
    process.set_capabilities(Some(capabilities::specify(&granted)));
    process.set_rlimits((!rlimits.is_empty()).then_some(rlimits));
    let no_new_privileges = security.no_new_privileges;
    process.set_no_new_privileges(Some(no_new_privileges.unwrap_or(context.config.no_new_privileges)));
    process.set_oom_score_adj((host.oom_score_adj != 0).then_some(host.oom_score_adj));
    let size = start.console_size.or(options.console_size).unwrap_or_default();
    Ok(ExecRequest {
        process,
        user: exec.user.clone(),
        additional_groups: host.group_add.clone().unwrap_or_default(),
        filter,
        terminal: exec.tty.then_some(size),
        streams: if start.detach { [false; 3] } else { exec.attach },
        framed: !start.tty,
        description: exec.describe(DESCRIPTION_BYTES_MAX),
    })
}
